"""Dropout: multiplying by a random mask."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError, ShapeError
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["dropout", "dropout_backward"]


def dropout(x: Array, p: float = 0.5, random: Any = None) -> tuple[Array, tuple[Any, ...]]:
    r"""Drop elements at random: :math:`y_i = m_i x_i / (1 - p)`, where the mask :math:`m_i` is 0 with probability p.

    The division keeps the expectation of y at x, so evaluation needs no factor ("inverted" dropout).
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Parameters
    ----------
    x : array
        Any shape, floating; y has the same dtype.
    p : float
        Probability of dropping, from 0 to 1.
    random : numpy.random.Generator or boolean array of x's shape
        Where the mask comes from, or the mask itself (True keeps).

    Returns
    -------
    y : array
    cache : (scale,)
        The mask divided by 1 - p.

    Raises
    ------
    ParameterError
        If p is no probability or ``random`` is missing.
    ShapeError
        If a mask does not have the shape of x.

    Examples
    --------
    >>> y, cache = dropout(numpy.array([1.0, 2.0]), 0.5, numpy.array([True, False]))
    >>> y
    array([2., 0.])
    >>> dropout_backward(numpy.array([3.0, 3.0]), cache)
    array([6., 0.])
    """
    require_float(x, "x", "dropout")
    if not 0.0 <= p <= 1.0:
        raise ParameterError(f"dropout: p is a probability, from 0 to 1, got {p!r}")
    xp = namespace(x)
    if isinstance(random, numpy.random.Generator):
        keep = xp.asarray(random.random(x.shape, dtype=numpy.float32) >= p)
    elif hasattr(random, "shape"):
        keep = random
        if keep.shape != x.shape:
            raise ShapeError(f"dropout: the mask must have the shape of x, {x.shape}, got {keep.shape}")
    else:
        raise ParameterError(f"dropout: random must be a numpy.random.Generator or a mask, got {random!r}")
    scale = keep.astype(x.dtype) * (1 / (1 - p) if p < 1 else 0)
    return x * scale, (scale,)


def dropout_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    """Return dx: each y_i is its x_i times scale_i, so dx = dy scale."""
    (scale,) = cache
    return dy * scale
