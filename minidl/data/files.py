"""Read text files, plain or compressed, line by line."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minidl.errors import FileFormatError, ParameterError

__all__ = ["read_lines", "read_text"]

LONGEST = 1 << 24
"""Characters in the longest line that is read: a file that ends no line cannot fill the memory."""
FOREIGN = {
    b"PK\x03\x04": "a zip",
    b"BZh": "a bzip2",
    b"\xfd7zXZ": "an xz",
    b"\x28\xb5\x2f\xfd": "a zstd",
    b"PAR1": "a Parquet",
}


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8-sig") -> str:
    """Return the text of a file; raises the errors of :func:`read_lines`."""
    return "".join(read_lines(path, encoding))


def read_lines(path: str | os.PathLike[str], encoding: str = "utf-8-sig") -> Iterator[str]:
    r"""Go through the lines of a text file, each with its end, ``\n``, ``\r\n`` or ``\r``.

    A file whose name ends in ``.gz``, in upper or lower case, or whose first bytes are gzip's, is decompressed as it is read.
    A byte order mark is left out.

    Raises
    ------
    FileFormatError
        If compressed data are not gzip, truncated or damaged, the bytes are not text in this encoding, or a line is
        endless.
    ParameterError
        If there is no such encoding.
    FileNotFoundError, PermissionError, IsADirectoryError
        From the operating system.
    """
    name = os.fspath(path)
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError) as error:
        raise ParameterError(
            f"{name}: there is no encoding {encoding!r}; common ones are 'utf-8' and 'latin-1'"
        ) from error
    with Path(path).open("rb") as stored:
        plain = _unpacked(stored, name)
        text = io.TextIOWrapper(plain, encoding, newline="")
        try:
            first = True
            while line := text.readline(LONGEST):
                if len(line) == LONGEST:
                    raise FileFormatError(f"{name}: a line has {LONGEST} characters or more; this is no file of text")
                if "\0" in line:
                    raise FileFormatError(
                        f"{name}: holds zero bytes, so it is no text in {encoding!r}; is it 'utf-16'?"
                    )
                yield line.removeprefix("\ufeff") if first else line
                first = False
        except EOFError as error:
            raise FileFormatError(f"{name}: the compressed data end too early; get the file again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileFormatError(f"{name}: not a gzip file, or damaged: {error}") from error
        except UnicodeError as error:
            raise FileFormatError(_not_text(stored, name, encoding)) from error


def _unpacked(stored: BinaryIO, name: str) -> BinaryIO:
    start = stored.read(6)
    stored.seek(0)
    if name.lower().endswith(".gz") or start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stored)  # type: ignore[return-value]
    for mark, kind in FOREIGN.items():
        if start.startswith(mark):
            raise FileFormatError(
                f"{name}: this is {kind} file; convert it to a CSV file, plain or compressed with gzip"
            )
    return stored


def _not_text(stored: BinaryIO, name: str, encoding: str) -> str:
    """Return the message for bytes that are no text: it names the first such byte."""
    stored.seek(0)
    plain = _unpacked(stored, name)
    decoder = codecs.getincrementaldecoder("utf-8" if encoding.lower() == "utf-8-sig" else encoding)()
    start, at = b"", 0
    while True:
        block = plain.read(1 << 16)
        start = start or block[:2]
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at += error.start + len(block) - len(error.object)
            break
        except UnicodeError:  # as "utf-16" raises it without a byte order mark
            break
        if not block:
            break
        at += len(block)
    better = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
    return (
        f"{name}: byte {at} is not text in the encoding {encoding!r}; pass encoding={better!r}, or the encoding that the file "
        "was written in"
    )
