"""Padding and upsampling: images with more pixels than they came with.

All of them go through one spatial axis after the other. Upsampling reads source positions that never go backwards along an axis, so
what an element of x contributed to is a run of neighbours in y, and the way back is a sum over runs.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy

from minidl.ops._checks import ieee, widened
from minidl.ops._namespace import Array, namespace
from minidl.ops._pooling import check_upstream
from minidl.ops._resampling import Scale, require_pixels, scales, widths
from minidl.ops._runs import along, sum_runs
from minidl.ops._windows import require_images

__all__ = [
    "pad",
    "pad_backward",
    "upsample_bilinear",
    "upsample_bilinear_backward",
    "upsample_nearest",
    "upsample_nearest_backward",
]

Cache = tuple[Any, ...]


@ieee
def pad(x: Array, padding: Any, mode: str = "constant", value: float = 0.0) -> tuple[Array, Cache]:
    r"""Add elements around the last axes.

    Along an axis of length n, position i of x with the padding (from :math:`-\text{before}` to :math:`n + \text{after} - 1`) is

    * ``"constant"``: :math:`x_i` inside and ``value`` outside;
    * ``"reflect"``: :math:`x_{-i}` before and :math:`x_{2(n-1)-i}` after, the edge itself not repeated;
    * ``"replicate"``: :math:`x_0` before and :math:`x_{n-1}` after;
    * ``"circular"``: :math:`x_{i \bmod n}`.

    Parameters
    ----------
    x : array
        Floating; any shape.
    padding : int, or a sequence of pairs
        (before, after) of the last axis, then of the one before it, and so on, all in one flat sequence, as PyTorch has it:
        (left, right, top, bottom) for images. One number pads the last two axes on all sides.
    mode : str
    value : float
        For ``"constant"``.

    Returns
    -------
    y : array
        Of x's dtype.
    cache : (shape of x, dtype of x, (before, after) of every axis, mode)

    Raises
    ------
    ParameterError
        If the padding is no sequence of pairs of numbers from 0 on, or the mode not known.
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
            bigger = xp.full(_lengthened(y.shape, axis, n + before + after), value, dtype=x.dtype)
            bigger[_at(axis, before, before + n)] = y
            for outside, origin in _borrowed(axis, n, before, after, mode):
                bigger[outside] = y[origin]
            y = bigger
    return y, (x.shape, x.dtype, pairs, mode)


@ieee
def pad_backward(dy: Array, cache: Cache) -> Array:
    r"""Return dx: the inner part of dy, and on top of it the gradient of every copy.

    Along an axis y is :math:`y_i = x_{s(i)}` for a source position s(i), or constant. So :math:`dx_u = \sum_{i: s(i) = u} dy_i`: one i is
    inside, where s(i) = i; those in the padding are the ones that the forward read u for, so the same slices are read the
    other way round and added. ``"replicate"`` read the edge once for the whole padding, and gets the sum over it. A constant
    has no source.

    Parameters
    ----------
    dy : array
        Of the shape of y.
    cache : tuple
        From :func:`pad`.

    Returns
    -------
    dx : array

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape of y or the dtype of x.
    """
    shape, dtype, pairs, mode = cache
    check_upstream(
        "pad_backward", dy, tuple(n + before + after for n, (before, after) in zip(shape, pairs, strict=True)), dtype
    )
    g = widened(dy)
    for axis, (before, after) in reversed(list(enumerate(pairs))):
        n = shape[axis]
        dx = g[_at(axis, before, before + n)].copy()
        for outside, origin in _borrowed(axis, n, before, after, mode):
            copies = g[outside]
            dx[origin] += copies.sum(axis=axis, keepdims=True) if mode == "replicate" else copies
        g = dx
    return g.astype(dtype, copy=False)


def _lengthened(shape: tuple[int, ...], axis: int, length: int) -> tuple[int, ...]:
    return (*shape[:axis], length, *shape[axis + 1 :])


def _at(axis: int, start: int | None, stop: int | None, step: int = 1) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop, step))


