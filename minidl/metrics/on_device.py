"""Sums of metrics over arrays on a GPU, which stay there.

A metric that is a mean needs two numbers of each batch. On a GPU they are computed there, by the rules of the metric on the host, for
the common kinds of targets. What the rules refuse is counted, and refused when the sums are read.
"""

from __future__ import annotations

from typing import Any

from minidl.metrics.streaming import Accuracy, BinaryAccuracy, MeanAbsoluteError, MeanSquaredError
from minidl.ops import Array, namespace

__all__ = ["Sums", "sums_on_device"]

Sums = tuple[Array, Array, Array]
"""The sum of the values that count, their number, and how many are refused; arrays without axes."""


def sums_on_device(metric: Any, prediction: Array, target: Array, ignored: int | None = None) -> Sums | None:
    """Return what a mean needs of a batch, or None if this metric, or this kind of target, is computed on the host.

    Parameters
    ----------
    metric : Metric
    prediction, target : array
    ignored : int, optional
        Targets that do not count.
    """
    if type(metric) is Accuracy and _are_classes(prediction, target):
        kept = target != -100 if ignored is None else (target != ignored) & (target != -100)
        return _sums(prediction.argmax(axis=1) == target, kept, namespace(prediction).isnan(prediction))
    if ignored is not None and target.dtype.kind != "f":
        return None
    if type(metric) in (Accuracy, BinaryAccuracy) and _are_yes_or_no(metric, prediction, target):
        said = target.reshape(prediction.shape)
        wrong = namespace(prediction).isnan(prediction) | ((said != 0) & (said != 1))
        return _sums((said != 0) == (prediction > metric.threshold), None, wrong)
    if type(metric) in (MeanAbsoluteError, MeanSquaredError) and _are_numbers(prediction, target):
        xp = namespace(prediction)
        difference = target.reshape(prediction.shape).astype("float64") - prediction
        values = abs(difference) if type(metric) is MeanAbsoluteError else difference * difference
        return _sums(values, None, ~xp.isfinite(difference))
    return None


def _are_classes(prediction: Array, target: Array) -> bool:
    shape = prediction.shape
    return (
        prediction.dtype.kind == "f"
        and len(shape) > 1
        and shape[1] > 1
        and (target.dtype.kind in "iu" and target.shape == (shape[0], *shape[2:]))
    )


def _are_yes_or_no(metric: Any, prediction: Array, target: Array) -> bool:
    single = type(metric) is BinaryAccuracy or prediction.ndim < 2 or prediction.shape[1] == 1
    return prediction.dtype.kind == "f" and single and _are_numbers(prediction, target)


def _are_numbers(prediction: Array, target: Array) -> bool:
    same = target.shape == prediction.shape or (target.size == prediction.size == len(prediction))
    return prediction.ndim > 0 and prediction.size > 0 and same and target.dtype.kind in "fiub"


def _sums(values: Array, kept: Array | None, wrong: Array) -> Sums:
    xp = namespace(values)
    if kept is None:
        total, count = values.sum(dtype="float64"), xp.full((), values.size, dtype="float64")
    else:
        total, count = (values & kept).sum(dtype="float64"), kept.sum(dtype="float64")
    return total, count, wrong.sum(dtype="float64")
