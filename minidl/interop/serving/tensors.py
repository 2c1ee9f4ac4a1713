"""The protocol's requests and answers: JSON, and tensors as JSON or as bytes behind it.

The bytes of tensors follow the JSON in the order in which it names them, little-endian and in C order; the header
``Inference-Header-Content-Length`` says where the JSON ends. This is the extension ``binary_tensor_data`` of the Open Inference
Protocol, version 2 (KServe, Triton).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

__all__ = ["HEADER_LENGTH", "Refusal", "Request", "TensorSpec", "read_request", "write_answer"]

HEADER_LENGTH = "Inference-Header-Content-Length"

_DATATYPES = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
"""The protocol's name of each NumPy dtype."""

_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
"""For each kind of dtype, the kinds of JSON numbers that it takes."""


class Refusal(Exception):
    """A request that is not answered: the status of HTTP and a sentence for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class TensorSpec:
    """What is known of an input or an output.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype
    shape : tuple of int
        Of one example; -1 is an axis of any length.
    """

    name: str
    dtype: numpy.dtype
    shape: tuple[int, ...]

    @property
    def datatype(self) -> str:
        """The protocol's name of the dtype."""
        return _DATATYPES[self.dtype.name]

    def describe(self) -> dict[str, Any]:
        """Return the entry of the model's metadata; its first axis is the batch."""
        return {"name": self.name, "datatype": self.datatype, "shape": [-1, *self.shape]}

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {[-1, *self.shape]}"


@dataclass(frozen=True)
class Request:
    """A request that was understood.

    Attributes
    ----------
    inputs : tuple of array
        In the order of the model's arguments, all with the same number of examples.
    outputs : dict
        For each output that is wanted, whether as bytes.
    id : str, optional
    """

    inputs: tuple[numpy.ndarray, ...]
    outputs: dict[str, bool]
    id: str | None


def read_request(
    body: bytes, header_length: str | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], max_batch: int
) -> Request:
    """Return what the body of a request asks for.

    Parameters
    ----------
    body : bytes
    header_length : str or None
        The header ``Inference-Header-Content-Length``; None if all is JSON.
    inputs, outputs : sequence of TensorSpec
        What the model takes and gives.
    max_batch : int
        The most examples of a request.

    Raises
    ------
    Refusal
        With status 400, if the request is not one of this protocol, or does not fit the model.
    """
    cut = _read_length(header_length, len(body))
    try:
        request = json.loads(body[:cut])
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    given = _tensors(request, "inputs")
    names, known = sorted(given), sorted(spec.name for spec in inputs)
    if names != known:
        raise Refusal(
            400, f"the model takes the inputs {', '.join(known)}; the request has {', '.join(names) or 'none'}"
        )
    chunks = _split(given, memoryview(body)[cut:])
    arrays = tuple(_read_tensor(spec, given[spec.name], chunks.get(spec.name)) for spec in inputs)
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise Refusal(400, f"the inputs have different numbers of examples: {', '.join(map(str, sorted(counts)))}")
    if len(arrays[0]) > max_batch:
        raise Refusal(400, f"a request may have {max_batch} examples at most, this has {len(arrays[0])}; send several")
    name = request.get("id")
    if name is not None and not isinstance(name, str):
        raise Refusal(400, "id must be a string")
    return Request(arrays, _read_wanted(request, outputs), name)


