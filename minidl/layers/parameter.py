"""Parameters, and the flat buffer that the parameters of a model are views of.

Zeroing gradients costs nothing, and no gradient is filled with zeros before it is written. For this a buffer counts how
often its gradients were zeroed (``zeroed``), and each parameter notes the count at which its gradient was last written or
read (``_written_at``). The gradient is current if the two are equal, and counts as zero otherwise.

==============================  ====================  ============================  ====================================
event                           the array             afterwards                    the next backward
==============================  ====================  ============================  ====================================
a parameter is made             does not exist        not current                   allocates it and overwrites it
``zero_grad()``                 stays as it is        not current: count + 1        overwrites it
a backward writes the gradient  holds the gradient    current: noted = count        adds to it
``p.grad`` is read              is set to zero first  current: noted = count        adds to it
                                if it is not current
the parameter is frozen         stays as it is        as before                     leaves it alone
==============================  ====================  ============================  ====================================

Four things write gradients: the backwards of ops, into what :func:`claim_gradients` returns; :meth:`Parameter.accumulate`,
for backwards that compute a gradient as an array; ``TableParameter.add_rows``, for tables of which a step uses a few rows;
and whoever assigns to ``p.grad``. A backward of several parameters, such as weight and bias, either overwrites all of
their gradients or adds to all: if some are current, the others are filled with zeros.
"""

from __future__ import annotations

import contextlib
import copy
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy

from minidl import init
from minidl.arrays import to_host
from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops import Array, namespace

__all__ = [
    "Parameter",
    "ParameterBuffer",
    "Storage",
    "claim_gradients",
    "flatten",
    "on_device_of",
    "own_array",
    "place_of",
    "release_gradients",
    "run_backward",
    "structure",
    "to_namespace",
]

Storage = tuple[tuple[Array | None, ...], bool, tuple[bool, ...]]
"""The arguments ``into``, ``add`` and ``wanted`` of the backward of an op; see ``minidl.ops._gradients``."""


class _Structure:
    """A count of the changes to what steps are planned by, in any model.

    A step looks up its arrays once, and again only when the count has changed. It grows when a parameter is frozen or trained
    again, moved to another buffer, or assigned to an attribute of a layer, and when a layer's settings are assigned. Whoever
    changes such a thing does so first and counts afterwards, so a plan that was made in between is merely made again.

    Attributes
    ----------
    changes : int
    lock : threading.RLock
        Held while parameters are made or moved because somebody uses a model for the first time, which several threads may do
        at once.
    """

    def __init__(self) -> None:
        self.changes = 0
        self.lock = threading.RLock()


structure = _Structure()  # an instance, because Python reads an attribute of a class more slowly


