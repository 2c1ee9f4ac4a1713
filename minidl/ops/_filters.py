"""Resampling by filters: along an axis, each pixel of y is a weighted sum of some pixels of x, its taps."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy

from minidl.ops._checks import sum_dtype
from minidl.ops._namespace import Array, namespace
from minidl.ops._resampling import Scale
from minidl.ops._runs import reshape_along, sum_runs

__all__ = ["FILTERS", "cubic", "filter_axis", "filter_axis_back", "triangle"]


def triangle(distance: Array) -> Array:
    """Return the weight of linear interpolation, 1 - abs(distance) up to a distance of 1.

    >>> triangle(numpy.array([-0.25, 0.5, 2.0]))
    array([0.75, 0.5 , 0.  ])
    """
    xp = namespace(distance)
    return xp.maximum(1 - xp.abs(distance), 0)


def cubic(distance: Array, a: float = -0.75) -> Array:
    """Return the weight of cubic convolution, whose slope at a distance of 1 is a.

    >>> cubic(numpy.array([-1.5, -0.5, 0.5, 1.5]))
    array([-0.09375,  0.59375,  0.59375, -0.09375])
    """
    xp = namespace(distance)
    d = xp.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * a
    return xp.where(d <= 1, near, xp.where(d < 2, far, 0))


FILTERS: dict[str, tuple[Any, int]] = {"triangle": (triangle, 1), "cubic": (functools.partial(cubic, a=-0.5), 2)}
"""The filters of resampling with ``antialias``, and their radius; the cubic one has Pillow's a, which PyTorch takes here too."""

Tap = tuple[Array, Array, Array]
"""For every pixel of y: the pixel of x that it reads, the weight of that, and whether there is such a pixel."""


def _interpolating(xp: Any, scale: Scale, align_corners: bool) -> Iterator[Tap]:
    """Yield the four taps of cubic convolution; beyond the edges, the pixel at the edge is read."""
    i = xp.arange(scale.after, dtype="float64")
    aligned = (scale.before - 1) / max(scale.after - 1, 1)
    at = i * aligned if align_corners else (i + 0.5) * scale.step - 0.5
    first = xp.floor(at) - 1
    for k in range(4):
        source = xp.clip(first + k, 0, scale.before - 1).astype("int64")
        yield source, cubic(at - (first + k)), source >= 0


def _averaging(xp: Any, scale: Scale, align_corners: bool, name: str) -> Iterator[Tap]:
    """Yield the taps of a filter that is widened by the step, if that is more than a pixel, and whose weights add up to 1."""
    aligned = (scale.before - 1) / (scale.after - 1) if scale.after > 1 else 0.0
    step = aligned if align_corners else scale.step
    weigh, radius = FILTERS[name]
    width = max(step, 1.0)
    centre = (xp.arange(scale.after, dtype="float64") + 0.5) * step
    first = xp.maximum(xp.floor(centre - radius * width + 0.5), 0)
    stop = xp.minimum(xp.floor(centre + radius * width + 0.5), scale.before)
    taps = []
    for k in range(min(2 * math.ceil(radius * width) + 1, scale.before)):
        inside = first + k < stop
        taps.append((first + k, xp.where(inside, weigh((first + k + 0.5 - centre) / width), 0), inside))
    total = functools.reduce(lambda a, b: a + b, (weights for _, weights, _ in taps))
    for sources, weights, inside in taps:
        yield sources.astype("int64"), weights / total, inside


def _taps(xp: Any, scale: Scale, align_corners: bool, antialias: str) -> list[Tap]:
    """Return the taps of cubic convolution, or with ``antialias`` those of the filter of this name."""
    if antialias:
        return list(_averaging(xp, scale, align_corners, antialias))
    return list(_interpolating(xp, scale, align_corners))


@functools.lru_cache(maxsize=256)
def _most_readers(scale: Scale, align_corners: bool, antialias: str) -> int:
    """Return how many pixels of y read the same pixel of x as the same tap, at most."""
    taps = _taps(numpy, scale, align_corners, antialias)
    return max(int(numpy.bincount(sources[inside], minlength=1).max()) for sources, _, inside in taps)


def filter_axis(x: Array, axis: int, scale: Scale, align_corners: bool, antialias: str = "") -> Array:
    """Return the weighted sums along an axis: y_i = sum over the taps k of w_ik x_s(i,k)."""
    xp = namespace(x)
    taps = _taps(xp, scale, align_corners, antialias)
    shape = tuple(scale.after if a == axis else n for a, n in enumerate(x.shape))
    y = xp.zeros(shape, dtype=sum_dtype(x, len(taps)))
    for sources, weights, inside in taps:
        w, there = (reshape_along(v, axis, x.ndim) for v in (weights.astype(y.dtype), inside))
        y += xp.where(there, xp.take(x, xp.minimum(sources, scale.before - 1), axis=axis) * w, 0)
    return y.astype(x.dtype, copy=False)


def filter_axis_back(dy: Array, axis: int, scale: Scale, align_corners: bool, antialias: str = "") -> Array:
    """Return the transpose of :func:`filter_axis`: dx_u = sum of w_ik dy_i over all i and k with s(i, k) = u.

    For each tap the sources never decrease, so the i that read a pixel are a run of neighbours.
    """
    xp = namespace(dy)
    longest = _most_readers(scale, align_corners, antialias)
    taps = _taps(xp, scale, align_corners, antialias)
    each = xp.arange(scale.before)
    shape = tuple(scale.before if a == axis else n for a, n in enumerate(dy.shape))
    dx = xp.zeros(shape, dtype=sum_dtype(dy, len(taps)))
    for sources, weights, inside in taps:
        w, there = (reshape_along(v, axis, dy.ndim) for v in (weights.astype(dy.dtype), inside))
        starts, stops = xp.searchsorted(sources, each), xp.searchsorted(sources, each, side="right")
        dx += sum_runs(xp.where(there, dy * w, 0), axis, starts, stops, longest)
    return dx.astype(dy.dtype, copy=False)
