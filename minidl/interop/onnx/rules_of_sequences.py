"""The rules of ops for sequences: rotary positions, attention and recurrent networks; see ``rules_of_ops``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from minidl.interop.onnx.drawing import Symbol
from minidl.interop.onnx.rules_of_ops import like, rule

__all__: list[str] = []


@rule("rotary_embedding")
def _rotary(x: Symbol, cos: Any, sin: Any, interleaved: bool = False, out: Any = None) -> Symbol:
    """Turn pairs of features (a, b) to (a cos - b sin, b cos + a sin); features beyond them stay."""
    xp = x.__array_namespace__()
    cos, sin = xp.asarray(cos), xp.asarray(sin)
    half = int(cos.shape[-1])
    turned = x if int(x.shape[-1]) == 2 * half else x[..., : 2 * half]
    if interleaved:
        pairs = turned.reshape((*x.shape[:-1], half, 2))
        a, b = pairs[..., 0], pairs[..., 1]
        y = xp.stack([a * cos - b * sin, b * cos + a * sin], axis=x.ndim).reshape((*x.shape[:-1], 2 * half))
    else:
        a, b = turned[..., :half], turned[..., half:]
        y = xp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return y if turned is x else xp.concatenate([y, x[..., 2 * half :]], axis=-1)


@rule("scaled_dot_product_attention")
def _attention(
    query: Symbol,
    key: Symbol,
    value: Symbol,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    window: int | None = None,
    offset: int = 0,
    random: Any = None,
) -> Symbol:
    """Products, a softmax, and the masks as minidl has them: a row that may see nothing gives zeros."""
    xp = query.__array_namespace__()
    if enable_gqa and int(query.shape[-3]) != int(key.shape[-3]):
        copies = int(query.shape[-3]) // int(key.shape[-3])
        ids = numpy.repeat(numpy.arange(int(key.shape[-3])), copies)
        key, value = (x.take(ids, axis=x.ndim - 3) for x in (key, value))
    scale = 1 / math.sqrt(int(query.shape[-1])) if scale is None else float(scale)
    scores = (query * like(query, scale)) @ key.swapaxes(-1, -2)  # (..., T, S)
    seen = None
    if is_causal or window is not None:
        rows = xp.arange(query.shape[-2]).unsqueeze(1) + numpy.int64(offset)
        columns = xp.arange(key.shape[-2]).unsqueeze(0)
        seen = columns <= rows if is_causal else None
        if window is not None:
            near = columns > rows - numpy.int64(window)
            seen = near & (columns < rows + numpy.int64(window)) if seen is None else seen & near
    if attn_mask is not None:
        mask = xp.asarray(attn_mask)
        if mask.dtype.kind == "b":
            seen = mask if seen is None else seen & mask
        else:
            allowed = mask > like(query, -numpy.inf)
            scores = scores + xp.where(allowed, mask, like(query, 0))
            seen = allowed if seen is None else seen & allowed
    if seen is None:
        return query.drawing.one("Softmax", scores, since=13, axis=-1) @ value
    weights = query.drawing.one("Softmax", xp.where(seen, scores, like(query, -numpy.inf)), since=13, axis=-1)
    return xp.where(seen, weights, like(query, 0)) @ value


def _gates(rows: Any, order: list[int], hidden: int) -> Any:
    """Return the rows of the gates in another order."""
    if rows is None or len(order) == 1:
        return rows
    parts = [rows[g * hidden : (g + 1) * hidden] for g in order]
    return rows.__array_namespace__().concatenate(parts, axis=0)


def _recurrent(kind: str, order: list[int], states: int) -> Callable[..., Any]:
    def draw(x: Symbol, *args: Any, **named: Any) -> Any:
        """One node for one direction of one layer; ONNX has the axes (T, N, C), and its gates in another order."""
        names = [
            *["h0", "c0"][:states],
            "weight_ih",
            "weight_hh",
            "bias_ih",
            "bias_hh",
            "lengths",
            "reverse",
            "nonlinearity",
        ]
        given: dict[str, Any] = dict.fromkeys(names) | dict(zip(names, args, strict=False)) | named
        hidden = int(given["weight_hh"].shape[1])
        drawing, xp = x.drawing, x.__array_namespace__()
        w, r, b, c = (_gates(given[name], order, hidden) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        bias = None if b is None else xp.concatenate([b, c], axis=0).unsqueeze(0)
        lengths = given["lengths"]
        lengths = None if lengths is None else xp.asarray(lengths).astype("int32")
        first = [None if given[name] is None else given[name].unsqueeze(0) for name in names[:states]]
        how: dict[str, Any] = {"hidden_size": hidden, "direction": "reverse" if given["reverse"] else "forward"}
        if kind == "GRU":
            how["linear_before_reset"] = 1
        if kind == "RNN" and given["nonlinearity"] == "relu":
            how["activations"] = ["Relu"]
        batch, time = x.shape[:2]
        final = (1, batch, hidden)
        shapes = [(time, 1, batch, hidden), *[final] * states]
        inputs = [x.transpose(1, 0, 2), w.unsqueeze(0), r.unsqueeze(0), bias, lengths, *first]
        y, *ends = drawing.add(kind, inputs, [(shape, x.dtype) for shape in shapes], 14, **how)
        y = y.transpose(2, 0, 1, 3).reshape((batch, time, hidden))  # (N, T, H)
        return (y, *(end.reshape((batch, hidden)) for end in ends))

    return draw


rule("rnn")(_recurrent("RNN", [0], 1))
rule("gru")(_recurrent("GRU", [1, 0, 2], 1))
rule("lstm")(_recurrent("LSTM", [0, 3, 1, 2], 2))