class Parameter:
    """An array that is trained, and its gradient, both views into a :class:`ParameterBuffer`.

    A new parameter has a buffer of its own. A model moves its parameters into one buffer when it is built. Read ``value``
    and ``grad`` when you need them, because references to them from before do not follow.

    Parameters
    ----------
    value : array
        The initial value, of any floating-point dtype; copied.
    name : str, default ""
        For messages. ``state_dict`` uses the path instead.

    Attributes
    ----------
    value, grad : array
    trainable : bool
        False freezes the parameter: backwards compute no gradient for it, and optimisers do not change it.
    shape : tuple of int
    size : int
    dtype : dtype

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

    __slots__ = ("_grad", "_trainable", "_undrawn", "_value", "_written_at", "buffer", "name", "shape", "size", "start")

    starts_at_zero: ClassVar[bool] = False
    """Whether the storage of the gradient is filled with zeros when it is allocated."""
    buffer: ParameterBuffer
    start: int
    _grad: Array | None  # None until the buffer has gradients
    _undrawn: bool  # made inside init.undrawn(), and not read from a file since

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
        self._undrawn = init.is_undrawn()
        if self._undrawn:
            ParameterBuffer([self], values=namespace(value).zeros(self.size, dtype=value.dtype))
        else:
            ParameterBuffer([self])

    @property
    def value(self) -> Array:
        """The value, a view into the buffer. Assigning copies into the view, also from the host to a GPU."""
        return self._value

    @value.setter
    def value(self, new: Any) -> None:
        if new is None:
            raise ParameterError(f"parameter {self.name!r}: expected a value of shape {self.shape}, got None")
        if numpy.shape(new) not in (self.shape, ()):
            raise ShapeError(f"parameter {self.name!r}: expected a value of shape {self.shape}, got {numpy.shape(new)}")
        self._value[...] = _beside(self._value, new)

    @property
    def grad(self) -> Array:
        """The gradient, a view into the buffer. Assigning copies into the view; None sets the gradient to zero."""
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
        self.grad_storage()[0][...] = _beside(self._value, new)
        return None

    @property
    def trainable(self) -> bool:
        """Whether the parameter is trained. False freezes it."""
        return self._trainable

    @trainable.setter
    def trainable(self, wanted: bool) -> None:
        if bool(wanted) != self._trainable:
            self._trainable = bool(wanted)
            structure.changes += 1

    def accumulate(self, gradient: Array) -> None:
        """Add to the gradient, or overwrite it if it is zero. Do nothing if the parameter is frozen."""
        if not self._trainable:
            return
        grad, add = self.grad_storage()
        if add:
            grad += gradient
        else:
            grad[...] = gradient

    def grad_storage(self) -> tuple[Array, bool]:
        """Return the storage of the gradient, and whether to add to it. If not, it must be overwritten as a whole.

        The gradient counts as written from now on, although the storage may hold anything. So the caller must write it.
        """
        if self._grad is None:
            self.buffer.make_gradients()
        return self._grad, self._claim()

    def zero_grad(self) -> None:
        """Set this gradient to zero. This costs nothing; see the head of this module."""
        self.buffer.note_each_as_written()
        self._written_at = -1

    @property
    def has_grad(self) -> bool:
        """Whether the gradient was read or written since ``zero_grad``."""
        return self.buffer.zeroed in (self._written_at, self.buffer.complete_at)

    def _claim(self) -> bool:
        """Note the gradient as written; return whether it already was since ``zero_grad``."""
        buffer = self.buffer
        now = buffer.zeroed
        written = self._written_at == now or buffer.complete_at == now
        self._written_at = buffer.touched_at = now
        return written

    def _begin_at_zero(self) -> None:
        """Fill the gradient with zeros, unless it was written since ``zero_grad``."""
        grad, written = self.grad_storage()
        if not written:
            grad[...] = 0

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """The dtype of value and gradient."""
        return self._value.dtype

    def copy_for(self, buffer: ParameterBuffer) -> Parameter:
        """Return a copy whose arrays are views into the copy of a buffer."""
        own = object.__new__(type(self))
        for name in Parameter.__slots__:
            setattr(own, name, getattr(self, name))
        stop = own.start + own.size
        own.buffer, own._value = buffer, buffer.values[own.start : stop].reshape(own.shape)
        own._grad = None if buffer._gradients is None else buffer._gradients[own.start : stop].reshape(own.shape)
        return own

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copy.deepcopy(self.buffer, memo)
        return memo[id(self)]

    def __copy__(self) -> Parameter:
        """Return a deep copy, because an optimiser would take two parameters with the same arrays for one."""
        return copy.deepcopy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle everything but the views, which the buffer makes again when it is unpickled."""
        return _new_parameter, (type(self),), self._state()

    def _state(self) -> dict[str, Any]:
        left_out = ("_grad", "_value", "shape", "size", "start")  # in the state of the buffer
        return {name: getattr(self, name) for name in Parameter.__slots__ if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        frozen = "" if self._trainable else ", frozen"
        return f"{type(self).__name__}({self.name!r}, shape={self.shape}, dtype={self.dtype}{frozen})"


class ParameterBuffer:
    """One contiguous array of values, and one of gradients, for the parameters of a model.

    Optimisers, clipping, checkpoints and averaging then need one pass over one array. The gradients are allocated when one
    is first used, so a model that only predicts holds its values and nothing else.

    Parameters
    ----------
    parameters : sequence of Parameter
        All of one dtype. They are moved here in this order, without gaps.
    xp : module, optional
        The namespace of the arrays, which are made on its current device; by default they are where the first parameter is.
    dtype : dtype, optional
        By default that of the first parameter.
    values : array, shape (P,), optional
        The storage, if it is there and holds the values already. They are not copied then.

    Attributes
    ----------
    values : array, shape (P,)
    zeroed : int
        How often the gradients were zeroed; see the head of this module.
    touched_at : int
        The count at which a gradient was last read or written.
    complete_at : int
        The count at which all gradients were known to be read or written.
    retired : bool
        Whether a parameter was moved to another buffer.
    """

    def __init__(
        self, parameters: Sequence[Parameter], xp: Any = None, dtype: Any = None, values: Array | None = None
    ) -> None:
        first = parameters[0]._value
        total = sum(parameter.size for parameter in parameters)
        copied = values is None
        with on_device_of(first) if xp is None else contextlib.nullcontext(xp) as makes:
            self.values: Array = makes.empty(total, dtype=dtype or first.dtype) if copied else values
        self._gradients: Array | None = None
        self.parameters = list(parameters)
        self._has_tables = any(parameter.starts_at_zero for parameter in parameters)
        self.zeroed = 0
        self.touched_at = self.complete_at = -1
        self.retired = False
        start = 0
        with on_device_of(self.values):
            for parameter in parameters:
                start = self._adopt(parameter, start, copied)

    def _adopt(self, parameter: Parameter, start: int, copied: bool) -> int:
        """Move the parameter to ``start``; return the end of its values, where the next one starts."""
        old: ParameterBuffer | None = getattr(parameter, "buffer", None)
        old_grad = parameter._grad if old is not None and parameter.has_grad else None
        if old is not None:
            old.retired = True
        stop = start + parameter.size
        value = self.values[start:stop].reshape(parameter.shape)
        if copied:
            value[...] = to_namespace(parameter._value, namespace(value))
        parameter.buffer, parameter.start, parameter._value = self, start, value
        parameter._grad, parameter._written_at = None, -1
        if self._gradients is not None:
            parameter._grad = self._gradients[start:stop].reshape(parameter.shape)
        if old is not None:
            structure.changes += 1
        if old_grad is not None:
            parameter.grad_storage()[0][...] = to_namespace(old_grad, namespace(value))
        return stop

    def make_gradients(self) -> None:
        """Allocate the gradients if necessary."""
        if self._gradients is not None:
            return
        with on_device_of(self.values) as xp:
            make = xp.zeros if self._has_tables else xp.empty
            self._gradients = make(self.values.shape, dtype=self.values.dtype)
        for parameter in self.parameters:
            if parameter.buffer is self:
                stop = parameter.start + parameter.size
                parameter._grad = self._gradients[parameter.start : stop].reshape(parameter.shape)

    def gradients(self) -> Array:
        """Return all gradients as one array of shape (P,), with zeros for those not computed since ``zero_grad``."""
        now = self.zeroed
        if self._gradients is None:
            self.make_gradients()
        if self.complete_at != now:
            for parameter in self.parameters:
                if (parameter._written_at != now or self._has_tables) and parameter.buffer is self:
                    _ = parameter.grad  # fills in zeros; the caller may write to any gradient from now on
            self.complete_at = self.touched_at = now
        return self._gradients

    def gradients_of(self, parameters: Iterable[Parameter], start: int, stop: int) -> Array:
        """Return the gradients of adjacent parameters, from ``start`` to ``stop``, with zeros for those not computed."""
        self.make_gradients()
        for parameter in parameters:
            parameter._begin_at_zero()
        return self._gradients[start:stop]  # type: ignore[index]

    def claim_untouched(self) -> bool:
        """Claim all gradients to overwrite them, if none was read or written since ``zero_grad``; return whether it worked."""
        now = self.zeroed
        if self.touched_at == now:
            return False
        self.touched_at = self.complete_at = now
        return True

    def take_back_claim(self) -> None:
        """Undo :meth:`claim_untouched`, after an error: all gradients are zero again."""
        self.touched_at = self.complete_at = self.zeroed - 1

    def note_each_as_written(self) -> None:
        """Note for each parameter what the buffer knows of all: that the gradient was written."""
        if self.complete_at == self.zeroed:
            for parameter in self.parameters:
                if parameter.buffer is self:
                    parameter._written_at = self.zeroed
            self.complete_at = -1

    def zero_grad(self) -> None:
        """Set all gradients to zero. This costs nothing; see the head of this module."""
        self.zeroed += 1

    def __deepcopy__(self, memo: dict[int, Any]) -> ParameterBuffer:
        """Copy the arrays once and make the copied parameters views of the copy."""
        twin = memo[id(self)] = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, values=self.values.copy(), parameters=[], retired=False)
        twin._gradients = None if self._gradients is None else self._gradients.copy()
        for parameter in self.parameters:
            if parameter.buffer is not self:
                continue
            own = memo[id(parameter)] = parameter.copy_for(twin)
            twin.parameters.append(own)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Return the arrays, and the start and shape of each parameter in them."""
        own = [parameter for parameter in self.parameters if parameter.buffer is self]
        places = [(parameter.start, parameter.shape) for parameter in own]
        return {**vars(self), "parameters": own, "places": places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        places = state.pop("places")
        vars(self).update(state, values=own_array(state["values"]), _gradients=own_array(state["_gradients"]))
        for parameter, (start, shape) in zip(self.parameters, places, strict=True):
            parameter.buffer, parameter.start, parameter.shape = self, start, shape
            parameter.size = math.prod(shape)
            stop = start + parameter.size
            parameter._value = self.values[start:stop].reshape(shape)
            parameter._grad = None if self._gradients is None else self._gradients[start:stop].reshape(shape)

    def __repr__(self) -> str:
        return f"ParameterBuffer({len(self.parameters)} parameters, {self.values.size} values of {self.values.dtype})"


def own_array(array: Any) -> Any:
    """Return an array that may be written to: joblib hands large arrays to other processes as maps of a file, for reading."""
    return numpy.array(array) if isinstance(array, numpy.memmap) else array


def _new_parameter(kind: type[Parameter]) -> Parameter:
    """Return an empty object, which unpickling fills."""
    parameter = object.__new__(kind)
    parameter._undrawn = False  # which pickles of earlier versions do not say
    return parameter


def place_of(array: Array) -> tuple[Any, int | None]:
    """Return where an array is: its namespace, and the number of its GPU, or None on the host.

    >>> place_of(numpy.zeros(3)) == (numpy, None)
    True
    """
    if type(array) is numpy.ndarray:
        return numpy, None
    return namespace(array), getattr(getattr(array, "device", None), "id", None)


@contextlib.contextmanager
def on_device_of(array: Array) -> Iterator[Any]:
    """Run a block in which new arrays are made where an array is; give its namespace.

    >>> with on_device_of(numpy.zeros(3)) as xp:
    ...     xp.ones(2)
    array([1., 1.])
    """
    xp = namespace(array)
    with contextlib.nullcontext() if xp is numpy else array.device:
        yield xp


def to_namespace(array: Array, xp: Any) -> Array:
    """Return the array in namespace ``xp``, on its current device, copied only if it is elsewhere."""
    if namespace(array) is not xp:
        return xp.asarray(to_host(array))
    return array if xp is numpy else xp.asarray(array)  # which copies from another GPU


def _beside(array: Array, new: Any) -> Any:
    """Return a new value where an array is."""
    xp = namespace(array)
    if xp is numpy or not hasattr(new, "dtype"):
        return new
    with on_device_of(array):
        return to_namespace(new, xp)


def flatten(parameters: Iterable[Parameter]) -> list[ParameterBuffer]:
    """Move the parameters into flat buffers, one for each dtype and device, in the given order.

    Parameters that already form a whole buffer in this order stay where they are.

    Raises
    ------
    ParameterError
        If something in the list is not a :class:`Parameter`.

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
        groups.setdefault((parameter.dtype, *place_of(parameter.value)), []).append(parameter)
    return [
        group[0].buffer if _is_whole(group[0].buffer, group) else ParameterBuffer(group) for group in groups.values()
    ]


