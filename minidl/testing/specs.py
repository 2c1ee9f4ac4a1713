"""The catalogue: one entry for every op, from which all of its tests follow.

An entry says how to draw inputs of any size, in which named cases to check, which arguments have a gradient, where
the op has kinks, and what independent oracle knows the right answer. A new op (a convolution, a recurrence, an
attention) becomes tested on every engine, in every dtype, layout and size, by adding its entry here; a public op
without one fails the suite.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy

from minidl.ops import FORMULAS
from minidl.testing import oracles

__all__ = ["SPECS", "Case", "OpSpec"]

Generator = numpy.random.Generator
Shape = tuple[int, ...]
Arguments = tuple[Any, ...]

MARGIN = 0.05
"""How far drawn inputs stay from a declared kink; 50 times the step of a difference."""


def _nothing(*arguments: Any, **options: Any) -> float:
    return 0.0


def _one(*arguments: Any, **options: Any) -> float:
    return 1.0


def _one_example(logits: numpy.ndarray, *others: Any, reduction: str = "mean", **options: Any) -> float:
    """Return what the probability of one example, between 0 and 1, contributes to a loss."""
    examples = logits.shape[0] if logits.ndim > 1 else 1
    return 1 / max(examples, 1) if reduction == "mean" else 1.0


def _one_element(logits: numpy.ndarray, *others: Any, reduction: str = "mean", **options: Any) -> float:
    """Return what the probability of one element contributes."""
    return 1 / max(logits.size, 1) if reduction == "mean" else 1.0


def _typical(x: numpy.ndarray) -> float:
    return math.sqrt(float(numpy.mean(x * x))) if x.size else 0.0


@dataclass(frozen=True)
class Case:
    """One way to call an op.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Handed to the draw; of the first argument, usually.
    options : mapping
        Keyword arguments of the forward.
    draw : callable, optional
        ``draw(generator, shape, options) -> arguments``, in place of the op's.
    """

    name: str
    shape: Shape
    options: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Generator, Shape, Mapping[str, Any]], Arguments] | None = None


@dataclass(frozen=True)
class OpSpec:
    """What there is to know about an op in order to test it.

    Attributes
    ----------
    name : str
        In ``minidl.ops``; the backward is called ``name + "_backward"``.
    differentiable : tuple of str
        The arguments that backward returns gradients of, in its order.
    draw : callable
        ``draw(generator, shape, options) -> arguments``, floating ones in float64.
    cases : tuple of Case
        The first is the ordinary one.
    oracle : callable
        Takes the forward's arguments and options, returns y, by independent means in float64.
    sizes : mapping of str to shape
        Must have "empty", "one", "odd" and "large" (larger than one block of any kernel).
    kinks : callable, optional
        Takes arguments and options, returns how far each element is from the nearest kink.
    analytic : bool
        Whether a complex step can be taken through the formula.
    elementwise : bool
        Whether each element of y depends on one element of x alone; small elements are then compared to as many
        digits as large ones.
    terms : callable
        Takes arguments and options, returns the length of the longest sum in forward or backward.
    rounding : float
        Rounding errors besides those of the sums, in units of the machine epsilon: how many operations follow one
        another, and how much they magnify earlier errors on the inputs drawn.
    magnitude : callable
        Takes arguments and options, returns the size of the numbers that y is a difference of, where that is more
        than the size of y.
    slope : callable
        Takes arguments and options, returns the size of the numbers that a derivative of y is a difference of, where
        that is more than the size of the derivative; 1 for an elementwise op.
    rank : tuple of two int
        The least and the greatest length of the shapes that ``draw`` takes.
    shortest : int
        The least length of an axis in them.
    empty_options : mapping
        Options with which the op takes empty arrays.
    limits : tuple of two floats, optional
        For an elementwise op with its default options: y at minus and plus infinity.
    """

    name: str
    differentiable: tuple[str, ...]
    draw: Callable[[Generator, Shape, Mapping[str, Any]], Arguments]
    cases: tuple[Case, ...]
    oracle: Callable[..., Any]
    sizes: Mapping[str, Shape]
    kinks: Callable[..., numpy.ndarray] | None = None
    analytic: bool = True
    elementwise: bool = False
    terms: Callable[..., int] = lambda *args, **options: 1
    rounding: float = 8.0
    magnitude: Callable[..., float] = _nothing
    slope: Callable[..., float] = _nothing
    rank: tuple[int, int] = (0, 4)
    shortest: int = 0
    empty_options: Mapping[str, Any] = field(default_factory=dict)
    limits: tuple[float, float] | None = None

    def arguments(self, case: Case, seed: int = 0) -> Arguments:
        """Draw the arguments of a case; the same for the same seed."""
        generator = numpy.random.default_rng([seed, sum(map(ord, self.name + case.name))])
        return (case.draw or self.draw)(generator, case.shape, case.options)

    def present(self, arguments: Sequence[Any]) -> list[int]:
        """Return the positions of those of the given arguments that have a gradient."""
        names = list(inspect.signature(FORMULAS[self.name]).parameters)
        positions = [names.index(name) for name in self.differentiable]
        return [i for i in positions if i < len(arguments) and arguments[i] is not None]

    def sized(self, size: str) -> Case:
        """Return a case of one of the named sizes, with default options."""
        return Case(size, self.sizes[size], self.empty_options if size == "empty" else {})


SPECS: dict[str, OpSpec] = {}
"""Every op with a backward, by name."""


def _add(spec: OpSpec) -> None:
    SPECS[spec.name] = spec


def _normal(generator: Generator, shape: Shape, scale: float = 2.0) -> numpy.ndarray:
    return numpy.asarray(scale * generator.standard_normal(shape))


def _clear_of(x: numpy.ndarray, *kinks: float) -> numpy.ndarray:
    """Push elements that are too near to a kink away from it."""
    for kink in kinks:
        distance = x - kink
        x = numpy.where(numpy.abs(distance) < 2 * MARGIN, kink + 3 * numpy.copysign(MARGIN, distance), x)
    return numpy.asarray(x)


# elementwise ----------------------------------------------------------------------------------------------------------

_SIZES = {"empty": (0, 3), "one": (1,), "odd": (7, 5, 3), "large": (33, 2049)}


def _elementwise(
    name: str,
    *cases: Case,
    limits: tuple[float, float],
    kink: Callable[..., float] | None = None,
    rounding: float = 8.0,
) -> None:
    """Add an op of one array and scalar options, with at most one kink."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        x = _normal(generator, shape)
        return (_clear_of(x, kink(**options)) if kink else x,)

    def distance(x: numpy.ndarray, **options: Any) -> numpy.ndarray:
        return x - kink(**options)  # type: ignore[misc]

    _add(
        OpSpec(
            name,
            ("x",),
            draw,
            (Case("ordinary", (3, 4)), Case("scalar", ()), Case("images", (2, 1, 2, 3)), *cases),
            getattr(oracles, name),
            _SIZES,
            kinks=distance if kink else None,
            elementwise=True,
            slope=_one,
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
    return _normal(generator, shape), 0.3, generator.random(shape) >= 0.3


def _draw_dropping(p: float) -> Callable[[Generator, Shape, Mapping[str, Any]], Arguments]:
    return lambda generator, shape, options: (_normal(generator, shape), p, generator.random(shape) >= p)


_add(
    OpSpec(
        "dropout",
        ("x",),
        _draw_dropout,
        (
            Case("ordinary", (3, 4)),
            Case("nothing", (3, 4), draw=_draw_dropping(0.0)),
            Case("everything", (3, 4), draw=_draw_dropping(1.0)),
        ),
        oracles.dropout,
        _SIZES,
        elementwise=True,
        slope=_one,
        rounding=4,
    )
)

# softmax --------------------------------------------------------------------------------------------------------------


def _largest(x: numpy.ndarray, *others: Any, **options: Any) -> float:
    return float(numpy.max(numpy.abs(x), initial=0.0))


def _draw_scores(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    return (_normal(generator, shape),)


for _name in ("softmax", "log_softmax"):
    _add(
        OpSpec(
            _name,
            ("x",),
            _draw_scores,
            (
                Case("ordinary", (3, 4)),
                Case("vector", (5,)),
                Case("first axis", (3, 4), {"axis": 0}),
                Case("middle axis", (2, 3, 2), {"axis": 1}),
                Case("one class", (3, 1)),
            ),
            getattr(oracles, _name),
            {"empty": (0, 3), "one": (1, 1), "odd": (7, 5, 3), "large": (33, 2049)},
            rank=(1, 4),
            shortest=1,
            terms=lambda x, axis=-1: x.shape[axis],
            rounding=24,  # exp magnifies the rounding of x - max by its size, up to 15 here
            magnitude=_largest if _name == "log_softmax" else _nothing,
            slope=_one,
        )
    )

# products -------------------------------------------------------------------------------------------------------------


def _draw_product(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw matrices whose product is (m, n) over k, for shape (*batch, m, k, n)."""
    *batch, m, k, n = shape
    a = (k, m) if options.get("transpose_a") else (m, k)
    b = (n, k) if options.get("transpose_b") else (k, n)
    return _normal(generator, (*batch, *a)), _normal(generator, (*batch, *b))


def _draw_broadcast(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw operands whose batch axes differ: of length one, and missing."""
    first, second, m, k, n = shape
    return _normal(generator, (first, 1, m, k)), _normal(generator, (second, k, n))


def _draw_repeated(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw a second operand with a batch axis missing and one of length one, next to another of length one."""
    batch, m, k, n = shape
    return _normal(generator, (1, 1, batch, m, k)), _normal(generator, (1, 1, k, n))


def _terms_of_product(a: numpy.ndarray, b: numpy.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> int:
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    n = b.shape[-2] if transpose_b else b.shape[-1]
    return max(k, n, m) * max(1, math.prod(a.shape[:-2]), math.prod(b.shape[:-2]))


_add(
    OpSpec(
        "matmul",
        ("a", "b"),
        _draw_product,
        (
            Case("ordinary", (3, 4, 2)),
            Case("transpose_a", (3, 4, 2), {"transpose_a": True}),
            Case("transpose_b", (3, 4, 2), {"transpose_b": True}),
            Case("transpose both", (3, 4, 2), {"transpose_a": True, "transpose_b": True}),
            Case("batches", (2, 3, 2, 4)),
            Case("broadcast batches", (2, 3, 2, 3, 2), draw=_draw_broadcast),
            Case("repeated batches", (2, 2, 3, 2), draw=_draw_repeated),
        ),
        oracles.matmul,
        {"empty": (0, 3, 2), "one": (1, 1, 1), "odd": (7, 13, 5), "large": (131, 523, 67)},
        rank=(3, 5),
        terms=_terms_of_product,
        rounding=2,
        magnitude=lambda a, b, **options: _typical(a) * _typical(b) * math.sqrt(_terms_of_product(a, b, **options)),
        slope=lambda a, b, **options: max(_typical(a), _typical(b)),
    )
)


def _draw_linear(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw x, weight and bias for shape (..., in, out)."""
    *x, out = shape
    return _normal(generator, tuple(x)), _normal(generator, (out, x[-1])), _normal(generator, (out,))


def _draw_linear_without_bias(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    return _draw_linear(generator, shape, options)[:2]


def _terms_of_linear(x: numpy.ndarray, weight: numpy.ndarray, bias: numpy.ndarray | None = None) -> int:
    return max(*weight.shape, math.prod(x.shape[:-1]))


_add(
    OpSpec(
        "linear",
        ("x", "weight", "bias"),
        _draw_linear,
        (
            Case("ordinary", (3, 4, 2)),
            Case("no bias", (3, 4, 2), draw=_draw_linear_without_bias),
            Case("one example", (4, 2)),
            Case("sequences", (2, 3, 4, 2)),
        ),
        oracles.linear,
        {"empty": (0, 3, 2), "one": (1, 1, 1), "odd": (7, 13, 5), "large": (131, 523, 67)},
        rank=(2, 5),
        terms=_terms_of_linear,
        rounding=3,
        magnitude=lambda x, weight, *bias: _typical(x) * _typical(weight) * math.sqrt(weight.shape[1]),
        slope=lambda x, weight, *bias: max(_typical(x), _typical(weight), 1.0),
    )
)

# losses ---------------------------------------------------------------------------------------------------------------

_LOSS_SIZES = {"empty": (0, 3), "one": (1,), "odd": (7, 5, 3), "large": (33, 2049)}


def _draw_pair(*kinks: float) -> Callable[[Generator, Shape, Mapping[str, Any]], Arguments]:
    """Draw prediction and target whose difference stays clear of the kinks (delta stands for itself)."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        target = _normal(generator, shape)
        delta = options.get("delta", 1.0)
        difference = _clear_of(_normal(generator, shape), *(kink * delta for kink in kinks))
        return target + difference, target

    return draw


def _in_column(draw: Callable[..., Arguments]) -> Callable[..., Arguments]:
    """Make the prediction a column, (N, 1), against targets (N,)."""

    def drawn(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        prediction, *others = draw(generator, shape, options)
        return prediction.reshape(-1, 1), *others

    return drawn


def _in_row(draw: Callable[..., Arguments]) -> Callable[..., Arguments]:
    """Make the target a column, (N, 1), against predictions (N,)."""

    def drawn(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        prediction, target, *others = draw(generator, shape, options)
        return prediction, target.reshape(-1, 1), *others

    return drawn


def _loss(
    name: str,
    draw: Callable[..., Arguments],
    *cases: Case,
    argument: str = "prediction",
    kinks: Callable[..., numpy.ndarray] | None = None,
    slope: Callable[..., float] = _nothing,
    rounding: float = 8.0,
) -> None:
    """Add a loss of prediction and target, elementwise but for its reduction."""
    _add(
        OpSpec(
            name,
            (argument,),
            draw,
            (
                Case("ordinary", (3, 4)),
                Case("sum", (3, 4), {"reduction": "sum"}),
                Case("none", (3, 4), {"reduction": "none"}),
                Case("prediction in a column", (5,), draw=_in_column(draw)),
                Case("target in a column", (5,), {"reduction": "none"}, draw=_in_row(draw)),
                *cases,
            ),
            getattr(oracles, name),
            _LOSS_SIZES,
            rank=(1, 4),
            empty_options={"reduction": "sum"},
            kinks=kinks,
            slope=slope,
            terms=lambda prediction, *others, **options: prediction.size,
            rounding=rounding,
        )
    )


_loss("mse_loss", _draw_pair(), Case("half_sum", (3, 4), {"reduction": "half_sum"}))
_loss(
    "l1_loss",
    _draw_pair(0.0),
    kinks=lambda prediction, target, **options: prediction.ravel() - target.ravel(),
)
_loss(
    "huber_loss",
    _draw_pair(-1.0, 1.0),
    Case("wide", (3, 4), {"delta": 2.5}),
    kinks=lambda prediction, target, delta=1.0, **options: abs(prediction.ravel() - target.ravel()) - delta,
)


def _draw_binary(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw logits, and targets that are hard or soft."""
    hard, soft = generator.integers(0, 2, shape), generator.random(shape)
    return _normal(generator, shape), numpy.where(generator.random(shape) < 0.5, hard, soft)


def _draw_weighted_binary(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    last = shape[-1:]
    return (
        *_draw_binary(generator, shape, options),
        generator.uniform(0.5, 2.0, last),
        generator.uniform(0.5, 3.0, (1, *last)),
    )


def _draw_pos_weighted_binary(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    return *_draw_binary(generator, shape, options), None, generator.uniform(0.5, 3.0, shape[-1:])


_loss(
    "binary_cross_entropy_with_logits",
    _draw_binary,
    Case("weights", (3, 4), draw=_draw_weighted_binary),
    Case("positive weights", (3, 4), {"reduction": "none"}, draw=_draw_pos_weighted_binary),
    argument="logits",
    slope=_one_element,
    rounding=16,
)


def _draw_classes(
    weighted: bool = False, probabilities: bool = False, ignored: bool = False
) -> Callable[..., Arguments]:
    """Draw logits of a shape (N, K, ...) or (K,), and targets."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        axis = min(len(shape) - 1, 1)
        rest = (*shape[:axis], *shape[axis + 1 :])
        logits = _normal(generator, shape)
        target: numpy.ndarray = numpy.asarray(generator.integers(0, shape[axis], rest))
        if probabilities:
            target = generator.random(shape)
            target = target / target.sum(axis=axis, keepdims=True)
        if ignored:
            target.flat[0] = options.get("ignore_index", -100)
        return (logits, target, generator.uniform(0.5, 2.0, shape[axis])) if weighted else (logits, target)

    return draw


_add(
    OpSpec(
        "cross_entropy",
        ("logits",),
        _draw_classes(),
        (
            Case("ordinary", (3, 4)),
            Case("sum", (3, 4), {"reduction": "sum"}),
            Case("none", (3, 4), {"reduction": "none"}),
            Case("one example", (4,)),
            Case("pixels", (2, 3, 2)),
            Case("pixels, none", (2, 3, 2), {"reduction": "none"}),
            Case("weights", (4, 3), draw=_draw_classes(weighted=True)),
            Case("ignore_index", (4, 3), {"ignore_index": 1}),
            Case("ignored", (4, 3), draw=_draw_classes(weighted=True, ignored=True)),
            Case("smoothing", (3, 4), {"label_smoothing": 0.2}),
            Case(
                "all of these",
                (4, 3),
                {"label_smoothing": 0.1, "reduction": "none"},
                draw=_draw_classes(weighted=True, ignored=True),
            ),
            Case("probabilities", (3, 4), draw=_draw_classes(probabilities=True)),
            Case(
                "weighted probabilities",
                (3, 4),
                {"label_smoothing": 0.2},
                draw=_draw_classes(weighted=True, probabilities=True),
            ),
        ),
        oracles.cross_entropy,
        {"empty": (0, 3), "one": (1, 1), "odd": (7, 5, 3), "large": (33, 2049)},
        rank=(1, 4),
        shortest=1,
        empty_options={"reduction": "sum"},
        terms=lambda logits, *others, **options: logits.size,
        rounding=32,  # exp magnifies the rounding of x - max by its size
        magnitude=_largest,
        slope=_one_example,
    )
)
