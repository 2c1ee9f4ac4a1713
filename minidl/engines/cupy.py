"""The cupy engine: the formulas, and kernels in CUDA, on arrays of an NVIDIA GPU.

Importing this module does not import CuPy. :func:`status` and :func:`make` do.

``"cupy"`` is the first GPU, ``"cupy:1"`` the second. Each has an engine of its own. While one is current, CuPy's current device
is its GPU, so new arrays are made there.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy

from minidl.engines.base import COMPOSITIONS, Engine, EngineStatus
from minidl.engines.copies import Arrival, Copies, Reading
from minidl.errors import EngineError
from minidl.ops import FORMULAS, Array

__all__ = ["CupyEngine", "count_devices", "make", "status"]


class CupyEngine(Engine):
    """The formulas on CuPy arrays, with matrix products by cuBLAS, and kernels where ``minidl.engines.cuda`` has them.

    Parameters
    ----------
    device : int, default 0
        The number of the GPU.
    xp : module, optional
        CuPy, or what stands in for it in the tests.
    kernels : mapping of str to callable, optional
        Ops and compositions that are computed by kernels; those of ``minidl.engines.cuda`` by default.

    Attributes
    ----------
    device : int
    """

    def __init__(
        self, device: int = 0, xp: Any = None, kernels: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        activations: Mapping[str, Any] = {}
        if kernels is None:
            cuda = importlib.import_module("minidl.engines.cuda")
            kernels, activations = cuda.OVERRIDES, cuda.FUSED_ACTIVATIONS
        xp = importlib.import_module("cupy") if xp is None else xp
        super().__init__("cupy" if device == 0 else f"cupy:{device}", xp, kernels, activations)
        self.device = device
        for op in (*FORMULAS, *COMPOSITIONS):
            setattr(self, op, self._guarded(op, getattr(self, op)))

    def _guarded(self, op: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Return an op that refuses arrays of the host and of other GPUs, before anything is computed."""

        @functools.wraps(compute)
        def call(*args: Any, **kwargs: Any) -> Any:
            for position, value in enumerate(args):
                if not self._is_mine(value):
                    self._refuse(op, value, position)
            for name, value in kwargs.items():
                if not self._is_mine(value):
                    self._refuse(op, value, name)
            return compute(*args, **kwargs)

        return call

    def _is_mine(self, value: Any) -> bool:
        """Whether a value is no array, or one of this GPU."""
        if isinstance(value, numpy.ndarray):
            return False
        place = getattr(value, "device", None)
        return getattr(place, "id", self.device) == self.device

    def _refuse(self, op: str, value: Any, which: int | str) -> None:
        where = "the host (NumPy)" if isinstance(value, numpy.ndarray) else f"GPU {value.device.id}"
        what = f"argument {which + 1}" if isinstance(which, int) else which
        raise EngineError(
            f"{op}: {what}, an array of shape {value.shape}, is on {where}, but the engine {self.name!r} computes on GPU "
            f"{self.device}; move it with minidl.engines.current().asarray(array), a model with model.to({self.name!r}), or "
            "choose the engine where the arrays are with minidl.use(...)"
        )

    # arrays ------------------------------------------------------------------------------------------------------------

    def activate(self) -> None:
        """Make this GPU the current one of the thread."""
        self.xp.cuda.Device(self.device).use()

    def here(self) -> Any:
        """Return a context in which new arrays are made on this GPU."""
        return self.xp.cuda.Device(self.device)

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """Return the array on this GPU, copied only if it is elsewhere or has another dtype."""
        with self.here():
            return self.xp.asarray(array, dtype=dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any = "float32") -> Array:
        """Return an array of that shape with arbitrary content."""
        with self.here():
            return self.xp.empty(shape, dtype=dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any = "float32") -> Array:
        """Return an array of zeros."""
        with self.here():
            return self.xp.zeros(shape, dtype=dtype)

    def to_host(self, array: Array) -> numpy.ndarray:
        """Copy the array to the host; wait for it."""
        return array if isinstance(array, numpy.ndarray) else numpy.asarray(self.xp.asnumpy(array))

    def synchronize(self) -> None:
        """Wait for the GPU, which computes while Python goes on."""
        with self.here():
            self.xp.cuda.get_current_stream().synchronize()

    # copies that nobody waits for --------------------------------------------------------------------------------------

    @functools.cached_property
    def _copies(self) -> Copies:
        with self.here():
            return Copies(self.xp)

    def send(self, array: numpy.ndarray) -> Arrival:
        """Begin to copy an array of the host to this GPU; see :class:`minidl.engines.copies.Copies`."""
        with self.here():
            return self._copies.send(array)

    def read_later(self, *arrays: Array) -> Reading:
        """Begin to copy arrays to the host; see :class:`minidl.engines.copies.Copies`."""
        with self.here():
            return self._copies.read_later(arrays)


def count_devices() -> int:
    """Return how many GPUs CuPy sees here; 0 without CuPy, a driver or a GPU."""
    if importlib.util.find_spec("cupy") is None:
        return 0
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount()) if cupy.is_available() else 0
    except Exception:  # status() tells what is wrong
        return 0


@functools.cache
def status(device: int = 0) -> EngineStatus:
    """Say whether a GPU can be used: CuPy is installed, finds the device, and computes a small example correctly."""
    name = "cupy" if device == 0 else f"cupy:{device}"
    if importlib.util.find_spec("cupy") is None:
        return EngineStatus(
            name, False, "the package cupy is not installed; pip install 'minidl[cuda13]' (or 'minidl[cuda12]')"
        )
    try:
        import cupy
    except Exception as error:  # a broken CUDA installation may raise anything
        return EngineStatus(name, False, f"cupy is installed but cannot be imported: {_sentence(error)}")
    try:
        if not cupy.is_available():
            return EngineStatus(name, False, f"cupy {cupy.__version__} sees no CUDA device (no driver or no GPU)")
        count = cupy.cuda.runtime.getDeviceCount()
        if device >= count:
            return EngineStatus(name, False, f"there is no GPU {device}: cupy sees {count}, numbered from 0")
        with cupy.cuda.Device(device):
            return _try(cupy, name, device)
    except Exception as error:  # the driver's errors have no common base
        return EngineStatus(name, False, f"a small computation on the GPU failed: {_sentence(error)}")


def _try(cupy: Any, name: str, device: int) -> EngineStatus:
    """Compute a small product and its exponential on the device, and compare with NumPy."""
    x = numpy.linspace(-1.0, 1.0, 64, dtype=numpy.float32).reshape(8, 8)
    y = cupy.asarray(x)
    back = cupy.asnumpy(cupy.exp(y @ y))
    if not numpy.allclose(back, numpy.exp(x @ x), rtol=1e-3):
        return EngineStatus(name, False, "a small computation on the GPU gave wrong numbers")
    model = cupy.cuda.runtime.getDeviceProperties(device)["name"].decode()
    return EngineStatus(name, True, f"cupy {cupy.__version__} on {model}")


def _sentence(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def make(device: int = 0) -> Engine:
    """Build the engine of a GPU."""
    return CupyEngine(device)
