"""Deprecated: the old home of ``minidl.engines.compositions``. Its names work in this version and warn when they are used."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from minidl.engines import compositions

__all__: list[str] = []


def _linear_backward_into(
    engine: Any, dy: Any, cache: Any, dweight: Any, dbias: Any, accumulate: bool = False, input_gradient: bool = True
) -> Any:
    return engine.linear_backward(dy, cache, *_storage(dweight, dbias, accumulate, input_gradient))[0]


def _conv_backward_into(
    engine: Any,
    op: str,
    dy: Any,
    cache: Any,
    dweight: Any,
    dbias: Any,
    accumulate: bool = False,
    input_gradient: bool = True,
) -> Any:
    return getattr(engine, f"{op}_backward")(dy, cache, *_storage(dweight, dbias, accumulate, input_gradient))[0]


def _linear_activation_backward_into(
    engine: Any,
    dy: Any,
    cache: Any,
    activation: str,
    dweight: Any,
    dbias: Any,
    accumulate: bool = False,
    input_gradient: bool = True,
) -> Any:
    storage = _storage(dweight, dbias, accumulate, input_gradient)
    return engine.linear_activation_backward(dy, cache, activation, *storage)[0]


def _conv_activation_backward_into(
    engine: Any,
    op: str,
    dy: Any,
    cache: Any,
    activation: str,
    dweight: Any,
    dbias: Any,
    accumulate: bool = False,
    input_gradient: bool = True,
) -> Any:
    storage = _storage(dweight, dbias, accumulate, input_gradient)
    return engine.conv_activation_backward(op, dy, cache, activation, *storage)[0]


def _linear_stack_backward_into(
    engine: Any, dy: Any, caches: Any, layers: Any, storage: Any, input_gradient: bool = True
) -> Any:
    each = [_storage(dw, db, add, input_gradient or at > 0) for at, (dw, db, add) in enumerate(storage)]
    return engine.linear_stack_backward(dy, caches, layers, each)


def _storage(dweight: Any, dbias: Any, accumulate: bool, input_gradient: bool) -> tuple[Any, bool, tuple[bool, ...]]:
    """Return the arguments into, add and wanted."""
    return (dweight, dbias), accumulate, (input_gradient, True, dbias is not None)


_INTO: dict[str, Callable[..., Any]] = {
    "conv_activation_backward_into": _conv_activation_backward_into,
    "conv_backward_into": _conv_backward_into,
    "linear_activation_backward_into": _linear_activation_backward_into,
    "linear_backward_into": _linear_backward_into,
    "linear_stack_backward_into": _linear_stack_backward_into,
}


def _warn(old: str, new: str, stacklevel: int = 3) -> None:
    message = f"{old} is deprecated and will go with the next version; use {new}"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)


def __getattr__(name: str) -> Any:
    if name in _INTO:
        _warn(f"minidl.engines.fused.{name}", f"{name.removesuffix('_into')}(..., into, add, wanted)")
        return _INTO[name]
    if name in compositions.__all__:
        _warn(f"minidl.engines.fused.{name}", f"minidl.engines.compositions.{name}")
        return getattr(compositions, name)
    raise AttributeError(f"module 'minidl.engines.fused' has no attribute {name!r}")


def method(engine: Any, name: str) -> Callable[..., Any]:
    """Return what an engine's method of an old name was."""
    _warn(f"engine.{name}", f"engine.{name.removesuffix('_into')}(..., into, add, wanted)", stacklevel=4)
    return functools.partial(_INTO[name], engine)
