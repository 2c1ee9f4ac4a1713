"""Layers one after another: the composition that models are made of."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from typing import Any

from minidl.errors import MinidlError, NotBuiltError, ParameterError, UnknownNameError
from minidl.layers.activation import Activation
from minidl.layers.base import Layer, Shape
from minidl.layers.fused_conv import FusedConv, NormalizedConv
from minidl.layers.linear import AffineOfDense, Dense, FusedLinear
from minidl.layers.linear_stack import LinearStack
from minidl.layers.parameter import flatten
from minidl.ops import Array

__all__ = ["Chain", "check_layer_object", "shown", "tells_shape"]

FUSED: list[tuple[Any, Any]] = [
    (FusedLinear.fits, FusedLinear),
    (FusedConv.fits, FusedConv),
    (NormalizedConv.fits, NormalizedConv.of),
]  # and what is made of chains, which adds itself
"""How layers come to run as one: whether a layer can join what is before it, and the two as one."""


class Chain(Layer):
    """The composition y = f_n(... f_2(f_1(x))): forward from first to last, backward from last to first.

    Once every layer is built, all parameters are moved into one flat buffer.

    Parameters
    ----------
    *layers : Layer, or one list of them, or one dict of them
        Any objects with ``forward`` and ``backward``, and ``parameters`` if they have any. A dict names them, in its
        order; otherwise their names are "0", "1", ... Names are what ``state_dict`` and errors call them.

    Raises
    ------
    ParameterError
        If something is no layer, or a name is none: empty, with a dot, or there already.

    Examples
    --------
    >>> from minidl.layers import Linear, ReLU
    >>> Chain({"fc1": Linear(4, 3), "relu": ReLU(), "fc2": Linear(3, 2, bias=False)}).state_dict().keys()
    dict_keys(['fc1.weight', 'fc1.bias', 'fc2.weight'])
    """

    input_gradient_optional = True

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            layers = tuple(layers[0])
        one = layers[0] if len(layers) == 1 else None
        named = one if isinstance(one, Mapping) else {str(index): layer for index, layer in enumerate(layers)}
        self._layers: list[Any] = []
        self._names: list[str] = []
        self._fuse = True
        self._plan: list[tuple[int, Any]] = []
        self._calls: list[tuple[int, Any]] = []
        self._flat = False
        self._first: tuple[int, bool] | None = None
        for name, layer in named.items():
            self._add(layer, name)
        self._settle()

    def append(self, layer: Any, name: str | None = None) -> Chain:
        """Add a layer at the end, named by its position unless a name is given; return the chain."""
        self._add(layer, str(len(self._layers)) if name is None else name)
        self._settle()
        return self

    def _add(self, layer: Any, name: str) -> None:
        check_layer_object(layer, f"{type(self).__name__}: layer {name}")
        if not isinstance(name, str) or not name or "." in name or name in self._names:
            raise ParameterError(
                f"{type(self).__name__}: a layer's name must be a string without dots that no other has, got {name!r}"
            )
        if any(layer is other for other in self._layers):
            raise ParameterError(
                f"{type(self).__name__}: {layer!r} is in it already; a layer remembers one forward only, so make a second "
                "one (they may share Parameter objects)"
            )
        self._layers.append(layer)
        self._names.append(name)

    def _settle(self) -> None:
        """Plan the work, and build what can be built, now that the layers are known."""
        self._make_plan()
        if self.input_shape is not None:
            self.build(self.input_shape)
        self._adopt_if_built()

    def replace(self, name: str, layer: Any) -> Any:
        """Put a layer in the place, and under the name, of another; return the other."""
        check_layer_object(layer, f"{type(self).__name__}: layer {name}")
        if name not in self._names:
            raise UnknownNameError.among(f"layer of {type(self).__name__}", name, self._names)
        index = self._names.index(name)
        before, self._layers[index] = self._layers[index], layer
        self._settle()
        return before

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers, first to last."""
        return tuple(self._layers)

    @property
    def fuse(self) -> bool:
        """Whether a Linear or a convolution runs as one with what follows it; True unless set otherwise.

        Linear layers one after another then also run in one call of the engine. The numbers agree to rounding either way.
        ``summary`` shows which layers are fused.
        """
        return self._fuse

    @fuse.setter
    def fuse(self, wanted: bool) -> None:
        self._fuse = bool(wanted)
        for layer in self._layers:
            if hasattr(layer, "fuse"):  # layers inside layers have the switch too
                layer.fuse = wanted
        self._make_plan()  # last, because it goes by what the layers inside do

    def _make_plan(self) -> None:
        """Find what runs as one, each with the position of its first layer, and what of it forward runs in one call."""
        self._first = None
        self._plan = self._planned()
        self._calls = self._stacked() if self._fuse else self._plan

    def _planned(self) -> list[tuple[int, Any]]:
        plan: list[tuple[int, Any]] = []
        for index, layer in enumerate(self._layers):
            start, before = plan[-1] if self._fuse and plan else (index, None)
            join = next((join for fits, join in FUSED if fits(before, layer)), None)
            if join is None:
                plan.append((index, layer))
            else:
                plan[-1] = (start, join(before, layer))
        return plan

    def _stacked(self) -> list[tuple[int, Any]]:
        calls: list[tuple[int, Any]] = []
        for fits, group in itertools.groupby(self._plan, lambda item: LinearStack.fits(item[1])):
            run = list(group)
            calls += [(run[0][0], LinearStack(run))] if fits and len(run) > 1 else run
        return calls

    def without_last_activation(self) -> tuple[Chain, Any]:
        """Return the model up to its last activation, made of the same layers, and that activation.

        The activation is None, and the model itself is returned, if it does not end in one.
        """
        last = self._layers[-1] if self._layers else None
        if isinstance(last, Chain):
            trunk, activation = last.without_last_activation()
            return (self._ending_in(trunk), activation) if activation is not None else (self, None)
        if isinstance(last, Dense) and last.activation is not None:
            return self._ending_in(AffineOfDense(last)), last.activation
        if isinstance(last, Activation):
            return self._ending_in(None), last
        return self, None

    def _ending_in(self, last: Any) -> Chain:
        """Return a chain of the same layers by the same names, but for the last one."""
        layers = [*self._layers[:-1], last] if last is not None else self._layers[:-1]
        return Chain(dict(zip(self._names, layers, strict=False)))

    def fused_into(self) -> dict[int, int]:
        """Return, for each layer that runs as part of the one before it, that layer's position."""
        starts = [index for index, _ in self._plan] + [len(self._layers)]
        return {index: start for start, end in itertools.pairwise(starts) for index in range(start + 1, end)}

    def stacks(self) -> list[range]:
        """Return the positions of layers that the engine runs in one call, one after another: see :class:`LinearStack`."""
        ends = [index for index, _ in self._calls[1:]] + [len(self._layers)]
        return [
            range(start, end)
            for (start, step), end in zip(self._calls, ends, strict=True)
            if isinstance(step, LinearStack)
        ]

    # computing -------------------------------------------------------------------------------------------------------

    def forward(self, x: Array) -> Array:
        """Return the last layer's output."""
        layer = None
        try:
            for index, layer in self._calls:  # noqa: B007 - named in the error below
                x = layer.forward(x)
        except MinidlError as error:
            raise error.at(self._place(index, layer))  # noqa: B904 - the same error, with its place
        if not self._flat:
            self._adopt_if_built()
        return x

    @property
    def last_step(self) -> Any:
        """What forward runs last, looking into chains inside; None if there is nothing."""
        step = self._plan[-1][1] if self._plan else None
        return step.last_step if isinstance(step, Chain) else step

    def forward_to_last_step(self, x: Array) -> Array:
        """Return what the last step takes."""
        for _, layer in self._plan[:-1]:
            x = layer.forward(x)
        last = self._plan[-1][1]
        return last.forward_to_last_step(x) if isinstance(last, Chain) else x

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx, or None with ``input_gradient=False``: then the layers that need no gradient are left out."""
        layer = None
        stop, spares_itself_dx = (-1, False) if input_gradient else self._first or self._first_with_parameters()
        try:
            for index, layer in reversed(self._calls):
                if index <= stop:
                    if spares_itself_dx:
                        layer.backward(dy, input_gradient=False)
                    elif index == stop:
                        layer.backward(dy)
                    return None
                dy = layer.backward(dy)
        except MinidlError as error:
            raise error.at(self._place(index, layer))  # noqa: B904
        return dy

    def _first_with_parameters(self) -> tuple[int, bool]:
        """Find the first step that has parameters, before which no gradient is of use, and whether it takes ``input_gradient``."""
        for index, layer in self._calls:
            if getattr(layer, "parameters", list)():
                self._first = index, getattr(layer, "input_gradient_optional", False)
                return self._first
        self._first = len(self._layers), False
        return self._first

    def _place(self, index: int, step: Any = None) -> str:
        index = step.position if isinstance(step, LinearStack) else index
        layer = repr(self._layers[index])
        layer = type(self._layers[index]).__name__ if "\n" in layer else layer
        return f"layer {self._names[index]} of {type(self).__name__}, {layer}"

    # shapes ----------------------------------------------------------------------------------------------------------

    @property
    def input_shape(self) -> Shape | None:
        """What the first layer that expects a certain shape expects, if only shape-keeping layers come before it."""
        for layer in self._layers:
            shape = getattr(layer, "input_shape", None)
            if shape is not None:
                return shape
            if type(layer).output_shape is not Layer.output_shape if isinstance(layer, Layer) else True:
                return None
        return None

    def build(self, input_shape: Shape) -> None:
        """Build every lazy layer, as far as the shapes are known, for examples of this shape."""
        shape: Shape | None = tuple(input_shape)
        for index, layer in enumerate(self._layers):
            if not isinstance(layer, Layer) or shape is None:
                return
            try:
                layer.build(shape)
                shape = layer.output_shape(shape) if tells_shape(layer) else None
            except MinidlError as error:
                raise error.at(self._place(index))  # noqa: B904
        self._adopt_if_built()

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the last layer's output shape."""
        for index, layer in enumerate(self._layers):
            try:
                input_shape = layer.output_shape(input_shape)
            except MinidlError as error:
                raise error.at(self._place(index))  # noqa: B904
        return input_shape

    def flops(self, input_shape: Shape) -> int:
        """Return the sum over the layers."""
        total = 0
        for layer in self._layers:
            total += layer.flops(input_shape)
            input_shape = layer.output_shape(input_shape)
        return total

    def _adopt_if_built(self) -> None:
        if self._layers and self.built:
            flatten(self.parameters())
            self._flat = True

    # parts -----------------------------------------------------------------------------------------------------------

    def children(self) -> dict[str, Any]:
        """Return the layers by name: "0", "1", ... unless names were given."""
        return dict(zip(self._names, self._layers, strict=True))

    def named_parameters(self, prefix: str = "") -> Any:
        """Yield ``0.weight``, ``0.bias``, ``2.weight`` ..."""
        try:
            yield from super().named_parameters(prefix)
        except NotBuiltError as error:
            raise error.at(type(self).__name__)  # noqa: B904

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, index: int | str) -> Any:
        """Return a layer by its position, or by its path, such as ``model["features.0"]``."""
        return self.find(index) if isinstance(index, str) else self._layers[index]

    def find(self, path: str) -> Any:
        """Return the layer that ``state_dict`` and errors call by this path, such as ``layer1.0.conv1``.

        Raises
        ------
        UnknownNameError
            If there is none; the message lists those that there are.
        """
        found: Any = self
        for depth, name in enumerate(parts := path.split(".")):
            inside = found.children() if isinstance(found, Layer) else {}
            if name not in inside:
                place = f"layer in {'.'.join(parts[:depth]) or type(self).__name__}"
                raise UnknownNameError.among(place, name, inside or ["nothing"])
            found = inside[name]
        return found

    def __repr__(self) -> str:
        numbered = self._names == [str(index) for index in range(len(self._names))]
        parts = [f"{'' if numbered else name + '='}{layer!r}" for name, layer in self.children().items()]
        return shown(type(self).__name__, parts)


