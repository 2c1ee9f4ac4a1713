"""Sums over runs of neighbours along an axis, for adaptive pooling and the backward of resampling."""

from __future__ import annotations

from minidl.ops._checks import sum_dtype
from minidl.ops._namespace import Array, namespace

__all__ = ["reshape_along", "sum_runs"]


def reshape_along(values: Array, axis: int, ndim: int) -> Array:
    """Reshape a vector to ``ndim`` axes, of which it lies along ``axis``."""
    return values.reshape(tuple(-1 if a == axis else 1 for a in range(ndim)))


def sum_runs(x: Array, axis: int, starts: Array, stops: Array, longest: int) -> Array:
    """Sum over runs of neighbours along an axis.

    In elements::

        y_i = sum of x_u over starts_i <= u < stops_i

    Runs may overlap, differ in length and be empty; ``longest`` is the length of the longest. Elements outside a run have no
    effect on its sum, whatever their values.

    >>> import numpy
    >>> x = numpy.array([1.0, 10.0, numpy.inf])
    >>> sum_runs(x, 0, numpy.array([0, 1, 1]), numpy.array([2, 2, 1]), 2)
    array([11., 10.,  0.])
    """
    xp = namespace(x)
    shape = tuple(len(starts) if a == axis else n for a, n in enumerate(x.shape))
    y = xp.zeros(shape, dtype=sum_dtype(x, longest))
    for step in range(longest):
        at = starts + step
        seen = xp.take(x, xp.minimum(at, x.shape[axis] - 1), axis=axis)
        y += xp.where(reshape_along(at < stops, axis, x.ndim), seen, 0)
    return y.astype(x.dtype, copy=False)
