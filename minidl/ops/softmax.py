"""Softmax and its logarithm, along any axis."""

from __future__ import annotations

from typing import Any

from minidl.errors import ShapeError
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


def softmax(x: Array, axis: int = -1) -> tuple[Array, tuple[Any, ...]]:
    r"""Turn scores into probabilities: :math:`y_i = e^{x_i} / \sum_j e^{x_j}`.

    The largest score is subtracted first: it cancels in the quotient, and no exponential overflows.
    J. Bridle, "Probabilistic interpretation of feedforward classification network outputs" (1990).

    Parameters
    ----------
    x : array
        Any shape with at least one axis, floating; y has the same dtype.
    axis : int
        The axis that sums to one.

    Returns
    -------
    y : array
    cache : (y, axis)

    Raises
    ------
    ShapeError
        If x has no such axis, or its length there is zero.

    Examples
    --------
    >>> import numpy
    >>> y, cache = softmax(numpy.log(numpy.array([1.0, 3.0])))
    >>> y
    array([0.25, 0.75])
    >>> softmax_backward(numpy.array([1.0, 0.0]), cache)
    array([ 0.1875, -0.1875])
    """
    require_float(x, "x", "softmax")
    _check_axis(x, axis, "softmax")
    e = namespace(x).exp(_less_maximum(x, axis))
    y = e / e.sum(axis=axis, keepdims=True)
    return y, (y, axis)


def softmax_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    r"""Return dx.

    :math:`\partial y_i / \partial x_j = y_i (\delta_{ij} - y_j)`, so
    :math:`dx_j = \sum_i dy_i\, y_i (\delta_{ij} - y_j) = y_j (dy_j - \sum_i dy_i y_i)`.
    """
    y, axis = cache
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax(x: Array, axis: int = -1) -> tuple[Array, tuple[Any, ...]]:
    r"""Return the logarithm of softmax: :math:`y_i = x_i - \log \sum_j e^{x_j}`.

    With the largest score m taken out, :math:`y_i = (x_i - m) - \log \sum_j e^{x_j - m}`: the sum is at least 1, so its
    logarithm loses nothing.

    Parameters
    ----------
    x : array
        Any shape with at least one axis, floating; y has the same dtype.
    axis : int
        The axis whose exponentials sum to one.

    Returns
    -------
    y : array
    cache : (y, axis)

    Raises
    ------
    ShapeError
        If x has no such axis, or its length there is zero.

    Examples
    --------
    >>> import numpy
    >>> log_softmax(numpy.array([1000.0, 1000.0]))[0].round(4)
    array([-0.6931, -0.6931])
    """
    require_float(x, "x", "log_softmax")
    _check_axis(x, axis, "log_softmax")
    xp = namespace(x)
    shifted = _less_maximum(x, axis)
    y = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))
    return y, (y, axis)


def log_softmax_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    r"""Return dx.

    :math:`\partial y_i / \partial x_j = \delta_{ij} - e^{y_j}` because :math:`e^{y_j}` is the softmax, so
    :math:`dx_j = dy_j - e^{y_j} \sum_i dy_i`.
    """
    y, axis = cache
    return dy - namespace(y).exp(y) * dy.sum(axis=axis, keepdims=True)


def _less_maximum(x: Array, axis: int) -> Array:
    return x - x.max(axis=axis, keepdims=True) if x.size else x


def _check_axis(x: Array, axis: int, op: str) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{op}: x of shape {x.shape} has no axis {axis}")
    if x.shape[axis] == 0:
        raise ShapeError(f"{op}: axis {axis} of x is empty (shape {x.shape}); there is nothing to sum to one")
