"""Entries for the losses."""

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
    largest,
    normal,
    nothing,
)

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _one_example(logits: numpy.ndarray, *others: Any, reduction: str = "mean", **options: Any) -> float:
    """Return the share of one example's probability, between 0 and 1, in a loss."""
    examples = logits.shape[0] if logits.ndim > 1 else 1
    return 1 / max(examples, 1) if reduction == "mean" else 1.0


def _one_element(logits: numpy.ndarray, *others: Any, reduction: str = "mean", **options: Any) -> float:
    """Return the share of one element's probability in a loss."""
    return 1 / max(logits.size, 1) if reduction == "mean" else 1.0


def _draw_pair(*kinks: float) -> Draw:
    """Draw prediction and target whose difference avoids the kinks, in units of delta."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        target = normal(generator, shape)
        delta = options.get("delta", 1.0)
        difference = clear_of(normal(generator, shape), *(kink * delta for kink in kinks))
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
    slope: Callable[..., float] = nothing,
    rounding: float = 8.0,
    domain: tuple[float, float] = (-math.inf, math.inf),
) -> None:
    """Add a loss of prediction and target, elementwise but for its reduction."""
    SPECS.append(
        OpSpec(
            name=name,
            differentiable=(argument,),
            draw=draw,
            cases=(
                Case("ordinary", (3, 4)),
                Case("sum", (3, 4), {"reduction": "sum"}),
                Case("none", (3, 4), {"reduction": "none"}),
                Case("prediction in a column", (5,), draw=_in_column(draw)),
                Case("target in a column", (5,), {"reduction": "none"}, draw=_in_row(draw)),
                *cases,
            ),
            oracle=getattr(oracles, name),
            sizes=SIZES,
            rank=(1, 4),
            empty_options={"reduction": "sum"},
            kinks=kinks,
            slope=slope,
            terms=lambda prediction, *others, **options: prediction.size,
            rounding=rounding,
            domain=domain,
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
    return normal(generator, shape), numpy.where(generator.random(shape) < 0.5, hard, soft)


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
        logits = normal(generator, shape)
        target: numpy.ndarray = numpy.asarray(generator.integers(0, shape[axis], rest))
        if probabilities:
            target = generator.random(shape)
            target = target / target.sum(axis=axis, keepdims=True)
        if ignored:
            target.flat[0] = options.get("ignore_index", -100)
        return (logits, target, generator.uniform(0.5, 2.0, shape[axis])) if weighted else (logits, target)

    return draw


CLASS_CASES = (
    Case("ordinary", (3, 4)),
    Case("sum", (3, 4), {"reduction": "sum"}),
    Case("none", (3, 4), {"reduction": "none"}),
    Case("one example", (4,)),
    Case("pixels", (2, 3, 2)),
    Case("pixels, none", (2, 3, 2), {"reduction": "none"}),
    Case("weights", (4, 3), draw=_draw_classes(weighted=True)),
    Case("ignore_index", (4, 3), {"ignore_index": 1}),
    Case("ignored", (4, 3), draw=_draw_classes(weighted=True, ignored=True)),
)

SPECS.append(
    OpSpec(
        name="cross_entropy",
        differentiable=("logits",),
        draw=_draw_classes(),
        cases=(
            *CLASS_CASES,
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
        oracle=oracles.cross_entropy,
        sizes=SIZES,
        rank=(1, 4),
        shortest=1,
        empty_options={"reduction": "sum"},
        terms=lambda logits, *others, **options: logits.size,
        rounding=32,  # exp magnifies the rounding of x - max by its size
        magnitude=largest,
        slope=_one_example,
    )
)


def _draw_probabilities(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw probabilities that are not almost certain, and targets that are hard or soft."""
    _, target = _draw_binary(generator, shape, options)
    return generator.uniform(0.1, 0.9, shape), target


def _draw_weighted_probabilities(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    return *_draw_probabilities(generator, shape, options), generator.uniform(0.5, 2.0, shape[-1:])


_loss(
    "binary_cross_entropy",
    _draw_probabilities,
    Case("weights", (3, 4), draw=_draw_weighted_probabilities),
    argument="probabilities",
    slope=_one_element,
    rounding=16,
    domain=(0.0, 1.0),
)


def _draw_divergence(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    target = generator.random(shape)
    target = numpy.where(target < 0.2, 0.0, target)
    return normal(generator, shape), numpy.log(target + 0.1) if options.get("log_target") else target


_loss(
    "kl_div",
    _draw_divergence,
    Case("batchmean", (3, 4), {"reduction": "batchmean"}),
    Case("log_target", (3, 4), {"log_target": True}),
    Case("log_target, none", (3, 4), {"log_target": True, "reduction": "none"}),
)


def _draw_likelihood(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw a target that looks at the first element: what the others hold has no effect."""
    prediction, target = _draw_classes()(generator, shape, options)
    target.flat[:1] = 0
    return prediction, target


SPECS.append(
    OpSpec(
        name="nll_loss",
        differentiable=("prediction",),
        draw=_draw_likelihood,
        cases=CLASS_CASES,
        oracle=oracles.nll_loss,
        sizes=SIZES,
        rank=(1, 4),
        shortest=1,
        empty_options={"reduction": "sum"},
        terms=lambda prediction, *others, **options: prediction.size,
        magnitude=largest,
    )
)
