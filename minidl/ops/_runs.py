"""Sums over runs of neighbours along an axis, which adaptive pooling and the way back through a resampling are made of."""

from __future__ import annotations

from minidl.ops._namespace import Array, namespace

__all__ = ["along", "sum_runs"]


def along(values: Array, axis: int, ndim: int) -> Array:
    """Return a vector as an array of so many axes, lying along one of them."""
    return values.reshape(tuple(-1 if a == axis else 1 for a in range(ndim)))


def sum_runs(x: Array, axis: int, starts: Array, stops: Array, longest: int) -> Array:
    r"""Return :math:`y_i = \sum_{\text{starts}_i \le u < \text{stops}_i} x_u` along an axis.

    Runs may overlap, differ in length and be empty; ``longest`` is the length of the longest. Elements outside a run take no
    part in its sum, whatever they are.

    >>> import numpy
    >>> x = numpy.array([1.0, 10.0, numpy.inf])
    >>> sum_runs(x, 0, numpy.array([0, 1, 1]), numpy.array([2, 2, 1]), 2)
    array([11., 10.,  0.])
    """
    xp = namespace(x)
    shape = tuple(len(starts) if a == axis else n for a, n in enumerate(x.shape))
    y = xp.zeros(shape, dtype=x.dtype)
    for step in range(longest):
        at = starts + step
        seen = xp.take(x, xp.minimum(at, x.shape[axis] - 1), axis=axis)
        y += xp.where(along(at < stops, axis, x.ndim), seen, 0)
    return y