def _is_whole(buffer: ParameterBuffer, parameters: list[Parameter]) -> bool:
    return not buffer.retired and buffer.parameters == parameters


def claim_gradients(parameters: Sequence[Parameter | None], input_gradient: bool = True) -> Storage:
    """Return the storage of the gradients for the backward of an op, whether to add, and which gradients are wanted.

    The caller must see to it that every wanted gradient is written; see :meth:`Parameter.grad_storage`.

    Parameters
    ----------
    parameters : sequence of Parameter or None
        In the order of the op. None, and frozen parameters, get no gradient.
    input_gradient : bool, default True
        Whether dx is wanted.

    Returns
    -------
    into : tuple of array or None
        The storage of each gradient.
    add : bool
        Whether to add to all of them, rather than overwrite them.
    wanted : tuple of bool
        Which gradients to compute, beginning with dx.

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
    if add:  # some are current, so the others must hold the zeros that they stand for
        for parameter in unwritten:
            parameter._grad[...] = 0  # type: ignore[index]
    return tuple(into), add, tuple(wanted)


def run_backward(
    backward: Callable[..., Any],
    arguments: tuple[Any, ...],
    parameters: tuple[Parameter | None, ...],
    input_gradient: bool = True,
) -> Any:
    """Call the backward of an op, which writes the gradients of the parameters into their storage; return dx.

    Parameters
    ----------
    backward : callable
        Called with the arguments, and then ``into``, ``add`` and ``wanted``.
    arguments : tuple
        dy, the cache, and anything else that comes before ``into``.
    parameters : tuple of Parameter or None
        In the order of the op.
    input_gradient : bool, default True
        Whether to compute dx. If not, None is returned.
    """
    storage = into, add, wanted = claim_gradients(parameters, input_gradient)
    try:
        if len(arguments) == 2:  # most; a call with * takes three times as long
            dy, cache = arguments
            return backward(dy, cache, into, add, wanted)[0]
        return backward(*arguments, into, add, wanted)[0]
    except BaseException:
        release_gradients(parameters, storage)
        raise


def release_gradients(parameters: Iterable[Parameter | None], storage: Storage) -> None:
    """Undo :func:`claim_gradients` after an error: gradients that were to be overwritten are zero again."""
    _, add, wanted = storage
    for parameter, was_wanted in zip(parameters, wanted[1:], strict=True):
        if was_wanted and not add and parameter is not None:
            parameter.zero_grad()
