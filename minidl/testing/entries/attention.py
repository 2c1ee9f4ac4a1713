"""The entry for attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles_attention
from minidl.testing.spec import Arguments, Case, Draw, Generator, OpSpec, Shape, largest, normal

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []

Numbers = numpy.ndarray


def _draw_attention(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw query, key and value for shape (N, H, T, S, D); values are one longer than keys, unless D is 1."""
    batch, heads, queries, keys, size = shape
    shared = -(-heads // 2) if options.get("enable_gqa") else heads
    heads = 2 * shared if options.get("enable_gqa") else heads
    value = normal(generator, (batch, shared, keys, size + (size > 1)))
    query, key = (
        normal(generator, (batch, heads, queries, size), 1.0),
        normal(generator, (batch, shared, keys, size), 1.0),
    )
    return query, key, value


def _with_mask(kind: str, axes: int) -> Draw:
    """Return a draw with a boolean or an additive mask that lacks all but its last ``axes`` axes."""

    def draw(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
        full = shape[:4][4 - axes :]
        if axes == 4:
            full = (full[0], 1, *full[2:])
        mask = numpy.asarray(generator.random(full) < 0.6)
        mask[..., 0] = True  # every query sees a key
        if kind == "rows":  # but some see none
            mask[..., 0, :] = False
        if kind == "additive":
            mask = numpy.where(mask, normal(generator, full, 1.0), -math.inf if axes == 2 else -3.0)
        return *_draw_attention(generator, shape, options), mask

    return draw


def _with_dropout(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    keep = numpy.asarray(generator.random(shape[:4]) < 0.7)
    return *_draw_attention(generator, shape, options), None, 0.25, False, None, False, None, 0, keep


def _terms(query: Numbers, key: Numbers, value: Numbers, *rest: Any, **options: Any) -> int:
    """Return the longest sum: over keys, over the queries of all heads that share a key, or over a head."""
    return max(key.shape[2], query.shape[2] * query.shape[1] // max(key.shape[1], 1), value.shape[3])


def _slope(
    query: Numbers, key: Numbers, value: Numbers, *rest: Any, scale: float | None = None, **options: Any
) -> float:
    """Return the size of dp, at most, times what it is multiplied with afterwards."""
    size = max(query.shape[3], 1)
    factor = 1 / math.sqrt(size) if scale is None else abs(scale)
    return 1.0 + factor * max(largest(query), largest(key)) * largest(value) * math.sqrt(value.shape[3])


SPECS.append(
    OpSpec(
        name="scaled_dot_product_attention",
        differentiable=("query", "key", "value"),
        draw=_draw_attention,
        cases=(
            Case("ordinary", (1, 2, 2, 3, 2)),
            Case("causal, shared heads", (1, 4, 2, 2, 1), {"is_causal": True, "enable_gqa": True}),
            Case("shared heads", (2, 2, 2, 2, 1), {"enable_gqa": True}),
            Case("fewer keys than queries", (1, 1, 3, 2, 1), {"is_causal": True}),
            Case("one query with a key-value cache", (2, 1, 1, 3, 1), {"is_causal": True, "offset": 2}),
            Case("window", (1, 1, 3, 5, 1), {"is_causal": True, "window": 2, "offset": 2}),
            Case("window on both sides", (1, 1, 4, 4, 1), {"window": 2}),
            Case("queries beyond the window", (1, 1, 4, 2, 1), {"is_causal": True, "window": 2}),
            Case("scale", (1, 1, 2, 3, 1), {"scale": 0.3}),
            Case("boolean mask", (2, 2, 2, 3, 1), draw=_with_mask("boolean", 4)),
            Case("boolean mask and causal", (1, 1, 3, 3, 1), {"is_causal": True}, draw=_with_mask("boolean", 1)),
            Case("additive mask", (1, 2, 2, 3, 1), draw=_with_mask("additive", 3)),
            Case("additive mask with infinity", (1, 1, 2, 4, 1), draw=_with_mask("additive", 2)),
            Case("rows that see nothing", (1, 1, 3, 3, 1), draw=_with_mask("rows", 4)),
            Case("dropout", (1, 2, 2, 3, 1), draw=_with_dropout),
        ),
        oracle=oracles_attention.scaled_dot_product_attention,
        sizes={"empty": (0, 2, 3, 3, 2), "one": (1, 1, 1, 1, 1), "odd": (3, 2, 7, 5, 3), "large": (1, 3, 70, 133, 33)},
        rank=(5, 5),
        shortest=2,
        terms=_terms,
        rounding=64,  # exp magnifies the rounding of a score by its size, and of the logarithm of their sum
        magnitude=lambda query, key, value, *rest, **options: largest(value),
        slope=_slope,
    )
)
