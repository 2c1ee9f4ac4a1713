"""Read files, plain or compressed, with a bound on what a compressed one may become."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

from minidl.errors import FileFormatError, MinidlError, ParameterError
from minidl.weights.files import open_binary

__all__ = ["LARGEST_TEXT", "BoundedStream", "check_limit", "read_lines", "read_text"]

LARGEST_TEXT = 1 << 28
"""Bytes that a compressed text may become unless the caller says otherwise."""
LONGEST_LINE = 1 << 24
"""Characters of a line; a million columns are about half of it."""
CHUNK = 1 << 16
_SUFFIXES: dict[str, Callable[[BufferedReader], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_DAMAGE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError, ValueError)  # bz2 raises the last two


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8-sig", max_bytes: int | None = LARGEST_TEXT) -> str:
    """Return the text of a file; see :func:`read_lines` for the arguments and the errors."""
    return "".join(_pieces(path, encoding, max_bytes, lambda text: text.read(CHUNK)))


def read_lines(
    path: str | os.PathLike[str], encoding: str = "utf-8-sig", max_bytes: int | None = LARGEST_TEXT
) -> Iterator[str]:
    """Yield the lines of a text file with their ends; decompress it if its name ends in ``.gz``, ``.bz2`` or ``.xz``.

    Parameters
    ----------
    path : path
        The file.
    encoding : str, default "utf-8-sig"
        The encoding of the text.
    max_bytes : int or None, default 268435456
        The most bytes that a compressed file may become; None is no limit.

    Raises
    ------
    FileFormatError
        If a compressed file is damaged, truncated or becomes too large, the bytes are not text in this encoding, or a
        line has more than 2**24 characters.
    ParameterError
        If there is no such encoding, ``max_bytes`` is no such number, or the path contains a null byte.
    FileNotFoundError, PermissionError, IsADirectoryError
        From the operating system.
    """
    for number, line in enumerate(_pieces(path, encoding, max_bytes, lambda text: text.readline(LONGEST_LINE + 1)), 1):
        if len(line) > LONGEST_LINE and line[-1] not in "\r\n":
            raise FileFormatError(f"{os.fspath(path)}, line {number}: the line has more than {LONGEST_LINE} characters")
        yield line


def _pieces(
    path: str | os.PathLike[str], encoding: str, max_bytes: int | None, read: Callable[[io.TextIOWrapper], str]
) -> Iterator[str]:
    name = os.fspath(path)
    check_limit(name, max_bytes)
    with open_binary(path) as file:
        make = _SUFFIXES.get(Path(path).suffix.lower())
        stream = BoundedStream(file, name) if make is None else BoundedStream(make(file), name, max_bytes)
        try:
            text = io.TextIOWrapper(cast(BinaryIO, stream), encoding, newline="")
        except (LookupError, ValueError, TypeError) as error:
            raise ParameterError(f"{name}: encoding {encoding!r}: {error}") from error
        try:
            while piece := read(text):
                yield piece
        except MinidlError:
            raise
        except (ValueError, OverflowError) as error:  # UnicodeError and what some codecs raise instead
            where = str(error)
            if isinstance(error, UnicodeDecodeError):
                where = f"byte {stream.count - len(error.object) + error.start}"
            raise FileFormatError(
                f"{name}: {where} is not text in the encoding {encoding!r}; pass encoding='latin-1', or the encoding "
                "that the file was written in"
            ) from error


def check_limit(name: str, max_bytes: int | None) -> None:
    """Check the most bytes that a compressed file may become.

    Raises
    ------
    ParameterError
        If it is neither an integer of at least 1 nor None.
    """
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1):
        raise ParameterError(
            f"{name}: max_bytes must be an integer of at least 1, or None for no limit, got {max_bytes!r}"
        )


class BoundedStream(io.BufferedIOBase):
    """A stream whose errors name the file, and that ends in an error after too many bytes.

    Attributes
    ----------
    count : int
        The bytes that were read.

    Raises
    ------
    FileFormatError
        When reading: if the compressed data are damaged or end too early, or there are more than ``max_bytes`` bytes.
    """

    def __init__(self, stream: Any, name: str, max_bytes: int | None = None) -> None:
        self._stream, self._name, self._limit = stream, name, max_bytes
        self.count = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(CHUNK if size is None or size < 0 else size)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if self._limit is not None:
            size = min(size, self._limit - self.count + 1)  # no more than is needed to see that it is too much
        try:
            block = self._stream.read(size)
        except EOFError as error:
            raise FileFormatError(f"{self._name}: the compressed data end too early; get the file again") from error
        except _DAMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:  # the operating system's
                raise
            raise FileFormatError(
                f"{self._name}: not compressed as its name says, or damaged: {error}; get the file again"
            ) from error
        self.count += len(block)
        if self._limit is not None and self.count > self._limit:
            raise FileFormatError(
                f"{self._name}: the file becomes more than {self._limit} bytes when it is decompressed; if it should, "
                "allow more with max_bytes=..."
            )
        return block
