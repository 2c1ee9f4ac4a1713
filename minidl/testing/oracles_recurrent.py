"""Independent results for recurrent networks: one sequence, one unit and one step at a time, in Python floats."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy

__all__ = ["gru", "lstm", "rnn"]

Vector = list[float]
Step = Callable[[Vector, list[Vector]], list[Vector]]


def _sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def _affine(weight: numpy.ndarray, bias: numpy.ndarray | None, x: Vector, row: int) -> float:
    """Return one element of W x + b."""
    terms = [float(w) * value for w, value in zip(weight[row], x, strict=True)]
    return math.fsum(terms) + (0.0 if bias is None else float(bias[row]))


def _run(
    step: Step,
    x: numpy.ndarray,
    states: tuple[numpy.ndarray | None, ...],
    hidden: int,
    lengths: numpy.ndarray | None,
    reverse: bool,
) -> numpy.ndarray:
    """Return y and the final states, sequence by sequence, those of one sequence one after another."""
    batch, steps, _ = x.shape
    rows = []
    for n in range(batch):
        state = [[0.0] * hidden if s is None else [float(value) for value in s[n]] for s in states]
        length = steps if lengths is None else int(lengths[n])
        y = [[0.0] * hidden for _ in range(steps)]
        for t in range(length - 1, -1, -1) if reverse else range(length):
            state = step([float(value) for value in x[n, t]], state)
            y[t] = state[0]
        rows.append([value for vector in [*y, *state] for value in vector])
    return numpy.array(rows).reshape(batch, (steps + len(states)) * hidden)


def rnn(
    x: numpy.ndarray,
    h0: numpy.ndarray | None,
    weight_ih: numpy.ndarray,
    weight_hh: numpy.ndarray,
    bias_ih: numpy.ndarray | None = None,
    bias_hh: numpy.ndarray | None = None,
    lengths: numpy.ndarray | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> numpy.ndarray:
    """Return all outputs of the simple network, joined for each sequence."""
    hidden = weight_hh.shape[1]

    def step(x_t: Vector, state: list[Vector]) -> list[Vector]:
        a = [_affine(weight_ih, bias_ih, x_t, j) + _affine(weight_hh, bias_hh, state[0], j) for j in range(hidden)]
        return [[math.tanh(v) if nonlinearity == "tanh" else max(v, 0.0) for v in a]]

    return _run(step, x, (h0,), hidden, lengths, reverse)


def lstm(
    x: numpy.ndarray,
    h0: numpy.ndarray | None,
    c0: numpy.ndarray | None,
    weight_ih: numpy.ndarray,
    weight_hh: numpy.ndarray,
    bias_ih: numpy.ndarray | None = None,
    bias_hh: numpy.ndarray | None = None,
    lengths: numpy.ndarray | None = None,
    reverse: bool = False,
) -> numpy.ndarray:
    """Return all outputs of the long short-term memory, joined for each sequence."""
    hidden = weight_hh.shape[1]

    def step(x_t: Vector, state: list[Vector]) -> list[Vector]:
        def gate(number: int, j: int) -> float:
            row = number * hidden + j
            return _affine(weight_ih, bias_ih, x_t, row) + _affine(weight_hh, bias_hh, state[0], row)

        h, c = [], []
        for j in range(hidden):
            keep, let_in, show = _sigmoid(gate(1, j)), _sigmoid(gate(0, j)), _sigmoid(gate(3, j))
            c.append(keep * state[1][j] + let_in * math.tanh(gate(2, j)))
            h.append(show * math.tanh(c[j]))
        return [h, c]

    return _run(step, x, (h0, c0), hidden, lengths, reverse)


def gru(
    x: numpy.ndarray,
    h0: numpy.ndarray | None,
    weight_ih: numpy.ndarray,
    weight_hh: numpy.ndarray,
    bias_ih: numpy.ndarray | None = None,
    bias_hh: numpy.ndarray | None = None,
    lengths: numpy.ndarray | None = None,
    reverse: bool = False,
) -> numpy.ndarray:
    """Return all outputs of the gated recurrent unit, joined for each sequence."""
    hidden = weight_hh.shape[1]

    def step(x_t: Vector, state: list[Vector]) -> list[Vector]:
        def parts(number: int, j: int) -> tuple[float, float]:
            row = number * hidden + j
            return _affine(weight_ih, bias_ih, x_t, row), _affine(weight_hh, bias_hh, state[0], row)

        h = []
        for j in range(hidden):
            reset, update = _sigmoid(sum(parts(0, j))), _sigmoid(sum(parts(1, j)))
            from_input, from_state = parts(2, j)
            h.append((1 - update) * math.tanh(from_input + reset * from_state) + update * state[0][j])
        return [h]

    return _run(step, x, (h0,), hidden, lengths, reverse)
