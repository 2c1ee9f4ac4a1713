"""Unpooling: put maxima back where they were, and 0 elsewhere."""

from __future__ import annotations

import math
from typing import Any, NoReturn

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._checks import ieee
from minidl.ops._later import are_later, refuse_any
from minidl.ops._namespace import Array, namespace
from minidl.ops._pooling import check_upstream, read_pool_padding, require_batch
from minidl.ops._windows import Shape, each_axis, lay_padding, require_addressable

__all__ = ["max_unpool1d", "max_unpool1d_backward", "max_unpool2d", "max_unpool2d_backward"]

Cache = tuple[Any, ...]


@ieee
def max_unpool2d(
    x: Array, indices: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> tuple[Array, Cache]:
    """Put each element where the maximum of its window was, and 0 elsewhere.

    With the indices that ``max_pool2d(..., return_indices=True)`` returned, k = u W + v for the pixel (u, v)::

        y_nck = x_nchw where k = indices_nchw, else 0

    If several elements have one index, which can happen where windows overlap, the last of them counts, row by row.

    Parameters
    ----------
    x : array, shape (N, C, H', W')
        Floating-point.
    indices : integer array, shape (N, C, H', W')
    kernel_size : int or (int, int)
    stride : int or (int, int), default kernel_size
    padding : int, (int, int), ((int, int), (int, int)) or "valid", default 0
        Of the pooling; all three only decide the size of y.
    output_size : tuple of int, optional
        H and W, or the whole shape of y. By default these are the least sizes that give H' and W': H = (H' - 1) s - 2 p + k.

    Returns
    -------
    y : array, shape (N, C, H, W)
    cache : (owners, indices, dtype of x)
        ``owners`` has the shape of y and says which element of x each pixel is, counted row by row; -1 for those left 0.

    Raises
    ------
    ShapeError
        If x has another rank, the indices have not its shape, or the output size does not fit.
    ParameterError
        If an argument is invalid, or an index is outside the image.
    DtypeError
        If x is not floating-point, or the indices are not integers.

    References
    ----------
    M. Zeiler, R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 2.1.

    Examples
    --------
    >>> import numpy
    >>> from minidl.ops.pool import max_pool2d
    >>> (y, indices), _ = max_pool2d(numpy.array([[[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 7.0, 6.0]]]]), 2, return_indices=True)
    >>> x, cache = max_unpool2d(y, indices, 2)
    >>> x
    array([[[[0., 5., 0., 0.],
             [0., 0., 7., 0.]]]])
    >>> max_unpool2d_backward(numpy.arange(8.0).reshape(1, 1, 2, 4), cache)
    array([[[[1., 6.]]]])
    """
    return _max_unpool("max_unpool2d", 2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    Each element that was put into y gets the gradient from there::

        dx_nchw = dy_nck, k = indices_nchw, where x_nchw is what y_nck holds, else 0
    """
    return _max_unpool_backward("max_unpool2d_backward", dy, cache)


@ieee
def max_unpool1d(
    x: Array, indices: Array, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> tuple[Array, Cache]:
    """Put each element where the maximum of its window was in the sequence, and 0 elsewhere.

    The one-dimensional :func:`max_unpool2d`; x and the indices have shape (N, C, L'), y (N, C, L)::

        y_nck = x_ncl where k = indices_ncl, else 0

    Examples
    --------
    >>> import numpy
    >>> y, cache = max_unpool1d(numpy.array([[[4.0, 3.0]]]), numpy.array([[[1, 2]]]), 2)
    >>> y
    array([[[0., 4., 3., 0.]]])
    >>> max_unpool1d_backward(numpy.array([[[1.0, 2.0, 3.0, 4.0]]]), cache)
    array([[[2., 3.]]])
    """
    return _max_unpool("max_unpool1d", 1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool1d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    That of :func:`max_unpool2d_backward` with one spatial axis::

        dx_ncl = dy_nck, k = indices_ncl, where x_ncl is what y_nck holds, else 0
    """
    return _max_unpool_backward("max_unpool1d_backward", dy, cache)


def unpooled_size(op: str, pooled: Shape, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Shape:
    """Return the spatial shape that an unpooling gives.

    >>> unpooled_size("max_unpool2d", (2, 3), 2, None, 0, None), unpooled_size("max_unpool2d", (2, 3), 2, None, 0, (5, 6))
    ((4, 6), (5, 6))
    """
    axes = len(pooled)
    kernel = each_axis(kernel_size, axes, "kernel_size", op, 1)
    strides = kernel if stride is None else each_axis(stride, axes, "stride", op, 1)
    read = read_pool_padding(op, padding, kernel)
    if read == "same":
        raise ParameterError(f"{op}: padding cannot be 'same', which many sizes share; give output_size and numbers")
    sides = lay_padding(read, pooled, kernel, strides, (1,) * axes)
    least = tuple((m - 1) * s - sum(p) + k for m, s, p, k in zip(pooled, strides, sides, kernel, strict=True))
    if output_size is None:
        return least
    given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,)
    wanted = each_axis(given[2:] if len(given) == axes + 2 else given, axes, "output_size", op, 1)
    if any(abs(n - m) >= s for n, m, s in zip(wanted, least, strides, strict=True)):
        raise ShapeError(f"{op}: output_size must be nearer than the stride {strides} to {least}, got {output_size}")
    return wanted


def _max_unpool(
    op: str, axes: int, x: Array, indices: Array, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[Array, Cache]:
    require_batch(x, axes, op)
    image = unpooled_size(op, x.shape[2:], kernel_size, stride, padding, output_size)
    require_addressable((*x.shape[:2], *image), op)
    flat = _check_indices(op, x, indices, math.prod(image))  # (N C, H' W')
    xp, (rows, count) = namespace(x), flat.shape
    owners = xp.full((rows, math.prod(image)), -1, dtype="int64")  # (N C, H W)
    owners[xp.arange(rows)[:, None], flat] = xp.arange(count)
    found = xp.take_along_axis(x.reshape((rows, count)), xp.maximum(owners, 0), axis=1)
    y = xp.where(owners >= 0, found, 0).reshape((*x.shape[:2], *image))  # (N, C, H, W)
    return y, (owners.reshape(y.shape), flat.reshape(x.shape), x.dtype)


def _max_unpool_backward(op: str, dy: Array, cache: Cache) -> Array:
    owners, indices, dtype = cache
    check_upstream(op, dy, owners.shape, dtype)
    xp, shape = namespace(dy), indices.shape
    rows, count, pixels = math.prod(shape[:2]), math.prod(shape[2:]), math.prod(dy.shape[2:])
    flat, owners = indices.copy().reshape((rows, count)), owners.reshape((rows, pixels))  # a copy here too
    g = xp.take_along_axis(dy.reshape((rows, pixels)), flat, axis=1)
    mine = xp.take_along_axis(owners, flat, axis=1) == xp.arange(count)
    return xp.where(mine, g, 0).reshape(shape)


def _check_indices(op: str, x: Array, indices: Any, pixels: int) -> Array:
    """Return the indices as a matrix with a row for each image: a copy, which nobody can change between check and use."""
    kind = getattr(getattr(indices, "dtype", None), "kind", None)
    if kind is None or kind not in "iu":
        came = type(indices).__name__ if kind is None else f"dtype {indices.dtype}"
        raise DtypeError(f"{op}: indices must be an array of integers, as max pooling returns it, got {came}")
    if indices.shape != x.shape:
        raise ShapeError(f"{op}: indices must have the shape of x, {x.shape}, got {indices.shape}")
    flat = indices.astype("int64").reshape((math.prod(x.shape[:2]), math.prod(x.shape[2:])))

    def complain() -> NoReturn:
        raise ParameterError(
            f"{op}: indices must be from 0 to {pixels - 1}, the last pixel of y, got {int(flat.min())} to {int(flat.max())}; if "
            "the pooled images were larger, give output_size"
        )

    refuse_any((flat < 0) | (flat >= pixels), complain)
    return namespace(flat).clip(flat, 0, pixels - 1) if are_later(flat) else flat
