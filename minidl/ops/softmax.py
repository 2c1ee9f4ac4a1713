"""Softmax and its logarithm, along any axis.

Both take a floating-point array x with at least one axis and return y of the same shape and dtype. The chosen axis must
not be empty; the others may be. float16 is computed in float32 and rounded once. A row that holds plus infinity, nan, or
nothing but minus infinity gives nan.
"""

from __future__ import annotations

from typing import Any

from minidl.errors import ShapeError
from minidl.ops._checks import ieee, require_like, sum_widened, widen_float16
from minidl.ops._names import axis_or_dim
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]


@axis_or_dim
@ieee
def softmax(x: Array, axis: int = -1) -> tuple[Array, tuple[Any, ...]]:
    """Turn scores into probabilities.

    Along ``axis``::

        y_i = exp(x_i) / sum_j exp(x_j)

    The largest score is subtracted first: it cancels in the quotient, and no exponential overflows.

    Parameters
    ----------
    x : array
    axis : int, default -1
        The axis along which y sums to one; PyTorch's name for it, ``dim``, is taken too.

    Returns
    -------
    y : array
    cache : (y, axis)

    Raises
    ------
    DtypeError
        If x is not floating-point.
    ShapeError
        If x has no such axis, or its length there is zero.

    References
    ----------
    J. Bridle, "Probabilistic interpretation of feedforward classification network outputs, with relationships to
    statistical pattern recognition", Neurocomputing (1990).

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
    e = namespace(x).exp(_subtract_maximum(widen_float16(x), axis))  # all at most 1, one of them 1
    y = (e / sum_widened(e, axis, keepdims=True)).astype(x.dtype, copy=False)
    return y, (y, axis)


@ieee
def softmax_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    r"""Return the gradient of x.

    With <dy, y> = sum_i dy_i y_i, the mean of dy under the probabilities y::

        dx = y (dy - <dy, y>)

    Notes
    -----
    By the quotient rule :math:`\partial y_i / \partial x_j = y_i \delta_{ij} - y_i y_j`: the numerator of :math:`y_i`
    depends on :math:`x_j` only if i = j, the denominator always. So

    .. math:: dx_j = \sum_i dy_i\, y_i (\delta_{ij} - y_j) = y_j \Big(dy_j - \sum_i dy_i\, y_i\Big).
    """
    y, axis = cache
    require_like(dy, y, "dy", "y", "softmax_backward")
    p, g = widen_float16(y), widen_float16(dy)
    mean = sum_widened(g * p, axis, keepdims=True)
    return (p * (g - mean)).astype(y.dtype, copy=False)


@axis_or_dim
@ieee
def log_softmax(x: Array, axis: int = -1) -> tuple[Array, tuple[Any, ...]]:
    """Return the logarithm of softmax.

    Along ``axis``::

        y_i = x_i - log(sum_j exp(x_j))

    With the largest score m taken out, y_i = (x_i - m) - log(sum_j exp(x_j - m)). This sum is 1 for the largest score plus the
    sum of the others, so log1p of the others neither overflows nor loses digits.

    Arguments, cache and errors are those of :func:`softmax`.

    Examples
    --------
    >>> import numpy
    >>> y, cache = log_softmax(numpy.array([1000.0, 1000.0]))
    >>> y.round(4)
    array([-0.6931, -0.6931])
    >>> log_softmax_backward(numpy.array([1.0, 0.0]), cache)
    array([ 0.5, -0.5])
    """
    require_float(x, "x", "log_softmax")
    _check_axis(x, axis, "log_softmax")
    xp = namespace(x)
    shifted = _subtract_maximum(widen_float16(x), axis)
    e = xp.exp(shifted)
    rest = sum_exponentials_but_one(e, axis)
    y = (shifted - xp.log1p(rest)).astype(x.dtype, copy=False)
    return y, (y, axis)


@ieee
def log_softmax_backward(dy: Array, cache: tuple[Any, ...]) -> Array:
    r"""Return the gradient of x.

    With p = exp(y) = softmax(x), and the sum along the axis::

        dx_j = dy_j (1 - p_j) - p_j sum of the other dy_i

    1 - p is taken as -expm1(y): where p rounds to 1, y still has all its digits.

    Notes
    -----
    :math:`\partial y_i / \partial x_j = \delta_{ij} - e^{x_j} / \sum_k e^{x_k} = \delta_{ij} - e^{y_j}`, so

    .. math:: dx_j = \sum_i dy_i (\delta_{ij} - e^{y_j}) = dy_j (1 - e^{y_j}) - e^{y_j} \sum_{i \ne j} dy_i.
    """
    y, axis = cache
    require_like(dy, y, "dy", "y", "log_softmax_backward")
    xp, g, wide = namespace(y), widen_float16(dy), widen_float16(y)
    others = sum_widened(g, axis, keepdims=True) - g
    dx = -g * xp.expm1(wide) - xp.exp(wide) * others
    return dx.astype(y.dtype, copy=False)


def is_first_largest(x: Array, axis: int) -> Array:
    """Return where the first of the largest elements along an axis is."""
    xp = namespace(x)
    positions = xp.arange(x.shape[axis]).reshape(tuple(-1 if a == axis % x.ndim else 1 for a in range(x.ndim)))
    return positions == xp.expand_dims(xp.argmax(x, axis=axis), axis)


def sum_but_one(x: Array, axis: int) -> Array:
    """Return the sum along an axis, kept with length 1, without the first of the largest elements.

    >>> import numpy
    >>> sum_but_one(numpy.array([[1e-9, 1.0, 1e-9]]), 1)
    array([[2.e-09]])
    """
    return sum_widened(namespace(x).where(is_first_largest(x, axis), 0, x), axis, keepdims=True)


def sum_exponentials_but_one(e: Array, axis: int) -> Array:
    """Return :func:`sum_but_one` of exponentials, but nan where the largest is: with a score of plus infinity nothing is known.

    >>> import numpy
    >>> sum_exponentials_but_one(numpy.array([[0.25, 1.0], [numpy.nan, 0.0]]), 1)
    array([[0.25],
           [ nan]])
    """
    return sum_but_one(e, axis) + 0 * e.max(axis=axis, keepdims=True)


def _subtract_maximum(x: Array, axis: int) -> Array:
    return x - x.max(axis=axis, keepdims=True)


def _check_axis(x: Array, axis: int, op: str) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"{op}: x of shape {x.shape} has no axis {axis}")
    if x.shape[axis] == 0:
        raise ShapeError(f"{op}: axis {axis} of x is empty (shape {x.shape}); there is nothing to sum to one")
