"""Metrics that take one batch at a time, as in ``fit`` and ``evaluate``: the base class, and the metrics that are means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from minidl.errors import ParameterError, ShapeError
from minidl.metrics.classification import hits, top_k_hits
from minidl.metrics.inputs import binary_targets, numbers_pair, on_host, scores
from minidl.ops._scalars import check_constructor

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "FunctionMetric",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "TopKAccuracy",
]


class Metric:
    """Base: a number over all examples since ``reset``, not a mean of the batches' numbers.

    Arrays come in the order of a loss, prediction first; they may be on a GPU.

    Parameters
    ----------
    name : str, optional
        The name in a history; the class's own by default.

    Attributes
    ----------
    larger_is_better : bool
        The direction for early stopping.
    """

    default_name = "metric"
    larger_is_better = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the numbers, switches and names that minidl's own constructors are given."""
        super().__init_subclass__(**options)
        check_constructor(cls)

    def __init__(self, name: str | None = None) -> None:
        self.name = name or self.default_name
        self.reset()

    def reset(self) -> None:
        """Forget all examples."""
        raise NotImplementedError(f"{type(self).__name__} defines no reset")

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def result(self) -> float:
        """Return the metric; nan before the first example."""
        raise NotImplementedError(f"{type(self).__name__} defines no result")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class Mean(Metric):
    """The mean of a number for each example or each element."""

    def reset(self) -> None:
        """Forget all examples."""
        self.total, self.count = 0.0, 0

    def values(self, prediction: Any, target: Any) -> numpy.ndarray:
        """Return the numbers."""
        raise NotImplementedError

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch."""
        found = self.values(prediction, target)
        self.total += float(found.sum(dtype=numpy.float64))
        self.count += found.size

    def result(self) -> float:
        """Return the mean; nan before the first example."""
        return self.total / self.count if self.count else math.nan


class Accuracy(Mean):
    """The share of examples predicted right; ``minidl.metrics.accuracy`` describes how predictions are read.

    Parameters
    ----------
    threshold : float, default 0.5
        A single score above it means class 1. Use 0.5 for probabilities, 0 for logits.
    name : str, optional

    Examples
    --------
    >>> metric = Accuracy()
    >>> metric.update(numpy.array([[0.2, 0.8], [0.9, 0.1]]), numpy.array([1, 1]))
    >>> metric.update(numpy.array([[0.3, 0.7]]), numpy.array([1]))
    >>> metric.result()
    0.6666666666666666
    """

    default_name = "accuracy"

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        self.threshold = threshold
        super().__init__(name)

    def values(self, prediction: Any, target: Any) -> numpy.ndarray:
        """Return whether each example is right."""
        return hits(target, prediction, self.threshold)


class BinaryAccuracy(Accuracy):
    """The share of elements on the right side of the threshold: each output is a separate yes or no."""

    default_name = "binary_accuracy"

    def values(self, prediction: Any, target: Any) -> numpy.ndarray:
        """Return whether each element is right."""
        given = scores(prediction, "binary_accuracy")
        return binary_targets(target, given.shape, "binary_accuracy") == (given > self.threshold)


class TopKAccuracy(Mean):
    """The share of examples whose class is among the k largest scores; see ``minidl.metrics.top_k_accuracy``."""

    default_name = "top_k_accuracy"

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        if isinstance(k, bool) or not isinstance(k, (int, numpy.integer)) or k < 1:
            raise ParameterError(f"TopKAccuracy: k must be a positive integer, got {k!r}")
        self.k = int(k)
        super().__init__(name)

    def values(self, prediction: Any, target: Any) -> numpy.ndarray:
        """Return whether each example counts."""
        return top_k_hits(target, prediction, self.k)


class MeanAbsoluteError(Mean):
    """The mean absolute difference between prediction and target."""

    default_name = "mean_absolute_error"
    larger_is_better = False

    def values(self, prediction: Any, target: Any) -> numpy.ndarray:
        """Return each element's absolute difference."""
        true, pred = numbers_pair(target, prediction, self.name)
        return abs(true - pred)


class MeanSquaredError(Mean):
    """The mean squared difference between prediction and target."""

    default_name = "mean_squared_error"
    larger_is_better = False

    def values(self, prediction: Any, target: Any) -> numpy.ndarray:
        """Return each element's squared difference."""
        true, pred = numbers_pair(target, prediction, self.name)
        return (true - pred) ** 2


class RootMeanSquaredError(Metric):
    """The root of the mean squared difference over all examples; see ``minidl.metrics.root_mean_squared_error``."""

    default_name = "root_mean_squared_error"
    larger_is_better = False

    def reset(self) -> None:
        """Forget all examples."""
        self.totals, self.count = numpy.zeros(0), 0

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch."""
        true, pred = numbers_pair(target, prediction, self.name)
        totals = ((true - pred) ** 2).sum(axis=0)  # (outputs,)
        if self.count and totals.shape != self.totals.shape:
            raise ShapeError(f"{self.name}: the batches have {self.totals.size} and {totals.size} outputs")
        self.totals = self.totals + totals if self.count else totals
        self.count += len(true)

    def result(self) -> float:
        """Return the mean of the outputs' roots; nan before the first example."""
        return float(numpy.sqrt(self.totals / self.count).mean()) if self.count else math.nan


class FunctionMetric(Metric):
    """Any function of ``(y_true, y_pred)``, over all examples as if they were one batch.

    A function that returns an array with a number for each example is a mean over them. One that returns a single number may
    be anything, so all examples are kept until ``reset``, and the function is called with all of them. If examples differ in
    shape from batch to batch, it is called for those of each shape, and the results are averaged, weighted by their sizes.

    Parameters
    ----------
    function : callable
        Takes ``(y_true, y_pred)`` and returns a number, or an array with one or more numbers for each example.
    name : str, optional
        The name of the function by default.
    """

    def __init__(self, function: Callable[[Any, Any], Any], name: str | None = None) -> None:
        self.function = function
        super().__init__(name or getattr(function, "__name__", type(function).__name__))

    def reset(self) -> None:
        """Forget all batches."""
        self.total, self.count = 0.0, 0
        self.kept: dict[Any, list[tuple[numpy.ndarray, numpy.ndarray]]] = {}
        self.known: dict[Any, float] = {}  # the function's number for all that is kept of a shape

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch."""
        found = on_host(self.function(target, prediction))
        if found.ndim and len(found) == len(prediction):
            self.total += float(found.sum(dtype=numpy.float64))
            self.count += found.size
        elif found.size == 1:
            pred, true = on_host(prediction), on_host(target)
            shape = (pred.shape[1:], true.shape[1:])
            self.known.pop(shape, None)
            if shape not in self.kept:
                self.known[shape] = float(found.item())
            self.kept.setdefault(shape, []).append((pred.copy(), true.copy()))
        else:
            raise ShapeError(
                f"{self.name}: the function must return a number, or an array with one or more for each of the "
                f"{len(prediction)} examples; it returned an array of shape {found.shape}"
            )

    def result(self) -> float:
        """Return the number; nan before the first batch."""
        total, count = self.total, self.count
        for shape, batches in self.kept.items():
            if shape not in self.known:
                batches[:] = [tuple(map(numpy.concatenate, zip(*batches, strict=True)))]  # type: ignore[list-item]
                pred, true = batches[0]
                self.known[shape] = float(on_host(self.function(true, pred)).item())
            n = sum(len(pred) for pred, _ in batches)
            total += n * self.known[shape]
            count += n
        return total / count if count else math.nan
