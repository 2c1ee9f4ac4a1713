"""The command line: ``minidl info | demo | train | gradcheck | bench``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy

import minidl
from minidl import data, engines, layers, metrics, models, testing, training
from minidl.errors import DataError, MinidlError, ParameterError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 if a gradient is wrong, or 2 if the command could not be carried out."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except BrokenPipeError:  # whoever read our output has seen enough, as `minidl info | head` has
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - or the interpreter complains when it flushes
        return 0
    except (MinidlError, OSError) as error:
        print(f"minidl: {error}", file=sys.stderr)
        return 1 if isinstance(error, minidl.GradcheckError) else 2
    except KeyboardInterrupt:
        print("minidl: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="minidl", description="A deep-learning engine from scratch.")
    parser.add_argument("--version", action="version", version=f"minidl {minidl.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    info = commands.add_parser("info", help="what is installed here, and which engines can be used")
    info.set_defaults(run=_info)

    demo = commands.add_parser("demo", help="check the gradients and learn to read handwritten digits")
    demo.add_argument("--epochs", type=int, default=40)
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run=_demo)

    train = commands.add_parser("train", help="train a perceptron on the digits or on a CSV file of your own")
    train.add_argument("--data", required=True, help="'digits', or the path of a CSV file")
    train.add_argument("--target", help="the column to predict (the last one unless given)")
    train.add_argument("--task", choices=("auto", "classification", "regression"), default="auto")
    train.add_argument("--layers", default="64,32", help="units of the hidden layers, such as 64,32")
    train.add_argument("--activation", default="relu")
    train.add_argument("--dropout", type=float, default=0.0)
    train.add_argument("--epochs", type=int, default=50)
    train.add_argument("--batch-size", type=int, default=32)
    train.add_argument("--optimizer", default="adam")
    train.add_argument("--lr", type=float, help="learning rate (the optimizer's default unless given)")
    train.add_argument("--test-size", type=float, default=0.2, help="share of the data held out")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--engine", help="numpy, native or cupy")
    train.add_argument("--save", type=Path, help="write the weights here, as safetensors")
    train.set_defaults(run=_train)

    check = commands.add_parser("gradcheck", help="check the gradients of the ops, or of a layer of your own")
    check.add_argument("what", nargs="*", help="ops by name (all unless given), or path/to/file.py:MyLayer")
    check.add_argument("--engine", help="numpy, native or cupy (the current one unless given)")
    check.add_argument("--shape", help="shape of the input for a layer of your own, such as 4,3")
    check.add_argument("--short", action="store_true", help="one small case of each op")
    check.add_argument("--all", action="store_true", help="show every comparison, not only each op's worst")
    check.set_defaults(run=_gradcheck)

    bench = commands.add_parser("bench", help="time a training step on each engine")
    bench.add_argument("--batch-size", type=int, default=128)
    bench.set_defaults(run=_bench)
    return parser


# info -----------------------------------------------------------------------------------------------------------------


def _info(args: argparse.Namespace) -> int:
    print(
        f"minidl {minidl.__version__}, Python {platform.python_version()}, NumPy {numpy.__version__}, {platform.platform()}"
    )
    print(f"current engine: {engines.current().name}")
    for status in engines.engines().values():
        print(f"  {status}")
    print("extras:")
    for package, extra, use in (
        ("safetensors", "weights", "saving and loading weights"),
        ("matplotlib", "plot", "pictures"),
        ("cupy", "cuda13", "NVIDIA GPUs"),
        ("hypothesis", "test", "the tests"),
        ("torch", "peers", "comparisons"),
    ):
        found = importlib.util.find_spec(package) is not None
        print(f"  {package}: {'installed' if found else f'not installed (extra {extra!r}, for {use})'}")
    return 0


# demo -----------------------------------------------------------------------------------------------------------------


def _demo(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    print("1. Engines: who can compute here")
    for status in engines.engines().values():
        print(f"   {status}")

    print("\n2. Every gradient, checked against differences of the function itself")
    for name, status in engines.engines().items():
        if status.available:
            report = testing.check_catalogue(name, short=True)
            report.check()
            print(f"   {name}: {len(report.table)} comparisons, largest relative error {report.max_error:.1e}")

    print("\n3. Learning to read: 1,797 handwritten digits of 8x8 pixels, a fifth held out")
    minidl.seed(args.seed)
    x, y = data.digits(flat=True)
    x_train, x_test, y_train, y_test = data.train_test_split(x, y, test_size=0.2, random_state=args.seed, stratify=y)
    model = models.mlp([64, 128, 64, 10], dropout=0.2)
    print("   " + str(model.summary()).replace("\n", "\n   "))
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        x_train,
        y_train,
        epochs=args.epochs,
        verbose=0,
        callbacks=[_Line(args.epochs)],
        validation_data=(x_test, y_test),
    )
    prediction = model.predict(x_test).argmax(axis=1)
    accuracy = metrics.accuracy(y_test, prediction)
    print(f"\n   accuracy on {len(y_test)} digits never seen: {accuracy:.1%}")
    print("   " + _confusion(y_test, prediction).replace("\n", "\n   "))

    print("\n4. Milliseconds per training step of this model, batch 32")
    for name, milliseconds in _step_times([64, 128, 64, 10], 32).items():
        print(f"   {name:8s}{milliseconds:8.4f}")
    print(f"\nDone in {time.perf_counter() - started:.1f} s. Next:")
    print("   read a formula      python -c 'import minidl; help(minidl.ops.softmax)'")
    print("   check your layer    minidl gradcheck path/to/file.py:MyLayer --shape 4,3")
    print("   train on your data  minidl train --data FILE.csv --target COLUMN")
    return 0


class _Line(training.Callback):
    """The demo's own progress line: it moves on a terminal, and says where it is now and then in a file."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.live = epochs, sys.stdout.isatty()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        done = epoch + 1
        if not (self.live or done % 10 == 0 or done == self.epochs):
            return
        bar = ("#" * (20 * done // self.epochs)).ljust(20, ".")
        text = f"   [{bar}] epoch {done}/{self.epochs}  loss {logs['loss']:.4f}  held out {logs['val_accuracy']:.1%}"
        print(("\r" if self.live else "") + text, end="" if self.live and done < self.epochs else "\n", flush=True)


def _confusion(target: numpy.ndarray, prediction: numpy.ndarray) -> str:
    """Return the confusion matrix as text: rows are the truth, columns what was read."""
    matrix = metrics.confusion_matrix(target, prediction)
    lines = ["truth \\ read " + "".join(f"{k:4d}" for k in range(len(matrix)))]
    for k, row in enumerate(matrix):
        lines.append(f"{k:12d} " + "".join(f"{count:4d}" if count else "   ." for count in row))
    return "\n".join(lines)


# train ----------------------------------------------------------------------------------------------------------------


def _train(args: argparse.Namespace) -> int:
    minidl.seed(args.seed)
    engine = engines.get(args.engine) if args.engine else engines.current()
    with engines.use(engine):
        x, y, classes = _load(args)
        parts = data.train_test_split(
            x, y, test_size=args.test_size, random_state=args.seed, stratify=None if classes is None else y
        )
        x_train, x_test, y_train, y_test = parts
        standardizer = data.Standardizer().fit(x_train)
        x_train, x_test = standardizer.transform(x_train), standardizer.transform(x_test)
        if classes is None:  # targets of any size are learnt at unit size, and reported in their own
            scale = data.Standardizer().fit(y_train.reshape(-1, 1))
            y_train_scaled = scale.transform(y_train.reshape(-1, 1))
        sizes = [x.shape[1], *_hidden(args.layers), 1 if classes is None else len(classes)]
        model = models.mlp(sizes, args.activation, args.dropout)
        print(model.summary())
        loss = "mean_squared_error" if classes is None else "sparse_categorical_crossentropy"
        model.compile(args.optimizer, loss, [] if classes is None else ["accuracy"])
        callbacks = [] if args.lr is None else [training.LearningRateScheduler(lambda epoch, rate: args.lr)]
        model.fit(
            x_train,
            y_train if classes is not None else y_train_scaled,
            epochs=args.epochs,
            batch_size=args.batch_size,
            callbacks=callbacks,
            verbose=1 if sys.stderr.isatty() else 2,
        )
        if classes is None:
            prediction = scale.inverse_transform(model.predict(x_test))[:, 0]
            print(f"held out: mean absolute error {metrics.mean_absolute_error(y_test, prediction):.6g}, "
                  f"R2 {metrics.r2_score(y_test, prediction):.4f}")  # fmt: skip
        else:
            prediction = model.predict(x_test).argmax(axis=1)
            print(f"held out: accuracy {metrics.accuracy(y_test, prediction):.4f} on {len(y_test)} examples")
        if args.save:
            model.save(args.save)
            print(f"weights written to {args.save}")
    return 0


def _hidden(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ParameterError(f"--layers: expected numbers of units such as 64,32, got {text!r}") from error
    if any(size < 1 for size in sizes):
        raise ParameterError(f"--layers: numbers of units must be positive, got {text!r}")
    return sizes


def _load(args: argparse.Namespace) -> tuple[numpy.ndarray, numpy.ndarray, list[Any] | None]:
    """Return examples, targets, and the classes (None for a regression)."""
    if args.data == "digits":
        x, y = data.digits(flat=True)
        return x, y, list(range(10))
    table = data.read_csv(args.data, target=args.target if args.target is not None else -1)
    if table.y is None:
        raise DataError(f"{args.data}: there is no column to predict; name one with --target")
    if table.classes is not None and args.task != "regression":
        return table.X, table.y, list(table.classes)
    if table.classes is not None:
        raise DataError(f"{args.data}: the target holds words, so it cannot be a regression")
    y = numpy.asarray(table.y)
    values, indices = numpy.unique(y, return_inverse=True)
    whole = bool((values == numpy.round(values)).all())
    few = whole and len(values) <= max(2, min(20, len(y) // 10))
    if args.task == "classification" or (args.task == "auto" and few):
        return table.X, indices.astype(numpy.int64), values.tolist()
    return table.X, y, None


# gradcheck ------------------------------------------------------------------------------------------------------------


def _gradcheck(args: argparse.Namespace) -> int:
    own = [what for what in args.what if ".py" in what]
    ops = [what for what in args.what if ".py" not in what]
    engine = engines.get(args.engine) if args.engine else engines.current()
    fine = True
    with engines.use(engine):
        for what in own:
            shape = tuple(int(part) for part in args.shape.split(",")) if args.shape else None
            report = testing.check_object(what, shape)
            print(report)
            fine = fine and report.ok
        if ops or not own:
            report = testing.check_catalogue(engine, ops or None, short=args.short)
            print(report if args.all else report.worst())
            print(f"{len(report.table)} comparisons on the {engine.name} engine")
            fine = fine and report.ok
    return 0 if fine else 1


# bench ----------------------------------------------------------------------------------------------------------------


def _bench(args: argparse.Namespace) -> int:
    print("milliseconds per training step (forward, loss, backward, Adam), best of many, engines taking turns")
    for sizes in ([2, 16, 16, 1], [64, 128, 64, 10], [784, 512, 256, 10]):
        times = _step_times(sizes, args.batch_size)
        row = "  ".join(f"{name} {milliseconds:.4f}" for name, milliseconds in times.items())
        print(f"{'-'.join(map(str, sizes)):16s} batch {args.batch_size}: {row}")
    print("beside PyTorch and JAX: python benchmarks/board.py --against torch,jax, in the source repository")
    return 0


def _step_times(sizes: list[int], batch_size: int) -> dict[str, float]:
    """Return the best time of a training step for each engine that can be used here."""
    steps = {name: _step(sizes, batch_size, name) for name, status in engines.engines().items() if status.available}
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(9):
        for name, step in steps.items():
            with engines.use(name) as engine:
                count, start = 0, time.perf_counter()
                while time.perf_counter() - start < 0.02:
                    step()
                    count += 1
                engine.synchronize()
                best[name] = min(best[name], (time.perf_counter() - start) / count * 1e3)
    return best


def _step(sizes: list[int], batch_size: int, name: str) -> Callable[[], None]:
    random = numpy.random.default_rng(0)
    with engines.use(name) as engine:
        model = models.mlp(sizes)
        loss, optimizer = layers.CrossEntropyLoss(), minidl.Adam(model.parameters())
        x = engine.asarray(random.normal(size=(batch_size, sizes[0])).astype("float32"))
        y = engine.asarray(random.integers(0, sizes[-1], batch_size))

    def step() -> None:
        loss.forward(model.forward(x), y)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    sys.exit(main())
