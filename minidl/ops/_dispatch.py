"""Dispatch to the current engine: how ``minidl.ops.relu`` finds it without importing any engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

formulas_only = SimpleNamespace()
"""The formulas, used until ``minidl.engines`` plugs in the best engine of this machine."""

current: ContextVar[Any] = ContextVar("minidl_engine", default=formulas_only)
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
    """Make the formulas reachable without any engine; return the dispatching functions by name."""
    vars(formulas_only).update(formulas)
    return {name: dispatch(formula) for name, formula in formulas.items()}
