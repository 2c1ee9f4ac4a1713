"""Everything that can be checked in one form: a function pair, a layer, a loss.

A subject has named floating-point arguments, inputs and parameters alike. Its ``forward`` computes the outputs for given
values of all of them. Its ``backward`` returns the gradient of each for a given upstream gradient. Values and results are
NumPy arrays on the host; the computation runs on the device of the user's arrays.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.layers import Layer, Parameter, ParameterBuffer
from minidl.ops import Array, namespace
from minidl.weights import to_host

__all__ = ["FunctionSubject", "LayerSubject", "LossSubject", "Subject"]


class Subject:
    """Base of all subjects.

    Attributes
    ----------
    name : str
    names : list of str
        The arguments that have a gradient.
    values : list of array
        The point at which to check, one array for each name.
    dtype : dtype
        The dtype of the computation.
    owner : object
        The object in which to search for random generators.
    rewind : callable
        Called before every forward; makes a random subject repeat itself.
    takes_upstream : bool
        False for a loss whose ``backward`` takes no argument.
    notes : list of str
        Remarks for the report.
    """

    name: str
    names: list[str]
    values: list[numpy.ndarray]
    dtype: numpy.dtype[Any]
    owner: Any
    takes_upstream = True
    _dy: Any = None

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.rewind: Callable[[], None] = lambda: None

    def forward(self, values: Sequence[numpy.ndarray]) -> list[numpy.ndarray]:
        """Return the outputs for these values of the arguments."""
        raise NotImplementedError

    def backward(self, upstream: Sequence[numpy.ndarray], accumulate: bool = False) -> list[numpy.ndarray]:
        """Return the gradient of each argument after the last forward.

        With ``accumulate``, parameter gradients are added to those of the previous call.
        """
        raise NotImplementedError

    def repetition(self) -> list[str]:
        """Return, for each argument, its gradient after a second ``backward``: "same", "added" or "either"."""
        return ["same"] * len(self.names)

    def passed(self) -> list[numpy.ndarray]:
        """Return the arguments of the last forward in their present state."""
        raise NotImplementedError

    def watched(self) -> list[tuple[str, Array]]:
        """Return the arrays that backward must not change, by name."""
        raise NotImplementedError

    def returned(self) -> list[Array]:
        """Return the arrays that the last forward handed to its caller, where backward may still read them."""
        return []

    def given_upstream(self) -> list[Array]:
        """Return the upstream gradients of the last backward in their present state."""
        return _find_arrays(self._dy)


def _is_floating(array: Any) -> bool:
    return getattr(getattr(array, "dtype", None), "kind", None) == "f" and hasattr(array, "shape")


def _list_outputs(y: Any) -> list[Any]:
    return list(y) if isinstance(y, (tuple, list)) else [y]


def _to_upstream(outputs: list[Any], several: bool, upstream: Sequence[numpy.ndarray]) -> Any:
    """Return the upstream gradients on the device of the outputs."""
    pairs = zip(outputs, upstream, strict=True)
    placed = [namespace(y).asarray(numpy.array(dy, dtype=y.dtype)) for y, dy in pairs]
    return tuple(placed) if several else placed[0]


def _match_gradients(gradients: Any, names: Sequence[str], who: str) -> list[Array]:
    """Return the gradients as a list, one for each name."""
    found = list(gradients) if isinstance(gradients, (tuple, list)) else [gradients]
    found = [gradient for gradient in found if gradient is not None]
    if len(found) != len(names):
        raise ShapeError(
            f"gradcheck: backward of {who} returned {len(found)} gradients, but there are {len(names)} floating-point "
            f"inputs ({', '.join(names)}); return one for each, or name those that have one with differentiable=(...)"
        )
    for gradient, name in zip(found, names, strict=True):
        if not hasattr(gradient, "dtype"):
            raise DtypeError(
                f"gradcheck: backward of {who} returned a {type(gradient).__name__} for {name}, not an array"
            )
    return found


def _name_arguments(function: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count] + [f"argument {position}" for position in range(len(names), count)]


def _choose_positions(
    names: list[str], floating: list[int], differentiable: Iterable[str | int] | None, who: str
) -> list[int]:
    """Return the positions of the inputs whose gradient is checked."""
    if differentiable is None:
        return floating
    wanted = [names.index(key) if isinstance(key, str) and key in names else key for key in differentiable]
    for key in wanted:
        if key not in floating:
            raise ParameterError(
                f"gradcheck: {who} has no floating-point input {key!r}; it has {', '.join(names[i] for i in floating)}"
            )
    return [position for position in floating if position in wanted]


class FunctionSubject(Subject):
    """A pair of functions: ``forward(*arrays, **options) -> (y, cache)`` and ``backward(dy, cache) -> gradients``.

    If y is a tuple of arrays, so is dy.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        arrays: Sequence[Any],
        *,
        options: Mapping[str, Any] | None = None,
        differentiable: Iterable[str | int] | None = None,
        dtype: Any = "float64",
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or str(getattr(forward, "__name__", repr(forward)))
        self._forward, self._backward = forward, backward
        self._arrays, self._options = list(arrays), dict(options or {})
        self.owner = [self._arrays, self._options]
        self.dtype = numpy.dtype(dtype)
        names = _name_arguments(forward, len(arrays))
        floating = [position for position, array in enumerate(arrays) if _is_floating(array)]
        self._positions = _choose_positions(names, floating, differentiable, self.name)
        self._constants = [position for position in floating if position not in self._positions]
        self.names = [names[position] for position in self._positions]
        self.values = [to_host(arrays[position]).astype(self.dtype) for position in self._positions]

    def arguments(self, values: Sequence[Any]) -> list[Any]:
        """Return all positional arguments, with copies of these values in place of the differentiable ones."""
        arguments = list(self._arrays)
        for position in self._constants:
            arguments[position] = arguments[position].astype(self.dtype)
        for position, value in zip(self._positions, values, strict=True):
            if isinstance(value, numpy.ndarray):
                value = namespace(self._arrays[position]).asarray(numpy.array(value, dtype=self.dtype))
            arguments[position] = value
        return arguments

    def outputs(self, values: Sequence[Any]) -> list[Any]:
        """Return the outputs of the function as they are, for values of any array type."""
        self.rewind()
        self._passed = self.arguments(values)
        result = self._forward(*self._passed, **self._options)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ParameterError(
                f"gradcheck: {self.name} must return the pair (y, cache), got {type(result).__name__}; the cache "
                "holds whatever its backward needs"
            )
        y, self._cache = result
        self._several = isinstance(y, (tuple, list))
        self._outputs = _list_outputs(y)
        return self._outputs

    def forward(self, values: Sequence[numpy.ndarray]) -> list[numpy.ndarray]:
        """Return the outputs on the host."""
        return [to_host(y) for y in self.outputs(values)]

    def backward(self, upstream: Sequence[numpy.ndarray], accumulate: bool = False) -> list[numpy.ndarray]:
        """Return the gradients on the host."""
        self._dy = _to_upstream(self._outputs, self._several, upstream)
        gradients = self._backward(self._dy, self._cache)
        return [to_host(gradient) for gradient in _match_gradients(gradients, self.names, self.name)]

    def passed(self) -> list[numpy.ndarray]:
        """Return the differentiable arguments of the last forward."""
        return [to_host(self._passed[position]) for position in self._positions]

    def watched(self) -> list[tuple[str, Array]]:
        """Return all arrays among the arguments and in the cache."""
        names = _name_arguments(self._forward, len(self._passed))
        arguments = zip(names, self._passed, strict=True)
        return [(name, array) for name, argument in arguments for array in _find_arrays(argument)] + [
            (f"cache (array {i})", array) for i, array in enumerate(_find_arrays(self._cache))
        ]


