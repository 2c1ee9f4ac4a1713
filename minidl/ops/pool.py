"""Pooling: one number for every window of an image, its largest or its mean.

Max and average pooling slide a window of fixed size. They are computed a kernel position at a time: what all windows see there is
one strided view of the image, so there is one array operation for each position of the kernel and not for each window.
Adaptive pooling has a window for each output, as large as need be.
"""

from __future__ import annotations

import math
from typing import Any

from minidl.ops._checks import ieee, widened
from minidl.ops._namespace import Array, namespace
from minidl.ops._pooling import Pooling, check_upstream, meetings, output_sizes, pooling, require_batch
from minidl.ops._runs import along, sum_runs

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]

Cache = tuple[Any, ...]


@ieee
def max_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Cache]:
    r"""Keep the largest of each window: :math:`y_{nchw} = \max_{ij} x_{n,c,\;hs+id-p,\;ws+jd-p}`.

    s is the stride, d the dilation, p the padding; only pixels inside the image count. nan counts as larger than anything.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating.
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        The kernel's size unless given.
    padding : int or (int, int)
        How far windows may begin outside the image; at most half of the kernel.
    dilation : int or (int, int)
        The distance of neighbours in a window.
    ceil_mode : bool
        Whether windows may also end outside the image, as long as they begin inside it or in the padding before it.

    Returns
    -------
    y : array, shape (N, C, H', W')
        Of x's dtype. :math:`H' = \lfloor (H + 2p - d(k - 1) - 1) / s \rfloor + 1` for a kernel of height k, rounded up
        with ``ceil_mode``.
    cache : (won, dtype of x, windows)
        ``won`` has the shape of y and says which kernel position gave each maximum, counted row by row; one byte each for
        kernels of up to 255 positions. A window that meets no pixel (the dilation can bring that about) is minus infinity, and
        its entry the number of positions.

    Raises
    ------
    ShapeError
        If x has another rank, or the kernel is larger than the padded image.
    ParameterError
        If an argument makes no sense, or the padding is more than half of the kernel.
    DtypeError
        If x is not floating-point.

    Notes
    -----
    Among equals the first counts, row by row, as in PyTorch; of several nans the last.
    K. Yamaguchi et al., "A neural network for speaker-independent isolated word recognition", ICSLP 1990.

    Examples
    --------
    >>> import numpy
    >>> y, cache = max_pool2d(numpy.array([[[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 7.0, 6.0]]]]), 2)
    >>> y
    array([[[[5., 7.]]]])
    >>> cache[0]
    array([[[[1, 2]]]], dtype=uint8)
    >>> max_pool2d_backward(numpy.array([[[[10.0, 20.0]]]]), cache)
    array([[[[ 0., 10.,  0.,  0.],
             [ 0.,  0., 20.,  0.]]]])
    """
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode)


@ieee
def max_pool2d_backward(dy: Array, cache: Cache) -> Array:
    r"""Return dx: each :math:`dy_{nchw}` goes to the pixel that won its window.

    As long as nobody else takes the lead, y is that pixel, so :math:`\partial y_{nchw} / \partial x_{ncuv}` is 1 for the winner and
    0 for the others. A pixel that wins several windows gets the sum:

    .. math:: dx_{ncuv} = \sum_{ij} \sum_{hw:\, hs+id-p=u,\, ws+jd-p=v} dy_{nchw}\, [(i, j) \text{ won } (h, w)].

    The outer sum is the loop over kernel positions; for each of them every output meets another pixel, so the inner one is a
    single addition to a strided view.

    Parameters
    ----------
    dy : array, shape (N, C, H', W')
    cache : tuple
        From :func:`max_pool2d`.

    Returns
    -------
    dx : array, shape (N, C, H, W)

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape of y or the dtype of x.
    """
    return _max_pool_backward("max_pool2d_backward", dy, cache)


@ieee
def max_pool1d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Cache]:
    r"""Keep the largest of each window of sequences: :math:`y_{ncl} = \max_i x_{n,c,\,ls+id-p}`.

    The one-dimensional :func:`max_pool2d`; x has shape (N, C, L), y (N, C, L').

    Examples
    --------
    >>> import numpy
    >>> y, cache = max_pool1d(numpy.array([[[1.0, 4.0, 2.0]]]), 2, stride=1)
    >>> y
    array([[[4., 4.]]])
    >>> max_pool1d_backward(numpy.array([[[1.0, 10.0]]]), cache)
    array([[[ 0., 11.,  0.]]])
    """
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode)


