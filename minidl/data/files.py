"""Read files, plain or compressed, with a bound on what a compressed one may become."""

from __future__ import annotations

import bz2
import codecs
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

__all__ = ["LARGEST_TEXT", "BoundedStream", "check_limit", "decompressed", "read_lines", "read_text"]

LARGEST_TEXT = 1 << 28
"""Bytes that a compressed text may become unless the caller says otherwise."""
LONGEST_LINE = 1 << 24
"""Characters of a line; a million columns are about half of it. A file that ends no line cannot fill the memory."""
CHUNK = 1 << 16
_COMPRESSED: dict[str, tuple[bytes, Callable[[BufferedReader], Any]]] = {
    ".gz": (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    ".bz2": (b"BZh", bz2.BZ2File),
    ".xz": (b"\xfd7zXZ", lzma.LZMAFile),
}
"""By suffix: the first bytes, and the function that decompresses."""
_FOREIGN = {b"PK\x03\x04": "a zip", b"\x28\xb5\x2f\xfd": "a zstd", b"PAR1": "a Parquet"}
_DAMAGE = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError, ValueError)  # bz2 raises the last two


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8-sig", max_bytes: int | None = LARGEST_TEXT) -> str:
    """Return the text of a file; see :func:`read_lines` for the arguments and the errors."""
    return "".join(read_lines(path, encoding, max_bytes))


def read_lines(
    path: str | os.PathLike[str], encoding: str | None = "utf-8-sig", max_bytes: int | None = LARGEST_TEXT
) -> Iterator[str]:
    r"""Yield the lines of a text file, each with its end, ``\n``, ``\r\n`` or ``\r``. A byte order mark is left out.

    Files of gzip, bzip2 and xz are decompressed as they are read: those whose names end in ``.gz``, ``.bz2`` or ``.xz``, in
    upper or lower case, and those that begin as such files do.

    Parameters
    ----------
    path : path
        The file.
    encoding : str or None, default "utf-8-sig"
        The encoding of the text; None is the one that the system prefers.
    max_bytes : int or None, default 268435456
        The most bytes that a compressed file may become; None is no limit.

    Raises
    ------
    FileFormatError
        If a compressed file is damaged, truncated or becomes too large, the bytes are not text in this encoding, or a
        line has 2**24 characters or more.
    ParameterError
        If there is no such encoding, ``max_bytes`` is no such number, or the path contains a null byte.
    FileNotFoundError, PermissionError, IsADirectoryError
        From the operating system.
    """
    name = os.fspath(path)
    check_limit(name, max_bytes)
    with open_binary(path) as file:
        stream = _text_stream(file, name, max_bytes)
        try:
            text = io.TextIOWrapper(cast(BinaryIO, stream), encoding, newline="")
        except (LookupError, ValueError, TypeError) as error:
            raise ParameterError(
                f"{name}: there is no encoding {encoding!r}; common ones are 'utf-8' and 'latin-1'"
            ) from error
        number = 0
        try:
            while line := text.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise FileFormatError(
                        f"{name}, line {number}: a line has {LONGEST_LINE} characters or more; this is no file of text"
                    )
                if "\0" in line:
                    raise FileFormatError(
                        f"{name}: holds zero bytes, so it is no text in {encoding!r}; is it 'utf-16'?"
                    )
                yield line.removeprefix("\ufeff") if number == 1 else line
        except MinidlError:
            raise
        except (ValueError, OverflowError) as error:  # UnicodeError, and what some codecs raise instead
            place = str(error)
            if isinstance(error, UnicodeDecodeError):
                place = f"byte {stream.count - len(error.object) + error.start}"
            better = "utf-16" if stream.start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
            raise FileFormatError(
                f"{name}: {place} is not text in the encoding {encoding!r}; pass encoding={better!r}, or the encoding that "
                "the file was written in"
            ) from error


def decompressed(file: BufferedReader, name: str, max_bytes: int | None, suffix: str = "") -> BoundedStream:
    """Return what an open file becomes when it is decompressed, as its first bytes or its suffix say; or the file itself."""
    start = file.peek(6)
    for ending, (magic, make) in _COMPRESSED.items():
        if suffix.lower() == ending or start.startswith(magic):
            return BoundedStream(make(file), name, max_bytes)
    return BoundedStream(file, name)


def _text_stream(file: BufferedReader, name: str, max_bytes: int | None) -> BoundedStream:
    start = file.peek(4)
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic):
            raise FileFormatError(f"{name}: this is {kind} file; convert it to text, plain or compressed with gzip")
    return decompressed(file, name, max_bytes, Path(name).suffix)


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
    start : bytes
        The first two.

    Raises
    ------
    FileFormatError
        When reading: if the compressed data are damaged or end too early, or there are more than ``max_bytes`` bytes.
    """

    def __init__(self, stream: Any, name: str, max_bytes: int | None = None) -> None:
        self._stream, self._name, self._limit = stream, name, max_bytes
        self.count, self.start = 0, b""

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
        if not self.count:
            self.start = block[:2]
        self.count += len(block)
        if self._limit is not None and self.count > self._limit:
            raise FileFormatError(
                f"{self._name}: the file becomes more than {self._limit} bytes when it is decompressed; if it should, "
                "allow more with max_bytes=..."
            )
        return block
