"""The cupy engine: the formulas on arrays of an NVIDIA GPU.

Importing this module does not import CuPy. :func:`status` and :func:`make` do.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy

from minidl.engines.base import Engine, EngineStatus
from minidl.ops import Array

__all__ = ["CupyEngine", "make", "status"]


class CupyEngine(Engine):
    """The formulas on CuPy arrays, with matrix products by cuBLAS."""

    def __init__(self) -> None:
        import cupy

        super().__init__("cupy", xp=cupy)

    def to_host(self, array: Array) -> numpy.ndarray:
        """Copy the array to the host."""
        return numpy.asarray(self.xp.asnumpy(array))

    def synchronize(self) -> None:
        """Wait for the GPU, which computes while Python goes on."""
        self.xp.cuda.get_current_stream().synchronize()


@functools.cache
def status() -> EngineStatus:
    """Say whether a GPU can be used: CuPy is installed, finds a device, and computes a small example correctly."""
    if importlib.util.find_spec("cupy") is None:
        return EngineStatus(
            "cupy", False, "the package cupy is not installed; pip install 'minidl[cuda13]' (or 'minidl[cuda12]')"
        )
    try:
        import cupy
    except Exception as error:  # a broken CUDA installation may raise anything
        return EngineStatus("cupy", False, f"cupy is installed but cannot be imported: {_sentence(error)}")
    try:
        if not cupy.is_available():
            return EngineStatus("cupy", False, f"cupy {cupy.__version__} sees no CUDA device (no driver or no GPU)")
        return _try(cupy)
    except Exception as error:  # the driver's errors have no common base
        return EngineStatus("cupy", False, f"a small computation on the GPU failed: {_sentence(error)}")


def _try(cupy: Any) -> EngineStatus:
    """Compute a small product and its exponential on the device, and compare with NumPy."""
    x = numpy.linspace(-1.0, 1.0, 64, dtype=numpy.float32).reshape(8, 8)
    y = cupy.asarray(x)
    back = cupy.asnumpy(cupy.exp(y @ y))
    if not numpy.allclose(back, numpy.exp(x @ x), rtol=1e-3):
        return EngineStatus("cupy", False, "a small computation on the GPU gave wrong numbers")
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return EngineStatus("cupy", True, f"cupy {cupy.__version__} on {device}")


def _sentence(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def make() -> Engine:
    """Build the engine."""
    return CupyEngine()
