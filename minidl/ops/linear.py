"""Matrix products and the affine map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ParameterError, ShapeError
from minidl.ops._checks import ieee, require_same_dtype, total
from minidl.ops._gradients import ALL_WANTED, parameter_gradients
from minidl.ops._namespace import Array, namespace, require_float

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
    r"""Multiply matrices: :math:`Y_{ij} = \sum_k A_{ik} B_{kj}`, with either side read transposed.

    Parameters
    ----------
    a : array, shape (..., m, k), or (..., k, m) with ``transpose_a``
    b : array, shape (..., k, n), or (..., n, k) with ``transpose_b``
        Floating, of one dtype. Leading axes are batches and broadcast against each other.
    transpose_a, transpose_b : bool
        Read the last two axes swapped.
    out : array, shape (..., m, n), optional
        Written to and returned as y.
    accumulate : bool
        With ``out``: add the product to what is there.

    Returns
    -------
    y : array, shape (..., m, n)
        Of the dtype of a.
    cache : (a, b, transpose_a, transpose_b)

    Raises
    ------
    ShapeError
        If an operand is no matrix, or the inner or batch axes do not fit, or ``out`` does not.
    DtypeError
        If an operand is not floating-point, or the dtypes differ.
    ParameterError
        If ``accumulate`` has no ``out`` to add to.

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
    y = namespace(a).matmul(_read(a, transpose_a), _read(b, transpose_b))  # (..., m, n)
    if out is not None:
        if out.shape != shape:
            raise ShapeError(f"matmul: out must have shape {shape}, got {out.shape}")
        require_same_dtype(out, a, "out", "a", "matmul")
        out[...] = out + y if accumulate else y
        y = out
    elif accumulate:
        raise ParameterError("matmul: accumulate=True needs an array to add to; give it as out=")
    return y, (a, b, transpose_a, transpose_b)


@ieee
def matmul_backward(dy: Array, cache: tuple[Any, ...]) -> tuple[Array, Array]:
    r"""Return the gradients of both operands.

    With :math:`G = dL/dY` and :math:`Y = A B`, the element :math:`A_{ik}` enters every :math:`Y_{ij}` with the factor
    :math:`B_{kj}`, so

    * :math:`dA_{ik} = \sum_j G_{ij} B_{kj}`, that is :math:`dA = G B^T`; likewise
    * :math:`dB_{kj} = \sum_i A_{ik} G_{ij}`, that is :math:`dB = A^T G`.

    An operand that was read transposed gets the transpose of its gradient. One that was broadcast entered several products,
    and gets the sum of what each of them contributes.

    Parameters
    ----------
    dy : array, shape (..., m, n)
    cache : tuple
        From :func:`matmul`.

    Returns
    -------
    da, db : arrays of the shapes of a and b

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
    """
    a, b, transpose_a, transpose_b = cache
    require_float(dy, "dy", "matmul_backward")
    require_same_dtype(dy, a, "dy", "a", "matmul_backward")
    shape = _product_shape(a, b, transpose_a, transpose_b)
    if dy.shape != shape:
        raise ShapeError(f"matmul_backward: dy must have the shape of y, {shape}, got {dy.shape}")
    xp = namespace(dy)
    da = xp.matmul(dy, _read(b, not transpose_b))  # dA = G B^T  (..., m, k)
    db = xp.matmul(_read(a, not transpose_a), dy)  # dB = A^T G  (..., k, n)
    return _sum_to(_read(da, transpose_a), a.shape), _sum_to(_read(db, transpose_b), b.shape)


@ieee
def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, tuple[Any, ...]]:
    r"""Apply the affine map :math:`Y = X W^T + b` to the last axis.

    Parameters
    ----------
    x : array, shape (..., in)
    weight : array, shape (out, in)
    bias : array, shape (out,), optional
        All floating, of one dtype.

    Returns
    -------
    y : array, shape (..., out)
        Of the dtype of x.
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
    y = namespace(x).matmul(_rows(x), weight.T)  # (N, out): one large product, not one for each leading index
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
    r"""Return the gradients of x, weight and bias.

    Flatten the leading axes to N rows and write :math:`G = dL/dY` with shape (N, out). From
    :math:`Y_{no} = \sum_i X_{ni} W_{oi} + b_o`, summing over every output that an element enters:

    * :math:`dX_{ni} = \sum_o G_{no} W_{oi}`, that is :math:`dX = G W`;
    * :math:`dW_{oi} = \sum_n G_{no} X_{ni}`, that is :math:`dW = G^T X`;
    * :math:`db_o = \sum_n G_{no}`, because b is added to every row.

    Parameters
    ----------
    dy : array, shape (..., out)
    cache : tuple
        From :func:`linear`.

    Returns
    -------
    dx : array, shape (..., in)
    dweight : array, shape (out, in)
    dbias : array, shape (out,), or None without a bias

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
    """
    x, weight, has_bias = cache
    require_float(dy, "dy", "linear_backward")
    require_same_dtype(dy, x, "dy", "x", "linear_backward")
    if dy.shape != (*x.shape[:-1], weight.shape[0]):
        raise ShapeError(f"linear_backward: dy must have shape {(*x.shape[:-1], weight.shape[0])}, got {dy.shape}")
    xp = namespace(dy)
    g = _rows(dy)  # (N, out)
    dx = xp.matmul(g, weight).reshape(x.shape) if wanted[0] else None  # dX = G W  (..., in)
    dweight = xp.matmul(g.T, _rows(x)) if wanted[1] else None  # dW = G^T X  (out, in)
    dbias = total(g, axis=0) if wanted[2] and has_bias else None  # db = column sums of G  (out,)
    return dx, dweight, dbias


def _rows(x: Array) -> Array:
    """Flatten all axes but the last."""
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _read(matrix: Array, transposed: bool) -> Array:
    return matrix.swapaxes(-1, -2) if transposed else matrix


def _product_shape(a: Array, b: Array, transpose_a: bool, transpose_b: bool) -> tuple[int, ...]:
    """Return (..., m, n), or say what does not fit."""
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
        return (*numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2]), m, n)
    except ValueError:
        raise ShapeError(f"matmul: the batch axes of {a.shape} and {b.shape} do not broadcast") from None


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an operand of this shape was broadcast."""
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    stretched = [added + axis for axis, size in enumerate(shape[:-2]) if size != gradient.shape[added + axis]]
    return total(gradient, axis=(*range(added), *stretched)).reshape(shape)
