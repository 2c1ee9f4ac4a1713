"""Recurrent networks: one layer that reads sequences step by step, forwards or backwards in time.

All three take x of shape (N, T, C), initial states of shape (N, H), and PyTorch's weights: ``weight_ih`` for the input,
``weight_hh`` for the hidden state, the gates one below the other. They return y, the hidden states of all steps, and the
final states. Their backward, through time, takes a tuple of gradients, one for each of these outputs; None stands for
zero. It goes from the last step to the first, and at each step adds what comes from the output to what comes from the
step after.

``lengths`` says how many steps of each sequence count. What lies beyond is padding: it is not read, y is 0 there, no
gradient flows from or to it, and the final state is the one after the last step that counts. ``reverse`` reads each
sequence from its last step that counts to its first; y stays in the order of x.

float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.errors import UnknownNameError
from minidl.ops._checks import ieee, widen_float16
from minidl.ops._gradients import parameter_gradients
from minidl.ops._namespace import Array, namespace
from minidl.ops._recurrent import (
    arrange_backward,
    arrange_steps,
    check_sequences,
    check_upstream,
    find_running,
    parameter_sums,
    project,
    restore_batch,
    start_state,
)
from minidl.ops.activation import sigmoid
from minidl.ops.precision import product

__all__ = ["gru", "gru_backward", "lstm", "lstm_backward", "rnn", "rnn_backward"]

Cache = tuple[Any, ...]
Gradients = tuple[Array | None, ...]


# the simple network ---------------------------------------------------------------------------------------------------


@ieee
def rnn(
    x: Array,
    h0: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> tuple[tuple[Array, Array], Cache]:
    """Run a simple recurrent network, also named after Elman.

    With f = tanh or relu::

        y_t = h_t = f(a_t)
        a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh

    Source: J. Elman, "Finding structure in time", Cognitive Science 14 (1990).

    Parameters
    ----------
    x : array, shape (N, T, C)
    h0 : array, shape (N, H), or None
        None is zero.
    weight_ih : array, shape (H, C)
    weight_hh : array, shape (H, H)
    bias_ih, bias_hh : array, shape (H,), optional
    lengths : array of int, shape (N,), optional
        How many steps of each sequence count, from 1 to T; all by default.
    reverse : bool, default False
        Whether to read the sequences from their last step to their first.
    nonlinearity : {"tanh", "relu"}, default "tanh"

    Returns
    -------
    (y, h_n) : tuple of array, shapes (N, T, H) and (N, H)
    cache : (x step by step, lengths, reverse, weights, which states and biases were given, h of all steps, nonlinearity)

    Raises
    ------
    ShapeError
        If the sizes do not fit, or there is no step.
    ParameterError
        If a length is not from 1 to T.
    DtypeError
        If the arrays are not floating-point of one dtype, or the lengths are no integers.
    UnknownNameError
        If the nonlinearity is neither of the two.

    Examples
    --------
    >>> import numpy
    >>> x, one = numpy.array([[[1.0], [2.0], [3.0]]]), numpy.ones((1, 1))
    >>> (y, h_n), cache = rnn(x, None, one, one, nonlinearity="relu")
    >>> y.ravel(), h_n.ravel()
    (array([1., 3., 6.]), array([6.]))
    >>> rnn_backward((None, one), cache)[0].ravel()
    array([1., 1., 1.])
    """
    if nonlinearity not in ("tanh", "relu"):
        raise UnknownNameError.among("nonlinearity", nonlinearity, ["tanh", "relu"])
    biases = bias_ih, bias_hh
    lengths = check_sequences("rnn", 1, x, (weight_ih, weight_hh), biases, {"h0": h0}, lengths)
    xp = namespace(x)
    steps = arrange_steps(x, lengths, reverse)  # (T, N, C)
    running = find_running(lengths, x.shape[1])
    recurrent, bias = widen_float16(weight_hh).T, 0 if bias_hh is None else widen_float16(bias_hh)
    a = project(steps, weight_ih, bias_ih)  # (T, N, H)
    h = [start_state(h0, x, weight_hh.shape[1])]
    for t in range(x.shape[1]):
        a_t = a[t] + product(h[t], recurrent, x.dtype) + bias
        h_t = xp.tanh(a_t) if nonlinearity == "tanh" else xp.maximum(a_t, 0)  # (N, H)
        h.append(h_t if running is None else xp.where(running[t], h_t, h[t]))
    y = restore_batch(xp.stack(h[1:]), lengths, reverse, x.dtype)  # (N, T, H)
    given = tuple(a is not None for a in (h0, bias_ih, bias_hh))
    cache = steps, lengths, reverse, (weight_ih, weight_hh), given
    return (y, h[-1].astype(x.dtype)), (*cache, xp.stack(h), nonlinearity)


@parameter_gradients("weight_ih", "weight_hh", "bias_ih", "bias_hh")
@ieee
def rnn_backward(
    dy: tuple[Array | None, Array | None], cache: Cache, wanted: Sequence[bool] = (True,) * 6
) -> Gradients:
    """Return the gradients of x, h0, weights and biases; None for those that were not given.

    dy is the tuple (dy, dh_n). With da_t, the gradient of a_t in the equations of ``rnn``, each use of x_t, of a weight
    and of a bias gives a term, and those of weights and biases add up over time and batch::

        dx_t = da_t W_ih
        dh0 = da_1 W_hh
        dweight_ih = sum_t da_t^T x_t
        dweight_hh = sum_t da_t^T h_{t-1}
        dbias_ih = sum_t da_t
        dbias_hh = sum_t da_t

    h_t reaches the loss as the output y_t and through the next step, as a_{t+1} = W_hh h_t + ...; the last one as h_n::

        dh_t = dy_t + da_{t+1} W_hh,   dh_T = dy_T + dh_n
        da_t = dh_t f'(a_t)

    f' is 1 - h_t^2 for tanh, and 1 where h_t > 0, else 0, for relu.
    """
    steps, lengths, reverse, (weight_ih, weight_hh), given, h, nonlinearity = cache
    xp, dtype = namespace(steps), weight_ih.dtype
    shape, state = (h.shape[1], steps.shape[0], h.shape[2]), h.shape[1:]
    check_upstream("rnn_backward", dy, ("dy", "dh_n"), (shape, state), weight_ih)
    running = find_running(lengths, steps.shape[0])
    dys = arrange_backward(dy[0], h[1:], lengths, reverse)  # (T, N, H)
    dh, recurrent = start_state(dy[1], h[0], h.shape[2]), widen_float16(weight_hh)
    da = []
    for t in reversed(range(len(steps))):
        dh = dh + dys[t]  # dh_t = dy_t + da_{t+1} W_hh
        slope = 1 - h[t + 1] * h[t + 1] if nonlinearity == "tanh" else h[t + 1] > 0
        da_t = dh * slope if nonlinearity == "tanh" else xp.where(slope, dh, 0)  # da_t = dh_t f'(a_t)
        before = product(da_t, recurrent, dtype)
        dh = before if running is None else xp.where(running[t], before, dh)
        da.append(da_t if running is None else xp.where(running[t], da_t, 0))
    da = xp.stack(da[::-1])  # (T, N, H)
    dx = project(da, weight_ih.T, None) if wanted[0] else None  # dx_t = da_t W_ih
    dweight_ih, dbias_ih = parameter_sums(da, steps, wanted[2], wanted[4] and given[1], dtype)
    dweight_hh, dbias_hh = parameter_sums(da, h[:-1], wanted[3], wanted[5] and given[2], dtype)
    dx = restore_batch(dx, lengths, reverse, dtype) if wanted[0] else None
    dh0 = dh.astype(dtype) if wanted[1] and given[0] else None
    return dx, dh0, dweight_ih, dweight_hh, dbias_ih, dbias_hh


# long short-term memory -----------------------------------------------------------------------------------------------


@ieee
def lstm(
    x: Array,
    h0: Array | None,
    c0: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[tuple[Array, Array, Array], Cache]:
    """Run a long short-term memory.

    A cell c is kept from step to step. The forget gate f says how much of it stays, the input gate i how much of the
    candidate g is added, and the output gate o how much of it shows::

        y_t = h_t = o_t tanh(c_t)
        c_t = f_t c_{t-1} + i_t g_t
        i_t = sigma(a_i),   f_t = sigma(a_f),   g_t = tanh(a_g),   o_t = sigma(a_o)
        (a_i, a_f, a_g, a_o) = a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh

    Source: S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); the forget gate is from
    F. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000).

    Parameters
    ----------
    x : array, shape (N, T, C)
    h0, c0 : array, shape (N, H), or None
        None is zero.
    weight_ih : array, shape (4 H, C)
        The rows of the gates in the order i, f, g, o, as in PyTorch.
    weight_hh : array, shape (4 H, H)
    bias_ih, bias_hh : array, shape (4 H,), optional
    lengths : array of int, shape (N,), optional
        How many steps of each sequence count, from 1 to T; all by default.
    reverse : bool, default False
        Whether to read the sequences from their last step to their first.

    Returns
    -------
    (y, h_n, c_n) : tuple of array, shapes (N, T, H), (N, H) and (N, H)
    cache : (x step by step, lengths, reverse, weights, which states and biases were given, h, c and gates of all steps)

    Raises
    ------
    ShapeError
        If the sizes do not fit, or there is no step.
    ParameterError
        If a length is not from 1 to T.
    DtypeError
        If the arrays are not floating-point of one dtype, or the lengths are no integers.

    Examples
    --------
    All gates half open, so half of the cell stays, and nothing is added:

    >>> import numpy
    >>> x, c0 = numpy.ones((1, 3, 1)), numpy.full((1, 1), 8.0)
    >>> (y, h_n, c_n), cache = lstm(x, None, c0, numpy.zeros((4, 1)), numpy.zeros((4, 1)))
    >>> c_n
    array([[1.]])
    >>> dc0 = lstm_backward((None, None, numpy.ones((1, 1))), cache)[2]
    >>> dc0
    array([[0.125]])
    """
    biases, states = (bias_ih, bias_hh), {"h0": h0, "c0": c0}
    lengths = check_sequences("lstm", 4, x, (weight_ih, weight_hh), biases, states, lengths)
    xp, hidden = namespace(x), weight_hh.shape[1]
    steps = arrange_steps(x, lengths, reverse)  # (T, N, C)
    running = find_running(lengths, x.shape[1])
    recurrent, bias = widen_float16(weight_hh).T, 0 if bias_hh is None else widen_float16(bias_hh)
    a = project(steps, weight_ih, bias_ih)  # (T, N, 4 H)
    h, c, gates = [start_state(h0, x, hidden)], [start_state(c0, x, hidden)], []
    for t in range(x.shape[1]):
        a_i, a_f, a_g, a_o = _split(a[t] + product(h[t], recurrent, x.dtype) + bias, 4)  # (N, H) each
        i, f, g, o = sigmoid(a_i)[0], sigmoid(a_f)[0], xp.tanh(a_g), sigmoid(a_o)[0]
        c_t = f * c[t] + i * g
        h_t = o * xp.tanh(c_t)
        gates.append(xp.concatenate([i, f, g, o], axis=1))
        c.append(c_t if running is None else xp.where(running[t], c_t, c[t]))
        h.append(h_t if running is None else xp.where(running[t], h_t, h[t]))
    y = restore_batch(xp.stack(h[1:]), lengths, reverse, x.dtype)  # (N, T, H)
    given = tuple(a is not None for a in (h0, c0, bias_ih, bias_hh))
    cache = steps, lengths, reverse, (weight_ih, weight_hh), given
    outputs = y, h[-1].astype(x.dtype), c[-1].astype(x.dtype)
    return outputs, (*cache, xp.stack(h), xp.stack(c), xp.stack(gates))


@parameter_gradients("weight_ih", "weight_hh", "bias_ih", "bias_hh")
@ieee
def lstm_backward(
    dy: tuple[Array | None, Array | None, Array | None], cache: Cache, wanted: Sequence[bool] = (True,) * 7
) -> Gradients:
    """Return the gradients of x, h0, c0, weights and biases; None for those that were not given.

    dy is the tuple (dy, dh_n, dc_n). With da_t, the gradient of a_t in the equations of ``lstm``, each use of x_t, of a
    weight and of a bias gives a term, and those of weights and biases add up over time and batch::

        dx_t = da_t W_ih
        dh0 = da_1 W_hh
        dc0 = dc_1 f_1
        dweight_ih = sum_t da_t^T x_t
        dweight_hh = sum_t da_t^T h_{t-1}
        dbias_ih = sum_t da_t
        dbias_hh = sum_t da_t

    h_t reaches the loss as the output y_t and through the gates of the next step. c_t reaches it through h_t, by the slope
    of tanh, and through c_{t+1}, where the factor is the forget gate::

        dh_t = dy_t + da_{t+1} W_hh,   dh_T = dy_T + dh_n
        dc_t = dh_t o_t (1 - tanh(c_t)^2) + dc_{t+1} f_{t+1},   where dc_n stands for the second term at t = T

    The product rule on h_t and c_t gives the gradient of each gate, and the slope of its function, sigma' =
    sigma (1 - sigma) and tanh' = 1 - tanh^2, that of what goes into it::

        do = dh_t tanh(c_t),   da_o = do o (1 - o)
        di = dc_t g,           da_i = di i (1 - i)
        df = dc_t c_{t-1},     da_f = df f (1 - f)
        dg = dc_t i,           da_g = dg (1 - g^2)
    """
    steps, lengths, reverse, (weight_ih, weight_hh), given, h, c, gates = cache
    xp, dtype = namespace(steps), weight_ih.dtype
    shape, state = (h.shape[1], steps.shape[0], h.shape[2]), h.shape[1:]
    check_upstream("lstm_backward", dy, ("dy", "dh_n", "dc_n"), (shape, state, state), weight_ih)
    running = find_running(lengths, steps.shape[0])
    dys = arrange_backward(dy[0], h[1:], lengths, reverse)  # (T, N, H)
    dh, dc = start_state(dy[1], h[0], h.shape[2]), start_state(dy[2], h[0], h.shape[2])
    recurrent = widen_float16(weight_hh)
    da = []
    for t in reversed(range(len(steps))):
        i, f, g, o = _split(gates[t], 4)
        dh = dh + dys[t]  # dh_t = dy_t + da_{t+1} W_hh
        shown = xp.tanh(c[t + 1])
        dc_t = dc + dh * (o * (1 - shown * shown))  # dc_t
        da_o = dh * shown * (o * (1 - o))
        da_i = dc_t * g * (i * (1 - i))
        da_f = dc_t * c[t] * (f * (1 - f))
        da_g = dc_t * i * (1 - g * g)
        da_t = xp.concatenate([da_i, da_f, da_g, da_o], axis=1)  # (N, 4 H)
        dc_before, dh_before = dc_t * f, product(da_t, recurrent, dtype)
        dc = dc_before if running is None else xp.where(running[t], dc_before, dc)
        dh = dh_before if running is None else xp.where(running[t], dh_before, dh)
        da.append(da_t if running is None else xp.where(running[t], da_t, 0))
    da = xp.stack(da[::-1])  # (T, N, 4 H)
    dx = project(da, weight_ih.T, None) if wanted[0] else None  # dx_t = da_t W_ih
    dweight_ih, dbias_ih = parameter_sums(da, steps, wanted[3], wanted[5] and given[2], dtype)
    dweight_hh, dbias_hh = parameter_sums(da, h[:-1], wanted[4], wanted[6] and given[3], dtype)
    dx = restore_batch(dx, lengths, reverse, dtype) if wanted[0] else None
    dh0 = dh.astype(dtype) if wanted[1] and given[0] else None
    dc0 = dc.astype(dtype) if wanted[2] and given[1] else None
    return dx, dh0, dc0, dweight_ih, dweight_hh, dbias_ih, dbias_hh


def _split(a: Array, count: int) -> list[Array]:
    """Return the gates one by one: (N, H) each."""
    hidden = a.shape[1] // count
    return [a[:, k * hidden : k * hidden + hidden] for k in range(count)]


# gated recurrent unit -------------------------------------------------------------------------------------------------


@ieee
def gru(
    x: Array,
    h0: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    lengths: Array | None = None,
    reverse: bool = False,
) -> tuple[tuple[Array, Array], Cache]:
    """Run a gated recurrent unit.

    The update gate z says how much of the state stays and how much of the candidate n comes in. The reset gate r says how
    much of the state the candidate sees. As in PyTorch, r multiplies the product with W_hn and its bias::

        y_t = h_t = (1 - z_t) n_t + z_t h_{t-1}
        r_t = sigma(p_r + q_r),   z_t = sigma(p_z + q_z),   n_t = tanh(p_n + r_t q_n)
        (p_r, p_z, p_n) = W_ih x_t + b_ih
        (q_r, q_z, q_n) = W_hh h_{t-1} + b_hh

    Source: K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
    EMNLP 2014.

    Parameters
    ----------
    x : array, shape (N, T, C)
    h0 : array, shape (N, H), or None
        None is zero.
    weight_ih : array, shape (3 H, C)
        The rows of the gates in the order r, z, n, as in PyTorch.
    weight_hh : array, shape (3 H, H)
    bias_ih, bias_hh : array, shape (3 H,), optional
    lengths : array of int, shape (N,), optional
        How many steps of each sequence count, from 1 to T; all by default.
    reverse : bool, default False
        Whether to read the sequences from their last step to their first.

    Returns
    -------
    (y, h_n) : tuple of array, shapes (N, T, H) and (N, H)
    cache : (x step by step, lengths, reverse, weights, which states and biases were given, h, gates and q_n of all steps)

    Raises
    ------
    ShapeError
        If the sizes do not fit, or there is no step.
    ParameterError
        If a length is not from 1 to T.
    DtypeError
        If the arrays are not floating-point of one dtype, or the lengths are no integers.

    Examples
    --------
    The update gate half open, and a candidate of 0, so half of the state stays:

    >>> import numpy
    >>> x, h0 = numpy.ones((1, 3, 1)), numpy.full((1, 1), 8.0)
    >>> (y, h_n), cache = gru(x, h0, numpy.zeros((3, 1)), numpy.zeros((3, 1)))
    >>> y.ravel()
    array([4., 2., 1.])
    >>> gru_backward((None, numpy.ones((1, 1))), cache)[1]
    array([[0.125]])
    """
    biases = bias_ih, bias_hh
    lengths = check_sequences("gru", 3, x, (weight_ih, weight_hh), biases, {"h0": h0}, lengths)
    xp = namespace(x)
    steps = arrange_steps(x, lengths, reverse)  # (T, N, C)
    running = find_running(lengths, x.shape[1])
    recurrent, bias = widen_float16(weight_hh).T, 0 if bias_hh is None else widen_float16(bias_hh)
    p = project(steps, weight_ih, bias_ih)  # (T, N, 3 H)
    h, gates, q = [start_state(h0, x, weight_hh.shape[1])], [], []
    for t in range(x.shape[1]):
        p_r, p_z, p_n = _split(p[t], 3)  # (N, H) each
        q_r, q_z, q_n = _split(product(h[t], recurrent, x.dtype) + bias, 3)
        r, z = sigmoid(p_r + q_r)[0], sigmoid(p_z + q_z)[0]
        n = xp.tanh(p_n + r * q_n)
        h_t = (1 - z) * n + z * h[t]
        gates.append(xp.concatenate([r, z, n], axis=1))
        q.append(q_n)
        h.append(h_t if running is None else xp.where(running[t], h_t, h[t]))
    y = restore_batch(xp.stack(h[1:]), lengths, reverse, x.dtype)  # (N, T, H)
    given = tuple(a is not None for a in (h0, bias_ih, bias_hh))
    cache = steps, lengths, reverse, (weight_ih, weight_hh), given
    return (y, h[-1].astype(x.dtype)), (*cache, xp.stack(h), xp.stack(gates), xp.stack(q))


@parameter_gradients("weight_ih", "weight_hh", "bias_ih", "bias_hh")
@ieee
def gru_backward(
    dy: tuple[Array | None, Array | None], cache: Cache, wanted: Sequence[bool] = (True,) * 6
) -> Gradients:
    """Return the gradients of x, h0, weights and biases; None for those that were not given.

    dy is the tuple (dy, dh_n). With dp_t and dq_t, the gradients of p and q in the equations of ``gru``, each use of x_t, of
    h_{t-1}, of a weight and of a bias gives a term, and those of weights and biases add up over time and batch::

        dx_t = dp_t W_ih
        dh0 = dh_1 z_1 + dq_1 W_hh
        dweight_ih = sum_t dp_t^T x_t
        dweight_hh = sum_t dq_t^T h_{t-1}
        dbias_ih = sum_t dp_t
        dbias_hh = sum_t dq_t

    h_t reaches the loss as the output y_t, through the share z_{t+1} of it that stays, and through q_{t+1}::

        dh_t = dy_t + dh_{t+1} z_{t+1} + dq_{t+1} W_hh,   dh_T = dy_T + dh_n

    The product rule on h_t gives the gradients of n and z, that on r q_n those of r and q_n. sigma' = sigma (1 - sigma) and
    tanh' = 1 - tanh^2 then give those of what goes into the gates::

        dn = dh_t (1 - z),          dp_n = dn (1 - n^2)
        dz = dh_t (h_{t-1} - n),    dp_z = dq_z = dz z (1 - z)
        dr = dp_n q_n,              dp_r = dq_r = dr r (1 - r)
        dq_n = dp_n r
    """
    steps, lengths, reverse, (weight_ih, weight_hh), given, h, gates, q = cache
    xp, dtype = namespace(steps), weight_ih.dtype
    shape, state = (h.shape[1], steps.shape[0], h.shape[2]), h.shape[1:]
    check_upstream("gru_backward", dy, ("dy", "dh_n"), (shape, state), weight_ih)
    running = find_running(lengths, steps.shape[0])
    dys = arrange_backward(dy[0], h[1:], lengths, reverse)  # (T, N, H)
    dh, recurrent = start_state(dy[1], h[0], h.shape[2]), widen_float16(weight_hh)
    dp, dq = [], []
    for t in reversed(range(len(steps))):
        r, z, n = _split(gates[t], 3)
        dh = dh + dys[t]  # dh_t = dy_t + dh_{t+1} z_{t+1} + dq_{t+1} W_hh
        dp_n = dh * (1 - z) * (1 - n * n)
        dp_z = dh * (h[t] - n) * (z * (1 - z))
        dp_r = dp_n * q[t] * (r * (1 - r))
        dp_t = xp.concatenate([dp_r, dp_z, dp_n], axis=1)  # (N, 3 H)
        dq_t = xp.concatenate([dp_r, dp_z, dp_n * r], axis=1)  # (N, 3 H)
        before = dh * z + product(dq_t, recurrent, dtype)
        dh = before if running is None else xp.where(running[t], before, dh)
        dp.append(dp_t if running is None else xp.where(running[t], dp_t, 0))
        dq.append(dq_t if running is None else xp.where(running[t], dq_t, 0))
    dp, dq = xp.stack(dp[::-1]), xp.stack(dq[::-1])  # (T, N, 3 H)
    dx = project(dp, weight_ih.T, None) if wanted[0] else None  # dx_t = dp_t W_ih
    dweight_ih, dbias_ih = parameter_sums(dp, steps, wanted[2], wanted[4] and given[1], dtype)
    dweight_hh, dbias_hh = parameter_sums(dq, h[:-1], wanted[3], wanted[5] and given[2], dtype)
    dx = restore_batch(dx, lengths, reverse, dtype) if wanted[0] else None
    dh0 = dh.astype(dtype) if wanted[1] and given[0] else None
    return dx, dh0, dweight_ih, dweight_hh, dbias_ih, dbias_hh
