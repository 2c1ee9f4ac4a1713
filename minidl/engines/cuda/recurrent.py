"""LSTM and GRU: the gates of a step in one kernel, the products as the formulas have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl.engines.cuda.dispatch import NOT_TAKEN, blocks_for, dense, is_taken, new, override, storable, wide
from minidl.engines.cuda.source import launch
from minidl.ops import Array
from minidl.ops._checks import widen_float16
from minidl.ops._gradients import parameter_gradients
from minidl.ops._recurrent import (
    arrange_backward,
    arrange_steps,
    check_sequences,
    check_upstream,
    parameter_sums,
    project,
    restore_batch,
    start_state,
)
from minidl.ops.precision import product

__all__: list[str] = []

FILE = "recurrent/gates.cu"
THREADS = 256
PARAMETERS = "weight_ih", "weight_hh", "bias_ih", "bias_hh"

Cache = tuple[Any, ...]
Gradients = tuple[Array | None, ...]


def _fits(x: Any, weights: Sequence[Any], rest: Sequence[Any]) -> bool:
    """Whether the arrays are of one kind and nothing is empty; the formulas' checks look at the rest."""
    given = [array for array in rest if array is not None]
    return is_taken(x, *weights, *given) and x.ndim == 3 and x.size > 0 and all(w.size and w.ndim == 2 for w in weights)


def _step(kernel: str, like: Array, arrays: Sequence[Array | None], lengths: Array | None, t: int) -> None:
    """Run a kernel on one step of all sequences; ``like`` has the shape of a state."""
    after = (like.size, numpy.int32(like.shape[1]), lengths, numpy.int32(t))
    launch(FILE, kernel, like.dtype, blocks_for(like.size, THREADS), THREADS, *arrays, *after)


def _begin(state: Array | None, x: Array, hidden: int) -> Array:
    """Return room for the states before and after each step, (T + 1, N, H), with the first in its place."""
    states = new(x, (x.shape[1] + 1, x.shape[0], hidden), wide(x))
    states[0] = start_state(state, x, hidden)
    return states


def _products(x: Array, weights: Sequence[Array], biases: Sequence[Array | None]) -> tuple[Any, ...]:
    """Return W_ih x + b_ih of all steps, the matrix that the state is multiplied with, and the bias of that product."""
    bias = None if biases[1] is None else dense(widen_float16(biases[1]))
    return dense(project(x, weights[0], biases[0])), widen_float16(weights[1]).T, bias


@override("lstm")
def lstm(
    x: Any,
    h0: Any,
    c0: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    lengths: Any = None,
    reverse: Any = False,
) -> Any:
    """See ``minidl.ops.recurrent.lstm``."""
    weights, biases = (weight_ih, weight_hh), (bias_ih, bias_hh)
    if not _fits(x, weights, (h0, c0, *biases)):
        return NOT_TAKEN
    lengths = check_sequences("lstm", 4, x, weights, biases, {"h0": h0, "c0": c0}, lengths)
    hidden = weight_hh.shape[1]
    steps = arrange_steps(x, lengths, reverse)  # (T, N, C)
    a, recurrent, bias = _products(steps, weights, biases)  # (T, N, 4 H)
    h, c, gates = _begin(h0, x, hidden), _begin(c0, x, hidden), new(a)
    for t in range(len(steps)):
        q = dense(product(h[t], recurrent, x.dtype))  # (N, 4 H)
        _step("lstm_step", h[t], (a[t], q, bias, c[t], h[t], gates[t], c[t + 1], h[t + 1]), lengths, t)
    y = restore_batch(h[1:], lengths, reverse, x.dtype)  # (N, T, H)
    given = tuple(array is not None for array in (h0, c0, *biases))
    return (y, h[-1].astype(x.dtype), c[-1].astype(x.dtype)), (steps, lengths, reverse, weights, given, h, c, gates)


@override("lstm_backward")
def lstm_backward(dy: Any, cache: Cache, into: Any = None, add: Any = False, wanted: Any = None) -> Any:
    """See ``minidl.ops.recurrent.lstm_backward``."""
    h, gates = cache[5], cache[7]
    if not _fits_backward(dy, cache, 2, (h, cache[6], gates), into, wanted):
        return NOT_TAKEN
    return _lstm_backward(dy, cache, into=into, add=add, wanted=wanted)


@parameter_gradients(*PARAMETERS)
def _lstm_backward(dy: Any, cache: Cache, wanted: Sequence[bool] = (True,) * 7) -> Gradients:
    steps, lengths, reverse, (weight_ih, weight_hh), given, h, c, gates = cache
    dtype, hidden = weight_ih.dtype, h.shape[2]
    check_upstream("lstm_backward", dy, ("dy", "dh_n", "dc_n"), _shapes(h, 2), weight_ih)
    dys = _of_outputs(dy[0], h, lengths, reverse)  # (T, N, H)
    dh, dc = (start_state(d, h[0], hidden).copy() for d in dy[1:])
    da, recurrent, after = new(gates), widen_float16(weight_hh), None
    for t in reversed(range(len(steps))):
        arrays = (gates[t], c[t], c[t + 1], None if dys is None else dys[t], after, dh, dc, da[t])
        _step("lstm_step_backward", dh, arrays, lengths, t)
        after = dense(product(da[t], recurrent, dtype))  # (N, H)
    dx = restore_batch(project(da, weight_ih.T, None), lengths, reverse, dtype) if wanted[0] else None
    dweight_ih, dbias_ih = parameter_sums(da, steps, wanted[3], wanted[5] and given[2], dtype)
    dweight_hh, dbias_hh = parameter_sums(da, h[:-1], wanted[4], wanted[6] and given[3], dtype)
    dh0 = after.astype(dtype) if after is not None and wanted[1] and given[0] else None
    dc0 = dc.astype(dtype) if wanted[2] and given[1] else None
    return dx, dh0, dc0, dweight_ih, dweight_hh, dbias_ih, dbias_hh


