"""Freezing by name: the work of ``freeze`` and ``unfreeze``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minidl.layers.parameter import Parameter
from minidl.weights.matching import match_names

if TYPE_CHECKING:
    from minidl.layers.base import Layer

__all__ = ["set_trainable"]


def set_trainable(layer: Layer, names: Sequence[str], wanted: bool, where: str) -> None:
    """Freeze or unfreeze what has one of these names, or everything if there are none; see :meth:`Layer.freeze`."""
    if not names:
        layer.trainable = wanted
        return
    layers = {path: inner for path, inner in layer.named_layers() if path}
    parameters = dict(layer.named_parameters()) if layer.built else {}  # those of a lazy layer have no names yet
    for name in match_names(names, [*layers, *parameters], where):
        part = layers.get(name)
        if part is not None and hasattr(type(part), "trainable"):
            part.trainable = wanted
        else:  # a parameter, or a layer that somebody made without the base class
            inside: list[Any] = [parameters[name]] if part is None else part.parameters()
            for parameter in inside:
                if isinstance(parameter, Parameter):
                    parameter.trainable = wanted
    for inner in (layer, *layers.values()):
        if hasattr(type(inner), "trainable") and inner.built and inner.parameters():
            inner._trainable = inner.trainable  # which batch normalisation reads
