"""From a model to an ONNX file: its own forward runs on symbols, with an engine whose ops add nodes."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from minidl import engines
from minidl.arrays import to_host
from minidl.engines.base import Engine
from minidl.errors import OrderError, ParameterError, ShapeError
from minidl.interop.onnx import rules_of_sequences  # noqa: F401 - imported, it fills the table
from minidl.interop.onnx.drawing import Drawing, Symbol, example_of
from minidl.interop.onnx.examples import examples_for
from minidl.interop.onnx.extra import import_onnx
from minidl.interop.onnx.lengths import Length
from minidl.interop.onnx.rules_of_layers import use_rules
from minidl.interop.onnx.rules_of_ops import RULES
from minidl.interop.onnx.symbolic import Namespace
from minidl.interop.onnx.writing import write_model
from minidl.layers import Layer, inference
from minidl.layers.parameter import Parameter
from minidl.ops import FORMULAS

__all__ = ["export", "name_inputs"]

_LEFT_OUT = {
    "_cache",
    "_optimizer",
    "loss",
    "metrics",
    "history",
    "_make_optimizer",
    "_compiled_for",
    "_optimized",
    "_stayed",
}
"""Attributes that a forward in evaluation does not need, and that may be large."""


def export(
    model: Any,
    path: str | os.PathLike[str],
    *inputs: Any,
    names: Sequence[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    fixed: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Write a model as an ONNX graph that computes what ``forward`` does in evaluation.

    The batch and all other lengths that the model leaves open are open in the graph. Weights stay in a safetensors file, at which
    the graph points: ``model.save`` to the same file after further training renews what the graph computes.

    Parameters
    ----------
    model : layer
    path : path
        Such as ``"m.onnx"``.
    *inputs : array
        An example of each input, such as ``x[:2]``; only shapes and dtypes count. Named models, and models that know the shape
        of their input, need none; give images of another size than the model was built for, if it takes any size.
    names : sequence of str, optional
        Of the inputs; those of the arguments of ``forward`` by default.
    weights : path, optional
        The safetensors file beside the graph; by default that of the graph's name, ``m.safetensors``. ``"inside"`` puts the
        weights into the graph, which must then be below 2 GB.
    fixed : mapping of str to sequence of int, optional
        Axes of inputs, by their names, that are to have the example's length.

    Raises
    ------
    MissingDependencyError
        If the package onnx is not installed.
    ParameterError
        If ops or settings have no rule, with all of them, or if the model works for one size of the batch alone.
    ShapeError
        If the inputs are missing, or do not fit.
    OrderError
        If a layer of the user's own computes outside minidl.ops and operators.
    """
    import_onnx("export")
    examples = _examples_of(model, inputs)
    titles = name_inputs(model, len(examples)) if names is None else list(names)
    if len(titles) != len(examples):
        raise ParameterError(f"export: there are {len(examples)} inputs, got {len(titles)} names")
    single = {(name, int(axis)) for name, axes in (fixed or {}).items() for axis in axes}
    asked = set(single)
    for _ in range(1 + sum(x.ndim for x in examples)):  # each turn fixes at least one more axis
        drawing, given, outputs = _draw(model, dict(zip(titles, examples, strict=True)), single)
        if drawing.fixed <= single:
            break
        single |= drawing.fixed
    stuck = sorted(name for name, axis in single - asked if axis == 0)
    if stuck:
        raise ParameterError(
            f"export: the model works for the batch of the example alone, axis 0 of {stuck[0]}; let it compute with x.shape[0] as "
            f"it is, or give fixed={{{stuck[0]!r}: [0]}}"
        )
    if drawing.missing:
        raise ParameterError("export: there is no rule for " + "; ".join(dict.fromkeys(drawing.missing)))
    write_model(drawing, given, outputs, model, path, weights)


def _examples_of(model: Any, inputs: Sequence[Any]) -> list[Any]:
    """Return the inputs as arrays."""
    if inputs:
        return [numpy.asarray(to_host(x)) for x in inputs]
    found = examples_for(model)
    if found is None:
        raise ShapeError(
            f"export: {type(model).__name__} takes inputs of many shapes; give an example of each, such as x[:2]"
        )
    return list(found)


def name_inputs(model: Any, count: int) -> list[str]:
    """Return the names of the arguments of ``forward``, or x, or x0, x1 ..."""
    first = model
    while hasattr(first, "layers") and isinstance(getattr(first, "layers", None), tuple) and first.layers:
        first = first.layers[0]  # a chain hands its arguments to its first layer
    arguments = list(inspect.signature(first.forward).parameters.values())
    names = [p.name for p in arguments if p.kind is p.POSITIONAL_OR_KEYWORD]
    return names[:count] if len(names) >= count else [f"x{i}" for i in range(count)]


