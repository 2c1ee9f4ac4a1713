"""Layers side by side: branches with the same input, whose outputs are added or concatenated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from minidl.errors import MinidlError, ParameterError, ShapeError, UnknownNameError
from minidl.layers.base import Layer, Shape
from minidl.layers.chain import Chain, check_layer_object
from minidl.layers.tree import check_runs_once, format_layer
from minidl.ops import Array, namespace
from minidl.ops._names import axis_or_dim

__all__ = ["Branches", "Parallel", "to_layer"]


class Branches(Layer):
    """What Residual and Parallel share: several branches with the same input.

    A subclass puts them into ``ways`` and combines their outputs.
    """

    input_gradient_optional = True
    _not_parts: tuple[str, ...] = ("ways",)
    ways: dict[str, Any]
    """The branches by name; None is the input itself."""
    follower: Any = None
    """A layer applied to the result, or None."""

    @property
    def fuse(self) -> bool:
        """Whether layers inside run as one where they can; see ``Chain.fuse``."""
        return all(getattr(way, "fuse", True) for way in self.ways.values())

    @fuse.setter
    def fuse(self, wanted: bool) -> None:
        for way in self.ways.values():
            if hasattr(way, "fuse"):
                way.fuse = wanted

    def runs(self) -> list[Any]:
        """Return the layers that a forward runs."""
        return [*self.ways.values(), self.follower]

    def joint(self) -> str:
        """Return in a few words how the outputs are combined, for ``summary``."""
        raise NotImplementedError

    def join_shape(self, shapes: dict[str, Shape]) -> Shape:
        """Return the shape of the result, given those of the outputs of the branches, all for one example.

        Raises
        ------
        ShapeError
            If they do not fit together.
        """
        raise NotImplementedError

    def _set_ways(self, ways: dict[str, Any]) -> None:
        check_runs_once(ways.values(), type(self).__name__)
        self.ways = ways

    # the branches, one by one ----------------------------------------------------------------------------------------

    def _forward(self, x: Array) -> dict[str, Array]:
        """Return the outputs of the branches."""
        ends = {}
        for name, way in self.ways.items():
            try:
                ends[name] = x if way is None else way.forward(x)
            except MinidlError as error:
                raise error.at(name)  # noqa: B904 - the same error, with its place
        return ends

    def _backward(self, dy: dict[str, Array], input_gradient: bool) -> Array | None:
        """Return the sum of the gradients from all branches, because each of them got x."""
        dx: Array | None = None
        owned = False  # a layer may return dy itself, or an array that it keeps, so its result is never written to
        for name, way in self.ways.items():
            try:
                part = _run_backward_of(way, dy[name], input_gradient)
            except MinidlError as error:
                raise error.at(name)  # noqa: B904
            if dx is None or not input_gradient:
                dx = part
            elif owned:
                dx += part
            else:
                dx, owned = dx + part, True
        return dx if input_gradient else None

    def inner(self, name: str) -> str:
        """Return the name of a branch in ``children``, or "" if the layers of the branch are listed there themselves."""
        return name

    # shapes ----------------------------------------------------------------------------------------------------------

    @property
    def input_shape(self) -> Shape | None:
        """The shape that the first branch to need a certain one needs, or None."""
        shapes = (getattr(way, "input_shape", None) for way in self.ways.values())
        return next((shape for shape in shapes if shape is not None), None)

    def build(self, input_shape: Shape) -> None:
        """Build the lazy layers of all branches."""
        for name, way in self.ways.items():
            try:
                if isinstance(way, Layer):
                    way.build(input_shape)
            except MinidlError as error:
                raise error.at(name)  # noqa: B904

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one example of the result."""
        ends: dict[str, Shape] = {}
        for name, way in self.ways.items():
            try:
                ends[name] = tuple(input_shape) if way is None else way.output_shape(input_shape)
            except MinidlError as error:
                raise error.at(name)  # noqa: B904
        shape = self.join_shape(ends)
        return shape if self.follower is None else self.follower.output_shape(shape)

    def join_flops(self, shape: Shape) -> int:
        """Return the number of operations that combine the outputs to one example of the result, of this shape."""
        return (len(self.ways) - 1) * math.prod(shape)

    def flops(self, input_shape: Shape) -> int:
        """Return the sum over the branches, and the operations that combine them."""
        shape = self.output_shape(input_shape)
        total = sum(way.flops(input_shape) for way in self.ways.values() if way is not None)
        return total + self.join_flops(shape) + (0 if self.follower is None else self.follower.flops(shape))


def _run_backward_of(way: Any, dy: Array, input_gradient: bool) -> Array | None:
    if way is None:
        return dy
    if not input_gradient and getattr(way, "input_gradient_optional", False):
        return way.backward(dy, input_gradient=False)
    return way.backward(dy)


def to_layer(given: Any, what: str) -> Any:
    """Return a layer unchanged, and a list or dict of layers as a chain."""
    if isinstance(given, (list, tuple, Mapping)):
        return Chain(given)
    check_layer_object(given, what)
    return given


