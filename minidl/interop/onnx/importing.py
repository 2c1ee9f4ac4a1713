"""A graph as a model of minidl: forward and backward node by node, and weights that are trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy

from minidl import engines
from minidl.errors import DtypeError, EngineError, MinidlError, ShapeError
from minidl.interop.onnx.fusing import FusedConv, fuse
from minidl.interop.onnx.operators import OPERATORS
from minidl.interop.onnx.reading import Graph, read_graph, read_model
from minidl.layers import Layer, Parameter
from minidl.layers.base import Shape
from minidl.layers.inference import inference, keeps_caches
from minidl.training import Trainable

__all__ = ["OnnxModel", "load"]


def load(path: str | os.PathLike[str]) -> OnnxModel:
    """Build a model of an ONNX file, with the operators that minidl has.

    Its weights are parameters by the names that they have in the file, so ``compile``, ``fit``, ``freeze``, ``save`` and
    ``gradcheck`` work. What depends on constants alone is computed once, here; what no output depends on is left out.

    Parameters
    ----------
    path : path

    Returns
    -------
    OnnxModel

    Raises
    ------
    MissingDependencyError
        If the package onnx is not installed.
    FileFormatError
        If it is no valid ONNX file.
    Unsupported
        If the graph has nodes that minidl does not compute. The message lists all of them, with their names and attributes; nothing
        is computed in another way than the graph says.
    """
    return OnnxModel(read_graph(read_model(path)))


class OnnxModel(Trainable, Layer):
    """A graph as a layer: ``forward`` computes its nodes in order, and ``backward`` goes through them in reverse.

    A value that several nodes read gets the sum of their gradients. Integers, shapes and settings have none. Statistics of batch
    normalisation are those of the file, in training too.

    Parameters
    ----------
    graph : Graph
        From :func:`load`.

    Attributes
    ----------
    inputs : dict of str to (dtype, shape)
    outputs : list of str
    """

    _not_parts = ("graph",)

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.inputs, self.outputs = graph, dict(graph.inputs), list(graph.outputs)
        self._by_name: dict[str, str] = {}
        for name, value in graph.weights.items():
            self._keep(name, Parameter(value, name=name))
        used_as_statistics = {n for node in graph.nodes if node.kind == "BatchNormalization" for n in node.inputs[3:]}
        for name in used_as_statistics & set(graph.constants):
            own = self._keep(name, graph.constants.pop(name).copy())
            self._buffer_names = (*self._buffer_names, own)
        self.graph.weights = {}
        self.integer_inputs = any(dtype.kind in "iub" for dtype, _ in self.inputs.values())
        self._reached = self._find_reached()
        self._plan_inference()
        self.flat_buffers()

    def _plan_inference(self) -> None:
        """Choose what runs as one in inference, and after which step each value is not needed any more."""
        weights = {name: self._value(own) for name, own in self._by_name.items()}
        self._plan = fuse(self.graph.nodes, self.graph.constants, weights, self.outputs)
        self._last_use = self._find_last_use()

    def _keep(self, name: str, value: Any) -> str:
        """Make an attribute of a weight, under its name in the file, unless that is taken."""
        own = name if not hasattr(self, name) else f"weight {name}"
        self.__dict__[own] = value
        self._by_name[name] = own
        return own

    def _find_reached(self) -> set[str]:
        """Return the values that depend on a weight, or on an input that is not an integer: those with gradients."""
        reached = {name for name, own in self._by_name.items() if isinstance(getattr(self, own), Parameter)}
        reached |= {name for name, (dtype, _) in self.inputs.items() if dtype.kind == "f"}
        for node in self.graph.nodes:
            settings = OPERATORS[node.kind].settings
            if any(name in reached for place, name in enumerate(node.inputs) if place not in settings):
                reached.update(filter(None, node.outputs))
        return reached

    def _find_last_use(self) -> list[list[str]]:
        """Return, for each step of inference, the values that no later one reads."""
        written = {*self.inputs, *(name for step in self._plan for name in step.outputs)}
        kept = {*self.outputs, *self.graph.constants, *self._by_name}
        seen: set[str] = set()
        last = []
        for step in reversed(self._plan):
            names = set(step.inputs) | set(step.outputs)
            last.append([name for name in names - seen if name and name not in kept and name in written])
            seen |= names
        return last[::-1]

    # computing -------------------------------------------------------------------------------------------------------

    def forward(self, *xs: Any) -> Any:
        """Return the output, or a tuple of several.

        Raises
        ------
        ShapeError, DtypeError
            If the inputs are not those of the graph.
        Unsupported
            If a node asks for something, by the numbers it gets, that minidl does not compute.
        """
        values = dict(self.graph.constants)
        own = vars(self)
        for name, title in self._by_name.items():
            value = own[title]
            values[name] = value._value if type(value) is Parameter else value
        values.update(zip(self.inputs, self._checked(xs), strict=True))
        with numpy.errstate(all="ignore"):
            if keeps_caches():
                self._remember((self._run_keeping(values), [numpy.shape(x) for x in xs]))
            else:
                self._run_planned(values)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def _value(self, own: str) -> Any:
        value = vars(self)[own]
        return value.value if isinstance(value, Parameter) else value

    def _run_planned(self, values: dict[str, Any]) -> None:
        """Run the steps of inference; arrays that nobody needs any more are dropped."""
        node: Any = None
        try:
            for node, done in zip(self._plan, self._last_use, strict=True):
                if isinstance(node, FusedConv):
                    values[node.outputs[0]] = node.run(values)
                else:
                    rule = OPERATORS[node.kind].rule
                    outputs, _ = rule(node, *[values[name] if name else None for name in node.inputs])
                    values.update(zip(node.outputs, outputs, strict=False))
                for name in done:
                    del values[name]
        except (MinidlError, ValueError, IndexError, TypeError) as error:
            raise _placed(error, node, values) from error

    def _run_keeping(self, values: dict[str, Any]) -> list[Any]:
        """Run the nodes; return the backward of each, and how many outputs it has."""
        tape, node = [], None
        try:
            for node in self.graph.nodes:
                outputs, back = OPERATORS[node.kind].rule(node, *[values[n] if n else None for n in node.inputs])
                values.update(zip(node.outputs, outputs, strict=False))
                tape.append((back, len(outputs)))
        except (MinidlError, ValueError, IndexError, TypeError) as error:
            raise _placed(error, node, values) from error
        return tape

    def _checked(self, xs: Sequence[Any]) -> list[Any]:
        """Return the inputs in the dtypes of the graph."""
        if len(xs) != len(self.inputs):
            raise ShapeError(f"{self!r}: expected {len(self.inputs)} inputs, {', '.join(self.inputs)}, got {len(xs)}")
        checked = []
        for x, (name, (dtype, shape)) in zip(xs, self.inputs.items(), strict=True):
            x = numpy.asarray(x)
            if (x.dtype.kind == "f") != (dtype.kind == "f"):
                raise DtypeError(f"{self!r}: input {name} must be {dtype}, got {x.dtype}")
            fits = x.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, x.shape, strict=True))
            if shape and not fits:
                wanted = ", ".join("any" if n is None else str(n) for n in shape)
                raise ShapeError(f"{self!r}: input {name} must have shape ({wanted}), got {x.shape}")
            checked.append(x.astype(dtype, copy=False))
        return checked

    def backward(self, dy: Any) -> Any:
        """Add to the gradients of the weights; return that of the input, or a tuple for several, None for integers."""
        tape, _ = self._remembered()
        upstream = dy if isinstance(dy, tuple) else (dy,)
        if len(upstream) != len(self.outputs):
            raise ShapeError(
                f"{self!r}: backward takes {len(self.outputs)} gradients, one for each output, got {len(upstream)}"
            )
        gradients: dict[str, Any] = {}
        for name, d in zip(self.outputs, upstream, strict=True):
            if d is not None:
                gradients[name] = gradients[name] + d if name in gradients else d
        for node, (back, count) in zip(reversed(self.graph.nodes), reversed(tape), strict=True):
            mine = [gradients.pop(name, None) if name else None for name in node.outputs]
            if all(d is None for d in mine) or not any(name in self._reached for name in node.outputs if name):
                continue
            mine += [None] * (count - len(mine))
            try:
                with numpy.errstate(all="ignore"):
                    found_here = back(*mine)
            except MinidlError as error:
                raise error.at(f"node {node.name} of the graph, {node.kind}")  # noqa: B904
            for name, d in zip(node.inputs, found_here, strict=False):
                if d is not None and name in self._reached:
                    gradients[name] = gradients[name] + d if name in gradients else d
        for name, own in self._by_name.items():
            if name in gradients and isinstance(vars(self)[own], Parameter):
                vars(self)[own].accumulate(gradients[name])
        given = tuple(self._input_gradient(name, gradients) for name in self.inputs)
        return given[0] if len(given) == 1 else given

    def _input_gradient(self, name: str, gradients: dict[str, Any]) -> Any:
        dtype, _ = self.inputs[name]
        if dtype.kind != "f":
            return None
        place = list(self.inputs).index(name)
        found = gradients.get(name)
        return numpy.zeros(self._remembered()[1][place], dtype) if found is None else numpy.ascontiguousarray(found)

    # precision, shapes -----------------------------------------------------------------------------------------------

    def to(self, engine: Any = None, dtype: Any = None) -> Layer:
        """Move or convert the weights, as every layer; with a dtype, the constants and casts of the graph too.

        Raises
        ------
        EngineError
            If the engine is not on the host: the rules of many operators are NumPy's.
        DtypeError
            If the dtype is not floating-point.
        """
        if engine is not None and (engines.get(engine) if isinstance(engine, str) else engine).xp is not numpy:
            raise EngineError(f"{self!r}: a graph is computed on the host; choose the engine numpy or native")
        super().to(engine, dtype)
        if dtype is not None:
            new, old = (
                numpy.dtype(dtype),
                {d for d, _ in self.inputs.values() if d.kind == "f"} | {numpy.dtype("float32")},
            )

            def turn(value: Any) -> Any:
                if isinstance(value, numpy.ndarray):
                    return value.astype(new) if value.dtype in old else value
                return new if isinstance(value, numpy.dtype) and value in old else value

            self.inputs = {name: (turn(d), shape) for name, (d, shape) in self.inputs.items()}
            self.graph.constants = {name: turn(value) for name, value in self.graph.constants.items()}
            self.graph.nodes = [
                replace(node, attributes={name: turn(value) for name, value in node.attributes.items()})
                for node in self.graph.nodes
            ]
        self._plan_inference()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the last forward kept for backward: functions, which cannot be pickled."""
        return {**vars(self), "_cache": None}

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one example of a single input, or None if it may vary."""
        (_, shape), *more = self.inputs.values()
        return None if more or not shape or None in shape[1:] else shape[1:]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one example of the output, by a forward of zeros; the graph's own description may be open."""
        (dtype, _), *more = self.inputs.values()
        if more or len(self.outputs) > 1:
            raise ShapeError(f"{self!r}: has several inputs or outputs, so one shape does not tell the others")
        with inference():
            return numpy.shape(self.forward(numpy.zeros((1, *input_shape), dtype)))[1:]

    def extra_repr(self) -> str:
        """Return the number of nodes and the inputs."""
        return f"{len(self.graph.nodes)} nodes, {', '.join(self.inputs)} to {', '.join(self.outputs)}"


def _placed(error: Exception, node: Any, values: dict[str, Any]) -> Exception:
    """Return an error with the node that it came from."""
    where = f"node {node.name} of the graph, {node.kind}"
    if isinstance(error, MinidlError):
        return error.at(where)
    shapes = ", ".join(str(numpy.shape(values[name])) for name in node.inputs if name in values)
    return ShapeError(f"{where} of shapes {shapes}: {error}")
