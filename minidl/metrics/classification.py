"""Metrics of classes: accuracy, top-k, confusion matrix, precision, recall, F1.

Arguments come in scikit-learn's order, ``(y_true, y_pred)``, and everything is computed on the host in float64.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import DataError, ParameterError, TargetError
from minidl.metrics.inputs import binary_targets, labels_pair, labels_with_scores, on_host, scores
from minidl.ops._scalars import scalars_checked

__all__ = [
    "accuracy",
    "check_zero_division",
    "confusion_matrix",
    "f1",
    "hits",
    "precision",
    "ratios",
    "recall",
    "top_k_accuracy",
    "top_k_hits",
]

AVERAGES = ("binary", "macro", "micro", "weighted", None)


# accuracy ------------------------------------------------------------------------------------------------------------


@scalars_checked
def accuracy(y_true: Any, y_pred: Any, *, threshold: float = 0.5, ignore_index: int = -100) -> float:
    """Return the share of examples whose class is predicted right.

    Parameters
    ----------
    y_true, y_pred : array or list
        The dtype and shape of y_pred determine its meaning:

        - integers, booleans or text, shape (N,): labels, compared with those of y_true;
        - floats, shape (N, K) or (N, K, ...) with K of at least 2: scores (logits or probabilities alike). The class is that of
          the largest score, the first of equal ones; y_true holds class indices (N, ...) or is one-hot;
        - floats, shape (N,) or (N, 1): the score of class 1; y_true is 0 or 1.
    threshold : float, default 0.5
        A single score above it means class 1. Use 0.5 for probabilities, 0 for logits.
    ignore_index : int, default -100
        With scores of K classes, examples with this target do not count, as in the cross-entropy loss.

    Raises
    ------
    ShapeError, DtypeError, TargetError, DataError
        If the two do not fit each other, there are no examples, or a score is NaN.

    Examples
    --------
    >>> accuracy([0, 2, 1], [0, 1, 1])  # labels
    0.6666666666666666
    >>> accuracy([1, 0], numpy.array([[-1.0, 2.0], [0.5, 3.0]]))  # logits
    0.5
    >>> accuracy([1, 0], numpy.array([0.7, 0.4]))  # probabilities
    1.0
    """
    found = hits(y_true, y_pred, threshold, ignore_index)
    if found.size == 0:
        raise DataError("accuracy: every example has the target that is ignored")
    return float(found.mean())


def hits(y_true: Any, y_pred: Any, threshold: float = 0.5, ignore_index: int = -100) -> numpy.ndarray:
    """Return whether each example that counts is right, by the rules of :func:`accuracy`, shape (M,)."""
    pred = on_host(y_pred)
    if pred.dtype.kind != "f":
        true, pred = labels_pair(y_true, pred, "accuracy")
        return true == pred
    pred = scores(pred, "accuracy")
    if pred.ndim >= 2 and pred.shape[1] > 1:
        true, rows = labels_with_scores(y_true, pred, "accuracy")  # (M,), (M, K)
        kept = true != ignore_index
        return true[kept] == rows[kept].argmax(axis=1)
    return (binary_targets(y_true, pred.shape, "accuracy") == (pred > threshold)).reshape(-1)


@scalars_checked
def top_k_accuracy(y_true: Any, y_score: Any, k: int = 5) -> float:
    """Return the share of examples whose class is among the k with the largest scores.

    Parameters
    ----------
    y_true : integer array, shape (N,), or one-hot (N, K)
    y_score : array, shape (N, K)
    k : int, default 5
        With k of K or more the result is 1.

    Raises
    ------
    ParameterError
        If k is not a positive integer.
    TargetError
        If a class index is not below K.

    Notes
    -----
    Among equal scores later classes count as larger, as in scikit-learn. In :func:`accuracy` it is the earlier.

    Examples
    --------
    >>> top_k_accuracy([0, 1], [[0.5, 0.3, 0.2], [0.5, 0.2, 0.3]], k=2)
    0.5
    """
    return float(top_k_hits(y_true, y_score, k).mean())


def top_k_hits(y_true: Any, y_score: Any, k: int) -> numpy.ndarray:
    """Return whether each example counts, by the rules of :func:`top_k_accuracy`, shape (N,)."""
    if isinstance(k, bool) or not isinstance(k, (int, numpy.integer)) or k < 1:
        raise ParameterError(f"top_k_accuracy: k must be a positive integer, got {k!r}")
    given = scores(y_score, "top_k_accuracy")
    if given.ndim < 2:
        given = given.reshape(-1, 1)
    true, rows = labels_with_scores(y_true, given, "top_k_accuracy")  # (N,), (N, K)
    classes = rows.shape[1]
    if ((true < 0) | (true >= classes)).any():
        wrong = true[(true < 0) | (true >= classes)][0]
        raise TargetError(f"top_k_accuracy: class numbers must be from 0 to {classes - 1}, got {wrong}")
    own = rows[numpy.arange(len(true)), true][:, None]  # (N, 1)
    later = numpy.arange(classes) > true[:, None]  # (N, K)
    rank = ((rows > own) | ((rows == own) & later)).sum(axis=1)  # (N,)
    return rank < k


# counts --------------------------------------------------------------------------------------------------------------


@scalars_checked
def confusion_matrix(
    y_true: Any, y_pred: Any, *, labels: Sequence[Any] | None = None, normalize: str | None = None
) -> numpy.ndarray:
    """Return the number of examples of each class (row) that were predicted as each class (column).

    Parameters
    ----------
    y_true, y_pred : array or list, shape (N,)
        Labels, integers or text. Scores of shape (N, K) stand for the class of the largest.
    labels : sequence, optional
        The classes, in the order of rows and columns; examples of other classes do not count. By default all that occur, sorted.
    normalize : {"true", "pred", "all"}, optional
        Divide by the sums of the rows (``"true"``), by the sums of the columns (``"pred"``) or by N. An empty row or column stays
        zero.

    Returns
    -------
    int64 array, shape (K, K)
        Floating-point (float64) with ``normalize``.

    Examples
    --------
    >>> confusion_matrix(["cat", "cat", "dog"], ["cat", "dog", "dog"])
    array([[1, 1],
           [0, 1]])
    """
    if normalize not in (None, "true", "pred", "all"):
        raise ParameterError(f"confusion_matrix: normalize must be 'true', 'pred', 'all' or None, got {normalize!r}")
    true, pred = labels_pair(y_true, y_pred, "confusion_matrix")
    matrix = _confusion(true, pred, labels, "confusion_matrix")
    if normalize is None:
        return matrix
    total = matrix.sum(axis={"true": 1, "pred": 0, "all": None}[normalize], keepdims=True)
    return numpy.divide(matrix, total, out=numpy.zeros(matrix.shape), where=total != 0)


def _confusion(true: numpy.ndarray, pred: numpy.ndarray, labels: Sequence[Any] | None, where: str) -> numpy.ndarray:
    """Count each pair of classes, shape (K, K)."""
    if labels is None:
        classes = numpy.unique(numpy.concatenate([true, pred]))
    else:
        classes = numpy.asarray(labels)
        if classes.ndim != 1 or classes.size == 0 or len(set(classes.tolist())) != classes.size:
            raise ParameterError(f"{where}: labels must be a list of different classes, got {labels!r}")
        if (classes.dtype.kind == "U") != (true.dtype.kind == "U"):
            raise ParameterError(f"{where}: labels must be of the kind of y_true, got {labels!r}")
    order = numpy.argsort(classes, kind="stable")
    ranks = [numpy.searchsorted(classes, side, sorter=order).clip(max=len(classes) - 1) for side in (true, pred)]
    rows, columns = (order[rank] for rank in ranks)
    known = (classes[rows] == true) & (classes[columns] == pred)
    matrix = numpy.zeros((len(classes), len(classes)), dtype=numpy.int64)
    numpy.add.at(matrix, (rows[known], columns[known]), 1)
    return matrix


# precision, recall, F1 -----------------------------------------------------------------------------------------------


@scalars_checked
def precision(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[Any] | None = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    zero_division: float = 0.0,
) -> Any:
    """Return the share of the examples predicted as a class that belong to it.

    With the true and false positives of a class::

        precision = TP / (TP + FP)

    Parameters
    ----------
    y_true, y_pred : array or list, shape (N,)
        Labels, integers or text. Scores of shape (N, K) stand for the class of the largest.
    labels : sequence, optional
        The classes to consider, in this order; by default all that occur, sorted.
    pos_label : label, default 1
        The class for ``average="binary"``.
    average : {"binary", "macro", "micro", "weighted"} or None, default "binary"
        ``"binary"`` gives the one class, ``"macro"`` the mean over classes, ``"weighted"`` the mean weighted by the number of
        examples, and ``"micro"`` counts all decisions together. None gives an array, one element for each class.
    zero_division : float, default 0.0
        The value of 0 / 0: 0, 1, or nan, which is then left out of means.

    Returns
    -------
    float, or float64 array of shape (K,)

    Raises
    ------
    ParameterError
        If an argument is not one of those above.
    DataError
        With ``average="binary"``, if there are more than two classes, or ``pos_label`` is not one of two.

    Examples
    --------
    >>> precision([0, 1, 1, 0], [0, 1, 1, 1])
    0.6666666666666666
    >>> precision([0, 1, 2], [0, 2, 2], average=None)
    array([1. , 0. , 0.5])
    """
    return _score("precision", y_true, y_pred, labels, pos_label, average, zero_division)


@scalars_checked
def recall(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[Any] | None = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    zero_division: float = 0.0,
) -> Any:
    """Return the share of the examples of a class that are predicted as it.

    Arguments, result and errors are those of :func:`precision`. With the false negatives of a class::

        recall = TP / (TP + FN)

    Examples
    --------
    >>> recall([0, 1, 1, 0], [0, 1, 0, 1])
    0.5
    """
    return _score("recall", y_true, y_pred, labels, pos_label, average, zero_division)


@scalars_checked
def f1(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Sequence[Any] | None = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    zero_division: float = 0.0,
) -> Any:
    """Return the harmonic mean of precision and recall.

    Arguments, result and errors are those of :func:`precision`. In counts::

        f1 = 2 TP / (2 TP + FP + FN)

    C. van Rijsbergen, "Information retrieval" (1979), chapter 7.

    Examples
    --------
    >>> f1([0, 1, 1, 0], [0, 1, 1, 1])
    0.8
    """
    return _score("f1", y_true, y_pred, labels, pos_label, average, zero_division)


def _score(
    which: str,
    y_true: Any,
    y_pred: Any,
    labels: Sequence[Any] | None,
    pos_label: Any,
    average: str | None,
    zero_division: float,
) -> Any:
    if average not in AVERAGES:
        raise ParameterError(f"{which}: average must be one of {', '.join(map(repr, AVERAGES))}, got {average!r}")
    true, pred = labels_pair(y_true, y_pred, which)
    if average == "binary":
        _check_binary(which, numpy.unique(numpy.concatenate([true, pred])), pos_label)
        labels = [pos_label]
    present = numpy.unique(numpy.concatenate([true, pred])).tolist()
    wanted = list(dict.fromkeys(present if labels is None else labels))
    every = list(dict.fromkeys([*wanted, *present]))  # predicting a class that is not wanted is a mistake too
    matrix = _confusion(true, pred, every, which)
    counts = matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)
    right, predicted, actual = (count[: len(wanted)] for count in counts)
    return ratios(which, right, predicted, actual, average, zero_division)


def _check_binary(which: str, present: numpy.ndarray, pos_label: Any) -> None:
    if len(present) > 2:
        raise DataError(
            f"{which}: average='binary' needs two classes, got {len(present)}; pass average='macro', 'micro', "
            "'weighted' or None"
        )
    if len(present) == 2 and pos_label not in present.tolist():
        raise DataError(f"{which}: pos_label {pos_label!r} is not one of the classes {present.tolist()}")


def check_zero_division(where: str, zero_division: Any) -> float:
    """Return the value of 0 / 0: 0, 1 or nan."""
    if not isinstance(zero_division, numbers.Real) or not (zero_division in (0, 1) or math.isnan(zero_division)):
        raise ParameterError(f"{where}: zero_division must be 0, 1 or nan, got {zero_division!r}")
    return float(zero_division)


def ratios(
    which: str,
    right: numpy.ndarray,
    predicted: numpy.ndarray,
    actual: numpy.ndarray,
    average: str | None,
    zero_division: float,
) -> Any:
    """Return precision, recall or F1 from the counts of each class: right predictions, all predictions, and examples."""
    check_zero_division(which, zero_division)
    if average == "micro":
        right, predicted, actual = (numpy.atleast_1d(count.sum()) for count in (right, predicted, actual))
    above, below = {
        "precision": (right, predicted),
        "recall": (right, actual),
        "f1": (2 * right, predicted + actual),
    }[which]
    each = numpy.divide(above, below, out=numpy.full(len(above), float(zero_division)), where=below != 0)  # (K,)
    if average is None:
        return each
    weights = actual if average == "weighted" else numpy.ones(len(each))
    defined = ~numpy.isnan(each)
    if not defined.any():
        return math.nan
    weights = weights[defined]
    if weights.sum() == 0:
        weights = numpy.ones(len(weights))
    return float((each[defined] * weights).sum() / weights.sum())
