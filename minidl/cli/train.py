"""``minidl train``: train a perceptron on the digits, on Fashion-MNIST or MNIST, or on a CSV file of your own; or a language model on text."""

from __future__ import annotations

import argparse
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy

import minidl
from minidl import data, metrics, models, optim, weights
from minidl.cli import train_text
from minidl.cli.arguments import add_engine, check_place, seed, share, sizes, use_chosen_engine, whole
from minidl.cli.tables import confusion
from minidl.errors import DataError, MinidlError, ParameterError
from minidl.training import DataParallel
from minidl.training.parallel import guarded

__all__ = ["Problem", "add_arguments", "add_table_arguments", "fold_scales", "load_problem", "run", "split"]

TARGET_TYPES = {"auto": "auto", "classification": "class", "regression": "number"}
FEW = 20
"""Integer targets are classes if there are at most this many, with ten examples of each on average."""


DEFAULTS = {
    "layers": "64,32",
    "activation": "relu",
    "dropout": 0.0,
    "task": "auto",
    "epochs": 50,
    "batch_size": 32,
    "optimizer": "adam",
    "seed": 0,
}
"""What holds for tables and images where nothing else is given; text has other defaults."""


class Problem(NamedTuple):
    """Examples and targets, and what they are called."""

    x: numpy.ndarray
    y: numpy.ndarray
    features: list[str]
    target: str
    classes: list[str] | None  # None for a regression
    held_out: int | None = None  # number of published test examples, at the end; None to draw a share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", help="'digits', 'fashion-mnist', 'mnist', or the path of a CSV file")
    source.add_argument("--text", type=Path, metavar="FILE", help="a text file, plain or compressed")
    add_table_arguments(parser)
    parser.add_argument(
        "--layers", help="units of the hidden layers (default: 64,32; '' for none); for text, the number of layers"
    )
    parser.add_argument("--activation", help="(default: relu)")
    parser.add_argument("--dropout", type=float, help="(default: 0)")
    parser.add_argument("--epochs", type=whole, help="(default: 50)")
    parser.add_argument("--batch-size", type=whole, help="(default: 32; for text 12)")
    parser.add_argument("--optimizer", help="(default: adam)")
    parser.add_argument("--lr", type=float, help="learning rate (default: the optimizer's own)")
    parser.add_argument(
        "--test-size", type=share, help="share of the data to hold out (default: 0.2, or the published test images)"
    )
    parser.add_argument("--seed", type=seed, help="(default: 0)")
    add_engine(parser)
    parser.add_argument("--save", type=Path, help="write the weights here, as safetensors")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="write checkpoints here, from which --resume goes on"
    )
    parser.add_argument(
        "--parallel",
        action="store_true",
        default=None,
        help="train in all processes of `mpiexec -n 4 minidl train ... --parallel`, each with its rows of every batch",
    )
    parser.add_argument(
        "--sharded",
        action="store_true",
        default=None,
        help="with --parallel: each process keeps a slice of the optimizer's state",
    )
    train_text.add_arguments(parser)


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a table is read, and what to predict."""
    parser.add_argument("--target", help="the column to predict, by name (default: the last)")
    parser.add_argument("--ignore", action="append", default=[], metavar="COLUMN", help="a column to leave out")
    parser.add_argument(
        "--missing", choices=("error", "drop", "fill"), default="error", help="what to do about missing values"
    )
    parser.add_argument("--delimiter", default=",", help="separator of the values (default: a comma)")
    parser.add_argument("--decimal", default=".", help="sign before the fraction (default: a point)")
    parser.add_argument("--thousands", help="sign between groups of three digits (default: none)")
    parser.add_argument("--encoding", default="utf-8-sig", help="encoding of the file (default: UTF-8)")
    parser.add_argument(
        "--missing-value",
        action="append",
        metavar="TEXT",
        help="a text that means missing; if given, nothing else does",
    )
    parser.add_argument("--task", choices=tuple(TARGET_TYPES), help="(default: auto)")


def run(args: argparse.Namespace) -> int:
    """Train, report on the held-out data, and save; with ``--parallel`` in several processes, of which the first reports."""
    if args.text is not None:
        return train_text.run(args)
    if args.sharded and not args.parallel:
        raise ParameterError("--sharded goes with --parallel")
    if not args.parallel:
        return _run(args, None)
    parallel = DataParallel(sharded=bool(args.sharded), threads=args.threads or 1)
    if parallel.is_root:
        if parallel.size == 1:
            print("one process only; start several with: mpiexec -n 4 minidl train ... --parallel", file=sys.stderr)
        with guarded(parallel):
            return _run(args, parallel)
    try:
        with redirect_stdout(io.StringIO()), guarded(parallel):
            return _run(args, parallel)
    except (MinidlError, OSError):  # which the first process had too, and tells
        return 2


def _run(args: argparse.Namespace, parallel: DataParallel | None) -> int:
    if wrong := train_text.given(args, [name for name in train_text.OWN if name not in ("every", "resume")]):
        raise ParameterError(f"{', '.join(wrong)} goes with --text, not with --data")
    for name, value in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.save is not None:
        check_place(args.save)
    minidl.seed(args.seed)
    problem = load_problem(args)
    print(_describe(problem))
    hidden = sizes(args.layers, "--layers")
    kind, settings = optim.get(args.optimizer)
    if args.lr is not None:
        settings["lr"] = args.lr
    with use_chosen_engine(args):
        x_train, x_test, y_train, y_test = split(problem, args)
        outputs = 1 if problem.classes is None else len(problem.classes)
        plan = [problem.x.shape[1], *hidden, outputs]
        # In their own units, numbers that float32 cannot tell apart need a model in float64.
        wide = "float64" in (problem.x.dtype, problem.y.dtype)
        model = models.mlp(plan, args.activation, args.dropout, dtype="float64" if wide else "float32")
        print(model.summary())
        given = data.Standardizer().fit(x_train)
        wanted = data.Standardizer().fit(y_train.reshape(-1, 1)) if problem.classes is None else None
        model.compile(
            lambda parameters: kind(parameters, **settings),
            "mean_squared_error" if wanted else "sparse_categorical_crossentropy",
            [] if wanted else ["accuracy"],
        )
        folder = args.checkpoint or args.resume
        try:
            model.fit(
                given.transform(x_train),
                wanted.transform(y_train.reshape(-1, 1)) if wanted else y_train,
                args.batch_size,
                args.epochs,
                verbose=1 if sys.stderr.isatty() else 2,
                checkpoint=folder,
                every=args.every,
                resume=args.resume,
                parallel=parallel,
            )
        except KeyboardInterrupt:
            if folder is None:
                raise
            print(f"stopped; {folder} holds a checkpoint. Go on with the same command and --resume {folder}")
            return 130
        fold_scales(model, given, wanted)
        print(_judge(problem, y_test, model.predict(x_test)))
        if args.save is not None and (parallel is None or parallel.is_root):
            _save(model, problem, args.save)
            print(f"weights written to {args.save}; the model takes the features in their own units:")
            dtype = ", dtype='float64'" if wide else ""
            print(f"  model = minidl.models.mlp({plan}, {args.activation!r}, {args.dropout}{dtype})")
            print(f"  model.load({str(args.save)!r}); model.predict(X)")
    return 0


def load_problem(args: argparse.Namespace) -> Problem:
    """Return the problem that ``--data`` names."""
    if args.data == "digits":
        return _digits()
    if args.data in ("fashion-mnist", "mnist"):
        return _images(data.mnist() if args.data == "mnist" else data.fashion_mnist())
    return _table(args)


def _digits() -> Problem:
    x, y = data.digits(flat=True)
    names = [f"pixel {row},{column}" for row in range(8) for column in range(8)]
    return Problem(x, y, names, "digit", list("0123456789"))


def _images(published: data.ImageData) -> Problem:
    x = numpy.concatenate([published.train_images, published.test_images])  # (N, C, H, W)
    y = numpy.concatenate([published.train_labels, published.test_labels])
    names = ["pixel " + ",".join(map(str, place)) for place in numpy.ndindex(*x.shape[1:])]
    return Problem(x.reshape(len(x), -1), y, names, "class", list(published.classes), len(published.test_images))


def split(problem: Problem, args: argparse.Namespace) -> list[Any]:
    """Return x and y for training and for testing: the published parts, unless a share was given."""
    if problem.held_out is not None and args.test_size is None:
        return data.train_test_split(problem.x, problem.y, test_size=problem.held_out, shuffle=False)
    return data.train_test_split(
        problem.x,
        problem.y,
        test_size=0.2 if args.test_size is None else args.test_size,
        random_state=args.seed,
        stratify=None if problem.classes is None else problem.y,
    )


def _table(args: argparse.Namespace) -> Problem:
    table = data.read_csv(
        args.data,
        target=-1 if args.target is None else args.target,
        target_type=TARGET_TYPES[args.task],
        delimiter=args.delimiter,
        missing=args.missing,
        ignore=args.ignore,
        decimal=args.decimal,
        thousands=args.thousands,
        encoding=args.encoding,
        missing_values=args.missing_value,
    )
    print(table.report)
    y, classes = numpy.asarray(table.y), None if table.classes is None else list(table.classes)
    if classes is None and args.task == "auto":
        values, indices = numpy.unique(y, return_inverse=True)
        if (values == numpy.round(values)).all() and len(values) <= max(2, min(FEW, len(y) // 10)):
            y, classes = indices.astype(numpy.int64), [f"{value:.15g}" for value in values]
    if classes is not None and len(classes) < 2:
        raise DataError(f"{args.data}: the target {table.target_name!r} has only one value, {classes[0]!r}")
    return Problem(table.X, y, list(table.feature_names), str(table.target_name), classes)


def _describe(problem: Problem) -> str:
    kind = "a number"
    if problem.classes is not None:
        shown = ", ".join(problem.classes[:12]) + (", ..." if len(problem.classes) > 12 else "")
        kind = f"one of {len(problem.classes)} classes: {shown}"
    return f"{len(problem.x)} examples of {problem.x.shape[1]} features; target: {problem.target!r}, {kind}"


def fold_scales(model: Any, given: data.Standardizer, wanted: data.Standardizer | None) -> None:
    """Fold the standardisation into a perceptron, so that it takes and returns data in their own units.

    With standardised input (x - m) / s the first layer computes W ((x - m) / s) + b = (W / s) x + (b - (W / s) m). With
    standardised output the last layer is multiplied by the scale and shifted by the mean. All in float64, rounded once.
    """
    first, last = model[0], model[-1]
    weight, bias = (weights.to_host(p.value).astype("float64") for p in (first.weight, first.bias))
    weight = weight / given.scale  # (out, in) / (in,)
    _assign(first, weight, bias - weight @ given.mean)
    if wanted is not None:
        weight, bias = (weights.to_host(p.value).astype("float64") for p in (last.weight, last.bias))
        _assign(last, (weight.T * wanted.scale).T, bias * wanted.scale + wanted.mean)  # (out, in) times (out,)


def _assign(layer: Any, weight: numpy.ndarray, bias: numpy.ndarray) -> None:
    layer.load_state_dict({"weight": weight, "bias": bias})


def _judge(problem: Problem, y: numpy.ndarray, output: numpy.ndarray) -> str:
    """Describe the quality of the predictions on the held-out data."""
    if problem.classes is None:
        prediction = output[:, 0]
        error = metrics.mean_absolute_error(y, prediction)
        return f"test mean absolute error {error:.6g}, R2 {metrics.r2_score(y, prediction):.4f} on {len(y)} held-out examples"
    prediction = output.argmax(axis=1)
    text = f"test accuracy {metrics.accuracy(y, prediction):.4f} on {len(y)} held-out examples"
    few = len(problem.classes) <= 12 and max(map(len, problem.classes)) <= 12
    return f"{text}\n{confusion(y, prediction, problem.classes)}" if few else text


def _save(model: Any, problem: Problem, path: Path) -> None:
    """Write the weights, with the features, the target and the classes as metadata of the file."""
    activation = getattr(model[1], "op", None) if len(model) > 1 else None
    about = {
        "features": problem.features,
        "target": problem.target,
        "classes": problem.classes,
        "activation": activation,
    }
    weights.save_file(model.state_dict(), path, {name: json.dumps(value) for name, value in about.items()})
