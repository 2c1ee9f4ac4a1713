"""Convolutions as layers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy

from minidl import init
from minidl.engines import current
from minidl.errors import ParameterError
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.parameter import Parameter
from minidl.layers.tree import shorten
from minidl.ops import Array
from minidl.ops._windows import Windows, each_axis, read_padding, require_addressable, windows, windows_of_transposed

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"]


class _Convolution(Layer):
    """What the four share: weight, bias, and the settings of the op."""

    input_gradient_optional = True
    op: str
    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        groups: int,
        bias: bool,
        weight_shape: Shape,
        dtype: Any,
        generator: numpy.random.Generator | None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.groups = groups
        self.dtype = numpy.dtype(dtype)
        weight_shape = (*weight_shape, *kernel_size)
        require_addressable(weight_shape, type(self).__name__)
        bound = 1.0 / math.sqrt(math.prod(weight_shape[1:]))
        xp = current().asarray

        def draw(shape: Shape) -> Array:
            return xp(init.uniform(shape, low=-bound, high=bound, dtype=self.dtype, generator=generator))

        self.weight = Parameter(draw(weight_shape), name="weight")
        self.bias = Parameter(draw((out_channels,)), name="bias") if bias else None

    @property
    def settings(self) -> tuple[Any, ...]:
        """The arguments of the op after the bias."""
        raise NotImplementedError

    def windows(self, x: Shape) -> Windows:
        """Return the positions of the windows in a batch of this shape."""
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        """Return the output of the op."""
        weight = self.weight.value
        y, cache = getattr(current(), self.op)(
            self.cast_input(x), weight, None if self.bias is None else self.bias.value, *self.settings
        )
        self._remember(cache)
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Add to the gradients of weight and bias, and return dx, or None with ``input_gradient=False``."""
        return self._run_backward(self.op, dy, (self.weight, self.bias), input_gradient)

    def cast_input(self, x: Array) -> Array:
        """Return x in the precision of the weight; see ``minidl.layers.base.cast_input``."""
        weight = self.weight.value
        return x if type(x) is type(weight) and x.dtype == weight.dtype else cast_input(self, x, weight)

    def admitted(self, x: Array) -> Array:
        """Call ``cast_input``; the name is deprecated."""
        warnings.warn(
            f"{type(self).__name__}.admitted is deprecated and will go with the next version; use cast_input",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.cast_input(x)

    def flops(self, input_shape: Shape) -> int:
        """Count 2 for each weight at each position, and 1 for each bias."""
        w = self.windows((1, *input_shape))
        biases = 0 if self.bias is None else math.prod(self.output_shape(input_shape))
        return 2 * self.weight.value.size * math.prod(w.output) + biases

    def extra_repr(self) -> str:
        """Return the sizes, and the arguments that differ from their defaults."""
        shown = [str(self.in_channels), str(self.out_channels), f"kernel_size={shorten(self.kernel_size)}"]
        plain = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
        for name, default in plain.items():
            value = shorten(getattr(self, name, default))
            if value != default:
                shown.append(f"{name}={value!r}")
        return ", ".join([*shown, *(["bias=False"] if self.bias is None else [])])


class _Sliding(_Convolution):
    """A convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        kernel, name = _check_arguments(self, in_channels, out_channels, kernel_size, groups), type(self).__name__
        shape = (out_channels, in_channels // groups)
        super().__init__(in_channels, out_channels, kernel, groups, bias, shape, dtype, generator)
        self.stride = each_axis(stride, self.axes, "stride", name, 1)
        self.dilation = each_axis(dilation, self.axes, "dilation", name, 1)
        self.padding = read_padding(padding, self.axes, name, ("same", "valid"))

    @property
    def settings(self) -> tuple[Any, ...]:
        """Stride, padding, dilation and groups."""
        return self.stride, self.padding, self.dilation, self.groups

    def windows(self, x: Shape) -> Windows:
        """Return the positions of the windows in a batch of this shape."""
        return windows(type(self).__name__, self.axes, x, self.weight.shape, *self.settings)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (out_channels, *positions)."""
        return (self.out_channels, *self.windows((1, *input_shape)).output)


class _Spreading(_Convolution):
    """A transposed convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        kernel, name = _check_arguments(self, in_channels, out_channels, kernel_size, groups), type(self).__name__
        shape = (in_channels, out_channels // groups)
        super().__init__(in_channels, out_channels, kernel, groups, bias, shape, dtype, generator)
        self.stride = each_axis(stride, self.axes, "stride", name, 1)
        self.padding = read_padding(padding, self.axes, name)
        self.output_padding = each_axis(output_padding, self.axes, "output_padding", name, 0)
        self.dilation = each_axis(dilation, self.axes, "dilation", name, 1)

    @property
    def settings(self) -> tuple[Any, ...]:
        """Stride, padding, output_padding, groups and dilation."""
        return self.stride, self.padding, self.output_padding, self.groups, self.dilation

    def windows(self, x: Shape) -> Windows:
        """Return the positions of the windows of the adjoint convolution in a batch of this shape."""
        return windows_of_transposed(type(self).__name__, self.axes, x, self.weight.shape, *self.settings)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (out_channels, *image)."""
        return (self.out_channels, *self.windows((1, *input_shape)).image)


def _check_arguments(layer: _Convolution, in_channels: int, out_channels: int, kernel_size: Any, groups: int) -> Shape:
    """Return the kernel's size along each axis; raise ParameterError if an argument is invalid."""
    name = type(layer).__name__
    for argument, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
        if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)) or value < 1:
            raise ParameterError(f"{name}: {argument} must be a positive integer, got {value!r}")
    if in_channels % groups or out_channels % groups:
        raise ParameterError(
            f"{name}: groups must divide the channels on both sides, got {groups} groups for {in_channels} and "
            f"{out_channels} channels"
        )
    return each_axis(kernel_size, layer.axes, "kernel_size", name, 1)


