"""Train the same network by minidl's estimator and by scikit-learn's MLPClassifier: seconds and accuracy, side by side.

    python benchmarks/sklearn_mlp.py                     # digits, and 100,000 rows of 50 features; the extra 'sklearn'
    OMP_NUM_THREADS=1 python benchmarks/sklearn_mlp.py digits --rounds 9

Both get the same arrays in float32, in which MLPClassifier computes too, and have one hidden layer of 100 ReLUs, Adam with the
same settings, the same size of batch and number of epochs, no weight decay and no early stopping. They take turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy
from board import processor
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import minidl as dl
from minidl.interop.sklearn import NeuralClassifier


def digits() -> tuple[Any, Any]:
    """Return the 1,797 digits of 8x8 pixels that come with scikit-learn."""
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def rows() -> tuple[Any, Any]:
    """Return generated rows of 50 features, in 10 classes: 100,000 are left when a fifth is held out."""
    return make_classification(125_000, 50, n_informative=20, n_classes=10, class_sep=2.0, random_state=0)


TASKS: dict[str, tuple[Callable[[], tuple[Any, Any]], int, int]] = {
    "digits": (digits, 200, 120),
    "rows": (rows, 200, 4),
}
"""What returns the data, the size of a batch, and the number of epochs."""


def contenders(batch_size: int, epochs: int) -> dict[str, Any]:
    """Return the estimators, not trained."""
    by_minidl = NeuralClassifier((100,), optimizer=dl.Adam, batch_size=batch_size, epochs=epochs, random_state=0)
    by_sklearn = MLPClassifier(
        (100,), alpha=0.0, batch_size=batch_size, max_iter=epochs, n_iter_no_change=epochs, tol=0.0, random_state=0
    )
    return {"minidl": by_minidl, "MLPClassifier": by_sklearn}


def measure(name: str, rounds: int) -> None:
    """Print times of fit and of predict, and the mean accuracy on a fifth that was held out; each round has its own seed."""
    make, batch_size, epochs = TASKS[name]
    X, y = make()
    X, X_test, y, y_test = train_test_split(X.astype(numpy.float32), y, test_size=0.2, random_state=0, stratify=y)
    print(f"\n{name}: {len(X)} rows of {X.shape[1]}, batches of {batch_size}, {epochs} epochs")
    models = contenders(batch_size, epochs)
    fit: dict[str, list[float]] = {label: [] for label in models}
    predict: dict[str, list[float]] = {label: [] for label in models}
    right: dict[str, list[float]] = {label: [] for label in models}
    for seed in range(rounds):
        for label, model in models.items():
            model.set_params(random_state=seed)
            start = time.perf_counter()
            model.fit(X, y)
            between = time.perf_counter()
            found = model.predict(X_test)
            predict[label].append(time.perf_counter() - between)
            fit[label].append(between - start)
            right[label].append(float((found == y_test).mean()))
    for label in models:
        print(
            f"  {label:14} fit {min(fit[label]):7.3f} s best, {statistics.median(fit[label]):7.3f} s median; "
            f"predict {min(predict[label]) * 1e3:7.2f} ms; accuracy {statistics.mean(right[label]):.4f}"
        )
    ratios = [theirs / ours for ours, theirs in zip(fit["minidl"], fit["MLPClassifier"], strict=True)]
    print(f"  fit is {statistics.median(ratios):.1f} times as fast as MLPClassifier's")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{processor()}, {dl.get_num_threads()} threads, engine {dl.engines.current().name}")
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in options.tasks:
        measure(name, options.rounds)


if __name__ == "__main__":
    main()
