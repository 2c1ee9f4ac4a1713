"""The slot into which an engine plugs: how ``minidl.ops.relu`` finds the current engine without knowing any."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

current: ContextVar[Any] = ContextVar("minidl_engine")
"""The engine chosen in this context; ``minidl.use`` sets it."""

default: Any = SimpleNamespace()
"""The engine where none was chosen: the formulas themselves until ``minidl.engines`` puts the machine's best here."""


def active() -> Any:
    """Return the engine of this context: the one set by ``minidl.use``, else native if it was built, else numpy."""
    return current.get(default)


def dispatching(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls the active engine's method of the formula's name.

    The formula itself stays reachable as ``__wrapped__``.
    """
    name = formula.__name__

    @functools.wraps(formula)
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(active(), name)(*args, **kwargs)

    return call


def register(formulas: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Make the formulas reachable without any engine; return the dispatching functions by name."""
    vars(default).update(formulas)
    return {name: dispatching(formula) for name, formula in formulas.items()}
