"""Inputs of the metrics: convert labels, scores and numbers to host arrays whose shapes can be compared."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.arrays import to_host
from minidl.errors import DataError, DtypeError, ShapeError, TargetError

__all__ = ["binary_targets", "labels_pair", "labels_with_scores", "numbers_pair", "on_host", "scores"]


def on_host(array: Any, where: str = "", name: str = "the array") -> numpy.ndarray:
    """Convert anything array-like to a ``numpy.ndarray``, by position; ``where`` and ``name`` are for messages."""
    return to_host(array, where, name)


def scores(y_score: Any, where: str) -> numpy.ndarray:
    """Return scores as a non-empty array of real numbers without NaN.

    Raises
    ------
    DtypeError
        If they are not real numbers.
    DataError
        If there are none, or one is NaN. NaN compares as false with everything and would be counted silently.
    """
    found = on_host(y_score, where, "y_score")
    if found.dtype.kind not in "fiub":
        raise DtypeError(f"{where}: expected real numbers, got dtype {found.dtype}")
    if found.size == 0:
        raise DataError(f"{where}: there are no examples")
    if found.dtype.kind == "f" and numpy.isnan(found).any():
        raise DataError(f"{where}: the prediction at {_first(numpy.isnan(found))} is NaN")
    return found


def numbers_pair(y_true: Any, y_pred: Any, where: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return two arrays of finite float64 numbers of shape (N, outputs); (N,) and (N, 1) are aligned.

    Raises
    ------
    ShapeError
        If the shapes differ otherwise; they are never broadcast.
    DataError
        If the arrays are empty, or an element is not finite.
    """
    pair = []
    for name, given in (("y_true", y_true), ("y_pred", y_pred)):
        found = on_host(given, where, name)
        if found.dtype.kind not in "fiub":
            raise DtypeError(f"{where}: {name} must hold real numbers, got dtype {found.dtype}")
        found = found.astype(numpy.float64)
        if not numpy.isfinite(found).all():
            place = _first(~numpy.isfinite(found))
            raise DataError(f"{where}: {name} at {place} is {found[place]}, not a finite number")
        pair.append(found)
    true, pred = pair
    if _column(true).shape != _column(pred).shape or true.ndim == 0:
        raise ShapeError(f"{where}: y_true and y_pred must have the same shape, got {true.shape} and {pred.shape}")
    if true.size == 0:
        raise DataError(f"{where}: there are no examples")
    return true.reshape(len(true), -1), pred.reshape(len(true), -1)


def labels_pair(y_true: Any, y_pred: Any, where: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return two arrays of labels, shape (N,), either both integers or both text.

    Scores of shape (N, K) stand for the class of the largest, and so does a one-hot y_true.

    Raises
    ------
    ShapeError, DataError
        If they are not labels, are empty, or differ in length.
    """
    true = _labels(y_true, "y_true", where)
    pred = _labels(y_pred, "y_pred", where)
    if true.shape != pred.shape:
        raise ShapeError(f"{where}: y_true and y_pred must have the same length, got {len(true)} and {len(pred)}")
    if true.size == 0:
        raise DataError(f"{where}: there are no examples")
    if (true.dtype.kind == "U") != (pred.dtype.kind == "U"):
        raise DataError(f"{where}: y_true and y_pred must both be numbers or both be text")
    return true, pred


def labels_with_scores(y_true: Any, y_score: numpy.ndarray, where: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return class indices (M,) and scores (M, K) for scores of shape (N, K, ...), with the classes on axis 1.

    y_true holds class indices of shape (N, ...), or has the shape of the scores and is one-hot or holds probabilities.

    Raises
    ------
    ShapeError
        If the shapes do not fit.
    DtypeError
        If class indices are not integers.
    """
    true = on_host(y_true, where, "y_true")
    classes = y_score.shape[1]
    expected = (y_score.shape[0], *y_score.shape[2:])
    if true.shape == y_score.shape:
        true = true.argmax(axis=1)  # (N, ...)
    elif true.shape == (*expected, 1):
        true = true[..., 0]
    if true.shape != expected:
        raise ShapeError(
            f"{where}: for predictions of shape {y_score.shape} targets must be class numbers of shape {expected}, or "
            f"one-hot of the same shape, got {true.shape}"
        )
    if true.dtype.kind not in "iub":
        if true.dtype.kind != "f" or (true != numpy.floor(true)).any():
            raise DtypeError(f"{where}: class numbers must be integers, got dtype {true.dtype}")
        true = true.astype(numpy.int64)
    return true.reshape(-1), numpy.moveaxis(y_score, 1, -1).reshape(-1, classes)


def binary_targets(y_true: Any, shape: tuple[int, ...], where: str) -> numpy.ndarray:
    """Return targets of the given shape as booleans; (N,) and (N, 1) are aligned.

    Raises
    ------
    ShapeError
        If the shapes differ otherwise.
    TargetError
        If an element is neither 0 nor 1.
    """
    true = on_host(y_true, where, "y_true")
    if true.shape != shape and _column(true).shape == _column(numpy.empty(shape, bool)).shape:
        true = true.reshape(shape)
    if true.shape != shape:
        raise ShapeError(
            f"{where}: for predictions of shape {shape} targets must have the same shape, got {true.shape}"
        )
    outside = (true != 0) & (true != 1)
    if numpy.any(outside):
        place = _first(outside)
        raise TargetError(
            f"{where}: one score for each example says how likely class 1 is, so targets must be 0 or 1, got "
            f"{true[place].item()!r} at {place}; convert predictions that are class labels with astype(int)"
        )
    return true.astype(bool)


def _labels(given: Any, name: str, where: str) -> numpy.ndarray:
    found = on_host(given, where, name)
    if found.ndim == 2 and found.shape[1] > 1 and found.dtype.kind in "fiub":
        if name == "y_true" and not numpy.allclose(found.sum(axis=1), 1.0, atol=1e-3):
            raise DataError(f"{where}: y_true of shape {found.shape} must be one-hot, one class for each example")
        return scores(found, where).argmax(axis=1)  # (N,)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise ShapeError(
            f"{where}: {name} must hold labels of shape (N,), or scores of shape (N, K), got {found.shape}"
        )
    if found.dtype.kind in "iub":
        return found.astype(numpy.int64)
    if found.dtype.kind == "f":
        if (found != numpy.floor(found)).any():
            raise DataError(
                f"{where}: {name} must hold class labels, got {found[found != numpy.floor(found)][0]}; "
                "convert scores to classes first, with scores > 0.5"
            )
        return found.astype(numpy.int64)
    if found.dtype.kind == "U" or (found.dtype.kind == "O" and all(isinstance(label, str) for label in found)):
        return found.astype(str)
    raise DtypeError(f"{where}: {name} must hold integers or text, got dtype {found.dtype}")


def _column(array: numpy.ndarray) -> numpy.ndarray:
    return array[:, None] if array.ndim == 1 else array


def _first(where: numpy.ndarray) -> tuple[int, ...]:
    return tuple(map(int, numpy.argwhere(where)[0]))
