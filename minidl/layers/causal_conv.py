"""A convolution of sequences that does not see the future."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ShapeError
from minidl.layers.base import Shape
from minidl.layers.conv import Conv1d
from minidl.ops import Array, namespace

__all__ = ["CausalConv1d"]


class CausalConv1d(Conv1d):
    """A convolution in which position t sees itself and the positions before it: the input is padded on the left alone.

    With kernel size k and dilation r, and x_t = 0 before the beginning::

        y_t = sum_i w_i x_{t - r (k - 1 - i)} + b

    ``Conv1d`` of an input that begins with r (k - 1) zeros gives this, and the gradients with it; those of the zeros are
    dropped. The state of ``forward_with_state`` is what takes their place: the last r (k - 1) positions.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int
    dilation : int, default 1
    groups : int, default 1
    bias : bool, default True
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    References
    ----------
    A. van den Oord et al., "WaveNet: a generative model for raw audio" (2016), section 2.1.

    Examples
    --------
    >>> layer = CausalConv1d(1, 1, kernel_size=2, bias=False)
    >>> layer.weight.value[...] = [[[10, 1]]]
    >>> layer.forward(numpy.array([[[1, 2, 3]]], "float32"))
    array([[[ 1., 12., 23.]]], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            dilation=dilation,
            groups=groups,
            bias=bias,
            dtype=dtype,
            generator=generator,
        )
        self._before = self.dilation[0] * (self.kernel_size[0] - 1)

    def forward(self, x: Array) -> Array:
        """Return y, (N, out_channels, T), for x, (N, in_channels, T)."""
        return self.forward_with_state(x)[0]

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add to the gradients of weight and bias, and return dx, or None with ``input_gradient=False``."""
        return self.backward_with_state(dy, None)[0] if input_gradient else super().backward(dy, False)

    def forward_with_state(self, x: Array, state: Array | None = None) -> tuple[Array, Array]:
        """Return y for further positions, and the last positions of the input.

        Parameters
        ----------
        x : array, shape (N, in_channels, T)
        state : array, shape (N, in_channels, dilation (kernel_size - 1)), optional
            What came before; zeros by default.
        """
        x = self.cast_input(x)
        if x.ndim != 3 or x.shape[1] != self.in_channels:
            raise ShapeError(f"{self!r}: x must have shape (N, {self.in_channels}, T), got {x.shape}")
        xp, wanted = namespace(x), (x.shape[0], self.in_channels, self._before)
        before = xp.zeros(wanted, dtype=x.dtype) if state is None else state
        if before.shape != wanted:
            raise ShapeError(f"{self!r}: the state must have shape {wanted}, got {before.shape}")
        x = xp.concatenate([before, x], axis=2)  # (N, C, before + T)
        return super().forward(x), x[:, :, x.shape[2] - self._before :]

    def backward_with_state(self, dy: Array, dstate: Array | None = None) -> tuple[Array, Array]:
        """Return the gradients of x and of the state before it."""
        dx: Any = super().backward(dy)  # (N, C, before + T)
        if dstate is not None:
            dx = dx.copy()
            dx[:, :, dx.shape[2] - self._before :] += dstate
        return dx[:, :, self._before :], dx[:, :, : self._before]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (out_channels, T)."""
        return (self.out_channels, input_shape[1])

    def flops(self, input_shape: Shape) -> int:
        """Count 2 for each weight at each position, and 1 for each bias."""
        return input_shape[1] * (2 * self.weight.value.size + (0 if self.bias is None else self.out_channels))
