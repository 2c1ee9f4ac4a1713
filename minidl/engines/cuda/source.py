"""The CUDA sources: read from ``csrc``, compiled by NVRTC, launched.

A kernel is compiled for the dtype of its arrays when it is first launched, and kept for each device. Nothing here imports
CuPy before that.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy

from minidl.engines.headers import include_folder
from minidl.errors import EngineError

__all__ = ["DTYPES", "MOST_THREADS", "Launcher", "files", "launch", "launcher", "most_threads", "options", "read"]

DTYPES = {"float16": "MINIDL_FLOAT16", "float32": "MINIDL_FLOAT32", "float64": "MINIDL_FLOAT64"}
"""The dtypes that kernels are compiled for, and the macro that names each to the compiler."""

MOST_THREADS = 512
"""Of a block: each of them can then have 128 of a multiprocessor's 65536 registers. More would make kernels spill."""

_FEWER_THREADS = {"attention/attention.cu": 256}
"""The same for sources whose kernels keep a tile in registers; their ``__launch_bounds__`` say so too."""

Launcher = Callable[[str, str, str, tuple[int, ...], tuple[int, ...], Sequence[Any], int], None]
"""Runs a kernel: (file, kernel, dtype, grid, block, arguments, bytes of dynamic shared memory)."""

# What vector/simd.h includes on a CPU only.
_OF_THE_CPU = {f"vector/simd_{instructions}.h" for instructions in ("avx512", "avx2", "sse2", "neon")}
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include "([^"]+)"[^\n]*$', re.MULTILINE)


def files() -> list[str]:
    """Return every CUDA source, relative to the folder of headers, such as ``"elementwise/activations.cu"``."""
    folder = include_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.cu"))


@functools.cache
def read(file: str) -> str:
    """Return a source with everything that it includes in its place, so that its text alone says what is compiled.

    A compiler that keeps what it has compiled by the text of the source then also notices a changed header.
    """
    path = include_folder() / file

    def place(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in _OF_THE_CPU:
            return match.group(0)
        after = text[: match.start()].count("\n") + 2
        return f'#line 1 "{name}"\n{read(name)}\n#line {after} "{file}"'

    text = path.read_text()
    return _INCLUDE.sub(place, text)


def options(dtype: str) -> tuple[str, ...]:
    """Return the compiler's options for a dtype."""
    return ("-std=c++17", f"-D{DTYPES[dtype]}")


@functools.cache
def _module(file: str, dtype: str, device: int) -> Any:
    import cupy

    with cupy.cuda.Device(device):
        return cupy.RawModule(code=f'#line 1 "{file}"\n{read(file)}', options=options(dtype))


@functools.cache
def _function(file: str, kernel: str, dtype: str, device: int) -> Any:
    return _module(file, dtype, device).get_function(kernel)


def _on_device(
    file: str,
    kernel: str,
    dtype: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: Sequence[Any],
    shared: int,
) -> None:
    """Launch on the current device and stream of CuPy."""
    import cupy

    _function(file, kernel, dtype, cupy.cuda.runtime.getDevice())(grid, block, tuple(arguments), shared_mem=shared)


launcher: ContextVar[Launcher] = ContextVar("launcher", default=_on_device)
"""What runs kernels: the GPU; or an emulation, which tests put here."""


def most_threads(file: str) -> int:
    """Return how many threads a block of this source may have.

    >>> most_threads("elementwise/activations.cu"), most_threads("attention/attention.cu")
    (512, 256)
    """
    return _FEWER_THREADS.get(file, MOST_THREADS)


def launch(
    file: str,
    kernel: str,
    dtype: Any,
    grid: int | tuple[int, ...],
    block: int | tuple[int, ...],
    *arguments: Any,
    shared: int = 0,
) -> None:
    """Launch a kernel.

    Parameters
    ----------
    file : str
        The source, such as ``"elementwise/activations.cu"``.
    kernel : str
        The name of the ``__global__`` function.
    dtype : dtype
        What the kernel's ``stored`` is.
    grid, block : int or tuple of int
        Blocks of the grid, threads of a block, a multiple of 32.
    *arguments : array, int, float, bool or None
        Arrays without gaps are pointers, None is the null pointer, int is ``size``, float is ``real``, bool is ``bool``.
        Other types as NumPy scalars.
    shared : int, default 0
        Bytes of dynamic shared memory.

    Raises
    ------
    EngineError
        If an array has gaps, or the block or the grid is one that no device can run: a mistake of the caller here.
    """
    name = numpy.dtype(dtype).name
    grid = grid if isinstance(grid, tuple) else (grid,)
    block = block if isinstance(block, tuple) else (block,)
    threads = functools.reduce(int.__mul__, block)
    if threads % 32 or not 0 < threads <= most_threads(file):
        raise EngineError(
            f"{kernel}: a block must have a multiple of 32 threads, at most {most_threads(file)}, got {block}"
        )
    if not (0 < grid[0] < 2**31 and all(0 < blocks < 2**16 for blocks in grid[1:])):
        raise EngineError(f"{kernel}: no device runs a grid of {grid} blocks")
    real = numpy.float64 if name == "float64" else numpy.float32
    launcher.get()(file, kernel, name, grid, block, [_argument(kernel, value, real) for value in arguments], shared)


def _argument(kernel: str, value: Any, real: Any) -> Any:
    """Return an argument in the type that the kernel declares."""
    if value is None:
        return numpy.uint64(0)
    if isinstance(value, bool | numpy.bool):
        return numpy.bool(value)
    if isinstance(value, int):
        return numpy.int64(value)
    if isinstance(value, float):
        return real(value)
    if isinstance(value, numpy.generic):
        return value
    if not value.flags.c_contiguous:
        raise EngineError(f"{kernel}: an array of shape {value.shape} has gaps between its elements")
    return value
