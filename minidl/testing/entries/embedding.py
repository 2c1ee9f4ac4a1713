"""The entry for tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_embedding
from minidl.testing.spec import Arguments, Case, Generator, OpSpec, Shape, largest, normal, one

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _draw_lookup(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw ids and a table for shape (..., V, C). The first and the last row are used, the first one twice if it can be."""
    *places, vocabulary, width = shape
    ids = numpy.asarray(generator.integers(0, vocabulary, places))
    if ids.size:
        ids.flat[:2] = 0
        ids.flat[-1] = vocabulary - 1
    return ids, normal(generator, (vocabulary, width))


def _draw_beside_padding(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw no id of the padding, whose gradient is left out on purpose; tests/ops/test_embedding.py looks at that."""
    ids, weight = _draw_lookup(generator, shape, options)
    row = options["padding_idx"] % len(weight)
    return numpy.where(ids == row, (row + 1) % len(weight), ids), weight


def _draw_short_ids(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw ids in few bits and without a sign, as token files hold them."""
    ids, weight = _draw_lookup(generator, shape, options)
    return ids.astype("uint16"), weight


SPECS.append(
    OpSpec(
        name="embedding",
        differentiable=("weight",),
        draw=_draw_lookup,
        cases=(
            Case("ordinary", (7, 4, 3)),
            Case("sequences", (2, 5, 4, 3)),
            Case("one id", (4, 3)),
            Case("one row", (5, 1, 3)),
            Case("short integers", (2, 6, 5, 2), draw=_draw_short_ids),
            Case("padding", (2, 5, 4, 3), {"padding_idx": 1}, draw=_draw_beside_padding),
            Case("padding from the end", (2, 5, 4, 3), {"padding_idx": -1}, draw=_draw_beside_padding),
            Case("padding from the front", (2, 5, 4, 3), {"padding_idx": -4}, draw=_draw_beside_padding),
        ),
        oracle=oracles_embedding.embedding,
        sizes={"empty": (0, 3, 2), "one": (1, 1, 1), "odd": (7, 5, 13, 3), "large": (33, 67, 131, 70)},
        rank=(3, 5),
        shortest=1,
        terms=lambda ids, weight, **options: max(ids.size, 1),
        rounding=1,
        magnitude=lambda ids, weight, **options: largest(weight),
        slope=one,
    )
)
