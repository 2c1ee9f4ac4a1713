"""Pooling layers."""

from __future__ import annotations

import math
from typing import Any

from minidl.engines import current
from minidl.errors import ShapeError
from minidl.layers.base import OpLayer, Shape
from minidl.layers.tree import shorten
from minidl.ops import Array
from minidl.ops._pooling import Pooling, output_sizes, pooling, read_pool_padding
from minidl.ops._windows import each_axis
from minidl.ops.unpool import unpooled_size

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
]


class _Pool(OpLayer):
    """What all of them share."""

    axes: int

    def image(self, input_shape: Shape) -> Shape:
        """Return the spatial part of one example's shape."""
        if len(input_shape) != self.axes + 1:
            names = {1: "(C, L)", 2: "(C, H, W)", 3: "(C, D, H, W)"}[self.axes]
            raise ShapeError(f"{self!r}: expected examples of shape {names}, got {tuple(input_shape)}")
        return tuple(input_shape[1:])


class _Sliding(_Pool):
    """Pooling over windows of a fixed size."""

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> None:
        super().__init__()
        name, axes = type(self).__name__, self.axes
        self.kernel_size = each_axis(kernel_size, axes, "kernel_size", name, 1)
        self.stride = self.kernel_size if stride is None else each_axis(stride, axes, "stride", name, 1)
        self.padding = read_pool_padding(name, padding, self.kernel_size)
        self.dilation = each_axis(dilation, axes, "dilation", name, 1)
        self.ceil_mode = ceil_mode

    def windows(self, image: Shape) -> Pooling:
        """Return the positions of the windows in images of this size."""
        name = type(self).__name__
        return pooling(name, image, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, *positions)."""
        return (input_shape[0], *self.windows(self.image(input_shape)).output)

    def flops(self, input_shape: Shape) -> int:
        """Count one operation for each pixel of each window."""
        return math.prod(self.kernel_size) * math.prod(self.output_shape(input_shape))

    def extra_repr(self) -> str:
        """Return the kernel size, and the arguments that differ from their defaults."""
        shown = [f"kernel_size={shorten(self.kernel_size)}"]
        defaults = {"stride": self.kernel_size, "padding": (0,) * self.axes, "dilation": (1,) * self.axes}
        plain = {"return_indices": False, "ceil_mode": False, "count_include_pad": True}
        for name, default in (defaults | plain).items():
            value = getattr(self, name, default)
            if value != default:
                shown.append(f"{name}={shorten(value)!r}")
        return ", ".join(shown)


class _WithIndices(OpLayer):
    """Pooling that may return (y, indices); the gradient is that of y, alone or in a pair with anything."""

    return_indices: bool

    def backward(self, dy: Any) -> Array:
        """Return dx."""
        return super().backward(dy[0] if self.return_indices and isinstance(dy, tuple) else dy)


class _Max(_WithIndices, _Sliding):
    """The maximum of each window."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.return_indices = return_indices

    @property
    def settings(self) -> tuple[Any, ...]:
        """The arguments of max_pool."""
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices


