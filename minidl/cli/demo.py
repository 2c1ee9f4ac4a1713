"""``minidl demo``: check the gradients and learn to read handwritten digits."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy

import minidl
from minidl import data, engines, layers, metrics, models, optim, testing, training
from minidl.cli.arguments import seed, whole
from minidl.cli.bench import times_of
from minidl.cli.tables import confusion

__all__ = ["add_arguments", "run"]

BATCH = 32


def _perceptron() -> models.Sequential:
    return models.mlp([64, 256, 128, 10], dropout=0.2)


def _convolutions() -> models.Sequential:
    return models.Sequential(
        layers.Conv2d(1, 32, 3, padding=1),
        layers.ReLU(),
        layers.Conv2d(32, 64, 3, padding=1),
        layers.ReLU(),
        layers.MaxPool2d(2),  # (N, 64, 4, 4)
        layers.Flatten(),
        layers.Dropout(0.4),
        layers.Linear(64 * 4 * 4, 10),
    )


MODELS = {"conv": (_convolutions, (1, 8, 8)), "mlp": (_perceptron, (64,))}
"""The function that creates each model, and the shape of its inputs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--epochs", type=whole, default=15)
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument(
        "--model", choices=sorted(MODELS), default="mlp", help="a perceptron or a convolutional network"
    )


def run(args: argparse.Namespace) -> int:
    """Show the whole path: engines, gradients, training, its result, and the time of a step."""
    started = time.perf_counter()
    print("1. Engines on this machine")
    for status in engines.engines().values():
        print(f"   {status}")
    print("\n2. Every gradient, checked against numeric differences")
    _check_gradients()
    print("\n3. Training on 1,797 handwritten digits of 8x8 pixels, a fifth held out")
    make, shape = MODELS[args.model]
    _learn(make, shape, args.epochs, args.seed)
    print(f"\n4. Milliseconds per training step of this model, batch {BATCH}")
    for name, milliseconds in times_of(make, shape, 10, BATCH).items():
        print(f"   {name:8s}{milliseconds:8.4f}")
    print(f"\nDone in {time.perf_counter() - started:.1f} s. Next:")
    print("   read a formula      python -c 'import minidl; help(minidl.ops.softmax)'")
    print("   check your layer    minidl gradcheck path/to/file.py:MyLayer --shape 4,3")
    print("   train on your data  minidl train --data FILE.csv --target COLUMN")
    print("   read more           the README, which links to every part of the code")
    return 0


def _check_gradients() -> None:
    for name, status in engines.engines().items():
        if status.available:
            report = testing.check_catalogue(name, short=True).check()
            print(f"   {name}: {len(report.table)} comparisons, largest relative error {report.max_error:.1e}")


def _learn(make: Callable[[], models.Sequential], shape: tuple[int, ...], epochs: int, seed: int) -> None:
    minidl.seed(seed)
    x, y = data.digits(flat=True)
    x_train, x_test, y_train, y_test = data.train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)
    x_train, y_train = add_shifted(x_train, y_train)
    print(f"   with each training image shifted by a pixel to every side: {len(x_train)} training images")
    x_train, x_test = x_train.reshape(-1, *shape), x_test.reshape(-1, *shape)
    model = make()
    print("   " + str(model.summary(shape)).replace("\n", "\n   "))
    optimizer = minidl.AdamW(model.parameters(), lr=3e-3)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    schedule = training.LearningRateScheduler(optim.CosineAnnealingLR(optimizer, epochs))
    shown = [schedule, _Line(epochs)]
    model.fit(x_train, y_train, BATCH, epochs, verbose=0, callbacks=shown, validation_data=(x_test, y_test))
    prediction = model.predict(x_test).argmax(axis=1)
    print(f"\n   test accuracy on {len(y_test)} digits: {metrics.accuracy(y_test, prediction):.1%}")
    print("   " + confusion(y_test, prediction, "0123456789").replace("\n", "\n   "))


def add_shifted(x: numpy.ndarray, y: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the images together with copies shifted by one pixel left, right, up and down, and the labels.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition" (1998), section III.A,
    enlarge their data in this way.
    """
    framed = numpy.pad(x.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))  # (N, 10, 10)
    views = [framed[:, row : row + 8, column : column + 8] for row, column in ((1, 1), (1, 2), (1, 0), (2, 1), (0, 1))]
    return numpy.concatenate(views).reshape(-1, 64), numpy.tile(y, len(views))


class _Line(training.Callback):
    """The progress line of the demo: updated in place on a terminal, printed now and then to a file."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.live = epochs, sys.stdout.isatty()
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        done = epoch + 1
        if not (self.live or done % 5 == 0 or done == self.epochs):
            return
        left = (time.perf_counter() - self.started) / done * (self.epochs - done)
        bar = ("#" * (20 * done // self.epochs)).ljust(20, ".")
        text = f"   [{bar}] epoch {done}/{self.epochs}  loss {logs['loss']:.4f}  held out {logs['val_accuracy']:.1%}"
        text += f"  {left:.1f} s left"
        print(("\r" if self.live else "") + text, end="" if self.live and done < self.epochs else "\n", flush=True)
