"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minidl.errors import FileFormatError, ParameterError

__all__ = ["atomic_file", "replaceable", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name beside it, then rename: a reader never sees half a file.

    Raises
    ------
    OSError
        As the operating system gives it; the old file, if any, is untouched.
    """
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing; it takes the place of ``path`` when the block ends without error.

    A symbolic link stays, and the file that it names is replaced. The new file keeps the old one's permissions.

    Raises
    ------
    FileFormatError, ParameterError, IsADirectoryError
        As :func:`replaceable`.
    OSError
        As the operating system gives it; the old file, if any, is untouched.
    """
    target, mode = replaceable(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    try:
        file = temporary.open("xb")
    except OSError as error:
        error.filename = os.fspath(path)  # the name that the caller knows
        raise
    try:
        with file:
            if mode is not None:
                temporary.chmod(mode)  # before there is anything to read in it
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def replaceable(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Return the file that a path stands for, links followed, and its permissions if it exists.

    Raises
    ------
    FileFormatError
        If something other than a file is there, such as a pipe or a device.
    IsADirectoryError
        If it is a folder.
    ParameterError
        If the path contains a null byte.
    """
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target, None
    except ValueError as error:
        raise ParameterError(f"{os.fspath(path)!r} cannot be a path: {error}") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise FileFormatError(f"{os.fspath(path)} is not a regular file; write to a file and copy it from there")
    return target, stat.S_IMODE(mode)
