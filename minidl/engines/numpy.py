"""The numpy engine: the formulas, and no code of its own that could be wrong separately."""

from __future__ import annotations

from minidl.engines.base import Engine, EngineStatus

__all__ = ["make", "status"]


def status() -> EngineStatus:
    """NumPy is a dependency of the core, so this engine always exists."""
    return EngineStatus("numpy", True, "the formulas themselves")


def make() -> Engine:
    """Build the engine."""
    return Engine("numpy")
