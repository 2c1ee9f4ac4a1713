"""Dispatch to the current engine: how ``minidl.ops.relu`` finds it without importing any engine."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any


class _Engines:
    """Stands for the default engine until ``minidl.engines`` is imported, which the first call does."""

    def __getattr__(self, name: str) -> Any:
        importlib.import_module("minidl.engines")
        return getattr(active(), name)


_FIRST = _Engines()
current: ContextVar[Any] = ContextVar("minidl_engine", default=_FIRST)
"""The engine chosen in this context; ``minidl.use`` sets it."""

active: Callable[[], Any] = current.get
"""Return the engine of this context: the one set by ``minidl.use``, else native if it was built, else numpy.

A training step calls it several times, so it is the method itself, without a function around it.
"""


def plug_in(default: Any) -> Callable[[], Any]:
    """Make an engine the default of every context that has chosen none; return the new :data:`active`."""
    global current, active
    current = ContextVar("minidl_engine", default=default)
    active = current.get
    return active


def dispatch(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls the active engine's method of the formula's name.

    The formula itself remains reachable as ``__wrapped__``.
    """
    name = formula.__name__

    @functools.wraps(formula)
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(active(), name)(*args, **kwargs)

    return call


def register(formulas: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Return the dispatching functions of the formulas, by name."""
    return {name: dispatch(formula) for name, formula in formulas.items()}
