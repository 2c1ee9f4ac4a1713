"""An independent result for attention: the weights of one query after another, in loops over Python floats.

As in ``minidl.testing.oracles``, nothing here shares a line with the formulas.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy

__all__ = ["scaled_dot_product_attention"]


def _score(
    q: numpy.ndarray, k: numpy.ndarray, factor: float, told: Any, distance: int, is_causal: bool, window: int | None
) -> float | None:
    """Return the score of a key at a distance (that of the query minus its own), or None if it may not be seen."""
    if (is_causal and distance < 0) or (window is not None and abs(distance) >= window):
        return None
    if isinstance(told, (bool, numpy.bool_)):
        return None if not told else factor * math.fsum(float(a) * float(b) for a, b in zip(q, k, strict=True))
    return factor * math.fsum(float(a) * float(b) for a, b in zip(q, k, strict=True)) + float(told)


def scaled_dot_product_attention(
    query: numpy.ndarray,
    key: numpy.ndarray,
    value: numpy.ndarray,
    attn_mask: numpy.ndarray | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    window: int | None = None,
    offset: int = 0,
    random: numpy.ndarray | None = None,
) -> numpy.ndarray:
    """Return the weighted means; a query that sees nothing gets zeros."""
    batch, heads, queries, size = query.shape
    share, keys = heads // key.shape[1], key.shape[2]
    factor = size**-0.5 if scale is None else scale
    mask = None if attn_mask is None else numpy.broadcast_to(attn_mask, (batch, heads, queries, keys))
    y = numpy.zeros((batch, heads, queries, value.shape[3]))
    for n, h, t in itertools.product(range(batch), range(heads), range(queries)):
        weights = {}
        for s in range(keys):
            told = True if mask is None else mask[n, h, t, s]
            score = _score(query[n, h, t], key[n, h // share, s], factor, told, t + offset - s, is_causal, window)
            if score is not None and score > -math.inf:
                weights[s] = math.exp(score)
        total = math.fsum(weights.values())
        for e in range(value.shape[3]):
            kept = [s for s in weights if random is None or random[n, h, t, s]]
            y[n, h, t, e] = math.fsum(
                weights[s] / total / (1 - dropout_p) * float(value[n, h // share, s, e]) for s in kept
            )
    return y
