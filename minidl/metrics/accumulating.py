"""Batchwise metrics that are not means: R squared, precision, recall, F1, ROC AUC."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.errors import ParameterError, ShapeError
from minidl.metrics.classification import AVERAGES, check_zero_division, ratios
from minidl.metrics.inputs import (
    binary_targets,
    label_indicators,
    labels_pair,
    labels_with_scores,
    numbers_pair,
    on_host,
    scores,
)
from minidl.metrics.ranking import roc_auc
from minidl.metrics.regression import r2_from_sums
from minidl.metrics.streaming import Metric

__all__ = ["F1", "Precision", "R2Score", "Recall", "RocAuc"]


class R2Score(Metric):
    """The share of the variance explained; see ``minidl.metrics.r2_score``.

    The sum of squares S about the mean is updated from batch to batch without cancellation. For two parts::

        S = S_1 + S_2 + (mean_1 - mean_2)^2 n_1 n_2 / (n_1 + n_2)

    T. Chan, G. Golub, R. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    default_name = "r2_score"

    def reset(self) -> None:
        """Forget all examples."""
        self.count = 0
        self.mean = self.total = self.residual = self.low = self.high = numpy.zeros(0)

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch."""
        true, pred = numbers_pair(target, prediction, self.name)  # (N, outputs)
        n, mean = len(true), true.mean(axis=0)
        total, residual = ((true - mean) ** 2).sum(axis=0), ((true - pred) ** 2).sum(axis=0)
        low, high = true.min(axis=0), true.max(axis=0)
        if self.count:
            if mean.shape != self.mean.shape:
                raise ShapeError(f"{self.name}: the batches have {self.mean.size} and {mean.size} outputs")
            shift, together = mean - self.mean, self.count + n
            total = self.total + total + shift**2 * (self.count * n / together)
            mean = self.mean + shift * (n / together)
            residual = self.residual + residual
            low, high = numpy.minimum(self.low, low), numpy.maximum(self.high, high)
        self.count += n
        self.mean, self.total, self.residual, self.low, self.high = mean, total, residual, low, high

    def result(self) -> float:
        """Return R squared; nan before the second example."""
        return r2_from_sums(self.count, self.residual, self.total, self.low == self.high)


class _Counted(Metric):
    """Base of precision, recall and F1: counts, for each class, the right predictions, all predictions, and the examples.

    Parameters
    ----------
    average : str, optional
        As in ``minidl.metrics.precision``. By default ``"binary"`` for single scores, ``"macro"`` for scores of several
        classes, and ``"micro"`` for several labels.
    threshold : float, default 0.5
        A single score above it means class 1. Use 0.5 for probabilities, 0 for logits.
    zero_division : float, default 0.0
        The value of 0 / 0.
    name : str, optional
    multilabel : bool, default False
        Whether scores of shape (N, K, ...) are those of K independent labels, each a yes or no, and not of K classes.
        Targets are then 0 or 1, of the same shape. ``compile`` sets it for names if the loss is a binary cross-entropy.
    """

    def __init__(
        self,
        average: str | None = None,
        threshold: float = 0.5,
        zero_division: float = 0.0,
        name: str | None = None,
        multilabel: bool = False,
    ) -> None:
        if average not in AVERAGES:
            raise ParameterError(
                f"{type(self).__name__}: average must be one of {', '.join(map(repr, AVERAGES))}, got {average!r}"
            )
        self.average, self.threshold, self.zero_division = (
            average,
            threshold,
            check_zero_division(type(self).__name__, zero_division),
        )
        self.multilabel = multilabel
        super().__init__(name)

    def reset(self) -> None:
        """Forget all examples."""
        self.counts: dict[int, numpy.ndarray] = {}
        self.several = self.has_labels = False

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch."""
        given = on_host(prediction)
        if self.multilabel and given.ndim >= 2 and given.shape[1] > 1:
            true, pred = label_indicators(target, scores(given, self.name), self.threshold, self.name)  # (M, K)
            table = numpy.stack([(true & pred).sum(axis=0), pred.sum(axis=0), true.sum(axis=0)], axis=1)  # (K, 3)
            self.has_labels = True
            self.counts = {k: self.counts.get(k, 0) + counts for k, counts in enumerate(table)}
            return
        true, pred = self._classes(given, target)
        for label in numpy.unique(numpy.concatenate([true, pred])).tolist():
            counts = numpy.array(
                [((true == label) & (pred == label)).sum(), (pred == label).sum(), (true == label).sum()]
            )
            self.counts[label] = self.counts.get(label, 0) + counts

    def _classes(self, given: numpy.ndarray, target: Any) -> tuple[numpy.ndarray, numpy.ndarray]:
        if given.dtype.kind != "f":
            return labels_pair(target, given, self.name)
        given = scores(given, self.name)
        if given.ndim >= 2 and given.shape[1] > 1:
            self.several = True
            true, rows = labels_with_scores(target, given, self.name)
            return true, rows.argmax(axis=1)
        true = binary_targets(target, given.shape, self.name)
        return true.reshape(-1).astype(int), (given > self.threshold).reshape(-1).astype(int)

    def result(self) -> float:
        """Return the metric; nan before the first example."""
        if not self.counts:
            return math.nan
        several = self.several or self.has_labels or not set(self.counts) <= {0, 1}
        average = self.average or ("micro" if self.has_labels else "macro" if several else "binary")
        if average == "binary":
            if several:
                raise ParameterError(f"{self.name}: average='binary' needs two classes; pass average='macro'")
            table = numpy.array([self.counts.get(1, numpy.zeros(3, dtype=int))])
        else:
            table = numpy.array([self.counts[label] for label in sorted(self.counts)])  # (K, 3)
        return ratios(self.default_name, table[:, 0], table[:, 1], table[:, 2], average, self.zero_division)


