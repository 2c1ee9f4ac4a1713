"""Entries for elementwise ops: activations, each made by its oracle, and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy

from minidl.testing import oracles
from minidl.testing.spec import SIZES, Arguments, Case, Draw, Generator, OpSpec, Shape, clear_of, largest, normal, one

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []

Oracle = Callable[..., float]


def _elementwise(
    *cases: Case,
    limits: tuple[float, float],
    kinks: tuple[float, ...] | Callable[..., tuple[float, ...]] = (),
    centre: float = 0.0,
    shape: Shape = (3, 4),
    rounding: float = 8.0,
) -> Callable[[Oracle], Oracle]:
    """Add the op that the decorated oracle is named after, a function of one number and scalar options.

    Parameters
    ----------
    *cases : Case
        Those besides the ones that every such op has.
    limits : tuple of two floats
        y at minus and plus infinity, with default options.
    kinks : tuple of float, or callable
        Where the derivative jumps, or the next one does; a function if options move it.
    centre : float, default 0.0
        About which x is drawn.
    shape : tuple of int, default (3, 4)
        Of the ordinary case, which should have elements on all sides of the kinks.
    rounding : float, default 8.0
        As in :class:`OpSpec`.
    """

    def kinks_with(options: Mapping[str, Any]) -> tuple[float, ...]:
        return kinks(**options) if callable(kinks) else kinks

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        return (clear_of(centre + normal(generator, shape), *kinks_with(options)),)

    def distance(x: numpy.ndarray, **options: Any) -> numpy.ndarray:
        distances = numpy.stack([x - kink for kink in kinks_with(options)])
        return numpy.take_along_axis(distances, abs(distances).argmin(axis=0)[None], 0)[0]

    def add(oracle: Oracle) -> Oracle:
        SPECS.append(
            OpSpec(
                name=oracle.__name__,
                differentiable=("x",),
                draw=draw,
                cases=(Case("ordinary", shape), Case("scalar", ()), Case("images", (2, 1, 2, 3)), *cases),
                oracle=oracles.each(oracle),
                sizes=SIZES,
                kinks=distance if kinks else None,
                elementwise=True,
                slope=one,
                limits=limits,
                rounding=rounding,
            )
        )
        return oracle

    return add


@_elementwise(limits=(0.0, math.inf), kinks=(0.0,), rounding=1)
def relu(x: float) -> float:
    """Return max(x, 0)."""
    return x if x > 0 else 0.0


@_elementwise(Case("steep", (3, 4), {"negative_slope": 0.3}), limits=(-math.inf, math.inf), kinks=(0.0,), rounding=2)
def leaky_relu(x: float, negative_slope: float = 0.01) -> float:
    """Return x for x > 0, else negative_slope x."""
    return x if x > 0 else negative_slope * x


@_elementwise(limits=(0.0, 6.0), kinks=(0.0, 6.0), centre=3.0, shape=(5, 6), rounding=1)
def relu6(x: float) -> float:
    """Return min(max(x, 0), 6)."""
    return 0.0 if x < 0 else 6.0 if x > 6 else x


@_elementwise(limits=(0.0, 1.0))
def sigmoid(x: float) -> float:
    """Return 1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x))


@_elementwise(limits=(-1.0, 1.0))
def tanh(x: float) -> float:
    """Return (exp(2x) - 1) / (exp(2x) + 1), with expm1 for the difference."""
    return math.expm1(2 * x) / (math.expm1(2 * x) + 2)


def _at_threshold(beta: float = 1.0, threshold: float = 20.0) -> tuple[float, ...]:
    return (threshold / beta,)


@_elementwise(
    Case("sharp", (3, 4), {"beta": 3.0}),
    Case("low threshold", (3, 4), {"beta": 2.0, "threshold": 1.5}),
    limits=(0.0, math.inf),
    kinks=_at_threshold,
    rounding=24,  # exp(beta x) magnifies the rounding of beta x by its size
)
def softplus(x: float, beta: float = 1.0, threshold: float = 20.0) -> float:
    """Return log(1 + exp(beta x)) / beta."""
    return x if beta * x > threshold else math.log1p(math.exp(beta * x)) / beta


@_elementwise(Case("alpha", (3, 4), {"alpha": 1.7}), limits=(-1.0, math.inf), kinks=(0.0,))
def elu(x: float, alpha: float = 1.0) -> float:
    """Return x for x > 0, else alpha (exp(x) - 1)."""
    return x if x > 0 else alpha * math.expm1(x)


@_elementwise(
    Case("tanh", (3, 4), {"approximate": "tanh"}),
    limits=(math.nan, math.inf),  # minus infinity times zero
    rounding=64,  # in the tail exp(-x^2/2) magnifies the rounding of x by x^2, up to 60 here
)
def gelu(x: float, approximate: str = "none") -> float:
    """Return x times the normal distribution function, from the C library's erfc or from the tanh approximation."""
    if approximate == "none":
        return x * 0.5 * math.erfc(-x / math.sqrt(2))
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * 0.5 * (1 + math.tanh(inner))


