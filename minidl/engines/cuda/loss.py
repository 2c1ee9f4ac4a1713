"""Softmax, its logarithm, and cross-entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.engines.cuda import later
from minidl.engines.cuda.dispatch import NOT_TAKEN, alike, dense, is_taken, new, number, override, team, wide
from minidl.engines.cuda.source import launch
from minidl.errors import TargetError
from minidl.ops import Array
from minidl.ops._scalars import is_count

__all__: list[str] = []

SOFTMAX, CROSS_ENTROPY = "loss/softmax.cu", "loss/cross_entropy.cu"


def _rows(x: Any, axis: Any) -> tuple[int, int] | None:
    """Return the rows and columns of x along an axis that nothing follows, or None."""
    if not is_taken(x) or not is_count(abs(axis) if isinstance(axis, int) else axis):
        return None
    if not -x.ndim <= axis < x.ndim or math.prod(x.shape[axis % x.ndim + 1 :]) != 1:
        return None
    columns = x.shape[axis]
    return (x.size // columns, columns) if 0 < columns < 2**31 else None


def _forward(kernel: str, x: Any, axis: Any) -> Any:
    shape = _rows(x, axis)
    if shape is None:
        return NOT_TAKEN
    x = dense(x)
    y = new(x)
    if y.size:
        launch(SOFTMAX, kernel, x.dtype, *team(*shape), x, y, shape[0], numpy.int32(shape[1]))
    return y, (y, axis)


def _backward(kernel: str, dy: Any, cache: tuple[Array, Any]) -> Any:
    y, axis = cache
    shape = _rows(y, axis)
    if shape is None or not alike(y, dy):
        return NOT_TAKEN
    dy, y = dense(dy), dense(y)
    dx = new(y)
    if y.size:
        launch(SOFTMAX, kernel, y.dtype, *team(*shape), dy, y, dx, shape[0], numpy.int32(shape[1]))
    return dx


@override("softmax")
def softmax(x: Any, axis: Any = -1) -> Any:
    """See ``minidl.ops.softmax.softmax``. Along an axis with others after it, the formula."""
    return _forward("softmax_forward", x, axis)


@override("softmax_backward")
def softmax_backward(dy: Any, cache: tuple[Array, Any]) -> Any:
    """See ``minidl.ops.softmax.softmax_backward``."""
    return _backward("softmax_backward", dy, cache)


@override("log_softmax")
def log_softmax(x: Any, axis: Any = -1) -> Any:
    """See ``minidl.ops.softmax.log_softmax``. Along an axis with others after it, the formula."""
    return _forward("log_softmax_forward", x, axis)


@override("log_softmax_backward")
def log_softmax_backward(dy: Any, cache: tuple[Array, Any]) -> Any:
    """See ``minidl.ops.softmax.log_softmax_backward``."""
    return _backward("log_softmax_backward", dy, cache)


def _targets(logits: Any, target: Any, weight: Any, ignore_index: Any, smoothing: Any) -> tuple[Any, ...] | None:
    """Return logits, labels, weights and what spoils them, ignored index and smoothing for the kernels, or None."""
    if not is_taken(logits) or type(target) is not type(logits) or target.dtype.kind not in "iu":
        return None
    if logits.ndim != 2 or not logits.size or target.shape != logits.shape[:1] or logits.shape[1] >= 2**31:
        return None
    if not (number(smoothing) and 0 <= smoothing <= 1 and is_count(ignore_index, -(2**63)) and ignore_index < 2**63):
        return None
    spoiled = None
    if weight is not None:
        if type(weight) is not type(logits) or weight.dtype.kind != "f" or weight.shape != logits.shape[1:]:
            return None
        weight = dense(weight.astype(wide(logits), copy=False))
        spoiled = (0 * weight).sum(
            keepdims=True
        )  # 0 times a weight that is not finite is nan, also of a class that no row has
    labels = dense(target.astype("int64", copy=False))
    return dense(logits), labels, weight, spoiled, int(ignore_index), float(smoothing)


@override("cross_entropy")
def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: Any = -100,
    label_smoothing: Any = 0.0,
    reduction: Any = "mean",
) -> Any:
    """See ``minidl.ops.loss.cross_entropy``. Rows of logits with class indices; the rest goes to the formula.

    Nothing is brought to the host: s is an array, and ``fit`` reads late whether a label is no class.
    """
    found = _targets(logits, target, weight, ignore_index, label_smoothing)
    if found is None or reduction not in ("mean", "sum", "none"):
        return NOT_TAKEN
    x, labels, ignore = found[0], found[1], found[4]
    (rows, columns), real = x.shape, wide(x)
    largest, rest = new(x, (rows, 1), real), new(x, (rows, 1), real)
    losses, masses = new(x, (rows,), real), new(x, (rows,), real)
    loss, s, wrong = new(x, ()), new(x, (), real), new(x, (), "int64")
    each = (*found, largest, rest, losses, masses, rows, numpy.int32(columns))
    launch(CROSS_ENTROPY, "cross_entropy_rows", x.dtype, *team(rows, columns), *each)
    total = (losses, masses, labels, ignore, reduction == "mean", loss, s, wrong, rows, numpy.int32(columns))
    launch(CROSS_ENTROPY, "cross_entropy_total", x.dtype, 1, 512, *total)
    later.expect(wrong, rows, lambda row: _no_class(labels, row, columns, ignore))
    if reduction == "none":
        loss, s = losses.astype(x.dtype, copy=False), 1.0
    return loss, (logits, s, 1, target, weight, ignore_index, label_smoothing, largest, rest)


def _no_class(labels: Array, row: int, columns: int, ignore: int) -> TargetError:
    return TargetError(
        f"cross_entropy: target {int(labels[row])} at index ({row},) is not a class; with {columns} classes the "
        f"indices are 0 to {columns - 1}, or {ignore} to ignore"
    )


@override("cross_entropy_backward")
def cross_entropy_backward(dloss: Any, cache: tuple[Any, ...]) -> Any:
    """See ``minidl.ops.loss.cross_entropy_backward``. The slope and the upstream gradient in one pass."""
    logits, s, axis, target, weight, ignore_index, smoothing, largest, rest = cache
    found = _targets(logits, target, weight, ignore_index, smoothing)
    if found is None or axis != 1:
        return NOT_TAKEN
    x = found[0]
    rows, columns = x.shape
    factor, upstream, scale = 1.0, None, s
    if isinstance(s, float):
        factor, scale = s, None
    if number(dloss) or isinstance(dloss, numpy.floating):
        factor *= float(dloss)
    elif is_taken(x, dloss) and dloss.shape == (rows,):
        upstream = dense(dloss)
    else:
        return NOT_TAKEN
    dx = new(x)
    arguments = (*found, largest, rest, upstream, scale, factor, dx, rows, numpy.int32(columns))
    launch(CROSS_ENTROPY, "cross_entropy_backward", x.dtype, *team(rows, columns), *arguments)
    return dx
