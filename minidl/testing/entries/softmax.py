"""Entries for softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.testing import oracles
from minidl.testing.spec import (
    SIZES,
    Arguments,
    Case,
    Generator,
    OpSpec,
    Shape,
    largest,
    normal,
    nothing,
    one,
)

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _draw_scores(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    return (normal(generator, shape),)


for _name in ("softmax", "log_softmax"):
    SPECS.append(
        OpSpec(
            name=_name,
            differentiable=("x",),
            draw=_draw_scores,
            cases=(
                Case("ordinary", (3, 4)),
                Case("vector", (5,)),
                Case("first axis", (3, 4), {"axis": 0}),
                Case("middle axis", (2, 3, 2), {"axis": 1}),
                Case("one class", (3, 1)),
            ),
            oracle=getattr(oracles, _name),
            sizes=SIZES,
            rank=(1, 4),
            shortest=1,
            terms=lambda x, axis=-1: x.shape[axis],
            rounding=24,  # exp magnifies the rounding of x - max by its size, up to 15 here
            magnitude=largest if _name == "log_softmax" else nothing,
            slope=one,
        )
    )
