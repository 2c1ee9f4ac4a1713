"""Reductions over axes, softmax and its kin, sorting, and running sums."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators.arranging import numbers
from minidl.interop.onnx.operators.table import Node, operator


def _axes_of(node: Node, axes: Any, x: Any) -> tuple[int, ...] | None:
    """Return the axes of a reduction, None for nothing to do."""
    given = numbers(axes) if axes is not None else list(node.get("axes", []))
    if not given:
        return None if node.get("noop_with_empty_axes", 0) else tuple(range(x.ndim))
    return tuple(axis % x.ndim for axis in given)


def _expanded(dy: Any, y: Any) -> Any:
    """Return the gradient with the reduced axes as axes of length 1."""
    return dy.reshape(y.shape)


def _extreme(pick: Any, worst: Any) -> Any:
    def run(x: Any, axes: Any) -> Any:
        start = worst(x.dtype)
        y = pick(x, axis=axes, keepdims=True, initial=start) if x.size == 0 else pick(x, axis=axes, keepdims=True)
        hit = x == y
        return y, lambda dy: dy * hit / hit.sum(axis=axes, keepdims=True)

    return run


def _least(dtype: Any) -> Any:
    return False if dtype.kind == "b" else -numpy.inf if dtype.kind == "f" else numpy.iinfo(dtype).min


def _most(dtype: Any) -> Any:
    return True if dtype.kind == "b" else numpy.inf if dtype.kind == "f" else numpy.iinfo(dtype).max


def _sum(x: Any, axes: Any) -> Any:
    return x.sum(axes, keepdims=True), lambda dy: numpy.broadcast_to(dy, x.shape)


def _mean(x: Any, axes: Any) -> Any:
    n = int(numpy.prod([x.shape[axis] for axis in axes], dtype=int))
    y = x.mean(axes, keepdims=True) if x.dtype.kind == "f" else x.sum(axes, keepdims=True) // n
    return y, lambda dy: numpy.broadcast_to(dy / n, x.shape)


def _product(x: Any, axes: Any) -> Any:
    """Multiply elements; the derivative is the product of the others, also where one of them is zero."""
    y = x.prod(axes, keepdims=True)

    def back(dy: Any) -> Any:
        zeros = (x == 0).sum(axes, keepdims=True)
        others = numpy.where(x == 0, 1, x).prod(axes, keepdims=True)
        safe = numpy.where(x == 0, 1, x)
        return dy * numpy.where(zeros == 0, others / safe, numpy.where((zeros == 1) & (x == 0), others, 0))

    return y, back


def _log_sum_exp(x: Any, axes: Any) -> Any:
    wide = x.astype("float64")
    top = wide.max(axis=axes, keepdims=True, initial=-numpy.inf)
    top = numpy.where(numpy.isfinite(top), top, 0)
    e = numpy.exp(wide - top)
    total = e.sum(axes, keepdims=True)
    with numpy.errstate(divide="ignore"):
        y = top + numpy.log(total)
    return y, lambda dy: dy * e / total


def _l2(x: Any, axes: Any) -> Any:
    y = numpy.sqrt((x.astype("float64") ** 2).sum(axes, keepdims=True))
    return y, lambda dy: dy * x / numpy.where(y == 0, 1, y)


def _log_sum(x: Any, axes: Any) -> Any:
    total = x.sum(axes, keepdims=True)
    with numpy.errstate(divide="ignore"):
        return numpy.log(total), lambda dy: numpy.broadcast_to(dy / total, x.shape)


REDUCTIONS: dict[str, Any] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _extreme(numpy.max, _least),
    "ReduceMin": _extreme(numpy.min, _most),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes: (numpy.abs(x).sum(axes, keepdims=True), lambda dy: dy * numpy.sign(x)),
    "ReduceL2": _l2,
    "ReduceSumSquare": lambda x, axes: ((x * x).sum(axes, keepdims=True), lambda dy: dy * 2 * x),
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}
"""Operator, and a function of x and axes that returns y, with the reduced axes kept, and the gradient of x for dy."""

for _kind, _reduce in REDUCTIONS.items():

    def _run(node: Node, x: Any, axes: Any = None, _reduce: Any = _reduce) -> Any:
        over = _axes_of(node, axes, x)
        over = () if over is None else over
        y, back = _reduce(x, over)
        y = numpy.asarray(y).astype(x.dtype, copy=False)
        shape = y.shape if node.get("keepdims", 1) else [n for i, n in enumerate(x.shape) if i not in over]
        return (y.reshape(shape),), lambda dy: (back(_expanded(dy, y)).astype(x.dtype),)

    operator(_kind, "axes keepdims noop_with_empty_axes", settings=(1,))(_run)


@operator("ArgMax ArgMin", "axis keepdims select_last_index")
def _arg(node: Node, x: Any) -> Any:
    axis = node.get("axis", 0) % x.ndim
    find = numpy.argmax if node.kind == "ArgMax" else numpy.argmin
    if node.get("select_last_index", 0):
        y = x.shape[axis] - 1 - find(numpy.flip(x, axis), axis=axis)
    else:
        y = find(x, axis=axis)
    return (numpy.expand_dims(y, axis) if node.get("keepdims", 1) else y,), lambda dy: ()


@operator("Softmax LogSoftmax", "axis")
def _softmax(node: Node, x: Any) -> Any:
    """Before opset 13 all axes from the given one on were one."""
    op = "softmax" if node.kind == "Softmax" else "log_softmax"
    axis, whole = node.get("axis", -1 if node.opset >= 13 else 1), x
    if node.opset < 13:
        x, axis = x.reshape(int(numpy.prod(x.shape[: axis % x.ndim], dtype=int)), -1), -1
    y, cache = getattr(current(), op)(x, axis)
    return (y.reshape(whole.shape),), lambda dy: (
        getattr(current(), f"{op}_backward")(dy.reshape(x.shape), cache).reshape(whole.shape),
    )


@operator("Hardmax", "axis")
def _hardmax(node: Node, x: Any) -> Any:
    axis, whole = node.get("axis", -1 if node.opset >= 13 else 1), x
    if node.opset < 13:
        x, axis = x.reshape(int(numpy.prod(x.shape[: axis % x.ndim], dtype=int)), -1), -1
    y = numpy.zeros_like(x)
    numpy.put_along_axis(y, numpy.expand_dims(x.argmax(axis), axis), 1, axis)
    return (y.reshape(whole.shape),), lambda dy: (numpy.zeros_like(whole),)


@operator("TopK", "axis k largest sorted", settings=(1,))
def _top_k(node: Node, x: Any, k: Any = None) -> Any:
    axis, count = node.get("axis", -1), node["k"] if k is None else int(numpy.asarray(k).flat[0])
    if node.get("largest", 1):  # of equal elements the first comes first
        order = x.shape[axis] - 1 - numpy.flip(numpy.argsort(numpy.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = numpy.argsort(x, axis=axis, kind="stable")
    places = numpy.take(order, range(count), axis=axis)

    def back(dy: Any, _: Any = None) -> Any:
        dx = numpy.zeros_like(x)
        if dy is not None:
            numpy.put_along_axis(dx, places, dy, axis)
        return (dx,)

    return (numpy.take_along_axis(x, places, axis), places.astype("int64")), back


@operator("CumSum", "exclusive reverse", settings=(1,))
def _cum_sum(node: Node, x: Any, axis: Any) -> Any:
    at, exclusive, reverse = int(numpy.asarray(axis).flat[0]), node.get("exclusive", 0), node.get("reverse", 0)

    def run(z: Any, backwards: Any) -> Any:
        z = numpy.flip(z, at) if backwards else z
        total = numpy.cumsum(z, at, dtype=z.dtype)
        total = total - z if exclusive else total
        return numpy.flip(total, at) if backwards else total

    return (run(x, reverse),), lambda dy: (run(dy, not reverse),)


@operator("CumProd", "exclusive reverse", settings=(1,))
def _cum_prod(node: Node, x: Any, axis: Any) -> Any:
    at = int(numpy.asarray(axis).flat[0])
    z = numpy.flip(x, at) if node.get("reverse", 0) else x
    y = numpy.cumprod(z, at, dtype=z.dtype)
    if node.get("exclusive", 0):
        first = numpy.ones_like(numpy.take(z, [0], at))
        y = numpy.concatenate([first, numpy.take(y, range(z.shape[at] - 1), at)], at)

    def back(dy: Any) -> Any:
        raise node.refuse("there is no gradient")

    return (numpy.flip(y, at) if node.get("reverse", 0) else y,), back


@operator("Unique", "axis sorted")
def _unique(node: Node, x: Any) -> Any:
    axis = node.get("axis")
    y, first, inverse, counts = numpy.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis)
    if not node.get("sorted", 1):
        order = numpy.argsort(first, kind="stable")
        rank = numpy.argsort(order)
        y = numpy.take(y, order, 0 if axis is None else axis)
        first, inverse, counts = first[order], rank[inverse], counts[order]

    def back(*dys: Any) -> Any:
        raise node.refuse("there is no gradient")

    return (y, first.astype("int64"), inverse.reshape(-1).astype("int64"), counts.astype("int64")), back


@operator("Einsum", "equation")
def _einsum(node: Node, *xs: Any) -> Any:
    equation = node["equation"].replace(" ", "")
    y = numpy.einsum(equation, *xs)

    def back(dy: Any) -> Any:
        left, _, right = equation.partition("->")
        terms = left.split(",")
        if "->" not in equation or "..." in equation or any(len(set(term)) < len(term) for term in terms):
            raise node.refuse(f"there is no gradient for the equation {equation}")
        gradients = []
        for i, term in enumerate(terms):
            others = [(t, x) for j, (t, x) in enumerate(zip(terms, xs, strict=True)) if j != i]
            names = [right, *(t for t, _ in others)]
            missing = [c for c in term if not any(c in name for name in names)]
            ones = [numpy.ones([xs[i].shape[term.index(c)] for c in missing], dy.dtype)] if missing else []
            names += ["".join(missing)] if missing else []
            gradients.append(numpy.einsum(f"{','.join(names)}->{term}", dy, *(x for _, x in others), *ones))
        return gradients

    return (numpy.asarray(y, xs[0].dtype),), back
