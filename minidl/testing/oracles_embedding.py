"""An independent result for tables: the product of one-hot rows with the table, in loops.

As in ``minidl.testing.oracles``, nothing here shares a line with the formulas.
"""

from __future__ import annotations

import itertools
import math

import numpy

__all__ = ["embedding"]


def embedding(ids: numpy.ndarray, weight: numpy.ndarray, padding_idx: int | None = None) -> numpy.ndarray:
    """Return sum_v (1 if v is the id, else 0) w_vc; the padding only matters for gradients."""
    vocabulary, width = weight.shape
    y = numpy.empty((*ids.shape, width))
    for *place, c in itertools.product(*map(range, y.shape)):
        chosen = int(ids[tuple(place)])
        y[(*place, c)] = math.fsum(float(weight[v, c]) for v in range(vocabulary) if v == chosen)
    return y
