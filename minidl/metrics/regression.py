"""Metrics of numbers: mean absolute error, mean squared error, and R squared.

Arguments come in scikit-learn's order, ``(y_true, y_pred)``. (N,) and (N, 1) are aligned, never broadcast. Everything is
computed on the host in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.metrics.inputs import numbers_pair

__all__ = ["mean_absolute_error", "mean_squared_error", "r2_from_sums", "r2_score", "root_mean_squared_error"]


def mean_absolute_error(y_true: Any, y_pred: Any) -> float:
    """Return the mean of abs(y_true - y_pred) over examples and outputs.

    >>> mean_absolute_error([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    true, pred = numbers_pair(y_true, y_pred, "mean_absolute_error")
    return float(abs(true - pred).mean())


def mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """Return the mean of (y_true - y_pred)^2 over examples and outputs.

    >>> mean_squared_error([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    true, pred = numbers_pair(y_true, y_pred, "mean_squared_error")
    return float(((true - pred) ** 2).mean())


def root_mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """Return the square root of the mean squared error over examples, averaged over outputs, as in scikit-learn.

    (Keras takes the mean over outputs before the root.)

    >>> root_mean_squared_error([1.0, 2.0], [3.0, 4.0])
    2.0
    """
    true, pred = numbers_pair(y_true, y_pred, "root_mean_squared_error")
    return float(numpy.sqrt(((true - pred) ** 2).mean(axis=0)).mean())


def r2_score(y_true: Any, y_pred: Any) -> float:
    """Return the share of the variance explained, averaged over outputs.

    In sums over the examples of one output::

        r2 = 1 - sum((y_true - y_pred)^2) / sum((y_true - mean(y_true))^2)

    1 is perfect, 0 is as good as always predicting the mean, and there is no lower limit. If y_true is constant, it is 1 for an
    exact prediction and 0 otherwise; for a single example it is nan, as in scikit-learn.

    >>> r2_score([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    true, pred = numbers_pair(y_true, y_pred, "r2_score")  # (N, outputs)
    mean = true.mean(axis=0)
    constant = true.max(axis=0) == true.min(axis=0)
    return r2_from_sums(len(true), ((true - pred) ** 2).sum(axis=0), ((true - mean) ** 2).sum(axis=0), constant)


def r2_from_sums(n: int, residual: numpy.ndarray, total: numpy.ndarray, constant: numpy.ndarray) -> float:
    """Return R squared from the sums of squares of each output, shape (outputs,)."""
    if n < 2:
        return math.nan
    safe = numpy.where(constant | (total == 0), 1.0, total)
    each = numpy.where(constant | (total == 0), residual == 0, 1.0 - residual / safe)
    return float(each.mean())
