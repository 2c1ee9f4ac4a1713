"""Layers that compute nothing: Flatten, Unflatten, Reshape, Permute, Identity."""

from __future__ import annotations

import math
from typing import Any

from minidl.errors import ParameterError, ShapeError
from minidl.layers.base import Layer, Shape
from minidl.ops import Array
from minidl.ops._names import axis_or_dim

__all__ = ["Flatten", "Identity", "Permute", "Reshape", "Unflatten"]


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


def _lengths(name: str, what: str, given: Any) -> Shape:
    """Return lengths of axes as a tuple; one of them may be -1."""
    lengths = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if not lengths or not all(hasattr(n, "__index__") and n >= -1 for n in lengths) or lengths.count(-1) > 1:
        raise ParameterError(f"{name}: {what} must be lengths of axes, at most one of them -1; got {given!r}")
    return tuple(n.__index__() for n in lengths)


def _fill(layer: Layer, lengths: Shape, size: int) -> Shape:
    """Return the lengths with -1 replaced by what makes ``size`` elements."""
    known = math.prod(n for n in lengths if n != -1)
    filled = tuple((size // known if known else 0) if n == -1 else n for n in lengths)
    if math.prod(filled) != size:
        raise ShapeError(f"{layer!r}: {size} elements cannot be arranged as {lengths}")
    return filled


class Reshape(Layer):
    """Arrange the elements of each example in another shape: (N, ...) to (N, *shape), row by row.

    Parameters
    ----------
    *shape : int
        The shape of one example, as in Keras; -1 stands for the length that the others leave.

    Raises
    ------
    ParameterError
        If these are no lengths.
    ShapeError
        If the examples do not have so many elements.

    Examples
    --------
    >>> import numpy
    >>> Reshape(3, -1).forward(numpy.arange(12.0).reshape(2, 6)).shape
    (2, 3, 2)
    """

    def __init__(self, *shape: Any) -> None:
        super().__init__()
        self.shape = _lengths("Reshape", "shape", shape[0] if len(shape) == 1 else shape)

    def forward(self, x: Array) -> Array:
        """Return x in the other shape."""
        if x.ndim < 1:
            raise ShapeError(f"{self!r}: expected a batch with at least one axis, got a scalar")
        self._remember(x.shape)
        return x.reshape(x.shape[0], *self.output_shape(x.shape[1:]))

    def backward(self, dy: Array) -> Array:
        """Return dy in the shape that x had."""
        return dy.reshape(self._remembered())

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape."""
        return _fill(self, self.shape, math.prod(input_shape))

    def extra_repr(self) -> str:
        """Show the shape."""
        return ", ".join(map(str, self.shape))


class Unflatten(Layer):
    """Split one axis into several, as PyTorch's does.

    Parameters
    ----------
    dim : int
        The axis, counted with the batch; not 0. Keras's name for it, ``axis``, is taken too.
    unflattened_size : tuple of int
        What it becomes; -1 stands for the length that the others leave.

    Raises
    ------
    ParameterError
        If these are no lengths, or the axis is that of the batch.
    ShapeError
        If there is no such axis, or it does not have so many elements.

    Examples
    --------
    >>> import numpy
    >>> Unflatten(1, (2, 3)).forward(numpy.zeros((5, 6, 7))).shape
    (5, 2, 3, 7)
    """

    @axis_or_dim
    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        if not hasattr(dim, "__index__") or dim == 0:
            raise ParameterError(f"Unflatten: dim must be an axis behind that of the batch, got {dim!r}")
        self.dim = dim.__index__()
        self.unflattened_size = _lengths("Unflatten", "unflattened_size", unflattened_size)

    def forward(self, x: Array) -> Array:
        """Return x with one axis split."""
        self._remember(x.shape)
        return x.reshape(*x.shape[:1], *self.output_shape(x.shape[1:]))

    def backward(self, dy: Array) -> Array:
        """Return dy in the shape that x had."""
        return dy.reshape(self._remembered())

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape with one axis split."""
        at = self.dim + len(input_shape) if self.dim < 0 else self.dim - 1
        if not 0 <= at < len(input_shape):
            raise ShapeError(f"{self!r}: examples of shape {tuple(input_shape)} have no such axis")
        return (*input_shape[:at], *_fill(self, self.unflattened_size, input_shape[at]), *input_shape[at + 1 :])

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"{self.dim}, {self.unflattened_size}"


class Permute(Layer):
    """Put the axes of each example in another order, as Keras does: (N, H, W, C) to (N, C, H, W) with ``Permute(3, 1, 2)``.

    Parameters
    ----------
    *dims : int
        For each axis of y behind the batch the axis of x that it is, counted from 1; the batch stays axis 0.

    Raises
    ------
    ParameterError
        If these are not the axes 1, 2, ... in some order.
    ShapeError
        If the examples have another number of axes.

    Examples
    --------
    >>> import numpy
    >>> Permute(3, 1, 2).forward(numpy.zeros((5, 32, 24, 3))).shape
    (5, 3, 32, 24)
    """

    def __init__(self, *dims: Any) -> None:
        super().__init__()
        given = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
        whole = all(hasattr(axis, "__index__") for axis in given)
        if not given or not whole or sorted(given) != list(range(1, len(given) + 1)):
            raise ParameterError(
                f"Permute: dims must be the axes 1 to {max(len(given), 1)} behind the batch, each once; got {given!r}"
            )
        self.dims = tuple(axis.__index__() for axis in given)

    def forward(self, x: Array) -> Array:
        """Return x with its axes in the other order."""
        self.output_shape(x.shape[1:])
        return x.transpose((0, *self.dims))

    def backward(self, dy: Array) -> Array:
        """Return dy with its axes in the order of x."""
        return dy.transpose((0, *(1 + self.dims.index(axis) for axis in sorted(self.dims))))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the lengths in the other order."""
        if len(input_shape) != len(self.dims):
            raise ShapeError(f"{self!r}: expected examples with {len(self.dims)} axes, got {tuple(input_shape)}")
        return tuple(input_shape[axis - 1] for axis in self.dims)

    def extra_repr(self) -> str:
        """Show the order."""
        return ", ".join(map(str, self.dims))