@override("gru")
def gru(
    x: Any,
    h0: Any,
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    lengths: Any = None,
    reverse: Any = False,
) -> Any:
    """See ``minidl.ops.recurrent.gru``."""
    weights, biases = (weight_ih, weight_hh), (bias_ih, bias_hh)
    if not _fits(x, weights, (h0, *biases)):
        return NOT_TAKEN
    lengths = check_sequences("gru", 3, x, weights, biases, {"h0": h0}, lengths)
    hidden = weight_hh.shape[1]
    steps = arrange_steps(x, lengths, reverse)  # (T, N, C)
    p, recurrent, bias = _products(steps, weights, biases)  # (T, N, 3 H)
    h, gates = _begin(h0, x, hidden), new(p)
    of_state = new(h, (len(steps), *h.shape[1:]))  # (T, N, H), q_n
    for t in range(len(steps)):
        q = dense(product(h[t], recurrent, x.dtype))  # (N, 3 H)
        _step("gru_step", h[t], (p[t], q, bias, h[t], gates[t], of_state[t], h[t + 1]), lengths, t)
    y = restore_batch(h[1:], lengths, reverse, x.dtype)  # (N, T, H)
    given = tuple(array is not None for array in (h0, *biases))
    return (y, h[-1].astype(x.dtype)), (steps, lengths, reverse, weights, given, h, gates, of_state)


@override("gru_backward")
def gru_backward(dy: Any, cache: Cache, into: Any = None, add: Any = False, wanted: Any = None) -> Any:
    """See ``minidl.ops.recurrent.gru_backward``."""
    if not _fits_backward(dy, cache, 1, cache[5:], into, wanted):
        return NOT_TAKEN
    return _gru_backward(dy, cache, into=into, add=add, wanted=wanted)


@parameter_gradients(*PARAMETERS)
def _gru_backward(dy: Any, cache: Cache, wanted: Sequence[bool] = (True,) * 6) -> Gradients:
    steps, lengths, reverse, (weight_ih, weight_hh), given, h, gates, of_state = cache
    dtype, hidden = weight_ih.dtype, h.shape[2]
    check_upstream("gru_backward", dy, ("dy", "dh_n"), _shapes(h, 1), weight_ih)
    dys = _of_outputs(dy[0], h, lengths, reverse)  # (T, N, H)
    dh = start_state(dy[1], h[0], hidden).copy()
    dp, dq, recurrent, after = new(gates), new(gates), widen_float16(weight_hh), None
    for t in reversed(range(len(steps))):
        arrays = (gates[t], of_state[t], h[t], None if dys is None else dys[t], after, dh, dp[t], dq[t])
        _step("gru_step_backward", dh, arrays, lengths, t)
        after = dense(product(dq[t], recurrent, dtype))  # (N, H)
    dx = restore_batch(project(dp, weight_ih.T, None), lengths, reverse, dtype) if wanted[0] else None
    dweight_ih, dbias_ih = parameter_sums(dp, steps, wanted[2], wanted[4] and given[1], dtype)
    dweight_hh, dbias_hh = parameter_sums(dq, h[:-1], wanted[3], wanted[5] and given[2], dtype)
    dh0 = (dh + after).astype(dtype) if after is not None and wanted[1] and given[0] else None
    return dx, dh0, dweight_ih, dweight_hh, dbias_ih, dbias_hh


def _fits_backward(dy: Any, cache: Cache, states: int, kept: Sequence[Any], into: Any, wanted: Any) -> bool:
    """Whether the gradients and what forward kept are of one kind and without gaps, and the results can be stored."""
    weights = cache[3]
    if not isinstance(dy, (tuple, list)) or len(dy) != 1 + states or not is_taken(*weights):
        return False
    if not is_taken(*kept) or kept[0].dtype != wide(weights[0]) or not all(array.flags.c_contiguous for array in kept):
        return False
    if not kept[0].size or not is_taken(weights[0], *(d for d in dy if d is not None)):
        return False
    of_biases = weights[0].shape[:1]
    return storable(into, wanted, [w.shape for w in weights] + [of_biases] * 2, 1 + states, weights[0])


def _shapes(h: Array, states: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the upstream gradients."""
    steps, batch, hidden = h.shape
    return ((batch, steps - 1, hidden), *((batch, hidden),) * states)


def _of_outputs(dy: Array | None, h: Array, lengths: Array | None, reverse: Any) -> Array | None:
    """Return the gradients of the outputs step by step, (T, N, H), or None if there are none."""
    return None if dy is None else dense(arrange_backward(dy, h[1:], lengths, reverse))
