"""Dropout: multiply by a random mask."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._checks import ieee, require_like
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops._pooling import check_upstream

__all__ = ["dropout", "dropout2d", "dropout2d_backward", "dropout_backward"]


@ieee
def dropout(x: Array, p: float = 0.5, random: Any = None) -> tuple[Array, tuple[Any, ...]]:
    """Drop elements at random.

    With a mask m_i that is 0 with probability p, else 1::

        y_i = s_i x_i,   s_i = m_i / (1 - p)

    The division keeps the expectation of y at x, so evaluation needs no factor ("inverted" dropout).

    Parameters
    ----------
    x : array
        Floating-point, of any shape.
    p : float, default 0.5
        Probability of dropping, from 0 to 1; with p = 1 everything is dropped and y is 0.
    random : numpy.random.Generator or boolean array of x's shape
        Draws the mask (one float32 number an element, kept if at least p), or is the mask (True keeps). Required: there is
        no global state.

    Returns
    -------
    y : array
    cache : (s,)

    Raises
    ------
    DtypeError
        If x is not floating-point, or a mask not boolean.
    ParameterError
        If p is not a probability or ``random`` is missing.
    ShapeError
        If a mask does not have the shape of x.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    Examples
    --------
    >>> y, cache = dropout(numpy.array([1.0, 2.0]), 0.5, numpy.array([True, False]))
    >>> y
    array([2., 0.])
    >>> dropout_backward(numpy.array([3.0, 3.0]), cache)
    array([6., 0.])
    """
    require_float(x, "x", "dropout")
    scale = _draw_scale("dropout", x, x.shape, p, random)
    return x * scale, (scale,)


@ieee
def dropout_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    """Return the gradient of x.

    y_i is x_i times the constant s_i::

        dx = dy s,   s = m / (1 - p)
    """
    (scale,) = cache
    require_like(dy, scale, "dy", "y", "dropout_backward")
    return dy * scale


@ieee
def dropout2d(x: Array, p: float = 0.5, random: Any = None) -> tuple[Array, tuple[Any, ...]]:
    """Drop whole channels at random.

    With a mask m_nc that is 0 with probability p, else 1::

        y_nchw = s_nc x_nchw,   s_nc = m_nc / (1 - p)

    Neighbouring pixels are strongly correlated, so dropping single pixels removes little information. Dropping the whole
    channel does.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point; any number of axes after the first two.
    p : float, default 0.5
        Probability of dropping a channel, from 0 to 1; with p = 1 y is 0.
    random : numpy.random.Generator or boolean array, shape (N, C, 1, 1)
        Draws the mask (one float32 number a channel, kept if at least p), or is the mask (True keeps). Required.

    Returns
    -------
    y : array, shape (N, C, H, W)
    cache : (s, shape of x)

    Raises
    ------
    DtypeError
        If x is not floating-point, or a mask not boolean.
    ParameterError
        If p is not a probability or ``random`` is missing.
    ShapeError
        If x has fewer than three axes, or a mask has another shape.

    References
    ----------
    J. Tompson et al., "Efficient object localization using convolutional networks", CVPR 2015.

    Examples
    --------
    >>> y, cache = dropout2d(numpy.ones((1, 2, 1, 3)), 0.5, numpy.array([[[[True]], [[False]]]]))
    >>> y
    array([[[[2., 2., 2.]],
    <BLANKLINE>
            [[0., 0., 0.]]]])
    >>> dropout2d_backward(y, cache)[0, 0]
    array([[4., 4., 4.]])
    """
    require_float(x, "x", "dropout2d")
    if x.ndim < 3:
        raise ShapeError(f"dropout2d: x must have shape (N, C, H, W), got {x.shape}; for features use dropout")
    scale = scale_of_channels(x, p, random)  # (N, C, 1, 1)
    return x * scale, (scale, x.shape)


@ieee
def dropout2d_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    """Return the gradient of x.

    y_nchw is x_nchw times the constant s_nc::

        dx = dy s,   s = m / (1 - p)
    """
    scale, shape = cache
    check_upstream("dropout2d_backward", dy, shape, scale.dtype)
    return dy * scale


def scale_of_channels(x: Array, p: float, random: Any) -> Array:
    """Return s of dropout2d: 1 / (1 - p) for the channels that the mask keeps, and 0 for the others."""
    return _draw_scale("dropout2d", x, (*x.shape[:2], *(1 for _ in x.shape[2:])), p, random)


def _draw_scale(op: str, x: Array, shape: tuple[int, ...], p: float, random: Any) -> Array:
    """Return 1 / (1 - p) where the mask keeps, and 0 elsewhere."""
    if not 0.0 <= p <= 1.0:
        raise ParameterError(f"{op}: p must be a probability, from 0 to 1, got {p!r}")
    keep = _draw_mask(op, x, shape, p, random)
    return keep.astype(x.dtype) * (1 / (1 - p) if p < 1 else 0)


def _draw_mask(op: str, x: Array, shape: tuple[int, ...], p: float, random: Any) -> Array:
    if isinstance(random, numpy.random.Generator):
        return namespace(x).asarray(random.random(shape, dtype=numpy.float32) >= p)
    if not hasattr(random, "dtype"):
        raise ParameterError(
            f"{op}: random must be a numpy.random.Generator or a boolean mask of shape {shape}, got {random!r}"
        )
    if random.dtype.kind != "b":
        raise DtypeError(
            f"{op}: the mask must be boolean (True keeps), got dtype {random.dtype}; convert it with mask != 0"
        )
    if random.shape != shape:
        whose = "the shape of x" if shape == x.shape else "one element for each channel"
        raise ShapeError(f"{op}: the mask must have {whose}, {shape}, got {random.shape}")
    return namespace(x).asarray(random)
