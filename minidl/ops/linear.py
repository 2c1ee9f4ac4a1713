"""Matrix products and the affine map."""

from __future__ import annotations

from typing import Any

from minidl.errors import ShapeError
from minidl.ops._namespace import Array, namespace, require_float

__all__ = ["linear", "linear_backward", "matmul", "matmul_backward"]


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
        Leading axes are batches and broadcast against each other.
    transpose_a, transpose_b : bool
        Read the last two axes swapped.
    out : array, shape (..., m, n), optional
        Written to and returned as y.
    accumulate : bool
        With ``out``: add the product to what is there.

    Returns
    -------
    y : array, shape (..., m, n)
    cache : (a, b, transpose_a, transpose_b)

    Raises
    ------
    ShapeError
        If an operand is no matrix, or the inner or batch axes do not fit.

    Examples
    --------
    >>> import numpy
    >>> a, b = numpy.array([[1.0, 2.0]]), numpy.array([[3.0], [4.0]])
    >>> matmul(a, b)[0]
    array([[11.]])
    >>> matmul(a, b, transpose_a=True, transpose_b=True)[0]
    array([[3., 4.],
           [6., 8.]])
    """
    require_float(a, "a", "matmul")
    require_float(b, "b", "matmul")
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(f"matmul: a and b must have at least 2 axes, got shapes {a.shape} and {b.shape}")
    left, right = _read(a, transpose_a), _read(b, transpose_b)  # (..., m, k), (..., k, n)
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(
            f"matmul: inner sizes differ: a is {left.shape[-2:]} and b is {right.shape[-2:]}"
            f"{' after transposing' if transpose_a or transpose_b else ''}"
        )
    try:
        y = namespace(a).matmul(left, right)  # (..., m, n)
    except ValueError as error:
        raise ShapeError(f"matmul: the batch axes of {a.shape} and {b.shape} do not broadcast") from error
    if out is not None:
        if out.shape != y.shape:
            raise ShapeError(f"matmul: out must have shape {y.shape}, got {out.shape}")
        out[...] = out + y if accumulate else y
        y = out
    return y, (a, b, transpose_a, transpose_b)


def matmul_backward(dy: Array, cache: tuple[Any, ...]) -> tuple[Array, Array]:
    r"""Return the gradients of both operands.

    With :math:`G = dL/dY` and :math:`Y = A B`, the element :math:`A_{ik}` enters every :math:`Y_{ij}` with the factor
    :math:`B_{kj}`, so :math:`dA_{ik} = \sum_j G_{ij} B_{kj}`, that is :math:`dA = G B^T`; likewise
    :math:`dB_{kj} = \sum_i A_{ik} G_{ij}`, :math:`dB = A^T G`. An operand that was read transposed gets the transpose
    of its gradient, and one that was broadcast gets the sum over the copies.

    Parameters
    ----------
    dy : array, shape (..., m, n)
    cache : tuple
        From :func:`matmul`.

    Returns
    -------
    da, db : arrays of the shapes of a and b
    """
    a, b, transpose_a, transpose_b = cache
    xp = namespace(dy)
    left, right = _read(a, transpose_a), _read(b, transpose_b)
    da = xp.matmul(dy, _read(right, True))  # dA = G B^T  (..., m, k)
    db = xp.matmul(_read(left, True), dy)  # dB = A^T G  (..., k, n)
    return _sum_to(_read(da, transpose_a), a.shape), _sum_to(_read(db, transpose_b), b.shape)


def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, tuple[Any, ...]]:
    r"""Apply the affine map :math:`Y = X W^T + b` to the last axis.

    Parameters
    ----------
    x : array, shape (..., in)
    weight : array, shape (out, in)
    bias : array, shape (out,), optional

    Returns
    -------
    y : array, shape (..., out)
    cache : (x, weight, whether there is a bias)

    Raises
    ------
    ShapeError
        If the sizes do not fit.
    DtypeError
        If an argument is not floating-point.

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
    if weight.ndim != 2:
        raise ShapeError(f"linear: weight must have shape (out, in), got {weight.shape}")
    if x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: expected {weight.shape[1]} features on the last axis of x, got shape {x.shape}; "
            f"weight has shape {weight.shape}"
        )
    y = namespace(x).matmul(x, weight.T)  # (..., out)
    if bias is not None:
        require_float(bias, "bias", "linear")
        if bias.shape != weight.shape[:1]:
            raise ShapeError(f"linear: bias must have shape {weight.shape[:1]}, got {bias.shape}")
        y = y + bias
    return y, (x, weight, bias is not None)


def linear_backward(dy: Array, cache: tuple[Any, ...]) -> tuple[Array, Array, Array | None]:
    r"""Return the gradients of x, weight and bias.

    Flatten the leading axes to N rows and write :math:`G = dL/dY` with shape (N, out):
    :math:`Y_{no} = \sum_i X_{ni} W_{oi} + b_o`, so

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
    ShapeError
        If dy does not have the shape of y.
    """
    x, weight, has_bias = cache
    if dy.shape != (*x.shape[:-1], weight.shape[0]):
        raise ShapeError(f"linear_backward: dy must have shape {(*x.shape[:-1], weight.shape[0])}, got {dy.shape}")
    xp = namespace(dy)
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    flat_dy = dy.reshape(rows, weight.shape[0])  # (N, out)
    flat_x = x.reshape(rows, weight.shape[1])  # (N, in)
    dx = xp.matmul(dy, weight)  # dX = G W  (..., in)
    dweight = xp.matmul(flat_dy.T, flat_x)  # dW = G^T X  (out, in)
    dbias = flat_dy.sum(axis=0) if has_bias else None  # db = column sums of G  (out,)
    return dx, dweight, dbias


def _read(matrix: Array, transposed: bool) -> Array:
    return matrix.swapaxes(-1, -2) if transposed else matrix


def _sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an operand of this shape was broadcast."""
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        axis + extra for axis, size in enumerate(shape[:-2]) if size == 1 and gradient.shape[axis + extra] != 1
    )
    return gradient.sum(axis=axes).reshape(shape) if axes else gradient
