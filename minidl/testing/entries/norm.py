"""Entries for normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_norm
from minidl.testing.spec import Arguments, Case, Draw, Generator, OpSpec, Shape, largest, normal

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []

ROUNDING = 24.0
"""Roundings of dx besides those of its sums, in machine epsilons, 1.5 times the count.

    dx = inverse (g - mean(g) - x_hat mean(g x_hat)),   inverse = 1 / sqrt(variance + eps),   x_hat = (x - mean) inverse

has about 32 roundings of half an epsilon each: 6 in ``inverse``, which enters three times; 3 more in each of the two
``x_hat``; 1 in each of the two ``g``; and 6 to put them together.
"""


def _numbers(generator: Generator, shape: Shape) -> numpy.ndarray:
    """Draw normal numbers with a mean of 1."""
    return normal(generator, shape) + 1.0


def _weight(generator: Generator, shape: Shape) -> numpy.ndarray:
    return 1.5 + normal(generator, shape, 0.3)


def _drawing(weight: bool = True, bias: bool = True, running: bool = False) -> Draw:
    """Return a draw of x and its per-channel arguments."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        channels = shape[1:2]
        arguments: list[Any] = [_numbers(generator, shape)]
        arguments.append(_weight(generator, channels) if weight else None)
        arguments.append(normal(generator, channels) if bias else None)
        if running:
            arguments += [normal(generator, channels), numpy.asarray(generator.uniform(0.5, 4.0, channels))]
        return tuple(arguments)

    return draw


def _count(x: numpy.ndarray, *rest: Any, **options: Any) -> int:
    return math.prod(x.shape[:1]) * math.prod(x.shape[2:])


def _stretch(rows: numpy.ndarray, eps: float = 1e-5, **options: Any) -> float:
    """Return the largest 1 / sqrt(variance + eps) among the rows, which magnifies their rounding."""
    return 1 / math.sqrt(float(numpy.min(rows.var(axis=1), initial=1e300)) + eps) if rows.size else 1.0


def _magnitude(x: numpy.ndarray, rows: numpy.ndarray, **options: Any) -> float:
    """Return the size of the differences from the mean if nothing cancelled."""
    return 3.0 * largest(x) * _stretch(rows, **options)


def _slope(x: numpy.ndarray, rows: numpy.ndarray, **options: Any) -> float:
    return max(1.0, _stretch(rows, **options)) * (2.0 + _magnitude(x, rows, **options))


def _of_channels(x: numpy.ndarray) -> numpy.ndarray:
    """Return a row for each channel."""
    return x.swapaxes(0, 1).reshape((x.shape[1], _count(x)))


