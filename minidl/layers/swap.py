"""Putting other layers in the places of some layers of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidl.layers.chain import Chain
from minidl.layers.parameter import structure
from minidl.layers.tree import is_layer

__all__ = ["swap_layers"]


def swap_layers(model: Any, new: Mapping[int, Any]) -> Any:
    """Put new layers in the places of old ones, wherever the model refers to them; return it, or what takes its place.

    Parameters
    ----------
    model : layer
        Changed in place.
    new : dict of int to layer
        The new layers by the ``id`` of the old ones.

    Examples
    --------
    >>> from minidl.layers import ReLU, Tanh
    >>> model = Chain(ReLU(), Chain(ReLU()))
    >>> swap_layers(model, {id(model[1][0]): Tanh()})
    Chain(ReLU(), Chain(Tanh()))
    """
    result = _swapped(model, new, set())
    structure.changes += 1
    return result


def _swapped(thing: Any, made: Mapping[int, Any], seen: set[int]) -> Any:
    """Return a layer or a container with new layers in the places of old ones; changed in place where it can be."""
    if id(thing) in made:
        return made[id(thing)]
    if id(thing) in seen:
        return thing
    if is_layer(thing):
        seen.add(id(thing))
        own: tuple[str, ...] = ()
        if isinstance(thing, Chain):
            own = Chain._not_parts
            for name, layer in zip(thing._names, thing.layers, strict=True):
                new = _swapped(layer, made, seen)
                if new is not layer:
                    thing.replace(name, new)
        for name, value in list(vars(thing).items()):
            new = value if name in own else _swapped(value, made, seen)
            if new is not value:
                vars(thing)[name] = new  # past the check that settings are not assigned to
    elif isinstance(thing, (list, dict)):
        for key, value in list(enumerate(thing) if isinstance(thing, list) else thing.items()):
            new = _swapped(value, made, seen)
            if new is not value:
                thing[key] = new
    elif type(thing) is tuple:
        new = tuple(_swapped(value, made, seen) for value in thing)
        return new if any(a is not b for a, b in zip(new, thing, strict=True)) else thing
    return thing