def _draw(model: Any, examples: dict[str, Any], single: set[tuple[str, int]]) -> Any:
    """Run the model on symbols; return the drawing, its inputs and its outputs."""
    drawing = Drawing()
    drawing.__dict__["namespace"] = Namespace(drawing)
    given = {}
    for name, x in examples.items():
        shape = [
            n if (name, axis) in single else Length(drawing, n, ("input", name, axis)) for axis, n in enumerate(x.shape)
        ]
        given[name] = Symbol(drawing, shape, x.dtype, name)
    copy = _Copy(drawing, model)
    with engines.use(_engine(drawing, copy)), inference(evaluate=True):
        try:
            found = copy.of(model).forward(*given.values())
        except (AttributeError, NotImplementedError, TypeError) as error:
            raise OrderError(f"export: {copy.place()} does what has no rule: {error}") from error
    outputs = list(found) if isinstance(found, tuple) else [found]
    return drawing, given, [y if isinstance(y, Symbol) else drawing.symbol(y) for y in outputs]


def _engine(drawing: Drawing, copy: _Copy) -> Engine:
    """Return the engine whose ops add nodes. What has no rule is noted, and goes on with zeros of the right shape."""

    def note(op: str) -> Any:
        @functools.wraps(FORMULAS[op])
        def run(*args: Any, **how: Any) -> Any:
            settings = [repr(a) for a in args if not isinstance(a, Symbol) and a is not None]
            settings += [f"{name}={a!r}" for name, a in how.items() if not isinstance(a, Symbol)]
            drawing.missing.append(f"{op}({', '.join(settings)}) of {copy.place()}")
            zeros = [
                numpy.zeros([example_of(n) for n in a.shape], a.dtype) if isinstance(a, Symbol) else a for a in args
            ]
            y, _ = FORMULAS[op](*zeros, **how)
            return (tuple(map(drawing.symbol, y)) if isinstance(y, tuple) else drawing.symbol(y)), None

        return run

    def drawn(op: str) -> Any:
        @functools.wraps(FORMULAS[op])
        def run(*args: Any, **how: Any) -> Any:
            try:
                return RULES[op](*args, **how)
            except NotImplementedError:
                return note(op)(*args, **how)

        return run

    forwards = [op for op in FORMULAS if not op.endswith(("_backward", "_update"))]
    return Engine("onnx", Namespace(drawing), {op: drawn(op) if op in RULES else note(op) for op in forwards})


class _Copy:
    """Copies of layers whose parameters and arrays are symbols, so that the model itself stays as it is."""

    def __init__(self, drawing: Drawing, model: Any) -> None:
        self.drawing, self.model = drawing, model
        self._made: dict[int, Any] = {}
        self._paths: dict[int, str] = {}
        self._keep: list[Any] = []  # so that no id is used twice
        self._weights: dict[int, str] = {}
        if isinstance(model, Layer):
            for path, layer in model.named_layers():
                self._paths.setdefault(id(layer), path)
            for path, parameter in model.named_parameters():
                self._weights.setdefault(id(parameter), path)
            for path, array in model.named_buffers():
                self._weights.setdefault(id(array), path)

    def place(self) -> str:
        """Return the innermost layer that runs, with its path."""
        frame: Any = sys._getframe()
        while frame is not None:
            layer = frame.f_locals.get("self")
            if layer is not None and id(layer) in self._paths and hasattr(layer, "forward"):
                path = self._paths[id(layer)]
                return f"{path or 'the model'}, {type(layer).__name__}"
            frame = frame.f_back
        return "the model"

    def of(self, value: Any) -> Any:
        """Return the copy of a layer, or of what is in its attributes."""
        if id(value) in self._made:
            return self._made[id(value)]
        if isinstance(value, type):  # a class, which a layer may keep to make others
            return value
        if isinstance(value, Parameter):
            made: Any = _Stand(self._symbol(value.value, self._weights.get(id(value))))
        elif isinstance(value, numpy.ndarray) or type(value).__module__.startswith("cupy"):
            path = self._weights.get(id(value))
            if path is None and (value.dtype.kind != "f" or not value.ndim):
                return value
            made = self._symbol(value, path)
        elif type(value) in (list, tuple):
            made = type(value)(map(self.of, value))
        elif type(value) is dict:
            made = {key: self.of(part) for key, part in value.items()}
        elif isinstance(value, Layer) or (
            hasattr(value, "forward") and hasattr(value, "backward") and hasattr(value, "__dict__")
        ):
            return self._layer(value)
        else:
            return value
        self._made[id(value)] = made
        self._keep.append(value)
        return made

    def _symbol(self, array: Any, path: str | None) -> Symbol:
        array = numpy.asarray(to_host(array))
        return Symbol(self.drawing, array.shape, array.dtype, None, array, path)

    def _layer(self, layer: Any) -> Any:
        made = object.__new__(type(layer))
        self._made[id(layer)] = made
        self._paths[id(made)] = self._paths.get(id(layer), "")
        self._keep.append(layer)
        for name, value in vars(layer).items():
            vars(made)[name] = None if name in _LEFT_OUT else self.of(value)
        if "_plans" in vars(made):
            vars(made).update(_plans={}, _recorded=None, _flat=True, _fuse=False)
        if getattr(layer, "stored_as", None) == "bfloat16":
            made.weight.bits = True
        use_rules(made)
        return made


class _Stand:
    """Stands for a parameter: its value is a symbol."""

    trainable = False

    def __init__(self, value: Symbol) -> None:
        self.value = self._value = value
        self.shape, self.dtype = value.shape, value.dtype
