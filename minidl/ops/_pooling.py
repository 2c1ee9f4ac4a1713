"""The windows of a pooling: its arguments checked and expanded to every axis, and the slices of each kernel position."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._namespace import Array, require_float
from minidl.ops._windows import (
    AXES,
    Shape,
    each_axis,
    hashable,
    lay_padding,
    read_padding,
    require_addressable,
    require_images,
)

__all__ = [
    "Overlap",
    "Pooling",
    "check_upstream",
    "output_sizes",
    "overlaps",
    "pooling",
    "read_pool_padding",
    "require_batch",
]


class Pooling(NamedTuple):
    """The windows on an image; every tuple has an entry for each spatial axis.

    Output position p along an axis sees, for kernel position i, the input position ``p * stride + i * dilation -
    padding[0]`` if it is inside the image.
    """

    kernel: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    """How far windows may reach before and after the image."""
    dilation: Shape
    image: Shape
    output: Shape


Overlap = tuple[int, tuple[slice, ...], tuple[slice, ...]]
"""The number of a kernel position, the outputs for which it lies inside the image, and the pixels that they see there."""


def require_batch(x: Any, axes: int, op: str) -> None:
    """Raise unless x is a batch of images or of sequences that are not empty.

    >>> require_batch(numpy.zeros((8, 8)), 2, "max_pool2d")
    Traceback (most recent call last):
    ...
    minidl.errors.ShapeError: max_pool2d: x must have shape (N, C, H, W), got (8, 8)
    """
    require_images(x, "x", op)
    if x.ndim != axes + 2:
        one = "; for a single image add a batch axis: x[None]" if x.ndim == axes + 1 else ""
        raise ShapeError(f"{op}: x must have shape {AXES[axes]}, got {x.shape}{one}")
    if 0 in x.shape[2:]:
        raise ShapeError(f"{op}: the images of x are empty, got shape {x.shape}")


def pooling(
    op: str, image: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Pooling:
    """Check the arguments of a pooling against the spatial shape of its images and expand them to every axis.

    >>> pooling("max_pool2d", (5, 7), 2, None, 0, 1, True).output
    (3, 4)
    """
    settings = map(hashable, (kernel_size, stride, padding, dilation))
    return _pooling(op, image, *settings, bool(ceil_mode))


@functools.lru_cache(maxsize=1024, typed=True)  # 2.0 is not 2
def _pooling(
    op: str, image: Shape, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Pooling:
    axes = len(image)
    kernel = each_axis(kernel_size, axes, "kernel_size", op, 1)
    strides = kernel if stride is None else each_axis(stride, axes, "stride", op, 1)
    dilations = each_axis(dilation, axes, "dilation", op, 1)
    paddings = lay_padding(read_pool_padding(op, padding, kernel), image, kernel, strides, dilations)
    if math.prod(kernel) >= 2**31:
        raise ParameterError(f"{op}: kernel_size {kernel} has more positions than 32 bits can number")
    output = tuple(map(functools.partial(_count_windows, ceil_mode), image, kernel, strides, paddings, dilations))
    if min(output) < 1:
        spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
        padded = tuple(n + before + after for n, (before, after) in zip(image, paddings, strict=True))
        order = (0, axes + 1, *range(1, axes + 1))
        raise ShapeError(
            f"{op}: the kernel spans {spans} but the padded image is only {padded}; use a smaller kernel, or, if the "
            f"channels of x come last, give x.transpose{order}"
        )
    require_addressable(output, op)
    return Pooling(kernel, strides, paddings, dilations, image, output)


def read_pool_padding(op: str, padding: Any, kernel: Shape) -> Any:
    """Return a padding as :func:`read_padding` does; raise if it is so large that a window might see no pixel."""
    found = read_padding(padding, len(kernel), op, ("same", "valid"))
    if isinstance(found, str):
        return found
    if isinstance(found[0], tuple):
        if any(max(p) >= k for p, k in zip(found, kernel, strict=True)):
            raise ParameterError(f"{op}: padding must be less than the kernel, got {found} with kernel_size {kernel}")
    elif any(p > k // 2 for p, k in zip(found, kernel, strict=True)):
        raise ParameterError(
            f"{op}: padding must be at most half of the kernel, got padding {found} with kernel_size {kernel}"
        )
    return found


def _count_windows(ceil_mode: bool, n: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    """Return the number of windows along an axis."""
    room = n + sum(padding) - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= n + padding[0] else count  # the last must not begin beyond the image


@functools.lru_cache(maxsize=256)
def overlaps(w: Pooling) -> tuple[Overlap, ...]:
    """Return, for every kernel position in order, the outputs and the pixels that meet there, as slices of (N, C, *spatial) arrays.

    >>> [slices[-1] for slices in overlaps(pooling("max_pool1d", (3,), 2, 2, 1, 1, False))[0][1:]]
    [slice(1, 2, None), slice(1, 2, 2)]

    Here the first position of the kernel is outside the image for the first output.
    """
    return tuple(_find_overlaps(w))


def _find_overlaps(w: Pooling) -> Iterator[Overlap]:
    every = slice(None)
    for number, at in enumerate(numpy.ndindex(*w.kernel)):
        places, pixels = [every, every], [every, every]
        for i, stride, padding, dilation, n, positions in zip(at, *w[1:], strict=True):
            shift = i * dilation - padding[0]  # output p meets pixel p stride + shift, which must be in 0 ... n - 1
            first = max(0, -(shift // stride))
            last = min(positions - 1, (n - 1 - shift) // stride)
            if last < first:
                break
            places.append(slice(first, last + 1))
            pixels.append(slice(first * stride + shift, last * stride + shift + 1, stride))
        else:
            yield number, tuple(places), tuple(pixels)


def output_sizes(op: str, image: Shape, output_size: Any) -> Shape:
    """Expand the output size of an adaptive pooling to every axis; None keeps the length of the axis.

    >>> output_sizes("adaptive_avg_pool2d", (5, 7), (None, 1))
    (5, 1)
    """
    return _output_sizes(op, image, hashable(output_size))


@functools.lru_cache(maxsize=256, typed=True)
def _output_sizes(op: str, image: Shape, output_size: Any) -> Shape:
    axes = len(image)
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * axes
    if len(sizes) == axes:
        sizes = tuple(n if size is None else size for n, size in zip(image, sizes, strict=True))
    output = each_axis(sizes, axes, "output_size", op, 1)
    require_addressable(output, op)
    return output


def check_upstream(op: str, dy: Array, shape: Shape, dtype: Any) -> None:
    """Raise unless dy has the shape of y and the dtype of x."""
    require_float(dy, "dy", op)
    if dy.shape != shape:
        raise ShapeError(f"{op}: dy must have the shape of y, {shape}, got {dy.shape}")
    if dy.dtype != dtype and dy.dtype.itemsize != dtype.itemsize:  # another byte order is fine
        raise DtypeError(
            f"{op}: dy must have the dtype of x, {dtype}, got {dy.dtype}; convert it with dy.astype('{dtype}')"
        )