def _find_arrays(thing: Any) -> list[Array]:
    if isinstance(thing, (tuple, list)):
        return [array for part in thing for array in _find_arrays(part)]
    if isinstance(thing, dict):
        return _find_arrays(list(thing.values()))
    return [thing] if hasattr(thing, "dtype") and not isinstance(thing, (numpy.generic, numpy.dtype)) else []


class LayerSubject(Subject):
    """A layer or a model: any object with ``forward`` and ``backward``, and ``parameters`` if it has any.

    The check runs on a deep copy, so the layer, its parameters, gradients, cache and random state do not change. The copy runs
    once as it is, which builds lazy layers, and is then converted to the precision of the check.
    """

    def __init__(self, layer: Any, arrays: Sequence[Any], *, dtype: Any = "float64", name: str | None = None) -> None:
        super().__init__()
        self.name = name or _make_title(layer)
        self.dtype = numpy.dtype(dtype)
        try:
            self.layer = copy.deepcopy(layer)
        except Exception as error:  # the contents of the layer decide what is raised
            raise ParameterError(
                f"gradcheck: {self.name} cannot be copied ({error}); the check works on a copy, to leave your layer "
                "unchanged: give it a __deepcopy__, or check it without the attribute that cannot be copied"
            ) from error
        self._inputs = list(arrays)
        self._note_unlisted()
        self.layer.forward(*self._copies(self._inputs))
        if self.dtype == numpy.float64 and not _convert(self.layer, [p for _, p in self._named()], self.dtype):
            self.dtype = numpy.dtype("float32")
            self.layer = copy.deepcopy(layer)
            self.layer.forward(*self._copies(self._inputs))
        self.owner = self.layer
        self._trained = [name for name, p in self._named() if _is_floating(p.value)]
        names = _name_arguments(self.layer.forward, len(arrays))
        self._positions = [position for position, array in enumerate(arrays) if _is_floating(array)]
        self._input_names = [names[position] for position in self._positions]
        self.names = [*self._input_names, *self._trained]
        self.values = [to_host(arrays[position]).astype(self.dtype) for position in self._positions]
        self.values += [to_host(p.value).astype(self.dtype) for p in self._parameters()]
        self._repetition = ["added" if isinstance(p, Parameter) else "either" for p in self._parameters()]

    def _note_unlisted(self) -> None:
        """Note arrays that look like parameters of a layer that lists none."""
        if isinstance(self.layer, Layer) or hasattr(self.layer, "parameters"):
            return
        attributes = getattr(self.layer, "__dict__", {})
        own = [name for name, value in attributes.items() if _is_floating(value) and len(value.shape)]
        if own:
            self.notes.append(
                f"note: {self.name} has arrays ({', '.join(own)}) but no parameters(), so only the gradient of its "
                "input was checked; parameters() returns objects with name, value and grad, such as minidl.Parameter."
            )

    def _copies(self, arrays: Sequence[Any]) -> list[Any]:
        return [array.copy() if hasattr(array, "dtype") else array for array in arrays]

    def _named(self) -> list[tuple[str, Any]]:
        """Return the parameters with their names, requested again each time: a layer may create the objects on demand."""
        if isinstance(self.layer, Layer):
            named = [(name or p.name, p) for name, p in self.layer.named_parameters()]
        else:
            given = list(getattr(self.layer, "parameters", list)())
            named = [(getattr(p, "name", "") or f"parameter {i}", p) for i, p in enumerate(given)]
        for name, p in named:
            if not (hasattr(p, "value") and hasattr(p, "grad")):
                raise ParameterError(
                    f"gradcheck: parameters() of {self.name} must return objects with value and grad, such as "
                    f"minidl.Parameter; {name} is a {type(p).__name__}"
                )
        seen: set[int] = set()  # a parameter shared by two layers is one argument
        return [(name, p) for name, p in named if not (id(p) in seen or seen.add(id(p)))]  # type: ignore[func-returns-value]

    def _parameters(self) -> list[Any]:
        return [p for _, p in self._named() if _is_floating(p.value)]

    def forward(self, values: Sequence[numpy.ndarray]) -> list[numpy.ndarray]:
        """Return the outputs on the host."""
        count = len(self._positions)
        for p, value in zip(self._parameters(), values[count:], strict=True):
            p.value[...] = namespace(p.value).asarray(value)
        self._passed = self._copies(self._inputs)
        for position, value in zip(self._positions, values[:count], strict=True):
            like = self._inputs[position]
            self._passed[position] = namespace(like).asarray(numpy.array(value, dtype=self.dtype))
        self.rewind()
        y = self.layer.forward(*self._passed)
        self._several = isinstance(y, (tuple, list))
        self._outputs = _list_outputs(y)
        for output in self._outputs:
            if not hasattr(output, "dtype"):
                raise DtypeError(f"gradcheck: forward of {self.name} returned a {type(output).__name__}, not an array")
        return [to_host(y) for y in self._outputs]

    def backward(self, upstream: Sequence[numpy.ndarray], accumulate: bool = False) -> list[numpy.ndarray]:
        """Return the gradients on the host, those of inputs first."""
        if not accumulate:
            self._zero_grad()
        self._dy = _to_upstream(self._outputs, self._several, upstream)
        gradients = self.layer.backward(self._dy)
        found = _match_gradients(gradients, self._input_names, self.name) if self._input_names else []
        for name, p in zip(self._trained, self._parameters(), strict=True):
            if not hasattr(p.grad, "dtype"):
                raise ParameterError(f"gradcheck: backward of {self.name} left {name}.grad at {p.grad!r}")
        return [to_host(g) for g in found] + [numpy.array(to_host(p.grad)) for p in self._parameters()]

    def returned(self) -> list[Array]:
        """Return the outputs of the layer."""
        return _find_arrays(self._outputs)

    def _zero_grad(self) -> None:
        if isinstance(self.layer, Layer) and "either" not in self._repetition:
            self.layer.zero_grad()
            return
        for p in self._parameters():
            if hasattr(p.grad, "dtype"):
                p.grad[...] = 0

    def repetition(self) -> list[str]:
        """Return "same" for inputs, "added" for ``minidl.Parameter`` objects, and "either" for other parameters."""
        return ["same"] * len(self._positions) + self._repetition

    def passed(self) -> list[numpy.ndarray]:
        """Return the inputs and the values of the parameters."""
        inputs = [to_host(self._passed[position]) for position in self._positions]
        return inputs + [to_host(p.value) for p in self._parameters()]

    def watched(self) -> list[tuple[str, Array]]:
        """Return the inputs and the values of the parameters, by name."""
        inputs = [("its input", array) for array in _find_arrays(self._passed)]
        return inputs + [(name, p.value) for name, p in zip(self._trained, self._parameters(), strict=True)]


