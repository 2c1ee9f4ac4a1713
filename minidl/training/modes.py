"""What ``fit`` must not change: the modes that the user set, and the running statistics if a step is aborted."""

from __future__ import annotations

from collections.abc import Sequence

from minidl.layers import Layer

__all__ = ["Statistics", "switch_to_training"]


def switch_to_training(model: Layer, stayed: Sequence[Layer]) -> list[Layer]:
    """Switch a model to training, except for layers that the user switched to evaluation; return those.

    A layer in evaluation inside a model in training stays in evaluation. A model that is in evaluation itself, as after
    every ``fit``, is switched with all its layers, except for those that stayed in evaluation in the last fit.
    """
    layers = [layer for _, layer in model.named_layers() if isinstance(layer, Layer)]
    staying = [layer for layer in layers if not layer._training] if model._training else list(stayed)
    model.train()
    for layer in staying:
        if any(layer is other for other in layers):
            layer._training = False
    return staying


class Statistics:
    """The running statistics of a model, to restore them after an aborted step."""

    def __init__(self, model: Layer) -> None:
        self._arrays = [array for _, array in model.named_buffers()]
        self._before = [array.copy() for array in self._arrays]

    def note(self) -> None:
        """Keep a copy of the current statistics."""
        for before, array in zip(self._before, self._arrays, strict=True):
            before[...] = array

    def put_back(self) -> None:
        """Restore the statistics of the last ``note``."""
        for before, array in zip(self._before, self._arrays, strict=True):
            array[...] = before
