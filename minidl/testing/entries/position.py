"""The entry for rotary positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_position
from minidl.testing.spec import SIZES, Arguments, Case, Draw, Generator, OpSpec, Shape, largest, normal

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _drawing(left: int = 0, leading: int | None = 0) -> Draw:
    """Return a draw of x and the tables, which leave so many features as they are, and have so many axes before T; None is all."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        before = shape[:-2] if leading is None else shape[len(shape) - 2 - leading : -2]
        angles = generator.uniform(-3, 3, (*before, shape[-2], max(shape[-1] - left, 0) // 2))
        return normal(generator, shape), numpy.asarray(numpy.cos(angles)), numpy.asarray(numpy.sin(angles))

    return draw


SPECS.append(
    OpSpec(
        name="rotary_embedding",
        differentiable=("x",),
        draw=_drawing(),
        cases=(
            Case("ordinary", (2, 3, 4)),
            Case("interleaved", (2, 3, 4), {"interleaved": True}),
            Case("heads", (2, 2, 2, 4)),
            Case("one position", (2, 1, 2), {"interleaved": True}),
            Case("some features", (2, 3, 7), draw=_drawing(2)),
            Case("some features, interleaved", (3, 7), {"interleaved": True}, draw=_drawing(2)),
            Case("positions of each sequence", (2, 3, 2, 4), draw=_drawing(0, None)),
        ),
        oracle=oracles_position.rotary_embedding,
        sizes={**SIZES, "empty": (0, 3, 4)},
        rank=(2, 4),
        rounding=4,
        magnitude=lambda x, *tables, **options: 2 * largest(x),
        slope=lambda *arguments, **options: 2.0,
    )
)
