"""Entries for elementwise ops: activations and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy

from minidl.testing import oracles
from minidl.testing.spec import (
    SIZES,
    Arguments,
    Case,
    Draw,
    Generator,
    OpSpec,
    Shape,
    clear_of,
    normal,
    one,
)

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _elementwise(
    name: str,
    *cases: Case,
    limits: tuple[float, float],
    kink: Callable[..., float] | None = None,
    rounding: float = 8.0,
) -> None:
    """Add an op of one array and scalar options, with at most one kink."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        x = normal(generator, shape)
        return (clear_of(x, kink(**options)) if kink else x,)

    def distance(x: numpy.ndarray, **options: Any) -> numpy.ndarray:
        return x - kink(**options)  # type: ignore[misc]

    SPECS.append(
        OpSpec(
            name=name,
            differentiable=("x",),
            draw=draw,
            cases=(Case("ordinary", (3, 4)), Case("scalar", ()), Case("images", (2, 1, 2, 3)), *cases),
            oracle=getattr(oracles, name),
            sizes=SIZES,
            kinks=distance if kink else None,
            elementwise=True,
            slope=one,
            limits=limits,
            rounding=rounding,
        )
    )


def _at_zero(**options: Any) -> float:
    return 0.0


def _at_threshold(beta: float = 1.0, threshold: float = 20.0) -> float:
    return threshold / beta


_elementwise("relu", limits=(0.0, math.inf), kink=_at_zero, rounding=1)
_elementwise(
    "leaky_relu",
    Case("steep", (3, 4), {"negative_slope": 0.3}),
    limits=(-math.inf, math.inf),
    kink=_at_zero,
    rounding=2,
)


def _draw_about_three(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw on both sides of 0 and of 6."""
    return (clear_of(3 + normal(generator, shape), 0.0, 6.0),)


SPECS.append(
    OpSpec(
        name="relu6",
        differentiable=("x",),
        draw=_draw_about_three,
        cases=(Case("ordinary", (5, 6)), Case("scalar", ()), Case("images", (2, 2, 3, 5))),
        oracle=oracles.relu6,
        sizes=SIZES,
        kinks=lambda x: numpy.minimum(abs(x), abs(x - 6)),
        elementwise=True,
        slope=one,
        limits=(0.0, 6.0),
        rounding=1,
    )
)
_elementwise("sigmoid", limits=(0.0, 1.0))
_elementwise("tanh", limits=(-1.0, 1.0))
_elementwise(
    "softplus",
    Case("sharp", (3, 4), {"beta": 3.0}),
    Case("low threshold", (3, 4), {"beta": 2.0, "threshold": 1.5}),
    limits=(0.0, math.inf),
    kink=_at_threshold,
    rounding=24,  # exp(beta x) magnifies the rounding of beta x by its size
)
_elementwise("elu", Case("alpha", (3, 4), {"alpha": 1.7}), limits=(-1.0, math.inf), kink=_at_zero)
_elementwise(
    "gelu",
    Case("tanh", (3, 4), {"approximate": "tanh"}),
    limits=(math.nan, math.inf),  # minus infinity times zero
    rounding=64,  # in the tail exp(-x^2/2) magnifies the rounding of x by x^2, up to 60 here
)
_elementwise("silu", limits=(math.nan, math.inf), rounding=12)


def _draw_dropout(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    return normal(generator, shape), 0.3, generator.random(shape) >= 0.3


def _draw_dropping(p: float) -> Draw:
    return lambda generator, shape, options: (normal(generator, shape), p, generator.random(shape) >= p)


SPECS.append(
    OpSpec(
        name="dropout",
        differentiable=("x",),
        draw=_draw_dropout,
        cases=(
            Case("ordinary", (3, 4)),
            Case("nothing", (3, 4), draw=_draw_dropping(0.0)),
            Case("everything", (3, 4), draw=_draw_dropping(1.0)),
        ),
        oracle=oracles.dropout,
        sizes=SIZES,
        elementwise=True,
        slope=one,
        rounding=4,
    )
)
