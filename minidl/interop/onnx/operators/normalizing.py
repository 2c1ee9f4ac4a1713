"""Products and normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators.table import Node, fits, operator, unbroadcast

__all__: list[str] = []


@operator("MatMul")
def _matmul(node: Node, a: Any, b: Any) -> Any:
    """Multiply matrices; vectors are rows on the left and columns on the right, and integers are for NumPy."""
    if a.dtype.kind != "f":
        return (numpy.matmul(a, b),), lambda dy: ()
    left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    if right.ndim == 2 and left.ndim > 2:  # one matrix for all rows
        rows = numpy.ascontiguousarray(left).reshape(-1, left.shape[-1])
        y, cache = current().matmul(rows, right)
        y = y.reshape(*left.shape[:-1], right.shape[-1])
    else:
        rows = left
        y, cache = current().matmul(left, right)
    shape = [*y.shape[: y.ndim - 2], *([] if a.ndim == 1 else [y.shape[-2]]), *([] if b.ndim == 1 else [y.shape[-1]])]

    def back(dy: Any) -> Any:
        inner = y.shape if rows is left else (rows.shape[0], y.shape[-1])
        da, db = current().matmul_backward(numpy.ascontiguousarray(dy).reshape(inner), cache)
        return da.reshape(a.shape), db.reshape(b.shape)

    return (y.reshape(shape),), back


@operator("Gemm", "alpha beta transA transB")
def _gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    """Return alpha A B + beta C."""
    left, right = (a.T if node.get("transA", 0) else a), (b if node.get("transB", 0) else b.T)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    fused = c is not None and alpha == beta == 1 and c.shape == (right.shape[0],) and a.dtype.kind == "f"
    if a.dtype.kind != "f":
        y = numpy.asarray(alpha, a.dtype) * (left @ right.T)
        return (y if c is None else y + numpy.asarray(beta, a.dtype) * c,), lambda dy: ()
    y, cache = current().linear(numpy.ascontiguousarray(left), numpy.ascontiguousarray(right), c if fused else None)
    y = y if alpha == 1 else fits(y, alpha) * y
    if c is not None and not fused:
        y = y + (c if beta == 1 else fits(y, beta) * c)

    def back(dy: Any) -> Any:
        d = numpy.ascontiguousarray(dy if alpha == 1 else fits(dy, alpha) * dy)
        da, db, *_ = current().linear_backward(d, cache)
        dc = None if c is None else unbroadcast(fits(dy, beta) * dy, c.shape)
        return da.T if node.get("transA", 0) else da, db if node.get("transB", 0) else db.T, dc

    return (y,), back


def channels(x: Any, c: Any) -> Any:
    """Return an array of one number for each channel so that it multiplies x."""
    return c.reshape(1, -1, *[1] * (x.ndim - 2))


@operator("BatchNormalization", "epsilon momentum", {"training_mode": (0, 1), "spatial": (1,)}, settings=(3, 4))
def _batch_norm(node: Node, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    if node.get("training_mode", 0):
        return _batch_norm_in_training(node, x, weight, bias, mean, var)
    eps = node.get("epsilon", 1e-5)
    y, cache = current().batch_norm(
        x, weight.astype(x.dtype), bias.astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype), False, eps
    )
    return (y,), lambda dy: current().batch_norm_backward(numpy.ascontiguousarray(dy), cache)


def _batch_norm_in_training(node: Node, x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
    """Return y, and the running statistics after this batch, with its variance as it is."""
    y, cache = current().batch_norm(x, weight, bias, eps=node.get("epsilon", 1e-5))
    share, axes = node.get("momentum", 0.9), (0, *range(2, x.ndim))
    new = [
        (old * share + now * (1 - share)).astype(old.dtype) for old, now in ((mean, x.mean(axes)), (var, x.var(axes)))
    ]

    def back(dy: Any, *statistics: Any) -> Any:
        if dy is None or any(d is not None for d in statistics):
            raise node.refuse("there is no gradient through the running statistics")
        return current().batch_norm_backward(numpy.ascontiguousarray(dy), cache)

    return (y, *new), back


@operator("InstanceNormalization", "epsilon")
def _instance_norm(node: Node, x: Any, weight: Any, bias: Any) -> Any:
    y, cache = current().group_norm(x, x.shape[1], weight, bias, node.get("epsilon", 1e-5))
    return (y,), lambda dy: current().group_norm_backward(numpy.ascontiguousarray(dy), cache)


@operator("GroupNormalization", "epsilon num_groups stash_type")
def _group_norm(node: Node, x: Any, weight: Any, bias: Any) -> Any:
    """Before opset 21 there is one weight for each group."""
    per_group = node.opset < 21
    each = x.shape[1] // node["num_groups"]
    w, b = (numpy.repeat(weight, each), numpy.repeat(bias, each)) if per_group else (weight, bias)
    y, cache = current().group_norm(x, node["num_groups"], w, b, node.get("epsilon", 1e-5))

    def back(dy: Any) -> Any:
        dx, dw, db = current().group_norm_backward(numpy.ascontiguousarray(dy), cache)
        return (dx, *(d.reshape(-1, each).sum(1) if per_group else d for d in (dw, db)))

    return (y,), back


def _over_last(x: Any, parameter: Any, shape: tuple[int, ...]) -> Any:
    """Return a parameter in the shape of the axes that are normalised, to which it may have to be repeated."""
    return None if parameter is None else numpy.ascontiguousarray(numpy.broadcast_to(parameter, shape)).astype(x.dtype)


@operator("LayerNormalization", "axis epsilon", {"stash_type": (1, 11)})
def _layer_norm(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    axis, eps = node.get("axis", -1) % x.ndim, node.get("epsilon", 1e-5)
    shape = x.shape[axis:]
    y, cache = current().layer_norm(x, shape, _over_last(x, weight, shape), _over_last(x, bias, shape), eps)
    more: list[Any] = []
    if node.wants(1) or node.wants(2):
        axes = tuple(range(axis, x.ndim))
        more = [x.mean(axes, keepdims=True), 1 / numpy.sqrt(x.var(axes, keepdims=True) + fits(x, eps))]

    def back(dy: Any, dmean: Any = None, dinv: Any = None) -> Any:
        dy = numpy.zeros_like(y) if dy is None else numpy.ascontiguousarray(dy)
        dx, dw, db = current().layer_norm_backward(dy, cache)
        n = math.prod(shape)
        dx = dx if dmean is None else dx + dmean / fits(x, n)
        if dinv is not None:  # of (var + eps)^(-1/2), with dvar / dx = 2 (x - mean) / n
            dx = dx - dinv * more[1] ** 3 * (x - more[0]) / fits(x, n)
        return dx, unbroadcast(dw, weight.shape), None if bias is None else unbroadcast(db, bias.shape)

    return (y, *more), back


@operator("RMSNormalization SimplifiedLayerNormalization", "axis epsilon", {"stash_type": (1, 11)})
def _rms_norm(node: Node, x: Any, weight: Any) -> Any:
    axis = node.get("axis", -1) % x.ndim
    shape = x.shape[axis:]
    y, cache = current().rms_norm(x, shape, _over_last(x, weight, shape), node.get("epsilon", 1e-5))

    def back(dy: Any) -> Any:
        dx, dw, *_ = current().rms_norm_backward(numpy.ascontiguousarray(dy), cache)
        return dx, unbroadcast(dw, weight.shape)

    return (y,), back


@operator("LpNormalization", "axis p")
def _lp_norm(node: Node, x: Any) -> Any:
    """Return x / |x|_p along an axis; a row of zeros stays."""
    axis, p = node.get("axis", -1), node.get("p", 2)
    length = (numpy.abs(x) ** p).sum(axis, keepdims=True) ** fits(x, 1 / p)
    safe = numpy.where(length == 0, 1, length).astype(x.dtype)

    def back(dy: Any) -> Any:
        slope = numpy.sign(x) * (numpy.abs(x) / safe) ** (p - 1)  # of the length
        return ((dy - slope * (dy * x).sum(axis, keepdims=True) / safe) / safe,)

    return (x / safe,), back


@operator("MeanVarianceNormalization", "axes")
def _mvn(node: Node, x: Any) -> Any:
    """Return (x - mean) / (std + 1e-9)."""
    axes = tuple(node.get("axes", (0, 2, 3)))
    n = math.prod(x.shape[axis] for axis in axes)
    centred = x - x.mean(axes, keepdims=True)
    std = numpy.sqrt((centred * centred).mean(axes, keepdims=True))
    scale = 1 / (std + fits(x, 1e-9))

    def back(dy: Any) -> Any:
        dstd = -(dy * centred).sum(axes, keepdims=True) * scale * scale
        d = dy * scale + dstd * centred / (n * std)
        return (d - d.mean(axes, keepdims=True),)

    return (centred * scale,), back


@operator("LRN", "alpha beta bias size")
def _lrn(node: Node, x: Any) -> Any:
    """Return x / (bias + alpha / size sum of the squares of neighbouring channels)^beta."""
    size, beta = node["size"], fits(x, node.get("beta", 0.75))
    alpha, bias = fits(x, node.get("alpha", 1e-4) / size), fits(x, node.get("bias", 1.0))
    c = numpy.arange(x.shape[1])
    near = (c - c[:, None] >= -((size - 1) // 2)) & (c - c[:, None] <= size // 2)  # (C, C): who counts for whom
    near = near.astype(x.dtype)
    base = bias + alpha * numpy.moveaxis(numpy.tensordot(near, x * x, (1, 1)), 0, 1)
    y = x * base**-beta

    def back(dy: Any) -> Any:
        dbase = -beta * dy * y / base
        return (dy * base**-beta + 2 * alpha * x * numpy.moveaxis(numpy.tensordot(near.T, dbase, (1, 1)), 0, 1),)

    return (y,), back
