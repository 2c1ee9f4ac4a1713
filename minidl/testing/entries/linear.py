"""Entries for matrix products and the affine map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy

from minidl.testing import oracles
from minidl.testing.spec import (
    Arguments,
    Case,
    Generator,
    OpSpec,
    Shape,
    normal,
    typical,
)

__all__ = ["SPECS"]

SPECS: list[OpSpec] = []


def _draw_product(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw matrices whose product is (m, n) over k, for shape (*batch, m, k, n)."""
    *batch, m, k, n = shape
    a = (k, m) if options.get("transpose_a") else (m, k)
    b = (n, k) if options.get("transpose_b") else (k, n)
    return normal(generator, (*batch, *a)), normal(generator, (*batch, *b))


def _draw_broadcast(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw operands whose batch axes differ: of length one, and missing."""
    first, second, m, k, n = shape
    return normal(generator, (first, 1, m, k)), normal(generator, (second, k, n))


def _draw_repeated(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw a second operand with a batch axis missing and one of length one, next to another of length one."""
    batch, m, k, n = shape
    return normal(generator, (1, 1, batch, m, k)), normal(generator, (1, 1, k, n))


def _terms_of_product(a: numpy.ndarray, b: numpy.ndarray, transpose_a: bool = False, transpose_b: bool = False) -> int:
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    n = b.shape[-2] if transpose_b else b.shape[-1]
    return max(k, n, m) * max(1, math.prod(a.shape[:-2]), math.prod(b.shape[:-2]))


SPECS.append(
    OpSpec(
        name="matmul",
        differentiable=("a", "b"),
        operands=("a", "b"),
        draw=_draw_product,
        cases=(
            Case("ordinary", (3, 4, 2)),
            Case("transpose_a", (3, 4, 2), {"transpose_a": True}),
            Case("transpose_b", (3, 4, 2), {"transpose_b": True}),
            Case("transpose both", (3, 4, 2), {"transpose_a": True, "transpose_b": True}),
            Case("batches", (2, 3, 2, 4)),
            Case("broadcast batches", (2, 3, 2, 3, 2), draw=_draw_broadcast),
            Case("repeated batches", (2, 2, 3, 2), draw=_draw_repeated),
        ),
        oracle=oracles.matmul,
        sizes={"empty": (0, 3, 2), "one": (1, 1, 1), "odd": (7, 13, 5), "large": (131, 523, 67)},
        rank=(3, 5),
        terms=_terms_of_product,
        rounding=2,
        magnitude=lambda a, b, **options: typical(a) * typical(b) * math.sqrt(_terms_of_product(a, b, **options)),
        slope=lambda a, b, **options: max(typical(a), typical(b)),
    )
)


def _draw_linear(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    """Draw x, weight and bias for shape (..., in, out)."""
    *x, out = shape
    return normal(generator, tuple(x)), normal(generator, (out, x[-1])), normal(generator, (out,))


def _draw_linear_without_bias(generator: Generator, shape: Shape, options: Mapping[str, Any]) -> Arguments:
    return _draw_linear(generator, shape, options)[:2]


def _terms_of_linear(x: numpy.ndarray, weight: numpy.ndarray, bias: numpy.ndarray | None = None) -> int:
    return max(*weight.shape, math.prod(x.shape[:-1]))


SPECS.append(
    OpSpec(
        name="linear",
        differentiable=("x", "weight", "bias"),
        operands=("x", "weight"),
        draw=_draw_linear,
        cases=(
            Case("ordinary", (3, 4, 2)),
            Case("no bias", (3, 4, 2), draw=_draw_linear_without_bias),
            Case("one example", (4, 2)),
            Case("sequences", (2, 3, 4, 2)),
        ),
        oracle=oracles.linear,
        sizes={"empty": (0, 3, 2), "one": (1, 1, 1), "odd": (7, 13, 5), "large": (131, 523, 67)},
        rank=(2, 5),
        terms=_terms_of_linear,
        rounding=3,
        magnitude=lambda x, weight, *bias: typical(x) * typical(weight) * math.sqrt(weight.shape[1]),
        slope=lambda x, weight, *bias: max(typical(x), typical(weight), 1.0),
    )
)
