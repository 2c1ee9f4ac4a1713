"""The parts of a catalogue entry."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl.ops import FORMULAS, Array, namespace

__all__ = [
    "MARGIN",
    "SIZES",
    "Arguments",
    "Case",
    "Draw",
    "Generator",
    "OpSpec",
    "Shape",
    "clear_of",
    "joined",
    "largest",
    "normal",
    "nothing",
    "one",
    "split",
    "typical",
]

Generator = numpy.random.Generator
Shape = tuple[int, ...]
Arguments = tuple[Any, ...]
Draw = Callable[[Generator, Shape, Mapping[str, Any]], Arguments]

MARGIN = 0.05
"""The distance of drawn inputs from a declared kink; 50 times the step of a difference."""

SIZES = {"empty": (0, 3), "one": (1, 1), "odd": (7, 5, 3), "large": (33, 2049)}
"""Shapes for ops of one array; the large one exceeds every block and vector of a kernel, and is not a multiple."""


def nothing(*arguments: Any, **options: Any) -> float:
    """Return 0 for any arguments."""
    return 0.0


def one(*arguments: Any, **options: Any) -> float:
    """Return 1 for any arguments."""
    return 1.0


def typical(x: numpy.ndarray) -> float:
    """Return the root mean square of the elements."""
    return math.sqrt(float(numpy.mean(x * x))) if x.size else 0.0


def largest(x: numpy.ndarray, *others: Any, **options: Any) -> float:
    """Return the largest absolute value in the first argument."""
    return float(numpy.max(numpy.abs(x), initial=0.0))


def normal(generator: Generator, shape: Shape, scale: float = 2.0) -> numpy.ndarray:
    """Draw normal numbers."""
    return numpy.asarray(scale * generator.standard_normal(shape))


def clear_of(x: numpy.ndarray, *kinks: float) -> numpy.ndarray:
    """Move elements that are too close to a kink away from it."""
    for kink in kinks:
        distance = x - kink
        x = numpy.where(numpy.abs(distance) < 2 * MARGIN, kink + 3 * numpy.copysign(MARGIN, distance), x)
    return numpy.asarray(x)


def joined(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward of several outputs (N, ...) as one of a single output (N, all their elements)."""

    def call(*arguments: Any, **options: Any) -> tuple[Array, Any]:
        outputs, cache = forward(*arguments, **options)
        rows = [y.reshape((y.shape[0], math.prod(y.shape[1:]))) for y in outputs]
        return namespace(*rows).concatenate(rows, axis=1), (*cache, tuple(y.shape for y in outputs))

    return call


