"""What the losses share: targets aligned or looked up, weights checked, the reduction, and the slope scaled on the way back."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError, TargetError
from minidl.ops._checks import broadcast_shapes, require_same_dtype, sum_widened, widen_float16
from minidl.ops._later import are_later, refuse_any
from minidl.ops._namespace import Array, namespace, require_float

__all__ = [
    "Cache",
    "align",
    "check_upstream_of_rows",
    "check_weight",
    "class_axis",
    "class_weight",
    "from_indices",
    "one_hot",
    "reduce",
    "reduce_rows",
    "scale_slope",
    "times_factor",
]

Cache = tuple[Any, ...]


def class_axis(op: str, scores: Array, name: str = "logits") -> int:
    """Return the axis of the classes, 1, or 0 for a single example; raise unless there are some."""
    require_float(scores, name, op)
    if scores.ndim == 0:
        raise ShapeError(f"{op}: {name} must have a class axis, got a scalar")
    axis = min(scores.ndim - 1, 1)
    if scores.shape[axis] == 0:
        raise ShapeError(f"{op}: there are no classes on axis {axis} of {name} of shape {scores.shape}")
    return axis


def from_indices(
    op: str, x: Array, target: Array, w: Array | None, ignore_index: int, axis: int, name: str = "logits"
) -> tuple[Array, Any]:
    """Return t as zeros and ones, (N, K, ...), and the total weight of the targets that count.

    Inside ``checks_later`` the weight stays on the device, as an array without axes.
    """
    expected = x.shape[:axis] + x.shape[axis + 1 :]
    if target.shape != expected:
        hint = ""
        if target.shape == x.shape:
            convert = "astype(float)" if op == "cross_entropy" else f"argmax(axis={axis})"
            hint = f"; one-hot rows are probabilities: convert them with target.{convert}"
        raise ShapeError(
            f"{op}: class indices for {name} of shape {x.shape} must have shape {expected}, got {target.shape}{hint}"
        )
    xp = namespace(x)
    classes = x.shape[axis]
    c = target.astype("int64", copy=False)
    bad = (c != ignore_index) & ((c < 0) | (c >= classes))
    t = one_hot(x, target, ignore_index, axis)  # (N, K, ...)
    weight = (t if w is None else t * w).sum(dtype="float64")

    def complain() -> NoReturn:
        first = int(bad.ravel().argmax())
        index = tuple(int(i) for i in numpy.unravel_index(first, target.shape))
        raise TargetError(
            f"{op}: target {int(c.ravel()[first])} at index {index} is not a class; with {classes} classes the "
            f"indices are 0 to {classes - 1}, or {ignore_index} to ignore"
        )

    if are_later(x):
        refuse_any(bad, complain)
        return t, weight
    wrong, divisor = xp.stack([bad.sum(dtype="float64"), weight]).tolist()  # the only transfer from the device
    if wrong:
        complain()
    return t, divisor


def one_hot(x: Array, target: Array, ignore_index: int, axis: int) -> Array:
    """Return t as zeros and ones, (N, K, ...); zeros where the target is to be ignored, or no class."""
    xp = namespace(x)
    c = xp.expand_dims(target.astype("int64", copy=False), axis)  # (N, 1, ...)
    labels = xp.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return ((c == labels) & (c != ignore_index)).astype(x.dtype)


def class_weight(op: str, weight: Array, x: Array, axis: int) -> Array:
    """Return a weight for each class, broadcast against x and in its dtype."""
    if getattr(weight, "shape", None) != (x.shape[axis],):
        raise ShapeError(
            f"{op}: weight must be an array with one entry for each of the {x.shape[axis]} classes, got "
            f"{getattr(weight, 'shape', weight)}"
        )
    return weight.astype(x.dtype, copy=False).reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def align(prediction: Array, target: Array, op: str, name: str = "prediction") -> tuple[Array, Array]:
    """Return both in the shape of the prediction, widened; only (N,) and (N, 1) may differ."""
    require_float(prediction, name, op)
    kind = getattr(getattr(target, "dtype", None), "kind", None)
    if kind is None or kind not in "fiub":
        came = type(target).__name__ if kind is None else f"dtype {target.dtype}"
        raise DtypeError(f"{op}: target must be an array of real numbers, got {came}")
    if isinstance(target, numpy.matrix):
        target = numpy.asarray(target)  # for which * is the product of elements
    if target.shape != prediction.shape:
        longer, shorter = sorted((tuple(prediction.shape), tuple(target.shape)), key=len, reverse=True)
        if len(longer) != 2 or longer != (*shorter, 1):
            raise ShapeError(
                f"{op}: {name} has shape {prediction.shape} and target {target.shape}; they must agree (only (N,) "
                "and (N, 1) are aligned, nothing is broadcast)"
            )
        target = target.reshape(prediction.shape)
    wide = widen_float16(prediction)
    return wide, target.astype(wide.dtype, copy=False)


def check_weight(op: str, weight: Array, x: Array, name: str, of: str = "logits") -> Array:
    """Return a weight in the dtype of x; raise unless it broadcasts to the shape of x."""
    if not hasattr(weight, "dtype"):
        raise DtypeError(
            f"{op}: {name} must be an array, got {type(weight).__name__}; convert it with numpy.asarray(...)"
        )
    try:
        fits = broadcast_shapes(weight.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{op}: {name} of shape {weight.shape} does not broadcast to {x.shape}, the shape of the {of}")
    return weight.astype(x.dtype, copy=False)


def reduce(
    each: Array, slope: Array, reduction: str, op: str, dtype: Any, more: dict[str, float] | None = None
) -> tuple[Array, Cache]:
    """Return the reduced loss and the cache (slope, s), both in the dtype of the prediction; ``more`` are divisors of other reductions."""
    loss, s = _reduce(each, reduction, op, dtype, more or {})
    return loss, (slope.astype(dtype, copy=False), s)


def _reduce(each: Array, reduction: str, op: str, dtype: Any, more: dict[str, float]) -> tuple[Array, float]:
    divisors: dict[str, float] = {"mean": max(each.size, 1), "sum": 1, "none": 1, **more}
    if reduction not in divisors:
        raise ParameterError(f"{op}: reduction must be one of {', '.join(divisors)}, got {reduction!r}")
    if reduction == "mean" and each.size == 0:
        raise ShapeError(f"{op}: the mean of an empty batch is undefined (loss of shape {each.shape})")
    divisor = divisors[reduction]
    loss = each if reduction == "none" else sum_widened(each, divisor=divisor)
    return loss.astype(dtype, copy=False), 1.0 / divisor


def scale_slope(dloss: Any, cache: Cache, op: str) -> Array:
    """Return dloss s slope."""
    slope, s = cache
    return (check_upstream(dloss, slope, slope.shape, op) * s) * slope


def times_factor(dloss: Any, s: Any, like: Array) -> Any:
    """Return dloss s, where s is a number, or on a device an array without axes, in a form that does not promote ``like``."""
    return dloss * (s.astype(like.dtype) if hasattr(s, "dtype") else s)


def check_upstream(dloss: Any, slope: Array, shape: tuple[int, ...], op: str) -> Any:
    """Return dloss, a number or an array of the shape of the unreduced loss, in a form that does not promote the slope."""
    if type(dloss) in (float, int):
        return dloss
    if getattr(dloss, "ndim", 0):
        require_float(dloss, "dloss", op)
        require_same_dtype(dloss, slope, "dloss", "the loss", op)
        if dloss.shape != shape:
            raise ShapeError(f"{op}: dloss must be a number or have the shape of the loss, {shape}, got {dloss.shape}")
        return dloss
    return namespace(slope).asarray(dloss, dtype=slope.dtype)


def check_upstream_of_rows(dloss: Any, x: Array, axis: int, op: str) -> Any:
    """Return dloss as :func:`check_upstream`; an array, one for each row of classes, broadcasts against x."""
    dloss = check_upstream(dloss, x, x.shape[:axis] + x.shape[axis + 1 :], op)
    return namespace(x).expand_dims(dloss, axis) if getattr(dloss, "ndim", 0) else dloss  # (N, 1, ...)


def reduce_rows(each: Array, divisor: Any, reduction: str, op: str, dtype: Any) -> tuple[Array, Any]:
    """Return the reduced loss of rows and s; a mean divides by ``divisor``, and is nan if that is 0.

    If the divisor is on a device, so is s.
    """
    if reduction != "mean" or each.size == 0:
        return _reduce(each, reduction, op, dtype, {})
    if hasattr(divisor, "dtype"):
        loss = sum_widened(each, divisor=divisor)  # 0 / 0 is nan
        return loss.astype(dtype), namespace(divisor).where(divisor == 0, 0.0, 1 / divisor)
    loss = sum_widened(each, divisor=divisor or math.nan)
    return loss.astype(dtype), 1 / divisor if divisor else 0.0
