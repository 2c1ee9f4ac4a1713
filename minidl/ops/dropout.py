"""Dropout: multiplying by a random mask."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._checks import ieee, require_like
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["dropout", "dropout_backward"]


@ieee
def dropout(x: Array, p: float = 0.5, random: Any = None) -> tuple[Array, tuple[Any, ...]]:
    r"""Drop elements at random: :math:`y_i = s_i x_i`, :math:`s_i = m_i / (1 - p)`.

    The mask :math:`m_i` is 0 with probability p and 1 otherwise. The division keeps the expectation of y at x, so evaluation needs no factor ("inverted" dropout).
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Parameters
    ----------
    x : array
        Any shape, floating.
    p : float
        Probability of dropping, from 0 to 1; with p = 1 everything is dropped and y is 0.
    random : numpy.random.Generator or boolean array of x's shape
        Where the mask comes from (one float32 number an element, kept if it is at least p), or the mask itself (True
        keeps). There is no global state.

    Returns
    -------
    y : array
        Of x's shape and dtype.
    cache : (s,)

    Raises
    ------
    DtypeError
        If x is not floating-point, or a mask not boolean.
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
    keep = _mask(x, p, random)
    scale = keep.astype(x.dtype) * (1 / (1 - p) if p < 1 else 0)
    return x * scale, (scale,)


@ieee
def dropout_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    r"""Return dx: :math:`y_i` is :math:`x_i` times the constant :math:`s_i`, so :math:`dx_i = dy_i s_i`."""
    (scale,) = cache
    require_like(dy, scale, "dy", "y", "dropout_backward")
    return dy * scale


def _mask(x: Array, p: float, random: Any) -> Array:
    if isinstance(random, numpy.random.Generator):
        return namespace(x).asarray(random.random(x.shape, dtype=numpy.float32) >= p)
    if not hasattr(random, "dtype"):
        raise ParameterError(
            f"dropout: random must be a numpy.random.Generator or a boolean mask of shape {x.shape}, got {random!r}"
        )
    if random.dtype.kind != "b":
        raise DtypeError(
            f"dropout: the mask must be boolean (True keeps), got dtype {random.dtype}; convert it with mask != 0"
        )
    if random.shape != x.shape:
        raise ShapeError(f"dropout: the mask must have the shape of x, {x.shape}, got {random.shape}")
    return namespace(x).asarray(random)
