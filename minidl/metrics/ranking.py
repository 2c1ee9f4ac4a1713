"""The area under the receiver operating characteristic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import DataError, ParameterError, ShapeError, TargetError
from minidl.metrics.inputs import binary_targets, on_host, scores
from minidl.ops._scalars import scalars_checked

__all__ = ["roc_auc"]


@scalars_checked
def roc_auc(y_true: Any, y_score: Any, *, average: str | None = "macro", labels: Sequence[Any] | None = None) -> Any:
    """Return the probability that an example of the class scores higher than another one, ties counting half.

    This is the area under the ROC curve, and the Mann-Whitney statistic as a share. With P positive and Q other examples, and
    the ranks of the scores (equal scores share their mean rank), computed exactly by sorting::

        auc = (sum of the ranks of the positive examples - P (P + 1) / 2) / (P Q)

    Parameters
    ----------
    y_true : array or list, shape (N,)
        Labels. With one score for each example there must be at most two classes; the larger one is scored. Zeros and ones
        of shape (N, K) say for each of K labels, or of K classes, whether the example has it; then every column counts.
    y_score : array, shape (N,), (N, 1), or (N, K)
        Scores of the larger class, or of K classes, one against the rest. The latter should be probabilities, because logits
        are not comparable between examples. Of K = 2 columns the second is used.
    average : {"macro", "weighted"} or None, default "macro"
        With K classes: the mean, the mean weighted by the number of examples, or an array with one element for each class.
    labels : sequence, optional
        The class of each column; by default the sorted classes of y_true, or 0 to K - 1 if it holds such numbers.

    Returns
    -------
    float, or float64 array of shape (K,)
        Undefined, hence nan, where all or none of the examples are of the class. A mean that includes it is nan too.

    Raises
    ------
    DataError
        If there are no examples, a score is NaN, or the classes and the columns do not match.
    TargetError
        If y_true holds fractions, or y_true of shape (N, K) anything but 0 and 1.
    ShapeError
        If lengths differ.

    References
    ----------
    J. Hanley, B. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve", Radiology 143
    (1982).

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    if average not in ("macro", "weighted", None):
        raise ParameterError(f"roc_auc: average must be 'macro', 'weighted' or None, got {average!r}")
    given = scores(y_score, "roc_auc").astype(numpy.float64)
    true = on_host(y_true)
    if true.ndim == 2 and true.shape[1] == 1:
        true = true[:, 0]
    elif true.ndim == 2 and true.shape == given.shape:
        indicators = binary_targets(true, given.shape, "roc_auc")
        return _averaged(indicators, given, average)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if true.ndim != 1 or given.ndim not in (1, 2) or len(true) != len(given):
        raise ShapeError(
            f"roc_auc: expected labels (N,) and scores (N,) or (N, K), got shapes {true.shape} and {given.shape}"
        )
    if true.dtype.kind == "f" and (~numpy.isfinite(true) | (true != numpy.floor(true))).any():
        raise TargetError(
            "roc_auc: y_true must hold class labels, got fractions; round them, or compare with a threshold"
        )
    columns = 2 if given.ndim == 1 else given.shape[1]
    classes = _classes(true, columns, labels)
    if columns == 2:
        return _area(true == classes[-1], given if given.ndim == 1 else given[:, 1])
    return _averaged(numpy.stack([true == label for label in classes], axis=1), given, average)


def _averaged(positive: numpy.ndarray, given: numpy.ndarray, average: str | None) -> Any:
    """Return the areas of the columns, (N, K) both, or their mean."""
    each = numpy.array([_area(positive[:, k], given[:, k]) for k in range(given.shape[1])])  # (K,)
    if average is None:
        return each
    if average == "macro":
        return float(each.mean())
    weights = positive.sum(axis=0)
    return float((each * weights)[weights > 0].sum() / weights.sum()) if weights.any() else math.nan


def _classes(true: numpy.ndarray, columns: int, labels: Sequence[Any] | None) -> list[Any]:
    """Return the class of each column; a single column is that of the second of two classes."""
    present = numpy.unique(true).tolist()
    if labels is not None:
        if len(labels) != columns or len(set(labels)) != columns:
            raise ParameterError(f"roc_auc: labels must be {columns} different classes, one a column, got {labels!r}")
        if not set(present) <= set(labels):
            raise DataError(
                f"roc_auc: y_true holds {sorted(set(present) - set(labels))}, not among the labels {labels!r}"
            )
        return list(labels)
    if len(present) == columns:
        return present
    if true.dtype.kind in "iub" and present[0] >= 0 and present[-1] < columns:
        return list(range(columns))
    if columns == 2 and len(present) == 1:
        return [None, present[0]]
    raise DataError(
        f"roc_auc: y_true holds {len(present)} classes, but the scores are those of {columns}; pass labels=[...], one "
        "for each column"
    )


def _area(positive: numpy.ndarray, score: numpy.ndarray) -> float:
    """Return the Mann-Whitney statistic as a share."""
    p, n = int(positive.sum()), len(positive)
    if p in (0, n):
        return math.nan
    _, which, counts = numpy.unique(score, return_inverse=True, return_counts=True)
    rank = (numpy.cumsum(counts) - (counts - 1) / 2)[which]  # (N,), from 1, equal scores sharing their mean
    return float((rank[positive].sum() - p * (p + 1) / 2) / (p * (n - p)))
