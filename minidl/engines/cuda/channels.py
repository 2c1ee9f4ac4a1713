"""Sums over everything but the channels, in two steps: see csrc/reduce/channels.cuh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl.engines.cuda.dispatch import NOT_TAKEN, dense, is_taken, new, override, storable, wide
from minidl.engines.cuda.source import launch
from minidl.ops import FORMULAS, Array

__all__ = ["bias_gradient", "sum_channels"]

FILE = "reduce/sums.cu"
WIDTH, DEPTH = 32, 8
"""Of a block."""


def _blocks_of_rows(rows: int) -> tuple[int, int]:
    """Return how many blocks share the rows, at most 64, and how many rows each has: by the rows alone, so that bits repeat."""
    of_block = max(DEPTH, -(-rows // 64))
    return -(-rows // of_block), of_block


def sum_channels(
    file: str,
    kernel: str,
    x: Array,
    positions: int,
    channels: int,
    *arguments: Any,
    after: tuple[Any, ...] = (),
    pairs: bool = False,
) -> Array:
    """Return the partial sums of each channel: (blocks of rows, channels), or two of them."""
    rows = x.size // (channels * positions)
    blocks, of_block = _blocks_of_rows(rows)
    partials = new(x, (blocks, channels, 2) if pairs else (blocks, channels), wide(x))
    across = channels if positions > 1 else -(-channels // WIDTH)
    shape = (rows, numpy.int32(channels), numpy.int32(positions), of_block)
    launch(file, kernel, x.dtype, (across, blocks), (WIDTH, DEPTH), *arguments, partials, *shape, *after)
    return partials


def bias_gradient(dy: Array, channels: int, positions: int, to: Array | None = None, add: bool = False) -> Array:
    """Return the sum of dy, seen as (rows, channels, positions), over rows and positions; written or added to an array if given."""
    dy = dense(dy)
    partials = sum_channels(FILE, "channel_sums", dy, positions, channels, dy)
    total = new(dy, (channels,)) if to is None else to
    shape = (numpy.int32(partials.shape[0]), numpy.int32(channels))
    arguments = (partials, *shape, total, add and to is not None)
    launch(FILE, "channel_sums_total", dy.dtype, -(-channels // 128), 128, *arguments)
    return total


@override("linear_backward")
def linear_backward(
    dy: Any,
    cache: tuple[Any, ...],
    into: Sequence[Array | None] | None = None,
    add: Any = False,
    wanted: Sequence[bool] | None = None,
) -> Any:
    """See ``minidl.ops.linear.linear_backward``. The products are cuBLAS's; the bias has a kernel."""
    x, weight, has_bias = cache
    if not has_bias or not is_taken(x, dy) or not dy.size or dy.shape != (*x.shape[:-1], weight.shape[0]):
        return NOT_TAKEN
    shapes = [weight.shape, weight.shape[:1]]
    if not storable(into, wanted, shapes, 1, x) or not (wanted is None or wanted[2]):
        return NOT_TAKEN
    others = (True, True) if wanted is None else tuple(wanted[:2])
    dx, dweight, _ = FORMULAS["linear_backward"](
        dy, cache, None if into is None else (into[0], None), add, (*others, False)
    )
    target = None if into is None else into[1]
    return dx, dweight, bias_gradient(dy, weight.shape[0], 1, target, bool(add))
