"""What a fit leaves as it found it: the modes of layers, and what an aborted step must not change."""

from __future__ import annotations

from collections.abc import Sequence

from minidl.layers import Layer

__all__ = ["Statistics", "switch_to_training"]


def switch_to_training(model: Layer, stayed: Sequence[Layer]) -> list[Layer]:
    """Switch a model to training, but for the layers that somebody switched to evaluation; return those.

    A layer that is in evaluation while its model is in training stays so. A model that is in evaluation as a whole, as
    every ``fit`` leaves it, is switched with all that is inside, but for the layers that stayed in the fit before.
    """
    layers = [layer for _, layer in model.named_layers() if isinstance(layer, Layer)]
    staying = [layer for layer in layers if not layer._training] if model._training else list(stayed)
    model.train()
    for layer in staying:
        if any(layer is other for other in layers):
            layer._training = False
    return staying


class Statistics:
    """The running statistics of a model, which a step that is not finished must not change."""

    def __init__(self, model: Layer) -> None:
        self._arrays = [array for _, array in model.named_buffers()]
        self._before = [array.copy() for array in self._arrays]

    def note(self) -> None:
        """Remember what they are now."""
        for before, array in zip(self._before, self._arrays, strict=True):
            before[...] = array

    def put_back(self) -> None:
        """Make them what they were when they were last noted."""
        for before, array in zip(self._before, self._arrays, strict=True):
            array[...] = before
