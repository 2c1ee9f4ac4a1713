"""Operators that move elements: shapes, slices, parts, padding, and what makes arrays."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.interop.onnx.operators.table import Node, operator, unbroadcast

__all__: list[str] = []


def numbers(x: Any) -> list[int]:
    """Return an array of integers as a list."""
    return [int(n) for n in numpy.asarray(x).ravel()]


@operator("Constant", "value value_float value_floats value_int value_ints")
def _constant(node: Node) -> Any:
    (name, value), *_ = node.attributes.items()
    kind = "float32" if name.startswith("value_float") else "int64"
    return (value if name == "value" else numpy.asarray(value, kind),), lambda dy: ()


@operator("Shape", "start end")
def _shape(node: Node, x: Any) -> Any:
    return (numpy.asarray(x.shape[node.get("start", 0) : node.get("end")], "int64"),), lambda dy: ()


@operator("Size")
def _size(node: Node, x: Any) -> Any:
    return (numpy.asarray(x.size, "int64"),), lambda dy: ()


@operator("Reshape", "allowzero", settings=(1,))
def _reshape(node: Node, x: Any, shape: Any) -> Any:
    wanted = [n if n or node.get("allowzero", 0) else x.shape[i] for i, n in enumerate(numbers(shape))]
    return (x.reshape(wanted),), lambda dy: (dy.reshape(x.shape),)


@operator("Flatten", "axis")
def _flatten(node: Node, x: Any) -> Any:
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    rows = int(numpy.prod(x.shape[:axis], dtype=int))
    columns = int(numpy.prod(x.shape[axis:], dtype=int))
    return (x.reshape(rows, columns),), lambda dy: (dy.reshape(x.shape),)


@operator("Transpose", "perm")
def _transpose(node: Node, x: Any) -> Any:
    order = node.get("perm") or list(range(x.ndim))[::-1]
    return (x.transpose(order),), lambda dy: (dy.transpose(numpy.argsort(order)),)


def _axes(node: Node, axes: Any) -> tuple[int, ...] | None:
    """Return axes, which are an input of newer graphs and an attribute of older ones."""
    if axes is not None:
        return tuple(numbers(axes))
    return tuple(node["axes"]) if "axes" in node.attributes else None


@operator("Unsqueeze", "axes", settings=(1,))
def _unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    return (numpy.expand_dims(x, _axes(node, axes) or ()),), lambda dy: (dy.reshape(x.shape),)


@operator("Squeeze", "axes", settings=(1,))
def _squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    return (numpy.squeeze(x, _axes(node, axes)),), lambda dy: (dy.reshape(x.shape),)


@operator("Concat", "axis")
def _concat(node: Node, *xs: Any) -> Any:
    axis = node["axis"]
    ends = numpy.cumsum([x.shape[axis] for x in xs])[:-1]
    return (numpy.concatenate(xs, axis),), lambda dy: numpy.split(dy, ends, axis)


@operator("Split", "axis split num_outputs", settings=(1,))
def _split(node: Node, x: Any, sizes: Any = None) -> Any:
    axis, count = node.get("axis", 0), len(node.outputs)
    parts = numbers(sizes) if sizes is not None else node.get("split")
    if parts is None:
        each = -(-x.shape[axis] // count)
        parts = [max(min(each, x.shape[axis] - each * i), 0) for i in range(count)]
    outputs = numpy.split(x, numpy.cumsum(parts)[:-1], axis)

    def back(*dys: Any) -> Any:
        whole = [numpy.zeros_like(y) if dy is None else dy for y, dy in zip(outputs, dys, strict=True)]
        return (numpy.concatenate(whole, axis),)

    return tuple(outputs), back


@operator("Slice", "starts ends axes", settings=(1, 2, 3, 4))
def _slice(node: Node, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    starts, ends = (
        node[name] if given is None else numbers(given) for name, given in (("starts", starts), ("ends", ends))
    )
    axes = numbers(axes) if axes is not None else node.get("axes", range(len(starts)))
    steps = numbers(steps) if steps is not None else [1] * len(starts)
    at = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        n = x.shape[axis]
        at[axis] = (
            slice(start, None, step)
            if step < 0 and end < -n
            else slice(max(start, -n) if step > 0 else start, end, step)
        )

    def back(dy: Any) -> Any:
        dx = numpy.zeros(x.shape, dy.dtype)
        dx[tuple(at)] = dy
        return (dx,)

    return (x[tuple(at)],), back


@operator("Pad", "mode pads value", {"mode": ("constant", "reflect", "edge", "wrap")}, settings=(1, 2, 3))
def _pad(node: Node, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    """Negative padding cuts; the gradient of an element that is repeated is the sum."""
    given = node["pads"] if pads is None else numbers(pads)
    at = numbers(axes) if axes is not None else list(range(x.ndim))
    before, after = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(at):
        before[axis], after[axis] = given[i], given[len(at) + i]
    mode, fill = node.get("mode", "constant"), node.get("value", 0.0) if value is None else value
    cut = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, b, a in zip(x.shape, before, after, strict=True))
    around = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
    if mode == "constant":
        y = numpy.pad(x[cut], around, constant_values=numpy.asarray(fill, x.dtype))
        inside = tuple(slice(b, n - a) for n, (b, a) in zip(y.shape, around, strict=True))

        def back(dy: Any) -> Any:
            dx = numpy.zeros(x.shape, dy.dtype)
            dx[cut] = dy[inside]
            return (dx,)

        return (y,), back
    places = numpy.pad(numpy.arange(x.size).reshape(x.shape)[cut], around, mode=mode)  # type: ignore[call-overload]
    return (x.ravel()[places],), lambda dy: (_add_at(x, places, dy),)


def _add_at(x: Any, places: Any, dy: Any) -> Any:
    """Return the sum of gradients for each element of x."""
    return numpy.bincount(places.ravel(), dy.ravel(), x.size).astype(dy.dtype).reshape(x.shape)


@operator("Expand", settings=(1,))
def _expand(node: Node, x: Any, shape: Any) -> Any:
    wanted = numpy.broadcast_shapes(x.shape, tuple(numbers(shape)))
    return (numpy.broadcast_to(x, wanted),), lambda dy: (unbroadcast(dy, x.shape),)


@operator("Tile", settings=(1,))
def _tile(node: Node, x: Any, repeats: Any) -> Any:
    times = numbers(repeats)

    def back(dy: Any) -> Any:
        split = [n for pair in zip(times, x.shape, strict=True) for n in pair]
        return (dy.reshape(split).sum(axis=tuple(range(0, 2 * x.ndim, 2))),)

    return (numpy.tile(x, times),), back


@operator("Cast CastLike", "to saturate round_mode", settings=(1,))
def _cast(node: Node, x: Any, like: Any = None) -> Any:
    dtype = numpy.dtype(node["to"]) if like is None else like.dtype
    if "float8" in dtype.name or "float4" in dtype.name or dtype.name.startswith(("int4", "uint4", "int2", "uint2")):
        raise node.refuse(f"there is no dtype {dtype.name}")
    with numpy.errstate(all="ignore"):
        y = x.astype(dtype)
    return (y,), lambda dy: (dy.astype(x.dtype) if x.dtype.kind == "f" and y.dtype.kind == "f" else None,)


@operator("Gather", "axis", settings=(1,))
def _gather(node: Node, x: Any, ids: Any) -> Any:
    axis = node.get("axis", 0) % x.ndim

    def back(dy: Any) -> Any:
        dx = numpy.zeros(x.shape, dy.dtype)
        rows = numpy.moveaxis(dx, axis, 0)
        numpy.add.at(rows, ids, numpy.moveaxis(dy, range(axis, axis + ids.ndim), range(ids.ndim)))
        return (dx,)

    return (numpy.take(x, ids, axis),), back


def _along(x: Any, ids: Any, axis: int) -> tuple[Any, ...]:
    """Return the index that replaces the place on one axis by ids."""
    index = list(numpy.indices(ids.shape, sparse=True))
    index[axis] = numpy.where(ids < 0, ids + x.shape[axis], ids)
    return tuple(index)


@operator("GatherElements", "axis", settings=(1,))
def _gather_elements(node: Node, x: Any, ids: Any) -> Any:
    at = _along(x, ids, node.get("axis", 0))

    def back(dy: Any) -> Any:
        dx = numpy.zeros(x.shape, dy.dtype)
        numpy.add.at(dx, at, dy)
        return (dx,)

    return (x[at],), back


@operator("GatherND", "batch_dims", settings=(1,))
def _gather_nd(node: Node, x: Any, ids: Any) -> Any:
    b = node.get("batch_dims", 0)
    batch = numpy.indices(ids.shape[:b]) if b else ()
    extra = ids.ndim - 1 - b
    at = (*(i.reshape(i.shape + (1,) * extra) for i in batch), *numpy.moveaxis(ids, -1, 0))

    def back(dy: Any) -> Any:
        dx = numpy.zeros(x.shape, dy.dtype)
        numpy.add.at(dx, at, dy)
        return (dx,)

    return (x[at],), back


_SCATTER = {"none": None, "add": numpy.add, "mul": numpy.multiply, "max": numpy.maximum, "min": numpy.minimum}


def _scattered(node: Node, x: Any, at: Any, updates: Any) -> Any:
    """Write or combine updates; the gradient is for writing and adding, of which the others have none here."""
    kind, y = node.get("reduction", "none"), x.copy()
    if _SCATTER[kind] is None:
        y[at] = updates
    else:
        _SCATTER[kind].at(y, at, updates)  # type: ignore[union-attr]

    def back(dy: Any) -> Any:
        if kind not in ("none", "add"):
            raise node.refuse(f"there is no gradient for reduction={kind}")
        dx = dy.copy()
        if kind == "none":
            dx[at] = 0
        return dx, None, dy[at]

    return (y,), back


@operator("ScatterElements Scatter", "axis", {"reduction": tuple(_SCATTER)}, settings=(1,))
def _scatter_elements(node: Node, x: Any, ids: Any, updates: Any) -> Any:
    return _scattered(node, x, _along(x, ids, node.get("axis", 0)), updates)


@operator("ScatterND", "", {"reduction": tuple(_SCATTER)}, settings=(1,))
def _scatter_nd(node: Node, x: Any, ids: Any, updates: Any) -> Any:
    return _scattered(node, x, tuple(numpy.moveaxis(ids, -1, 0)), updates)


@operator("Compress", "axis", settings=(1,))
def _compress(node: Node, x: Any, condition: Any) -> Any:
    axis = node.get("axis")
    places = numpy.compress(condition, numpy.arange(x.size).reshape(x.shape), axis)
    return (x.ravel()[places],), lambda dy: (_add_at(x, places, dy),)


@operator("ReverseSequence", "batch_axis time_axis", settings=(1,))
def _reverse(node: Node, x: Any, lengths: Any) -> Any:
    batch, time = node.get("batch_axis", 1), node.get("time_axis", 0)
    places = numpy.arange(x.size).reshape(x.shape)
    rows = numpy.moveaxis(places, (batch, time), (0, 1))  # a view
    for row, n in zip(rows, numbers(lengths), strict=True):
        row[:n] = row[:n][::-1].copy()
    return (x.ravel()[places],), lambda dy: (_add_at(x, places, dy),)


@operator("DepthToSpace", "blocksize mode", {"mode": ("DCR", "CRD")})
def _depth_to_space(node: Node, x: Any) -> Any:
    n, c, h, w = x.shape
    b = node["blocksize"]
    dcr = node.get("mode", "DCR") == "DCR"
    shape = (n, b, b, c // b**2, h, w) if dcr else (n, c // b**2, b, b, h, w)
    order = (0, 3, 4, 1, 5, 2) if dcr else (0, 1, 4, 2, 5, 3)
    y = x.reshape(shape).transpose(order)

    def back(dy: Any) -> Any:
        return (dy.reshape(y.shape).transpose(numpy.argsort(order)).reshape(x.shape),)

    return (y.reshape(n, c // b**2, h * b, w * b),), back


@operator("SpaceToDepth", "blocksize mode", {"mode": ("DCR", "CRD")})
def _space_to_depth(node: Node, x: Any) -> Any:
    n, c, h, w = x.shape
    b = node["blocksize"]
    order = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    y = x.reshape(n, c, h // b, b, w // b, b).transpose(order)

    def back(dy: Any) -> Any:
        return (dy.reshape(y.shape).transpose(numpy.argsort(order)).reshape(x.shape),)

    return (y.reshape(n, c * b * b, h // b, w // b),), back


@operator("Trilu", "upper", settings=(1,))
def _trilu(node: Node, x: Any, k: Any = None) -> Any:
    keep = numpy.triu if node.get("upper", 1) else numpy.tril
    diagonal = 0 if k is None else int(k)
    return (keep(x, diagonal),), lambda dy: (keep(dy, diagonal),)


# arrays that are made ----------------------------------------------------------------------------------------------------


@operator("ConstantOfShape", "value", settings=(0,))
def _constant_of_shape(node: Node, shape: Any) -> Any:
    value = node.get("value", numpy.zeros(1, "float32"))
    return (numpy.full(numbers(shape), value.flat[0], value.dtype),), lambda dy: ()


@operator("Range", settings=(0, 1, 2))
def _range(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    count = max(int(numpy.ceil((limit - start) / delta)), 0)
    return ((start + numpy.arange(count) * delta).astype(start.dtype),), lambda dy: ()


@operator("EyeLike", "dtype k")
def _eye_like(node: Node, x: Any) -> Any:
    rows, columns = x.shape
    return (numpy.eye(rows, columns, node.get("k", 0), node.get("dtype", x.dtype)),), lambda dy: ()


@operator("OneHot", "axis", settings=(0, 1))
def _one_hot(node: Node, ids: Any, depth: Any, values: Any) -> Any:
    n, axis = int(numpy.asarray(depth).flat[0]), node.get("axis", -1)
    places = ids.astype("int64")
    hot = numpy.expand_dims(numpy.where(places < 0, places + n, places), axis)
    order = [1] * hot.ndim
    order[axis] = n
    hit = hot == numpy.arange(n).reshape(order)

    def back(dy: Any) -> Any:
        return None, None, numpy.stack([numpy.where(hit, 0, dy).sum(), numpy.where(hit, dy, 0).sum()])

    return (numpy.where(hit, values[1], values[0]).astype(values.dtype),), back


@operator("NonZero")
def _non_zero(node: Node, x: Any) -> Any:
    return (numpy.asarray(numpy.nonzero(x), "int64"),), lambda dy: ()


@operator("CenterCropPad", "axes", settings=(1,))
def _center_crop_pad(node: Node, x: Any, shape: Any) -> Any:
    axes = node.get("axes", range(x.ndim))
    pads = numpy.zeros((2, x.ndim), "int64")
    for axis, n in zip(axes, numbers(shape), strict=True):
        missing = n - x.shape[axis]
        pads[0, axis] = missing // 2 if missing >= 0 else -(-missing // 2)
        pads[1, axis] = missing - pads[0, axis]
    return _pad(Node("Pad", node.name, (), ()), x, pads)
