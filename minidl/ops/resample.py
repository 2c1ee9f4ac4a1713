"""Padding and upsampling: images with more pixels.

All of them work on one spatial axis after the other. Along an axis upsampling reads source positions in ascending order.
So the copies of an element of x are a run of neighbours in y, and backward is a sum over runs.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy

from minidl.ops._checks import ieee, sum_widened, widen_float16
from minidl.ops._filters import filter_axis, filter_axis_back
from minidl.ops._namespace import Array, namespace
from minidl.ops._pooling import check_upstream
from minidl.ops._resampling import Scale, require_pixels, scales, widths
from minidl.ops._runs import reshape_along, sum_runs
from minidl.ops._windows import require_images

__all__ = [
    "pad",
    "pad_backward",
    "upsample_bicubic",
    "upsample_bicubic_backward",
    "upsample_bilinear",
    "upsample_bilinear_backward",
    "upsample_nearest",
    "upsample_nearest_backward",
    "upsample_nearest_exact",
    "upsample_nearest_exact_backward",
]

Cache = tuple[Any, ...]


@ieee
def pad(x: Array, padding: Any, mode: str = "constant", value: float = 0.0) -> tuple[Array, Cache]:
    """Add elements around the last axes.

    Along an axis of length n, with positions i of y counted from the first element of x::

        y_i = x_s(i),   s(i) = i inside

    Outside, s(i) depends on the mode:

    * ``"constant"``: there is no source, and y_i is ``value``;
    * ``"reflect"``: -i before and 2 (n - 1) - i after, the edge itself not repeated;
    * ``"replicate"``: 0 before and n - 1 after;
    * ``"circular"``: i mod n.

    Parameters
    ----------
    x : array
        Floating-point, of any shape.
    padding : int or sequence of int
        (before, after) of the last axis, then of the one before it, and so on, in one flat sequence as in PyTorch:
        (left, right, top, bottom) for images. One number pads the last two axes on all sides.
    mode : {"constant", "reflect", "replicate", "circular"}, default "constant"
    value : float, default 0.0
        For ``"constant"``.

    Returns
    -------
    y : array
    cache : (shape of x, dtype of x, (before, after) of every axis, mode)

    Raises
    ------
    ParameterError
        If the padding is not a sequence of pairs of numbers from 0 on, or the mode is unknown.
    ShapeError
        If x has fewer axes than are padded, or is too short to reflect or repeat so much.
    DtypeError
        If x is not floating-point.

    Examples
    --------
    >>> import numpy
    >>> y, cache = pad(numpy.array([1.0, 2.0, 4.0]), (2, 1), "reflect")
    >>> y
    array([4., 2., 1., 2., 4., 2.])
    >>> pad_backward(numpy.array([1.0, 10.0, 1.0, 1.0, 1.0, 100.0]), cache)
    array([  1., 111.,   2.])
    """
    require_images(x, "x", "pad")
    pairs = widths("pad", x.shape, padding, mode)
    xp, y = namespace(x), x
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            n = y.shape[axis]
            bigger = xp.full(_replace_length(y.shape, axis, n + before + after), value, dtype=x.dtype)
            bigger[_slice_axis(axis, before, before + n)] = y
            for outside, origin in _pair_copies(axis, n, before, after, mode):
                bigger[outside] = y[origin]
            y = bigger
    return y, (x.shape, x.dtype, pairs, mode)


@ieee
def pad_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    Each element gets the sum over its copies: one inside, where s(i) = i, and those in the padding::

        dx_u = sum of dy_i over all i with s(i) = u

    Backward reads the slices of the forward the other way round. ``"replicate"`` copies the edge to the whole padding, so the
    edge gets the sum over it. A constant has no source.
    """
    shape, dtype, pairs, mode = cache
    check_upstream(
        "pad_backward", dy, tuple(n + before + after for n, (before, after) in zip(shape, pairs, strict=True)), dtype
    )
    g = widen_float16(dy)
    for axis, (before, after) in reversed(list(enumerate(pairs))):
        n = shape[axis]
        dx = g[_slice_axis(axis, before, before + n)].copy()
        for outside, origin in _pair_copies(axis, n, before, after, mode):
            copies = g[outside]
            dx[origin] += sum_widened(copies, axis, keepdims=True) if mode == "replicate" else copies
        g = dx
    return g.astype(dtype, copy=False)


