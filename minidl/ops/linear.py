"""Matrix products and the affine map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minidl.errors import ParameterError, ShapeError
from minidl.ops._checks import broadcast_shapes, ieee, require_same_dtype, sum_widened
from minidl.ops._gradients import ALL_WANTED, parameter_gradients
from minidl.ops._namespace import Array, require_float
from minidl.ops.precision import product

__all__ = ["linear", "linear_backward", "matmul", "matmul_backward"]


@ieee
def matmul(
    a: Array,
    b: Array,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out: Array | None = None,
    accumulate: bool = False,
) -> tuple[Array, tuple[Any, ...]]:
    """Multiply matrices, either side read transposed if asked.

    Y = A B, in elements::

        y_ij = sum_k a_ik b_kj

    Parameters
    ----------
    a : array, shape (..., m, k), or (..., k, m) with ``transpose_a``
    b : array, shape (..., k, n), or (..., n, k) with ``transpose_b``
        Both floating-point, of one dtype. Leading axes are batches and broadcast against each other.
    transpose_a, transpose_b : bool, default False
        Whether to read the last two axes swapped.
    out : array, shape (..., m, n), optional
        Written to and returned as y.
    accumulate : bool, default False
        Whether to add the product to ``out`` instead of overwriting it.

    Returns
    -------
    y : array, shape (..., m, n)
    cache : (a, b, transpose_a, transpose_b)

    Raises
    ------
    ShapeError
        If an operand is not a matrix, or inner axes, batch axes or ``out`` do not fit.
    DtypeError
        If an operand is not floating-point, or the dtypes differ.
    ParameterError
        If ``accumulate`` is True without an ``out`` to add to.

    Examples
    --------
    >>> import numpy
    >>> a, b = numpy.array([[1.0, 2.0]]), numpy.array([[3.0], [4.0]])
    >>> y, cache = matmul(a, b)
    >>> y
    array([[11.]])
    >>> matmul_backward(numpy.array([[2.0]]), cache)
    (array([[6., 8.]]), array([[2.],
           [4.]]))
    >>> matmul(a, b, transpose_a=True, transpose_b=True)[0]
    array([[3., 4.],
           [6., 8.]])
    """
    require_float(a, "a", "matmul")
    require_float(b, "b", "matmul")
    require_same_dtype(b, a, "b", "a", "matmul")
    shape = _product_shape(a, b, transpose_a, transpose_b)
    y = product(_transpose_if(a, transpose_a), _transpose_if(b, transpose_b))  # (..., m, n)
    if out is not None:
        if out.shape != shape:
            raise ShapeError(f"matmul: out must have shape {shape}, got {out.shape}")
        require_same_dtype(out, a, "out", "a", "matmul")
        out[...] = out + y if accumulate else y
        y = out
    elif accumulate:
        raise ParameterError("matmul: accumulate=True needs an array to add to; pass it as out=")
    return y, (a, b, transpose_a, transpose_b)


@ieee
def matmul_backward(dy: Array, cache: tuple[Any, ...]) -> tuple[Array, Array]:
    """Return the gradients of both operands.

    a_ik enters every y_ij with the factor b_kj, and b_kj with the factor a_ik. So da_ik = sum_j dy_ij b_kj and
    db_kj = sum_i a_ik dy_ij::

        da = dy b^T
        db = a^T dy

    An operand that was read transposed gets the transpose of its gradient. One that was broadcast took part in several
    products, and gets the sum of their gradients.
    """
    a, b, transpose_a, transpose_b = cache
    require_float(dy, "dy", "matmul_backward")
    require_same_dtype(dy, a, "dy", "a", "matmul_backward")
    shape = _product_shape(a, b, transpose_a, transpose_b)
    if dy.shape != shape:
        raise ShapeError(f"matmul_backward: dy must have the shape of y, {shape}, got {dy.shape}")
    da = product(dy, _transpose_if(b, not transpose_b))  # da = dy b^T  (..., m, k)
    db = product(_transpose_if(a, not transpose_a), dy)  # db = a^T dy  (..., k, n)
    return _sum_to(_transpose_if(da, transpose_a), a.shape), _sum_to(_transpose_if(db, transpose_b), b.shape)


@ieee
def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, tuple[Any, ...]]:
    """Apply an affine map to the last axis.

    Y = X W^T + b, in elements::

        y_no = sum_i x_ni w_oi + b_o

    Parameters
    ----------
    x : array, shape (..., in)
    weight : array, shape (out, in)
    bias : array, shape (out,), optional
        All floating-point, of one dtype.

    Returns
    -------
    y : array, shape (..., out)
    cache : (x, weight, whether there is a bias)

    Raises
    ------
    ShapeError
        If the sizes do not fit.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.

    Examples
    --------
    >>> import numpy
    >>> y, cache = linear(numpy.array([[1.0, 2.0]]), numpy.array([[3.0, 4.0]]), numpy.array([0.5]))
    >>> y
    array([[11.5]])
    >>> dx, dweight, dbias = linear_backward(numpy.array([[2.0]]), cache)
    >>> dx, dweight, dbias
    (array([[6., 8.]]), array([[2., 4.]]), array([2.]))
    """
    require_float(x, "x", "linear")
    require_float(weight, "weight", "linear")
    require_same_dtype(weight, x, "weight", "x", "linear")
    if weight.ndim != 2:
        raise ShapeError(f"linear: weight must have shape (out, in), got {weight.shape}")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: expected {weight.shape[1]} features on the last axis of x, got shape {x.shape}; "
            f"weight has shape {weight.shape}"
        )
    y = product(_to_rows(x), weight.T)  # (N, out): one large product instead of many small ones
    if bias is not None:
        require_float(bias, "bias", "linear")
        require_same_dtype(bias, x, "bias", "x", "linear")
        if bias.shape != weight.shape[:1]:
            raise ShapeError(f"linear: bias must have shape {weight.shape[:1]}, got {bias.shape}")
        y += bias
    return y.reshape((*x.shape[:-1], weight.shape[0])), (x, weight, bias is not None)  # (..., out)


@parameter_gradients("weight", "bias")
@ieee
def linear_backward(
    dy: Array, cache: tuple[Any, ...], wanted: Sequence[bool] = ALL_WANTED
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the gradients of x, weight and bias; None without a bias.

    Flatten the leading axes to N rows, and sum over every output that an element enters. That gives
    dx_ni = sum_o dy_no w_oi, dw_oi = sum_n dy_no x_ni, and db_o = sum_n dy_no because b is added to every row::

        dx = dy W
        dweight = dy^T x
        dbias = sum_n dy
    """
    x, weight, has_bias = cache
    require_float(dy, "dy", "linear_backward")
    require_same_dtype(dy, x, "dy", "x", "linear_backward")
    if dy.shape != (*x.shape[:-1], weight.shape[0]):
        raise ShapeError(f"linear_backward: dy must have shape {(*x.shape[:-1], weight.shape[0])}, got {dy.shape}")
    g = _to_rows(dy)  # (N, out)
    dx = product(g, weight).reshape(x.shape) if wanted[0] else None  # dx = dy W  (..., in)
    dweight = product(g.T, _to_rows(x)) if wanted[1] else None  # dweight = dy^T x  (out, in)
    dbias = sum_widened(g, axis=0) if wanted[2] and has_bias else None  # dbias = sum_n dy  (out,)
    return dx, dweight, dbias


def _to_rows(x: Array) -> Array:
    """Flatten all axes but the last: (N, in)."""
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _transpose_if(matrix: Array, transposed: bool) -> Array:
    return matrix.swapaxes(-1, -2) if transposed else matrix


def _product_shape(a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> tuple[int, ...]:
    """Return (..., m, n); raise if the operands do not fit."""
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(f"matmul: a and b must have at least 2 axes, got shapes {a.shape} and {b.shape}")
    m, k = a.shape[-2:][::-1] if transpose_a else a.shape[-2:]
    inner, n = b.shape[-2:][::-1] if transpose_b else b.shape[-2:]
    if k != inner:
        raise ShapeError(
            f"matmul: inner sizes differ: a is {(m, k)} and b is {(inner, n)}"
            f"{' after transposing' if transpose_a or transpose_b else ''}"
        )
    try:
        return (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), m, n)
    except ValueError:
        raise ShapeError(f"matmul: the batch axes of {a.shape} and {b.shape} do not broadcast") from None


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an operand of this shape was broadcast."""
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    stretched = [added + axis for axis, size in enumerate(shape[:-2]) if size != gradient.shape[added + axis]]
    return sum_widened(gradient, axis=(*range(added), *stretched)).reshape(shape)