def write_answer(
    request: Request, results: Mapping[str, numpy.ndarray], model: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of an answer.

    Raises
    ------
    Refusal
        With status 500, if the model computed nan or inf, which JSON cannot hold.
    """
    entries, chunks = [], []
    for name, binary in request.outputs.items():
        y = results[name]
        if y.dtype.kind == "f" and not numpy.isfinite(y).all():
            raise Refusal(500, f"the model computed nan or inf in the output {name}; no answer is given")
        entry: dict[str, Any] = {"name": name, "datatype": _DATATYPES[y.dtype.name], "shape": list(y.shape)}
        if binary:
            chunks.append(numpy.ascontiguousarray(y, y.dtype.newbyteorder("<")).tobytes())
            entry["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            entry["data"] = y.ravel().tolist()
        entries.append(entry)
    answer = {"model_name": model, "model_version": version, "outputs": entries}
    if request.id is not None:
        answer["id"] = request.id
    text = json.dumps(answer, separators=(",", ":")).encode()
    if not chunks:
        return text, {"content-type": "application/json"}
    return b"".join([text, *chunks]), {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(text))}


def _read_length(header: str | None, size: int) -> int:
    """Return where the JSON ends."""
    if header is None:
        return size
    if not (header.isascii() and header.isdigit() and len(header) < 20 and int(header) <= size):
        raise Refusal(400, f"{HEADER_LENGTH} must be a number up to the body's {size} bytes, got {header[:40]!r}")
    return int(header)


def _tensors(request: Any, part: str) -> dict[str, dict[str, Any]]:
    """Return the tensors that a request lists, by name."""
    if not isinstance(request, dict):
        raise Refusal(400, "the body must be a JSON object")
    found = request.get(part, [])
    if not isinstance(found, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in found
    ):
        raise Refusal(400, f"{part} must be a list of objects, each with a name")
    named = {entry["name"]: entry for entry in found}
    if len(named) < len(found):
        raise Refusal(400, f"{part} has a name twice")
    return named


def _parameters(entry: dict[str, Any]) -> dict[str, Any]:
    found = entry.get("parameters", {})
    if not isinstance(found, dict):
        raise Refusal(400, "parameters must be an object")
    return found


def _split(given: dict[str, dict[str, Any]], rest: memoryview) -> dict[str, memoryview]:
    """Return the bytes of each tensor that is given as bytes."""
    chunks, at = {}, 0
    for name, entry in given.items():
        size = _parameters(entry).get("binary_data_size")
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - at:
            raise Refusal(
                400, f"input {name}: binary_data_size is {size!r}, but {len(rest) - at} bytes are left behind the JSON"
            )
        chunks[name] = rest[at : at + size]
        at += size
    if at < len(rest):
        raise Refusal(400, f"{len(rest) - at} bytes behind the JSON belong to no input")
    return chunks


def _read_tensor(spec: TensorSpec, entry: dict[str, Any], chunk: memoryview | None) -> numpy.ndarray:
    """Return an input as an array of the model's dtype."""
    where = f"input {spec.name}"
    shape: Any = entry.get("shape")
    if entry.get("datatype") != spec.datatype:
        raise Refusal(400, f"{where}: datatype must be {spec.datatype}, got {str(entry.get('datatype'))[:40]}")
    if not _fits(shape, spec.shape):
        raise Refusal(400, f"{where}: shape must be {[-1, *spec.shape]}, where -1 is any length, got {str(shape)[:80]}")
    count = math.prod(shape)  # of Python's integers, which do not overflow
    if chunk is not None:
        if "data" in entry:
            raise Refusal(400, f"{where}: there are both data and binary_data_size; give one")
        if len(chunk) != count * spec.dtype.itemsize:
            raise Refusal(400, f"{where}: shape {shape} needs {count * spec.dtype.itemsize} bytes, got {len(chunk)}")
        raw = "uint8" if spec.dtype.kind == "b" else spec.dtype.newbyteorder("<")
        array = numpy.frombuffer(chunk, raw).astype(spec.dtype, copy=False)
    else:
        array = _read_numbers(spec, entry.get("data"), where)
    if array.size != count:
        raise Refusal(400, f"{where}: shape {shape} needs {count} numbers, got {array.size}")
    if spec.dtype.kind == "f" and not numpy.isfinite(array).all():
        raise Refusal(400, f"{where}: there is nan or inf, or a number too large for {spec.datatype}")
    return array.reshape(shape)


def _fits(shape: Any, wanted: tuple[int, ...]) -> bool:
    """Whether a shape is that of one example or more."""
    return (
        isinstance(shape, list)
        and len(shape) == 1 + len(wanted)
        and all(type(n) is int and n >= 1 for n in shape)
        and all(want in (-1, n) for n, want in zip(shape[1:], wanted, strict=True))
    )


def _read_numbers(spec: TensorSpec, data: Any, where: str) -> numpy.ndarray:
    """Return the numbers of a list, which may be nested."""
    if not isinstance(data, list):
        raise Refusal(400, f"{where}: there is no data; give a list of numbers, or binary_data_size and bytes")
    try:
        found = numpy.asarray(data)
        if found.size and found.dtype.kind not in _KINDS[spec.dtype.kind]:
            raise Refusal(400, f"{where}: {spec.datatype} cannot be read from data such as {str(found.flat[0])[:40]!r}")
        with numpy.errstate(over="ignore"):  # it becomes inf, which is refused
            converted = found.astype(spec.dtype)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Refusal(400, f"{where}: data is no array of numbers: {error}") from error
    if spec.dtype.kind in "iu" and not numpy.array_equal(converted, found):
        raise Refusal(400, f"{where}: a number does not fit {spec.datatype}")
    return converted.ravel()


def _read_wanted(request: dict[str, Any], outputs: Sequence[TensorSpec]) -> dict[str, bool]:
    """Return the outputs that are wanted, all by default, and whether as bytes."""
    default = _parameters(request).get("binary_data_output", False)
    listed = _tensors(request, "outputs")
    known = [spec.name for spec in outputs]
    for name in listed:
        if name not in known:
            raise Refusal(400, f"there is no output {name[:40]!r}; the model gives {', '.join(known)}")
    wanted = {name: _parameters(listed.get(name, {})).get("binary_data", default) for name in listed or known}
    if not all(isinstance(binary, bool) for binary in wanted.values()):
        raise Refusal(400, "binary_data and binary_data_output must be true or false")
    return wanted