def _replace_length(shape: tuple[int, ...], axis: int, length: int) -> tuple[int, ...]:
    return (*shape[:axis], length, *shape[axis + 1 :])


def _slice_axis(axis: int, start: int | None, stop: int | None, step: int = 1) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop, step))


def _pair_copies(axis: int, n: int, before: int, after: int, mode: str) -> list[tuple[Any, Any]]:
    """Return pairs of slices, of the padding and of its source in x, along an axis of length n."""
    outside = _slice_axis(axis, 0, before), _slice_axis(axis, before + n, before + n + after)
    if mode == "reflect":
        origins = (
            _slice_axis(axis, before, 0, -1),
            _slice_axis(axis, n - 2, n - 2 - after if n - 2 - after >= 0 else None, -1),
        )
    elif mode == "circular":
        origins = _slice_axis(axis, n - before, n), _slice_axis(axis, 0, after)
    else:
        origins = _slice_axis(axis, 0, 1), _slice_axis(axis, n - 1, n)
    pairs = zip(outside, origins, (before, after), strict=True)
    return [(there, here) for there, here, width in pairs if width and mode != "constant"]


# Upsampling ---------------------------------------------------------------------------------------------------------------


@ieee
def upsample_nearest(x: Array, size: Any = None, scale_factor: Any = None) -> tuple[Array, Cache]:
    """Repeat pixels.

    Along each axis, with step r in pixels of x::

        y_i = x_u,   u = floor(i r)

    r is 1 / ``scale_factor``, or the old size over the new, rounded to float32 as in PyTorch so that the same pixels are
    taken. A size that stays the same has r = 1 and one that doubles r = 1/2, whatever the factor was. A smaller size skips
    pixels.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (N, C, L)
        Floating-point.
    size : int or one for each spatial axis, optional
        The size after upsampling.
    scale_factor : float or one for each spatial axis, optional
        Instead of the size: H' = floor(H scale_factor).

    Returns
    -------
    y : array, shape (N, C, H', W') or (N, C, L')
    cache : (shape of x, dtype of x, scales)

    Raises
    ------
    ParameterError
        Unless exactly one of size and scale_factor is given, and is valid.
    ShapeError
        If x has another rank, or its images are empty.
    DtypeError
        If x is not floating-point.

    Examples
    --------
    >>> import numpy
    >>> y, cache = upsample_nearest(numpy.array([[[1.0, 2.0]]]), scale_factor=3)
    >>> y
    array([[[1., 1., 1., 2., 2., 2.]]])
    >>> upsample_nearest_backward(numpy.array([[[1.0, 1.0, 1.0, 5.0, 6.0, 7.0]]]), cache)
    array([[[ 3., 18.]]])
    """
    require_pixels(x, "upsample_nearest")
    found = scales("upsample_nearest", x.shape[2:], size, scale_factor)
    xp, y = namespace(x), x
    for axis, scale in enumerate(found, start=2):
        y = xp.take(y, _nearest(xp, scale), axis=axis)  # (N, C, H', W), then (N, C, H', W')
    return y, (x.shape, x.dtype, found)