@ieee
def max_pool1d_backward(dy: Array, cache: Cache) -> Array:
    """Return dx; that of :func:`max_pool2d_backward` with one spatial axis."""
    return _max_pool_backward("max_pool1d_backward", dy, cache)


@ieee
def avg_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, Cache]:
    r"""Take the mean of each window: :math:`y_{nchw} = \frac{1}{a_{hw}} \sum_{ij} x_{n,c,\;hs+i-p,\;ws+j-p}`.

    s is the stride, p the padding, x is 0 outside the image. :math:`a_{hw}` is the area of the window: of what of it lies in the
    padded image, or, without ``count_include_pad``, in the image itself.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating.
    kernel_size, stride, padding, ceil_mode
        As for :func:`max_pool2d`.
    count_include_pad : bool
        Whether the padding counts in the area.

    Returns
    -------
    y : array, shape (N, C, H', W')
        Of x's dtype; float16 is summed in float32.
    cache : (shape of x, dtype of x, windows, count_include_pad)

    Raises
    ------
    ShapeError, ParameterError, DtypeError
        As :func:`max_pool2d`.

    References
    ----------
    Y. LeCun et al., "Handwritten digit recognition with a back-propagation network", NIPS 1989.

    Examples
    --------
    >>> import numpy
    >>> y, cache = avg_pool2d(numpy.array([[[[1.0, 5.0, 2.0, 0.0], [3.0, 3.0, 4.0, 6.0]]]]), 2)
    >>> y
    array([[[[3., 3.]]]])
    >>> avg_pool2d_backward(numpy.array([[[[4.0, 8.0]]]]), cache)
    array([[[[1., 1., 2., 2.],
             [1., 1., 2., 2.]]]])
    """
    return _avg_pool("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


@ieee
def avg_pool2d_backward(dy: Array, cache: Cache) -> Array:
    r"""Return dx: every pixel of a window gets its share :math:`g_{nchw} = dy_{nchw} / a_{hw}`.

    y is linear in x with :math:`\partial y_{nchw} / \partial x_{ncuv} = 1 / a_{hw}` for the pixels of the window and 0 for others, so

    .. math:: dx_{ncuv} = \sum_{ij} \sum_{hw:\, hs+i-p=u,\, ws+j-p=v} g_{nchw}.

    The outer sum is the loop over kernel positions, the inner a single addition to a strided view.

    Parameters
    ----------
    dy : array, shape (N, C, H', W')
    cache : tuple
        From :func:`avg_pool2d`.

    Returns
    -------
    dx : array, shape (N, C, H, W)

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape of y or the dtype of x.
    """
    return _avg_pool_backward("avg_pool2d_backward", dy, cache)


@ieee
def avg_pool1d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, Cache]:
    r"""Take the mean of each window of sequences: :math:`y_{ncl} = \frac{1}{a_l} \sum_i x_{n,c,\,ls+i-p}`.

    The one-dimensional :func:`avg_pool2d`; x has shape (N, C, L), y (N, C, L').

    Examples
    --------
    >>> import numpy
    >>> y, cache = avg_pool1d(numpy.array([[[1.0, 3.0, 5.0]]]), 2, padding=1, count_include_pad=False)
    >>> y
    array([[[1., 4.]]])
    >>> avg_pool1d_backward(numpy.array([[[1.0, 10.0]]]), cache)
    array([[[1., 5., 5.]]])
    """
    return _avg_pool("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


@ieee
def avg_pool1d_backward(dy: Array, cache: Cache) -> Array:
    """Return dx; that of :func:`avg_pool2d_backward` with one spatial axis."""
    return _avg_pool_backward("avg_pool1d_backward", dy, cache)


@ieee
def adaptive_avg_pool2d(x: Array, output_size: Any) -> tuple[Array, Cache]:
    r"""Take means over as many windows as are asked for.

    .. math:: y_{nchw} = \frac{1}{a_h b_w} \sum_{u = l_h}^{r_h - 1} \sum_{v = l_w}^{r_w - 1} x_{ncuv}

    Along an axis of length n cut into m windows, window i goes from :math:`l_i = \lfloor i n / m \rfloor` to
    :math:`r_i = \lceil (i + 1) n / m \rceil`, and :math:`r_i - l_i` is its length: a or b. Neighbours overlap where m does not
    divide n. ``output_size=1`` is the mean of each image.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating.
    output_size : int, None or a pair of them
        H' and W'; None keeps the image's. Larger than the image is allowed, and repeats pixels.

    Returns
    -------
    y : array, shape (N, C, H', W')
        Of x's dtype; float16 is summed in float32.
    cache : (shape of x, dtype of x, (H', W'))

    Raises
    ------
    ShapeError
        If x has another rank, or there is nothing in its images.
    ParameterError
        If the output size makes no sense.
    DtypeError
        If x is not floating-point.

    References
    ----------
    M. Lin, Q. Chen, S. Yan, "Network in network", ICLR 2014 (the mean of each image).

    Examples
    --------
    >>> import numpy
    >>> y, cache = adaptive_avg_pool2d(numpy.array([[[[1.0, 3.0, 8.0], [1.0, 3.0, 8.0]]]]), (1, 2))
    >>> y  # the means of the first two and of the last two columns
    array([[[[2. , 5.5]]]])
    >>> adaptive_avg_pool2d_backward(numpy.array([[[[4.0, 8.0]]]]), cache)
    array([[[[1., 3., 2.],
             [1., 3., 2.]]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, x, output_size)


@ieee
def adaptive_avg_pool2d_backward(dy: Array, cache: Cache) -> Array:
    r"""Return dx.

    A window is an interval of rows times an interval of columns, so the mean over it is the mean along one axis of means along the
    other, and it suffices to go back through one axis. There :math:`y_i = \frac{1}{r_i - l_i} \sum_{l_i \le u < r_i} x_u`, so

    .. math:: dx_u = \sum_{i:\; l_i \le u < r_i} g_i, \qquad g_i = \frac{dy_i}{r_i - l_i}.

    Now :math:`\lfloor i n / m \rfloor \le u` means :math:`i < (u + 1)\, m / n`, and :math:`u < \lceil (i + 1) n / m \rceil` means
    :math:`i + 1 > u\, m / n`. So the i summed over run from :math:`\lfloor u m / n \rfloor` to :math:`\lceil (u + 1) m / n \rceil - 1`: the rule of
    the windows itself, with the two lengths exchanged.

    Parameters
    ----------
    dy : array, shape (N, C, H', W')
    cache : tuple
        From :func:`adaptive_avg_pool2d`.

    Returns
    -------
    dx : array, shape (N, C, H, W)

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape of y or the dtype of x.
    """
    return _adaptive_avg_pool_backward("adaptive_avg_pool2d_backward", dy, cache)


@ieee
def adaptive_avg_pool1d(x: Array, output_size: Any) -> tuple[Array, Cache]:
    """Take means over as many windows of sequences as are asked for.

    The one-dimensional :func:`adaptive_avg_pool2d`; x has shape (N, C, L), y (N, C, L').

    Examples
    --------
    >>> import numpy
    >>> adaptive_avg_pool1d(numpy.array([[[1.0, 3.0, 5.0, 7.0]]]), 2)[0]
    array([[[2., 6.]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, x, output_size)


@ieee
def adaptive_avg_pool1d_backward(dy: Array, cache: Cache) -> Array:
    """Return dx; that of :func:`adaptive_avg_pool2d_backward` with one spatial axis."""
    return _adaptive_avg_pool_backward("adaptive_avg_pool1d_backward", dy, cache)


# What one and two axes share ----------------------------------------------------------------------------------------------


def _max_pool(
    op: str, axes: int, x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Array, Cache]:
    require_batch(x, axes, op)
    w = pooling(op, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    xp, nobody = namespace(x), math.prod(w.kernel)
    y = xp.full((*x.shape[:2], *w.output), -math.inf, dtype=x.dtype)  # (N, C, *output)
    won = xp.full(y.shape, nobody, dtype="uint8" if nobody < 256 else "int32")
    for number, places, pixels in meetings(w):
        seen, best, leader = x[pixels], y[places], won[places]
        better = (seen > best) | (seen != seen) | (leader == nobody)  # a nan is not itself
        y[places] = xp.where(better, seen, best)
        won[places] = xp.where(better, number, leader)
    return y, (won, x.dtype, w)


def _max_pool_backward(op: str, dy: Array, cache: Cache) -> Array:
    won, dtype, w = cache
    check_upstream(op, dy, won.shape, dtype)
    xp, g = namespace(dy), widened(dy)
    dx = xp.zeros((*dy.shape[:2], *w.image), dtype=g.dtype)  # (N, C, *image)
    for number, places, pixels in meetings(w):
        dx[pixels] += xp.where(won[places] == number, g[places], 0)
    return dx.astype(dtype, copy=False)


def _avg_pool(
    op: str,
    axes: int,
    x: Array,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
) -> tuple[Array, Cache]:
    require_batch(x, axes, op)
    w = pooling(op, x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    wide = widened(x)
    y = namespace(x).zeros((*x.shape[:2], *w.output), dtype=wide.dtype)  # (N, C, *output)
    for _, places, pixels in meetings(w):
        y[places] += wide[pixels]
    y = y / _areas(w, count_include_pad, wide)
    return y.astype(x.dtype, copy=False), (x.shape, x.dtype, w, count_include_pad)


def _avg_pool_backward(op: str, dy: Array, cache: Cache) -> Array:
    shape, dtype, w, count_include_pad = cache
    check_upstream(op, dy, (*shape[:2], *w.output), dtype)
    wide = widened(dy)
    g = wide / _areas(w, count_include_pad, wide)  # the share of each pixel  (N, C, *output)
    dx = namespace(dy).zeros(shape, dtype=g.dtype)
    for _, places, pixels in meetings(w):
        dx[pixels] += g[places]
    return dx.astype(dtype, copy=False)


def _areas(w: Pooling, count_include_pad: bool, like: Array) -> Array:
    """Return the area of every window: an array of the shape of the output, of the dtype of ``like``."""
    xp, axes = namespace(like), len(w.image)
    areas = xp.ones(w.output, dtype=like.dtype)
    for axis, (kernel, stride, padding, _, n, positions) in enumerate(zip(*w, strict=True)):
        start = xp.arange(positions) * stride  # in the padded image, whose pixels the image's are from `padding` on
        stop = xp.minimum(start + kernel, 2 * padding + n)
        if not count_include_pad:
            start, stop = xp.maximum(start, padding), xp.minimum(stop, padding + n)
        areas = areas * along(stop - start, axis, axes).astype(like.dtype)
    return areas


def _adaptive_avg_pool(op: str, axes: int, x: Array, output_size: Any) -> tuple[Array, Cache]:
    require_batch(x, axes, op)
    output = output_sizes(op, x.shape[2:], output_size)
    y = widened(x)
    for axis, m in enumerate(output, start=2):
        lengths = along(_lengths(y, y.shape[axis], m), axis, y.ndim)
        y = _cut(y, axis, m) / lengths
    return y.astype(x.dtype, copy=False), (x.shape, x.dtype, output)


def _adaptive_avg_pool_backward(op: str, dy: Array, cache: Cache) -> Array:
    shape, dtype, output = cache
    check_upstream(op, dy, (*shape[:2], *output), dtype)
    g = widened(dy)
    for axis in reversed(range(2, len(shape))):
        lengths = along(_lengths(g, shape[axis], g.shape[axis]), axis, g.ndim)
        g = _cut(g / lengths, axis, shape[axis])
    return g.astype(dtype, copy=False)


def _bounds(like: Array, n: int, m: int) -> tuple[Array, Array]:
    """Return where each of m windows on n elements starts and stops."""
    i = namespace(like).arange(m)
    return i * n // m, -(-(i + 1) * n // m)


def _lengths(like: Array, n: int, m: int) -> Array:
    starts, stops = _bounds(like, n, m)
    return (stops - starts).astype(like.dtype)


def _cut(x: Array, axis: int, m: int) -> Array:
    """Sum over each of m windows along an axis."""
    n = x.shape[axis]
    if n % m == 0:  # the windows lie side by side
        return x.reshape((*x.shape[:axis], m, n // m, *x.shape[axis + 1 :])).sum(axis=axis + 1)
    starts, stops = _bounds(x, n, m)
    longest = -(-n // m) + 1  # a window may begin and end in the middle of an element
    return sum_runs(x, axis, starts, stops, longest)
