"""Writing files as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO

from minidl.errors import FileFormatError, ParameterError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "atomic_file",
    "check_writable",
    "lock",
    "open_binary",
    "open_in_place",
    "resolve_target",
    "same_file",
    "sync_folder",
    "write_atomically",
]

_TEMPORARY = re.compile(r"\.minidl-[0-9a-f]{16}\.tmp")  # of one length, so that the longest names can be written, too
_ABANDONED = 3600.0
"""Seconds after which a temporary file is abandoned, where files cannot be locked."""


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half a file.

    Raises
    ------
    FileFormatError, ParameterError, OSError
        As :func:`atomic_file`.
    """
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` for writing; it takes the place of ``path`` when the block ends without error.

    A symbolic link stays, and the file that it names is replaced. The new file keeps the old one's permissions, and its
    owner where the system allows that. File and folder are flushed to disk. Temporary files that a killed process left in
    the folder are deleted. Pipes and character devices, such as ``/dev/null``, are written to when the block ends.

    Raises
    ------
    FileFormatError
        If something else that is not a file is there, or a pipe that nobody reads.
    IsADirectoryError, PermissionError
        If it is a folder, or a file that may not be written.
    ParameterError
        If the path contains a null byte.
    OSError
        From the operating system. An old file is then unchanged.
    """
    found = _status(path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        with _collected(path, found) as file:
            yield file
        return
    target, old = resolve_target(path)
    _remove_abandoned(target.parent)
    with _renamed_errors(path):
        temporary, file = _create(target.parent, old)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if fcntl is not None:
                    temporary.replace(target)  # while it is locked, so that nobody takes it for abandoned
            if fcntl is None:
                temporary.replace(target)  # Windows does not rename open files
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(target.parent)


def resolve_target(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """Return the file that a path stands for, links followed, and its status if it exists.

    Raises
    ------
    FileFormatError
        If something other than a file is there, such as a pipe or a device.
    IsADirectoryError, PermissionError
        If it is a folder, or a file that may not be written.
    ParameterError
        If the path contains a null byte.
    """
    found = _status(path)
    if found is not None:
        _require_kind(path, found, stat.S_ISREG)
        if not found.st_mode & 0o222 or not os.access(path, os.W_OK):  # renaming would not ask
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    return Path(os.path.realpath(path)), found


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now what :func:`atomic_file` would raise about what is at the path, before long work whose result goes there.

    Raises
    ------
    FileFormatError, IsADirectoryError, PermissionError, ParameterError
        As :func:`atomic_file`.
    """
    found = _status(path)
    if found is None or not (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        resolve_target(path)


@contextlib.contextmanager
def open_binary(path: str | os.PathLike[str]) -> Iterator[BufferedReader]:
    """Open a file for reading.

    Raises
    ------
    ParameterError
        If the path contains a null byte.
    FileNotFoundError, PermissionError, IsADirectoryError
        From the operating system.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115
    except ValueError as error:
        raise ParameterError(f"{os.fspath(path)!r} cannot be a path: {error}") from error
    with file:
        yield file


def open_in_place(path: str | os.PathLike[str], append: bool = False) -> BinaryIO:
    """Open a file that grows line by line, such as a log; pipes and character devices are written to.

    Raises
    ------
    FileFormatError
        If something else that is not a file is there, or a pipe that nobody reads.
    ParameterError
        If the path contains a null byte.
    OSError
        As the operating system gives it.
    """
    found = _status(path)
    if found is None or stat.S_ISREG(found.st_mode):
        return Path(path).open("ab" if append else "wb")
    return _open_special(path, found)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush a folder to disk, so that a new name in it survives a power failure. Do nothing where the system cannot."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a folder that may be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def lock(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file against other processes and threads until it is closed; return False if another holds the lock.

    Raises
    ------
    OSError
        If files cannot be locked here.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "files cannot be locked on this system")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def same_file(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Return whether an open file is the one that the path names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return the status of what a path stands for, links followed; None if there is nothing."""
    try:
        return os.stat(path)  # noqa: PTH116 - a Path made of an empty string would be the current folder
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ParameterError(f"{os.fspath(path)!r} cannot be a path: {error}") from error


def _require_kind(path: str | os.PathLike[str], found: os.stat_result, *kinds: Callable[[int], bool]) -> None:
    """Raise an error unless what is at the path is of one of the kinds, each a function such as ``stat.S_ISREG``."""
    if any(kind(found.st_mode) for kind in kinds):
        return
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise FileFormatError(f"{os.fspath(path)} is not a regular file; write to a file and copy it from there")


def _create(folder: Path, old: os.stat_result | None) -> tuple[Path, BinaryIO]:
    """Create and lock a temporary file, with the permissions and the owner of the file that it will replace."""
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o777
    while True:
        temporary = folder / f".minidl-{os.urandom(8).hex()}.tmp"
        file: BinaryIO = open(temporary, "xb", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115
        try:
            locked = _lock_if_possible(file)
            if not locked or same_file(
                file.fileno(), temporary
            ):  # else it was taken for abandoned before it was locked
                if old is not None:
                    temporary.chmod(_take_owner(file, old, mode))
                return temporary, file
        except BaseException:
            file.close()
            temporary.unlink(missing_ok=True)
            raise
        file.close()


def _lock_if_possible(file: BinaryIO) -> bool:
    with contextlib.suppress(OSError):
        return lock(file.fileno(), wait=True)
    return False


def _take_owner(file: BinaryIO, old: os.stat_result, mode: int) -> int:
    """Give a new file the owner and the group of the old one, or at least the group; return the mode that then is safe."""
    own = os.fstat(file.fileno())
    if not hasattr(os, "fchown") or (own.st_uid, own.st_gid) == (old.st_uid, old.st_gid):
        return mode
    for owner in (old.st_uid, -1):
        with contextlib.suppress(OSError):
            os.fchown(file.fileno(), owner, old.st_gid)
            return mode
    return mode & ~0o070 | mode & (mode & 0o007) << 3  # another group gets no more than everybody


def _remove_abandoned(folder: Path) -> None:
    """Delete this user's temporary files that no process is writing any more."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    if fcntl is None:
        if time.time() - path.lstat().st_mtime > _ABANDONED:
            path.unlink()  # refused as long as a process has it open
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and lock(descriptor):
            path.unlink()
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _renamed_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let errors about a temporary file name the path that the caller knows."""
    try:
        yield
    except OSError as error:
        name = error.filename
        temporary = isinstance(name, str | os.PathLike) and _TEMPORARY.fullmatch(Path(name).name)
        if error.errno is None or not (name is None or temporary):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _open_special(path: str | os.PathLike[str], found: os.stat_result) -> BinaryIO:
    """Open a pipe or a character device for writing."""
    _require_kind(path, found, stat.S_ISFIFO, stat.S_ISCHR)
    try:  # without O_NONBLOCK, opening a pipe that nobody reads would never return
        descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise FileFormatError(
            f"{os.fspath(path)} is not a regular file but a pipe that nobody reads; start its reader"
        ) from error
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "wb")


@contextlib.contextmanager
def _collected(path: str | os.PathLike[str], found: os.stat_result) -> Iterator[IO[bytes]]:
    """Open a temporary file that is copied into a pipe or device when the block ends without error."""
    with _open_special(path, found) as special, tempfile.NamedTemporaryFile() as file:
        yield file
        file.seek(0)
        shutil.copyfileobj(file, special)
