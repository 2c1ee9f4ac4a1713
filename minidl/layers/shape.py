"""Layers that compute nothing: Flatten and Identity."""

from __future__ import annotations

import math

from minidl.errors import ShapeError
from minidl.layers.base import Layer, Shape
from minidl.ops import Array

__all__ = ["Flatten", "Identity"]


class Flatten(Layer):
    """Flatten each example to one axis: (N, C, H, W) becomes (N, C H W).

    >>> import numpy
    >>> Flatten().forward(numpy.zeros((5, 8, 8))).shape
    (5, 64)
    """

    def forward(self, x: Array) -> Array:
        """Return x as a matrix with one row for each example."""
        if x.ndim < 1:
            raise ShapeError("Flatten(): expected a batch with at least one axis, got a scalar")
        self._remember(x.shape)
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))  # (N, features)

    def backward(self, dy: Array) -> Array:
        """Return dy in the shape that x had."""
        return dy.reshape(self._remembered())

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the number of elements, as a shape of one axis."""
        return (math.prod(input_shape),)


class Identity(Layer):
    """Return the input unchanged."""

    def forward(self, x: Array) -> Array:
        """Return x."""
        return x

    def backward(self, dy: Array) -> Array:
        """Return dy."""
        return dy