def shown(title: str, parts: list[str]) -> str:
    """Write ``title(part, part)``, on several lines if it is long.

    >>> shown("Chain", ["ReLU()", "Tanh()"])
    'Chain(ReLU(), Tanh())'
    """
    if sum(map(len, parts)) < 100 and not any("\n" in part for part in parts):
        return f"{title}({', '.join(parts)})"
    lines = textwrap.indent(",\n".join(parts), "  ")
    return f"{title}(\n{lines},\n)"


def check_layer_object(layer: Any, what: str) -> None:
    """Raise ParameterError, which begins with ``what``, unless this is an object with forward and backward."""
    if isinstance(layer, type) or not (hasattr(layer, "forward") and hasattr(layer, "backward")):
        of_class = isinstance(layer, type)
        got = f"the class {layer.__name__}; create it with {layer.__name__}(...)" if of_class else repr(layer)
        raise ParameterError(f"{what} must be an object with forward and backward, got {got}")


def tells_shape(layer: Any) -> bool:
    """Whether a layer says what shape it gives; somebody's own may not, and then only an example that passes shows it."""
    if not isinstance(layer, Layer):
        return False
    if not type(layer).__module__.startswith("minidl."):
        return type(layer).output_shape is not Layer.output_shape
    return all(map(tells_shape, layer.children().values()))
