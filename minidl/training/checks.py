"""Data as it comes from a user, checked and brought to what a model computes with, once, before the first step."""

from __future__ import annotations

from typing import Any

import numpy

from minidl import engines
from minidl.errors import DataError, DtypeError, TargetError
from minidl.layers import CrossEntropyLoss, Loss
from minidl.ops import Array

__all__ = ["as_inputs", "as_targets", "as_weights", "same_length"]


def as_inputs(x: Any, dtype: Any, where: str, name: str = "x") -> numpy.ndarray:
    """Return the examples as a host array of the model's dtype.

    Integers and booleans are converted here, as Keras does (``model.forward`` itself is strict).

    Raises
    ------
    DataError
        If there are no examples, or one holds nan or inf; the message names the first.
    DtypeError
        If there are no real numbers in it.
    """
    array = _on_host(x)
    if array.dtype.kind not in "fiub":
        raise DtypeError(f"{where}: {name} must hold real numbers, got dtype {array.dtype}; convert it to float32")
    if array.ndim == 0 or array.shape[0] == 0:
        raise DataError(f"{where}: {name} holds no examples (shape {array.shape})")
    _check_finite(array, where, name)
    return numpy.ascontiguousarray(array, dtype=dtype)


def as_targets(y: Any, loss: Any, dtype: Any, outputs: tuple[int, ...] | None, where: str) -> numpy.ndarray:
    """Return the targets as the loss takes them: class indices as int64, everything else in the model's dtype.

    Raises
    ------
    TargetError
        If a class index is no class of the model's, or no whole number.
    DataError, DtypeError
        As :func:`as_inputs`.
    """
    array = _on_host(y)
    if array.dtype.kind not in "fiub":
        raise DtypeError(
            f"{where}: y must hold real numbers, got dtype {array.dtype}; turn labels into class indices with "
            "numpy.unique(y, return_inverse=True)"
        )
    if array.ndim == 0 or array.shape[0] == 0:
        raise DataError(f"{where}: y holds no examples (shape {array.shape})")
    _check_finite(array, where, "y")
    if not isinstance(loss, CrossEntropyLoss):
        return numpy.ascontiguousarray(
            array, dtype=dtype if isinstance(loss, Loss) or array.dtype.kind == "f" else None
        )
    classes = outputs[0] if outputs else None
    if array.ndim == 2 and array.shape[1] == 1 and classes != 1:
        array = array[:, 0]
    if array.ndim > 1:
        return numpy.ascontiguousarray(array, dtype=dtype)
    return _class_indices(array, loss, classes, where)


def _class_indices(array: numpy.ndarray, loss: Any, classes: int | None, where: str) -> numpy.ndarray:
    indices = array.astype(numpy.int64)
    if array.dtype.kind == "f" and (indices != array).any():
        first = int(numpy.flatnonzero(indices != array)[0])
        raise TargetError(f"{where}: y[{first}] = {array[first]} is no class index; class indices are whole numbers")
    if classes is not None:
        bad = ((indices < 0) | (indices >= classes)) & (indices != loss.settings["ignore_index"])
        if bad.any():
            first = int(numpy.flatnonzero(bad)[0])
            raise TargetError(
                f"{where}: y[{first}] = {indices[first]} is no class; the model has {classes} outputs, so classes are 0 to "
                f"{classes - 1}"
            )
    return indices


def as_weights(
    sample_weight: Any, class_weight: dict[int, float] | None, y: numpy.ndarray, dtype: Any, where: str
) -> numpy.ndarray | None:
    """Return one weight for each example, or None: the sample's times its class's.

    Raises
    ------
    DataError
        If the length differs, a weight is negative or not finite, or a class in y has no weight.
    """
    weights = None
    if sample_weight is not None:
        weights = _on_host(sample_weight)
        if weights.shape != y.shape[:1]:
            raise DataError(f"{where}: sample_weight must have shape {y.shape[:1]}, got {weights.shape}")
        if weights.dtype.kind not in "fiub" or not (weights >= 0).all() or not numpy.isfinite(weights).all():
            raise DataError(f"{where}: sample_weight must be finite and not negative")
        weights = weights.astype(dtype)
    if class_weight is not None:
        labels = y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y)).astype(numpy.int64)
        missing = sorted(set(numpy.unique(labels).tolist()) - set(class_weight))
        if missing:
            raise DataError(f"{where}: class_weight has no weight for the classes {missing}")
        by_class = numpy.array([class_weight[int(label)] for label in labels], dtype=dtype)
        weights = by_class if weights is None else weights * by_class
    return weights


def same_length(x: Array, y: Array, where: str) -> None:
    """Raise DataError unless there are as many targets as examples."""
    if len(x) != len(y):
        raise DataError(f"{where}: x holds {len(x)} examples but y holds {len(y)} targets")


def _on_host(array: Any) -> numpy.ndarray:
    if hasattr(array, "get") and not isinstance(array, dict) and hasattr(array, "dtype"):
        return engines.current().to_host(array)
    return numpy.asarray(array)


def _check_finite(array: numpy.ndarray, where: str, name: str) -> None:
    if array.dtype.kind != "f" or numpy.isfinite(array.sum(dtype=numpy.float64)):
        return
    rows = ~numpy.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not rows.any():
        return  # the sum itself overflowed
    first = int(numpy.flatnonzero(rows)[0])
    raise DataError(
        f"{where}: {name} holds nan or inf in {int(rows.sum())} of {len(array)} examples, first in {name}[{first}]; fill in "
        "or drop them"
    )
