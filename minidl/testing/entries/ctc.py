"""The entry for connectionist temporal classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_ctc
from minidl.testing.spec import Arguments, Case, Generator, OpSpec, Shape, largest, normal

__all__ = ["SPECS"]


def _draw_labels(generator: Generator, steps: int, classes: int, blank: int) -> numpy.ndarray:
    """Draw labels that fit into so many steps, some of them repeated."""
    labels: list[int] = []
    room = generator.integers((steps + 1) // 2, steps + 1) if steps else 0
    choices = [label for label in range(classes) if label != blank]
    while choices:
        label = int(generator.choice(choices))
        room -= 2 if labels[-1:] == [label] else 1
        if room < 0:
            break
        labels.append(label)
    return numpy.array(labels, dtype="int64")


def _draw(
    generator: Generator,
    shape: Shape,
    options: Mapping[str, Any],
    shorter: bool = False,
    too_long: bool = False,
) -> Arguments:
    """Draw log-probabilities of shape (N, T, K), not normalised, and targets that fit."""
    n, t, k = shape
    blank = options.get("blank", 0)
    steps = generator.integers(t // 2, t + 1, n) if shorter else numpy.full(n, t)
    drawn = [_draw_labels(generator, int(length), k, blank) for length in steps]
    if too_long:
        drawn[0] = numpy.full(t, (blank + 1) % k)
    counts = numpy.array([len(labels) for labels in drawn], dtype="int64")
    targets = numpy.full((n, int(counts.max(initial=0))), -1)
    for row, labels in zip(targets, drawn, strict=True):
        row[: len(labels)] = labels
    return normal(generator, shape, 1.0) - 1.0, targets, steps, counts


def _drawing(**settings: bool) -> Any:
    return lambda generator, shape, options: _draw(generator, shape, options, **settings)


def _share(log_probs: numpy.ndarray, *others: Any, reduction: str = "mean", **options: Any) -> float:
    """Return what one step of one example has in the loss at most."""
    return 1 / max(len(log_probs), 1) if reduction == "mean" else 1.0


SPECS = [
    OpSpec(
        name="ctc_loss",
        differentiable=("log_probs",),
        draw=_draw,
        cases=(
            Case("ordinary", (2, 3, 3)),
            Case("sum", (1, 3, 3), {"reduction": "sum"}),
            Case("none", (2, 3, 2), {"reduction": "none"}),
            Case("shorter inputs", (3, 3, 2), draw=_drawing(shorter=True)),
            Case("repeated labels", (1, 5, 2)),
            Case("the last class is the blank", (1, 3, 3), {"blank": 2}, draw=_draw),
            Case("too long", (2, 2, 2), {"zero_infinity": True}, draw=_drawing(too_long=True)),
            Case("no labels", (1, 2, 1)),
        ),
        oracle=oracles_ctc.ctc_loss,
        sizes={"empty": (0, 3, 2), "one": (1, 1, 2), "odd": (3, 7, 5), "large": (9, 67, 33)},
        rank=(3, 3),
        shortest=1,
        empty_options={"reduction": "sum"},
        terms=lambda log_probs, *others, **options: log_probs.size,
        magnitude=largest,
        slope=_share,
    )
]
