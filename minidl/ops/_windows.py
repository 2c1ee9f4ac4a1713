"""The windows of a convolution: strides, padding, dilation and groups, checked and expanded to every axis."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._namespace import Array, require_float
from minidl.ops._scalars import is_count, plain, shown

__all__ = [
    "Windows",
    "lay_padding",
    "read_padding",
    "require_addressable",
    "require_images",
    "windows",
    "windows_of_transposed",
]

Shape = tuple[int, ...]
AXES = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


class Windows(NamedTuple):
    """How a kernel slides over an image; every tuple has an entry for each spatial axis.

    Output position p along an axis sees, for kernel position i, the input position ``p * stride + i * dilation -
    padding[0]``. Outside the input it sees 0.
    """

    stride: Shape
    padding: tuple[tuple[int, int], ...]
    """Zeros before and after."""
    dilation: Shape
    groups: int
    image: Shape
    """Spatial shape of the array that the kernel slides over."""
    kernel: Shape
    output: Shape
    """Number of positions of the kernel along each axis."""


def each_axis(value: Any, axes: int, name: str, op: str, least: int) -> Shape:
    """Expand a number, or check a number for each axis.

    >>> each_axis(2, 2, "stride", "conv2d", 1)
    (2, 2)
    """
    numbers = (value,) * axes if not isinstance(value, (tuple, list)) else tuple(value)
    if len(numbers) != axes or not all(is_count(n, least) for n in numbers):
        raise ParameterError(
            f"{op}: {name} must be a whole number of at least {least}, or {axes} of them, one an axis; got {shown(value)}"
        )
    return tuple(n.__index__() for n in numbers)


def read_padding(padding: Any, axes: int, op: str, names: tuple[str, ...] = ()) -> Any:
    """Return a padding as a name, as one number for each axis, or as a pair (before, after) for each axis where they differ.

    >>> read_padding(1, 2, "conv2d"), read_padding([[0, 1], [2, 2]], 2, "conv2d"), read_padding(((3, 3),), 1, "conv1d")
    ((1, 1), ((0, 1), (2, 2)), (3,))
    """
    numbers = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * axes
    if isinstance(padding, str) and padding in names:
        return padding
    if len(numbers) == axes and all(isinstance(pair, (tuple, list)) for pair in numbers):
        pairs = tuple(map(tuple, numbers))
        if all(len(pair) == 2 and all(map(is_count, pair)) for pair in pairs):
            pairs = tuple((before.__index__(), after.__index__()) for before, after in pairs)
            return tuple(before for before, _ in pairs) if all(p == q for p, q in pairs) else pairs
    elif len(numbers) == axes and all(map(is_count, numbers)):
        return tuple(n.__index__() for n in numbers)
    named = ", or " + ", ".join(f'"{name}"' for name in names) if names else ""
    uneven = {1: "((before, after),)", 2: "((top, bottom), (left, right))"}.get(axes, "a pair (before, after) for each")
    raise ParameterError(
        f"{op}: padding must be a whole number of at least 0, or {axes} of them, one an axis, or {uneven}{named}; got "
        f"{shown(padding)}"
    )


def lay_padding(
    padding: Any, image: Shape, kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[tuple[int, int], ...]:
    """Return the padding (before, after) of each axis from what :func:`read_padding` returned.

    >>> lay_padding("same", (5, 6), (3, 3), (2, 2), (1, 1))
    ((1, 1), (0, 1))
    """
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":  # as many outputs as strides fit into the image, the odd element after it
        axes = zip(image, kernel, stride, dilation, strict=True)
        totals = [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in axes]
        return tuple((t // 2, t - t // 2) for t in totals)
    return tuple(p if isinstance(p, tuple) else (p, p) for p in padding)


def _check_weight(weight: Shape, axes: int, names: str, op: str) -> None:
    if len(weight) != axes + 2 or 0 in weight:
        raise ShapeError(f"{op}: weight must have shape {names} with no axis empty, got {weight}")


def _check_channels(x: Shape, channels: int, axes: int, op: str, weight: Shape) -> None:
    if len(x) != axes + 2:
        one = "; for a single image add a batch axis: x[None]" if len(x) == axes + 1 else ""
        raise ShapeError(f"{op}: x must have shape {AXES[axes]}, got {x}{one}")
    if x[1] == channels:
        return
    hint = ""
    if x[-1] == channels:
        order = (0, axes + 1, *range(1, axes + 1))
        hint = f"; the channels seem to come last: give x.transpose{order}"
    raise ShapeError(
        f"{op}: expected {channels} channels on axis 1 of x, got shape {x}; weight has shape {weight}{hint}"
    )


@functools.lru_cache(maxsize=1024)
def _windows(
    op: str, axes: int, x: Shape, weight: Shape, stride: Any, padding: Any, dilation: Any, groups: int
) -> Windows:
    _check_weight(weight, axes, "(out, in / groups, *kernel)", op)
    if not is_count(groups, 1) or weight[0] % groups:
        raise ParameterError(f"{op}: groups must divide the {weight[0]} output channels, got {shown(groups)}")
    _check_channels(x, weight[1] * groups, axes, op, weight)
    kernel, image = weight[2:], x[2:]
    strides = each_axis(stride, axes, "stride", op, 1)
    dilations = each_axis(dilation, axes, "dilation", op, 1)
    paddings = lay_padding(read_padding(padding, axes, op, ("same", "valid")), image, kernel, strides, dilations)
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    padded = [n + before + after for n, (before, after) in zip(image, paddings, strict=True)]
    if any(span > n for span, n in zip(spans, padded, strict=True)):
        raise ShapeError(
            f"{op}: the kernel spans {tuple(spans)} but the padded image is only {tuple(padded)}; "
            "use a smaller kernel or dilation, or more padding"
        )
    output = tuple((n - span) // s + 1 for n, span, s in zip(padded, spans, strides, strict=True))
    require_addressable((*x[:2], *padded), op)
    require_addressable((x[0], weight[0], *output), op)
    return Windows(strides, paddings, dilations, groups, image, kernel, output)


@functools.lru_cache(maxsize=1024)
def _windows_of_transposed(
    op: str,
    axes: int,
    x: Shape,
    weight: Shape,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Windows:
    _check_weight(weight, axes, "(in, out / groups, *kernel)", op)
    if not is_count(groups, 1) or weight[0] % groups:
        raise ParameterError(f"{op}: groups must divide the {weight[0]} input channels, got {shown(groups)}")
    _check_channels(x, weight[0], axes, op, weight)
    kernel, output = weight[2:], x[2:]
    strides = each_axis(stride, axes, "stride", op, 1)
    dilations = each_axis(dilation, axes, "dilation", op, 1)
    paddings = lay_padding(read_padding(padding, axes, op, ("valid",)), output, kernel, strides, dilations)
    extra = each_axis(output_padding, axes, "output_padding", op, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ParameterError(
            f"{op}: output_padding must be less than the stride or the dilation, got {extra} with stride {strides} "
            f"and dilation {dilations}"
        )
    image = tuple(
        (n - 1) * s - p[0] - p[1] + d * (k - 1) + 1 + e
        for n, s, p, d, k, e in zip(output, strides, paddings, dilations, kernel, extra, strict=True)
    )
    if any(n < 1 for n in image):
        raise ShapeError(f"{op}: the output would be empty, {image}; use less padding")
    require_addressable((x[0], weight[1] * groups, *image), op)
    return Windows(strides, paddings, dilations, groups, image, kernel, output)


class _Odd:
    """What is no whole number and no name, in a form that can be looked up and equals nothing: 2.0 is not 2."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def hashable(value: Any) -> Any:
    """Return lists and arrays, and those in them, as tuples, whole numbers as int, and names and None as they are.

    >>> hashable([numpy.int64(3), [2, None]]), hashable(numpy.array([1, 2]))
    ((3, (2, None)), (1, 2))
    >>> hashable(2.0) == 2, hashable(2.0)
    (False, 2.0)
    """
    if type(value) is int or value is None:  # nearly always
        return value
    if isinstance(value, (list, tuple)) or (isinstance(value, numpy.ndarray) and value.ndim):
        return tuple(map(hashable, value))
    value = plain(value)
    if value is None or type(value) in (int, str):
        return value
    if isinstance(value, bool):  # which would be looked up as 0 or 1
        return _Odd(value)
    return value.__index__() if hasattr(value, "__index__") else _Odd(value)


