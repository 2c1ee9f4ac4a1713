"""Reading and writing weights: safetensors files, whole or not at all, never pickle.

The format is read and written by the package ``safetensors``: it is the one that other frameworks use, is fuzzed and
maintained by many, and is no part of what minidl exists to show. It is an extra, so the core stays at two dependencies.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from minidl.errors import FileFormatError, MissingDependencyError
from minidl.ops import Array

__all__ = ["load_file", "save_file", "to_host", "write_atomically"]


def to_host(array: Array) -> numpy.ndarray:
    """Return a ``numpy.ndarray`` of an array that may live on a GPU."""
    return numpy.asarray(array.get() if hasattr(array, "get") else array)


def _safetensors(feature: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise MissingDependencyError.needs(feature, "safetensors", "weights") from error
    return safetensors


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name beside it, then rename: a reader never sees half a file.

    Raises
    ------
    OSError
        As the operating system gives it; the old file, if any, is untouched.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_file(
    state_dict: Mapping[str, numpy.ndarray], path: str | os.PathLike[str], metadata: dict[str, str] | None = None
) -> None:
    """Write arrays by name to a safetensors file.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    """
    safetensors = _safetensors("saving weights")
    content = safetensors.numpy.save({k: numpy.asarray(v, order="C") for k, v in state_dict.items()}, metadata=metadata)
    write_atomically(path, content)


def load_file(path: str | os.PathLike[str]) -> dict[str, numpy.ndarray]:
    """Read the arrays of a safetensors file.

    Raises
    ------
    MissingDependencyError
        If the package safetensors is not installed.
    FileFormatError
        If the file is no safetensors file, is cut short, or is damaged.
    FileNotFoundError
        If there is no such file.
    """
    safetensors = _safetensors("loading weights")
    content = Path(path).read_bytes()
    try:
        return safetensors.numpy.load(content)
    except Exception as error:  # the package raises its own error class, KeyError for unknown dtypes, and others
        raise FileFormatError(
            f"{os.fspath(path)} is not a whole safetensors file ({len(content)} bytes): {error}"
        ) from error
