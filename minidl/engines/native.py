"""The native engine: kernels in C, called through Cython."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from minidl.engines.base import COMPOSITIONS, Engine, EngineStatus
from minidl.errors import EngineError, ParameterError
from minidl.ops import FORMULAS
from minidl.ops._scalars import is_count, shown

__all__ = ["get_num_threads", "info", "make", "set_memory_limit", "set_num_threads", "status", "vector_function"]

_native: Any = None
_problem = ""
try:
    _native = importlib.import_module("minidl._native")
except ImportError as error:
    _problem = str(error)
if _native is not None and not getattr(sys, "_is_gil_enabled", lambda: True)():
    # Free-threaded Python switches the GIL on for a module that needs it, unless it was told not to.
    _native, _problem = None, "it needs the GIL, which PYTHON_GIL=0 or -X gil=0 keeps off"


def _start_threads() -> int:
    """Return how many threads to begin with: OMP_NUM_THREADS, else one for each core that the process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if _native is not None:
    _native.set_num_threads(_start_threads())


def status() -> EngineStatus:
    """Say whether the compiled extension is there, and if not, what to do."""
    if _native is not None:
        found = info()
        threads = (
            f"{found['threads']} threads" if found["threaded"] else "1 thread (this system's threads are not supported)"
        )
        return EngineStatus(
            "native",
            True,
            f"matrix products {found['matrix products']}, in bfloat16 {found['bfloat16 products']}, "
            f"kernels {found['kernels']}, caches {found['caches']}, {threads}",
        )
    note = Path(__file__).parents[1] / "native_missing.txt"
    if "MINIDL_ISA" in _problem:
        return EngineStatus("native", False, f"{_problem}; unset it, or see docs/build.md for the names")
    if "MINIDL_CACHES" in _problem:
        return EngineStatus("native", False, f"{_problem}; unset it, or see docs/build.md")
    if "PYTHON_GIL" in _problem:
        return EngineStatus("native", False, f"{_problem}; leave that setting out")
    if note.exists():
        reason = note.read_text().strip()
    elif "No module named" in _problem:
        reason = "its extension was not built"
    else:
        reason = _problem
    return EngineStatus("native", False, f"{reason}; {_advice()}")


def _advice() -> str:
    how = {
        "Linux": "apt install gcc python3-dev, or the same in your distribution",
        "Darwin": "xcode-select --install",
        "Windows": "the Visual Studio build tools",
    }.get(platform.system(), "see your system's manual")
    return f"install a C compiler ({how}) and reinstall: pip install --force-reinstall --no-cache-dir minidl"


def make() -> Engine:
    """Build the engine from every op and composition that the extension has."""
    names = [name for name in (*FORMULAS, *COMPOSITIONS) if hasattr(_native, name)]
    kernels = {name: getattr(_native, name) for name in names}
    return Engine("native", kernels=kernels, activations=_native.fused_activations())


def _extension() -> Any:
    if _native is None:
        raise EngineError(str(status()))
    return _native


def info() -> dict[str, Any]:
    """Return the instruction sets, threads and memory of the extension.

    Raises
    ------
    EngineError
        If it is not available here, as from the other functions of this module.
    """
    _extension()
    return {**_native.build_info(), "threads": _native.get_num_threads(), "memory": _native.memory_info()}


def set_num_threads(n: int) -> None:
    """Set how many threads the kernels use at most."""
    if not is_count(n, 1) or n >= 2**31:
        raise ParameterError(f"set_num_threads: expected a positive integer below 2^31, got {shown(n)}")
    _extension().set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads the kernels use at most."""
    return _extension().get_num_threads()


def set_memory_limit(size: int) -> None:
    """Set how many bytes of freed large arrays are kept for the next ones; 0 returns all of them to the system now.

    The large arrays that kernels return come from a pool, because new pages from the system cost more than the arithmetic
    on them. The limit is 1 GiB unless it is set.
    """
    if not is_count(size):
        raise ParameterError(f"set_memory_limit: expected a number of bytes, from 0 on, got {shown(size)}")
    _extension().set_memory_limit(size)


def vector_function(name: str, x: Any) -> Any:
    """Return exp, log, erf, sigmoid or tanh of a float32 or float64 array, as the kernels compute them.

    The ops use them internally. This function is there to measure their accuracy and speed.
    """
    return _extension().vector_function(name, x)