@_elementwise(limits=(math.nan, math.inf), rounding=12)
def silu(x: float) -> float:
    """Return x / (1 + exp(-x))."""
    return x / (1 + math.exp(-x))


@_elementwise(limits=(math.nan, math.inf), rounding=12)
def quick_gelu(x: float) -> float:
    """Return x / (1 + exp(-1.702 x))."""
    return x / (1 + math.exp(-1.702 * x))


@_elementwise(limits=(math.nan, math.inf), kinks=(-3.0, 3.0), shape=(5, 6))  # minus infinity times zero
def hardswish(x: float) -> float:
    """Return 0 up to -3, x from 3 on, and x (x + 3) / 6 between."""
    return 0.0 if x <= -3 else x if x >= 3 else x * (x + 3) / 6


@_elementwise(limits=(0.0, 1.0), kinks=(-3.0, 3.0), shape=(5, 6))
def hardsigmoid(x: float) -> float:
    """Return 0 up to -3, 1 from 3 on, and x / 6 + 1 / 2 between."""
    return 0.0 if x <= -3 else 1.0 if x >= 3 else (x + 3) / 6


def _at_bounds(min_val: float = -1.0, max_val: float = 1.0) -> tuple[float, ...]:
    return (min_val, max_val)


@_elementwise(
    Case("wide", (5, 6), {"min_val": -2.5, "max_val": 0.75}),
    Case("below a bound", (5, 6), {"min_val": -4.0, "max_val": 0.5}),
    limits=(-1.0, 1.0),
    kinks=_at_bounds,
    rounding=1,
)
def hardtanh(x: float, min_val: float = -1.0, max_val: float = 1.0) -> float:
    """Return the number in the middle."""
    return sorted((min_val, x, max_val))[1]


@_elementwise(limits=(math.nan, math.nan), kinks=(0.0,))  # infinity over infinity, as in PyTorch
def softsign(x: float) -> float:
    """Return the quotient of the exact numbers, rounded once."""
    return float(Fraction(x) / (1 + abs(Fraction(x))))


@_elementwise(limits=(math.nan, math.inf))  # minus infinity times zero
def mish(x: float) -> float:
    """Return x tanh(log(1 + exp(x)))."""
    return x * math.tanh(math.log1p(math.exp(x)))


@_elementwise(limits=(-1.0507009873554804934 * 1.6732632423543772848, math.inf), kinks=(0.0,))
def selu(x: float) -> float:
    """Return s x for x > 0, else s a (exp(x) - 1)."""
    return 1.0507009873554804934 * (x if x > 0 else 1.6732632423543772848 * math.expm1(x))


@_elementwise(Case("alpha", (3, 4), {"alpha": 0.5}), limits=(-1.0, math.inf), kinks=(0.0,))
def celu(x: float, alpha: float = 1.0) -> float:
    """Return x for x > 0, else alpha (exp(x / alpha) - 1)."""
    return x if x > 0 else alpha * math.expm1(x / alpha)


def _drawing_slopes(each: bool = True) -> Draw:
    """Return a draw of x and a slope for each channel, or one for all where there are no channels or it is wanted."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        slopes = shape[1:2] if each and len(shape) > 1 else (1,)
        return clear_of(normal(generator, shape), 0.0), normal(generator, slopes, 0.5)

    return draw


def _prelu(x: numpy.ndarray, weight: numpy.ndarray) -> numpy.ndarray:
    """Return x for x > 0, else w x with the w of the channel or of all."""
    y = numpy.empty(x.shape)
    for index in numpy.ndindex(*x.shape):
        w = float(weight[index[1] if len(weight) > 1 else 0])
        y[index] = x[index] if x[index] > 0 else w * float(x[index])
    return y


SPECS.append(
    OpSpec(
        name="prelu",
        differentiable=("x", "weight"),
        draw=_drawing_slopes(),
        cases=(
            Case("ordinary", (5, 3)),
            Case("images", (2, 3, 2, 4)),
            Case("sequences", (2, 3, 5)),
            Case("one slope", (3, 4), draw=_drawing_slopes(each=False)),
            Case("one slope for images", (2, 3, 2, 2), draw=_drawing_slopes(each=False)),
            Case("vector", (6,)),
            Case("scalar", ()),
        ),
        oracle=_prelu,
        sizes=SIZES,
        kinks=lambda x, weight: x,
        elementwise=True,
        terms=lambda x, weight: max(x.size // max(len(weight), 1), 1),
        slope=lambda x, weight: max(1.0, largest(x)),
        rounding=4,
    )
)


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