def require_addressable(shape: tuple[int, ...], op: str) -> None:
    """Raise :class:`ShapeError` if an array of this shape would have more elements than an address of 64 bits can tell apart.

    >>> require_addressable((2, 2**61), "pad")
    Traceback (most recent call last):
    ...
    minidl.errors.ShapeError: pad: an array of shape (2, 2305843009213693952) would be larger than any memory
    """
    if math.prod(max(n, 1) for n in shape) >= 2**59:
        raise ShapeError(f"{op}: an array of shape {shape} would be larger than any memory")


def windows(
    op: str, axes: int, x: Shape, weight: Shape, stride: Any, padding: Any, dilation: Any, groups: int
) -> Windows:
    """Check the arguments of a convolution against its shapes and expand them to every axis.

    >>> windows("conv2d", 2, (1, 3, 5, 7), (8, 3, 3, 3), 2, "valid", 1, 1).output
    (2, 3)
    """
    return _windows(op, axes, x, weight, hashable(stride), hashable(padding), hashable(dilation), hashable(groups))


def windows_of_transposed(
    op: str,
    axes: int,
    x: Shape,
    weight: Shape,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Windows:
    """Return the windows of the convolution whose adjoint is a given transposed convolution.

    >>> windows_of_transposed("conv_transpose2d", 2, (1, 8, 2, 3), (8, 3, 3, 3), 2, 0, 0, 1, 1).image
    (5, 7)
    """
    return _windows_of_transposed(
        op,
        axes,
        x,
        weight,
        hashable(stride),
        hashable(padding),
        hashable(output_padding),
        hashable(groups),
        hashable(dilation),
    )


def require_images(x: Array, name: str, op: str) -> None:
    """Raise :class:`DtypeError` unless x is floating-point; for images of bytes the message says how to convert them.

    >>> import numpy
    >>> require_images(numpy.zeros((1, 1, 2, 2), "uint8"), "x", "conv2d")
    Traceback (most recent call last):
    ...
    minidl.errors.DtypeError: conv2d: x holds bytes (uint8), as images are stored; give x.astype("float32") / 255
    """
    if getattr(x, "dtype", None) == "uint8":
        raise DtypeError(f'{op}: {name} holds bytes (uint8), as images are stored; give {name}.astype("float32") / 255')
    require_float(x, name, op)
