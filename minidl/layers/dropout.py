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
    """In training, set each element to zero with probability p and divide the others by 1 - p.

    In evaluation y = x. See ``minidl.ops.dropout``.

    Parameters
    ----------
    p : float, default 0.5
    generator : numpy.random.Generator, optional
        Draws the masks; the generator of ``minidl.seed`` by default.

    Raises
    ------
    ParameterError
        If p is not from 0 to 1.

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
            raise ParameterError(f"{type(self).__name__}: p must be from 0 to 1, got {p!r}")
        self.p = p
        self.generator = generator

    def forward(self, x: Array) -> Array:
        """Return x masked and scaled, or x itself in evaluation."""
        if not self.training or self.p == 0.0:
            self._remember(())
            return x
        y, cache = getattr(current(), self.op)(x, self.p, self.generator or random.generator())
        self._remember(cache)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy masked and scaled in the same way."""
        cache = self._remembered()
        return getattr(current(), f"{self.op}_backward")(dy, cache) if cache else dy

    def flops(self, input_shape: Shape) -> int:
        """Count one multiplication an element."""
        return math.prod(input_shape)

    def extra_repr(self) -> str:
        """Return p."""
        return f"p={self.p}"


class Dropout2d(Dropout):
    """Set whole channels of images (N, C, H, W) to zero; otherwise as :class:`Dropout`. See ``minidl.ops.dropout2d``.

    >>> Dropout2d(0.5).forward(numpy.ones((10, 20, 3, 3))).std(axis=(2, 3)).max()
    np.float64(0.0)
    """

    op = "dropout2d"