def _make_title(thing: Any) -> str:
    """Return a name of reasonable length."""
    shown = repr(thing)
    default = type(thing).__repr__ is object.__repr__ or len(shown) > 60 or "\n" in shown
    return type(thing).__name__ if default else shown


def _convert(layer: Any, parameters: list[Any], dtype: numpy.dtype[Any]) -> bool:
    """Convert the layer's parameters; return whether that worked."""
    own = [p for p in parameters if isinstance(p, Parameter)]
    if isinstance(layer, Layer) and len(own) == len(parameters):
        layer.to(dtype=dtype)
    elif own:
        ParameterBuffer(own, dtype=dtype)
    for p in parameters:
        if not isinstance(p, Parameter) and _is_floating(p.value) and p.value.dtype != dtype:
            p.value = p.value.astype(dtype)
            if hasattr(p.grad, "dtype"):
                p.grad = p.grad.astype(dtype)
    now = list(getattr(layer, "parameters", list)())
    return all(p.value.dtype == dtype for p in now if _is_floating(p.value))


class LossSubject(Subject):
    """A loss: ``forward(prediction, target)``, then ``backward()`` or ``backward(dloss)``; targets have no gradient."""

    def __init__(self, loss: Any, arrays: Sequence[Any], *, dtype: Any = "float64", name: str | None = None) -> None:
        super().__init__()
        if len(arrays) < 2 or not _is_floating(arrays[0]):
            raise ParameterError(
                "gradcheck: a loss needs a floating-point prediction and a target, gradcheck(loss, prediction, "
                f"target); got {len(arrays)} arrays"
            )
        self.name = name or _make_title(loss)
        self.dtype = numpy.dtype(dtype)
        self.loss = copy.deepcopy(loss)
        self.owner = self.loss
        self.takes_upstream = bool(positional(self.loss.backward))
        self._prediction, *self._others = arrays
        self.names = _name_arguments(self.loss.forward, 1)
        self.values = [to_host(self._prediction).astype(self.dtype)]

    def forward(self, values: Sequence[numpy.ndarray]) -> list[numpy.ndarray]:
        """Return the loss on the host."""
        prediction = namespace(self._prediction).asarray(numpy.array(values[0], dtype=self.dtype))
        others = [
            o.astype(self.dtype) if _is_floating(o) else o.copy() if hasattr(o, "copy") else o for o in self._others
        ]
        self._passed = [prediction, *others]
        self.rewind()
        y = self.loss.forward(*self._passed)
        self._output = y if hasattr(y, "dtype") else numpy.asarray(y, dtype="float64")
        return [to_host(self._output)]

    def backward(self, upstream: Sequence[numpy.ndarray], accumulate: bool = False) -> list[numpy.ndarray]:
        """Return the gradient of the prediction on the host."""
        if self.takes_upstream:
            self._dy = _to_upstream([self._output], False, upstream)
            gradient = self.loss.backward(self._dy)
        else:
            gradient = self.loss.backward()
        return [to_host(g) for g in _match_gradients(gradient, self.names, self.name)]

    def passed(self) -> list[numpy.ndarray]:
        """Return the prediction."""
        return [to_host(self._passed[0])]

    def watched(self) -> list[tuple[str, Array]]:
        """Return prediction and target."""
        names = _name_arguments(self.loss.forward, len(self._passed))
        return [(name, array) for name, array in zip(names, self._passed, strict=True) if hasattr(array, "dtype")]


def positional(function: Callable[..., Any], required: bool = False) -> list[str]:
    """Return the names of the positional parameters, or only of those without a default."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [p.name for p in positional if not required or p.default is p.empty]


def is_loss(thing: Any) -> bool:
    """Whether an object is a loss: forward takes a target, and backward needs no upstream gradient.

    >>> from minidl.layers import MSELoss, ReLU
    >>> is_loss(MSELoss()), is_loss(ReLU())
    (True, False)
    """
    try:
        return len(positional(thing.forward, required=True)) >= 2 and not positional(thing.backward, required=True)
    except (AttributeError, TypeError, ValueError):  # has none, or no signature
        return False
