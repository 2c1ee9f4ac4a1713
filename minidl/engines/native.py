"""The native engine: the hot path compiled from C."""

from __future__ import annotations

from minidl.engines.base import Engine, EngineStatus
from minidl.errors import EngineError

__all__ = ["get_num_threads", "make", "set_num_threads", "status"]


def status() -> EngineStatus:
    """Say whether the compiled extension is there."""
    return EngineStatus("native", False, "not written yet")


def make() -> Engine:
    """Build the engine."""
    raise EngineError(status().reason)


def set_num_threads(n: int) -> None:
    """Set the number of threads."""


def get_num_threads() -> int:
    """Return the number of threads."""
    return 1
