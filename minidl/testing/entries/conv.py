"""Entries for convolutions and their adjoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_conv
from minidl.testing.spec import Arguments, Case, Draw, Generator, OpSpec, Shape, normal, typical

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _drawing(kernel: Shape, outputs: int = 2, transposed: bool = False, bias: bool = True) -> Draw:
    """Return a draw of images of the case's shape, and of kernels with this many output channels in each group.

    Channels are added until the groups divide them.
    """

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        groups = options.get("groups", 1)
        shape = (shape[0], -(-shape[1] // groups) * groups, *shape[2:])
        channels = (shape[1], outputs) if transposed else (outputs * groups, shape[1] // groups)
        arguments = normal(generator, shape), normal(generator, (*channels, *kernel))
        return (*arguments, normal(generator, (outputs * groups,))) if bias else arguments

    return draw


def _terms(x: numpy.ndarray, weight: numpy.ndarray, *rest: Any, **options: Any) -> int:
    """Return the number of pixels in a weight's gradient, or of weights in an output, whichever is larger."""
    return max(
        x.shape[0] * math.prod(x.shape[2:]), math.prod(weight.shape[1:]), weight.shape[0] * math.prod(weight.shape[2:])
    )


def _magnitude(x: numpy.ndarray, weight: numpy.ndarray, *rest: Any, **options: Any) -> float:
    return typical(x) * typical(weight) * math.sqrt(math.prod(weight.shape[1:]))


def _slope(x: numpy.ndarray, weight: numpy.ndarray, *rest: Any, **options: Any) -> float:
    return max(typical(x), typical(weight), 1.0)


def _images(transposed: bool) -> tuple[Case, ...]:
    def with_kernel(*kernel: int, outputs: int = 2, bias: bool = True) -> Draw:
        return _drawing(kernel, outputs, transposed, bias)

    both: tuple[Case, ...] = (
        Case("ordinary", (2, 3, 5, 4)),
        Case("no bias", (2, 2, 4, 3), draw=with_kernel(3, 2, bias=False)),
        Case("stride", (1, 2, 7, 6), {"stride": 2, "padding": 1}),
        Case("a stride and a padding for each axis", (1, 2, 6, 7), {"stride": (3, 1), "padding": (0, 2)}),
        Case("a stride beyond the kernel", (1, 2, 7, 8), {"stride": 3}, draw=with_kernel(2, 2)),
        Case("dilation", (1, 2, 7, 8), {"dilation": (2, 3), "padding": 2, "stride": (1, 2)}),
        Case("one pixel", (2, 3, 4, 5), draw=with_kernel(1, 1, outputs=3)),
        Case("one pixel with a stride", (2, 3, 5, 4), {"stride": 2}, draw=with_kernel(1, 1, outputs=3)),
        Case("groups", (2, 4, 5, 4), {"groups": 2, "padding": 1}),
        Case("depthwise", (2, 3, 5, 6), {"groups": 3, "padding": 1}, draw=with_kernel(3, 3, outputs=1)),
        Case("depthwise with a stride", (1, 3, 6, 5), {"groups": 3, "stride": 2}, draw=with_kernel(3, 3, outputs=1)),
    )
    both += (Case("uneven padding", (1, 2, 5, 6), {"padding": ((0, 2), (1, 0)), "stride": 2}),)
    if transposed:
        return (*both, Case("output padding", (1, 2, 3, 4), {"stride": 3, "output_padding": (2, 1), "padding": 1}))
    return (
        *both,
        Case("same", (1, 2, 4, 5), {"padding": "same", "dilation": (1, 2)}, draw=with_kernel(4, 3)),
        Case("same with a stride", (1, 2, 7, 8), {"padding": "same", "stride": (2, 3), "dilation": (2, 1)}),
        Case("same with a stride beyond the kernel", (1, 1, 7, 9), {"padding": "same", "stride": 4}),
        Case(
            "depthwise, same with a stride",
            (1, 3, 6, 5),
            {"groups": 3, "padding": "same", "stride": 2},
            draw=with_kernel(3, 3, outputs=1),
        ),
        Case("valid", (1, 2, 4, 5), {"padding": "valid"}),
    )


def _sequences(transposed: bool) -> tuple[Case, ...]:
    cases = (
        Case("ordinary", (2, 3, 7)),
        Case("stride, padding, dilation", (2, 2, 9), {"stride": 2, "padding": 2, "dilation": 2}),
        Case("groups", (2, 4, 5), {"groups": 2}),
    )
    last = Case("output padding", (1, 2, 4), {"stride": 2, "output_padding": 1})
    if transposed:
        return (*cases, last)
    return (
        *cases,
        Case("same", (1, 2, 5), {"padding": "same"}),
        Case("same with a stride", (1, 2, 6), {"padding": "same", "stride": 2}),
        Case("uneven padding", (1, 2, 6), {"padding": ((3, 0),)}),
    )


def _volumes(transposed: bool) -> tuple[Case, ...]:
    return (
        Case("ordinary", (2, 2, 3, 4, 3)),
        Case(
            "stride, padding, dilation",
            (1, 2, 3, 4, 5),
            {"stride": (1, 2, 1), "padding": (1, 0, 2), "dilation": (2, 1, 1)},
        ),
        Case("groups, same", (1, 4, 2, 3, 4), {"groups": 2, "padding": "same", "stride": (1, 2, 2)}),
    )


for _axes, _cases, _kernel in ((1, _sequences, (3,)), (2, _images, (3, 3)), (3, _volumes, (2, 3, 2))):
    for _transposed in (False, True) if _axes < 3 else (False,):
        SPECS.append(
            OpSpec(
                name=f"conv_transpose{_axes}d" if _transposed else f"conv{_axes}d",
                differentiable=("x", "weight", "bias"),
                operands=("x", "weight"),
                draw=_drawing(_kernel, transposed=_transposed),
                cases=_cases(_transposed),
                oracle=oracles_conv.conv_transpose if _transposed else oracles_conv.conv,
                sizes={
                    "empty": (0, 2, 5, 4, 3)[: _axes + 2],
                    "one": (1, 1, 3, 3, 3)[: _axes + 2],
                    "odd": (3, 5, 7, 9, 4)[: _axes + 2],
                    "large": {1: (3, 37, 1031), 2: (3, 37, 21, 67), 3: (3, 5, 11, 13, 17)}[_axes],
                },
                rank=(_axes + 2, _axes + 2),
                shortest=3,
                terms=_terms,
                rounding=3,
                magnitude=_magnitude,
                slope=_slope,
            )
        )
