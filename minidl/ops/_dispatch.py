"""The slot into which an engine plugs: how ``minidl.ops.relu`` finds the current engine without knowing any."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

nothing_plugged_in = SimpleNamespace()
"""The formulas themselves, which are what there is until ``minidl.engines`` plugs in the machine's best engine."""

current: ContextVar[Any] = ContextVar("minidl_engine", default=nothing_plugged_in)
"""The engine chosen in this context; ``minidl.use`` sets it."""

active: Callable[[], Any] = current.get
"""Return the engine of this context: the one set by ``minidl.use``, else native if it was built, else numpy.

It is asked several times in a training step, so it is the slot's own method and no function around it.
"""


def plug_in(default: Any) -> Callable[[], Any]:
    """Make an engine the one of every context that has chosen none; return the new :data:`active`."""
    global current, active
    current = ContextVar("minidl_engine", default=default)
    active = current.get
    return active


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
    vars(nothing_plugged_in).update(formulas)
    return {name: dispatching(formula) for name, formula in formulas.items()}
