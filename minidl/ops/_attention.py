"""Checks of the arguments of attention and of rotary positions."""

from __future__ import annotations

import math
from typing import Any

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._checks import broadcast_shapes, require_same_dtype
from minidl.ops._namespace import Array, require_float

__all__ = ["check_attention", "check_mask", "check_positions", "check_tables"]

OP = "scaled_dot_product_attention"


def check_attention(query: Array, key: Array, value: Array, enable_gqa: bool) -> None:
    """Raise unless the shapes and dtypes of query, key and value fit together."""
    for name, array in (("query", query), ("key", key), ("value", value)):
        require_float(array, name, OP)
        require_same_dtype(array, query, name, "query", OP)
        if array.ndim != 4:
            raise ShapeError(f"{OP}: {name} must have shape (N, H, T, D), got {array.shape}")
    batch, heads, _, size = query.shape
    if key.shape[0] != batch or key.shape[3] != size or value.shape[:3] != key.shape[:3]:
        raise ShapeError(
            f"{OP}: expected query (N, H, T, D), key (N, H, S, D) and value (N, H, S, E), got {query.shape}, {key.shape} "
            f"and {value.shape}"
        )
    if not enable_gqa and key.shape[1] != heads:
        raise ShapeError(
            f"{OP}: query has {heads} heads and key has {key.shape[1]}; with enable_gqa=True several query heads share one"
        )
    if enable_gqa and (key.shape[1] == 0 or heads % key.shape[1]):
        raise ShapeError(f"{OP}: {heads} query heads cannot be shared evenly by {key.shape[1]} heads of key and value")
    if key.shape[2] == 0:
        raise ShapeError(f"{OP}: there must be at least one key, got key of shape {key.shape}")


def check_mask(mask: Any, query: Array, shape: tuple[int, ...]) -> None:
    """Raise unless a mask is boolean or of the dtype of the query, and broadcasts to (N, H, T, S)."""
    kind = getattr(getattr(mask, "dtype", None), "kind", None)
    if kind not in ("b", "f"):
        came = type(mask).__name__ if kind is None else f"dtype {mask.dtype}"
        raise DtypeError(
            f"{OP}: attn_mask must be boolean (True takes part) or floating-point (added to the scores), got {came}"
        )
    if kind == "f":
        require_same_dtype(mask, query, "attn_mask", "query", OP)
    try:
        fits = broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{OP}: attn_mask of shape {mask.shape} does not broadcast to (N, H, T, S) = {shape}")


def check_positions(scale: float | None, window: int | None, offset: int) -> None:
    """Raise unless scale, window and offset lie in their ranges."""
    if scale is not None and not math.isfinite(scale):
        raise ParameterError(f"{OP}: scale must be a finite number, or None for 1 / sqrt(D), got {scale!r}")
    for name, number, least in (("window", window, 1), ("offset", offset, 0)):
        if number is not None and number < least:
            raise ParameterError(f"{OP}: {name} must be an integer of at least {least}, got {number!r}")


def check_tables(shape: tuple[int, ...], cos: tuple[int, ...], sin: tuple[int, ...]) -> None:
    """Raise unless both tables broadcast to (..., T, R), with pairs for at most all features."""
    fits = len(shape) >= 2 and cos == sin and len(cos) >= 1 and 2 * cos[-1] <= shape[-1]
    if fits:
        wanted = (*shape[:-1], cos[-1])
        try:
            fits = broadcast_shapes(cos, wanted) == wanted
        except ValueError:
            fits = False
    if not fits:
        raise ShapeError(
            f"rotary_embedding: cos and sin must broadcast to (..., T, R) for x of shape (..., T, D), with 2 R <= D; got x of "
            f"shape {shape}, cos of shape {cos} and sin of shape {sin}"
        )
