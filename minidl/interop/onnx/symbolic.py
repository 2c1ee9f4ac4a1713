"""The functions of NumPy that layers call, for symbols: ``minidl.ops.namespace(x)`` returns this module's object for a symbol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import OrderError
from minidl.interop.onnx.drawing import Drawing, Symbol, broadcast
from minidl.interop.onnx.lengths import Length

__all__ = ["Namespace"]

UNARY = {
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "absolute": "Abs",
    "floor": "Floor",
    "ceil": "Ceil",
    "sign": "Sign",
    "sin": "Sin",
    "cos": "Cos",
    "tanh": "Tanh",
    "negative": "Neg",
    "isnan": "IsNaN",
    "logical_not": "Not",
}
"""Functions of one array, and the operator of each."""
REDUCTIONS = {"sum": "Sum", "mean": "Mean", "max": "Max", "min": "Min", "amax": "Max", "amin": "Min", "prod": "Prod"}


class Namespace:
    """NumPy's functions on symbols; a function that is not here is an error that names it."""

    __name__ = "minidl.interop.onnx"

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing

    def __getattr__(self, name: str) -> Any:
        if name in UNARY:
            dtype = "bool" if name.startswith(("is", "logical")) else None
            return lambda x: self.drawing.one(UNARY[name], self._of(x), dtype=dtype)
        if name in REDUCTIONS:
            return lambda x, axis=None, keepdims=False, **how: self._of(x).reduce(REDUCTIONS[name], axis, keepdims)
        if isinstance(getattr(numpy, name, None), (type, numpy.dtype)) or name in ("inf", "pi", "newaxis"):
            return getattr(numpy, name)
        raise OrderError(
            f"export: numpy.{name} of an array of the model has no rule; write it with minidl.ops or operators"
        )

    def _of(self, x: Any) -> Symbol:
        return x if isinstance(x, Symbol) else self.drawing.symbol(x)

    # making arrays ---------------------------------------------------------------------------------------------------

    def asarray(self, x: Any, dtype: Any = None, **how: Any) -> Symbol:
        x = self._of(x)
        return x if dtype is None else x.astype(dtype)

    ascontiguousarray = array = asarray

    def full(self, shape: Any, value: Any, dtype: Any = None, **how: Any) -> Symbol:
        shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        value = numpy.asarray(value, dtype)
        if not any(isinstance(n, Length) for n in shape):
            return self.drawing.symbol(numpy.full(shape, value))
        return self.broadcast_to(self.drawing.symbol(value), shape)

    def zeros(self, shape: Any, dtype: Any = "float64", **how: Any) -> Symbol:
        return self.full(shape, 0, dtype)

    def ones(self, shape: Any, dtype: Any = "float64", **how: Any) -> Symbol:
        return self.full(shape, 1, dtype)

    def zeros_like(self, x: Any, dtype: Any = None) -> Symbol:
        return self.full(x.shape, 0, x.dtype if dtype is None else dtype)

    def empty(self, shape: Any, dtype: Any = "float64", **how: Any) -> Symbol:
        raise OrderError(
            "export: an array that is filled in place has no rule; put parts together with concatenate or stack"
        )

    def arange(self, *bounds: Any, dtype: Any = "int64") -> Symbol:
        start, stop, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1) if len(bounds) == 2 else bounds
        if not any(isinstance(n, Length) for n in (start, stop, step)):
            return self.drawing.symbol(numpy.arange(start, stop, step, dtype=dtype))
        parts = [self.drawing.number(n, "int64") for n in (start, stop, step)]
        shape = (stop - start,) if step == 1 else ((stop - start + step - 1) // step,)
        y = self.drawing.add("Range", parts, [(shape, numpy.dtype("int64"))], since=11)[0]
        return y.astype(dtype)

    # shapes ----------------------------------------------------------------------------------------------------------

    def broadcast_to(self, x: Any, shape: Sequence[Any]) -> Symbol:
        x = self._of(x)
        if x.shape == tuple(shape) and not any(isinstance(n, Length) for n in shape):
            return x
        return self.drawing.one("Expand", x, self.drawing.shape(shape), shape=shape)

    def concatenate(self, parts: Sequence[Any], axis: int = 0) -> Symbol:
        found = [self._of(part) for part in parts]
        dtype = numpy.result_type(*(part.dtype for part in found))
        found = [part.astype(dtype) for part in found]
        axis %= found[0].ndim
        total: Any = 0
        for part in found:
            total = part.shape[axis] + total
        if len(found) == 1:
            return found[0]
        shape = (*found[0].shape[:axis], total, *found[0].shape[axis + 1 :])
        return self.drawing.one("Concat", *found, shape=shape, axis=axis)

    def stack(self, parts: Sequence[Any], axis: int = 0) -> Symbol:
        found = [self._of(part) for part in parts]
        return self.concatenate([part.unsqueeze(axis % (part.ndim + 1)) for part in found], axis % (found[0].ndim + 1))

    def expand_dims(self, x: Any, axis: int) -> Symbol:
        return self._of(x).unsqueeze(axis % (x.ndim + 1))

    def reshape(self, x: Any, shape: Any) -> Symbol:
        return self._of(x).reshape(shape)

    def transpose(self, x: Any, axes: Any = None) -> Symbol:
        return self._of(x).transpose(*([] if axes is None else [axes]))

    def swapaxes(self, x: Any, one: int, other: int) -> Symbol:
        return self._of(x).swapaxes(one, other)

    def take(self, x: Any, ids: Any, axis: int = 0) -> Symbol:
        return self._of(x).take(ids, axis)

    # elementwise -----------------------------------------------------------------------------------------------------

    def where(self, condition: Any, x: Any, y: Any) -> Symbol:
        dtype = numpy.result_type(*(part.dtype if isinstance(part, Symbol) else part for part in (x, y)))
        parts = [
            part.astype(dtype) if isinstance(part, Symbol) else self.drawing.symbol(numpy.asarray(part, dtype))
            for part in (x, y)
        ]
        condition = self._of(condition)
        shape = broadcast(condition.shape, *(part.shape for part in parts))
        return self.drawing.one("Where", condition, *parts, shape=shape, dtype=dtype)

    def maximum(self, x: Any, y: Any) -> Symbol:
        return self._of(x).binary("Max", x, y)

    def minimum(self, x: Any, y: Any) -> Symbol:
        return self._of(x).binary("Min", x, y)

    def matmul(self, x: Any, y: Any) -> Symbol:
        return self._of(x) @ y
