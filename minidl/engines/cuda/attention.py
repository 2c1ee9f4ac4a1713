"""Attention in tiles."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy

from minidl.engines.cuda.dispatch import NOT_TAKEN, alike, dense, is_taken, new, number, override, team, wide
from minidl.engines.cuda.dropout import take, words
from minidl.engines.cuda.source import launch
from minidl.ops import Array
from minidl.ops._scalars import is_count
from minidl.ops.precision import rounds_operands

__all__: list[str] = []

FILE = "attention/attention.cu"
THREADS = 256
WIDEST = (64, 128)
"""Features of a head, at most, for each set of kernels."""
MOST = 1 << 28
"""Of queries, keys and the offset, so that their sums fit into 32 bits."""


def _sizes(query: Any, key: Any, value: Any, enable_gqa: bool) -> tuple[int, ...] | None:
    """Return heads, how many of them share one of the keys, queries, keys, features and those of a value, or None."""
    if not is_taken(query, key, value) or not query.ndim == key.ndim == value.ndim == 4:
        return None
    if rounds_operands.get() and query.dtype == numpy.float32:
        return None
    batch, heads, queries, features = query.shape
    shared, keys = key.shape[1:3]
    fits = key.shape == (batch, shared, keys, features) and value.shape[:3] == key.shape[:3]
    if not fits or not query.size or not key.size or not value.size:
        return None
    if (heads != shared and not enable_gqa) or heads % shared or max(queries, keys) > MOST:
        return None
    sizes = heads, heads // shared, queries, keys, features, value.shape[3]
    return sizes if max(sizes[4:]) <= WIDEST[-1] and batch * heads * _tiles(query, max(queries, keys)) < 2**31 else None


def _side(x: Array) -> int:
    """Return how many queries, and how many keys, a tile has."""
    return 32 if x.dtype == numpy.float64 else 64


def _tiles(x: Array, rows: int) -> int:
    return -(-rows // _side(x))


def _reach(is_causal: bool, window: Any, offset: Any) -> tuple[int, int, int] | None:
    """Return the offset, and from how far to how far ahead of a query, without it, a key may be; None for the formula."""
    if not is_count(offset, 0) or offset > MOST or not (window is None or is_count(window, 1)):
        return None
    far = 2 * MOST
    least = -far if window is None else 1 - min(window, far)
    most = 0 if is_causal else far if window is None else min(window, far) - 1
    return int(offset), int(least), int(most)


def _mask(mask: Any, query: Array, shape: tuple[int, ...]) -> tuple[Any, ...] | None:
    """Return a boolean and an additive mask, one of them or both None, and how far apart elements are along (N, H, T, S)."""
    if mask is None:
        return None, None, 0, 0, 0, 0
    if type(mask) is not type(query) or mask.ndim > 4 or not (mask.dtype == bool or is_taken(query, mask)):
        return None
    sizes = (1,) * (4 - mask.ndim) + mask.shape
    if any(one not in (1, full) for one, full in zip(sizes, shape, strict=True)):
        return None
    steps = [0 if one == 1 else math.prod(sizes[axis + 1 :]) for axis, one in enumerate(sizes)]
    mask = dense(mask)
    return (mask, None, *steps) if mask.dtype == bool else (None, mask, *steps)


def _drops(p: float, keep: Any, drawn: tuple[int, int, bool, int] | None) -> tuple[Any, ...]:
    """Return what the kernels take of dropout: the mask, or where the generator is."""
    state, increment, waiting, half = drawn or (0, 0, False, 0)
    grown = 1 / (1 - p) if p < 1 else 0.0
    numbers = (*words(state, increment), waiting, numpy.uint32(half), numpy.float32(p), float(grown))
    return keep, keep is not None or drawn is not None, *numbers


def _integers(values: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(map(numpy.int32, values))


def _kernel(name: str, sizes: tuple[int, ...]) -> str:
    return f"attention_{name}_{next(widest for widest in WIDEST if max(sizes[4:]) <= widest)}"


@override("scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: Any = 0.0,
    is_causal: Any = False,
    scale: Any = None,
    enable_gqa: Any = False,
    window: Any = None,
    offset: Any = 0,
    random: Any = None,
) -> Any:
    """See ``minidl.ops.attention.scaled_dot_product_attention``.

    Heads of more than 128 features, dropout by a generator that is not a PCG64, and products that round their operands go to
    the formula.
    """
    sizes = _sizes(query, key, value, bool(enable_gqa))
    reach = _reach(bool(is_causal), window, offset)
    if sizes is None or reach is None or not (scale is None or (number(scale) and math.isfinite(scale))):
        return NOT_TAKEN
    shape = (*query.shape[:3], key.shape[2])
    mask = _mask(attn_mask, query, shape)
    if mask is None or not number(dropout_p) or not 0 <= dropout_p <= 1:
        return NOT_TAKEN
    keep = drawn = dropout = None
    if dropout_p:
        if isinstance(random, type(query)):
            if random.dtype != bool or random.shape != shape:
                return NOT_TAKEN
            keep, dropout = dense(random), (dropout_p, random)
        else:
            before = copy.deepcopy(random)
            drawn = take(random, math.prod(shape))
            if drawn is None:
                return NOT_TAKEN
            dropout = (dropout_p, before)
    factor = 1 / math.sqrt(query.shape[3]) if scale is None else float(scale)
    y, log_sum = new(query, (*query.shape[:3], value.shape[3])), new(query, query.shape[:3], wide(query))
    problem = (*map(dense, (query, key, value)), *_integers(sizes), factor, *_integers(reach), *mask)
    grid = query.shape[0] * query.shape[1] * _tiles(query, query.shape[2])
    arguments = (*problem, *_drops(float(dropout_p), keep, drawn), y, log_sum)
    launch(FILE, _kernel("forward", sizes), query.dtype, grid, THREADS, *arguments)
    return y, (query, key, value, attn_mask, (factor, bool(is_causal), window, offset), dropout, y, log_sum)


@override("scaled_dot_product_attention_backward")
def scaled_dot_product_attention_backward(dy: Any, cache: tuple[Any, ...]) -> Any:
    """See ``minidl.ops.attention.scaled_dot_product_attention_backward``."""
    query, key, value, attn_mask, (factor, is_causal, window, offset), dropout, y, log_sum = cache
    sizes, reach = _sizes(query, key, value, enable_gqa=True), _reach(is_causal, window, offset)
    mask = None if sizes is None else _mask(attn_mask, query, (*query.shape[:3], key.shape[2]))
    if sizes is None or reach is None or mask is None or not alike(y, dy) or not is_taken(query, dy):
        return NOT_TAKEN
    if type(log_sum) is not type(query) or log_sum.dtype != wide(query) or log_sum.shape != query.shape[:3]:
        return NOT_TAKEN
    keep = drawn = None
    p, source = (0.0, None) if dropout is None else dropout
    if isinstance(source, type(query)):
        keep = dense(source)
    elif dropout is not None:
        drawn = take(copy.deepcopy(source), 0)
        if drawn is None:
            return NOT_TAKEN
    query, key, value, dy, y, log_sum = map(dense, (query, key, value, dy, y, log_sum))
    deltas, rows = new(log_sum), log_sum.size  # (N, H, T)
    launch(FILE, "attention_delta", y.dtype, *team(rows, sizes[5]), dy, y, deltas, rows, numpy.int32(sizes[5]))
    problem = (
        query,
        key,
        value,
        *_integers(sizes),
        float(factor),
        *_integers(reach),
        *mask,
        *_drops(float(p), keep, drawn),
    )
    dquery, dkey, dvalue = new(query), new(key), new(value)
    heads, shared = (x.shape[0] * x.shape[1] for x in (query, key))
    for name, grid, outputs in (
        ("queries", heads * _tiles(query, query.shape[2]), (dquery,)),
        ("keys", shared * _tiles(query, key.shape[2]), (dkey, dvalue)),
    ):
        arguments = (*problem, dy, log_sum, deltas, *outputs)
        launch(FILE, _kernel(name, sizes), query.dtype, grid, THREADS, *arguments)
    return dquery, dkey, dvalue
