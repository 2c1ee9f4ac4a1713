"""Parameters, and the one flat buffer that a model's parameters are views of."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops import Array, namespace

__all__ = ["Parameter", "ParameterBuffer", "flatten", "joint_storage"]


class Parameter:
    """A trained array and its gradient, both views into a :class:`ParameterBuffer`.

    A new parameter has a buffer to itself; a model that adopts it moves it into the model's. So read ``value`` and
    ``grad`` when you need them and keep no reference to them across the building of a model.

    Parameters
    ----------
    value : array
        The initial value; copied. Any floating dtype.
    name : str
        Shown in messages; containers name their parameters by path, as ``state_dict`` does.

    Examples
    --------
    >>> p = Parameter(numpy.ones((2, 3), dtype=numpy.float32), name="weight")
    >>> p.grad += 1.0
    >>> p.buffer.gradients()
    array([1., 1., 1., 1., 1., 1.], dtype=float32)
    """

    __slots__ = ("_grad", "_value", "_written_at", "buffer", "name", "shape", "size", "start")

    buffer: ParameterBuffer
    start: int
    _grad: Array

    def __init__(self, value: Array, name: str = "") -> None:
        if not hasattr(value, "dtype"):
            value = numpy.asarray(value)
        if value.dtype.kind != "f":
            raise DtypeError(f"parameter {name!r}: expected a floating-point array, got dtype {value.dtype}")
        self.name = name
        self.shape: tuple[int, ...] = value.shape
        self.size: int = value.size
        self._value = value
        self._written_at = -1
        ParameterBuffer([self])

    @property
    def value(self) -> Array:
        """The value, a view into the buffer; assigning copies into it."""
        return self._value

    @value.setter
    def value(self, new: Any) -> None:
        if numpy.shape(new) not in (self.shape, ()):
            raise ShapeError(f"parameter {self.name!r}: expected a value of shape {self.shape}, got {numpy.shape(new)}")
        self._value[...] = new

    @property
    def grad(self) -> Array:
        """The gradient, a view into the buffer; assigning copies into it."""
        if not self._claim():
            self._grad[...] = 0
        return self._grad

    @grad.setter
    def grad(self, new: Any) -> None:
        if new is self._grad:  # what `p.grad += g` assigns back
            return
        if numpy.shape(new) not in (self.shape, ()):
            raise ShapeError(
                f"parameter {self.name!r}: expected a gradient of shape {self.shape}, got {numpy.shape(new)}"
            )
        self.grad_storage()[0][...] = new

    def accumulate(self, gradient: Array) -> None:
        """Add to the gradient; the first time after ``zero_grad`` this is a plain copy."""
        grad, accumulate = self.grad_storage()
        if accumulate:
            grad += gradient
        else:
            grad[...] = gradient

    def grad_storage(self) -> tuple[Array, bool]:
        """Return where the gradient is kept and whether it must be added to rather than overwritten.

        Calling this is a promise to write the whole gradient: it saves filling it with zeros first.
        """
        return self._grad, self._claim()

    def _claim(self) -> bool:
        """Count the gradient as written from now on; return whether it was since ``zero_grad``."""
        buffer = self.buffer
        now = buffer.zeroed
        written = self._written_at == now or buffer.complete_at == now
        self._written_at = buffer.touched_at = now
        return written

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """The dtype of value and gradient."""
        return self._value.dtype

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copy.deepcopy(self.buffer, memo)
        return memo[id(self)]

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, shape={self.shape}, dtype={self.dtype})"


class ParameterBuffer:
    """One contiguous array of values and one of gradients, shared by the parameters of a model.

    The optimiser, clipping, checkpoints and averaging are then one pass over one array each.

    Parameters
    ----------
    parameters : sequence of Parameter
        Moved here, in this order, without gaps; all of one dtype.

    Attributes
    ----------
    values : array, shape (P,)
        All values.
    zeroed : int
        How often the gradients were zeroed. ``zero_grad`` only counts: each gradient is overwritten by the next
        ``backward`` or filled with zeros when somebody reads it, whichever comes first.
    touched_at : int
        The count at which a gradient was last read or written.
    complete_at : int
        The count at which all of them had been.
    retired : bool
        True once any of the parameters has been moved to another buffer.
    """

    def __init__(self, parameters: Sequence[Parameter], xp: Any = None, dtype: Any = None) -> None:
        first = parameters[0]._value
        xp = xp or namespace(first)
        total = sum(parameter.size for parameter in parameters)
        self.values: Array = xp.empty(total, dtype=dtype or first.dtype)
        self._gradients: Array = xp.empty_like(self.values)
        self.parameters = list(parameters)
        self.zeroed = 0
        self.touched_at = self.complete_at = -1
        self.retired = False
        start = 0
        for parameter in parameters:
            start = self._adopt(parameter, start, xp)

    def _adopt(self, parameter: Parameter, start: int, xp: Any) -> int:
        """Move the parameter to ``start`` and return where the next one goes."""
        old = getattr(parameter, "buffer", None)
        has_grad = old is not None and old.zeroed in (parameter._written_at, old.complete_at)
        old_value, old_grad = parameter._value, getattr(parameter, "_grad", None)
        if old is not None:
            old.retired = True
        stop = start + parameter.size
        parameter._value = self.values[start:stop].reshape(parameter.shape)
        parameter._grad = self._gradients[start:stop].reshape(parameter.shape)
        parameter._value[...] = brought(old_value, xp)
        if has_grad:
            parameter._grad[...] = brought(old_grad, xp)
        parameter._written_at = self.zeroed if has_grad else -1
        if has_grad:
            self.touched_at = self.zeroed
        parameter.buffer, parameter.start = self, start
        return stop

    def gradients(self) -> Array:
        """Return all gradients as one array of shape (P,), those not computed since ``zero_grad`` as zeros."""
        if self.complete_at != self.zeroed:
            for parameter in self.parameters:
                if parameter.buffer is self and not parameter._claim():
                    parameter._grad[...] = 0
            self.complete_at = self.touched_at = self.zeroed
        return self._gradients

    def claim_untouched(self) -> bool:
        """Promise to write every gradient, if nobody has read or written any since ``zero_grad``; return whether it is so."""
        now = self.zeroed
        if self.touched_at == now:
            return False
        self.touched_at = self.complete_at = now
        return True

    def take_back_claim(self) -> None:
        """Say that after a promise to write every gradient not all were written."""
        self.touched_at = self.complete_at = self.zeroed - 1

    def zero_grad(self) -> None:
        """Set all gradients to zero, in constant time."""
        self.zeroed += 1

    def __deepcopy__(self, memo: dict[int, Any]) -> ParameterBuffer:
        """Copy the arrays once and make the copied parameters views of the copy."""
        twin = memo[id(self)] = object.__new__(ParameterBuffer)
        twin.values, twin._gradients = self.values.copy(), self._gradients.copy()
        twin.zeroed, twin.retired, twin.parameters = self.zeroed, False, []
        twin.touched_at, twin.complete_at = self.touched_at, self.complete_at
        for parameter in self.parameters:
            if parameter.buffer is not self:
                continue
            own = memo[id(parameter)] = object.__new__(Parameter)
            own.name, own.shape, own.size, own.start = parameter.name, parameter.shape, parameter.size, parameter.start
            stop = own.start + own.size
            own._value = twin.values[own.start : stop].reshape(own.shape)
            own._grad = twin._gradients[own.start : stop].reshape(own.shape)
            own._written_at, own.buffer = parameter._written_at, twin
            twin.parameters.append(own)
        return twin

    def __repr__(self) -> str:
        return f"ParameterBuffer({len(self.parameters)} parameters, {self.values.size} values of {self.values.dtype})"


def brought(array: Array, xp: Any) -> Array:
    """Return the array in namespace ``xp``, copied across the bus only if it has to be."""
    if namespace(array) is xp:
        return array
    return xp.asarray(array.get() if hasattr(array, "get") else array)


def flatten(parameters: Iterable[Parameter]) -> list[ParameterBuffer]:
    """Make the parameters views of as few buffers as their dtypes allow (one, normally), in the order given.

    Parameters that already are one whole buffer in this order stay where they are.

    Raises
    ------
    ParameterError
        If something in the list is no :class:`Parameter`.

    Examples
    --------
    >>> a, b = Parameter(numpy.zeros(2)), Parameter(numpy.ones(3))
    >>> [buffer] = flatten([a, b])
    >>> buffer.values
    array([0., 0., 1., 1., 1.])
    """
    groups: dict[Any, list[Parameter]] = {}
    parameters = list(parameters)
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise ParameterError(f"expected minidl.Parameter objects, got {type(parameter).__name__}")
    for parameter in dict.fromkeys(parameters):
        groups.setdefault((parameter.dtype, namespace(parameter.value)), []).append(parameter)
    return [
        group[0].buffer if _is_whole(group[0].buffer, group) else ParameterBuffer(group) for group in groups.values()
    ]


def _is_whole(buffer: ParameterBuffer, parameters: list[Parameter]) -> bool:
    return not buffer.retired and buffer.parameters == parameters


def joint_storage(weight: Parameter, bias: Parameter | None) -> tuple[Array, Array | None, bool]:
    """Return where the gradients of a weight and its bias go, and whether they are to be added to what is there.

    Calling this is a promise to write both; see :meth:`Parameter.grad_storage`.
    """
    buffer = weight.buffer  # what follows is `_claim` for both, written out because every backward comes through here
    now = buffer.zeroed
    accumulate = weight._written_at == now or buffer.complete_at == now
    weight._written_at = buffer.touched_at = now
    if bias is None:
        return weight._grad, None, accumulate
    buffer = bias.buffer
    now = buffer.zeroed
    if (bias._written_at == now or buffer.complete_at == now) != accumulate:  # somebody read or wrote one of the two
        (bias._grad if accumulate else weight._grad)[...] = 0  # so the other starts at 0
        accumulate = True
    bias._written_at = buffer.touched_at = now
    return weight._grad, bias._grad, accumulate
