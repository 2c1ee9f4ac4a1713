"""The cupy engine: the same formulas on arrays that live on an NVIDIA GPU.

Importing this module does not import CuPy; asking for :func:`status` or :func:`make` does.
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
    """The formulas on CuPy arrays; matrix products are cuBLAS's."""

    def __init__(self) -> None:
        import cupy

        super().__init__("cupy", xp=cupy)

    def to_host(self, array: Array) -> numpy.ndarray:
        """Copy the array to the host, explicitly: CuPy never does so by itself."""
        return numpy.asarray(self.xp.asnumpy(array))

    def synchronize(self) -> None:
        """Wait for the GPU: kernels run behind Python's back until someone waits."""
        self.xp.cuda.get_current_stream().synchronize()


@functools.cache
def status() -> EngineStatus:
    """Say whether a GPU can be used: CuPy is there, it sees a device, and a small computation comes back right."""
    if importlib.util.find_spec("cupy") is None:
        return EngineStatus(
            "cupy", False, "the package cupy is not installed; pip install 'minidl[cuda13]' (or 'minidl[cuda12]')"
        )
    try:
        import cupy
    except Exception as error:  # a broken CUDA installation raises whatever it likes here
        return EngineStatus("cupy", False, f"cupy is installed but cannot be imported: {_sentence(error)}")
    try:
        if not cupy.is_available():
            return EngineStatus("cupy", False, f"cupy {cupy.__version__} sees no CUDA device (no driver or no GPU)")
        return _try(cupy)
    except Exception as error:  # the driver's errors have no common base
        return EngineStatus("cupy", False, f"a small computation on the GPU failed: {_sentence(error)}")


def _try(cupy: Any) -> EngineStatus:
    """Run a small product and exponential on the device and compare what comes back."""
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
