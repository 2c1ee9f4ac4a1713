"""Writing files as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minidl.errors import FileFormatError, ParameterError

__all__ = ["atomic_file", "resolve_target", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half a file.

    Raises
    ------
    OSError
        From the operating system. An old file is then unchanged.
    """
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` for writing. It replaces ``path`` when the block ends without an error.

    Symbolic links are followed. The permissions of the old file are kept.

    Raises
    ------
    FileFormatError, ParameterError, IsADirectoryError
        As :func:`resolve_target`.
    OSError
        From the operating system. An old file is then unchanged.
    """
    target, mode = resolve_target(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    try:
        file = temporary.open("xb")
    except OSError as error:
        error.filename = os.fspath(path)  # the name that the caller gave
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


def resolve_target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Return the path with symbolic links followed, and the permissions of the file if it exists.

    Raises
    ------
    FileFormatError
        If it is a pipe, a device or the like.
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