class Precision(_Counted):
    """Of the examples predicted as a class, the share that are of it; see ``minidl.metrics.precision``."""

    default_name = "precision"


class Recall(_Counted):
    """Of the examples of a class, the share predicted as it; see ``minidl.metrics.recall``."""

    default_name = "recall"


class F1(_Counted):
    """The harmonic mean of precision and recall; see ``minidl.metrics.f1``."""

    default_name = "f1"


class RocAuc(Metric):
    """The area under the ROC curve; see ``minidl.metrics.roc_auc``.

    It is exact, so it keeps every score until ``reset``. (Keras counts at 200 thresholds instead.)

    Parameters
    ----------
    from_logits : bool, default False
        Whether the scores of several classes are logits, to be turned into probabilities by softmax. For single scores only the
        order matters.
    name : str, optional
    multilabel : bool, default False
        Whether scores of shape (N, K, ...) are those of K independent labels, each a yes or no, and not of K classes. The
        result is then the mean of the labels' areas.
    """

    default_name = "roc_auc"

    def __init__(self, from_logits: bool = False, name: str | None = None, multilabel: bool = False) -> None:
        self.from_logits, self.multilabel = from_logits, multilabel
        super().__init__(name)

    def reset(self) -> None:
        """Forget all examples."""
        self.scores: list[numpy.ndarray] = []
        self.targets: list[numpy.ndarray] = []

    def update(self, prediction: Any, target: Any) -> None:
        """Take in a batch."""
        given = scores(prediction, self.name).astype(numpy.float64)
        if self.multilabel and given.ndim >= 2 and given.shape[1] > 1:
            true, _ = label_indicators(target, given, 0.0, self.name)  # (M, K)
            given = numpy.moveaxis(given, 1, -1).reshape(true.shape)
        elif given.ndim >= 2 and given.shape[1] > 1:
            true, given = labels_with_scores(target, given, self.name)  # (M,), (M, K)
            if self.from_logits:
                shifted = numpy.exp(given - given.max(axis=1, keepdims=True))
                given = shifted / shifted.sum(axis=1, keepdims=True)
        else:
            true, given = binary_targets(target, given.shape, self.name).reshape(-1), given.reshape(-1)
        self.scores.append(given.copy())
        self.targets.append(true.astype(numpy.int64))

    def result(self) -> float:
        """Return the area; nan before the first example, and if a class has all examples or none."""
        if not self.scores:
            return math.nan
        return roc_auc(numpy.concatenate(self.targets), numpy.concatenate(self.scores))