@ieee
def upsample_nearest_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    Along an axis each pixel gets the sum over its copies, neighbours in y because floor(i r) never decreases::

        dx_u = sum of dy_i over all i with floor(i r) = u

    The sum is empty for a pixel that was skipped.
    """
    shape, dtype, found = cache
    check_upstream("upsample_nearest_backward", dy, (*shape[:2], *(scale.after for scale in found)), dtype)
    g = widen_float16(dy)
    for axis, scale in reversed(list(enumerate(found, start=2))):
        g = _sum_copies(g, axis, _nearest(namespace(g), scale), scale.before, _count_copies(scale))
    return g.astype(dtype, copy=False)


@ieee
def upsample_nearest_exact(x: Array, size: Any = None, scale_factor: Any = None) -> tuple[Array, Cache]:
    """Take for each pixel the one whose square holds its centre.

    Along each axis of length n, with step r in pixels of x::

        y_i = x_u,   u = min(floor((i + 1/2) r), n - 1)

    :func:`upsample_nearest` looks at the corner of pixel i, i r, and so moves images by half a pixel when they shrink. This is
    PyTorch's ``"nearest-exact"``, and what Pillow and scikit-image do. r and the arguments are those of
    :func:`upsample_nearest`, but no size is special.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (N, C, L)
        Floating-point.
    size : int or one for each spatial axis, optional
    scale_factor : float or one for each spatial axis, optional

    Returns
    -------
    y : array, shape (N, C, H', W') or (N, C, L')
    cache : (shape of x, dtype of x, scales)

    Examples
    --------
    >>> import numpy
    >>> y, cache = upsample_nearest_exact(numpy.array([[[1.0, 2.0, 3.0]]]), size=2)
    >>> y, upsample_nearest(numpy.array([[[1.0, 2.0, 3.0]]]), size=2)[0]
    (array([[[1., 3.]]]), array([[[1., 2.]]]))
    >>> upsample_nearest_exact_backward(numpy.array([[[10.0, 20.0]]]), cache)
    array([[[10.,  0., 20.]]])
    """
    require_pixels(x, "upsample_nearest_exact")
    found = scales("upsample_nearest_exact", x.shape[2:], size, scale_factor, unchanged=False)
    xp, y = namespace(x), x
    for axis, scale in enumerate(found, start=2):
        y = xp.take(y, _nearest(xp, scale, exact=True), axis=axis)  # (N, C, H', W), then (N, C, H', W')
    return y, (x.shape, x.dtype, found)


@ieee
def upsample_nearest_exact_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    As in :func:`upsample_nearest_backward`, each pixel gets the sum over its copies::

        dx_u = sum of dy_i over all i with min(floor((i + 1/2) r), n - 1) = u
    """
    shape, dtype, found = cache
    check_upstream("upsample_nearest_exact_backward", dy, (*shape[:2], *(scale.after for scale in found)), dtype)
    g = widen_float16(dy)
    for axis, scale in reversed(list(enumerate(found, start=2))):
        sources = _nearest(namespace(g), scale, exact=True)
        g = _sum_copies(g, axis, sources, scale.before, _count_copies(scale, exact=True))
    return g.astype(dtype, copy=False)


def _nearest(xp: Any, scale: Scale, exact: bool = False) -> Array:
    """Return the source position of every pixel along an axis."""
    i = xp.arange(scale.after, dtype="float32")
    if exact:
        sources = xp.floor((i + 0.5) * float(numpy.float32(scale.step))).astype("int64")
        return xp.minimum(sources, scale.before - 1)
    step = 0.5 if scale.after == 2 * scale.before else float(numpy.float32(scale.step))
    return xp.floor(i * step).astype("int64")


@functools.lru_cache(maxsize=256)
def _count_copies(scale: Scale, exact: bool = False) -> int:
    return int(numpy.bincount(_nearest(numpy, scale, exact)).max())


def _sum_copies(g: Array, axis: int, sources: Array, n: int, longest: int) -> Array:
    """Sum over the elements read from each of n source positions; ``sources`` never decreases."""
    xp = namespace(g)
    each = xp.arange(n)
    return sum_runs(g, axis, xp.searchsorted(sources, each), xp.searchsorted(sources, each, side="right"), longest)


@ieee
def upsample_bilinear(
    x: Array, size: Any = None, scale_factor: Any = None, align_corners: bool = False, antialias: bool = False
) -> tuple[Array, Cache]:
    """Interpolate linearly between pixels, along each axis.

    With at_i the position of pixel i of y among those of x, l = floor(at_i), r = min(l + 1, n - 1) and a = at_i - l::

        y_i = (1 - a) x_l + a x_r

    Pixels are squares with centres at i + 1/2. So at_i = max(0, (i + 1/2) step - 1/2), where step is 1 / ``scale_factor``, or
    the old size over the new, and 1 if the size stays the same. With ``align_corners`` pixels are points and the outermost
    stay in place: at_i = i (n - 1) / (m - 1).

    With ``antialias`` pixels are averaged where an axis shrinks. With step as above, or (n - 1) / (m - 1) for aligned corners::

        y_i = sum_u w_iu x_u,   w_iu ~ h((u + 1/2 - (i + 1/2) step) / max(step, 1)),   h(d) = max(1 - abs(d), 0)

    where the weights of each y_i are scaled to add up to 1. This is what PyTorch and Pillow do.

    Parameters
    ----------
    x : array, shape (N, C, H, W), or (N, C, L) for linear interpolation
        Floating-point.
    size : int or one for each spatial axis, optional
    scale_factor : float or one for each spatial axis, optional
        Both as in :func:`upsample_nearest`, with the same errors.
    align_corners : bool, default False
    antialias : bool, default False

    Returns
    -------
    y : array, shape (N, C, H', W') or (N, C, L')
        Computed in float32 if x is float16.
    cache : (shape of x, dtype of x, scales, align_corners, antialias)

    Examples
    --------
    >>> import numpy
    >>> y, cache = upsample_bilinear(numpy.array([[[0.0, 4.0]]]), scale_factor=2)
    >>> y
    array([[[0., 1., 3., 4.]]])
    >>> upsample_bilinear_backward(numpy.array([[[1.0, 4.0, 4.0, 10.0]]]), cache)
    array([[[ 5., 14.]]])
    >>> upsample_bilinear(numpy.array([[[0.0, 4.0]]]), size=3, align_corners=True)[0]
    array([[[0., 2., 4.]]])
    >>> upsample_bilinear(numpy.array([[[0.0, 4.0, 4.0, 8.0]]]), size=2, antialias=True)[0].round(4)
    array([[[2.2857, 5.7143]]])
    """
    require_pixels(x, "upsample_bilinear")
    found = scales("upsample_bilinear", x.shape[2:], size, scale_factor)
    cache = (x.shape, x.dtype, found, align_corners, antialias)
    if antialias:
        return _filter(x, found, align_corners, "triangle"), cache
    xp, y = namespace(x), widen_float16(x)
    for axis, scale in enumerate(found, start=2):
        left, right, part = _between(xp, scale, align_corners)
        part = reshape_along(part.astype(y.dtype), axis, x.ndim)
        y = xp.take(y, left, axis=axis) * (1 - part) + xp.take(y, right, axis=axis) * part
    return y.astype(x.dtype, copy=False), cache


@ieee
def upsample_bilinear_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    Along an axis each pixel is the left neighbour of some pixels of y and the right neighbour of others::

        dx_u = sum of (1 - a_i) dy_i over all i with l_i = u, plus sum of a_i dy_i over all i with r_i = u

    l and r never decrease, so both sums are over runs. With ``antialias`` it is the transposed sum, dx_u = sum_i w_iu dy_i.
    """
    shape, dtype, found, align_corners, antialias = cache
    check_upstream("upsample_bilinear_backward", dy, (*shape[:2], *(scale.after for scale in found)), dtype)
    if antialias:
        return _filter_back(dy, found, align_corners, "triangle")
    g = widen_float16(dy)
    for axis, scale in reversed(list(enumerate(found, start=2))):
        left, right, part = _between(namespace(g), scale, align_corners)
        part = reshape_along(part.astype(g.dtype), axis, g.ndim)
        longest = _count_neighbours(scale, bool(align_corners))
        from_left = _sum_copies(g * (1 - part), axis, left, scale.before, longest)
        g = from_left + _sum_copies(g * part, axis, right, scale.before, longest)
    return g.astype(dtype, copy=False)


def _between(xp: Any, scale: Scale, align_corners: bool) -> tuple[Array, Array, Array]:
    """Return, for every pixel of y along an axis, its two neighbours in x and its distance from the first."""
    i = xp.arange(scale.after, dtype="float64")
    if align_corners:
        at = i * ((scale.before - 1) / max(scale.after - 1, 1))
    else:
        at = xp.maximum((i + 0.5) * scale.step - 0.5, 0)
    left = xp.floor(at)
    return left.astype("int64"), xp.minimum(left + 1, scale.before - 1).astype("int64"), at - left


@functools.lru_cache(maxsize=256)
def _count_neighbours(scale: Scale, align_corners: bool) -> int:
    left, right, _ = _between(numpy, scale, align_corners)
    return int(max(numpy.bincount(left).max(), numpy.bincount(right).max()))


@ieee
def upsample_bicubic(
    x: Array, size: Any = None, scale_factor: Any = None, align_corners: bool = False, antialias: bool = False
) -> tuple[Array, Cache]:
    """Interpolate by cubic convolution, along each axis.

    With at_i the position of pixel i of y among those of x, l = floor(at_i), and u from l - 1 to l + 2, but not beyond the edges::

        y_i = sum_u h(at_i - u) x_u

        h(d) = (a + 2) d^3 - (a + 3) d^2 + 1         where d <= 1
               a d^3 - 5 a d^2 + 8 a d - 4 a         where 1 < d < 2, else 0, of abs(d), with a = -3/4

    For a pixel beyond an edge, the one at the edge is read. at_i = (i + 1/2) step - 1/2, where step is 1 / ``scale_factor`` or
    the old size over the new, or at_i = i (n - 1) / (m - 1) with ``align_corners``. y may exceed the range of x.

    With ``antialias`` the weights are those of :func:`upsample_bilinear` with this h, for which a is -1/2 then, as in Pillow.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (N, C, L)
        Floating-point.
    size : int or one for each spatial axis, optional
    scale_factor : float or one for each spatial axis, optional
        Both as in :func:`upsample_nearest`, with the same errors.
    align_corners : bool, default False
    antialias : bool, default False

    Returns
    -------
    y : array, shape (N, C, H', W') or (N, C, L')
        Computed in float32 if x is float16.
    cache : (shape of x, dtype of x, scales, align_corners, antialias)

    References
    ----------
    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Transactions on Acoustics, Speech, and Signal
    Processing 29 (1981), equation 15, which has a = -1/2.

    Examples
    --------
    >>> import numpy
    >>> y, cache = upsample_bicubic(numpy.array([[[0.0, 0.0, 16.0, 16.0]]]), size=3, align_corners=True)
    >>> y
    array([[[ 0.,  8., 16.]]])
    >>> upsample_bicubic_backward(numpy.array([[[0.0, 32.0, 0.0]]]), cache)
    array([[[-3., 19., 19., -3.]]])
    """
    require_pixels(x, "upsample_bicubic")
    found = scales("upsample_bicubic", x.shape[2:], size, scale_factor, unchanged=bool(antialias))
    y = _filter(x, found, align_corners, "cubic" if antialias else "")
    return y, (x.shape, x.dtype, found, align_corners, antialias)


@ieee
def upsample_bicubic_backward(dy: Array, cache: Cache) -> Array:
    """Return the gradient of x.

    y is linear in x, so the gradient is the transposed sum, along each axis, the last axis first::

        dx_u = sum of w_iu dy_i over all i that read pixel u

    w_iu is the sum of the weights with which y_i reads x_u: at an edge, several of them.
    """
    shape, dtype, found, align_corners, antialias = cache
    check_upstream("upsample_bicubic_backward", dy, (*shape[:2], *(scale.after for scale in found)), dtype)
    return _filter_back(dy, found, align_corners, "cubic" if antialias else "")


def _filter(x: Array, found: tuple[Scale, ...], align_corners: bool, antialias: str) -> Array:
    y = widen_float16(x)
    for axis, scale in enumerate(found, start=2):
        y = filter_axis(y, axis, scale, bool(align_corners), antialias)  # (N, C, H', W), then (N, C, H', W')
    return y.astype(x.dtype, copy=False)


def _filter_back(dy: Array, found: tuple[Scale, ...], align_corners: bool, antialias: str) -> Array:
    g = widen_float16(dy)
    for axis, scale in reversed(list(enumerate(found, start=2))):
        g = filter_axis_back(g, axis, scale, bool(align_corners), antialias)
    return g.astype(dy.dtype, copy=False)