def _borrowed(axis: int, n: int, before: int, after: int, mode: str) -> list[tuple[Any, Any]]:
    """Return which slices of the padding are which slices of x along an axis of length n; an edge may stand for many."""
    outside = _at(axis, 0, before), _at(axis, before + n, before + n + after)
    if mode == "reflect":
        origins = _at(axis, before, 0, -1), _at(axis, n - 2, n - 2 - after if n - 2 - after >= 0 else None, -1)
    elif mode == "circular":
        origins = _at(axis, n - before, n), _at(axis, 0, after)
    else:
        origins = _at(axis, 0, 1), _at(axis, n - 1, n)
    pairs = zip(outside, origins, (before, after), strict=True)
    return [(there, here) for there, here, width in pairs if width and mode != "constant"]


# Upsampling ---------------------------------------------------------------------------------------------------------------


@ieee
def upsample_nearest(x: Array, size: Any = None, scale_factor: Any = None) -> tuple[Array, Cache]:
    r"""Repeat pixels: :math:`y_{nchw} = x_{n,c,\,\lfloor h\,\sigma_H \rfloor,\,\lfloor w\,\sigma_W \rfloor}`.

    :math:`\sigma` is 1 / ``scale_factor``, or the size before over the size after, rounded to float32 as in PyTorch, so that the
    same pixels are taken. A size that comes out the same or exactly twice as large has :math:`\sigma` 1 or 1/2, whatever the factor
    was. A smaller size leaves pixels out.

    Parameters
    ----------
    x : array, shape (N, C, H, W) or (N, C, L)
        Floating.
    size : int or one for each spatial axis
        After upsampling.
    scale_factor : float or one for each spatial axis
        Instead of the size: H' is the H scale_factor, rounded down.

    Returns
    -------
    y : array, shape (N, C, H', W') or (N, C, L')
        Of x's dtype.
    cache : (shape of x, dtype of x, scales)

    Raises
    ------
    ParameterError
        Unless exactly one of size and scale_factor is given and makes sense.
    ShapeError
        If x has another rank, or there is nothing in its images.
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
        y = xp.take(y, _nearest(xp, scale), axis=axis)
    return y, (x.shape, x.dtype, found)


@ieee
def upsample_nearest_backward(dy: Array, cache: Cache) -> Array:
    r"""Return dx: each pixel gets the sum over its copies.

    Along an axis :math:`y_i = x_{s(i)}`, so :math:`dx_u = \sum_{i: s(i) = u} dy_i`. s never decreases, so these i are neighbours:
    a run, empty if u was left out.

    Parameters
    ----------
    dy : array
        Of the shape of y.
    cache : tuple
        From :func:`upsample_nearest`.

    Returns
    -------
    dx : array

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape of y or the dtype of x.
    """
    shape, dtype, found = cache
    check_upstream("upsample_nearest_backward", dy, (*shape[:2], *(scale.after for scale in found)), dtype)
    g = widened(dy)
    for axis, scale in reversed(list(enumerate(found, start=2))):
        g = _gathered(g, axis, _nearest(namespace(g), scale), scale.before, _most_copies(scale))
    return g.astype(dtype, copy=False)


def _nearest(xp: Any, scale: Scale) -> Array:
    """Return the source position of every pixel along an axis."""
    step = 0.5 if scale.after == 2 * scale.before else float(numpy.float32(scale.step))
    return xp.floor(xp.arange(scale.after, dtype="float32") * step).astype("int64")


@functools.lru_cache(maxsize=256)
def _most_copies(scale: Scale) -> int:
    return int(numpy.bincount(_nearest(numpy, scale)).max())


def _gathered(g: Array, axis: int, sources: Array, n: int, longest: int) -> Array:
    """Sum, for each of n source positions, what was read from there; sources never decrease."""
    xp = namespace(g)
    each = xp.arange(n)
    return sum_runs(g, axis, xp.searchsorted(sources, each), xp.searchsorted(sources, each, side="right"), longest)


@ieee
def upsample_bilinear(
    x: Array, size: Any = None, scale_factor: Any = None, align_corners: bool = False
) -> tuple[Array, Cache]:
    r"""Interpolate between pixels, along each axis linearly: :math:`y_i = (1 - \lambda_i)\, x_{l_i} + \lambda_i\, x_{r_i}`.

    With :math:`p_i` the position of pixel i of y among those of x, :math:`l_i = \lfloor p_i \rfloor`, :math:`\lambda_i = p_i - l_i` and
    :math:`r_i = \min(l_i + 1, n - 1)`. Pixels are squares whose centres lie at i + 1/2, so with :math:`\sigma` = 1 / ``scale_factor``
    (or the size before over the size after; 1 if the size stays the same) :math:`p_i = \max(0, (i + \tfrac12)\,\sigma - \tfrac12)`. With ``align_corners`` they are
    points and the outermost stay where they are: :math:`p_i = i\,(n - 1) / (m - 1)`.

    Parameters
    ----------
    x : array, shape (N, C, H, W), or (N, C, L) for linear interpolation
        Floating.
    size, scale_factor
        As for :func:`upsample_nearest`.
    align_corners : bool

    Returns
    -------
    y : array, shape (N, C, H', W') or (N, C, L')
        Of x's dtype; float16 is computed in float32.
    cache : (shape of x, dtype of x, scales, align_corners)

    Raises
    ------
    ParameterError, ShapeError, DtypeError
        As :func:`upsample_nearest`.

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
    """
    require_pixels(x, "upsample_bilinear")
    found = scales("upsample_bilinear", x.shape[2:], size, scale_factor)
    xp, y = namespace(x), widened(x)
    for axis, scale in enumerate(found, start=2):
        left, right, part = _between(xp, scale, align_corners)
        part = along(part.astype(y.dtype), axis, x.ndim)
        y = xp.take(y, left, axis=axis) * (1 - part) + xp.take(y, right, axis=axis) * part
    return y.astype(x.dtype, copy=False), (x.shape, x.dtype, found, align_corners)


@ieee
def upsample_bilinear_backward(dy: Array, cache: Cache) -> Array:
    r"""Return dx.

    Along an axis x enters :math:`y_i = (1 - \lambda_i)\, x_{l_i} + \lambda_i\, x_{r_i}` twice, so

    .. math:: dx_u = \sum_{i:\, l_i = u} (1 - \lambda_i)\, dy_i + \sum_{i:\, r_i = u} \lambda_i\, dy_i.

    Neither l nor r ever decreases, so both sums are over runs.

    Parameters
    ----------
    dy : array
        Of the shape of y.
    cache : tuple
        From :func:`upsample_bilinear`.

    Returns
    -------
    dx : array

    Raises
    ------
    ShapeError, DtypeError
        If dy does not have the shape of y or the dtype of x.
    """
    shape, dtype, found, align_corners = cache
    check_upstream("upsample_bilinear_backward", dy, (*shape[:2], *(scale.after for scale in found)), dtype)
    g = widened(dy)
    for axis, scale in reversed(list(enumerate(found, start=2))):
        left, right, part = _between(namespace(g), scale, align_corners)
        part = along(part.astype(g.dtype), axis, g.ndim)
        longest = _most_neighbours(scale, align_corners)
        from_left = _gathered(g * (1 - part), axis, left, scale.before, longest)
        g = from_left + _gathered(g * part, axis, right, scale.before, longest)
    return g.astype(dtype, copy=False)


def _between(xp: Any, scale: Scale, align_corners: bool) -> tuple[Array, Array, Array]:
    """Return between which two pixels every pixel lies along an axis, and how far from the first of them."""
    i = xp.arange(scale.after, dtype="float64")
    if align_corners:
        at = i * ((scale.before - 1) / max(scale.after - 1, 1))
    else:
        at = xp.maximum((i + 0.5) * scale.step - 0.5, 0)
    left = xp.floor(at)
    return left.astype("int64"), xp.minimum(left + 1, scale.before - 1).astype("int64"), at - left


@functools.lru_cache(maxsize=256)
def _most_neighbours(scale: Scale, align_corners: bool) -> int:
    left, right, _ = _between(numpy, scale, align_corners)
    return int(max(numpy.bincount(left).max(), numpy.bincount(right).max()))
