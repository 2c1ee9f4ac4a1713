"""From a finished drawing to files: the graph, and weights in a safetensors file at which it points."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

import minidl
from minidl.errors import DataError, ParameterError
from minidl.interop.onnx.drawing import Drawing, Symbol
from minidl.interop.onnx.extra import import_onnx
from minidl.interop.onnx.lengths import Length
from minidl.weights import write_atomically

__all__ = ["describe", "read_header", "write_model"]

LARGEST = 2**31 - 1
"""The bytes that a message of protobuf may have."""


def write_model(
    drawing: Drawing,
    inputs: Mapping[str, Symbol],
    outputs: Sequence[Symbol],
    model: Any,
    path: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None,
) -> None:
    """Write the graph, and the weights unless they are inside. The weights are written first, so that a graph never lacks them."""
    onnx = import_onnx("export")
    path = Path(path)
    where: dict[str, tuple[str, int, int]] = {}
    if weights != "inside" and drawing.weights:
        file = path.with_suffix(".safetensors") if weights is None else Path(weights)
        if file.absolute().parent != path.absolute().parent:
            raise ParameterError(f"export: the weights must lie beside the graph, in {path.parent}, got {file}")
        model.save(file)
        where = _places(file)
    proto = _proto(onnx, drawing, inputs, outputs, type(model).__name__, where)
    if proto.ByteSize() > LARGEST:
        raise DataError("export: a graph holds less than 2 GB; leave the weights in a file of their own")
    write_atomically(path, proto.SerializeToString())


def read_header(file: str | os.PathLike[str]) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where the numbers begin."""
    with Path(file).open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(size)), 8 + size


def _places(file: Path) -> dict[str, tuple[str, int, int]]:
    """Return file, offset and length of each tensor of a safetensors file."""
    header, start = read_header(file)
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (file.name, start + begin, end - begin) for name, (begin, end) in offsets.items()}


def describe(path: str | os.PathLike[str]) -> list[str]:
    """Return lines that say what a file holds, for the command line."""
    onnx = import_onnx("export")
    model = onnx.load(os.fspath(path), load_external_data=False)
    lines = [f"{os.fspath(path)}: opset {model.opset_import[0].version}, {len(model.graph.node)} nodes"]
    for verb, values in (("takes", model.graph.input), ("gives", model.graph.output)):
        for value in values:
            lengths = [
                d.dim_param or (str(d.dim_value) if d.dim_value else "?") for d in value.type.tensor_type.shape.dim
            ]
            lines.append(f"  {verb} {value.name}, ({', '.join(lengths)})")
    places = {entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"}
    return lines + [f"  reads its weights from {place}, which must stay beside it" for place in sorted(places)]


def _proto(
    onnx: Any,
    drawing: Drawing,
    inputs: Mapping[str, Symbol],
    outputs: Sequence[Symbol],
    title: str,
    where: Mapping[str, tuple[str, int, int]],
) -> Any:
    helper = onnx.helper
    names = ["y"] if len(outputs) == 1 else [f"y{i}" for i in range(len(outputs))]
    for symbol, name in zip(outputs, names, strict=True):  # an output may be an input, or come twice
        drawing.nodes.append(("Identity", [drawing.name_of(symbol)], [name], {}))
    nodes = [_node(onnx, drawing, *node) for node in drawing.nodes]
    used = {name for node in nodes for name in node.input}
    constants = [
        _tensor(onnx, drawing, name, array, where) for name, array in drawing.constants.items() if name in used
    ]
    graph = helper.make_graph(
        nodes,
        title,
        [_value(helper, name, symbol, next(iter(inputs))) for name, symbol in inputs.items()],
        [_value(helper, name, symbol, next(iter(inputs))) for name, symbol in zip(names, outputs, strict=True)],
        constants,
    )
    opsets = [helper.make_opsetid("", drawing.opset)]
    return helper.make_model(
        graph,
        opset_imports=opsets,
        ir_version=max(helper.find_min_ir_version_for(opsets), 8),
        producer_name="minidl",
        producer_version=minidl.__version__,
    )


def _node(onnx: Any, drawing: Drawing, kind: str, inputs: list[str], outputs: list[str], how: dict[str, Any]) -> Any:
    """Return one node; axes of reductions became inputs, those of sums with opset 13 and the others with 18."""
    how = dict(how)
    if kind.startswith("Reduce") and "axes" in how and (kind == "ReduceSum" or drawing.opset >= 18):
        inputs = [*inputs, drawing.constant(numpy.array(how.pop("axes"), "int64"))]
    if kind == "Cast":
        how["to"] = onnx.helper.np_dtype_to_tensor_dtype(how["to"])
    return onnx.helper.make_node(kind, inputs, outputs, name=outputs[0], **how)


def _tensor(onnx: Any, drawing: Drawing, name: str, array: Any, where: Mapping[str, tuple[str, int, int]]) -> Any:
    """Return a constant, with its numbers or with the place where they are."""
    proto = onnx.TensorProto()
    proto.name = name
    bits = name in drawing.bfloat16
    proto.data_type = onnx.TensorProto.BFLOAT16 if bits else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    proto.dims.extend(array.shape)
    if name not in where or name not in drawing.weights:
        proto.raw_data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        return proto
    proto.data_location = onnx.TensorProto.EXTERNAL
    for key, value in zip(("location", "offset", "length"), where[name], strict=True):
        entry = proto.external_data.add()
        entry.key, entry.value = key, str(value)
    return proto


def _value(helper: Any, name: str, symbol: Symbol, first: str) -> Any:
    """Return name, dtype and shape of an input or output; lengths that vary have names, those computed have none."""
    shape: list[Any] = []
    for n in symbol.shape:
        if not isinstance(n, Length):
            shape.append(int(n))
        elif n.key[0] != "input":
            shape.append(None)
        else:
            shape.append("N" if n.key[1:] == (first, 0) else f"{n.key[1]}_{n.key[2]}")
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(symbol.dtype), shape)
