"""An example of the inputs of each named model, so that ``export`` needs none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from minidl.models import BERT, CLIP, DETR, GPT2, CharRNN, Transformer, TwoTower, ViT

__all__ = ["examples_for"]


def _ids(batch: int = 2, length: int = 3) -> numpy.ndarray:
    return numpy.zeros((batch, length), "int64")


def _images(model: Any, size: int, channels: int) -> numpy.ndarray:
    dtype = model.parameters()[0].dtype
    return numpy.zeros((2, channels, size, size), dtype)


EXAMPLES: dict[type, Callable[[Any], tuple[numpy.ndarray, ...]]] = {
    BERT: lambda model: (_ids(), _ids() + 1),
    CharRNN: lambda model: (_ids(),),
    CLIP: lambda model: (_images(model, model.config.image_size, model.config.channels), _ids(3, 4)),
    DETR: lambda model: (_images(model, 64, 3),),
    GPT2: lambda model: (_ids(),),
    Transformer: lambda model: (_ids(2, 3), _ids(2, 4)),
    TwoTower: lambda model: (numpy.zeros(2, "int64"), _ids(2, 3)),
    ViT: lambda model: (_images(model, model.config.image_size, model.config.channels),),
}
"""Ids, masks and images. Lengths differ where they are independent, so that none is taken for another."""


def examples_for(model: Any) -> tuple[numpy.ndarray, ...] | None:
    """Return an example of each input of a named model, or of a model that knows the shape of its input; else None."""
    for kind, make in EXAMPLES.items():
        if isinstance(model, kind):
            return make(model)
    shape = getattr(model, "input_shape", None)
    if shape is None:
        return None
    floating = [p.dtype for p in model.parameters() if p.dtype.kind == "f"]
    return (numpy.zeros((2, *shape), floating[0] if floating else "float32"),)
