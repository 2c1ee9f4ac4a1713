"""Batch normalisation whose statistics, weight and bias are constants."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.engines import current
from minidl.errors import ParameterError, ShapeError
from minidl.layers.base import Layer, cast_input
from minidl.ops import Array

__all__ = ["FrozenBatchNorm2d"]


class FrozenBatchNorm2d(Layer):
    """Scale and shift each channel of an image by constants that a file holds.

    For channel c::

        y = w_c (x - mean_c) / sqrt(var_c + eps) + b_c
        dx = w_c dy / sqrt(var_c + eps)

    Nothing is trained, and training and evaluation do the same. Detectors use it in backbones that were trained for
    classification, because a batch of few large images has poor statistics.

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
    dtype : dtype, default float32

    Attributes
    ----------
    weight, bias, running_mean, running_var : array, shape (C,)
        Buffers, initially 1, 0, 0 and 1, so that y is nearly x until a file is read.

    Raises
    ------
    ParameterError
        If the number of channels is not positive.
    ShapeError
        From ``forward``, if x is not of shape (N, C, H, W).

    Examples
    --------
    >>> layer = FrozenBatchNorm2d(2, eps=0.0)
    >>> layer.weight[...], layer.bias[...] = [1, 3], 5
    >>> layer.forward(numpy.ones((1, 2, 1, 1), "float32")).ravel()
    array([6., 8.], dtype=float32)
    """

    _live = ()
    weight: Array
    bias: Array
    running_mean: Array
    running_var: Array

    def __init__(self, num_features: int, eps: float = 1e-5, *, dtype: Any = "float32") -> None:
        super().__init__()
        if num_features < 1:
            raise ParameterError(f"FrozenBatchNorm2d: num_features must be positive, got {num_features}")
        self.num_features, self.eps = num_features, eps
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, current().asarray(numpy.full(num_features, value, dtype)))

    def forward(self, x: Array) -> Array:
        """Return the scaled and shifted x, (N, C, H, W)."""
        x = cast_input(self, x, self.weight)
        if x.ndim != 4 or x.shape[1] != self.num_features:
            raise ShapeError(f"{self!r}: expected a batch of shape (N, {self.num_features}, H, W), got shape {x.shape}")
        statistics = self.running_mean, self.running_var
        y, cache = current().batch_norm(x, self.weight, self.bias, *statistics, False, self.eps)
        self._remember(cache)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx; the constants have no gradients."""
        return current().batch_norm_backward(dy, self._remembered(), wanted=(True, False, False))[0]

    def extra_repr(self) -> str:
        """Return the number of channels."""
        return f"{self.num_features}"
