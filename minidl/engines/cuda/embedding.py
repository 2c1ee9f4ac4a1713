"""Rows of a table, and rotary positions."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.engines.cuda import later
from minidl.engines.cuda.dispatch import NOT_TAKEN, blocks_for, dense, is_taken, new, override, storable, team, wide
from minidl.engines.cuda.source import launch
from minidl.errors import DataError
from minidl.ops import Array, namespace
from minidl.ops._rows import check_ids
from minidl.ops._scalars import is_count

__all__: list[str] = []

FILE, ROTARY = "embedding/embedding.cu", "embedding/rotary.cu"
CHUNK = 32
"""Places that one block adds up."""
THREADS = 256


def _ids(ids: Any, weight: Any, padding_idx: Any) -> Array | None:
    """Return the ids as one axis of int64, or None where the formula must object."""
    if not is_taken(weight) or type(ids) is not type(weight) or ids.dtype.kind not in "iu" or not ids.size:
        return None
    if weight.ndim != 2 or not weight.size or weight.shape[1] >= 2**31:
        return None
    if padding_idx is not None and not (is_count(abs(padding_idx) if isinstance(padding_idx, int) else padding_idx)):
        return None
    if padding_idx is not None and not -weight.shape[0] <= padding_idx < weight.shape[0]:
        return None
    return dense(ids.astype("int64", copy=False)).reshape((ids.size,))


def _no_row(ids: Array, vocabulary: int) -> Exception:
    """Return what the formula says of ids that are no rows."""
    try:
        check_ids(ids, vocabulary, "embedding")
    except DataError as error:
        return error
    return DataError(f"embedding: the ids were not rows of a table of {vocabulary} rows; they have been changed since")


@override("embedding")
def embedding(ids: Any, weight: Any, padding_idx: Any = None) -> Any:
    """See ``minidl.ops.embedding.embedding``. An id that is no row is reported by ``later.check``."""
    places = _ids(ids, weight, padding_idx)
    if places is None:
        return NOT_TAKEN
    (vocabulary, width), count = weight.shape, places.size
    y, wrong = new(weight, (*ids.shape, width)), new(weight, (), "int64")
    launch(FILE, "embedding_check", weight.dtype, 1, 512, places, wrong, count, vocabulary)
    arguments = (dense(weight), places, y, count, vocabulary, numpy.int32(width))
    launch(FILE, "embedding_forward", weight.dtype, *team(count, width), *arguments)
    later.expect(wrong, count, lambda _: _no_row(ids, vocabulary))
    return y, (ids, weight, padding_idx)


@override("embedding_backward")
def embedding_backward(dy: Any, cache: tuple[Any, ...], into: Any = None, add: Any = False, wanted: Any = None) -> Any:
    """See ``minidl.ops.embedding.embedding_backward``. The ids are sorted, and each run of equal ones is summed in order."""
    ids, weight, padding_idx = cache
    places = _ids(ids, weight, padding_idx)
    if places is None or not is_taken(weight, dy) or dy.shape != (*ids.shape, weight.shape[1]):
        return NOT_TAKEN
    if not storable(into, wanted, [weight.shape], 1, weight):
        return NOT_TAKEN
    if wanted is not None and not wanted[1]:
        return None, None
    given = into[0] if into is not None else None
    dweight = new(weight) if given is None else given
    if given is None or not add:
        dweight.fill(0)
    order = namespace(places).argsort(places, kind="stable")
    rows, (vocabulary, width), count = places[order], weight.shape, places.size
    chunks = -(-count // CHUNK)
    partials = new(weight, (chunks, 2, width), wide(weight))
    skipped = numpy.int64(-1 if padding_idx is None else padding_idx % vocabulary)
    after = (count, vocabulary, numpy.int32(width), skipped)
    grid, block = blocks_for(chunks, 1), min(THREADS, -(-width // 32) * 32)
    launch(FILE, "embedding_runs", weight.dtype, grid, block, dense(dy), rows, order, dweight, partials, *after)
    if chunks > 1:
        launch(FILE, "embedding_joins", weight.dtype, grid, block, rows, partials, dweight, *after)
    return None, dweight


def _steps(table: Array, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return how far apart the rows of a table without gaps are along each of (batch, heads, T); None if it does not fit."""
    sizes = (1,) * (3 - (table.ndim - 1)) + table.shape[:-1]
    if table.ndim > 4 or any(one not in (1, full) for one, full in zip(sizes, shape, strict=True)):
        return None
    pairs = table.shape[-1]
    return tuple(0 if one == 1 else pairs * math.prod(sizes[axis + 1 :]) for axis, one in enumerate(sizes))


def _turn(x: Any, cosine: Any, sine: Any, interleaved: Any, out: Any, direction: float) -> Any:
    if not is_taken(x, cosine, sine) or not 2 <= x.ndim <= 4 or cosine.shape != sine.shape or not cosine.ndim:
        return NOT_TAKEN
    pairs, width = cosine.shape[-1], x.shape[-1]
    if 2 * pairs > width or width >= 2**31 or not isinstance(interleaved, bool):
        return NOT_TAKEN
    if out is not None and (out is not x or not x.flags.c_contiguous):
        return NOT_TAKEN  # it might overlap x in another way
    shape = (1,) * (4 - x.ndim) + x.shape[:-1]  # (batch, heads, T)
    steps = _steps(cosine, shape)
    if steps is None or max(shape) >= 2**31:
        return NOT_TAKEN
    x = dense(x)
    y = new(x) if out is None else out
    if y.size:
        rows, sizes = math.prod(shape), (numpy.int32(n) for n in (*shape[1:], width, pairs))
        tables = dense(cosine), dense(sine)
        arguments = (x, *tables, y, rows, *sizes, *steps, interleaved, direction)
        launch(ROTARY, "rotary_turn", x.dtype, blocks_for(rows * (width - pairs), THREADS), THREADS, *arguments)
    return y


@override("rotary_embedding")
def rotary_embedding(x: Any, cos: Any, sin: Any, interleaved: Any = False, out: Any = None) -> Any:
    """See ``minidl.ops.position.rotary_embedding``. Up to two axes before T."""
    y = _turn(x, cos, sin, interleaved, out, 1.0)
    return y if y is NOT_TAKEN else (y, (cos, sin, interleaved, x.shape))


@override("rotary_embedding_backward")
def rotary_embedding_backward(dy: Any, cache: tuple[Any, ...], out: Any = None) -> Any:
    """See ``minidl.ops.position.rotary_embedding_backward``."""
    cos, sin, interleaved, shape = cache
    if getattr(dy, "shape", None) != shape:
        return NOT_TAKEN
    return _turn(dy, cos, sin, interleaved, out, -1.0)
