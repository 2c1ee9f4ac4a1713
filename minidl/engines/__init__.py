"""WHO COMPUTES: the engines, which of them is current, and which of them this machine has.

>>> import minidl
>>> minidl.engines()["numpy"].available
True
>>> with minidl.use("numpy") as engine:
...     engine.coverage()["relu"]
'formula'
"""

from __future__ import annotations

import functools
import importlib
import numbers
import sys
from contextvars import Token
from types import ModuleType, TracebackType
from typing import Any

from minidl.engines.base import Engine, EngineStatus
from minidl.errors import EngineError, ParameterError, UnknownNameError
from minidl.ops import _dispatch, namespace

__all__ = [
    "NAMES",
    "Engine",
    "EngineStatus",
    "current",
    "engines",
    "get",
    "get_num_threads",
    "namespace",
    "set_num_threads",
    "use",
]

NAMES = ("numpy", "native", "cupy")
"""All engines, whether or not they can be used here. ``"cupy:1"`` is the cupy engine on the second GPU, and so on."""


def _status(name: str) -> EngineStatus:
    module, device = _parse(name)
    return importlib.import_module(f"{__name__}.{module}").status(*device)


def _parse(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the name of the module, and the number of the device if there is one behind a colon."""
    module, colon, device = name.partition(":")
    return module, (int(device),) if colon else ()


def engines() -> dict[str, EngineStatus]:
    """Return for every engine whether it can be used here, and why or why not; for each GPU after the first as ``"cupy:1"``.

    This imports CuPy if it is installed. Otherwise only the use of the cupy engine does.
    """
    others = range(1, importlib.import_module(f"{__name__}.cupy").count_devices())
    return {name: _status(name) for name in (*NAMES, *(f"cupy:{device}" for device in others))}


def get(name: str) -> Engine:
    """Return the engine of that name.

    Parameters
    ----------
    name : str
        ``"numpy"``, ``"native"``, ``"cupy"``, or ``"cupy:1"`` for the second GPU.

    Raises
    ------
    UnknownNameError
        If there is no such engine.
    EngineError
        If it cannot be used here; the message says why. No other engine takes its place.
    """
    module, colon, device = str(name).partition(":")
    if module not in NAMES:
        raise UnknownNameError.among("engine", name, NAMES)
    if colon and not (module == "cupy" and device.isascii() and device.isdecimal()):
        raise UnknownNameError(f"unknown engine {name!r}: only cupy takes a number, that of a GPU, such as cupy:1")
    return _get(f"cupy:{int(device)}" if colon and int(device) else module)


@functools.cache
def _get(name: str) -> Engine:
    found = _status(name)
    if not found.available:
        raise EngineError(f"the engine {name!r} cannot be used here: {found.reason}")
    module, device = _parse(name)
    return importlib.import_module(f"{__name__}.{module}").make(*device)


class use:
    """Choose the engine for this context, or for a ``with`` block.

    The choice belongs to the context (``contextvars``): a new thread starts with the machine's default engine.

    Parameters
    ----------
    engine : str or Engine
        ``"numpy"``, ``"native"`` or ``"cupy"``; ``"cupy:1"`` is the second GPU.

    Raises
    ------
    UnknownNameError, EngineError
        If there is no such engine, or it cannot be used here.
    """

    def __init__(self, engine: str | Engine) -> None:
        self.engine = get(engine) if isinstance(engine, str) else engine
        self.engine.activate()
        self._token: Token[Any] = _dispatch.current.set(self.engine)

    def __enter__(self) -> Engine:
        return self.engine

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _dispatch.current.reset(self._token)
        current().activate()

    def __repr__(self) -> str:
        return f"minidl.use({self.engine.name!r})"


def set_num_threads(n: int) -> None:
    """Set how many threads the native engine uses. NumPy's own products follow the settings of their BLAS.

    Raises
    ------
    ParameterError
        Unless ``n`` is a positive integer below 2^31.
    """
    if not isinstance(n, numbers.Integral) or isinstance(n, bool) or not 1 <= n < 2**31:
        raise ParameterError(f"set_num_threads: expected a positive integer below 2^31, got {n!r}")
    n = int(n)
    if _status("native").available:
        importlib.import_module(f"{__name__}.native").set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads the native engine uses; 1 if it was not built."""
    if _status("native").available:
        return importlib.import_module(f"{__name__}.native").get_num_threads()
    return 1


class _CallableModule(ModuleType):
    """Makes ``minidl.engines``, which is a package, callable: ``minidl.engines()`` says which engines there are."""

    def __call__(self) -> dict[str, EngineStatus]:
        return engines()


sys.modules[__name__].__class__ = _CallableModule
current = _dispatch.plug_in(get("native" if _status("native").available else "numpy"))
