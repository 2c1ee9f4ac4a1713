"""Finding the layers and parameters inside a layer: in its attributes, and in lists, tuples and dicts there."""

from __future__ import annotations

import collections
import functools
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers.parameter import Parameter

__all__ = ["check_runs_once", "find_parts", "format_layer", "is_layer", "shorten"]

_PLAIN = frozenset((int, float, bool, str, bytes, type(None), numpy.dtype, type, types.FunctionType))
"""What certainly holds no layer; this is asked of every attribute, so it has to be fast."""
_UNORDERED: Any = (set, frozenset, collections.deque, type({}.values()), type({}.items()))


def is_layer(thing: Any) -> bool:
    """Whether this is an object with ``forward``, ``backward`` and ``parameters``, of minidl or of the user.

    >>> from minidl.layers import MSELoss, ReLU
    >>> is_layer(ReLU()), is_layer(ReLU), is_layer(MSELoss())
    (True, False, False)
    """
    return (
        hasattr(thing, "forward")
        and hasattr(thing, "backward")
        and hasattr(thing, "parameters")
        and not isinstance(thing, type)
    )


def find_parts(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield each layer and each Parameter in the attributes of an object, with its path.

    Lists, tuples, and dicts of str are searched too, at any depth. Paths are ``blocks.0`` or ``heads.left``. Attributes
    that the class, or a base class, names in ``_not_parts`` are left out.

    Raises
    ------
    ParameterError
        If layers or parameters are in a container that gives them no order or no name: a set, a deque, an array of
        objects, or a dict with other keys.
    """
    left_out = _attributes_to_leave_out(type(owner))  # type: ignore[arg-type]
    for name, value in vars(owner).copy().items():  # another thread may be building the layer
        if type(value) not in _PLAIN and name not in left_out:
            yield from _find(name, value, type(owner).__name__)


@functools.cache
def _attributes_to_leave_out(kind: type) -> frozenset[str]:
    return frozenset(name for base in kind.__mro__ for name in vars(base).get("_not_parts", ()))


def _find(path: str, value: Any, owner: str) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind in _PLAIN or (kind is numpy.ndarray and value.dtype.kind != "O") or isinstance(value, numpy.dtype):
        return
    if isinstance(value, Parameter) or is_layer(value):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find(f"{path}.{index}", item, owner)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            for inner, part in _find(path, item, owner):
                if not isinstance(key, str) or not key or "." in key:
                    raise ParameterError(
                        f"{owner}.{path}: the keys of a dict of layers must be names without dots, got {key!r}; use a "
                        "list, or other keys"
                    )
                yield f"{path}.{key}{inner[len(path) :]}", part
    elif isinstance(value, _UNORDERED) or getattr(getattr(value, "dtype", None), "kind", "") == "O":
        for _ in (found for item in list(value) for found in _find(path, item, owner)):
            raise ParameterError(
                f"{owner}.{path}: layers and parameters are not found in a {type(value).__name__}; keep them in a list, "
                "a tuple or a dict of names"
            )


def check_runs_once(layers: Iterable[Any], owner: str) -> None:
    """Raise ParameterError if one forward would run the same layer twice, at any depth.

    The method ``runs`` of a container returns the layers that its forward runs.
    """
    seen: set[int] = set()
    pending = [(layer, "") for layer in layers]
    while pending:
        layer, path = pending.pop(0)
        if layer is None:
            continue
        if id(layer) in seen:
            raise ParameterError(
                f"{owner}: {layer!r} would run twice in one forward{f', the second time inside {path}' if path else ''}; "
                "a layer remembers one forward only, so make a second one (they may share Parameter objects)"
            )
        seen.add(id(layer))
        inside = layer.runs() if hasattr(layer, "runs") else []
        pending += [(inner, type(layer).__name__) for inner in inside]


def shorten(sizes: Any) -> Any:
    """Return one number for sizes that are all equal, and anything else unchanged.

    >>> shorten((3, 3)), shorten((3, 1)), shorten("same")
    (3, (3, 1), 'same')
    >>> shorten(((0, 1), (0, 1)))
    ((0, 1), (0, 1))
    """
    alike = isinstance(sizes, tuple) and len(set(sizes)) == 1 and not isinstance(sizes[0], tuple)
    return sizes[0] if alike else sizes


def format_layer(title: str, parts: list[str]) -> str:
    """Return ``title(part, part)``, on several lines if it is long.

    >>> format_layer("Chain", ["ReLU()", "Tanh()"])
    'Chain(ReLU(), Tanh())'
    """
    if sum(map(len, parts)) < 100 and not any("\n" in part for part in parts):
        return f"{title}({', '.join(parts)})"
    lines = textwrap.indent(",\n".join(parts), "  ")
    return f"{title}(\n{lines},\n)"
