"""Derivatives without subtraction: the complex step.

For an analytic function f, with Taylor's series at x::

    f(x + i h) = f(x) + i h f'(x) - h^2 f''(x) / 2 - ...

so f'(x) = Im f(x + i h) / h up to h^2, and nothing cancels however small h is. With h = 2^-200 the derivative is as exact
as the function itself.
W. Squire, G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40 (1998).

The formulas refuse complex arrays, and rightly so. But they are written against the namespace of their arrays, so an array
type of our own can carry the imaginary part through them. :class:`StepArray` looks real: its dtype is float64, and
comparisons see the real part. Inside it computes with complex numbers. Where a formula chooses between pieces, the real part
chooses, as it would without the step. A function made of analytic pieces is thus differentiated exactly inside each piece.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy

__all__ = ["STEP", "StepArray", "imaginary"]

STEP = 2.0**-200


class StepArray:
    """A complex array that passes for a real one.

    >>> x = StepArray(numpy.array([2.0]) + 1j * STEP)
    >>> y = x * x * x
    >>> float(imaginary(y)[0] / STEP)  # 3 x^2
    12.0
    >>> bool((x > 1)[0]), x.dtype
    (True, dtype('float64'))
    """

    __array_ufunc__ = None  # an ndarray on the left then defers to this class
    __hash__ = None  # type: ignore[assignment]
    dtype = numpy.dtype("float64")

    def __init__(self, values: numpy.ndarray) -> None:
        self.values = numpy.asarray(values, dtype=complex)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return _namespace

    def astype(self, dtype: Any, copy: bool = True) -> StepArray:
        """Return self: there is only one precision."""
        if numpy.dtype(dtype) != self.dtype:
            raise TypeError(f"a complex step works only in float64, not in {numpy.dtype(dtype)}")
        return self

    def __getitem__(self, index: Any) -> Any:
        return _wrap(self.values[index])

    def __setitem__(self, index: Any, new: Any) -> None:
        self.values[index] = _bare(new)

    def __len__(self) -> int:
        return len(self.values)

    def __float__(self) -> float:
        raise TypeError("an element cannot be converted to a float during a complex step")

    def __bool__(self) -> bool:
        return bool(self.values.real)

    def __repr__(self) -> str:
        return f"StepArray({self.values!r})"

    def __getattr__(self, name: str) -> Any:
        if name in _PROPERTIES:
            return getattr(self.values, name)
        if name in ("T", "mT"):
            return StepArray(getattr(self.values, name))
        if name in _METHODS:
            return functools.partial(getattr(_namespace, name), self)
        raise AttributeError(f"a complex step does not go through the array attribute {name!r}")


_PROPERTIES = frozenset({"shape", "ndim", "size"})
_METHODS = frozenset(
    "max min sum mean reshape ravel transpose swapaxes squeeze copy clip cumsum take repeat".split()  # noqa: SIM905
)


def imaginary(array: Any) -> numpy.ndarray:
    """Return the imaginary part; zeros for anything that the step has not reached."""
    return numpy.imag(_bare(array))


def _bare(value: Any) -> Any:
    if isinstance(value, StepArray):
        return value.values
    if isinstance(value, (tuple, list)):
        return type(value)(map(_bare, value))
    return value


def _wrap(value: Any) -> Any:
    if isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind == "c":
        return StepArray(numpy.asarray(value))
    return value


def _real(value: Any) -> Any:
    value = _bare(value)
    return value.real if isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind == "c" else value


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: StepArray, *others: Any) -> Any:
        result = getattr(self.values, name)(*map(_bare, others))
        return NotImplemented if result is NotImplemented else _wrap(result)

    return apply


def _comparison(name: str) -> Callable[..., Any]:
    return lambda self, other: getattr(self.values.real, name)(_real(other))


for _name in ["add", "sub", "mul", "truediv", "pow", "matmul"]:
    setattr(StepArray, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(StepArray, f"__r{_name}__", _operator(f"__r{_name}__"))
for _name in ("__neg__", "__pos__"):
    setattr(StepArray, _name, _operator(_name))
for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    setattr(StepArray, _name, _comparison(_name))


def _abs(x: Any) -> Any:
    x = _bare(x)
    return _wrap(numpy.where(x.real < 0, -x, x))


def _choose(first: Any, second: Any, take_first: Any) -> Any:
    return _wrap(numpy.where(take_first, _bare(first), _bare(second)))


def _maximum(x: Any, y: Any) -> Any:
    return _choose(x, y, _real(x) >= _real(y))


def _minimum(x: Any, y: Any) -> Any:
    return _choose(x, y, _real(x) <= _real(y))


def _clip(x: Any, low: Any, high: Any) -> Any:
    return _minimum(_maximum(x, low), high)


def _extreme(choose: Callable[..., Any], x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    x = _bare(x)
    if axis is None:
        return _wrap(x.ravel()[choose(x.real)])
    best = numpy.expand_dims(choose(x.real, axis=axis), axis)
    found = numpy.take_along_axis(x, best, axis)
    return _wrap(found if keepdims else found.squeeze(axis))


def _of_real_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Apply a function to real parts: it is constant between its jumps, or returns no numbers."""
    return lambda *args, **kwargs: function(*map(_real, args), **kwargs)


def _making(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make arrays: those of real numbers must be able to hold the step when parts of them are set."""

    def make(*args: Any, dtype: Any = float, **kwargs: Any) -> Any:
        real = numpy.dtype(dtype).kind == "f"
        return _wrap(function(*args, dtype=complex if real else dtype, **kwargs))

    return make


class _Namespace:
    """NumPy's functions on StepArrays; functions that are not analytic are taken piece by piece."""

    abs = absolute = staticmethod(_abs)
    maximum = staticmethod(_maximum)
    minimum = staticmethod(_minimum)
    clip = staticmethod(_clip)
    max = amax = staticmethod(functools.partial(_extreme, numpy.argmax))
    min = amin = staticmethod(functools.partial(_extreme, numpy.argmin))
    zeros, ones, empty, full = (
        staticmethod(_making(getattr(numpy, name))) for name in ["zeros", "ones", "empty", "full"]
    )
    sign, trunc, floor, ceil, rint, isnan, isinf, isfinite, argmax, argmin = (
        staticmethod(_of_real_part(getattr(numpy, name)))
        for name in ["sign", "trunc", "floor", "ceil", "rint", "isnan", "isinf", "isfinite", "argmax", "argmin"]
    )

    def __getattr__(self, name: str) -> Any:
        if name in _CONSTANTS:
            return getattr(numpy, name)
        if name not in _ANALYTIC:
            raise AttributeError(f"a complex step does not go through numpy.{name}")
        function = getattr(numpy, name)

        def apply(*args: Any, **kwargs: Any) -> Any:
            return _wrap(function(*map(_bare, args), **{key: _bare(value) for key, value in kwargs.items()}))

        return apply


_CONSTANTS = frozenset({"newaxis", "pi", "e", "inf", "nan", "finfo", "float64", "intp", "int64", "bool_"})
_ANALYTIC = frozenset(
    "add subtract multiply divide negative square sqrt power exp expm1 log log1p sin cos tan sinh cosh tanh arctan "  # noqa: SIM905
    "arcsin arccos matmul dot tensordot einsum outer sum mean prod cumsum where reshape ravel transpose swapaxes "
    "moveaxis squeeze expand_dims broadcast_to concatenate stack split pad take take_along_axis repeat tile flip roll "
    "copy zeros_like ones_like empty_like full_like arange asarray ascontiguousarray nonzero "
    "atleast_1d triu tril".split()
)
_namespace = _Namespace()
