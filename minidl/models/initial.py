"""Initial weights of image models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from minidl import engines, init
from minidl.layers import Conv2d, Layer, Linear
from minidl.layers.parameter import Parameter

__all__ = ["redraw", "start_convolutions", "start_linear", "start_transformer", "walk"]

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
            redraw(layer.weight, init.kaiming_normal, generator, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                layer.bias.value = 0.0


def start_linear(model: Layer, std: float, generator: Generator) -> None:
    """Draw the weights of every Linear from a normal distribution with this standard deviation, and set its bias to 0."""
    for layer in walk(model):
        if isinstance(layer, Linear):
            redraw(layer.weight, init.normal, generator, std=std)
            if layer.bias is not None:
                layer.bias.value = 0.0


def start_transformer(model: Layer, generator: Generator) -> None:
    """Draw all matrices from a normal distribution with standard deviation 0.02, and set biases to 0."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.value[...] = 0
        elif len(parameter.shape) > 1:
            redraw(parameter, init.normal, generator, std=0.02)


def redraw(parameter: Parameter, initializer: Any, generator: Generator, **settings: Any) -> None:
    """Replace initial values by others; do nothing where none are drawn (:func:`minidl.init.undrawn`)."""
    if not init.is_undrawn():
        value = initializer(parameter.shape, dtype=parameter.dtype, generator=generator, **settings)
        parameter.value = engines.current().asarray(value)
