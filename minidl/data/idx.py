"""The IDX format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import math
import os
import stat
from io import BufferedReader
from pathlib import Path

import numpy

from minidl.data.files import BoundedStream, check_limit
from minidl.errors import DtypeError, FileFormatError
from minidl.weights import write_atomically
from minidl.weights.files import open_binary

__all__ = ["read_idx", "write_idx"]

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP = b"\x1f\x8b"
BLOCK = 1 << 20
LARGEST = 1 << 30
MOST_AXES = 64
"""NumPy's limit; the format's is 255."""


def read_idx(path: str | os.PathLike[str], *, max_bytes: int | None = LARGEST) -> numpy.ndarray:
    """Read an array from an IDX file, plain or gzip-compressed (recognised by its content).

    The header is two zero bytes, a byte for the type of the elements, a byte for the number of axes, and four bytes, most
    significant first, for the length of each axis. The elements follow in C order, most significant byte first.

    Parameters
    ----------
    path : path
    max_bytes : int or None, default 1073741824
        The most bytes that the elements of a compressed file may take; None is no limit.

    Returns
    -------
    array : array
        Of uint8, int8, int16, int32, float32 or float64, in the byte order of this machine.

    Raises
    ------
    FileFormatError
        If the file is not an IDX file, is damaged, does not have the size that its header announces, or is compressed and
        announces more than ``max_bytes``.
    ParameterError
        If ``max_bytes`` is not a positive integer or None, or the path contains a null byte.
    FileNotFoundError
        If there is no such file.

    References
    ----------
    Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "file formats".

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/a.gz", numpy.array([[1, 2], [3, 4]], dtype="int16"))
    ...     read_idx(f"{folder}/a.gz")
    array([[1, 2],
           [3, 4]], dtype=int16)
    """
    name = os.fspath(path)
    check_limit(name, max_bytes)
    with open_binary(path) as file:
        compressed = file.peek(2)[:2] == GZIP
        stream = BoundedStream(gzip.GzipFile(fileobj=file) if compressed else file, name)
        dtype, shape = _header(stream, name)
        size = math.prod(shape) * dtype.itemsize
        if compressed and max_bytes is not None and size > max_bytes:
            raise FileFormatError(
                f"{name}: the header announces {size} bytes of elements (shape {shape}, {dtype.name}); a compressed file "
                f"may hold {max_bytes}; if it should hold more, allow it with max_bytes=..."
            )
        content = bytearray()
        found = None if compressed else _left(file)
        if found is None or found == size:
            while len(content) <= size and (block := stream.read(min(BLOCK, size + 1 - len(content)))):
                content += block
            found = len(content)
    if found != size:
        raise FileFormatError(
            f"{name}: the header announces {size} bytes of elements (shape {shape}, {dtype.name}), but there are "
            f"{'more' if found > size else found}; get the file again"
        )
    try:
        array = numpy.frombuffer(content, dtype).reshape(shape)
    except ValueError as error:  # no elements, but axes that are too long together
        raise FileFormatError(f"{name}: no array can have the shape {shape}: {error}") from error
    native = dtype.newbyteorder("=")
    return array if native == dtype else array.byteswap(inplace=True).view(native)


def _left(file: BufferedReader) -> int | None:
    """Return how many bytes follow in a file; None if it is a pipe."""
    found = os.fstat(file.fileno())
    return found.st_size - file.tell() if stat.S_ISREG(found.st_mode) else None


def _header(stream: BoundedStream, name: str) -> tuple[numpy.dtype, tuple[int, ...]]:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES:
        raise FileFormatError(
            f"{name}: not an IDX file: it begins with {start.hex(' ') or 'nothing'}, expected 00 00, a type "
            f"({', '.join(f'{t:02x}' for t in TYPES)}) and the number of axes"
        )
    lengths = stream.read(4 * start[3])
    if len(lengths) != 4 * start[3]:
        raise FileFormatError(
            f"{name}: the header of an IDX file with {start[3]} axes is cut short; get the file again"
        )
    if start[3] > MOST_AXES:
        raise FileFormatError(f"{name}: it holds an array of {start[3]} axes; NumPy's have at most {MOST_AXES}")
    return numpy.dtype(TYPES[start[2]]), tuple(map(int, numpy.frombuffer(lengths, ">u4")))


def write_idx(path: str | os.PathLike[str], array: numpy.ndarray) -> None:
    """Write an array as an IDX file, compressed if the name ends in ``.gz``; see :func:`read_idx`.

    The file appears whole or not at all. The same array gives the same bytes.

    Raises
    ------
    DtypeError
        If the format has no type for the dtype of the array.
    FileFormatError
        If the array has more than 255 axes, or an axis too long for 32 bits.
    """
    array = numpy.asarray(array)
    kinds = {numpy.dtype(code).newbyteorder("="): kind for kind, code in TYPES.items()}
    kind = kinds.get(array.dtype.newbyteorder("="))
    if kind is None:
        raise DtypeError(
            f"write_idx: expected one of {', '.join(d.name for d in kinds)}, got {array.dtype}; convert it with "
            "array.astype(...)"
        )
    if array.ndim > 255 or max(array.shape, default=0) >= 2**32:
        raise FileFormatError(f"write_idx: the format cannot hold an array of shape {array.shape}")
    header = bytes([0, 0, kind, array.ndim]) + numpy.array(array.shape, ">u4").tobytes()
    content = header + array.astype(TYPES[kind], order="C").tobytes()
    write_atomically(path, gzip.compress(content, mtime=0) if Path(path).suffix == ".gz" else content)
