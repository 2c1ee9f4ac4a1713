"""Residual layers: a branch, and a shortcut past it that is added to its result."""

from __future__ import annotations

from typing import Any

from minidl.errors import ParameterError, ShapeError
from minidl.layers.activation import activation as activation_of
from minidl.layers.base import Shape
from minidl.layers.branches import Branches, to_layer
from minidl.layers.chain import Chain
from minidl.layers.tree import check_runs_once, format_layer
from minidl.ops import Array

__all__ = ["Residual"]


class Residual(Branches):
    """y = f(x) + shortcut(x): layers learn what to add to their input.

    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016, equations 1 and 2.

    Parameters
    ----------
    *layers : Layer, or one list or dict of them
        The branch f: layers one after another, as in ``Chain``.
    shortcut : Layer, or list or dict of them, optional
        What brings x to the shape of f(x) where the two differ; x itself unless given.
    activation : str or layer, optional
        Applied to the sum, such as ``"relu"``.

    Raises
    ------
    ParameterError
        If something is no layer.
    ShapeError
        From ``forward``, ``output_shape`` and ``build``'s callers, if f(x) and shortcut(x) differ in shape.

    Notes
    -----
    x takes both ways, so its gradient is the sum of what comes back along them:
    dx = f'(dy) + shortcut'(dy), which is f'(dy) + dy without a shortcut: dy arrives whole, however deep the stack is.

    Parameters are named by the branch's own names; the shortcut's begin with ``shortcut.``

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
    shortcut_name = "shortcut"
    """What the shortcut's parameters are called in ``state_dict``."""

    def __init__(self, *layers: Any, shortcut: Any = None, activation: Any = None) -> None:
        super().__init__()
        self.branch = Chain(*layers)
        self.shortcut = None if shortcut is None else to_layer(shortcut, f"{type(self).__name__}: the shortcut")
        self._take({"branch": self.branch, self.shortcut_name: self.shortcut})
        self.follower = activation_of(activation)
        check_runs_once(self.runs(), type(self).__name__)
        taken = self.branch.children()
        for name in (self.shortcut_name, "activation"):
            if name in taken:
                raise ParameterError(f"{type(self).__name__}: no layer of the branch may have the name {name!r}")

    def forward(self, x: Array) -> Array:
        """Return f(x) + shortcut(x), through the activation if there is one."""
        f, other = self._forward(x).values()
        if f.shape != other.shape:
            self.join_shape({"branch": f.shape[1:], self.shortcut_name: other.shape[1:]})
        if f.dtype != other.dtype and self.shortcut is None:
            other = other.astype(f.dtype)  # the branch's layers brought x to their own precision
        y = f + other  # a new array: either may be what a layer remembers
        return y if self.follower is None else self.follower.forward(y)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return f'(dy) + shortcut'(dy), or None with ``input_gradient=False``."""
        if self.follower is not None:
            dy = self.follower.backward(dy)
        return self._backward(dict.fromkeys(self.ways, dy), input_gradient)

    def join_shape(self, shapes: dict[str, Shape]) -> Shape:
        """Return the shape that both ends have."""
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
        """Return the shortcut's name: the branch has none."""
        return "" if name == "branch" else name

    def joint(self) -> str:
        """Return what the sum is of."""
        return f"{type(self).__name__}: branch + {'x' if self.shortcut is None else self.shortcut_name}"

    def replace(self, name: str, layer: Any) -> Any:
        """Put a layer in the place of another one, of the branch or not; return the other."""
        if name == self.shortcut_name and self.shortcut is not None:
            before, self.shortcut = self.shortcut, layer
            self.ways[name] = layer
        elif name == "activation" and self.follower is not None:
            before, self.follower = self.follower, layer
        else:
            before = self.branch.replace(name, layer)
        return before

    def children(self) -> dict[str, Any]:
        """Return the branch's layers by their own names, then the shortcut and the activation."""
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
