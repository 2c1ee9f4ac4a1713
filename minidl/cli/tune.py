"""``minidl tune``: search the settings of a perceptron on a table, with Optuna, in as many processes as you start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy

import minidl
from minidl import data, models
from minidl.cli.arguments import add_engine, check_place, seed, share, use_chosen_engine, whole
from minidl.cli.train import Problem, add_table_arguments, load_problem, split
from minidl.errors import DataError, MissingDependencyError, ParameterError
from minidl.training import EarlyStopping
from minidl.weights.files import check_writable

__all__ = ["add_arguments", "run", "suggest"]

SPACE = {
    "depth": "1..3",
    "units": "16..256:log",
    "activation": "relu,gelu,tanh",
    "dropout": "0..0.5",
    "lr": "1e-4..1e-1:log",
    "weight_decay": "1e-5..1e-1:log",
    "batch_size": "16,32,64,128",
}
"""What is searched unless the command says otherwise."""
FRACTIONS = ("dropout", "lr", "weight_decay")
DEFAULT = {
    "depth": 1,
    "units": 64,
    "activation": "relu",
    "dropout": 0.0,
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "batch_size": 32,
}
"""What the search is compared with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--data", required=True, help="'digits', 'fashion-mnist', 'mnist', or the path of a CSV file")
    add_table_arguments(parser)
    parser.add_argument(
        "--study", type=Path, required=True, help="the journal file; begun, or gone on with if it exists"
    )
    parser.add_argument("--trials", type=whole, default=100, help="how many the study shall have (default: 100)")
    parser.add_argument("--epochs", type=whole, default=30, help="at most, for each trial (default: 30)")
    parser.add_argument("--best", type=whole, default=5, help="how many models make the ensemble (default: 5)")
    for name, words in SPACE.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=words,
            metavar="SPACE",
            help=f"a range, with :log by its logarithm, or a list (default: {words})",
        )
    parser.add_argument("--test-size", type=share, help="share of the data to hold out (default: 0.2)")
    parser.add_argument("--seed", type=seed, default=0, help="of the split and the weights (default: 0)")
    parser.add_argument("--picture", type=Path, help="draw the importance of the settings here")
    parser.add_argument("--save", type=Path, help="write the weights of the ensemble here, as safetensors")
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Search, then print the best, the importance of the settings, and the scores on data that the search has not seen."""
    from minidl.interop.optuna import open_study, run_trials

    if args.save is not None:
        check_place(args.save)
    if args.picture is not None:
        check_writable(args.picture)
    args.task = args.task or "auto"
    space = {name: _parse(getattr(args, name), f"--{name.replace('_', '-')}") for name in SPACE}
    minidl.seed(args.seed)
    task = _Task.of(load_problem(args), args)
    study = open_study(args.study)
    _check_same(study, args)
    with use_chosen_engine(args):
        own = run_trials(study, lambda trial: _objective(trial, space, task, args), args.trials, args.study)
        complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
        finished = sorted(complete, key=lambda trial: float(trial.value or 0.0))
        if not finished:
            raise DataError(
                f"tune: none of {len(study.trials)} trials was finished; look at the ranges of the settings"
            )
        print(f"{len(study.trials)} trials, {own} of them run here; {_count(study)}")
        print(_table(finished[: args.best], space))
        _show_importance(study, args.picture)
        _compare(finished[: args.best], task, args)
    return 0


# one training ---------------------------------------------------------------------------------------------------------


class _Task(NamedTuple):
    """Standardised data in three parts, and what is predicted."""

    train: tuple[numpy.ndarray, numpy.ndarray]
    valid: tuple[numpy.ndarray, numpy.ndarray]
    test: tuple[numpy.ndarray, numpy.ndarray]
    classes: int | None

    @classmethod
    def of(cls, problem: Problem, args: argparse.Namespace) -> _Task:
        """Split and standardise; what is learned from data is learned from the training part."""
        x, x_test, y, y_test = split(problem, args)
        strata = None if problem.classes is None else y
        x, x_valid, y, y_valid = data.train_test_split(x, y, test_size=0.2, random_state=args.seed, stratify=strata)
        scale = data.Standardizer().fit(x)
        parts = [(x, y), (x_valid, y_valid), (x_test, y_test)]
        if problem.classes is None:
            unit = data.Standardizer().fit(y.reshape(-1, 1))
            parts = [(x, unit.transform(y.reshape(-1, 1))) for x, y in parts]
        train, valid, test = [(scale.transform(x).astype("float32"), y) for x, y in parts]
        return cls(train, valid, test, None if problem.classes is None else len(problem.classes))


def _train(p: dict[str, Any], task: _Task, args: argparse.Namespace, number: int, callbacks: list[Any]) -> Any:
    """Train with these settings; the number of the trial decides the weights, so it gives the same model each time."""
    minidl.seed(args.seed + 1000 * (number + 1))
    x, y = task.train
    model = models.mlp([x.shape[1], *[p["units"]] * p["depth"], task.classes or 1], p["activation"], p["dropout"])
    model.compile(
        lambda parameters: minidl.AdamW(parameters, lr=p["lr"], weight_decay=p["weight_decay"]),
        "sparse_categorical_crossentropy" if task.classes else "mean_squared_error",
    )
    stop = EarlyStopping(patience=args.epochs, restore_best_weights=True)  # never early: pruning does that
    model.fit(x, y, p["batch_size"], args.epochs, verbose=0, validation_data=task.valid, callbacks=[stop, *callbacks])
    return model


def _objective(trial: Any, space: dict[str, Any], task: _Task, args: argparse.Namespace) -> float:
    from minidl.interop.optuna import PruningCallback

    model = _train(suggest(trial, space), task, args, _seed_of(trial), [PruningCallback(trial)])
    return float(model.evaluate(*task.valid, verbose=0))


def _seed_of(trial: Any) -> int:
    """Return the number of a trial, or of the one that it repeats."""
    return int(trial.user_attrs.get("first", trial.number))


# the space ------------------------------------------------------------------------------------------------------------


def _parse(text: str, option: str) -> Any:
    """Return (low, high, log) of a range, a list of choices, or one value."""
    body, colon, kind = text.partition(":")
    low, dots, high = body.partition("..")
    if dots:
        values = [_number(low), _number(high)]
        fine = not any(isinstance(v, str) for v in values) and values[0] < values[1]
        if fine and (not colon or (kind == "log" and values[0] > 0)):
            return (*values, bool(colon))
    elif not colon and all(part.strip() for part in body.split(",")):
        return [_number(part.strip()) for part in body.split(",")]
    raise ParameterError(
        f"{option}: expected a range such as 1e-4..1e-1:log or 1..3, or a list such as 16,32, got {text!r}"
    )


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def suggest(trial: Any, space: dict[str, Any]) -> dict[str, Any]:
    """Let an Optuna trial choose a value of every setting."""
    found: dict[str, Any] = {}
    for name, given in space.items():
        if isinstance(given, list):
            found[name] = given[0] if len(given) == 1 else trial.suggest_categorical(name, given)
        else:
            low, high, log = given
            whole_numbers = isinstance(low, int) and isinstance(high, int)
            draw = trial.suggest_int if whole_numbers and name not in FRACTIONS else trial.suggest_float
            found[name] = draw(name, low, high, log=log)
    return {**found, "activation": str(found["activation"])}


def _check_same(study: Any, args: argparse.Namespace) -> None:
    """Raise if the study was begun with other data, or trainings of another length: its losses cannot be compared."""
    now = {name: str(getattr(args, name)) for name in ("data", "target", "ignore", "epochs", "seed", "test_size")}
    before = study.user_attrs.get("minidl")
    if before is None:
        study.set_user_attr("minidl", now)
    elif before != now:
        changed = ", ".join(f"--{name} was {before.get(name)}" for name in now if before.get(name) != now[name])
        raise ParameterError(
            f"tune: {args.study} was begun with other settings: {changed}; give those, or another --study"
        )


# the report -----------------------------------------------------------------------------------------------------------


def _count(study: Any) -> str:
    names = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed or killed", "RUNNING": "running elsewhere"}
    states = [trial.state.name for trial in study.trials]
    return ", ".join(f"{states.count(state)} {name}" for state, name in names.items() if state in states)


def _table(best: list[Any], space: dict[str, Any]) -> str:
    searched = [name for name in space if name in best[0].params]
    rows = [["trial", "val_loss", *searched]]
    rows += [[str(t.number), f"{t.value:.4f}", *(_shown(t.params[name]) for name in searched)] for t in best]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _show_importance(study: Any, picture: Path | None) -> None:
    """Print how much of the differences between the losses each setting explains, and draw it if asked."""
    import optuna

    if len([t for t in study.trials if t.state.name == "COMPLETE"]) < 4 or len(study.best_params) < 2:
        print("importance: too few trials or settings to tell")
        return
    found = optuna.importance.get_param_importances(study)
    print("importance: " + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))
    if picture is not None:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingDependencyError.needs("--picture", "matplotlib", "plot") from error
        figure = Figure(figsize=(6, 0.4 * len(found) + 1), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(list(found)[::-1], list(found.values())[::-1])
        axes.set_xlabel("share of the variance of the loss that the setting explains")
        figure.savefig(picture)
        print(f"importance drawn to {picture}")


def _compare(best: list[Any], task: _Task, args: argparse.Namespace) -> None:
    """Train the best again, and print their scores on the test data, which took no part, beside the default's."""
    members = [_train({**_fixed(args), **trial.params}, task, args, _seed_of(trial), []) for trial in best]
    ensemble = models.Ensemble(members, "softmax" if task.classes else "linear")
    default = _train(DEFAULT, task, args, -1, [])
    named = {"default": default, "best trial": members[0], f"ensemble of {len(members)}": ensemble}
    score = "accuracy" if task.classes else "R2"
    print(f"{'':14}  test loss  test {score}")
    for name, model in named.items():
        loss, quality = _judge(model.predict(task.test[0]), task, is_probability=model is ensemble)
        print(f"{name:14}  {loss:9.4f}  {quality:{len(score) + 5}.4f}")
    if args.save is not None:
        ensemble.save(args.save)
        print(f"weights of the ensemble written to {args.save}")


def _fixed(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that have one value only, and are therefore not in a trial."""
    space = {name: _parse(getattr(args, name), name) for name in SPACE}
    return {name: given[0] for name, given in space.items() if isinstance(given, list) and len(given) == 1}


def _judge(outputs: numpy.ndarray, task: _Task, is_probability: bool) -> tuple[float, float]:
    """Return the loss, and the accuracy or R2."""
    y = task.test[1]
    if task.classes is None:
        error = (outputs.astype("float64") - y) ** 2
        return float(error.mean()), float(1 - error.sum() / ((y - y.mean()) ** 2).sum())
    p = outputs.astype("float64") if is_probability else minidl.ops.softmax(outputs.astype("float64"))[0]
    chosen = numpy.maximum(p[numpy.arange(len(p)), y], numpy.finfo("float64").tiny)
    return float(-numpy.log(chosen).mean()), float((p.argmax(axis=1) == y).mean())
