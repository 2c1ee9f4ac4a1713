"""Independent results for pooling: windows listed pixel by pixel, one output element at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy

__all__ = [
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "adaptive_windows",
    "avg_pool",
    "max_pool",
    "max_unpool",
    "windows",
]

Pixels = list[tuple[int, ...]]


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes


def _around(padding: Any, image: tuple[int, ...], kernels: Any, strides: Any, dilations: Any) -> list[tuple[int, int]]:
    """List what each axis has before and after it."""
    if padding == "same":  # a window for every stride-th pixel, what the last of them lacks shared by both sides
        axes = zip(image, kernels, strides, dilations, strict=True)
        lacking = [max((len(range(0, n, s)) - 1) * s + (k - 1) * d - (n - 1), 0) for n, k, s, d in axes]
        return [(lack // 2, (lack + 1) // 2) for lack in lacking]
    sides = _each(0 if padding == "valid" else padding, len(image))
    return [p if isinstance(p, tuple) else (p, p) for p in sides]


def _along(
    n: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, ceil_mode: bool
) -> list[list[int]]:
    """List the positions that each window covers along an axis; those below 0 or from n on are outside the image."""
    found: list[list[int]] = []
    before, after = padding
    for start in itertools.count(-before, stride):
        window = [start + i * dilation for i in range(kernel)]
        inside = window[-1] < n + after
        reached = found and found[-1][-1] >= n + after - 1
        if not inside and not (ceil_mode and not reached and start < n):
            return found
        found.append(window)
    return found


def windows(
    x: numpy.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    **others: Any,
) -> Iterator[tuple[tuple[int, ...], Pixels]]:
    """Yield each output position with the positions that its window covers, inside and outside the image.

    >>> list(windows(numpy.zeros((1, 1, 3)), 2, padding=1))
    [((0,), [(-1,), (0,)]), ((1,), [(1,), (2,)])]
    """
    axes = x.ndim - 2
    settings = (kernel_size, kernel_size if stride is None else stride, dilation)
    kernels, strides, dilations = (_each(value, axes) for value in settings)
    paddings = _around(padding, x.shape[2:], kernels, strides, dilations)
    per_axis = [
        _along(n, k, s, p, d, ceil_mode)
        for n, k, s, p, d in zip(x.shape[2:], kernels, strides, paddings, dilations, strict=True)
    ]
    for at in itertools.product(*(range(len(found)) for found in per_axis)):
        yield at, list(itertools.product(*(found[i] for found, i in zip(per_axis, at, strict=True))))


def _pool(x: numpy.ndarray, found: list[tuple[tuple[int, ...], Any]], value: Any) -> numpy.ndarray:
    """Return an array of ``value(image, window)`` for every window of every image."""
    y = numpy.empty((*x.shape[:2], *(1 + max(at[axis] for at, _ in found) for axis in range(x.ndim - 2))))
    for n, c in itertools.product(*map(range, x.shape[:2])):
        for at, window in found:
            result = n, c, *at
            y[result] = value(x[n, c], window)
    return y


def _pixels_inside(image: numpy.ndarray, window: Pixels) -> list[float]:
    return [float(image[p]) for p in window if all(0 <= u < n for u, n in zip(p, image.shape, strict=True))]


def max_pool(x: numpy.ndarray, *settings: Any, **options: Any) -> numpy.ndarray:
    """Take the largest pixel that lies inside the image.

    >>> max_pool(numpy.array([[[1.0, 4.0, 2.0]]]), 2, ceil_mode=True)
    array([[[4., 2.]]])
    """
    return _pool(
        x, list(windows(x, *settings, **options)), lambda image, w: max(_pixels_inside(image, w), default=-math.inf)
    )


def avg_pool(
    x: numpy.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> numpy.ndarray:
    """Take the mean over the pixels inside the image, or over those and the zeros around it.

    >>> avg_pool(numpy.array([[[1.0, 4.0, 2.0]]]), 2, padding=1, ceil_mode=True)
    array([[[0.5, 3. ]]])
    """
    axes = x.ndim - 2
    steps = _each(kernel_size if stride is None else stride, axes)
    around = _around(padding, x.shape[2:], _each(kernel_size, axes), steps, (1,) * axes)

    def value(image: numpy.ndarray, window: Pixels) -> float:
        pixels = _pixels_inside(image, window)
        if not count_include_pad:
            return math.fsum(pixels) / len(pixels)
        padded = zip(image.shape, around, strict=True)
        limits = [n + after for n, (_, after) in padded]
        return math.fsum(pixels) / sum(all(u < n for u, n in zip(p, limits, strict=True)) for p in window)

    return _pool(x, list(windows(x, kernel_size, stride, padding, 1, ceil_mode)), value)


def _adaptive(x: numpy.ndarray, output_size: Any) -> list[tuple[tuple[int, ...], Pixels]]:
    """List each output position with every pixel that a window n / m wide touches."""
    sizes = [n if m is None else m for n, m in zip(x.shape[2:], _each(output_size, x.ndim - 2), strict=True)]
    per_axis = [
        [[u for u in range(n) if (u + 1) * m > i * n and u * m < (i + 1) * n] for i in range(m)]
        for n, m in zip(x.shape[2:], sizes, strict=True)
    ]
    found = []
    for at in itertools.product(*map(range, sizes)):
        found.append((at, list(itertools.product(*(w[i] for w, i in zip(per_axis, at, strict=True))))))
    return found


def adaptive_avg_pool(x: numpy.ndarray, output_size: Any) -> numpy.ndarray:
    """Take the mean over every pixel that a window n / m wide touches.

    >>> adaptive_avg_pool(numpy.array([[[1.0, 4.0, 2.0]]]), 2)
    array([[[2.5, 3. ]]])
    """
    return _pool(x, _adaptive(x, output_size), lambda image, w: math.fsum(_pixels_inside(image, w)) / len(w))


def adaptive_max_pool(x: numpy.ndarray, output_size: Any) -> numpy.ndarray:
    """Take the largest pixel that a window n / m wide touches.

    >>> adaptive_max_pool(numpy.array([[[1.0, 4.0, 2.0]]]), 2)
    array([[[4., 4.]]])
    """
    return _pool(x, _adaptive(x, output_size), lambda image, w: max(_pixels_inside(image, w)))


def max_unpool(
    x: numpy.ndarray,
    indices: numpy.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> numpy.ndarray:
    """Write one element after the other into an image of zeros.

    >>> max_unpool(numpy.array([[[4.0, 3.0]]]), numpy.array([[[1, 2]]]), 2)
    array([[[0., 4., 3., 0.]]])
    """
    axes = x.ndim - 2
    kernels, strides = _each(kernel_size, axes), _each(kernel_size if stride is None else stride, axes)
    sides = _around(padding, x.shape[2:], kernels, strides, (1,) * axes)
    ends = zip(x.shape[2:], strides, kernels, sides, strict=True)
    least = [range(-before, m * s - before, s)[-1] + k - after for m, s, k, (before, after) in ends]
    y = numpy.zeros((*x.shape[:2], *(output_size or least)))
    for at in itertools.product(*map(range, x.shape)):
        y[(*at[:2], *numpy.unravel_index(indices[at], y.shape[2:]))] = x[at]
    return y


def adaptive_windows(x: numpy.ndarray, output_size: Any, **others: Any) -> Iterator[tuple[tuple[int, ...], Pixels]]:
    """Yield each output position with the positions that its window covers."""
    yield from _adaptive(x, output_size)