def split(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the backward of a :func:`joined` forward: it takes one gradient, and hands on that of each output."""

    def call(dy: Array, cache: Any, *storage: Any, **named: Any) -> Any:
        *cache, shapes = cache
        parts, start = [], 0
        for shape in shapes:
            stop = start + math.prod(shape[1:])
            parts.append(dy[:, start:stop].reshape(shape))
            start = stop
        return backward(tuple(parts), tuple(cache), *storage, **named)

    return call


@dataclass(frozen=True)
class Case:
    """One way to call an op.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Passed to the draw; usually the shape of the first argument.
    options : mapping
        Keyword arguments of the forward.
    draw : callable, optional
        ``draw(generator, shape, options) -> arguments``, instead of the op's.
    """

    name: str
    shape: Shape
    options: Mapping[str, Any] = field(default_factory=dict)
    draw: Draw | None = None


@dataclass(frozen=True)
class OpSpec:
    """Everything that the tests need to know about an op.

    Attributes
    ----------
    name : str
        The name in ``minidl.ops``; the backward is ``name + "_backward"``.
    differentiable : tuple of str
        The arguments whose gradients backward returns, in its order.
    draw : callable
        ``draw(generator, shape, options) -> arguments``, floating-point ones in float64.
    cases : tuple of Case
        The first is the ordinary one.
    oracle : callable
        Takes the arguments and options of the forward and returns y, computed independently in float64.
    sizes : mapping of str to shape
        Must have "empty", "one", "odd" and "large" (larger than one block of any kernel).
    kinks : callable, optional
        Takes arguments and options; returns the distance of each element from the nearest kink.
    analytic : bool
        Whether the formula works with a complex step.
    elementwise : bool
        Whether each element of y depends on one element of x alone. Small elements are then compared to as many digits as large
        ones.
    terms : callable
        Takes arguments and options; returns the length of the longest sum in forward or backward.
    rounding : float
        Rounding errors besides those of the sums, in machine epsilons: the number of consecutive operations, times how much they
        magnify earlier errors on the inputs drawn.
    magnitude : callable
        Takes arguments and options; returns the size of the numbers whose difference is y, if it exceeds the size of y.
    slope : callable
        Takes arguments and options; returns the size of the numbers whose difference is a derivative of y, if it exceeds the size
        of the derivative; 1 for an elementwise op.
    rank : tuple of two int
        The smallest and the largest number of axes that ``draw`` accepts.
    shortest : int
        The smallest length of an axis in these shapes.
    empty_options : mapping
        Options with which the op accepts empty arrays.
    domain : tuple of two floats
        The least and the largest first argument for which the op is defined.
    limits : tuple of two floats, optional
        For an elementwise op with its default options: y at minus and plus infinity.
    several : bool
        Whether forward returns a tuple of outputs, each with a batch axis, and backward takes a tuple of gradients.
    operands : tuple of str
        The arguments that matrix products of the op multiply, which ``set_matmul_precision("bfloat16")`` rounds. The upstream
        gradient is rounded in their gradients, and in no others.
    """

    name: str
    differentiable: tuple[str, ...]
    draw: Draw
    cases: tuple[Case, ...]
    oracle: Callable[..., Any]
    sizes: Mapping[str, Shape]
    kinks: Callable[..., numpy.ndarray] | None = None
    analytic: bool = True
    elementwise: bool = False
    terms: Callable[..., int] = lambda *args, **options: 1
    rounding: float = 8.0
    magnitude: Callable[..., float] = nothing
    slope: Callable[..., float] = nothing
    rank: tuple[int, int] = (0, 4)
    shortest: int = 0
    empty_options: Mapping[str, Any] = field(default_factory=dict)
    domain: tuple[float, float] = (-math.inf, math.inf)
    limits: tuple[float, float] | None = None
    several: bool = False
    operands: tuple[str, ...] = ()

    def forward(self, engine: Any = None) -> Callable[..., Any]:
        """Return the forward of an engine, or the formula; several outputs are joined to one."""
        function = FORMULAS[self.name] if engine is None else getattr(engine, self.name)
        return joined(function) if self.several else function

    def backward(self, engine: Any = None) -> Callable[..., Any]:
        """Return the backward of :meth:`forward`."""
        name = f"{self.name}_backward"
        function = FORMULAS[name] if engine is None else getattr(engine, name)
        return split(function) if self.several else function

    def arguments(self, case: Case, seed: int = 0) -> Arguments:
        """Draw the arguments of a case, the same for the same seed."""
        generator = numpy.random.default_rng([seed, sum(map(ord, self.name + case.name))])
        return (case.draw or self.draw)(generator, case.shape, case.options)

    def present(self, arguments: Sequence[Any]) -> list[int]:
        """Return the positions of the given arguments that have a gradient."""
        names = list(inspect.signature(FORMULAS[self.name]).parameters)
        positions = [names.index(name) for name in self.differentiable]
        return [i for i in positions if i < len(arguments) and arguments[i] is not None]

    def first(self, arguments: Sequence[Any]) -> Any:
        """Return the first argument that has a gradient: x, or the weight where x holds integers."""
        return arguments[self.present(arguments)[0]]

    def sized(self, size: str) -> Case:
        """Return a case of one of the named sizes, with default options."""
        return Case(size, self.sizes[size], self.empty_options if size == "empty" else {})
