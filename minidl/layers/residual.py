"""Residual layers: the output of a branch plus a shortcut."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.engines import current
from minidl.errors import ParameterError, ShapeError
from minidl.layers.activation import activation as activation_of
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.branches import Branches, to_layer
from minidl.layers.chain import Chain
from minidl.layers.parameter import Parameter
from minidl.layers.tree import check_runs_once, format_layer
from minidl.ops import Array

__all__ = ["LayerScale", "Residual"]


class Residual(Branches):
    """A branch whose output is added to its input.

    With the branch f and the shortcut s, which is the identity by default::

        y = f(x) + s(x)
        dx = f'(dy) + s'(dy)

    Without a shortcut dx = f'(dy) + dy, so dy reaches the first layers of a deep stack undiminished.

    Parameters
    ----------
    *layers : Layer, or one list or dict of them
        The branch, as in :class:`Chain`. Its layers keep their names in ``state_dict``.
    shortcut : Layer, or list or dict of them, optional
        Brings x to the shape of f(x) if they differ. It has the name ``shortcut`` in ``state_dict``.
    activation : str or layer, optional
        Applied to the sum, such as ``"relu"``.

    Raises
    ------
    ParameterError
        If an object is not a layer.
    ShapeError
        From ``forward`` and ``output_shape``, if f(x) and s(x) differ in shape.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016, equations 1 and 2.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Linear
    >>> f = Linear(2, 2)
    >>> f.weight.value[...] = [[0, 1], [2, 0]]; f.bias.value[...] = 0
    >>> layer = Residual(f)
    >>> layer.forward(numpy.array([[1, 10]], dtype=numpy.float32))  # f(x) = [10, 2]
    array([[11., 12.]], dtype=float32)
    >>> layer.backward(numpy.array([[1, 0]], dtype=numpy.float32))  # dy W + dy
    array([[1., 1.]], dtype=float32)
    >>> list(layer.state_dict())
    ['0.weight', '0.bias']
    """

    _not_parts = ("branch", "shortcut", "ways", "follower")
    _told_by_parts = True
    shortcut_name = "shortcut"
    """The name of the shortcut in ``state_dict``."""

    def __init__(self, *layers: Any, shortcut: Any = None, activation: Any = None) -> None:
        super().__init__()
        self.branch = Chain(*layers)
        self.shortcut = None if shortcut is None else to_layer(shortcut, f"{type(self).__name__}: the shortcut")
        self._set_ways({"branch": self.branch, self.shortcut_name: self.shortcut})
        self.follower = activation_of(activation)
        check_runs_once(self.runs(), type(self).__name__)
        names = self.branch.children()
        for name in (self.shortcut_name, "activation"):
            if name in names:
                raise ParameterError(f"{type(self).__name__}: no layer of the branch may have the name {name!r}")

    def forward(self, x: Array) -> Array:
        """Return f(x) + s(x), with the activation applied if there is one."""
        f, other = self._forward(x).values()
        if f.shape != other.shape:
            self.join_shape({"branch": f.shape[1:], self.shortcut_name: other.shape[1:]})
        if f.dtype != other.dtype and self.shortcut is None:
            other = other.astype(f.dtype)  # the layers of the branch cast x to their precision
        y = f + other  # a new array, because layers may keep either of the two
        return y if self.follower is None else self.follower.forward(y)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx, or None with ``input_gradient=False``."""
        if self.follower is not None:
            dy = self.follower.backward(dy)
        return self._backward(dict.fromkeys(self.ways, dy), input_gradient)

    def join_shape(self, shapes: dict[str, Shape]) -> Shape:
        """Return the shape that both have."""
        f, other = map(tuple, shapes.values())
        if f == other:
            return f
        if self.shortcut is None:
            cure = "; give a shortcut that makes it so, such as "
            image = len(f) == len(other) == 3
            cure += f"Conv2d({other[0]}, {f[0]}, 1, stride={-(-other[1] // f[1])})" if image and f[1] else "Linear"
        else:
            cure = "; change the shortcut, or the last layer of the branch"
        raise ShapeError(
            f"{type(self).__name__}: branch and shortcut are added, so they must have one shape, but examples leave the "
            f"branch with shape {f} and {'are' if self.shortcut is None else 'leave the shortcut with shape'} "
            f"{other}{' themselves' if self.shortcut is None else ''}{cure}"
        )

    def inner(self, name: str) -> str:
        """Return the name of the shortcut; the branch has none."""
        return "" if name == "branch" else name

    def joint(self) -> str:
        """Return the two terms of the sum."""
        return f"{type(self).__name__}: branch + {'x' if self.shortcut is None else self.shortcut_name}"

    def replace(self, name: str, layer: Any) -> Any:
        """Replace a layer of the branch, the shortcut or the activation; return the old one."""
        if name == self.shortcut_name and self.shortcut is not None:
            before = self.shortcut
            self.ways[name] = self.__dict__["shortcut"] = layer  # not by assignment, which checks settings
        elif name == "activation" and self.follower is not None:
            before, self.follower = self.follower, layer
        else:
            before = self.branch.replace(name, layer)
        return before

    def _made_from(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._told_by_parts or "_made_with" in vars(self):
            return super()._made_from()
        named = {"shortcut": self.shortcut, "activation": self.follower}
        return (dict(zip(self.branch._names, self.branch.layers, strict=True)),), named

    def children(self) -> dict[str, Any]:
        """Return the layers of the branch by name, then the shortcut and the activation."""
        more = {self.shortcut_name: self.shortcut, "activation": self.follower}
        own = self.branch.children() | {name: layer for name, layer in more.items() if layer is not None}
        return own | super().children()

    def __repr__(self) -> str:
        parts = [repr(layer) for layer in self.branch.layers]
        if self.shortcut is not None:
            parts.append(f"{self.shortcut_name}={self.shortcut!r}")
        if self.follower is not None:
            parts.append(f"activation={self.follower!r}")
        return format_layer(type(self).__name__, parts)


class LayerScale(Layer):
    """Multiply each feature by a trained number, at the end of a residual branch: y = w x.

    Small initial numbers let deep Transformers begin near the identity. Backward has dx = w dy, and dw is the sum of dy x over
    all axes but the last.

    Parameters
    ----------
    dim : int
        C, the size of the last axis.
    init_value : float, default 1e-5
    dtype : dtype, default float32

    Attributes
    ----------
    weight : Parameter, shape (C,)

    Raises
    ------
    ParameterError
        If ``dim`` is not positive.
    ShapeError
        From ``forward``, if the last axis has another size.

    References
    ----------
    H. Touvron et al., "Going deeper with image Transformers", ICCV 2021, equation 3.

    Examples
    --------
    >>> layer = LayerScale(2, 0.5)
    >>> x = numpy.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    >>> layer.forward(x)
    array([[0.5, 1. ],
           [1.5, 2. ]], dtype=float32)
    >>> layer.backward(numpy.ones((2, 2), "float32"))
    array([[0.5, 0.5],
           [0.5, 0.5]], dtype=float32)
    >>> layer.weight.grad
    array([4., 6.], dtype=float32)
    """

    def __init__(self, dim: int, init_value: float = 1e-5, *, dtype: Any = "float32") -> None:
        super().__init__()
        if dim < 1:
            raise ParameterError(f"LayerScale: dim must be positive, got {dim}")
        self.dim, self.init_value, self.dtype = dim, init_value, numpy.dtype(dtype)
        self.weight = Parameter(current().asarray(numpy.full(dim, init_value, self.dtype)), name="weight")

    def forward(self, x: Array) -> Array:
        """Return w x."""
        x = cast_input(self, x, self.weight.value)
        if x.shape[-1:] != (self.dim,):
            raise ShapeError(f"{self!r}: expected shape (..., {self.dim}), got {x.shape}")
        self._remember(x)
        return x * self.weight.value

    def backward(self, dy: Array) -> Array:
        """Add the sum of dy x to the gradient of the weight; return w dy."""
        x = self._remembered()
        if self.weight.trainable:
            self.weight.accumulate((dy * x).reshape((-1, self.dim)).sum(axis=0))
        return dy * self.weight.value

    def flops(self, input_shape: Shape) -> int:
        """Count one product for each element."""
        return math.prod(input_shape)

    def extra_repr(self) -> str:
        """Return the size."""
        return str(self.dim)
