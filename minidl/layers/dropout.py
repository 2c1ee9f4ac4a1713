"""Dropout as a layer: random in training, the identity in evaluation."""

from __future__ import annotations

import math

import numpy

from minidl import random
from minidl.engines import current
from minidl.errors import ParameterError
from minidl.layers.base import Layer, Shape
from minidl.ops import Array

__all__ = ["Dropout", "Dropout2d"]


class Dropout(Layer):
    """Zero each element with probability p in training and scale the rest by 1 / (1 - p).

    Parameters
    ----------
    p : float
        Probability of dropping, from 0 to 1.
    generator : numpy.random.Generator, optional
        Where the masks come from; the one of ``minidl.seed`` otherwise.

    Examples
    --------
    >>> layer = Dropout(0.5)
    >>> layer.eval().forward(numpy.ones(3))
    array([1., 1., 1.])
    """

    op = "dropout"
    _live = ("p", "generator")

    def __init__(self, p: float = 0.5, *, generator: numpy.random.Generator | None = None) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ParameterError(f"{type(self).__name__}: p is a probability, from 0 to 1, got {p!r}")
        self.p = p
        self.generator = generator

    def forward(self, x: Array) -> Array:
        """Return the masked and rescaled x, or x itself in evaluation."""
        if not self.training or self.p == 0.0:
            self._remember(())
            return x
        y, cache = getattr(current(), self.op)(x, self.p, self.generator or random.generator())
        self._remember(cache)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy through the same mask."""
        cache = self._remembered()
        return getattr(current(), f"{self.op}_backward")(dy, cache) if cache else dy

    def flops(self, input_shape: Shape) -> int:
        """Count one multiplication an element."""
        return math.prod(input_shape)

    def extra_repr(self) -> str:
        """Show p."""
        return f"p={self.p}"


class Dropout2d(Dropout):
    """Zero whole channels of (N, C, H, W) with probability p in training and scale the rest; arguments as for :class:`Dropout`.

    See ``minidl.ops.dropout2d``.

    >>> Dropout2d(0.5).forward(numpy.ones((10, 20, 3, 3))).std(axis=(2, 3)).max()
    np.float64(0.0)
    """

    op = "dropout2d"
