"""Pooling: one element for every window of an image, its maximum or its mean.

Max and average pooling slide a window of fixed size. They loop over the positions of the kernel: the pixels that all
windows see at one position are a strided view of the image, so there is one array operation a position, not one a window.
Adaptive pooling has a window for each output, as large as needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy

from minidl.ops._checks import ieee, sum_dtype, sum_widened, widen_float16
from minidl.ops._namespace import Array, namespace
from minidl.ops._pooling import Pooling, check_upstream, output_sizes, overlaps, pooling, require_batch
from minidl.ops._runs import reshape_along, sum_runs

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
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
EVERY = slice(None)


@ieee
def max_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Any, Cache]:
    """Keep the maximum of each window.

    With stride s, dilation d and padding p::

        y_nchw = max_ij x_ncuv,   u = h s + i d - p,   v = w s + j d - p

    Only pixels inside the image count. nan counts as larger than anything.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point.
    kernel_size : int or (int, int)
    stride : int or (int, int), default kernel_size
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid", default 0
        How far windows may begin and end outside the image; at most half of the kernel. Pairs ((top, bottom), (left, right))
        are less than the kernel. ``"same"`` and ``"valid"`` are as in :func:`minidl.ops.conv2d`.
    dilation : int or (int, int), default 1
        The distance between neighbours in a window.
    ceil_mode : bool, default False
        Whether windows may also end outside the image, as long as they begin inside it or in the padding before it.
    return_indices : bool, default False
        Whether to return also where each maximum is, as :func:`minidl.ops.max_unpool2d` takes it.

    Returns
    -------
    y : array, shape (N, C, H', W'), or (y, indices)
        H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1 for a kernel of height k; rounded up with ``ceil_mode``. With
        ``return_indices`` a pair, of which ``indices`` is an array of int64 with the shape of y: u W + v, counted in the image
        without padding, or -1 for a window without any pixel. The backward takes the gradient of y alone.
    cache : (won, dtype of x, windows)
        ``won`` has the shape of y and holds the kernel position of each maximum, counted row by row, in one byte each for
        kernels of up to 255 positions. A window without any pixel (dilation can cause that) is minus infinity, and its entry
        is the number of positions.

    Raises
    ------
    ShapeError
        If x has another rank, or the kernel is larger than the padded image.
    ParameterError
        If an argument is invalid, or the padding is more than half of the kernel.
    DtypeError
        If x is not floating-point.

    Notes
    -----
    Among equals the first wins, row by row, as in PyTorch; among nans the last.

    References
    ----------
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
    return _max_pool("max_pool2d", 2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@ieee
def max_pool2d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    A small change of x does not change the winners, so each dy goes to the pixel that won its window. A pixel that wins several
    windows gets the sum::

        dx_ncuv = sum of dy_nchw over all windows (h, w) that pixel (u, v) won

    The loop adds one kernel position at a time. Within a position every output meets another pixel, so it is one addition to a
    strided view.
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
    return_indices: bool = False,
) -> tuple[Any, Cache]:
    """Keep the maximum of each window of sequences.

    The one-dimensional :func:`max_pool2d`; x has shape (N, C, L), y (N, C, L')::

        y_ncl = max_i x_ncu,   u = l s + i d - p

    Examples
    --------
    >>> import numpy
    >>> y, cache = max_pool1d(numpy.array([[[1.0, 4.0, 2.0]]]), 2, stride=1)
    >>> y
    array([[[4., 4.]]])
    >>> max_pool1d_backward(numpy.array([[[1.0, 10.0]]]), cache)
    array([[[ 0., 11.,  0.]]])
    """
    return _max_pool("max_pool1d", 1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@ieee
def max_pool1d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    That of :func:`max_pool2d_backward` with one spatial axis::

        dx_ncu = sum of dy_ncl over all windows l that element u won
    """
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
    """Take the mean of each window.

    With stride s and padding p; x is 0 outside the image::

        y_nchw = sum_ij x_ncuv / a_hw,   u = h s + i - p,   v = w s + j - p

    The area a_hw counts the pixels of the window that lie in the padded image, or without ``count_include_pad`` in the image.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point.
    kernel_size : int or (int, int)
    stride : int or (int, int), default kernel_size
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid", default 0
    ceil_mode : bool, default False
        All as in :func:`max_pool2d`.
    count_include_pad : bool, default True
        Whether the padding counts in the area. In TensorFlow it does not.

    Returns
    -------
    y : array, shape (N, C, H', W')
        Sums of float16 are taken in float32.
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
    """Return the gradient of x.

    y is linear in x: every pixel of a window has the factor 1 / a_hw::

        dx_ncuv = sum of dy_nchw / a_hw over all windows (h, w) that hold pixel (u, v)

    The loop adds one kernel position at a time, each one addition to a strided view.
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
    """Take the mean of each window of sequences.

    The one-dimensional :func:`avg_pool2d`; x has shape (N, C, L), y (N, C, L')::

        y_ncl = sum_i x_ncu / a_l,   u = l s + i - p

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
    """Return the gradient of x.

    That of :func:`avg_pool2d_backward` with one spatial axis::

        dx_ncu = sum of dy_ncl / a_l over all windows l that hold element u
    """
    return _avg_pool_backward("avg_pool1d_backward", dy, cache)


@ieee
def adaptive_avg_pool2d(x: Array, output_size: Any) -> tuple[Array, Cache]:
    """Take means over a given number of windows.

    Along an axis of length n, window i of m begins at floor(i n / m) and ends before ceil((i + 1) n / m)::

        y_nchw = mean of x_ncuv over the rows u of window h and the columns v of window w

    Neighbouring windows overlap where m does not divide n. ``output_size=1`` is the mean of each image.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point.
    output_size : int, None or a pair of them
        H' and W'; None keeps the length of the axis. Larger than the image is allowed, and repeats pixels.

    Returns
    -------
    y : array, shape (N, C, H', W')
        Sums of float16 are taken in float32.
    cache : (shape of x, dtype of x, (H', W'))

    Raises
    ------
    ShapeError
        If x has another rank, or its images are empty.
    ParameterError
        If the output size is invalid.
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
    r"""Return the gradient of x.

    With a_hw the number of pixels of a window::

        dx_ncuv = sum of dy_nchw / a_hw over all windows (h, w) that hold pixel (u, v)

    Notes
    -----
    A window is an interval of rows times an interval of columns, so its mean is the mean along one axis of means along the
    other, and it suffices to derive one axis. There the windows i that hold u have
    :math:`\lfloor i n / m \rfloor \le u`, which means :math:`i < (u + 1)\, m / n`, and
    :math:`u < \lceil (i + 1) n / m \rceil`, which means :math:`i + 1 > u\, m / n`. So i runs from
    :math:`\lfloor u m / n \rfloor` to :math:`\lceil (u + 1) m / n \rceil - 1`: the rule of the windows itself, with the two
    lengths exchanged.
    """
    return _adaptive_avg_pool_backward("adaptive_avg_pool2d_backward", dy, cache)


@ieee
def adaptive_avg_pool1d(x: Array, output_size: Any) -> tuple[Array, Cache]:
    """Take means over a given number of windows of sequences.

    The one-dimensional :func:`adaptive_avg_pool2d`; x has shape (N, C, L), y (N, C, L')::

        y_ncl = mean of x_ncu over the elements u of window l

    Examples
    --------
    >>> import numpy
    >>> adaptive_avg_pool1d(numpy.array([[[1.0, 3.0, 5.0, 7.0]]]), 2)[0]
    array([[[2., 6.]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, x, output_size)


@ieee
def adaptive_avg_pool1d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    That of :func:`adaptive_avg_pool2d_backward` with one spatial axis::

        dx_ncu = sum of dy_ncl / a_l over all windows l that hold element u
    """
    return _adaptive_avg_pool_backward("adaptive_avg_pool1d_backward", dy, cache)


@ieee
def adaptive_max_pool2d(x: Array, output_size: Any, return_indices: bool = False) -> tuple[Any, Cache]:
    """Keep the maxima of a given number of windows.

    With the windows of :func:`adaptive_avg_pool2d`::

        y_nchw = max of x_ncuv over the rows u of window h and the columns v of window w

    Among equals the first wins, row by row. A window with nan gives nan. Arguments and errors are those of
    :func:`adaptive_avg_pool2d`; ``output_size=1`` is the maximum of each image.

    Parameters
    ----------
    x : array, shape (N, C, H, W)
        Floating-point.
    output_size : int, None or a pair of them
    return_indices : bool, default False
        Whether to return (y, positions).

    Returns
    -------
    y : array, shape (N, C, H', W'), or (y, positions)
    cache : (positions, shape of x, dtype of x)
        ``positions`` has the shape of y and says where each maximum is: u W + v.

    Examples
    --------
    >>> import numpy
    >>> y, cache = adaptive_max_pool2d(numpy.array([[[[1.0, 3.0, 8.0], [4.0, 2.0, 5.0]]]]), (1, 2))
    >>> y, cache[0]  # the maxima of the first two and of the last two columns
    (array([[[[4., 8.]]]]), array([[[[3, 2]]]]))
    >>> adaptive_max_pool2d_backward(numpy.array([[[[10.0, 20.0]]]]), cache)
    array([[[[ 0.,  0., 20.],
             [10.,  0.,  0.]]]])
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, x, output_size, return_indices)


@ieee
def adaptive_max_pool2d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    As in :func:`max_pool2d_backward`, each dy goes to the pixel that won its window::

        dx_ncuv = sum of dy_nchw over all windows (h, w) that pixel (u, v) won

    The loop adds one window of all images at a time.
    """
    return _adaptive_max_pool_backward("adaptive_max_pool2d_backward", dy, cache)


@ieee
def adaptive_max_pool1d(x: Array, output_size: Any, return_indices: bool = False) -> tuple[Any, Cache]:
    """Keep the maxima of a given number of windows of sequences.

    The one-dimensional :func:`adaptive_max_pool2d`; x has shape (N, C, L), y (N, C, L')::

        y_ncl = max of x_ncu over the elements u of window l

    Examples
    --------
    >>> import numpy
    >>> adaptive_max_pool1d(numpy.array([[[1.0, 3.0, 5.0, 2.0]]]), 2)[0]
    array([[[3., 5.]]])
    """
    return _adaptive_max_pool("adaptive_max_pool1d", 1, x, output_size, return_indices)


@ieee
def adaptive_max_pool1d_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    That of :func:`adaptive_max_pool2d_backward` with one spatial axis::

        dx_ncu = sum of dy_ncl over all windows l that element u won
    """
    return _adaptive_max_pool_backward("adaptive_max_pool1d_backward", dy, cache)


# Shared by one and two axes ----------------------------------------------------------------------------------------------


def _max_pool(
    op: str,
    axes: int,
    x: Array,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> tuple[Any, Cache]:
    require_batch(x, axes, op)
    w = pooling(op, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    xp, nobody = namespace(x), math.prod(w.kernel)
    y = xp.full((*x.shape[:2], *w.output), -math.inf, dtype=x.dtype)  # (N, C, *output)
    won = xp.full(y.shape, nobody, dtype="uint8" if nobody < 256 else "int32")
    for number, places, pixels in overlaps(w):
        seen, best, leader = x[pixels], y[places], won[places]
        better = (seen > best) | (seen != seen) | (leader == nobody)  # a nan is not itself
        y[places] = xp.where(better, seen, best)
        won[places] = xp.where(better, number, leader)
    return (y, find_indices(won, w)) if return_indices else y, (won, x.dtype, w)


def find_indices(won: Array, w: Pooling) -> Array:
    """Return where the maxima are in the image, row by row, from their positions in the kernel; -1 where there is none.

    >>> import numpy
    >>> find_indices(numpy.array([[[[1, 2, 4]]]]), pooling("max_pool2d", (2, 6), 2, None, 0, 1, False))
    array([[[[ 1,  8, -1]]]])
    """
    xp, axes = namespace(won), len(w.image)
    corners, shifts = xp.zeros(w.output, dtype="int64"), xp.zeros(w.kernel, dtype="int64")
    for axis, (kernel, stride, (before, _), dilation, n, positions) in enumerate(zip(*w, strict=True)):
        corners = corners * n + reshape_along(xp.arange(positions) * stride - before, axis, axes)
        shifts = shifts * n + reshape_along(xp.arange(kernel) * dilation, axis, axes)
    nobody = math.prod(w.kernel)
    indices = corners + xp.take(shifts.ravel(), xp.minimum(won, nobody - 1))  # (N, C, *output)
    return xp.where(won == nobody, -1, indices)


def _max_pool_backward(op: str, dy: Array, cache: Cache) -> Array:
    won, dtype, w = cache
    check_upstream(op, dy, won.shape, dtype)
    xp, g = namespace(dy), widen_float16(dy)
    dx = xp.zeros((*dy.shape[:2], *w.image), dtype=sum_dtype(g, math.prod(w.kernel)))  # (N, C, *image)
    for number, places, pixels in overlaps(w):
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
    wide = widen_float16(x)
    y = namespace(x).zeros((*x.shape[:2], *w.output), dtype=sum_dtype(wide, math.prod(w.kernel)))  # (N, C, *output)
    for _, places, pixels in overlaps(w):
        y[places] += wide[pixels]
    y = y / _window_areas(w, count_include_pad, wide)
    return y.astype(x.dtype, copy=False), (x.shape, x.dtype, w, count_include_pad)


def _avg_pool_backward(op: str, dy: Array, cache: Cache) -> Array:
    shape, dtype, w, count_include_pad = cache
    check_upstream(op, dy, (*shape[:2], *w.output), dtype)
    wide = widen_float16(dy)
    g = wide / _window_areas(w, count_include_pad, wide)  # (N, C, *output): the share of each pixel
    dx = namespace(dy).zeros(shape, dtype=sum_dtype(g, math.prod(w.kernel)))  # (N, C, *image)
    for _, places, pixels in overlaps(w):
        dx[pixels] += g[places]
    return dx.astype(dtype, copy=False)


def _window_areas(w: Pooling, count_include_pad: bool, like: Array) -> Array:
    """Return the area of every window, in the shape of the output and the dtype of ``like``."""
    xp, axes = namespace(like), len(w.image)
    areas = xp.ones(w.output, dtype=like.dtype)
    for axis, (kernel, stride, (before, after), _, n, positions) in enumerate(zip(*w, strict=True)):
        start = xp.arange(positions) * stride  # in the padded image, where the image begins at `before`
        stop = xp.minimum(start + kernel, before + n + after)
        if not count_include_pad:
            start, stop = xp.maximum(start, before), xp.minimum(stop, before + n)
        areas = areas * reshape_along(stop - start, axis, axes).astype(like.dtype)
    return areas


def _adaptive_avg_pool(op: str, axes: int, x: Array, output_size: Any) -> tuple[Array, Cache]:
    require_batch(x, axes, op)
    output = output_sizes(op, x.shape[2:], output_size)
    y = widen_float16(x)
    for axis, m in enumerate(output, start=2):
        lengths = reshape_along(_window_lengths(y, y.shape[axis], m), axis, y.ndim)
        y = _sum_windows(y, axis, m) / lengths  # (N, C, H', W), then (N, C, H', W')
    return y.astype(x.dtype, copy=False), (x.shape, x.dtype, output)


def _adaptive_avg_pool_backward(op: str, dy: Array, cache: Cache) -> Array:
    shape, dtype, output = cache
    check_upstream(op, dy, (*shape[:2], *output), dtype)
    g = widen_float16(dy)
    for axis in reversed(range(2, len(shape))):
        lengths = reshape_along(_window_lengths(g, shape[axis], g.shape[axis]), axis, g.ndim)
        g = _sum_windows(g / lengths, axis, shape[axis])  # (N, C, H', W), then (N, C, H, W)
    return g.astype(dtype, copy=False)


def _window_bounds(like: Array, n: int, m: int) -> tuple[Array, Array]:
    """Return the starts and stops of m windows on n elements."""
    i = namespace(like).arange(m)
    return i * n // m, -(-(i + 1) * n // m)


def _window_lengths(like: Array, n: int, m: int) -> Array:
    starts, stops = _window_bounds(like, n, m)
    return (stops - starts).astype(like.dtype)


def _sum_windows(x: Array, axis: int, m: int) -> Array:
    """Sum over each of m windows along an axis."""
    n = x.shape[axis]
    if n % m == 0:  # the windows lie side by side
        return sum_widened(x.reshape((*x.shape[:axis], m, n // m, *x.shape[axis + 1 :])), axis + 1)
    starts, stops = _window_bounds(x, n, m)
    longest = -(-n // m) + 1  # a window may begin and end in the middle of an element
    return sum_runs(x, axis, starts, stops, longest)


def _adaptive_max_pool(op: str, axes: int, x: Array, output_size: Any, return_indices: bool) -> tuple[Any, Cache]:
    require_batch(x, axes, op)
    image, output = x.shape[2:], output_sizes(op, x.shape[2:], output_size)
    xp = namespace(x)
    places = xp.arange(math.prod(image)).reshape((1, 1, *image))
    y = xp.empty((*x.shape[:2], *output), dtype=x.dtype)  # (N, C, *output)
    positions = xp.empty(y.shape, dtype="int64")
    for here, window in _windows(image, output):
        pixels = x[window]
        pixels = pixels.reshape((*x.shape[:2], math.prod(pixels.shape[2:])))  # (N, C, pixels of the window)
        best = xp.argmax(pixels, axis=2)  # (N, C)
        y[here] = xp.take_along_axis(pixels, best[..., None], axis=2)[..., 0]
        positions[here] = xp.take(places[window].ravel(), best)
    return (y, positions) if return_indices else y, (positions, x.shape, x.dtype)


def _adaptive_max_pool_backward(op: str, dy: Array, cache: Cache) -> Array:
    positions, shape, dtype = cache
    check_upstream(op, dy, positions.shape, dtype)
    xp, g = namespace(dy), widen_float16(dy)
    image, output = shape[2:], positions.shape[2:]
    places = xp.arange(math.prod(image)).reshape((1, 1, *image))
    dx = xp.zeros(shape, dtype=sum_dtype(g, math.prod(output)))  # (N, C, *image)
    each = (EVERY, EVERY, *(None,) * len(image))
    for here, window in _windows(image, output):
        dx[window] += xp.where(places[window] == positions[here][each], g[here][each], 0)
    return dx.astype(dtype, copy=False)


def _windows(image: tuple[int, ...], output: tuple[int, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield the index of each output in y, with the slices of x that its window covers."""
    for at in numpy.ndindex(*output):
        bounds = ((i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(at, image, output, strict=True))
        yield (EVERY, EVERY, *at), (EVERY, EVERY, *(slice(start, stop) for start, stop in bounds))