class _Avg(_Sliding):
    """The mean of each window."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        self.count_include_pad = count_include_pad

    @property
    def settings(self) -> tuple[Any, ...]:
        """The arguments of avg_pool."""
        return self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad


class MaxPool2d(_Max):  # numpydoc ignore=PR02
    """Take the maximum of each window: (N, C, H, W) to (N, C, H', W'); see ``minidl.ops.max_pool2d``.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        ``kernel_size`` by default.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid", default 0
        The number of pixels by which windows may extend over each edge, as in ``minidl.ops.max_pool2d``.
    dilation : int or (int, int), default 1
    return_indices : bool, default False
        Whether ``forward`` returns (y, indices), where ``indices`` says where each maximum is, as :class:`MaxUnpool2d`
        takes it: u W + v, counted in the image without padding.
    ceil_mode : bool, default False
        Whether windows may also end outside the image.

    Raises
    ------
    ParameterError
        If an argument is invalid.

    Examples
    --------
    >>> import numpy
    >>> layer = MaxPool2d(2)
    >>> layer.forward(numpy.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    >>> layer.output_shape((8, 28, 28))
    (8, 14, 14)
    """

    op = "max_pool2d"
    axes = 2


class MaxPool1d(_Max):
    """Take the maximum of each window of sequences: (N, C, L) to (N, C, L'). The arguments are those of :class:`MaxPool2d`.

    >>> import numpy
    >>> MaxPool1d(3, stride=1).forward(numpy.array([[[1.0, 4.0, 2.0, 3.0]]]))
    array([[[4., 4.]]])
    """

    op = "max_pool1d"
    axes = 1


class MaxPool3d(_Max):
    """Take the maximum of each window of volumes: (N, C, D, H, W) to (N, C, D', H', W'). Arguments as in :class:`MaxPool2d`.

    >>> import numpy
    >>> MaxPool3d((2, 1, 2)).forward(numpy.arange(8.0).reshape(1, 1, 2, 2, 2)).ravel()
    array([5., 7.])
    """

    op = "max_pool3d"
    axes = 3


class AvgPool2d(_Avg):  # numpydoc ignore=PR02
    """Take the mean of each window: (N, C, H, W) to (N, C, H', W'); see ``minidl.ops.avg_pool2d``.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        ``kernel_size`` by default.
    padding : int or (int, int), default 0
        Zeros around the image; at most half the kernel.
    ceil_mode : bool, default False
        Whether windows may also end outside the padded image.
    count_include_pad : bool, default True
        Whether the mean counts the zeros of the padding.

    Raises
    ------
    ParameterError
        If an argument is invalid.

    Examples
    --------
    >>> import numpy
    >>> AvgPool2d(2).forward(numpy.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    >>> AvgPool2d((3, 1), stride=2, padding=(1, 0))
    AvgPool2d(kernel_size=(3, 1), stride=2, padding=(1, 0))
    """

    op = "avg_pool2d"
    axes = 2


class AvgPool1d(_Avg):
    """Take the mean of each window of sequences: (N, C, L) to (N, C, L'). The arguments are those of :class:`AvgPool2d`.

    >>> import numpy
    >>> AvgPool1d(2).forward(numpy.array([[[1.0, 3.0, 5.0, 7.0]]]))
    array([[[2., 6.]]])
    """

    op = "avg_pool1d"
    axes = 1


class AvgPool3d(_Avg):
    """Take the mean of each window of volumes: (N, C, D, H, W) to (N, C, D', H', W'). Arguments as in :class:`AvgPool2d`.

    >>> import numpy
    >>> AvgPool3d((2, 1, 2)).forward(numpy.arange(8.0).reshape(1, 1, 2, 2, 2)).ravel()
    array([2.5, 4.5])
    """

    op = "avg_pool3d"
    axes = 3


class _Unpool(_Pool):
    """Maxima put back where they were."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        name, axes = type(self).__name__, self.axes
        self.kernel_size = each_axis(kernel_size, axes, "kernel_size", name, 1)
        self.stride = self.kernel_size if stride is None else each_axis(stride, axes, "stride", name, 1)
        self.padding = read_pool_padding(name, padding, self.kernel_size)

    def forward(self, x: Array, indices: Array, output_size: Any = None) -> Array:  # type: ignore[override]
        """Return an image for each of x, with its elements at the indices and 0 elsewhere.

        Parameters
        ----------
        x : array, shape (N, C, *positions)
        indices : integer array, shape (N, C, *positions)
            What a max pooling with ``return_indices=True`` returned.
        output_size : tuple of int, optional
            The spatial shape of the result, or its whole shape. By default it is the least that gives so many positions.
        """
        op = getattr(current(), self.op)
        y, cache = op(x, indices, self.kernel_size, self.stride, self.padding, output_size)
        self._remember(cache)
        return y

    def backward(self, dy: Array) -> tuple[Array, None]:
        """Return dx, and None for the indices."""
        return super().backward(dy), None

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, *sizes), by default."""
        image = self.image(input_shape)
        name = type(self).__name__
        return (input_shape[0], *unpooled_size(name, image, self.kernel_size, self.stride, self.padding, None))

    def extra_repr(self) -> str:
        """Return the kernel size, and the arguments that differ from their defaults."""
        shown = [f"kernel_size={shorten(self.kernel_size)}"]
        for name, default in (("stride", self.kernel_size), ("padding", (0,) * self.axes)):
            if getattr(self, name) != default:
                shown.append(f"{name}={shorten(getattr(self, name))!r}")
        return ", ".join(shown)


class MaxUnpool2d(_Unpool):  # numpydoc ignore=PR02
    """Put each element where the maximum of its window was: (N, C, H', W') to (N, C, H, W); see ``minidl.ops.max_unpool2d``.

    ``forward(x, indices)`` takes the indices that :class:`MaxPool2d` returned, and ``backward`` returns (dx, None).

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        ``kernel_size`` by default.
    padding : int, (int, int) or ((int, int), (int, int)), default 0
        All as in the pooling; they only decide the size of the result.

    Raises
    ------
    ParameterError
        If an argument is invalid, or from ``forward``, if an index is outside the image.

    Examples
    --------
    >>> import numpy
    >>> y, indices = MaxPool2d(2, return_indices=True).forward(numpy.array([[[[1.0, 5.0], [3.0, 4.0]]]]))
    >>> MaxUnpool2d(2).forward(y, indices)
    array([[[[0., 5.],
             [0., 0.]]]])
    """

    op = "max_unpool2d"
    axes = 2


class MaxUnpool1d(_Unpool):
    """Put each element where the maximum of its window was in the sequence: (N, C, L') to (N, C, L).

    The arguments are those of :class:`MaxUnpool2d`.

    >>> import numpy
    >>> MaxUnpool1d(2).forward(numpy.array([[[4.0, 3.0]]]), numpy.array([[[1, 2]]]))
    array([[[0., 4., 3., 0.]]])
    """

    op = "max_unpool1d"
    axes = 1


class _Adaptive(_Pool):
    """Means or maxima over a given number of windows."""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        output_sizes(type(self).__name__, (1,) * self.axes, output_size)  # raises if it is invalid
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size

    @property
    def settings(self) -> tuple[Any, ...]:
        """The output size."""
        return (self.output_size,)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, *output size)."""
        return (input_shape[0], *output_sizes(type(self).__name__, self.image(input_shape), self.output_size))

    def flops(self, input_shape: Shape) -> int:
        """Count one operation for each pixel of each window."""
        image = self.image(input_shape)
        sizes = output_sizes(type(self).__name__, image, self.output_size)
        seen = (sum(-(-(i + 1) * n // m) - i * n // m for i in range(m)) for n, m in zip(image, sizes, strict=True))
        return input_shape[0] * math.prod(seen)

    def extra_repr(self) -> str:
        """Return the output size."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_Adaptive):  # numpydoc ignore=PR02
    """Take the means of a given number of windows: (N, C, H, W) to (N, C, *output_size).

    See ``minidl.ops.adaptive_avg_pool2d``.

    Parameters
    ----------
    output_size : int, None, or a pair of them
        None keeps the size of the image.

    Raises
    ------
    ParameterError
        If the output size is invalid.

    Examples
    --------
    >>> import numpy
    >>> AdaptiveAvgPool2d((1, None)).forward(numpy.ones((5, 8, 7, 7))).shape
    (5, 8, 1, 7)
    """

    op = "adaptive_avg_pool2d"
    axes = 2


class AdaptiveAvgPool1d(_Adaptive):
    """Take the means of a given number of windows of sequences: (N, C, L) to (N, C, output_size).

    >>> import numpy
    >>> AdaptiveAvgPool1d(2).forward(numpy.array([[[1.0, 3.0, 5.0]]]))
    array([[[2., 4.]]])
    """

    op = "adaptive_avg_pool1d"
    axes = 1


class _AdaptiveMax(_WithIndices, _Adaptive):
    """Maxima over a given number of windows."""

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    @property
    def settings(self) -> tuple[Any, ...]:
        """The output size, and whether to return the places of the maxima."""
        return self.output_size, self.return_indices

    def extra_repr(self) -> str:
        """Return the arguments that differ from their defaults."""
        return super().extra_repr() + (", return_indices=True" if self.return_indices else "")


class AdaptiveMaxPool2d(_AdaptiveMax):
    """Keep the maxima of as many windows as are asked for; see ``minidl.ops.adaptive_max_pool2d``.

    Arguments and errors are those of :class:`AdaptiveAvgPool2d`; with ``return_indices=True`` forward returns (y, indices), as
    that of :class:`MaxPool2d` does.

    >>> import numpy
    >>> AdaptiveMaxPool2d((1, None)).forward(numpy.ones((5, 8, 7, 7))).shape
    (5, 8, 1, 7)
    """

    op = "adaptive_max_pool2d"
    axes = 2


class AdaptiveMaxPool1d(_AdaptiveMax):
    """Keep the maxima of as many windows of sequences as are asked for: (N, C, L) to (N, C, output_size).

    >>> import numpy
    >>> AdaptiveMaxPool1d(2).forward(numpy.array([[[1.0, 3.0, 5.0]]]))
    array([[[3., 5.]]])
    """

    op = "adaptive_max_pool1d"
    axes = 1


class _Global(_Pool):
    """One number for each image of a channel: (N, C, ...) to (N, C)."""

    shape_of_x: int
    """Where the op's cache has the shape of x."""

    @property
    def settings(self) -> tuple[Any, ...]:
        """The output size, one pixel."""
        return (1,)

    def forward(self, x: Array) -> Array:
        """Return one number for each image of a channel."""
        y = super().forward(x)  # (N, C, 1, 1)
        return y.reshape(y.shape[:2])  # (N, C)

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        shape = self._remembered()[self.shape_of_x]
        if dy.shape != shape[:2]:
            raise ShapeError(f"{self!r}: dy must have the shape of y, {shape[:2]}, got {dy.shape}")
        return super().backward(dy.reshape((*dy.shape, *(1,) * self.axes)))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C,)."""
        self.image(input_shape)
        return (input_shape[0],)

    def flops(self, input_shape: Shape) -> int:
        """Count one operation for every pixel."""
        return math.prod(input_shape)


class GlobalAvgPool2d(_Global):
    """Take the mean of each image: (N, C, H, W) to (N, C).

    The same as ``AdaptiveAvgPool2d(1)`` and ``Flatten()``.

    Examples
    --------
    >>> import numpy
    >>> GlobalAvgPool2d().forward(numpy.arange(8.0).reshape(1, 2, 2, 2))
    array([[1.5, 5.5]])
    """

    op = "adaptive_avg_pool2d"
    axes = 2
    shape_of_x = 0


class GlobalAvgPool1d(_Global):
    """Take the mean of each sequence: (N, C, L) to (N, C).

    >>> import numpy
    >>> GlobalAvgPool1d().forward(numpy.array([[[1.0, 3.0], [5.0, 9.0]]]))
    array([[2., 7.]])
    """

    op = "adaptive_avg_pool1d"
    axes = 1
    shape_of_x = 0


class GlobalMaxPool2d(_Global):
    """Keep the maximum of each image: (N, C, H, W) to (N, C).

    >>> import numpy
    >>> GlobalMaxPool2d().forward(numpy.arange(8.0).reshape(1, 2, 2, 2))
    array([[3., 7.]])
    """

    op = "adaptive_max_pool2d"
    axes = 2
    shape_of_x = 1


class GlobalMaxPool1d(_Global):
    """Keep the maximum of each sequence: (N, C, L) to (N, C).

    >>> import numpy
    >>> GlobalMaxPool1d().forward(numpy.array([[[1.0, 3.0], [9.0, 5.0]]]))
    array([[3., 9.]])
    """

    op = "adaptive_max_pool1d"
    axes = 1
    shape_of_x = 1
