"""Independent results for convolutions: the sums of their definitions, one output element at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy

__all__ = ["conv", "conv_transpose"]


def _each(value: Any, axes: int) -> Sequence[Any]:
    return (value,) * axes if isinstance(value, int) else value


def conv(
    x: numpy.ndarray,
    weight: numpy.ndarray,
    bias: numpy.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> numpy.ndarray:
    """Sum weight times pixel over the pixels of each window that lie inside the image.

    >>> conv(numpy.array([[[1.0, 2.0, 4.0]]]), numpy.array([[[1.0, 10.0]]]), padding="same")
    array([[[21., 42.,  4.]]])
    """
    axes, kernel = x.ndim - 2, weight.shape[2:]
    steps, spread = _each(stride, axes), _each(dilation, axes)
    if padding == "same":  # outputs at every step-th pixel, what the last of them lacks shared by both sides
        output = tuple(len(range(0, n, s)) for n, s in zip(x.shape[2:], steps, strict=True))
        before = [
            max(s * (m - 1) + d * (k - 1) - (n - 1), 0) // 2
            for n, m, d, k, s in zip(x.shape[2:], output, spread, kernel, steps, strict=True)
        ]
    else:
        sides = [p if isinstance(p, tuple) else (p, p) for p in _each(0 if padding == "valid" else padding, axes)]
        before = [p for p, _ in sides]
        output = tuple(
            len(range(-p, n + q - d * (k - 1), s))
            for n, (p, q), d, k, s in zip(x.shape[2:], sides, spread, kernel, steps, strict=True)
        )
    y = numpy.zeros((x.shape[0], weight.shape[0], *output))
    inputs, outputs = weight.shape[1], weight.shape[0] // groups
    for n, o, *at in itertools.product(*map(range, y.shape)):
        total = 0.0 if bias is None else float(bias[o])
        for c, *k in itertools.product(*map(range, weight.shape[1:])):
            seen = [a * s + i * d - p for a, s, i, d, p in zip(at, steps, k, spread, before, strict=True)]
            if all(0 <= u < size for u, size in zip(seen, x.shape[2:], strict=True)):
                one, pixel = (o, c, *k), (n, o // outputs * inputs + c, *seen)
                total += float(weight[one]) * float(x[pixel])
        result = n, o, *at
        y[result] = total
    return y


def conv_transpose(
    x: numpy.ndarray,
    weight: numpy.ndarray,
    bias: numpy.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> numpy.ndarray:
    """Add weight times pixel to every output that the pixel reaches.

    >>> conv_transpose(numpy.array([[[1.0, 2.0]]]), numpy.array([[[1.0, 10.0]]]), stride=2, output_padding=1)
    array([[[ 1., 10.,  2., 20.,  0.]]])
    """
    axes, kernel = x.ndim - 2, weight.shape[2:]
    steps, spread, around, extra = (_each(v, axes) for v in (stride, dilation, padding, output_padding))
    sides: list[Any] = [p if isinstance(p, tuple) else (p, p) for p in around]
    before = [p for p, _ in sides]
    output = tuple(
        (n - 1) * s - p - q + d * (k - 1) + 1 + e
        for n, s, (p, q), d, k, e in zip(x.shape[2:], steps, sides, spread, kernel, extra, strict=True)
    )
    inputs, outputs = x.shape[1] // groups, weight.shape[1]
    y = numpy.zeros((x.shape[0], outputs * groups, *output))
    for n, c, *at in itertools.product(*map(range, x.shape)):
        pixel = n, c, *at
        for o, *k in itertools.product(range(outputs), *map(range, kernel)):
            to = [a * s + i * d - p for a, s, i, d, p in zip(at, steps, k, spread, before, strict=True)]
            if all(0 <= u < size for u, size in zip(to, output, strict=True)):
                result, one = (n, c // inputs * outputs + o, *to), (c, o, *k)
                y[result] += float(weight[one]) * float(x[pixel])
    return y if bias is None else y + bias.reshape((-1,) + (1,) * axes)
