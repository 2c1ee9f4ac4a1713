"""Entries for the poolings."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_pool
from minidl.testing.spec import MARGIN, Arguments, Case, Draw, Generator, OpSpec, Shape, normal

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []
TILE = 6
"""Pixels closer than this differ by at least twice the margin."""


def _clear(generator: Generator, shape: Shape) -> numpy.ndarray:
    """Draw images without nearly equal pixels in any window of up to six pixels a side.

    The values in a tile are all different, in an order drawn for each image; tiles repeat, slightly perturbed.
    """
    axes = len(shape) - 2
    levels = TILE**axes
    order = generator.permuted(numpy.tile(numpy.arange(levels), (math.prod(shape[:2]), 1)), axis=1)
    tile = order.reshape((*shape[:2], *(TILE,) * axes))
    image = tile[numpy.ix_(*map(range, shape[:2]), *(numpy.arange(n) % TILE for n in shape[2:]))]
    return 4 * MARGIN * (image - levels / 2) + generator.uniform(-MARGIN, MARGIN, shape)


def _distances(x: numpy.ndarray, *settings: Any, windows: Any = None, **options: Any) -> numpy.ndarray:
    """Return the distance of each pixel from the largest other pixel of its windows, where the maximum has a kink."""
    planes = numpy.moveaxis(x, (0, 1), (-2, -1))  # a pixel of all images at once
    nearest = numpy.full(planes.shape, numpy.inf)
    for _, window in (windows or oracles_pool.windows)(x, *settings, **options):
        inside = [p for p in window if all(0 <= u < n for u, n in zip(p, x.shape[2:], strict=True))]
        for pixel in inside if len(inside) > 1 else []:
            others = numpy.stack([planes[p] for p in inside if p != pixel]).max(axis=0)
            distance = planes[pixel] - others
            nearest[pixel] = numpy.where(abs(distance) < abs(nearest[pixel]), distance, nearest[pixel])
    return numpy.moveaxis(nearest, (-2, -1), (0, 1))


def _pooling(kernel: Any, clear: bool) -> Draw:
    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        return (_clear if clear else normal)(generator, shape), kernel

    return draw


def _terms(x: numpy.ndarray, size: Any, *rest: Any, **options: Any) -> int:
    """Return an upper bound of the pixels in a window, and of the windows of a pixel."""
    return math.prod(x.shape[2:]) if x.size else 1


def _images(clear: bool) -> tuple[Case, ...]:
    """Return the cases that maximum and mean share."""
    return (
        Case("ordinary", (2, 2, 4, 4)),
        Case("overlapping", (1, 2, 5, 6), {"stride": 1}, draw=_pooling(3, clear)),
        Case("padding", (1, 2, 5, 4), {"stride": 2, "padding": 1}, draw=_pooling(3, clear)),
        Case("a kernel, stride and padding for each axis", (1, 2, 7, 6), {"stride": (3, 1), "padding": (0, 1)},
             draw=_pooling((2, 3), clear)),
        Case("a stride beyond the kernel", (1, 1, 8, 7), {"stride": 3}),
        Case("rounded up", (1, 2, 5, 6), {"ceil_mode": True, "stride": 2, "padding": 1}, draw=_pooling((3, 2), clear)),
        Case("rounded up beyond the image", (1, 1, 2, 7), {"ceil_mode": True, "stride": (2, 3)},
             draw=_pooling((3, 2), clear)),
        Case("same", (1, 2, 6, 7), {"padding": "same", "stride": 2}, draw=_pooling((3, 4), clear)),
        Case("uneven padding", (1, 2, 5, 6), {"padding": ((0, 2), (1, 0)), "stride": (2, 1)},
             draw=_pooling((3, 2), clear)),
        Case("uneven padding, rounded up", (1, 1, 6, 6), {"padding": ((0, 1), (2, 0)), "stride": 3, "ceil_mode": True},
             draw=_pooling(3, clear)),
    )  # fmt: skip


def _sequences(clear: bool) -> tuple[Case, ...]:
    return (
        Case("ordinary", (2, 2, 9), draw=_pooling(3, clear)),
        Case("two by two", (2, 2, 8)),
        Case("same", (2, 2, 8), {"padding": "same", "stride": 3}, draw=_pooling(4, clear)),
        Case("stride, padding, rounded up", (2, 2, 8), {"stride": 2, "padding": 1, "ceil_mode": True},
             draw=_pooling(3, clear)),
    )  # fmt: skip


def _adaptive_cases(axes: int, clear: bool) -> tuple[Case, ...]:
    return (
        Case("ordinary", (2, 2, 6, 4)[: axes + 2]),
        Case("overlapping", (1, 2, 7, 5)[: axes + 2], draw=_pooling((5, 3)[:axes], clear)),
        Case("one", (2, 3, 3, 4)[: axes + 2], draw=_pooling(1, clear)),
        Case("enlarged", (1, 2, 3, 2)[: axes + 2], draw=_pooling((5, 4)[:axes], clear)),
        Case("kept", (1, 2, 5, 3)[: axes + 2], draw=_pooling((None, 2)[:axes], clear)),
    )


SIZES = {"empty": (0, 2, 5, 4), "one": (1, 1, 2, 2), "odd": (3, 5, 7, 9), "large": (3, 37, 21, 67)}
VOLUMES = {"empty": (0, 2, 5, 4, 3), "one": (1, 1, 2, 2, 2), "odd": (3, 2, 7, 5, 3), "large": (3, 5, 11, 13, 17)}


def _dilated(axes: int) -> Case:
    options = {"dilation": (2, 3, 1)[:axes], "stride": 1, "padding": 1}
    return Case("dilation", (1, 2, 7, 8, 3)[: axes + 2], options, draw=_pooling((3, 2, 2)[:axes], True))


def _uncounted(axes: int) -> Case:
    options = {"count_include_pad": False, "stride": 2, "padding": 1, "ceil_mode": True}
    return Case("padding not counted", (1, 2, 5, 7, 3)[: axes + 2], options, draw=_pooling((3, 2, 2)[:axes], False))


def _same_uncounted(axes: int) -> Case:
    options = {"count_include_pad": False, "padding": "same", "stride": 2}
    return Case(
        "same, padding not counted", (1, 2, 6, 7, 4)[: axes + 2], options, draw=_pooling((3, 4, 1)[:axes], False)
    )


def _volumes(clear: bool) -> tuple[Case, ...]:
    return (
        Case("ordinary", (2, 2, 3, 4, 2)),
        Case("every pixel by itself", (1, 2, 2, 3, 2), draw=_pooling(1, clear)),
        Case("overlapping, padded", (1, 2, 3, 4, 5), {"stride": (2, 1, 2), "padding": (1, 0, 1)},
             draw=_pooling((2, 3, 2), clear)),
        Case("same, rounded up", (1, 1, 3, 2, 4), {"padding": "same", "stride": 2, "ceil_mode": True},
             draw=_pooling((2, 1, 3), clear)),
    )  # fmt: skip


def _unpooling(kernel: Any, pixels: int, repeated: bool = False, larger: bool = False) -> Draw:
    """Return a draw of x and of indices below ``pixels`` for each pixel of x; each of them once, or not.

    With ``larger`` the images are larger than they need be.
    """

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        count = math.prod(shape[2:])
        rows = [
            generator.integers(0, pixels * count, count) if repeated else generator.permutation(pixels * count)[:count]
            for _ in range(math.prod(shape[:2]))
        ]
        indices = numpy.array(rows, dtype="int64").reshape(shape)
        size = (None, 0, tuple(kernel * n + 1 for n in shape[2:])) if larger else ()
        return normal(generator, shape), indices, kernel, *size

    return draw


for _axes, _cases in ((1, _sequences), (2, _images), (3, _volumes)):
    _sizes = {size: shape[: _axes + 2] for size, shape in (VOLUMES if _axes == 3 else SIZES).items()}
    _sizes |= {"large": (3, 37, 1031)} if _axes == 1 else {}
    _common: dict[str, Any] = {
        "sizes": _sizes, "rank": (_axes + 2, _axes + 2), "shortest": 2, "terms": _terms
    }  # fmt: skip
    SPECS += [
        OpSpec(
            name=f"max_pool{_axes}d",
            differentiable=("x",),
            draw=_pooling(2, True),
            cases=(*_cases(True), _dilated(_axes)),
            oracle=oracles_pool.max_pool,
            kinks=_distances,
            rounding=1,
            **_common,
        ),
        OpSpec(
            name=f"avg_pool{_axes}d",
            differentiable=("x",),
            draw=_pooling(2, False),
            cases=(*_cases(False), _uncounted(_axes), _same_uncounted(_axes)),
            oracle=oracles_pool.avg_pool,
            rounding=4,
            **_common,
        ),
    ]
    if _axes == 3:
        continue
    SPECS += [
        OpSpec(
            name=f"adaptive_avg_pool{_axes}d",
            differentiable=("x",),
            draw=_pooling(2, False),
            cases=_adaptive_cases(_axes, False),
            oracle=oracles_pool.adaptive_avg_pool,
            rounding=6,
            **_common,
        ),
        OpSpec(
            name=f"adaptive_max_pool{_axes}d",
            differentiable=("x",),
            draw=_pooling(2, True),
            cases=_adaptive_cases(_axes, True),
            oracle=oracles_pool.adaptive_max_pool,
            kinks=functools.partial(_distances, windows=oracles_pool.adaptive_windows),
            rounding=1,
            **_common,
        ),
        OpSpec(
            name=f"max_unpool{_axes}d",
            differentiable=("x",),
            draw=_unpooling(2, 2**_axes),
            cases=(
                Case("ordinary", (2, 2, 3, 4)[: _axes + 2]),
                Case("overlapping", (1, 2, 4, 5)[: _axes + 2], {"stride": 1}, draw=_unpooling(3, 1)),
                Case("padding", (2, 1, 3, 4)[: _axes + 2], {"padding": 1, "stride": 2}, draw=_unpooling(3, 1)),
                Case("an index twice", (2, 2, 3, 4)[: _axes + 2], draw=_unpooling(2, 1, repeated=True)),
                Case("a larger image", (1, 2, 2, 3)[: _axes + 2], draw=_unpooling(2, 2**_axes, larger=True)),
            ),
            oracle=oracles_pool.max_unpool,
            rounding=1,
            **_common
            | {"sizes": {**_sizes, "empty": (0, 2, 3, 2)[: _axes + 2]}, "terms": lambda *arguments, **options: 1},
        ),
    ]
