"""Reading and writing one safetensors file.

A file consists of the length of the header in 8 bytes, the header as JSON, and the tensors without gaps. The format:
https://huggingface.co/docs/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy

from minidl.arrays import to_host
from minidl.errors import DtypeError, FileFormatError, MissingDependencyError, ParameterError
from minidl.ops import Array
from minidl.weights.tensors import BLOCK, Bfloat16Array, Tensor, from_bfloat16, narrow

__all__ = [
    "PICKLED",
    "SAVED_DTYPES",
    "StoredTensor",
    "list_tensors",
    "parse_json",
    "read_metadata",
    "stored_size",
    "write_tensors",
]

_STORED = {
    **{f"F{8 * size}": numpy.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"I{8 * size}": numpy.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": numpy.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": numpy.dtype("?"),
    "C64": numpy.dtype("<c8"),
    "BF16": numpy.dtype("<u2"),  # its bits: NumPy has no such dtype
}
_CODES = {dtype: code for code, dtype in reversed(_STORED.items())}
SAVED_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}
"""The dtypes in which floating-point numbers can be saved, with their codes in the format."""

PICKLED = (
    "It may hold a pickle, which can run any code, so minidl never reads it. Convert it with PyTorch: "
    'safetensors.torch.save_file(torch.load(path, weights_only=True), "model.safetensors")'
)
"""What to do with a file of PyTorch that is not safetensors."""
_ZIPPED = "Read it with numpy.load and hand the arrays to load_state_dict, by name"
_ADVICE = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"), PICKLED),
    **dict.fromkeys((".npz", ".npy"), _ZIPPED),
}


def _safetensors(feature: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingDependencyError.needs(feature, "safetensors", "weights") from error
    return safetensors


def parse_json(text: bytes) -> Any:
    """Parse JSON.

    Raises
    ------
    ValueError
        If it is not JSON, or an object has one name twice.
    """

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=to_dict)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class StoredTensor(Tensor):
    """A tensor in an open file.

    Files are not memory-mapped, because mapped pages count as memory of the process, and because a mapped file that another
    program truncates would end the process instead of raising an error.
    """

    def __init__(self, name: str, code: str, shape: tuple[int, ...], file: BufferedReader, start: int) -> None:
        self.name, self.dtype, self.shape = name, code, shape
        self._stored = _STORED.get(code)
        self._bfloat16 = code == "BF16"
        self._values = numpy.dtype("float32") if self._bfloat16 else self._stored
        self.kind = "" if self._values is None else self._values.kind
        self._file, self._start = file, start

    def check_readable(self) -> None:
        """Raise FileFormatError if NumPy lacks the dtype."""
        if self._stored is None:
            raise FileFormatError(
                f"{self._file.name}: the tensor {self.name} has dtype {self.dtype}, which minidl does not read; it reads "
                f"{', '.join(_STORED)}"
            )

    def read(self, start: int, stop: int) -> numpy.ndarray:
        stored = numpy.empty(stop - start, self._stored)
        self._read_bytes(start, stored)
        return from_bfloat16(stored) if self._bfloat16 else stored

    def read_into(self, destination: numpy.ndarray) -> None:
        if destination.dtype == self._values == self._stored and destination.flags.c_contiguous:
            self._read_bytes(0, destination.reshape(-1))
        else:
            super().read_into(destination)

    def read_all(self) -> numpy.ndarray:
        """Return the tensor as a new array, bfloat16 as float32."""
        self.check_readable()
        try:
            array = numpy.empty(self.shape, self._values)
        except ValueError as error:  # more axes than NumPy supports
            raise FileFormatError(f"{self._file.name}: {self.name} has shape {self.shape}: {error}") from error
        self.read_into(array)
        return array

    def _read_bytes(self, start: int, flat: numpy.ndarray) -> None:
        self._file.seek(self._start + start * flat.itemsize)
        if self._file.readinto(flat.view(numpy.uint8).data) != flat.nbytes:
            raise FileFormatError(f"{self._file.name} was truncated while {self.name} was read from it")


def list_tensors(file: BufferedReader) -> dict[str, StoredTensor]:
    """Return the tensors of an open file by name. Only the header is read.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    FileFormatError
        If the file is not a safetensors file, is truncated, or is damaged.
    """
    safetensors = _safetensors("loading weights")
    try:
        with safetensors.safe_open(file.name, framework="numpy"):
            pass  # this checks that all tensors are inside the file, without gaps or overlaps, and have the right sizes
        length = int.from_bytes(file.read(8), "little")
        header = parse_json(file.read(length))
    except Exception as error:  # the error class of the package is a direct subclass of Exception
        size = os.fstat(file.fileno()).st_size
        raise FileFormatError(
            f"{file.name} is not a whole safetensors file ({size} bytes): {error}{_advice(file, error)}"
        ) from error
    header.pop("__metadata__", None)
    return {
        name: StoredTensor(name, about["dtype"], tuple(about["shape"]), file, 8 + length + about["data_offsets"][0])
        for name, about in header.items()
    }


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, or of the first shard of an index.

    Raises
    ------
    MissingDependencyError, FileFormatError, FileNotFoundError
        As :func:`list_tensors`.
    """
    if path.suffix == ".json":
        try:
            path = path.with_name(min(parse_json(path.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{path} is not an index of shards: {error!r}") from error
    with path.open("rb") as file:
        list_tensors(file)
        file.seek(0)
        header = parse_json(file.read(int.from_bytes(file.read(8), "little")))
    return dict(header.get("__metadata__", {}))


def _advice(file: BufferedReader, error: Exception) -> str:
    """Return what to do about a dtype that the package does not know, or a file of another kind, as its start tells."""
    if "unknown variant" in str(error):
        return ". A newer version of the package safetensors may know this dtype; without it nothing here can be read"
    file.seek(0)
    start = file.read(4)
    advice = _ADVICE.get(Path(file.name).suffix.lower()) or (
        PICKLED if start[:1] == b"\x80" or start == b"PK\3\4" else ""
    )
    return f". {advice}" if advice else ""


def _stored_dtype(name: str, array: Array, dtype: str | None) -> tuple[str, numpy.dtype[Any]]:
    """Return the code of the dtype in which an array is stored, and that of NumPy.

    Raises
    ------
    DtypeError
        If the format has no such dtype.
    """
    own = numpy.dtype(array.dtype)
    if dtype is None and isinstance(array, Bfloat16Array):
        dtype = "bfloat16"
    code = SAVED_DTYPES[dtype] if dtype and own.kind == "f" else _CODES.get(own.newbyteorder("<"))
    if code is None:
        raise DtypeError(f"{name} has dtype {own}, which safetensors files do not have")
    return code, _STORED[code]


def stored_size(name: str, array: Array, dtype: str | None) -> int:
    """Return the size of an array in the file, in bytes."""
    return math.prod(array.shape) * _stored_dtype(name, array, dtype)[1].itemsize


def write_tensors(
    file: IO[bytes], arrays: Mapping[str, Array], dtype: str | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays to an open file one by one, without a second copy of all of them in memory.

    Raises
    ------
    MissingDependencyError
        If the package safetensors, which checks what was written, is not installed.
    DtypeError
        If the format has no such dtype.
    ParameterError
        If a name, or anything in the metadata, is not a string.
    NonFiniteError
        If a finite number would become infinite in ``dtype``.
    """
    safetensors = _safetensors("saving weights")
    metadata = dict(metadata or {})
    texts = [*arrays, *metadata, *metadata.values()]
    if not all(isinstance(text, str) for text in texts) or "__metadata__" in arrays:
        raise ParameterError("save: names of tensors, and names and values of metadata, must be strings")
    stored = {name: _stored_dtype(name, array, dtype) for name, array in arrays.items()}
    order = sorted(arrays, key=lambda name: -stored[name][1].itemsize)  # each then starts at a multiple of its itemsize
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name in order:
        start, end = end, end + stored_size(name, arrays[name], dtype)
        header[name] = {"dtype": stored[name][0], "shape": list(arrays[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        code, element = stored[name]
        flat = to_host(arrays[name]).reshape(-1)
        for at in range(0, flat.size, BLOCK):
            block = narrow(flat[at : at + BLOCK], element, code == "BF16", name)
            file.write(numpy.ascontiguousarray(block).view(numpy.uint8).data)
    file.flush()
    try:
        with safetensors.safe_open(file.name, framework="numpy"):
            pass  # checks that others can read the file
    except Exception as error:
        raise ParameterError(f"save: these names, shapes or dtypes cannot be written: {error}") from error
