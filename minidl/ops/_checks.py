"""Checks of several arrays, sums of float16, and the silencing of floating-point warnings."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import DtypeError, ShapeError
from minidl.ops._namespace import Array, require_float
from minidl.ops._scalars import F, scalars_checked

_silence = numpy.errstate(over="ignore", invalid="ignore", divide="ignore")


def ieee(formula: F) -> F:
    """Decorate a formula: results without a finite value are inf or nan, without a Python warning, and scalars are checked.

    Only NumPy warns, so this makes all engines behave alike. It hides no mistake in a formula: with finite inputs and results
    the formulas have only finite intermediates, which the tests check on the undecorated functions. The check of numbers,
    switches and names is that of :func:`minidl.ops._scalars.scalars_checked`.
    """
    return scalars_checked(_silence(formula))


def require_like(array: Array, model: Array, name: str, model_name: str, op: str) -> None:
    """Raise unless ``array`` has the shape and dtype of ``model``.

    >>> require_like(numpy.zeros(3), numpy.zeros((3, 1)), "dy", "y", "relu_backward")
    Traceback (most recent call last):
    ...
    minidl.errors.ShapeError: relu_backward: dy must have the shape of y, (3, 1), got (3,)
    """
    require_float(array, name, op)
    if array.shape != model.shape:
        raise ShapeError(f"{op}: {name} must have the shape of {model_name}, {model.shape}, got {array.shape}")
    require_same_dtype(array, model, name, model_name, op)


def require_same_dtype(array: Array, model: Array, name: str, model_name: str, op: str) -> None:
    """Raise :class:`DtypeError` unless both have one dtype: a mixture would be promoted silently.

    >>> require_same_dtype(numpy.zeros(3), numpy.zeros(3, "float32"), "bias", "x", "linear")
    Traceback (most recent call last):
    ...
    minidl.errors.DtypeError: linear: bias must have the dtype of x, float32, got float64; convert one of the two, \
such as bias.astype('float32')
    """
    if array.dtype != model.dtype and array.dtype.itemsize != model.dtype.itemsize:  # another byte order is fine
        raise DtypeError(
            f"{op}: {name} must have the dtype of {model_name}, {model.dtype}, got {array.dtype}; convert one of the "
            f"two, such as {name}.astype('{model.dtype}')"
        )


def broadcast_shapes(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a result of operands of two shapes, as ``numpy.broadcast_shapes``, which stops at 32 axes.

    >>> broadcast_shapes((2, 1), (3,))
    (2, 3)

    Raises
    ------
    ValueError
        If they do not broadcast.
    """
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    pairs = list(zip(longer, (1,) * (len(longer) - len(shorter)) + shorter, strict=True))
    if any(m != n and 1 not in (m, n) for m, n in pairs):
        raise ValueError(f"shapes {a} and {b} do not broadcast")
    return tuple(n if m == 1 else m for m, n in pairs)


def widen_float16(x: Array) -> Array:
    """Return float16 as float32, and anything wider as it is.

    A float16 sum overflows (beyond 65504) or loses its eleven bits long before the result of the formula does. Formulas with
    sums or long chains of operations therefore compute in float32 and round once, at the end.

    >>> widen_float16(numpy.ones(2, "float16")).dtype, widen_float16(numpy.ones(2)).dtype
    (dtype('float32'), dtype('float64'))
    """
    return x.astype("float32") if x.dtype.itemsize < 4 else x


def sum_widened(x: Array, axis: Any = None, keepdims: bool = False, divisor: float = 1) -> Array:
    """Return the sum over ``axis``, divided by ``divisor``, in the dtype of x, added in float64.

    NumPy adds pairwise along the fastest axis only. Along any other it adds one row after another, so that the error grows
    with their number.

    >>> x = numpy.full((1_000_000, 2), 0.1, "float32")
    >>> sum_widened(x, axis=0, divisor=1_000_000)
    array([0.1, 0.1], dtype=float32)
    >>> x.sum(axis=0).round(-2) / 1_000_000  # instead of 100,000
    array([0.101, 0.101], dtype=float32)
    """
    if x.dtype.itemsize >= 8:
        total = x.sum(axis=axis, keepdims=keepdims)
        return total if divisor == 1 else total / divisor
    return (x.sum(axis=axis, keepdims=keepdims, dtype="float64") / divisor).astype(x.dtype)


def sum_dtype(x: Array, terms: int) -> Any:
    """Return the dtype in which to add arrays like x one after another: that of x if they are few, else float64.

    >>> sum_dtype(numpy.zeros(1, "float32"), 9), sum_dtype(numpy.zeros(1, "float32"), 10_000)
    (dtype('float32'), dtype('float64'))
    """
    return x.dtype if terms <= 64 or x.dtype.itemsize >= 8 else numpy.dtype("float64")
