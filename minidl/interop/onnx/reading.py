"""From a file to nodes: attributes, constants and weights; what is not supported is listed all at once, and what is known is computed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy

from minidl.errors import FileFormatError, MinidlError
from minidl.interop.onnx.extra import import_onnx
from minidl.interop.onnx.operators import OPERATORS, Node, Unsupported
from minidl.interop.onnx.rewriting import rewrite

__all__ = ["OLDEST", "Graph", "read_graph", "read_model"]

OLDEST = 7
"""The oldest opset that is read: before it, arithmetic was broadcast by attributes."""

WEIGHTED = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "BatchNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "GroupNormalization",
        "PRelu",
        "RNN",
        "LSTM",
        "GRU",
    ]
)
"""Operators of which any floating-point constant is a weight, even one written as a node or with one element."""


@dataclass
class Graph:
    """What a file says, ready to be computed.

    Attributes
    ----------
    nodes : list of Node
        In the order in which they run.
    constants : dict of str to numpy.ndarray
    weights : dict of str to numpy.ndarray
        The constants that are trained.
    inputs : dict of str to (dtype, shape)
        A shape has None for lengths that may vary.
    outputs : list of str
    """

    nodes: list[Node]
    constants: dict[str, numpy.ndarray]
    weights: dict[str, numpy.ndarray]
    inputs: dict[str, tuple[numpy.dtype, tuple[Any, ...]]]
    outputs: list[str]


def read_model(path: str | os.PathLike[str]) -> Any:
    """Return the message of a file.

    Raises
    ------
    FileFormatError
        If it is no ONNX file.
    OSError
        From the operating system.
    """
    onnx = import_onnx("load")
    with Path(path).open("rb"):
        pass  # the system's own error, if it cannot be read
    try:
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(os.fspath(path))
    except OSError:
        raise
    except Exception as error:  # protobuf and the checker have many
        reason = " ".join(str(error).split())[:300]
        raise FileFormatError(f"{os.fspath(path)} is not a valid ONNX file: {reason}") from error
    return model


def read_graph(model: Any) -> Graph:
    """Return the graph of a message.

    Raises
    ------
    Unsupported
        If it has nodes that minidl does not compute; the message lists all of them, with their names and attributes.
    """
    onnx = import_onnx("load")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    problems = [] if opset >= OLDEST else [f"opset {opset} is older than {OLDEST}"]
    graph = model.graph
    if graph.sparse_initializer:
        problems.append("sparse weights")
    nodes = []
    for index, proto in enumerate(graph.node):
        node = _node(onnx, proto, index, opset)
        nodes.append(node)
        domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
        problems += [] if not (why := _problem(node, domain)) else [f"{node.name}: {domain}{node.kind}{why}"]
    if problems:
        raise Unsupported(
            f"load: minidl does not compute {len(problems)} parts of this graph:\n  " + "\n  ".join(problems)
        )
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = {value.name: _described(onnx, value) for value in graph.input if value.name not in constants}
    found = Graph(nodes, constants, {}, inputs, [value.name for value in graph.output])
    _leave_out_unused(found)
    _name_weights(found)
    _compute_known(found)
    rewrite(found)
    _leave_out_unused(found)
    return found


def _node(onnx: Any, proto: Any, index: int, opset: int) -> Node:
    return Node(
        proto.op_type,
        proto.name or f"#{index}",
        tuple(proto.input),
        tuple(proto.output),
        {attribute.name: _attribute(onnx, attribute) for attribute in proto.attribute},
        opset,
    )


def _attribute(onnx: Any, attribute: Any) -> Any:
    """Return an attribute's value: text decoded, tensors as arrays, and dtypes as NumPy's."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [part.decode("utf-8", "replace") for part in value]
    if attribute.name in ("to", "dtype") and isinstance(value, int):
        return onnx.helper.tensor_dtype_to_np_dtype(value)
    return value


def _problem(node: Node, domain: str) -> str:
    """Say what of a node is not supported, or return an empty string."""
    operator = OPERATORS.get(node.kind) if not domain else None
    if operator is None:
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in node.attributes.items())
        return f"({shown})" if shown else "()"
    wrong = [
        f"{name}={_shown(value)}"
        for name, value in node.attributes.items()
        if name not in operator.attributes or (name in operator.only and value not in operator.only[name])
    ]
    return f" with {', '.join(wrong)}" if wrong else ""


def _shown(value: Any) -> str:
    text = f"array of shape {value.shape}" if isinstance(value, numpy.ndarray) else repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__}"


def _described(onnx: Any, value: Any) -> tuple[numpy.dtype, tuple[Any, ...]]:
    """Return dtype and shape of an input."""
    kind = value.type.tensor_type
    if not kind.elem_type or kind.elem_type == onnx.TensorProto.STRING:
        raise Unsupported(f"load: input {value.name} is no array of numbers")
    shape = tuple(d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim)
    return numpy.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape


def _leave_out_unused(graph: Graph) -> None:
    """Keep the nodes and constants that outputs depend on."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(replace(node, outputs=tuple(name if name in wanted else "" for name in node.outputs)))
    graph.nodes = kept[::-1]
    for arrays in (graph.constants, graph.weights):
        for name in [name for name in arrays if name not in wanted]:
            del arrays[name]


def _name_weights(graph: Graph) -> None:
    """Move from the constants to the weights what is trained: floating-point arrays that a gradient reaches."""
    plain = []
    for node in graph.nodes:
        if node.kind == "Constant":
            (value,), _ = OPERATORS["Constant"].rule(node)
            graph.constants[node.outputs[0]] = value
        else:
            plain.append(node)
    written = {node.outputs[0] for node in graph.nodes if node.kind == "Constant"}
    graph.nodes = plain
    for node in plain:
        for place, name in enumerate(node.inputs):
            value = graph.constants.get(name)
            if value is None or value.dtype.kind != "f" or not value.ndim or place in OPERATORS[node.kind].settings:
                continue
            if node.kind in WEIGHTED or (value.size > 1 and name not in written):
                graph.weights[name] = value
    for name in graph.weights:
        del graph.constants[name]


def _compute_known(graph: Graph) -> None:
    """Compute once what depends on constants alone."""
    left = []
    for node in graph.nodes:
        if not all(name in graph.constants for name in node.inputs if name) or not any(node.inputs):
            left.append(node)
            continue
        outputs = _run_known(node, graph.constants)
        graph.constants.update({name: y for name, y in zip(node.outputs, outputs, strict=False) if name})
    graph.nodes = left


def _run_known(node: Node, values: Mapping[str, Any]) -> Any:
    """Return the outputs of a node whose inputs are known.

    Raises
    ------
    FileFormatError
        If they do not fit together.
    """
    try:
        with numpy.errstate(all="ignore"):
            return OPERATORS[node.kind].rule(node, *(values[name] if name else None for name in node.inputs))[0]
    except Unsupported:
        raise
    except (MinidlError, ValueError, IndexError, TypeError, KeyError) as error:
        raise FileFormatError(f"load: the constants of node {node.name}, {node.kind}, do not fit: {error}") from error
