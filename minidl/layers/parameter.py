"""Parameters, and the flat buffer that a model's parameters are views of.

Who writes a gradient, and when it counts as zero, follows from one number. A buffer counts how often its gradients were
zeroed; each parameter notes the count at which its gradient was last written or read.

==============================  ======================  ==========================================
what happens                    parameter's note        what the next backward finds
==============================  ======================  ==========================================
``zero_grad()``                 older than the count    storage to overwrite
backward writes the gradient    equal to the count      storage to add to
somebody reads ``grad``         equal to the count      storage to add to (zeros were filled in)
==============================  ======================  ==========================================

So zeroing takes no time, and a gradient that is written once a step is never filled with zeros first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops import Array, namespace

__all__ = [
    "Parameter",
    "ParameterBuffer",
    "Storage",
    "Trainability",
    "claim_gradients",
    "flatten",
    "release_gradients",
    "run_backward",
    "to_namespace",
]

Storage = tuple[tuple[Array | None, ...], bool, tuple[bool, ...]]
"""The arguments ``into, add, wanted`` of an op's backward; see ``minidl.ops.PARAMETERS``."""


class Trainability:
    """How often any parameter was frozen or unfrozen: whoever plans by what is trained compares this number."""

    changes = 0


class Parameter:
    """A trained array and its gradient, both views into a :class:`ParameterBuffer`.

    A new parameter has a buffer to itself. A model that adopts it moves it into the model's own buffer. So read ``value``
    and ``grad`` when you need them, and keep no reference to them while a model is being built.

    Parameters
    ----------
    value : array
        The initial value, of any floating dtype; copied.
    name : str, default ""
        Shown in messages. Containers name their parameters by path, as ``state_dict`` does.

    Attributes
    ----------
    trainable : bool
        Set it to False to freeze the parameter: backward computes no gradient for it, and optimisers leave it alone.

    Raises
    ------
    DtypeError
        If the value is not floating-point.

    Examples
    --------
    >>> p = Parameter(numpy.ones((2, 3), dtype=numpy.float32), name="weight")
    >>> p.grad += 1.0
    >>> p.buffer.gradients()
    array([1., 1., 1., 1., 1., 1.], dtype=float32)
    """

    __slots__ = ("_grad", "_trainable", "_value", "_written_at", "buffer", "name", "shape", "size", "start")

    starts_at_zero: ClassVar[bool] = False
    """Whether the storage of the gradient must hold zeros before it is first written."""
    buffer: ParameterBuffer
    start: int
    _grad: Array | None  # None until the buffer has gradients

    def __init__(self, value: Array, name: str = "") -> None:
        if not hasattr(value, "dtype"):
            value = numpy.asarray(value)
        if value.dtype.kind != "f":
            raise DtypeError(f"parameter {name!r}: expected a floating-point array, got dtype {value.dtype}")
        self.name = name
        self.shape: tuple[int, ...] = value.shape
        self.size: int = value.size
        self._value = value
        self._grad = None
        self._written_at = -1
        self._trainable = True
        ParameterBuffer([self])

    @property
    def value(self) -> Array:
        """The value, a view into the buffer; assigning copies into it."""
        return self._value

    @value.setter
    def value(self, new: Any) -> None:
        if new is None:
            raise ParameterError(f"parameter {self.name!r}: expected a value of shape {self.shape}, got None")
        if numpy.shape(new) not in (self.shape, ()):
            raise ShapeError(f"parameter {self.name!r}: expected a value of shape {self.shape}, got {numpy.shape(new)}")
        self._value[...] = new

    @property
    def grad(self) -> Array:
        """The gradient, a view into the buffer; assigning copies into it, and None sets it to zero."""
        self._begin_at_zero()
        return self._grad

    @grad.setter
    def grad(self, new: Any) -> None:
        if new is None:
            return self.zero_grad()
        if new is self._grad:  # what `p.grad += g` assigns back
            return None
        if numpy.shape(new) not in (self.shape, ()):
            raise ShapeError(
                f"parameter {self.name!r}: expected a gradient of shape {self.shape}, got {numpy.shape(new)}"
            )
        self.grad_storage()[0][...] = new
        return None

    @property
    def trainable(self) -> bool:
        """Whether the parameter is trained; False freezes it."""
        return self._trainable

    @trainable.setter
    def trainable(self, wanted: bool) -> None:
        if bool(wanted) != self._trainable:
            self._trainable = bool(wanted)
            Trainability.changes += 1

    def accumulate(self, gradient: Array) -> None:
        """Add to the gradient, unless the parameter is frozen; the first time after ``zero_grad`` this is a plain copy."""
        if not self._trainable:
            return
        grad, add = self.grad_storage()
        if add:
            grad += gradient
        else:
            grad[...] = gradient

    def grad_storage(self) -> tuple[Array, bool]:
        """Return where the gradient is kept, and whether it must be added to rather than overwritten.

        Whoever calls this must write the whole gradient. That saves filling it with zeros first. If it is not written, the
        gradient is whatever was in memory.
        """
        if self._grad is None:
            self.buffer.make_gradients()
        return self._grad, self._claim()

    def zero_grad(self) -> None:
        """Set this gradient to zero, in constant time."""
        self.buffer.complete_of_each()
        self._written_at = -1

    @property
    def has_grad(self) -> bool:
        """Whether the gradient was read or written since ``zero_grad``."""
        return self.buffer.zeroed in (self._written_at, self.buffer.complete_at)

    def _claim(self) -> bool:
        """Count the gradient as written from now on; return whether it was written since ``zero_grad``."""
        buffer = self.buffer
        now = buffer.zeroed
        written = self._written_at == now or buffer.complete_at == now
        self._written_at = buffer.touched_at = now
        return written

    def _begin_at_zero(self) -> None:
        """Make the gradient hold zeros where nobody has written it since ``zero_grad``."""
        grad, written = self.grad_storage()
        if not written:
            grad[...] = 0

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """The dtype of value and gradient."""
        return self._value.dtype

    def copied(self) -> Parameter:
        """Return a copy of everything but the arrays, for the copy of a buffer to place."""
        own = object.__new__(type(self))
        for name in Parameter.__slots__:
            setattr(own, name, getattr(self, name))
        return own

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copy.deepcopy(self.buffer, memo)
        return memo[id(self)]

    def __copy__(self) -> Parameter:
        """Return a parameter of its own: two that share their arrays would be one to the optimiser."""
        return copy.deepcopy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle everything but the views, which the pickled buffer makes anew."""
        return _new_parameter, (type(self),), self._state()

    def _state(self) -> dict[str, Any]:
        left_out = ("_grad", "_value", "shape", "size", "start")  # the buffer's state has them
        return {name: getattr(self, name) for name in Parameter.__slots__ if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        frozen = "" if self._trainable else ", frozen"
        return f"{type(self).__name__}({self.name!r}, shape={self.shape}, dtype={self.dtype}{frozen})"


class ParameterBuffer:
    """One contiguous array of values and one of gradients, shared by the parameters of a model.

    The optimiser, clipping, checkpoints and averaging are then one pass over one array each. There are no gradients until
    somebody asks for one, so a model that only predicts holds its values and nothing else.

    Parameters
    ----------
    parameters : sequence of Parameter
        Moved here, in this order, without gaps; all of one dtype.
    xp : module, optional
        The namespace of the arrays; that of the first parameter unless given.
    dtype : dtype, optional
        The dtype of the first parameter unless given.

    Attributes
    ----------
    values : array, shape (P,)
        All values.
    zeroed : int
        How often the gradients were zeroed; see the head of this module.
    touched_at : int
        The count at which a gradient was last read or written.
    complete_at : int
        The count at which all of them had been.
    retired : bool
        True once any of the parameters has been moved to another buffer.
    """

    def __init__(self, parameters: Sequence[Parameter], xp: Any = None, dtype: Any = None) -> None:
        first = parameters[0]._value
        total = sum(parameter.size for parameter in parameters)
        self.values: Array = (xp or namespace(first)).empty(total, dtype=dtype or first.dtype)
        self._gradients: Array | None = None
        self.parameters = list(parameters)
        self.zeroed = 0
        self.touched_at = self.complete_at = -1
        self.retired = False
        start = 0
        for parameter in parameters:
            start = self._adopt(parameter, start)

    def _adopt(self, parameter: Parameter, start: int) -> int:
        """Move the parameter to ``start`` and return where the next one goes."""
        old: ParameterBuffer | None = getattr(parameter, "buffer", None)
        old_grad = parameter._grad if old is not None and parameter.has_grad else None
        if old is not None:
            old.retired = True
        stop = start + parameter.size
        value = self.values[start:stop].reshape(parameter.shape)
        value[...] = to_namespace(parameter._value, namespace(value))
        parameter.buffer, parameter.start, parameter._value = self, start, value
        parameter._grad, parameter._written_at = None, -1
        if self._gradients is not None:
            parameter._grad = self._gradients[start:stop].reshape(parameter.shape)
        if old_grad is not None:
            parameter.grad_storage()[0][...] = to_namespace(old_grad, namespace(value))
        return stop

    def make_gradients(self) -> None:
        """Allocate the gradients, if they do not exist yet."""
        if self._gradients is not None:
            return
        xp = namespace(self.values)
        make = xp.zeros if any(p.starts_at_zero for p in self.parameters) else xp.empty
        self._gradients = make(self.values.shape, dtype=self.values.dtype)
        for parameter in self.parameters:
            if parameter.buffer is self:
                stop = parameter.start + parameter.size
                parameter._grad = self._gradients[parameter.start : stop].reshape(parameter.shape)

    def gradients(self) -> Array:
        """Return all gradients as one array of shape (P,), those not computed since ``zero_grad`` as zeros."""
        now = self.zeroed
        if self._gradients is None:
            self.make_gradients()
        if self.complete_at != now:
            for parameter in self.parameters:
                if parameter.buffer is self and (parameter._written_at != now or parameter.starts_at_zero):
                    _ = parameter.grad  # zeros, and whoever gets this array may write to it
            self.complete_at = self.touched_at = now
        return self._gradients

    def gradients_of(self, parameters: Iterable[Parameter], start: int, stop: int) -> Array:
        """Return the gradients from ``start`` to ``stop``, where these parameters lie; those not computed are zeros."""
        self.make_gradients()
        for parameter in parameters:
            parameter._begin_at_zero()
        return self._gradients[start:stop]  # type: ignore[index]

    def claim_untouched(self) -> bool:
        """Promise to write every gradient, if none was read or written since ``zero_grad``; return whether it is so."""
        now = self.zeroed
        if self.touched_at == now:
            return False
        self.touched_at = self.complete_at = now
        return True

    def take_back_claim(self) -> None:
        """Say that after a promise to write every gradient not all were written."""
        self.touched_at = self.complete_at = self.zeroed - 1

    def complete_of_each(self) -> None:
        """Note of each parameter by itself what was only known of all of them: that their gradients were written."""
        if self.complete_at == self.zeroed:
            for parameter in self.parameters:
                if parameter.buffer is self:
                    parameter._written_at = self.zeroed
            self.complete_at = -1

    def zero_grad(self) -> None:
        """Set all gradients to zero, in constant time."""
        self.zeroed += 1

    def __deepcopy__(self, memo: dict[int, Any]) -> ParameterBuffer:
        """Copy the arrays once and make the copied parameters views of the copy."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, values=self.values.copy(), parameters=[], retired=False)
        twin._gradients = None if self._gradients is None else self._gradients.copy()
        for parameter in self.parameters:
            if parameter.buffer is not self:
                continue
            own = memo[id(parameter)] = parameter.copied()
            stop = own.start + own.size
            own.buffer, own._value = twin, twin.values[own.start : stop].reshape(own.shape)
            own._grad = None if twin._gradients is None else twin._gradients[own.start : stop].reshape(own.shape)
            twin.parameters.append(own)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Return plain arrays and, for each parameter, where it lies in them."""
        own = [parameter for parameter in self.parameters if parameter.buffer is self]
        places = [(parameter.start, parameter.shape) for parameter in own]
        return {**vars(self), "parameters": own, "places": places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        places = state.pop("places")
        vars(self).update(state)
        for parameter, (start, shape) in zip(self.parameters, places, strict=True):
            parameter.buffer, parameter.start, parameter.shape = self, start, shape
            parameter.size = math.prod(shape)
            stop = start + parameter.size
            parameter._value = self.values[start:stop].reshape(shape)
            parameter._grad = None if self._gradients is None else self._gradients[start:stop].reshape(shape)

    def __repr__(self) -> str:
        return f"ParameterBuffer({len(self.parameters)} parameters, {self.values.size} values of {self.values.dtype})"


def _new_parameter(kind: type[Parameter]) -> Parameter:
    """Make what unpickling fills."""
    return object.__new__(kind)


def to_namespace(array: Array, xp: Any) -> Array:
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


def claim_gradients(parameters: Sequence[Parameter | None], input_gradient: bool = True) -> Storage:
    """Return where a backward writes the gradients of its parameters, whether it adds, and which gradients are wanted.

    Whoever calls this must have every wanted gradient written; see :meth:`Parameter.grad_storage`.

    Parameters
    ----------
    parameters : sequence of Parameter or None
        In the order of the op. A parameter that is frozen or missing gets no gradient.
    input_gradient : bool, default True
        Whether dx is wanted.

    Examples
    --------
    >>> weight, bias = Parameter(numpy.zeros((2, 2))), Parameter(numpy.zeros(2))
    >>> bias.trainable = False
    >>> into, add, wanted = claim_gradients((weight, bias))
    >>> into[0].shape, into[1], add, wanted
    ((2, 2), None, False, (True, True, False))
    """
    if len(parameters) == 2:  # a weight and a bias, which every backward of a linear layer comes with
        weight, bias = parameters
        if type(weight) is Parameter and weight._trainable and weight._grad is not None:
            buffer = weight.buffer
            now = buffer.zeroed
            add = weight._written_at == now or buffer.complete_at == now
            if bias is None:
                weight._written_at = buffer.touched_at = now
                return (weight._grad, None), add, (input_gradient, True, False)
            alike = type(bias) is Parameter and bias._trainable and bias.buffer is buffer
            if alike and (bias._written_at == now or buffer.complete_at == now) == add:
                weight._written_at = bias._written_at = buffer.touched_at = now
                return (weight._grad, bias._grad), add, (input_gradient, True, True)
    into: list[Array | None] = []
    wanted = [input_gradient]
    unwritten: list[Parameter] = []
    for parameter in parameters:
        if parameter is None or not parameter._trainable:
            into.append(None)
            wanted.append(False)
            continue
        storage, written = parameter.grad_storage()
        into.append(storage)
        wanted.append(True)
        if not written:
            unwritten.append(parameter)
    add = len(unwritten) < sum(wanted[1:])
    if add:  # somebody read or wrote some of them, so the others start at zero
        for parameter in unwritten:
            parameter._grad[...] = 0  # type: ignore[index]
    return tuple(into), add, tuple(wanted)


def run_backward(
    backward: Callable[..., Any],
    arguments: tuple[Any, ...],
    parameters: tuple[Parameter | None, ...],
    input_gradient: bool = True,
) -> Any:
    """Call an op's backward with the gradients of the parameters written where they belong; return dx.

    Parameters
    ----------
    backward : callable
        Called with the arguments, then ``into``, ``add`` and ``wanted``.
    arguments : tuple
        dy, the cache, and what else comes before ``into``.
    parameters : tuple of Parameter or None
        In the order of the op.
    input_gradient : bool, default True
        Whether dx is wanted; None is returned if not.
    """
    storage = into, add, wanted = claim_gradients(parameters, input_gradient)
    try:
        return backward(*arguments, into, add, wanted)[0]
    except BaseException:
        release_gradients(parameters, storage)
        raise


def release_gradients(parameters: Iterable[Parameter | None], storage: Storage) -> None:
    """Take back what :func:`claim_gradients` promised, after an error kept the gradients from being written."""
    _, add, wanted = storage
    for parameter, was_wanted in zip(parameters, wanted[1:], strict=True):
        if was_wanted and not add and parameter is not None:
            parameter.zero_grad()