class Conv2d(_Sliding):  # numpydoc ignore=PR02
    """Convolve images: (N, C, H, W) to (N, out_channels, H', W'); see ``minidl.ops.conv2d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int), default 1
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid", default 0
        Zeros around the image, as in ``minidl.ops.conv2d``: ``"same"`` works with any stride, as in TensorFlow.
    dilation : int or (int, int), default 1
    groups : int, default 1
        Split the channels into this many groups that are convolved separately. ``groups=in_channels`` is a depthwise
        convolution.
    bias : bool, default True
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels / groups, kernel height, kernel width)
    bias : Parameter, shape (out_channels,), or None

    Raises
    ------
    ParameterError
        If an argument is invalid.

    Notes
    -----
    The initial weight and bias are uniform in +-1 / sqrt(fan_in), as in PyTorch. fan_in is the number of elements of one
    ``weight[o]``.

    Examples
    --------
    >>> layer = Conv2d(1, 8, kernel_size=3, stride=2, padding=1)
    >>> layer.forward(numpy.zeros((5, 1, 28, 28), dtype=numpy.float32)).shape
    (5, 8, 14, 14)
    >>> layer
    Conv2d(1, 8, kernel_size=3, stride=2, padding=1)
    """

    op = "conv2d"
    axes = 2


class Conv1d(_Sliding):
    """Convolve sequences: (N, C, L) to (N, out_channels, L'). The arguments are those of :class:`Conv2d`.

    >>> Conv1d(4, 8, kernel_size=3, padding="same").forward(numpy.zeros((5, 4, 9), dtype=numpy.float32)).shape
    (5, 8, 9)
    """

    op = "conv1d"
    axes = 1


class Conv3d(_Sliding):
    """Convolve volumes: (N, C, D, H, W) to (N, out_channels, D', H', W'). The arguments are those of :class:`Conv2d`.

    >>> Conv3d(1, 8, kernel_size=(1, 3, 3), padding="same").forward(numpy.zeros((5, 1, 2, 4, 6), dtype=numpy.float32)).shape
    (5, 8, 2, 4, 6)
    """

    op = "conv3d"
    axes = 3


class ConvTranspose2d(_Spreading):  # numpydoc ignore=PR02
    """Spread each pixel over a window: (N, C, H, W) to (N, out_channels, H', W'); see ``minidl.ops.conv_transpose2d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
    stride : int or (int, int), default 1
    padding : int or (int, int), default 0
        The number of pixels removed on each side of the output.
    output_padding : int or (int, int), default 0
        The number of pixels added to the output at the bottom and on the right.
    groups : int, default 1
        As in :class:`Conv2d`.
    bias : bool, default True
    dilation : int or (int, int), default 1
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight : Parameter, shape (in_channels, out_channels / groups, kernel height, kernel width)
    bias : Parameter, shape (out_channels,), or None

    Raises
    ------
    ParameterError
        If an argument is invalid.

    Notes
    -----
    The initial weight and bias are uniform in +-1 / sqrt(n), as in PyTorch. n is the number of elements of one ``weight[c]``.

    Examples
    --------
    >>> layer = ConvTranspose2d(8, 3, kernel_size=2, stride=2)
    >>> layer.forward(numpy.zeros((5, 8, 7, 7), dtype=numpy.float32)).shape
    (5, 3, 14, 14)
    """

    op = "conv_transpose2d"
    axes = 2


class ConvTranspose1d(_Spreading):
    """Spread each element over a window: (N, C, L) to (N, out_channels, L'); arguments of :class:`ConvTranspose2d`.

    >>> ConvTranspose1d(4, 2, kernel_size=3, stride=3).forward(numpy.zeros((5, 4, 3), dtype=numpy.float32)).shape
    (5, 2, 9)
    """

    op = "conv_transpose1d"
    axes = 1
