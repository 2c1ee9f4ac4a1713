"""An independent result for rotary positions: pairs as complex numbers, multiplied by cos + i sin.

As in ``minidl.testing.oracles``, nothing here shares a line with the formulas.
"""

from __future__ import annotations

import itertools

import numpy

__all__ = ["rotary_embedding"]


def rotary_embedding(
    x: numpy.ndarray, cos: numpy.ndarray, sin: numpy.ndarray, interleaved: bool = False
) -> numpy.ndarray:
    """Return the pairs as products of complex numbers, and the other features as they are."""
    y, pairs = x.copy(), cos.shape[-1]
    c, s = (numpy.broadcast_to(table, (*x.shape[:-1], pairs)) for table in (cos, sin))
    for *place, i in itertools.product(*map(range, (*x.shape[:-1], pairs))):
        a, b = (2 * i, 2 * i + 1) if interleaved else (i, i + pairs)
        turned = complex(x[(*place, a)], x[(*place, b)]) * complex(c[(*place, i)], s[(*place, i)])
        y[(*place, a)], y[(*place, b)] = turned.real, turned.imag
    return y
