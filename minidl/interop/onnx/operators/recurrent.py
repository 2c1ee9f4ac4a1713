"""Recurrent networks: RNN, LSTM and GRU, in one or two directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators.table import Node, operator

__all__: list[str] = []

ORDERS = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}
"""Where our gates are in ONNX's order: i, f, g, o in i, o, f, c; r, z, n in z, r, h."""
_ACTIVATIONS = {
    "RNN": (["Tanh"], ["Relu"]),
    "LSTM": (["Sigmoid", "Tanh", "Tanh"],),
    "GRU": (["Sigmoid", "Tanh"],),
}

Backward = Callable[[tuple[Any, ...]], tuple[Any, list[Any], Any, Any, Any]]
"""From the gradients of y and of the final states to those of x, the initial states, W, R and B of one direction."""


def reorder(rows: Any, order: list[int]) -> Any:
    """Return the rows of the gates in another order."""
    return numpy.concatenate([numpy.split(rows, len(order))[place] for place in order])


@operator(
    "RNN LSTM GRU",
    "hidden_size direction activations layout linear_before_reset input_forget clip activation_alpha activation_beta",
    settings=(4,),
)
def _recurrent(node: Node, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, *first: Any) -> Any:
    """Run each direction by itself; ONNX has the axes (T, N, C), and one for directions, unless layout is 1."""
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[node.get("direction", "forward")]
    names = _check(node, first, len(ways))
    flip = (lambda a: a) if node.get("layout", 0) else (lambda a: None if a is None else a.swapaxes(0, 1))
    turn = (lambda a: None if a is None else a.swapaxes(0, 1)) if node.get("layout", 0) else (lambda a: a)
    sequence = numpy.ascontiguousarray(flip(x))  # (N, T, C)
    states = 2 if node.kind == "LSTM" else 1
    given = [turn(a) for a in (*first[:states], *[None] * (states - len(first[:states])))]  # (directions, N, H)
    lengths = None if lengths is None else lengths.astype("int64")
    runs: list[tuple[tuple[Any, ...], Backward]] = []
    for way, reverse in enumerate(ways):
        begin = [None if a is None else numpy.ascontiguousarray(a[way]) for a in given]
        parts = begin, w[way], r[way], None if b is None else b[way], lengths, reverse
        if node.kind == "GRU" and not node.get("linear_before_reset", 0):
            runs.append(_gru_that_resets_before(sequence, *parts))
        else:
            runs.append(_by_op(node.kind, sequence, *parts, names[way]))
    y = numpy.stack([outputs[0] for outputs, _ in runs], axis=2)  # (N, T, directions, H)
    finals = [turn(numpy.stack([outputs[1 + i] for outputs, _ in runs])) for i in range(states)]

    def back(dy: Any, *dfinals: Any) -> Any:
        dy = None if dy is None else dy if node.get("layout", 0) else dy.transpose(2, 0, 1, 3)  # (N, T, directions, H)
        dends = [turn(d) for d in (*dfinals, *[None] * (states - len(dfinals)))]
        found = []
        for way, (_, run_back) in enumerate(runs):
            own = (None if dy is None else dy[:, :, way], *(None if d is None else d[way] for d in dends))
            found.append(run_back(tuple(None if d is None else numpy.ascontiguousarray(d) for d in own)))
        dxs, dfirst, dws, drs, dbs = zip(*found, strict=True)
        starts = [turn(numpy.stack([d[i] for d in dfirst])) if given[i] is not None else None for i in range(states)]
        return (
            flip(sum(dxs)),
            numpy.stack(dws),
            numpy.stack(drs),
            None if b is None else numpy.stack(dbs),
            None,
            *starts,
        )

    return (y if node.get("layout", 0) else y.transpose(1, 2, 0, 3), *finals), back


def _check(node: Node, first: tuple[Any, ...], ways: int) -> list[str]:
    """Raise for what minidl does not have; return the first activation of each direction."""
    known = _ACTIVATIONS[node.kind]
    names, count = [name.capitalize() for name in node.get("activations", known[0] * ways)], len(known[0])
    if any(names[i : i + count] not in known for i in range(0, len(names), count)):
        raise node.refuse(f"there are no activations {', '.join(names)}")
    if node.get("input_forget", 0) or node.get("clip") or (len(first) > 2 and first[2] is not None):
        raise node.refuse("there are no peepholes, no coupled gates and no clipping")
    return names[::count]