class Parallel(Branches):
    """Branches with the same input, whose outputs are concatenated or added.

    With branches f and g::

        y = [f(x), g(x)],   dx = f'(dy_f) + g'(dy_g)     where dy = [dy_f, dy_g]
        y = f(x) + g(x),    dx = f'(dy) + g'(dy)         with combine="sum"

    Parameters
    ----------
    *branches : Layer, or list of them
        A list is a chain. A single dict names the branches; otherwise their names are "0", "1", ...
    axis : int, default 1
        The axis of concatenation; 0 is the batch, and 1 the channels of images. PyTorch's name for it, ``dim``, is taken too.
    combine : str, default "concatenate"
        ``"concatenate"`` or ``"sum"``.

    Raises
    ------
    ParameterError
        If there are no branches, an object is not a layer, ``combine`` is unknown, or ``axis`` is 0.
    ShapeError
        From ``forward`` and ``output_shape``, if the outputs do not fit together.

    References
    ----------
    C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, figure 2, concatenates channels in this way.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Identity, ReLU
    >>> layer = Parallel(Identity(), ReLU())
    >>> layer.forward(numpy.array([[-1.0, 2.0]]))
    array([[-1.,  2.,  0.,  2.]])
    >>> layer.backward(numpy.array([[1.0, 2.0, 3.0, 4.0]]))  # [1, 2] + [0, 4]
    array([[1., 6.]])
    """

    _told_by_parts = True

    @axis_or_dim
    def __init__(self, *branches: Any, axis: int = 1, combine: str = "concatenate") -> None:
        super().__init__()
        named = branches[0] if len(branches) == 1 and isinstance(branches[0], Mapping) else None
        given = {str(i): branch for i, branch in enumerate(branches)} if named is None else dict(named)
        if not given:
            raise ParameterError("Parallel: expected at least one branch, got none")
        if combine not in ("concatenate", "sum"):
            raise ParameterError(f"Parallel: combine must be 'concatenate' or 'sum', got {combine!r}")
        if axis == 0:
            raise ParameterError("Parallel: axis 0 is the batch; axis=1 concatenates features or channels")
        self.axis, self.combine = axis, combine
        self._set_ways({name: to_layer(branch, f"Parallel: branch {name}") for name, branch in given.items()})

    def _made_from(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._told_by_parts or "_made_with" in vars(self):
            return super()._made_from()
        return (dict(self.ways),), {"axis": self.axis, "combine": self.combine}

    def forward(self, x: Array) -> Array:
        """Return the outputs of the branches, concatenated or added."""
        ends = self._forward(x)
        self.join_shape({name: y.shape[1:] for name, y in ends.items()})
        outputs = list(ends.values())
        self._remember([y.shape[self._axis(y.ndim)] for y in outputs] if self.combine == "concatenate" else [])
        if self.combine == "concatenate":
            return namespace(outputs[0]).concatenate(outputs, axis=self.axis)
        y = outputs[0] if len(outputs) == 1 else outputs[0] + outputs[1]
        for other in outputs[2:]:
            y += other
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return the sum of the gradients from all branches, or None with ``input_gradient=False``."""
        sizes = self._remembered()
        if self.combine == "sum":
            return self._backward(dict.fromkeys(self.ways, dy), input_gradient)
        axis, xp = self._axis(dy.ndim), namespace(dy)
        if dy.shape[axis] != sum(sizes):
            raise ShapeError(f"Parallel: dy must have {sum(sizes)} elements on axis {axis}, as y has; got {dy.shape}")
        parts, start = {}, 0
        for name, size in zip(self.ways, sizes, strict=True):
            part = (slice(None),) * axis + (slice(start, start + size),)
            parts[name] = xp.ascontiguousarray(dy[part])
            start += size
        return self._backward(parts, input_gradient)

    def _axis(self, ndim: int) -> int:
        """Return the axis as a positive number."""
        axis = self.axis if self.axis > 0 else ndim + self.axis
        if not 1 <= axis < ndim:
            raise ShapeError(
                f"Parallel: axis={self.axis} must be one of the axes 1 to {ndim - 1} of the outputs of the branches"
            )
        return axis

    def join_shape(self, shapes: dict[str, Shape]) -> Shape:
        """Return the shape of one example's output."""
        first, *others = map(tuple, shapes.values())
        at = self._axis(len(first) + 1) - 1 if self.combine == "concatenate" else None
        lengths = [first[at]] if at is not None else []
        for shape in others:
            fits = len(shape) == len(first) and all(
                a == b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != at
            )
            if not fits:
                wanted = "in all but the axis of concatenation" if at is not None else "in every axis"
                ends = ", ".join(f"{name} with {tuple(shape)}" for name, shape in shapes.items())
                raise ShapeError(
                    f"Parallel: the branches' outputs must agree {wanted}, but examples leave branch {ends}; padding and "
                    "stride decide the size of images"
                )
            lengths += [shape[at]] if at is not None else []
        return first if at is None else (*first[:at], sum(lengths), *first[at + 1 :])

    def join_flops(self, shape: Shape) -> int:
        """Return the number of additions; concatenation computes nothing."""
        return super().join_flops(shape) if self.combine == "sum" else 0

    def joint(self) -> str:
        """Return how the outputs are combined."""
        how = "sum" if self.combine == "sum" else f"concatenation on axis {self.axis}"
        return f"Parallel: {how} of {len(self.ways)}"

    def replace(self, name: str, layer: Any) -> Any:
        """Replace a branch; return the old one."""
        if name not in self.ways:
            raise UnknownNameError.among("branch of Parallel", name, self.ways)
        before, self.ways[name] = self.ways[name], layer
        return before

    def children(self) -> dict[str, Any]:
        """Return the branches by name."""
        return dict(self.ways) | super().children()

    def __repr__(self) -> str:
        more = [f"axis={self.axis}"] if self.axis != 1 else []
        more += [f"combine={self.combine!r}"] if self.combine != "concatenate" else []
        return format_layer(type(self).__name__, [*map(repr, self.ways.values()), *more])
