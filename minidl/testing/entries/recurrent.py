"""Entries for recurrent networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_recurrent
from minidl.testing.spec import MARGIN, Arguments, Case, Draw, Generator, OpSpec, Shape, normal

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _drawing(gates: int, states: int, given: bool = True, bias: bool = True, lengths: bool = False) -> Draw:
    """Return a draw of x, initial states, weights, biases and lengths, for shape (N, T, C, H)."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        batch, steps, features, hidden = shape
        arguments: list[Any] = [normal(generator, (batch, steps, features), 1.0)]
        arguments += [normal(generator, (batch, hidden), 0.7) if given else None for _ in range(states)]
        arguments.append(normal(generator, (gates * hidden, features), 1 / numpy.sqrt(features)))
        arguments.append(normal(generator, (gates * hidden, hidden), 1 / numpy.sqrt(hidden)))
        arguments += [normal(generator, (gates * hidden,), 0.5) if bias else None for _ in range(2)]
        if lengths:  # the first as short, the last as long as can be
            some = generator.integers(1, steps + 1, batch)
            some[:1], some[-1:] = 1, steps
            arguments.append(some)
        return tuple(arguments)

    return draw


def _draw_clear_of_kinks(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw the simple network so that no a_t is near the kink of relu, if it has not too many of them."""
    draw = _drawing(1, 1)
    for _ in range(100):
        arguments = draw(generator, shape, options)
        x, h, weight_ih, weight_hh, bias_ih, bias_hh = arguments
        nearest = numpy.inf
        for t in range(shape[1]):
            a = x[:, t] @ weight_ih.T + h @ weight_hh.T + bias_ih + bias_hh
            h, nearest = numpy.maximum(a, 0), min(nearest, numpy.min(numpy.abs(a), initial=numpy.inf))
        if nearest > 2 * MARGIN:
            break
    return arguments


def _cases(gates: int, states: int) -> tuple[Case, ...]:
    def drawing(**changes: bool) -> Draw:
        return _drawing(gates, states, **changes)

    return (
        Case("ordinary", (2, 2, 2, 2)),
        Case("lengths, no bias", (2, 3, 1, 2), draw=drawing(lengths=True, bias=False)),
        Case(
            "lengths, reversed, no initial state",
            (3, 3, 2, 1),
            {"reverse": True},
            draw=drawing(lengths=True, given=False),
        ),
        Case("reversed", (1, 3, 1, 2), {"reverse": True}),
        Case("one step", (2, 1, 1, 2)),
    )


def _terms(x: numpy.ndarray, *others: numpy.ndarray | None, **options: Any) -> int:
    rows = max(len(a) for a in others if a is not None)  # those of the weights, or sequences
    return max(x.shape[0] * x.shape[1], x.shape[2] + rows)


SIZES = {"empty": (0, 3, 2, 2), "one": (1, 1, 1, 1), "odd": (5, 4, 3, 5), "large": (19, 4, 7, 37)}
ROUNDING = 16.0
"""Roundings besides those of the sums: about ten a step, of which those of the steps before count less and less."""

for name, gates, states, more in (
    ("rnn", 1, 1, (Case("relu", (2, 2, 1, 2), {"nonlinearity": "relu"}, draw=_draw_clear_of_kinks),)),
    ("lstm", 4, 2, ()),
    ("gru", 3, 1, ()),
):
    SPECS.append(
        OpSpec(
            name=name,
            differentiable=(*("x", "h0", "c0")[: 1 + states], "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
            draw=_drawing(gates, states),
            cases=(*_cases(gates, states), *more),
            oracle=getattr(oracles_recurrent, name),
            sizes=SIZES,
            rank=(4, 4),
            shortest=1,
            terms=_terms,
            rounding=ROUNDING,
            magnitude=lambda x, *others, **options: 1.0,
            slope=lambda x, *others, **options: 1.0,
            several=True,
        )
    )
