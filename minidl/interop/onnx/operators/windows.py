"""Convolutions and pooling, with all of ONNX's ways to say where the windows are."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators.arranging import numbers
from minidl.interop.onnx.operators.table import Node, fits, operator

__all__: list[str] = []

Pairs = list[tuple[int, int]]


def settings_of(node: Node, kernel: Any) -> tuple[list[int], list[int], list[int]]:
    """Return kernel, strides and dilations of each axis."""
    kernel = [int(k) for k in kernel]
    ones = [1] * len(kernel)
    return kernel, list(node.get("strides", ones)), list(node.get("dilations", ones))


def padding_of(node: Node, image: Any, kernel: list[int], strides: list[int], dilations: list[int]) -> Pairs:
    """Return the padding (before, after) of each axis. SAME makes as many windows as there are strides in the image."""
    auto, n = node.get("auto_pad", "NOTSET"), len(kernel)
    if auto in ("NOTSET", ""):
        pads = node.get("pads", [0] * 2 * n)
        return list(zip(pads[:n], pads[n:], strict=True))
    if auto == "VALID":
        return [(0, 0)] * n
    total = [
        max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        for size, s, k, d in zip(image, strides, kernel, dilations, strict=True)
    ]
    return [(t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in total]


def padded(x: Any, pads: Pairs, value: float = 0.0) -> Any:
    """Return x with the spatial axes padded."""
    if not any(map(any, pads)):
        return x
    return numpy.pad(x, [(0, 0), (0, 0), *pads], constant_values=fits(x, value))


def cut(dx: Any, pads: Pairs) -> Any:
    """Return the gradient of x from that of the padded x."""
    if not any(map(any, pads)):
        return dx
    return dx[(slice(None), slice(None), *(slice(b, n - a) for (b, a), n in zip(pads, dx.shape[2:], strict=True)))]


_WINDOWS = "kernel_shape strides pads dilations auto_pad"
_AUTO = {"auto_pad": ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER")}


@operator("Conv", f"{_WINDOWS} group", _AUTO)
def _conv(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    axes = x.ndim - 2
    kernel, strides, dilations = settings_of(node, weight.shape[2:])
    if axes not in (1, 2, 3):
        raise node.refuse(f"there is no convolution over {axes} axes")
    pads = padding_of(node, x.shape[2:], kernel, strides, dilations)
    even = all(b == a for b, a in pads)
    if axes == 3 and not even:
        raise node.refuse("padding of volumes must be even")
    around: Any = tuple(b for b, _ in pads) if even else tuple(pads)
    op = f"conv{axes}d"
    y, cache = getattr(current(), op)(x, weight, bias, tuple(strides), around, tuple(dilations), node.get("group", 1))

    def back(dy: Any) -> Any:
        return getattr(current(), f"{op}_backward")(numpy.ascontiguousarray(dy), cache)

    return (y,), back


@operator("ConvTranspose", f"{_WINDOWS} group output_padding output_shape", _AUTO)
def _conv_transpose(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    """Cut what is not padded evenly from an output that is not padded."""
    axes = x.ndim - 2
    kernel, strides, dilations = settings_of(node, weight.shape[2:])
    extra = list(node.get("output_padding", [0] * axes))
    whole = [s * (n - 1) + (k - 1) * d + 1 for s, n, k, d in zip(strides, x.shape[2:], kernel, dilations, strict=True)]
    auto = node.get("auto_pad", "NOTSET")
    if "output_shape" in node.attributes or auto.startswith("SAME"):
        shape = node.get("output_shape") or [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        total = [w + e - n for w, e, n in zip(whole, extra, shape[-axes:], strict=True)]
        pads = [(t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in total]
    else:
        pads = padding_of(node, x.shape[2:], kernel, strides, dilations)
    if axes not in (1, 2):
        raise node.refuse(f"there is no transposed convolution over {axes} axes")
    op = f"conv_transpose{axes}d"
    even = all(b == a for b, a in pads) and all(
        e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)
    )
    even = even and all(b >= 0 for b, _ in pads)
    around, more = (tuple(b for b, _ in pads), tuple(extra)) if even else ((0,) * axes, (0,) * axes)
    settings = tuple(strides), around, more, node.get("group", 1), tuple(dilations)
    y, cache = getattr(current(), op)(x, weight, bias, *settings)
    if even:
        return (y,), lambda dy: getattr(current(), f"{op}_backward")(numpy.ascontiguousarray(dy), cache)
    ends = [(b, a - e) for (b, a), e in zip(pads, extra, strict=True)]  # what is cut, or added if negative
    if any(b < 0 for b, _ in ends):
        raise node.refuse("padding must not be negative")
    grown = [(0, max(-a, 0)) for _, a in ends]
    fill = 0 if bias is None else bias.reshape(-1, *[1] * axes)
    big = padded(y - fill, grown) + fill if any(map(any, grown)) else y
    inside = [(b, max(a, 0)) for b, a in ends]

    def back(dy: Any) -> Any:
        dbig = padded(dy, inside)
        dx, dweight, _ = getattr(current(), f"{op}_backward")(numpy.ascontiguousarray(cut(dbig, grown)), cache)
        return dx, dweight, None if bias is None else dy.sum(axis=(0, *range(2, dy.ndim)))

    return (cut(big, inside),), back


# pooling -----------------------------------------------------------------------------------------------------------------


def _placed(node: Node, x: Any) -> tuple[list[int], list[int], list[int], Pairs, Pairs]:
    """Return kernel, strides, dilations, padding, and what ceil_mode adds to the padding so that its windows fit."""
    kernel, strides, dilations = settings_of(node, node["kernel_shape"])
    pads = padding_of(node, x.shape[2:], kernel, strides, dilations)
    added = []
    for n, k, s, d, (b, a) in zip(x.shape[2:], kernel, strides, dilations, pads, strict=True):
        span = d * (k - 1) + 1
        count = (n + b + a - span) // s + 1
        if node.get("ceil_mode", 0):
            count = -(-(n + b + a - span) // s) + 1
            count -= (count - 1) * s >= n + b  # a window begins in the image or before it
        added.append((0, max((count - 1) * s + span - (n + b + a), 0)))
    return kernel, strides, dilations, pads, added


@operator("MaxPool", f"{_WINDOWS} ceil_mode", {**_AUTO, "storage_order": (0, 1)})
def _max_pool(node: Node, x: Any) -> Any:
    axes = x.ndim - 2
    if axes not in (1, 2, 3):
        raise node.refuse(f"there is no pooling over {axes} axes")
    kernel, strides, dilations, pads, added = _placed(node, x)
    op, plain = (
        f"max_pool{axes}d",
        not any(map(any, added)) and all(b == a and 2 * b <= k for (b, a), k in zip(pads, kernel, strict=True)),
    )
    given = x.astype("float64") if x.dtype.kind != "f" else x
    both = [(b, a + c) for (b, a), (_, c) in zip(pads, added, strict=True)]
    z, around = (given, tuple(b for b, _ in pads)) if plain else (padded(given, both, -numpy.inf), (0,) * axes)
    settings = tuple(kernel), tuple(strides), around, tuple(dilations), False
    if not node.wants(1):
        y, cache = getattr(current(), op)(z, *settings)
        places = None
    else:
        (y, places), cache = getattr(current(), op)(z, *settings, True)
        places = _places(node, places, x.shape, z.shape, pads if not plain else [(0, 0)] * axes)

    def back(dy: Any, _: Any = None) -> Any:
        dz = getattr(current(), f"{op}_backward")(numpy.ascontiguousarray(dy), cache)
        return (dz if plain else cut(dz, both),)

    return (y.astype(x.dtype, copy=False), *([] if places is None else [places])), back


def _places(node: Node, places: Any, shape: Any, padded_shape: Any, pads: Pairs) -> Any:
    """Return places of maxima as ONNX counts them: through the whole batch, and columns first with storage_order."""
    at = numpy.unravel_index(places, padded_shape[2:])
    at = tuple(i - b for i, (b, _) in zip(at, pads, strict=True))
    order = at[::-1] if node.get("storage_order", 0) else at
    image = shape[2:][::-1] if node.get("storage_order", 0) else shape[2:]
    within = numpy.ravel_multi_index(order, image)
    return (
        numpy.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * (len(shape) - 2)) * math.prod(image) + within
    ).astype("int64")


def window_sums(x: Any, kernel: list[int], strides: list[int], dilations: list[int]) -> Any:
    """Return the sum over each window of each channel, and its backward: a convolution with ones."""
    axes, op = len(kernel), f"conv{len(kernel)}d"
    flat = numpy.ascontiguousarray(x).reshape(-1, 1, *x.shape[2:])
    y, cache = getattr(current(), op)(
        flat, numpy.ones((1, 1, *kernel), x.dtype), None, tuple(strides), (0,) * axes, tuple(dilations), 1
    )

    def back(dy: Any) -> Any:
        flat_dy = numpy.ascontiguousarray(dy).reshape(y.shape)
        return getattr(current(), f"{op}_backward")(flat_dy, cache)[0].reshape(x.shape)

    return y.reshape(*x.shape[:2], *y.shape[2:]), back


@operator("AveragePool", f"{_WINDOWS} ceil_mode count_include_pad", _AUTO)
def _average_pool(node: Node, x: Any) -> Any:
    axes = x.ndim - 2
    if axes not in (1, 2, 3):
        raise node.refuse(f"there is no pooling over {axes} axes")
    kernel, strides, dilations, pads, added = _placed(node, x)
    include = bool(node.get("count_include_pad", 0))
    simple = all(d == 1 for d in dilations) and not any(map(any, added))
    if simple and all(b == a and 2 * b <= k for (b, a), k in zip(pads, kernel, strict=True)):
        op = f"avg_pool{axes}d"
        settings = tuple(kernel), tuple(strides), tuple(b for b, _ in pads), False, include
        y, cache = getattr(current(), op)(x, *settings)
        return (y,), lambda dy: (getattr(current(), f"{op}_backward")(numpy.ascontiguousarray(dy), cache),)
    both = [(b, a + c) for (b, a), (_, c) in zip(pads, added, strict=True)]
    sums, back = window_sums(padded(x, both), kernel, strides, dilations)
    counts = numpy.ones((), x.dtype)
    for i, (n, k, s, d, (b, a)) in enumerate(zip(x.shape[2:], kernel, strides, dilations, pads, strict=True)):
        taken = numpy.arange(sums.shape[2 + i])[:, None] * s + numpy.arange(k) * d - b  # (positions, k)
        inside = (taken >= -b) & (taken < n + a) if include else (taken >= 0) & (taken < n)
        counts = counts[..., None] * inside.sum(axis=1).astype(x.dtype)
    return (sums / counts,), lambda dy: (cut(back(dy / counts), both),)


@operator("LpPool", f"{_WINDOWS} ceil_mode p", _AUTO)
def _lp_pool(node: Node, x: Any) -> Any:
    kernel, strides, dilations, pads, added = _placed(node, x)
    p = node.get("p", 2)
    both = [(b, a + c) for (b, a), (_, c) in zip(pads, added, strict=True)]
    sums, back = window_sums(padded(numpy.abs(x) ** p, both), kernel, strides, dilations)
    y = sums ** fits(x, 1 / p)

    def through(dy: Any) -> Any:
        dsums = dy * y / (p * numpy.where(sums == 0, 1, sums))
        return (cut(back(dsums.astype(x.dtype)), both) * p * numpy.abs(x) ** (p - 1) * numpy.sign(x),)

    return (y,), through


@operator("GlobalAveragePool")
def _global_average(node: Node, x: Any) -> Any:
    n = math.prod(x.shape[2:])
    y = numpy.add.reduce(x.reshape(*x.shape[:2], -1), axis=2) / fits(
        x, n
    )  # a third of the time of x.mean for small images
    return (y.reshape(*x.shape[:2], *[1] * (x.ndim - 2)),), lambda dy: (numpy.broadcast_to(dy / fits(dy, n), x.shape),)


@operator("GlobalMaxPool")
def _global_max(node: Node, x: Any) -> Any:
    flat = x.reshape(*x.shape[:2], -1)
    place = flat.argmax(axis=2, keepdims=True)

    def back(dy: Any) -> Any:
        dx = numpy.zeros_like(flat)
        numpy.put_along_axis(dx, place, dy.reshape(place.shape), 2)
        return (dx.reshape(x.shape),)

    return (numpy.take_along_axis(flat, place, 2).reshape(*x.shape[:2], *[1] * (x.ndim - 2)),), back


@operator("MaxUnpool", "kernel_shape strides pads", settings=(1, 2))
def _max_unpool(node: Node, x: Any, places: Any, shape: Any = None) -> Any:
    """Write each maximum to its place; places count through the batch in the shape without output_shape."""
    kernel, strides, _ = settings_of(node, node["kernel_shape"])
    pads = padding_of(node, x.shape[2:], kernel, strides, [1] * len(kernel))
    least = [(n - 1) * s + k - b - a for n, s, k, (b, a) in zip(x.shape[2:], strides, kernel, pads, strict=True)]
    whole = (*x.shape[:2], *least)
    at = numpy.unravel_index(places, whole)
    y = numpy.zeros(whole if shape is None else tuple(numbers(shape)), x.dtype)
    y[at] = x
    return (y,), lambda dy: (dy[at],)


@operator("Col2Im", "strides pads dilations", settings=(1, 2))
def _col_to_im(node: Node, x: Any, image: Any, block: Any) -> Any:
    """Add up columns where windows overlap: the transposed convolution with unit kernels."""
    size, kernel = numbers(image), numbers(block)
    _, strides, dilations = settings_of(node, kernel)
    pads = padding_of(node, size, kernel, strides, dilations)
    places = numpy.pad(numpy.arange(math.prod(size)).reshape(size), pads, constant_values=-1)
    index = []
    for n, k, s, d in zip(places.shape, kernel, strides, dilations, strict=True):
        count = (n - d * (k - 1) - 1) // s + 1
        index.append(numpy.arange(k)[:, None] * d + numpy.arange(count) * s)  # (k, positions)
    axes = len(kernel)
    spread = [
        part.reshape(
            [n for j in range(axes) for n in [part.shape[0] if i == j else 1]]
            + [part.shape[1] if i == j else 1 for j in range(axes)]
        )
        for i, part in enumerate(index)
    ]
    where = places[tuple(spread)].reshape(math.prod(kernel), -1)  # (window, positions)
    columns = x.reshape(x.shape[0], -1, *where.shape)
    y = numpy.zeros((*columns.shape[:2], math.prod(size) + 1), x.dtype)  # the last takes what falls on the padding
    numpy.add.at(y, (slice(None), slice(None), where), columns)  # type: ignore[arg-type]

    def back(dy: Any) -> Any:
        flat = numpy.concatenate(
            [dy.reshape(*columns.shape[:2], -1), numpy.zeros((*columns.shape[:2], 1), dy.dtype)], axis=2
        )
        return (flat[:, :, where].reshape(x.shape),)

    return (y[:, :, :-1].reshape(*columns.shape[:2], *size),), back
