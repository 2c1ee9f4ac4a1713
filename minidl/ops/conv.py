"""Convolutions and their adjoints, along one or two spatial axes.

Every op here consists of three maps. For a kernel that slides over an image x, with output y:

* :func:`_slide` computes y from x and the weight;
* :func:`_spread` is its adjoint in x: it takes each output back to the pixels that it saw;
* :func:`_kernel_gradient` is its adjoint in the weight.

The backward of a convolution is the two adjoints. A transposed convolution *is* the first adjoint, so its own backward
consists of the other two.

Shapes: N images, C input and O output channels, G groups, k positions of the kernel, P positions of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ShapeError
from minidl.ops._checks import ieee, require_same_dtype, sum_widened, widen_float16
from minidl.ops._gradients import ALL_WANTED, parameter_gradients
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops._windows import Windows, require_images, windows, windows_of_transposed
from minidl.ops.precision import product

__all__ = [
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
]

Cache = tuple[Array, Array, bool, Windows]
Gradients = tuple[Array | None, Array | None, Array | None]
EVERY = slice(None)


@ieee
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Array, Cache]:
    """Slide a kernel over images.

    With stride s, dilation d and padding p; x is 0 outside the image::

        y_nohw = b_o + sum_cij w_ocij x_ncuv,   u = h s + i d - p,   v = w s + j d - p

    The kernel is not flipped, as everywhere in deep learning, so this is what mathematics calls correlation.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    weight : array, shape (O, C / groups, kernel height, kernel width)
    bias : array, shape (O,), optional
        All floating-point, of one dtype.
    stride : int or (int, int), default 1
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid", default 0
        Zeros on each side, the same on both sides of an axis, or ((top, bottom), (left, right)). ``"same"`` is as much as makes
        H' = ceil(H / s), half of it on each side and an odd zero after the image, as in TensorFlow and ONNX (SAME_UPPER).
        With stride 1 this keeps H and W, as in PyTorch. ``"valid"`` is 0.
    dilation : int or (int, int), default 1
    groups : int, default 1
        The channels are divided into this many groups, and the outputs of a group see only its channels. C groups are a
        depthwise convolution.

    Returns
    -------
    y : array, shape (N, O, H', W')
        H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1 for a kernel of height k; 2 p is the sum of both sides.
    cache : (x, weight, whether there is a bias, windows)

    Raises
    ------
    ShapeError
        If the channels do not fit, or the kernel is larger than the padded image.
    ParameterError
        If stride, padding, dilation or groups is invalid.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.

    References
    ----------
    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning" (2016).

    Examples
    --------
    >>> import numpy
    >>> x = numpy.arange(9.0).reshape(1, 1, 3, 3)
    >>> edges = numpy.array([[[[1.0, -1.0]]]])  # each pixel minus the one to its right
    >>> y, cache = conv2d(x, edges)
    >>> y
    array([[[[-1., -1.],
             [-1., -1.],
             [-1., -1.]]]])
    >>> dx, dweight, dbias = conv2d_backward(numpy.ones_like(y), cache)
    >>> dx[0, 0]
    array([[ 1.,  0., -1.],
           [ 1.,  0., -1.],
           [ 1.,  0., -1.]])
    >>> dweight  # the sums of the first two and of the last two columns of x
    array([[[[21., 27.]]]])
    """
    return _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


@parameter_gradients("weight", "bias")
@ieee
def conv2d_backward(dy: Array, cache: Cache, wanted: Sequence[bool] = ALL_WANTED) -> Gradients:
    """Return the gradients of x, weight and bias; None without a bias.

    Each product goes back to the pixel that it came from, each weight met one pixel for every output, and b is added to every
    output. With u = h s + i d - p and v = w s + j d - p as in the forward::

        dx_ncuv = sum of w_ocij dy_nohw over all o, h, i, w, j that meet at (u, v)
        dweight_ocij = sum_nhw dy_nohw x_ncuv
        dbias_o = sum_nhw dy_nohw

    The first two are the adjoints of the map in x and in the weight: <y, dy> = <x, dx> = <weight, dweight> for b = 0.
    """
    return _conv_backward("conv2d_backward", dy, cache, wanted)


@ieee
def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Array, Cache]:
    """Slide a kernel along sequences.

    The one-dimensional :func:`conv2d`; x has shape (N, C, L), weight (O, C / groups, kernel length), y (N, O, L')::

        y_nol = b_o + sum_ci w_oci x_ncu,   u = l s + i d - p

    Examples
    --------
    >>> import numpy
    >>> x = numpy.array([[[1.0, 2.0, 4.0, 8.0]]])
    >>> y, cache = conv1d(x, numpy.array([[[1.0, 1.0]]]), stride=2)
    >>> y
    array([[[ 3., 12.]]])
    >>> conv1d_backward(numpy.array([[[1.0, 10.0]]]), cache)[:2]
    (array([[[ 1.,  1., 10., 10.]]]), array([[[41., 82.]]]))
    """
    return _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


@parameter_gradients("weight", "bias")
@ieee
def conv1d_backward(dy: Array, cache: Cache, wanted: Sequence[bool] = ALL_WANTED) -> Gradients:
    """Return the gradients of x, weight and bias; None without a bias.

    Those of :func:`conv2d_backward` with one spatial axis, u = l s + i d - p::

        dx_ncu = sum of w_oci dy_nol over all o, l, i that meet at u
        dweight_oci = sum_nl dy_nol x_ncu
        dbias_o = sum_nl dy_nol
    """
    return _conv_backward("conv1d_backward", dy, cache, wanted)


@ieee
def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> tuple[Array, Cache]:
    """Spread each pixel over a window.

    The adjoint in x of :func:`conv2d` with the same weight::

        y_nouv = b_o + sum of w_coij x_nchw over all c, h, i, w, j with u = h s + i d - p, v = w s + j d - p

    It maps arrays of the shape of that convolution's output to arrays of the shape of its input, so a stride enlarges. It is
    not an inverse.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    weight : array, shape (C, O / groups, kernel height, kernel width)
    bias : array, shape (O,), optional
        All floating-point, of one dtype.
    stride : int or (int, int), default 1
    padding : int or (int, int), default 0
        Both of the convolution whose adjoint this is.
    output_padding : int or (int, int), default 0
        Rows and columns to add at the end. A convolution with a stride maps several sizes to one; this chooses among them.
    groups : int, default 1
    dilation : int or (int, int), default 1
        Both as in :func:`conv2d`.

    Returns
    -------
    y : array, shape (N, O, H', W')
        H' = (H - 1) s - 2 p + d (k - 1) + 1 + output_padding for a kernel of height k.
    cache : (x, weight, whether there is a bias, windows)

    Raises
    ------
    ShapeError, ParameterError, DtypeError
        As :func:`conv2d`; ``ShapeError`` also if the output would be empty.

    References
    ----------
    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning" (2016), chapter 4.

    Examples
    --------
    >>> import numpy
    >>> x = numpy.array([[[[1.0, 2.0]]]])
    >>> y, cache = conv_transpose2d(x, numpy.array([[[[10.0, 1.0]]]]), stride=(1, 2))
    >>> y
    array([[[[10.,  1., 20.,  2.]]]])
    >>> conv_transpose2d_backward(y, cache)[:2]
    (array([[[[101., 202.]]]]), array([[[[50.,  5.]]]]))
    """
    return _conv_transpose("conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation)


@parameter_gradients("weight", "bias")
@ieee
def conv_transpose2d_backward(dy: Array, cache: Cache, wanted: Sequence[bool] = ALL_WANTED) -> Gradients:
    """Return the gradients of x, weight and bias; None without a bias.

    With A the map of the convolution, y = A^T x + b, so dx is A dy. In <dy, A^T x> = <A dy, x> the weight plays the part that
    it has in a convolution of dy with upstream gradient x, so dweight is that convolution's weight gradient. With
    u = h s + i d - p and v = w s + j d - p::

        dx_nchw = sum_oij w_coij dy_nouv
        dweight_coij = sum_nhw x_nchw dy_nouv
        dbias_o = sum_nuv dy_nouv
    """
    return _conv_transpose_backward("conv_transpose2d_backward", dy, cache, wanted)


@ieee
def conv_transpose1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> tuple[Array, Cache]:
    """Spread each element over a window.

    The one-dimensional :func:`conv_transpose2d`; x has shape (N, C, L), weight (C, O / groups, kernel length), y (N, O, L')::

        y_nou = b_o + sum of w_coi x_ncl over all c, l, i with u = l s + i d - p

    Examples
    --------
    >>> import numpy
    >>> conv_transpose1d(numpy.array([[[1.0, 2.0]]]), numpy.array([[[1.0, 3.0]]]))[0]
    array([[[1., 5., 6.]]])
    """
    return _conv_transpose("conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation)


@parameter_gradients("weight", "bias")
@ieee
def conv_transpose1d_backward(dy: Array, cache: Cache, wanted: Sequence[bool] = ALL_WANTED) -> Gradients:
    """Return the gradients of x, weight and bias; None without a bias.

    Those of :func:`conv_transpose2d_backward` with one spatial axis, u = l s + i d - p::

        dx_ncl = sum_oi w_coi dy_nou
        dweight_coi = sum_nl x_ncl dy_nou
        dbias_o = sum_nu dy_nou
    """
    return _conv_transpose_backward("conv_transpose1d_backward", dy, cache, wanted)


# Shared by one and two axes ----------------------------------------------------------------------------------------------


def _conv(
    op: str,
    axes: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> tuple[Array, Cache]:
    _check_dtypes(op, x, weight)
    w = windows(op, axes, x.shape, weight.shape, stride, padding, dilation, groups)
    y = _slide(x, weight, w)  # (N, O, *output)
    return _add_bias(op, y, bias, weight.shape[0]), (x, weight, bias is not None, w)


def _conv_backward(op: str, dy: Array, cache: Cache, wanted: Sequence[bool]) -> Gradients:
    x, weight, has_bias, w = cache
    _check_upstream(op, dy, x, (x.shape[0], weight.shape[0], *w.output))
    dx = _spread(dy, weight, w) if wanted[0] else None  # (N, C, *image)
    dweight = _kernel_gradient(x, dy, weight, w) if wanted[1] else None  # (O, C / groups, *kernel)
    return dx, dweight, _bias_gradient(dy) if wanted[2] and has_bias else None


def _conv_transpose(
    op: str,
    axes: int,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> tuple[Array, Cache]:
    _check_dtypes(op, x, weight)
    w = windows_of_transposed(op, axes, x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    y = _spread(x, weight, w)  # (N, O, *image)
    return _add_bias(op, y, bias, w.groups * weight.shape[1]), (x, weight, bias is not None, w)


def _conv_transpose_backward(op: str, dy: Array, cache: Cache, wanted: Sequence[bool]) -> Gradients:
    x, weight, has_bias, w = cache
    _check_upstream(op, dy, x, (x.shape[0], w.groups * weight.shape[1], *w.image))
    dx = _slide(dy, weight, w) if wanted[0] else None  # (N, C, *output)
    dweight = _kernel_gradient(dy, x, weight, w) if wanted[1] else None  # (C, O / groups, *kernel)
    return dx, dweight, _bias_gradient(dy) if wanted[2] and has_bias else None


# The three maps -----------------------------------------------------------------------------------------------------------
#
# "Columns" are the pixels that each output sees, laid out so that the sums over c, i and j become one matrix product for each
# image and group (im2col). They are k times as large as x, so they are not cached but made again when needed.


def _slide(x: Array, weight: Array, w: Windows) -> Array:
    kernels = _to_kernel_matrices(widen_float16(weight), w)  # (G, O/G, C/G k)
    y = product(kernels, _im2col(widen_float16(x), w), x.dtype)  # (N, G, O/G, P)
    return y.reshape((x.shape[0], weight.shape[0], *w.output)).astype(x.dtype, copy=False)  # (N, O, *output)


def _spread(g: Array, weight: Array, w: Windows) -> Array:
    kernels = _to_kernel_matrices(widen_float16(weight), w).swapaxes(-1, -2)  # (G, C/G k, O/G)
    columns = product(kernels, _split_groups(widen_float16(g), w), g.dtype)  # (N, G, C/G k, P)
    return _col2im(columns, weight.shape[1] * w.groups, w).astype(g.dtype, copy=False)  # (N, C, *image)


def _kernel_gradient(x: Array, g: Array, weight: Array, w: Windows) -> Array:
    rows = _join_images(_split_groups(widen_float16(g), w))  # (G, O/G, N P)
    columns = _join_images(_im2col(widen_float16(x), w)).swapaxes(-1, -2)  # (G, N P, C/G k)
    return product(rows, columns, x.dtype).reshape(weight.shape).astype(x.dtype, copy=False)  # (O, C/G, *kernel)


def _seen_slices(w: Windows, at: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the slices of the padded image that position ``at`` of the kernel meets, one pixel for each output."""
    return (
        EVERY,
        EVERY,
        *(
            slice(i * d, i * d + s * (n - 1) + 1, s)
            for i, d, s, n in zip(at, w.dilation, w.stride, w.output, strict=True)
        ),
    )


def _kernel_slices(at: tuple[int, ...]) -> tuple[Any, ...]:
    return (EVERY, EVERY, *at)


def _image_slices(w: Windows) -> tuple[slice, ...]:
    """Return the slices of the padded image that hold the image."""
    return (EVERY, EVERY, *(slice(p[0], p[0] + n) for p, n in zip(w.padding, w.image, strict=True)))


def _padded_shape(shape: tuple[int, ...], w: Windows) -> tuple[int, ...]:
    return (*shape[:2], *(n + p[0] + p[1] for n, p in zip(w.image, w.padding, strict=True)))


def _im2col(x: Array, w: Windows) -> Array:
    """Lay out the pixels that each output sees: (N, C, *image) to (N, G, C/G k, P)."""
    xp = namespace(x)
    padded = xp.zeros(_padded_shape(x.shape, w), dtype=x.dtype)  # (N, C, *padded image)
    padded[_image_slices(w)] = x
    columns = xp.empty((*x.shape[:2], *w.kernel, *w.output), dtype=x.dtype)  # (N, C, *kernel, *output)
    for at in numpy.ndindex(*w.kernel):
        columns[_kernel_slices(at)] = padded[_seen_slices(w, at)]
    length = x.shape[1] // w.groups * _product(w.kernel)
    return columns.reshape((x.shape[0], w.groups, length, _product(w.output)))  # (N, G, C/G k, P)


def _col2im(columns: Array, channels: int, w: Windows) -> Array:
    """Add every element of columns to its pixel: (N, G, C/G k, P) to (N, C, *image), the adjoint of :func:`_im2col`."""
    shape = (columns.shape[0], channels)
    columns = columns.reshape((*shape, *w.kernel, *w.output))  # (N, C, *kernel, *output)
    padded = namespace(columns).zeros(_padded_shape((*shape, *w.image), w), dtype=columns.dtype)
    for at in numpy.ndindex(*w.kernel):
        padded[_seen_slices(w, at)] += columns[_kernel_slices(at)]
    return padded[_image_slices(w)]  # (N, C, *image)


def _to_kernel_matrices(weight: Array, w: Windows) -> Array:
    """Write the kernels of each group as the rows of a matrix: (G, O/G, C/G k)."""
    return weight.reshape((w.groups, weight.shape[0] // w.groups, _product(weight.shape[1:])))


def _split_groups(g: Array, w: Windows) -> Array:
    """Split the channels into groups: (N, O, *output) to (N, G, O/G, P)."""
    return g.reshape((g.shape[0], w.groups, g.shape[1] // w.groups, _product(w.output)))


def _join_images(x: Array) -> Array:
    """Put the images side by side, so that one product sums over all of them: (N, G, rows, P) to (G, rows, N P)."""
    return x.transpose((1, 2, 0, 3)).reshape((x.shape[1], x.shape[2], x.shape[0] * x.shape[3]))


def _product(shape: tuple[int, ...]) -> int:
    return int(numpy.prod(shape, dtype=numpy.int64))


def _add_bias(op: str, y: Array, bias: Array | None, channels: int) -> Array:
    if bias is None:
        return y
    require_float(bias, "bias", op)
    require_same_dtype(bias, y, "bias", "x", op)
    if bias.shape != (channels,):
        raise ShapeError(f"{op}: bias must have shape {(channels,)}, got {bias.shape}")
    return y + bias.reshape((channels,) + (1,) * (y.ndim - 2))


def _bias_gradient(dy: Array) -> Array:
    return sum_widened(dy, axis=(0, *range(2, dy.ndim)))  # (O,)


def _check_dtypes(op: str, x: Array, weight: Array) -> None:
    require_images(x, "x", op)
    require_float(weight, "weight", op)
    require_same_dtype(weight, x, "weight", "x", op)


def _check_upstream(op: str, dy: Array, x: Array, shape: tuple[int, ...]) -> None:
    require_float(dy, "dy", op)
    require_same_dtype(dy, x, "dy", "x", op)
    if dy.shape != shape:
        raise ShapeError(f"{op}: dy must have the shape of y, {shape}, got {dy.shape}")