def _by_op(
    kind: str, x: Any, begin: list[Any], w: Any, r: Any, b: Any, lengths: Any, reverse: bool, activation: str
) -> tuple[tuple[Any, ...], Backward]:
    """Run one direction by minidl's op, whose gates have another order."""
    op, order = kind.lower(), ORDERS[kind]
    weights = [reorder(part, order) for part in (w, r)]
    biases = [None, None] if b is None else [reorder(half, order) for half in numpy.split(b, 2)]
    more = [activation.lower()] if kind == "RNN" else []
    outputs, cache = getattr(current(), op)(x, *begin, *weights, *biases, lengths, reverse, *more)

    def back(upstream: tuple[Any, ...]) -> tuple[Any, list[Any], Any, Any, Any]:
        dx, *rest = getattr(current(), f"{op}_backward")(upstream, cache)
        inverse = [int(place) for place in numpy.argsort(order)]
        dw, dr, *dbs = (reorder(d, inverse) for d in rest[len(begin) :] if d is not None)
        return dx, rest[: len(begin)], dw, dr, None if b is None else numpy.concatenate(dbs)

    return outputs, back


def _gru_that_resets_before(
    x: Any, begin: list[Any], w: Any, r: Any, b: Any, lengths: Any, reverse: bool
) -> tuple[tuple[Any, ...], Backward]:
    """Run one direction of a GRU in the form of the paper: the state is reset before the product, where PyTorch does it after.

    With gates z and q, and the new state n, at each step::

        z, q = s(W x + R h + b),   n = tanh(W_h x + R_h (q h) + b_h),   h' = (1 - z) n + z h

    Backward, for the gradient d of h', has dn = d (1 - z) (1 - n^2), dz = d (h - n) z (1 - z) and
    dq = (R_h^T dn) h q (1 - q) before the activations, and dh = d z + q (R_h^T dn) + R_z^T dz + R_q^T dq.

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014, equations 5 to 8.
    """
    batch, time, size = x.shape[0], x.shape[1], r.shape[1]
    counts = numpy.full(batch, time) if lengths is None else lengths
    steps, rows, two = numpy.arange(time)[:, None], numpy.arange(batch), 2 * size
    on = steps < counts  # (T, N): which sequences still go on
    places = numpy.clip(counts - 1 - steps, 0, None) if reverse else steps + 0 * counts  # (T, N)
    shift = numpy.zeros(3 * size, x.dtype) if b is None else b[: 3 * size] + b[3 * size :]
    h = numpy.zeros((batch, size), x.dtype) if begin[0] is None else begin[0]
    y, kept = numpy.zeros((batch, time, size), x.dtype), []
    for t in range(time):
        given = x[rows, places[t]]  # (N, C)
        a = given @ w.T + shift
        gates, _ = current().sigmoid(a[:, :two] + h @ r[:two].T)
        z, q = gates[:, :size], gates[:, size:]
        n = numpy.tanh(a[:, two:] + (q * h) @ r[two:].T)
        kept.append((given, h, z, q, n))
        h = numpy.where(on[t][:, None], (1 - z) * n + z * h, h)
        y[rows[on[t]], places[t][on[t]]] = h[on[t]]

    def back(upstream: tuple[Any, ...]) -> tuple[Any, list[Any], Any, Any, Any]:
        dy, dend = upstream
        d = numpy.zeros((batch, size), x.dtype) if dend is None else dend
        dx, dw, dr, db = (numpy.zeros_like(part) for part in (x, w, r, shift))
        for t in reversed(range(time)):
            given, before, z, q, n = kept[t]
            going = on[t][:, None]
            own = numpy.where(going, d if dy is None else d + dy[rows, places[t]], 0)
            dn = own * (1 - z) * (1 - n * n)
            dreset = dn @ r[two:]  # of q h
            da = numpy.concatenate([own * (before - n) * z * (1 - z), dreset * before * q * (1 - q), dn], axis=1)
            dw += da.T @ given
            db += da.sum(axis=0)
            dr[:two] += da[:, :two].T @ before
            dr[two:] += dn.T @ (q * before)
            dx[rows, places[t]] += da @ w  # zero for those that do not go on
            d = numpy.where(going, own * z + dreset * q + da[:, :two] @ r[:two], d)
        return dx, [d], dw, dr, None if b is None else numpy.concatenate([db, db])

    return (y, h), back
