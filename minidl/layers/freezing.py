"""Freezing by name: the work of ``freeze`` and ``unfreeze``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minidl.layers.parameter import Parameter, structure
from minidl.weights.matching import match_names

if TYPE_CHECKING:
    from minidl.layers.base import Layer

__all__ = ["FirstTrained", "set_trainable"]


class FirstTrained:
    """Finds the first of some parts that has something to train: backward needs to go no further, if nobody wants dx.

    It looks again only after something was frozen, unfrozen or replaced.

    Examples
    --------
    >>> from minidl.layers import Linear
    >>> parts = [Linear(2, 2) for _ in range(3)]
    >>> first = FirstTrained()
    >>> first.among(parts), parts[0].freeze(), first.among(parts)
    (0, Linear(2, 2), 1)
    """

    def __init__(self) -> None:
        self._known: tuple[int, list[int]] = (-1, [])
        self._index = 0

    def among(self, parts: Sequence[Any]) -> int:
        """Return the index of the first that is trained, in the order of forward, or the number of parts if none is."""
        now = structure.changes, [id(part) for part in parts]
        if now != self._known:
            self._index = next((i for i, part in enumerate(parts) if getattr(part, "trainable", True)), len(parts))
            self._known = now
        return self._index


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
