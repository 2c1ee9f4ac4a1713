"""The numpy engine: the formulas, and nothing else."""

from __future__ import annotations

from minidl.engines.base import Engine, EngineStatus

__all__ = ["make", "status"]


def status() -> EngineStatus:
    """Say that this engine is always available: the core needs NumPy."""
    return EngineStatus("numpy", True, "the formulas themselves")


def make() -> Engine:
    """Build the engine."""
    return Engine("numpy")
