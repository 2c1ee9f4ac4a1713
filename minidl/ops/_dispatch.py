"""The slot into which an engine plugs: how ``minidl.ops.relu`` finds the current engine without knowing any."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

current: ContextVar[Any] = ContextVar("minidl_engine")
"""The engine of this context; ``minidl.engines`` sets it. While it is unset, the formulas compute."""


def dispatching(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls the current engine's method of the formula's name.

    The formula itself stays reachable as ``__wrapped__``.
    """
    name = formula.__name__

    @functools.wraps(formula)
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(current.get(_formulas), name)(*args, **kwargs)

    return call


class _Formulas:
    """The engine in place before ``minidl.engines`` is imported: the formulas themselves."""


_formulas = _Formulas()


def register(formulas: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Make the formulas reachable without any engine; return the dispatching functions by name."""
    vars(_formulas).update(formulas)
    return {name: dispatching(formula) for name, formula in formulas.items()}
