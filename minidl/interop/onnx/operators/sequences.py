"""Attention and rotary positions."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators.table import Node, fits, operator
from minidl.layers.attention import merge_heads, split_heads
from minidl.ops.attention import attention_weights

__all__: list[str] = []


@operator("RotaryEmbedding", "interleaved num_heads rotary_embedding_dim", settings=(1, 2, 3))
def _rotary(node: Node, x: Any, cos: Any, sin: Any, ids: Any = None) -> Any:
    """Turn pairs of features; cos and sin are rows of a table, by position."""
    flat = x.ndim == 3
    z = split_heads(x, node["num_heads"]) if flat else x  # (N, H, T, D)
    if ids is not None:
        cos, sin = cos[ids], sin[ids]  # (N, T, R)
    size = node.get("rotary_embedding_dim", 0)
    cos, sin = (part[..., : size // 2] if size else part for part in (cos, sin))
    y, cache = current().rotary_embedding(
        numpy.ascontiguousarray(z), cos[:, None], sin[:, None], bool(node.get("interleaved", 0))
    )

    def back(dy: Any) -> Any:
        dz = split_heads(dy, node["num_heads"]) if flat else dy
        dx = current().rotary_embedding_backward(numpy.ascontiguousarray(dz), cache)
        return (merge_heads(dx) if flat else dx,)

    return (merge_heads(y) if flat else y,), back


def _combined(mask: Any, seen: Any) -> Any:
    """Return a mask that leaves out what is not seen."""
    if mask is None:
        return seen
    return mask & seen if mask.dtype == bool else numpy.where(seen, mask, fits(mask, -numpy.inf))


def _masks(node: Node, q: Any, k: Any, mask: Any, offset: int, counts: Any) -> tuple[Any, bool, int | None]:
    """Return mask, is_causal and window of the op, for all of ONNX's ways to leave out keys."""
    causal = bool(node.get("is_causal", 0))
    if mask is not None and mask.shape[-1] < k.shape[2]:  # what is missing is left out
        missing = [(0, 0)] * (mask.ndim - 1) + [(0, k.shape[2] - mask.shape[-1])]
        mask = numpy.pad(mask, missing, constant_values=False if mask.dtype == bool else -numpy.inf)
    left, right = node.get("left_window_size", -1), node.get("right_window_size", -1)
    window = left + 1 if left >= 0 and (causal or left == right) else None
    if counts is not None:  # each sequence has an offset of its own: all of it as a mask
        counts = counts.reshape(-1, 1, 1)
        ahead = numpy.arange(k.shape[2]) - (numpy.arange(q.shape[2])[:, None] + counts - q.shape[2])  # (N, T, S)
        seen = numpy.arange(k.shape[2]) < counts + 0 * ahead
        for used, allowed in ((causal, ahead <= 0), (left >= 0, ahead >= -left), (right >= 0, ahead <= right)):
            seen = seen & allowed if used else seen
        return _combined(mask, seen[:, None]), False, None
    if window is None and (left >= 0 or right >= 0):
        ahead = numpy.arange(k.shape[2]) - offset - numpy.arange(q.shape[2])[:, None]  # (T, S)
        mask = _combined(mask, ((left < 0) | (ahead >= -left)) & ((right < 0) | (ahead <= right)))
    return mask, causal, window


@operator(
    "Attention",
    "is_causal kv_num_heads q_num_heads scale qk_matmul_output_mode left_window_size right_window_size softcap softmax_precision",
    settings=(3, 6),
)
def _attention(
    node: Node,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    counts: Any = None,
) -> Any:
    flat, scale = q.ndim == 3, node.get("scale")
    shapes = q.shape, k.shape, v.shape
    if flat:
        q = split_heads(q, node["q_num_heads"])
        k, v = (split_heads(x, node["kv_num_heads"]) for x in (k, v))
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        k, v = (numpy.concatenate([old, new], axis=2) for old, new in ((past_key, k), (past_value, v)))
    if node.get("softcap", 0) or (node.wants(3) and node.get("qk_matmul_output_mode", 0) != 3):
        raise node.refuse("minidl caps no scores, and keeps none before the softmax")
    q, k, v = map(numpy.ascontiguousarray, (q, k, v))
    mask, causal, window = _masks(node, q, k, mask, past, counts)
    how: dict[str, Any] = {"is_causal": causal, "scale": scale, "enable_gqa": True, "window": window, "offset": past}
    y, cache = current().scaled_dot_product_attention(q, k, v, mask, **how)
    weights = [attention_weights(cache)] if node.wants(3) else []

    def back(dy: Any, dkey: Any = None, dvalue: Any = None, dweights: Any = None) -> Any:
        if dweights is not None:
            raise node.refuse("there is no gradient through the weights")
        dy = (
            numpy.zeros_like(y)
            if dy is None
            else numpy.ascontiguousarray(split_heads(dy, node["q_num_heads"]) if flat else dy)
        )
        dq, dk, dv, *_ = current().scaled_dot_product_attention_backward(dy, cache)
        dk, dv = (d if more is None else d + more for d, more in ((dk, dkey), (dv, dvalue)))
        own = [d[:, :, past:] for d in (dk, dv)]
        parts = [merge_heads(d).reshape(s) if flat else d for d, s in zip((dq, *own), shapes, strict=True)]
        return (*parts, None, *([d[:, :, :past] for d in (dk, dv)] if past_key is not None else []))

    return (merge_heads(y) if flat else y, k, v, *weights), back
