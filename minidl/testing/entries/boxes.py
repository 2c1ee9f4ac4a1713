"""The entry for the loss of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing.spec import MARGIN, Arguments, Case, Generator, OpSpec, Shape, one

__all__ = ["SPECS"]


def _draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw boxes of so many places, (*shape, 4), some of which meet; again where a pair is near a kink."""
    boxes = numpy.zeros((2, *shape, 4))
    left: Any = numpy.ones(shape, bool)
    while left.any():
        first = generator.uniform(-2.0, 2.0, (2, int(left.sum()), 2))
        boxes[:, left] = numpy.concatenate([first, first + generator.uniform(0.5, 3.0, first.shape)], axis=-1)
        left = (abs(_distances(*boxes)) < 3 * MARGIN).any(axis=-1)
    return boxes[0], boxes[1]


def _draw_apart(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw pairs that do not meet."""
    prediction, target = _draw(generator, shape, options)
    return prediction, target + 6.0


def _distances(p: numpy.ndarray, t: numpy.ndarray) -> numpy.ndarray:
    """Return how far each coordinate is from the nearer of the target's two; (..., 4)."""
    same, opposite = p - t, p - t[..., [2, 3, 0, 1]]
    return numpy.where(abs(same) < abs(opposite), same, opposite)


def _oracle(prediction: numpy.ndarray, target: numpy.ndarray, reduction: str = "mean") -> Any:
    """Return the loss from its definition, with the areas of Python floats."""

    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)

    losses = numpy.empty(prediction.shape[:-1])
    for index in numpy.ndindex(losses.shape):
        a, b = prediction[index].tolist(), target[index].tolist()
        common = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        around = area(min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
        union = area(*a) + area(*b) - common
        losses[index] = 1.0 - (common / union - (around - union) / around)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / max(losses.size, 1)}[reduction]


SPECS = [
    OpSpec(
        name="generalized_box_iou_loss",
        differentiable=("prediction",),
        draw=_draw,
        cases=(
            Case("ordinary", (4,)),
            Case("sum", (3,), {"reduction": "sum"}),
            Case("none", (2, 2), {"reduction": "none"}),
            Case("one box", ()),
            Case("apart", (3,), draw=_draw_apart),
        ),
        oracle=_oracle,
        sizes={"empty": (0,), "one": (1,), "odd": (7, 5), "large": (33, 65)},
        rank=(0, 3),
        empty_options={"reduction": "sum"},
        kinks=lambda prediction, target, **options: _distances(prediction, target),
        terms=lambda prediction, *others, **options: max(prediction.size // 4, 1),
        rounding=64,  # the union is a difference of areas
        slope=one,
    )
]