def _of_examples(x: numpy.ndarray, shape: Shape) -> numpy.ndarray:
    n = math.prod(shape)
    return x.reshape((x.size // max(n, 1), n))


def _of_groups(x: numpy.ndarray, groups: int) -> numpy.ndarray:
    return _of_examples(x, (x.shape[1] // groups, *x.shape[2:]))


SPECS.append(
    OpSpec(
        name="batch_norm",
        differentiable=("x", "weight", "bias"),
        draw=_drawing(),
        cases=(
            Case("ordinary", (5, 3)),
            Case("images", (3, 2, 2, 3)),
            Case("sequences", (2, 3, 4)),
            Case("a large epsilon", (4, 3), {"eps": 0.5}),
            Case("no weight", (4, 3), draw=_drawing(weight=False)),
            Case("no bias", (4, 3), draw=_drawing(bias=False)),
            Case("neither", (3, 2, 2, 2), draw=_drawing(weight=False, bias=False)),
            Case("running statistics", (3, 2, 2, 3), {"training": False}, draw=_drawing(running=True)),
            Case(
                "running statistics, neither",
                (4, 3),
                {"training": False},
                draw=_drawing(weight=False, bias=False, running=True),
            ),
        ),
        oracle=oracles_norm.batch_norm,
        sizes={"empty": (0, 3), "one": (1, 1), "odd": (7, 5, 3), "large": (33, 67, 40)},
        rank=(2, 4),
        terms=_count,
        rounding=ROUNDING,
        magnitude=lambda x, *rest, **options: _magnitude(x, _of_channels(x), **options),
        slope=lambda x, *rest, **options: _slope(x, _of_channels(x), **options),
    )
)


def _drawing_rows(axes: int = 1, weight: bool = True, bias: bool = True, both: bool = True) -> Draw:
    """Return a draw of x, the shape of its last axes, and weight and bias; without a bias argument unless ``both``."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        last = tuple(shape[len(shape) - axes :])
        arguments: tuple[Any, ...] = (_numbers(generator, shape), last, _weight(generator, last) if weight else None)
        return (*arguments, normal(generator, last) if bias else None) if both else arguments

    return draw


def _terms_of_rows(x: numpy.ndarray, shape: Shape, *rest: Any, **options: Any) -> int:
    n = math.prod(shape)
    return max(n, math.prod(x.shape) // max(n, 1))


SPECS.append(
    OpSpec(
        name="layer_norm",
        differentiable=("x", "weight", "bias"),
        draw=_drawing_rows(),
        cases=(
            Case("ordinary", (3, 5)),
            Case("sequences", (2, 3, 4)),
            Case("two axes", (3, 2, 4), draw=_drawing_rows(2)),
            Case("one example", (5,)),
            Case("a large epsilon", (2, 4), {"eps": 0.5}),
            Case("no weight", (3, 4), draw=_drawing_rows(weight=False)),
            Case("no bias", (3, 4), draw=_drawing_rows(bias=False)),
            Case("neither", (2, 2, 3), draw=_drawing_rows(2, weight=False, bias=False)),
        ),
        oracle=oracles_norm.layer_norm,
        sizes={"empty": (0, 3), "one": (1, 1), "odd": (7, 5, 3), "large": (33, 2049)},
        rank=(1, 4),
        terms=_terms_of_rows,
        rounding=ROUNDING,
        magnitude=lambda x, shape, *rest, **options: _magnitude(x, _of_examples(x, shape), **options),
        slope=lambda x, shape, *rest, **options: _slope(x, _of_examples(x, shape), **options),
    )
)


def _slope_about_zero(x: numpy.ndarray, shape: Shape, *rest: Any, **options: Any) -> float:
    rows = _of_examples(x, shape)
    return 4.0 * max(1.0, _stretch(numpy.concatenate([rows, -rows], axis=1), 0.0))  # their variance is the mean square


SPECS.append(
    OpSpec(
        name="rms_norm",
        differentiable=("x", "weight"),
        draw=_drawing_rows(both=False),
        cases=(
            Case("ordinary", (3, 5)),
            Case("sequences", (2, 3, 4)),
            Case("two axes", (3, 2, 4), draw=_drawing_rows(2, both=False)),
            Case("one example", (5,)),
            Case("a large epsilon", (2, 4), {"eps": 0.5}),
            Case("no weight", (3, 4), draw=_drawing_rows(weight=False, both=False)),
        ),
        oracle=oracles_norm.rms_norm,
        sizes={"empty": (0, 3), "one": (1, 1), "odd": (7, 5, 3), "large": (33, 2049)},
        rank=(1, 4),
        terms=_terms_of_rows,
        rounding=ROUNDING,
        slope=_slope_about_zero,
    )
)


def _drawing_groups(groups: int, weight: bool = True, bias: bool = True) -> Draw:
    """Return a draw of x, the number of groups, weight and bias; channels are added until the groups divide them."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        shape = (shape[0], -(-shape[1] // groups) * groups, *shape[2:])
        x, *rest = _drawing(weight, bias)(generator, shape, options)
        return (x, groups, *rest)

    return draw


def _terms_of_groups(x: numpy.ndarray, groups: int, *rest: Any, **options: Any) -> int:
    return max(_count(x), math.prod(x.shape[1:]) // groups)


SPECS.append(
    OpSpec(
        name="group_norm",
        differentiable=("x", "weight", "bias"),
        draw=_drawing_groups(2),
        cases=(
            Case("ordinary", (3, 4, 3)),
            Case("images", (2, 4, 2, 3)),
            Case("vectors", (3, 6)),
            Case("one group", (3, 4), draw=_drawing_groups(1)),
            Case("a group for each channel", (2, 3, 4), draw=_drawing_groups(3)),
            Case("a large epsilon", (2, 4, 2), {"eps": 0.5}),
            Case("no weight", (3, 4, 2), draw=_drawing_groups(2, weight=False)),
            Case("no bias", (3, 4, 2), draw=_drawing_groups(2, bias=False)),
            Case("neither", (2, 4, 3), draw=_drawing_groups(2, weight=False, bias=False)),
        ),
        oracle=oracles_norm.group_norm,
        sizes={"empty": (0, 4), "one": (1, 2, 1), "odd": (7, 6, 5), "large": (17, 66, 40)},
        rank=(2, 4),
        terms=_terms_of_groups,
        rounding=ROUNDING,
        magnitude=lambda x, groups, *rest, **options: _magnitude(x, _of_groups(x, groups), **options),
        slope=lambda x, groups, *rest, **options: _slope(x, _of_groups(x, groups), **options),
    )
)
