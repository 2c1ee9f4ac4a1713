"""Losses, dropout, and integers that stand for numbers."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.engines import current
from minidl.interop.onnx.operators.table import Node, fits, operator

__all__: list[str] = []

_REDUCTIONS = {"reduction": ("mean", "sum", "none")}


def _loss(op: str) -> Any:
    def run(node: Node, x: Any, target: Any, weight: Any = None) -> Any:
        how = {"reduction": node.get("reduction", "mean"), "ignore_index": node.get("ignore_index", -1 << 31)}
        y, cache = getattr(current(), op)(x, target.astype("int64"), weight, **how)
        more = []
        if node.wants(1):
            logs, log_cache = current().log_softmax(x, 1)
            more = [logs]

        def back(dy: Any, dlogs: Any = None) -> Any:
            dx = None if dy is None else getattr(current(), f"{op}_backward")(dy, cache)
            if dlogs is not None:
                through = current().log_softmax_backward(dlogs, log_cache)
                dx = through if dx is None else dx + through
            return (dx,)

        return (numpy.asarray(y, x.dtype), *more), back

    return run


operator("SoftmaxCrossEntropyLoss", "ignore_index", _REDUCTIONS, settings=(1, 2))(_loss("cross_entropy"))
operator("NegativeLogLikelihoodLoss", "ignore_index", _REDUCTIONS, settings=(1, 2))(_loss("nll_loss"))


@operator("Dropout", "seed ratio is_test", settings=(1, 2))
def _dropout(node: Node, x: Any, ratio: Any = None, training: Any = None) -> Any:
    """In evaluation the output is the input. What a graph drops in training is not defined, so nothing may be dropped."""
    rate = 0.5 if ratio is None else float(ratio)
    if training is not None and bool(training) and rate > 0:
        raise node.refuse("what is dropped in training is not defined by the graph")
    return (x, numpy.ones(x.shape, bool)), lambda dy, *_: (dy,)


def _along(x: Any, scale: Any, axis: int, block: int) -> Any:
    """Return scale or zero point so that it multiplies x: one number, one for each place on an axis, or one for a block."""
    scale = numpy.asarray(scale)
    if scale.ndim == 1 and scale.size > 1:
        return scale.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    if scale.ndim == x.ndim and block:
        return numpy.repeat(scale, block, axis).take(range(x.shape[axis]), axis)
    return scale.reshape(()) if scale.size == 1 else scale


@operator(
    "QuantizeLinear",
    "axis block_size",
    {"saturate": (1,), "output_dtype": (0, 2, 3, 4, 5), "precision": (0, 1)},
    settings=(1, 2),
)
def _quantize(node: Node, x: Any, scale: Any, zero: Any = None) -> Any:
    """Return clip(round(x / scale) + zero), which has no useful gradient."""
    kinds = {0: "uint8", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}
    dtype = numpy.dtype(kinds[node.get("output_dtype", 0)]) if zero is None else zero.dtype
    if dtype.kind not in "iu" or dtype.name not in ("uint8", "int8", "uint16", "int16"):
        raise node.refuse(f"there is no dtype {dtype.name}")
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    shift = 0 if zero is None else _along(x, zero, axis, block).astype("int64")
    q = numpy.rint(x / _along(x, scale, axis, block)).astype("float64") + shift
    limits = numpy.iinfo(dtype)

    def back(dy: Any) -> Any:
        raise node.refuse("rounding has no gradient")

    return (numpy.clip(q, limits.min, limits.max).astype(dtype),), back


@operator("DequantizeLinear", "axis block_size", {"output_dtype": (0, 1)}, settings=(0, 1, 2))
def _dequantize(node: Node, q: Any, scale: Any, zero: Any = None) -> Any:
    if q.dtype.name not in ("uint8", "int8", "uint16", "int16", "int32"):
        raise node.refuse(f"there is no dtype {q.dtype.name}")
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    shift = 0 if zero is None else _along(q, zero, axis, block).astype("int64")
    y = (q.astype("int64") - shift) * _along(q, scale, axis, block)
    return (y.astype(numpy.asarray(scale).dtype),), lambda dy: ()


@operator("DynamicQuantizeLinear")
def _dynamic_quantize(node: Node, x: Any) -> Any:
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = fits(x, (high - low) / 255)
    zero = numpy.clip(numpy.rint(-low / scale), 0, 255).astype("uint8")
    q = numpy.clip(numpy.rint(x / scale) + zero, 0, 255).astype("uint8")

    def back(*dys: Any) -> Any:
        raise node.refuse("rounding has no gradient")

    return (q, numpy.asarray(scale, "float32"), numpy.asarray(zero)), back


def _less_zero(q: Any, zero: Any, axis: int) -> Any:
    """Return integers without their zero point."""
    return q.astype("int64") - (0 if zero is None else _along(q, zero, axis, 0).astype("int64"))


@operator("MatMulInteger", settings=(0, 1, 2, 3))
def _matmul_integer(node: Node, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    y = numpy.matmul(_less_zero(a, a_zero, a.ndim - 2), _less_zero(b, b_zero, b.ndim - 1))
    return (y.astype("int32"),), lambda dy: ()


@operator("QLinearMatMul", settings=tuple(range(8)))
def _q_linear(
    node: Node, a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, scale: Any, zero: Any
) -> Any:
    if zero.dtype.name not in ("uint8", "int8"):
        raise node.refuse(f"there is no dtype {zero.dtype.name}")
    sums = numpy.matmul(_less_zero(a, a_zero, a.ndim - 2), _less_zero(b, b_zero, b.ndim - 1))
    y = (
        numpy.rint(
            sums
            * (numpy.asarray(a_scale, "float64") * numpy.asarray(b_scale, "float64") / numpy.asarray(scale, "float64"))
        )
        + zero
    )
    limits = numpy.iinfo(zero.dtype)
    return (numpy.clip(y, limits.min, limits.max).astype(zero.dtype),), lambda dy: ()
