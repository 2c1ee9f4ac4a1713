"""Gated units: one half of the features decides how much of the other half passes."""

from __future__ import annotations

from typing import Any

from minidl.errors import ShapeError
from minidl.ops._checks import ieee
from minidl.ops._names import axis_or_dim
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops._pooling import check_upstream
from minidl.ops.activation import _sigmoid

__all__ = ["glu", "glu_backward"]

Cache = tuple[Any, ...]


@axis_or_dim
@ieee
def glu(x: Array, axis: int = -1) -> tuple[Array, Cache]:
    """Apply the gated linear unit.

    With a the first half of x along ``axis``, b the second, and sigma the logistic function::

        y = a sigma(b)

    Parameters
    ----------
    x : array, shape (..., 2 C, ...)
        Floating-point.
    axis : int, default -1
        The axis that is halved; PyTorch's name for it, ``dim``, is taken too.

    Returns
    -------
    y : array, shape (..., C, ...)
    cache : (x, axis)

    Raises
    ------
    DtypeError
        If x is not floating-point.
    ShapeError
        If x has no such axis, or its length there is odd.

    References
    ----------
    Y. Dauphin, A. Fan, M. Auli, D. Grangier, "Language modeling with gated convolutional networks", ICML (2017), equation 1.

    Examples
    --------
    >>> import numpy
    >>> y, cache = glu(numpy.array([[8.0, 4.0, 0.0, numpy.log(3.0)]]))
    >>> y
    array([[4., 3.]])
    >>> glu_backward(numpy.array([[1.0, 1.0]]), cache)
    array([[0.5 , 0.75, 2.  , 0.75]])
    """
    require_float(x, "x", "glu")
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"glu: x of shape {x.shape} has no axis {axis}")
    if x.shape[axis] % 2:
        raise ShapeError(f"glu: axis {axis} of x must have an even length, to be halved, got shape {x.shape}")
    a, b = _halves(x, axis)  # (..., C, ...)
    return a * _sigmoid(b), (x, axis)


@ieee
def glu_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    With s = sigma(b), the slope of a s is s for a, and a s (1 - s) for b, because sigma' = sigma (1 - sigma)::

        dx = (dy s, dy a s (1 - s)),   s = sigma(b)
    """
    x, axis = cache
    at = axis % x.ndim
    check_upstream("glu_backward", dy, (*x.shape[:at], x.shape[at] // 2, *x.shape[at + 1 :]), x.dtype)
    a, b = _halves(x, axis)  # (..., C, ...)
    s = _sigmoid(b)
    return namespace(dy).concatenate([dy * s, dy * (a * (s * (1 - s)))], axis=axis)  # (..., 2 C, ...)


def _halves(x: Array, axis: int) -> tuple[Array, Array]:
    before, half = (slice(None),) * (axis % x.ndim), x.shape[axis] // 2
    return x[(*before, slice(half))], x[(*before, slice(half, None))]
