"""Independent results for padding and upsampling: for each element of y, where in x it comes from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy

__all__ = ["dropout2d", "pad", "upsample_bicubic", "upsample_bilinear", "upsample_nearest", "upsample_nearest_exact"]

_SOURCES: dict[str, Callable[[int, int], int]] = {
    "reflect": lambda i, n: -i if i < 0 else 2 * (n - 1) - i if i >= n else i,
    "replicate": lambda i, n: min(max(i, 0), n - 1),
    "circular": lambda i, n: i % n,
    "constant": lambda i, n: i,
}


def pad(x: numpy.ndarray, padding: Any, mode: str = "constant", value: float = 0.0) -> numpy.ndarray:
    """Look up the source of every element.

    >>> pad(numpy.array([1.0, 2.0, 4.0]), (1, 2), "circular")
    array([4., 1., 2., 4., 1., 2.])
    """
    flat = [padding] * 4 if isinstance(padding, int) else list(padding)
    before, after = [0] * x.ndim, [0] * x.ndim
    for axis, (low, high) in enumerate(zip(flat[::2], flat[1::2], strict=True), start=1):
        before[-axis], after[-axis] = low, high
    y = numpy.empty([n + low + high for n, low, high in zip(x.shape, before, after, strict=True)])
    for at in itertools.product(*map(range, y.shape)):
        source = tuple(_SOURCES[mode](i - low, n) for i, low, n in zip(at, before, x.shape, strict=True))
        y[at] = x[source] if all(0 <= u < n for u, n in zip(source, x.shape, strict=True)) else value
    return y


def _steps(
    image: Sequence[int], size: Any, scale_factor: Any, exact: Callable[[int], Sequence[int]]
) -> list[tuple[int, Fraction]]:
    """Return the length of each axis of y, and the exact step between its pixels.

    For the lengths in ``exact`` the step is the ratio of the lengths, whatever the factor.
    """
    given = scale_factor if size is None else size
    values = given if isinstance(given, (tuple, list)) else [given] * len(image)
    if size is None:
        found = [(n, math.floor(n * f), f) for n, f in zip(image, values, strict=True)]
        return [(m, Fraction(n, m) if m in exact(n) else 1 / Fraction(f)) for n, m, f in found]
    return [(m, Fraction(n, m)) for n, m in zip(image, values, strict=True)]


def _resample(x: numpy.ndarray, per_axis: list[list[list[tuple[int, float]]]]) -> numpy.ndarray:
    """Sum the weighted sources of every element; along each axis these are a list of (position, weight)."""
    y = numpy.zeros((*x.shape[:2], *map(len, per_axis)))
    for n, c, *at in itertools.product(*map(range, y.shape)):
        for sources in itertools.product(*(found[i] for found, i in zip(per_axis, at, strict=True))):
            result, source = (n, c, *at), (n, c, *(u for u, _ in sources))
            y[result] += math.prod(weight for _, weight in sources) * float(x[source])
    return y


def upsample_nearest(x: numpy.ndarray, size: Any = None, scale_factor: Any = None) -> numpy.ndarray:
    """Round positions down.

    >>> upsample_nearest(numpy.array([[[1.0, 2.0]]]), 3)
    array([[[1., 1., 2.]]])
    """
    steps = _steps(x.shape[2:], size, scale_factor, lambda n: (n, 2 * n))
    return _resample(x, [[[(math.floor(i * step), 1.0)] for i in range(m)] for m, step in steps])


def upsample_nearest_exact(x: numpy.ndarray, size: Any = None, scale_factor: Any = None) -> numpy.ndarray:
    """Take the pixel whose square holds the centre.

    >>> upsample_nearest_exact(numpy.array([[[1.0, 2.0, 3.0]]]), 4)
    array([[[1., 2., 2., 3.]]])
    """
    steps = _steps(x.shape[2:], size, scale_factor, lambda n: ())
    sources = [
        [min(math.floor((i + Fraction(1, 2)) * step), n - 1) for i in range(m)]
        for n, (m, step) in zip(x.shape[2:], steps, strict=True)
    ]
    return _resample(x, [[[(u, 1.0)] for u in line] for line in sources])


def _keys(distance: Fraction, a: Fraction) -> Fraction:
    """Return the weight of cubic convolution: the polynomials as they are printed in the paper."""
    d = abs(distance)
    if d >= 2:
        return Fraction(0)
    return (a + 2) * d**3 - (a + 3) * d**2 + 1 if d < 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a


def _averages(
    steps: list[tuple[int, Fraction]], image: Sequence[int], align_corners: bool, weigh: Callable[[Fraction], Fraction]
) -> list[list[list[tuple[int, float]]]]:
    """Weight all pixels of an axis by their distance in units of the step, if that is more than a pixel."""
    per_axis = []
    for n, (m, step) in zip(image, steps, strict=True):
        apart = (Fraction(n - 1, m - 1) if m > 1 else Fraction(0)) if align_corners else step
        found = []
        for i in range(m):
            centre = (i + Fraction(1, 2)) * apart
            weights = [weigh((u + Fraction(1, 2) - centre) / max(apart, Fraction(1))) for u in range(n)]
            total = sum(weights)
            found.append([(u, float(weight / total)) for u, weight in enumerate(weights) if weight])
        per_axis.append(found)
    return per_axis


def upsample_bicubic(
    x: numpy.ndarray,
    size: Any = None,
    scale_factor: Any = None,
    align_corners: bool = False,
    antialias: bool = False,
) -> numpy.ndarray:
    """Weight every pixel that a cubic of radius 2 reaches, those of the edge also for the ones beyond.

    >>> upsample_bicubic(numpy.array([[[0.0, 0.0, 16.0, 16.0]]]), 3, align_corners=True)
    array([[[ 0.,  8., 16.]]])
    """
    image, half = x.shape[2:], Fraction(1, 2)
    steps = _steps(image, size, scale_factor, lambda n: (n,) if antialias else ())
    if antialias:
        return _resample(x, _averages(steps, image, align_corners, lambda d: _keys(d, -half)))
    per_axis = []
    for n, (m, step) in zip(image, steps, strict=True):
        found = []
        for i in range(m):
            position = Fraction(i * (n - 1), max(m - 1, 1)) if align_corners else (i + half) * step - half
            reached = range(math.floor(position) - 3, math.floor(position) + 5)
            weights = [(min(max(u, 0), n - 1), float(_keys(position - u, Fraction(-3, 4)))) for u in reached]
            found.append([(u, weight) for u, weight in weights if weight])
        per_axis.append(found)
    return _resample(x, per_axis)


def upsample_bilinear(
    x: numpy.ndarray,
    size: Any = None,
    scale_factor: Any = None,
    align_corners: bool = False,
    antialias: bool = False,
) -> numpy.ndarray:
    """Weight the pixels on both sides by their nearness, or with ``antialias`` all that a triangle reaches.

    >>> upsample_bilinear(numpy.array([[[0.0, 4.0]]]), scale_factor=2)
    array([[[0., 1., 3., 4.]]])
    """
    per_axis = []
    steps = _steps(x.shape[2:], size, scale_factor, lambda n: (n,))
    if antialias:
        return _resample(x, _averages(steps, x.shape[2:], align_corners, lambda d: max(1 - abs(d), Fraction(0))))
    for n, (m, step) in zip(x.shape[2:], steps, strict=True):
        found = []
        for i in range(m):
            half = Fraction(1, 2)
            position = (
                Fraction(i * (n - 1), max(m - 1, 1)) if align_corners else max((i + half) * step - half, Fraction(0))
            )
            left = math.floor(position)
            found.append([(left, float(1 + left - position)), (min(left + 1, n - 1), float(position - left))])
        per_axis.append(found)
    return _resample(x, per_axis)


def dropout2d(x: numpy.ndarray, p: float, mask: numpy.ndarray) -> numpy.ndarray:
    """Return x / (1 - p) in the channels that the mask keeps, 0 elsewhere."""
    y = numpy.zeros(x.shape)
    for n, c in itertools.product(*map(range, x.shape[:2])):
        if mask[n, c].all() and p < 1:
            y[n, c] = x[n, c] / (1 - p)
    return y
