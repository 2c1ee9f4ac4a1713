"""Train a language model beside the same one in PyTorch, from the same weights and batches, and compare their losses.

    python benchmarks/follow_torch.py gpt                          # the extra 'peers'; some minutes
    python benchmarks/follow_torch.py lstm --text FILE --steps 1000

Both train on characters, by default of the sonnets that ship with minidl: AdamW, a warm-up and half a cosine, the gradients'
norm clipped, as ``minidl train --text`` does it. Weights are float32. In the first steps the losses differ by rounding alone.
Training magnifies that, so at the end what is compared are the losses of the last steps together, and of the last tenth of the
text, which neither has trained on. Exit status 1 says that they differ by more than ``--tolerance``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn
from torch_gpt2 import TorchGPT2

import minidl as dl
from minidl.models import GPT2, CharRNN
from minidl.text import CharTokenizer, Trainer, Windows, sonnets, split_tokens

BETAS, WEIGHT_DECAY, MAX_NORM = (0.9, 0.99), 0.1, 1.0
SIZES = {"gpt": (64, 12, 1e-3), "lstm": (64, 16, 3e-3)}
"""The tokens of a window, the windows of a batch and the highest rate."""
FIRST = 50
"""The first steps, and the last ones, that the report looks at."""


# the models in PyTorch -----------------------------------------------------------------------------------------------


class TorchCharRNN(nn.Module):
    """An embedding, an LSTM or GRU, and an affine map."""

    def __init__(self, vocabulary: int, embedding_dim: int, hidden_size: int, layers: int, cell: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding_dim)
        self.rnn = getattr(nn, cell.upper())(embedding_dim, hidden_size, layers, batch_first=True)
        self.head = nn.Linear(hidden_size, vocabulary)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return logits, (N, T, V)."""
        return self.head(self.rnn(self.embedding(ids))[0])


def pair(kind: str, vocabulary: int, context: int) -> tuple[Any, nn.Module]:
    """Return minidl's model and PyTorch's, with the same weights."""
    ours: Any
    theirs: nn.Module
    if kind == "gpt":
        ours = GPT2("nano", vocab_size=vocabulary, context=context, dropout=0.0)
        theirs = TorchGPT2(vocabulary, context, layers=4, heads=4, width=128)
    else:
        ours, theirs = CharRNN(vocabulary, 128, 256, cell=kind), TorchCharRNN(vocabulary, 128, 256, 1, kind)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
    return ours, theirs


# training ------------------------------------------------------------------------------------------------------------


class TorchTrainer:
    """The steps of ``minidl.text.Trainer``, in PyTorch."""

    def __init__(self, model: nn.Module, windows: Windows, validation: Windows | None, steps: int, lr: float) -> None:
        self.model, self.windows, self.validation, self.step = model, windows, validation, 0
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=BETAS)
        warmup = max(min(steps // 20, 200), 1)

        def rate(t: int) -> float:
            if t < warmup:
                return (t + 1) / (warmup + 1)
            return 0.1 + 0.9 * (1 + numpy.cos(numpy.pi * (t - warmup) / max(steps - warmup, 1))) / 2

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def loss(self, batch: tuple[numpy.ndarray, numpy.ndarray]) -> torch.Tensor:
        """Return the mean cross-entropy of a batch."""
        x, y = map(torch.tensor, batch)
        return nn.functional.cross_entropy(self.model(x).flatten(0, 1), y.flatten())

    def advance(self) -> float:
        """Take one step and return its loss."""
        value = self.loss(self.windows.batch(self.step))
        self.optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        return value.item()

    def evaluate(self) -> float | None:
        """Return the loss over the beginning of the validation text."""
        if self.validation is None:
            return None
        with torch.no_grad():
            batches = [self.validation[i] for i in range(len(self.validation))]
            total = sum(y.size * self.loss((x, y)).item() for x, y in batches)
        return total / sum(y.size for _, y in batches)


@dataclass
class Followed:
    """What both have found: the loss of each step, and in the end that of the validation text."""

    ours: numpy.ndarray
    theirs: numpy.ndarray
    our_validation: float
    their_validation: float

    @property
    def difference(self) -> numpy.ndarray:
        """Return how much the losses of each step differ."""
        return abs(self.ours - self.theirs)


def follow(kind: str, text: str, steps: int, of: int | None = None, seed: int = 0, verbose: bool = False) -> Followed:
    """Train both, one step each in turn: so many steps of a training that is planned to have ``of`` steps."""
    length, batch_size, lr = SIZES[kind]
    tokenizer = CharTokenizer.train(text)
    training, validation = split_tokens(numpy.array(tokenizer.encode(text)), validation=0.1)
    planned = steps if of is None else of
    dl.seed(seed)
    model, peer = pair(kind, tokenizer.vocab_size, length)
    trainer = Trainer(model, training, validation, length, batch_size, planned, lr, WEIGHT_DECAY, MAX_NORM, seed)
    torch_trainer = TorchTrainer(peer, trainer.windows, trainer.validation, planned, lr)
    losses = []
    for step in range(steps):
        losses.append((trainer.advance(), torch_trainer.advance()))
        if verbose and (step + 1) % 100 == 0:
            ours, theirs = numpy.mean(losses[-100:], axis=0)
            print(f"step {step + 1:5}: loss {ours:.4f} minidl, {theirs:.4f} PyTorch (mean of 100 steps)", flush=True)
    ours, theirs = numpy.array(losses).T
    found = [each.evaluate() for each in (trainer, torch_trainer)]
    return Followed(ours, theirs, *(numpy.nan if value is None else value for value in found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=SIZES)
    parser.add_argument("--text", type=Path, metavar="FILE", help="a text to train on; by default the sonnets")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=0.02, help="of the losses at the end, in nats")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    dl.set_num_threads(args.threads)
    text = sonnets() if args.text is None else args.text.read_text(encoding="utf-8")
    found = follow(args.kind, text, args.steps, seed=args.seed, verbose=True)
    first, last = found.difference[:FIRST], slice(-FIRST, None)
    print(f"first {len(first)} steps: the losses differ by at most {first.max():.1e}")
    apart = [abs(found.ours[last].mean() - found.theirs[last].mean())]
    print(f"last {FIRST} steps: mean loss {found.ours[last].mean():.4f} and {found.theirs[last].mean():.4f}, "
          f"{apart[0]:.4f} apart; single steps at most {found.difference[last].max():.4f}")  # fmt: skip
    if numpy.isfinite(found.our_validation):
        apart.append(abs(found.our_validation - found.their_validation))
        print(f"validation: loss {found.our_validation:.4f} and {found.their_validation:.4f}, {apart[1]:.4f} apart")
    return int(max(apart) > args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
