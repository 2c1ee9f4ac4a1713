"""Files of token ids, written once and then memory-mapped, so that a text of any size takes no memory."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable
from typing import IO, BinaryIO

import numpy

from minidl.errors import DataError, DtypeError, FileFormatError, ParameterError, ShapeError
from minidl.weights.files import atomic_file, open_binary

__all__ = ["open_tokens", "split_tokens", "token_dtype", "write_tokens"]

FORMAT = numpy.lib.format


def token_dtype(vocab_size: int) -> numpy.dtype:
    """Return the smallest unsigned dtype that holds the ids of a vocabulary.

    >>> token_dtype(256), token_dtype(50257), token_dtype(100_000)
    (dtype('uint8'), dtype('uint16'), dtype('uint32'))
    """
    if not 1 <= vocab_size <= 1 << 32:
        raise ParameterError(f"token_dtype: vocab_size must be from 1 to 2**32, got {vocab_size!r}")
    return numpy.min_scalar_type(int(vocab_size) - 1)


def write_tokens(path: str | os.PathLike[str], tokens: numpy.ndarray | Iterable[numpy.ndarray], vocab_size: int) -> int:
    """Write token ids to a file of NumPy's format, as a whole or not at all; return their number.

    Parameters
    ----------
    path : path
        Usually with the suffix ``.npy``. ``open_tokens`` or ``numpy.load(path, mmap_mode="r")`` reads it.
    tokens : integer array, shape (T,), or iterable of such arrays
        An iterable is written piece by piece, so that the ids need not fit into memory.
    vocab_size : int
        Decides the dtype: one byte for each id up to 256, two up to 65536, else four.

    Raises
    ------
    DataError
        If an id is not in the vocabulary.
    DtypeError, ShapeError
        If the ids are not integers in one dimension.
    ParameterError
        If the size of the vocabulary is no such number.
    """
    dtype = token_dtype(vocab_size)
    pieces = [tokens] if isinstance(tokens, numpy.ndarray) else tokens
    count = 0
    with atomic_file(path) as file:
        _write_header(file, dtype, 0)
        for piece in pieces:
            _check_piece(piece, vocab_size, count)
            file.write(piece.astype(dtype).tobytes())
            count += len(piece)
        file.seek(0)
        _write_header(file, dtype, count)  # NumPy leaves room for a longer count
    return count


def _write_header(file: IO[bytes], dtype: numpy.dtype, count: int) -> None:
    header = {"descr": FORMAT.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    FORMAT.write_array_header_1_0(file, header)


def _check_piece(piece: numpy.ndarray, vocab_size: int, before: int) -> None:
    kind = getattr(getattr(piece, "dtype", None), "kind", "")
    if kind not in ("i", "u"):
        raise DtypeError(
            f"write_tokens: expected arrays of integers, got {getattr(piece, 'dtype', type(piece).__name__)}"
        )
    if piece.ndim != 1:
        raise ShapeError(f"write_tokens: expected token ids in one dimension, got shape {piece.shape}")
    bad = (piece < 0) | (piece >= vocab_size)
    if bad.any():
        place = int(bad.argmax())
        raise DataError(
            f"write_tokens: the ids of a vocabulary of {vocab_size} are 0 to {vocab_size - 1}, got {int(piece[place])} at "
            f"index {before + place}"
        )


def open_tokens(path: str | os.PathLike[str]) -> numpy.ndarray:
    """Return the token ids of a file as a memory map that cannot be written to, shape (T,).

    Raises
    ------
    FileFormatError
        If the file is none that :func:`write_tokens` wrote, or is cut short.
    FileNotFoundError, PermissionError, IsADirectoryError
        If it cannot be read.
    ParameterError
        If the path contains a null byte.
    """
    name = os.fspath(path)
    with open_binary(path) as file:
        dtype, count = _read_header(file, name)
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
    if size != count * dtype.itemsize:
        raise FileFormatError(
            f"{name}: {count} token ids of {dtype} are {count * dtype.itemsize} bytes, but there are {size}; write it again"
        )
    if not count:
        return numpy.zeros(0, dtype)  # nothing to map
    return numpy.memmap(path, dtype, "r", start, (count,))


def _read_header(file: BinaryIO, name: str) -> tuple[numpy.dtype, int]:
    """Return the dtype and the number of the ids.

    NumPy's own reader tries to repair headers that it cannot read, warns of it, and raises errors of many kinds.
    """
    try:
        if FORMAT.read_magic(file) != (1, 0):
            raise ValueError("it is of another version of NumPy's format")
        length = int.from_bytes(file.read(2), "little")
        header = ast.literal_eval(file.read(length).decode("latin-1"))
        dtype, shape = FORMAT.descr_to_dtype(header["descr"]), header["shape"]
        if not (isinstance(shape, tuple) and len(shape) == 1 and isinstance(shape[0], int) and shape[0] >= 0):
            raise ValueError(f"it holds an array of shape {shape!r}, not of one dimension")
        if dtype.kind != "u" or dtype.itemsize > 4:
            raise ValueError(f"it holds {dtype}, not unsigned integers")
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise FileFormatError(f"{name}: expected a file of token ids as write_tokens makes it: {error}") from error
    return dtype, shape[0]


def split_tokens(tokens: numpy.ndarray, validation: float = 0.1) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return views of the first part of a text, for training, and of the last, for validation.

    By position, because windows drawn from one part would overlap with those of the other.

    Parameters
    ----------
    tokens : array, shape (T,)
    validation : float, default 0.1
        The share of the last part, at least 0 and below 1.

    Raises
    ------
    ParameterError
        If the share is out of range.

    Examples
    --------
    >>> split_tokens(numpy.arange(10), 0.2)
    (array([0, 1, 2, 3, 4, 5, 6, 7]), array([8, 9]))
    """
    if not 0 <= validation < 1:
        raise ParameterError(f"split_tokens: validation must be a share, at least 0 and below 1, got {validation!r}")
    place = len(tokens) - round(len(tokens) * validation)
    return tokens[:place], tokens[place:]
