"""Read text files, plain or compressed."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from minidl.errors import FileFormatError

__all__ = ["read_text"]


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8-sig") -> str:
    """Return the text of a file; decompress it if its name ends in ``.gz``.

    Raises
    ------
    FileFormatError
        If a ``.gz`` file is not gzip, truncated or damaged, or the bytes are not text in this encoding.
    FileNotFoundError, PermissionError, IsADirectoryError
        From the operating system.
    """
    content = Path(path).read_bytes()
    if Path(path).suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except EOFError as error:
            raise FileFormatError(
                f"{os.fspath(path)}: the compressed data end too early; get the file again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileFormatError(f"{os.fspath(path)}: not a gzip file, or damaged: {error}") from error
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{os.fspath(path)}: byte {error.start} is not text in the encoding {encoding!r}; pass encoding='latin-1', "
            "or the encoding that the file was written in"
        ) from error
