"""Initial weights of image models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from minidl import engines, init
from minidl.layers import Conv2d, Layer, Linear
from minidl.layers.parameter import Parameter

__all__ = ["start_convolutions", "start_linear", "walk"]

Generator = numpy.random.Generator | None


def walk(layer: Any) -> Iterator[Any]:
    """Yield a layer and all layers inside it, in the order of their parameters."""
    yield layer
    if isinstance(layer, Layer):
        for child in layer.children().values():
            yield from walk(child)


def start_convolutions(model: Layer, generator: Generator) -> None:
    """Draw the weights of every Conv2d from a normal distribution with variance 2 / fan_out, and set its bias to 0.

    Gradients then keep their size from layer to layer: the factor 2 makes up for the half that a ReLU blocks.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015, equation 14.
    """
    for layer in walk(model):
        if isinstance(layer, Conv2d):
            _set(layer.weight, init.kaiming_normal, generator, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                layer.bias.value = 0.0


def start_linear(model: Layer, std: float, generator: Generator) -> None:
    """Draw the weights of every Linear from a normal distribution with this standard deviation, and set its bias to 0."""
    for layer in walk(model):
        if isinstance(layer, Linear):
            _set(layer.weight, init.normal, generator, std=std)
            if layer.bias is not None:
                layer.bias.value = 0.0


def _set(parameter: Parameter, initializer: Any, generator: Generator, **settings: Any) -> None:
    value = initializer(parameter.shape, dtype=parameter.dtype, generator=generator, **settings)
    parameter.value = engines.current().asarray(value)
