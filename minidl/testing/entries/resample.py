"""Entries for padding, upsampling and the dropout of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.testing import oracles_resample
from minidl.testing.spec import SIZES, Arguments, Case, Draw, Generator, OpSpec, Shape, normal, one, typical

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _with(*settings: Any) -> Draw:
    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        return normal(generator, shape), *settings

    return draw


SPECS.append(
    OpSpec(
        name="pad",
        differentiable=("x",),
        draw=_with((1, 2)),
        cases=(
            Case("ordinary", (3, 4)),
            Case("images", (1, 2, 3, 3), {"value": -1.5}, draw=_with((1, 0, 2, 1))),
            Case("all sides", (1, 2, 2, 3), draw=_with(1)),
            *(
                Case(f"{mode}, {name}", shape, {"mode": mode}, draw=_with(padding))
                for mode in ("reflect", "replicate", "circular")
                for name, shape, padding in (
                    ("images", (1, 2, 3, 4), (1, 2, 2, 0)),
                    ("as far as it goes", (2, 4), (3, 3)),
                    ("one side", (2, 5), (0, 3)),
                )
            ),
            Case("circular, once around", (2, 3), {"mode": "circular"}, draw=_with((3, 3))),
            Case("replicate, one element", (2, 1), {"mode": "replicate"}, draw=_with((2, 1))),
        ),
        oracle=oracles_resample.pad,
        sizes=SIZES,
        rank=(1, 4),
        shortest=1,
        terms=lambda x, *settings, **options: 9,
        rounding=2,
    )
)

UPSAMPLED = {"empty": (0, 2, 3, 4), "one": (1, 1, 1, 1), "odd": (3, 2, 5, 7), "large": (3, 5, 21, 67)}

for _name in ("upsample_nearest", "upsample_nearest_exact", "upsample_bilinear", "upsample_bicubic"):
    _smooth = _name in ("upsample_bilinear", "upsample_bicubic")
    SPECS.append(
        OpSpec(
            name=_name,
            differentiable=("x",),
            draw=_with(None, 2),
            cases=(
                Case("ordinary", (2, 1, 2, 3)),
                Case("a size", (1, 2, 3, 2), draw=_with((5, 7))),
                Case("a broken factor", (1, 2, 5, 4), draw=_with(None, (1.5, 2.5))),
                Case("nearly once, nearly twice", (1, 2, 3, 3), draw=_with(None, (1.2, 2.2))),
                Case("smaller", (1, 1, 7, 5), draw=_with((3, 2))),
                Case("one of two", (1, 2, 4, 4), draw=_with(None, (1, 0.5))),
                Case("named", (1, 2, 3, 3), {"size": 4}, draw=_with()),
                Case("named factor", (1, 2, 3, 3), {"scale_factor": 3}, draw=_with()),
                Case("sequences", (2, 2, 4), draw=_with(9)),
                Case("to one", (1, 2, 4, 3), draw=_with(1)),
                *(
                    Case(name, shape, {"align_corners": True}, draw=_with(size))
                    for name, shape, size in (
                        ("corners aligned", (1, 2, 3, 2), (5, 7)),
                        ("corners aligned, smaller", (1, 1, 5, 4), (3, 1)),
                    )
                    if _smooth
                ),
                *(
                    Case(name, shape, {"antialias": True, **options}, draw=_with(size, factor))
                    for name, shape, options, size, factor in (
                        ("antialiased", (1, 1, 9, 7), {}, (4, 3), None),
                        ("antialiased, larger", (1, 2, 3, 2), {}, (5, 7), None),
                        ("antialiased, a broken factor", (1, 1, 7, 3), {}, None, (0.4, 1.2)),
                        ("antialiased, corners aligned", (1, 1, 7, 4), {"align_corners": True}, (3, 1), None),
                    )
                    if _smooth
                ),
            ),
            oracle=getattr(oracles_resample, _name),
            sizes=UPSAMPLED,
            rank=(3, 4),
            shortest=1,
            terms=lambda x, *settings, **options: 9,
            rounding=24 if _smooth else 1,  # positions among 67 pixels, of which only the part between two counts
            magnitude=lambda x, *settings, **options: typical(x),
            slope=one,
        )
    )


def _dropping(p: float) -> Draw:
    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        return normal(generator, shape), p, generator.random((*shape[:2], *(1,) * (len(shape) - 2))) >= p

    return draw


SPECS.append(
    OpSpec(
        name="dropout2d",
        differentiable=("x",),
        draw=_dropping(0.3),
        cases=(
            Case("ordinary", (3, 4, 2, 2)),
            Case("sequences", (3, 4, 2)),
            Case("nothing", (2, 3, 2, 2), draw=_dropping(0.0)),
            Case("everything", (2, 3, 2, 2), draw=_dropping(1.0)),
        ),
        oracle=oracles_resample.dropout2d,
        sizes={"empty": (0, 3, 2, 2), "one": (1, 1, 1, 1), "odd": (7, 5, 3, 3), "large": (33, 17, 11, 13)},
        elementwise=True,
        slope=one,
        rounding=4,
        rank=(3, 5),
        shortest=1,
    )
)
