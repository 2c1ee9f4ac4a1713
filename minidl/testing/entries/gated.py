"""Entries for gated units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.testing import oracles
from minidl.testing.spec import Arguments, Case, Generator, OpSpec, Shape, largest, normal

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    axis = options.get("axis", -1) % len(shape)
    return (normal(generator, tuple(n + n % 2 if i == axis else n for i, n in enumerate(shape))),)


SPECS.append(
    OpSpec(
        name="glu",
        differentiable=("x",),
        draw=_draw,
        cases=(
            Case("ordinary", (3, 4)),
            Case("vector", (6,)),
            Case("first axis", (4, 3), {"axis": 0}),
            Case("channels", (2, 4, 3), {"axis": 1}),
            Case("images", (2, 4, 2, 3), {"axis": -3}),
        ),
        oracle=oracles.glu,
        sizes={"empty": (0, 4), "one": (1, 2), "odd": (7, 5, 6), "large": (33, 2050)},
        rank=(1, 4),
        shortest=1,
        magnitude=largest,
        slope=lambda x, axis=-1: max(1.0, largest(x)),
    )
)
