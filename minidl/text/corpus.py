"""The sonnets of Shakespeare, which ship with the package (source and licence: minidl/data/sonnets-LICENSE.txt)."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from minidl import data
from minidl.data.files import read_text
from minidl.errors import FileFormatError

__all__ = ["sonnets"]

FILE = Path(data.__file__).with_name("sonnets.txt.gz")
SIZE = 95_728


def sonnets() -> str:
    r"""Return Shakespeare's 154 sonnets, 95,728 ASCII characters with ``\n`` at the ends of lines.

    W. Shakespeare, "The sonnets" (1609), public domain. Nothing is downloaded.

    Raises
    ------
    FileFormatError
        If the file in the package is damaged.

    Examples
    --------
    >>> text = sonnets()
    >>> len(text), len(set(text))
    (95728, 62)
    >>> text[42:77]
    'From fairest creatures we desire in'
    """
    return _load(FILE)


@functools.cache
def _load(path: str | os.PathLike[str]) -> str:
    text = read_text(path, "ascii")
    if len(text) != SIZE:
        raise FileFormatError(f"{os.fspath(path)}: expected {SIZE} characters, got {len(text)}; install minidl again")
    return text
