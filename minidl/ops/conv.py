"""Convolutions and their adjoints, along one or two spatial axes.

Every op in here is made of three maps. For a kernel W that slides over an image x, with y the output:

* :func:`_slide` computes y from x and W;
* :func:`_spread` is its adjoint in x: it takes what belongs to y back to where it came from in x;
* :func:`_kernel_gradient` is its adjoint in W.

A convolution's backward is the two adjoints. A transposed convolution *is* the first adjoint, so its own backward is made of
the other two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ShapeError
from minidl.ops._checks import ieee, require_same_dtype, total, widened
from minidl.ops._gradients import ALL_WANTED, parameter_gradients
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops._windows import Windows, require_images, windows, windows_of_transposed

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
    r"""Slide a kernel over images: :math:`y_{nohw} = b_o + \sum_{cij} W_{ocij}\, x_{n,c,\;hs+id-p,\;ws+jd-p}`.

    s is the stride, d the dilation, p the padding; x is 0 outside the image. As everywhere in deep learning the kernel is not
    flipped, so this is the correlation of mathematics.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    weight : array, shape (O, C / groups, kernel height, kernel width)
    bias : array, shape (O,), optional
        All floating, of one dtype.
    stride, dilation : int or (int, int)
    padding : int, (int, int), "same" or "valid"
        Zeros on each side. ``"same"`` keeps H and W (stride 1 only; where the number of zeros is odd, the last comes after
        the image), ``"valid"`` is 0.
    groups : int
        Channels are cut into so many groups, and the outputs of each group see only that group's channels; C groups are a
        depthwise convolution.

    Returns
    -------
    y : array, shape (N, O, H', W')
        With :math:`H' = \lfloor (H + 2p - d(k - 1) - 1) / s \rfloor + 1` for a kernel of height k.
    cache : (x, weight, whether there is a bias, windows)

    Raises
    ------
    ShapeError
        If the channels do not fit, or the kernel is larger than the padded image.
    ParameterError
        If stride, padding, dilation or groups make no sense.
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
    r"""Return the gradients of x, weight and bias.

    Write :math:`G = dL/dy`. From :math:`y_{nohw} = b_o + \sum_{cij} W_{ocij}\, x_{n,c,u,v}` with :math:`u = hs + id - p` and
    :math:`v = ws + jd - p`, summing over every output that an element enters:

    * :math:`dx_{ncuv} = \sum_{o} \sum_{(h, i):\, hs + id - p = u}\; \sum_{(w, j):\, ws + jd - p = v} W_{ocij}\, G_{nohw}`:
      each product goes back to the pixel that it came from;
    * :math:`dW_{ocij} = \sum_{nhw} G_{nohw}\, x_{n,c,\,hs+id-p,\,ws+jd-p}`: each weight met one pixel for every output;
    * :math:`db_o = \sum_{nhw} G_{nohw}`, because b is added to every output.

    The first two are the adjoints of the map in x and in W: :math:`\langle y, G \rangle = \langle x, dx \rangle = \langle W, dW
    \rangle` for b = 0.

    Parameters
    ----------
    dy : array, shape (N, O, H', W')
    cache : tuple
        From :func:`conv2d`.

    Returns
    -------
    dx, dweight : arrays of the shapes of x and weight
    dbias : array, shape (O,), or None without a bias

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
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
    r"""Slide a kernel along sequences: :math:`y_{nol} = b_o + \sum_{ci} W_{oci}\, x_{n,c,\,ls+id-p}`.

    The one-dimensional :func:`conv2d`; x has shape (N, C, L), weight (O, C / groups, kernel length), y (N, O, L').

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
    """Return the gradients of x, weight and bias; those of :func:`conv2d_backward` with one spatial axis."""
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
    r"""Spread each pixel over a window: :math:`y_{nouv} = b_o + \sum_{c} \sum_{hs+id-p=u,\, ws+jd-p=v} W_{coij}\, x_{nchw}`.

    The adjoint in x of :func:`conv2d` with the same weight: it turns what has the shape of that convolution's output into
    what has the shape of its input, so that a stride enlarges. It is not an inverse.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
    weight : array, shape (C, O / groups, kernel height, kernel width)
    bias : array, shape (O,), optional
        All floating, of one dtype.
    stride, padding, dilation, groups
        Those of the convolution whose adjoint this is.
    output_padding : int or (int, int)
        Rows and columns to add at the end: a convolution with a stride takes several sizes to one, and this says to which of
        them to go back.

    Returns
    -------
    y : array, shape (N, O, H', W')
        With :math:`H' = (H - 1) s - 2p + d(k - 1) + 1 +` output_padding for a kernel of height k.
    cache : (x, weight, whether there is a bias, windows)

    Raises
    ------
    ShapeError, ParameterError, DtypeError
        As :func:`conv2d`; also where nothing would be left of the output.

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
    r"""Return the gradients of x, weight and bias.

    With A the convolution's map, y = A^T x + b, so :math:`dx = A\, dy`: the convolution of dy with the same weight. In the bilinear
    form :math:`\langle dy, A^T x \rangle = \langle A\, dy, x \rangle` the weight plays the part that it has in a convolution of dy
    whose upstream gradient is x, so dW is that convolution's weight gradient. :math:`db_o = \sum_{nuv} dy_{nouv}`.

    Parameters
    ----------
    dy : array, shape (N, O, H', W')
    cache : tuple
        From :func:`conv_transpose2d`.

    Returns
    -------
    dx, dweight : arrays of the shapes of x and weight
    dbias : array, shape (O,), or None without a bias

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape or dtype of y.
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
    r"""Spread each element over a window: :math:`y_{nou} = b_o + \sum_{c} \sum_{ls+id-p=u} W_{coi}\, x_{ncl}`.

    The one-dimensional :func:`conv_transpose2d`; x has shape (N, C, L), weight (C, O / groups, kernel length), y (N, O, L').

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
    """Return the gradients of x, weight and bias; those of :func:`conv_transpose2d_backward` with one spatial axis."""
    return _conv_transpose_backward("conv_transpose1d_backward", dy, cache, wanted)


# What one and two axes share ----------------------------------------------------------------------------------------------


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
    return _plus_bias(op, y, bias, weight.shape[0]), (x, weight, bias is not None, w)


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
    return _plus_bias(op, y, bias, w.groups * weight.shape[1]), (x, weight, bias is not None, w)


def _conv_transpose_backward(op: str, dy: Array, cache: Cache, wanted: Sequence[bool]) -> Gradients:
    x, weight, has_bias, w = cache
    _check_upstream(op, dy, x, (x.shape[0], w.groups * weight.shape[1], *w.image))
    dx = _slide(dy, weight, w) if wanted[0] else None  # (N, C, *output)
    dweight = _kernel_gradient(dy, x, weight, w) if wanted[1] else None  # (C, O / groups, *kernel)
    return dx, dweight, _bias_gradient(dy) if wanted[2] and has_bias else None


# The three maps -----------------------------------------------------------------------------------------------------------
#
# "Columns" are the pixels that each output sees, laid out so that the sums over c, i and j become one matrix product for each
# image and group (im2col). They are kernel-height times kernel-width as large as x and therefore made anew when needed.


def _slide(x: Array, weight: Array, w: Windows) -> Array:
    kernels = _grouped(widened(weight), w)  # (G, O/G, C/G K)
    y = namespace(x).matmul(kernels, _columns(widened(x), w))  # (N, G, O/G, P)
    return y.reshape((x.shape[0], weight.shape[0], *w.output)).astype(x.dtype, copy=False)  # (N, O, *output)


def _spread(g: Array, weight: Array, w: Windows) -> Array:
    kernels = _grouped(widened(weight), w).swapaxes(-1, -2)  # (G, C/G K, O/G)
    columns = namespace(g).matmul(kernels, _in_groups(widened(g), w))  # (N, G, C/G K, P)
    return _images(columns, weight.shape[1] * w.groups, w).astype(g.dtype, copy=False)  # (N, C, *image)


def _kernel_gradient(x: Array, g: Array, weight: Array, w: Windows) -> Array:
    rows = _one_sum(_in_groups(widened(g), w))  # (G, O/G, N P)
    columns = _one_sum(_columns(widened(x), w)).swapaxes(-1, -2)  # (G, N P, C/G K)
    return namespace(x).matmul(rows, columns).reshape(weight.shape).astype(x.dtype, copy=False)  # (O, C/G, *kernel)


def _seen(w: Windows, at: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the pixels of the padded image that position ``at`` of the kernel meets, as the output's positions go by."""
    return (
        EVERY,
        EVERY,
        *(
            slice(i * d, i * d + s * (n - 1) + 1, s)
            for i, d, s, n in zip(at, w.dilation, w.stride, w.output, strict=True)
        ),
    )


def _at(at: tuple[int, ...]) -> tuple[Any, ...]:
    return (EVERY, EVERY, *at)


def _inside(w: Windows) -> tuple[slice, ...]:
    """Return where the image lies in the padded image."""
    return (EVERY, EVERY, *(slice(p[0], p[0] + n) for p, n in zip(w.padding, w.image, strict=True)))


def _padded(shape: tuple[int, ...], w: Windows) -> tuple[int, ...]:
    return (*shape[:2], *(n + p[0] + p[1] for n, p in zip(w.image, w.padding, strict=True)))


def _columns(x: Array, w: Windows) -> Array:
    """Lay out the pixels that each output sees: (N, C, *image) to (N, G, C/G K, P)."""
    xp = namespace(x)
    padded = xp.zeros(_padded(x.shape, w), dtype=x.dtype)
    padded[_inside(w)] = x
    columns = xp.empty((*x.shape[:2], *w.kernel, *w.output), dtype=x.dtype)
    for at in numpy.ndindex(*w.kernel):
        columns[_at(at)] = padded[_seen(w, at)]
    length = x.shape[1] // w.groups * _product(w.kernel)
    return columns.reshape((x.shape[0], w.groups, length, _product(w.output)))


def _images(columns: Array, channels: int, w: Windows) -> Array:
    """Add every element of columns to the pixel that it was seen at, the adjoint of :func:`_columns`."""
    shape = (columns.shape[0], channels)
    columns = columns.reshape((*shape, *w.kernel, *w.output))
    padded = namespace(columns).zeros(_padded((*shape, *w.image), w), dtype=columns.dtype)
    for at in numpy.ndindex(*w.kernel):
        padded[_seen(w, at)] += columns[_at(at)]
    return padded[_inside(w)]  # (N, C, *image)


def _grouped(weight: Array, w: Windows) -> Array:
    """Write the kernels of each group as the rows of a matrix: (G, O/G, C/G K)."""
    return weight.reshape((w.groups, weight.shape[0] // w.groups, _product(weight.shape[1:])))


def _in_groups(g: Array, w: Windows) -> Array:
    """(N, O, *output) to (N, G, O/G, P)."""
    return g.reshape((g.shape[0], w.groups, g.shape[1] // w.groups, _product(w.output)))


def _one_sum(x: Array) -> Array:
    """(N, G, rows, P) to (G, rows, N P): images side by side, so that one product sums over all of them."""
    return x.transpose((1, 2, 0, 3)).reshape((x.shape[1], x.shape[2], x.shape[0] * x.shape[3]))


def _product(shape: tuple[int, ...]) -> int:
    return int(numpy.prod(shape, dtype=numpy.int64))


def _plus_bias(op: str, y: Array, bias: Array | None, channels: int) -> Array:
    if bias is None:
        return y
    require_float(bias, "bias", op)
    require_same_dtype(bias, y, "bias", "x", op)
    if bias.shape != (channels,):
        raise ShapeError(f"{op}: bias must have shape {(channels,)}, got {bias.shape}")
    return y + bias.reshape((channels,) + (1,) * (y.ndim - 2))


def _bias_gradient(dy: Array) -> Array:
    return total(dy, axis=(0, *range(2, dy.ndim)))  # (O,)


def _check_dtypes(op: str, x: Array, weight: Array) -> None:
    require_images(x, "x", op)
    require_float(weight, "weight", op)
    require_same_dtype(weight, x, "weight", "x", op)


def _check_upstream(op: str, dy: Array, x: Array, shape: tuple[int, ...]) -> None:
    require_float(dy, "dy", op)
    require_same_dtype(dy, x, "dy", "x", op)
    if dy.shape != shape:
        raise ShapeError(f"{op}: dy must have the shape of y, {shape}, got {dy.shape}")
