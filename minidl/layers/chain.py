"""Layers one after another: the composition that models are made of."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minidl.engines import current
from minidl.errors import MinidlError, NotBuiltError, ParameterError, UnknownNameError
from minidl.layers.activation import Activation
from minidl.layers.base import Layer, Shape
from minidl.layers.inference import keeps_caches
from minidl.layers.linear import AffineOfDense, Dense
from minidl.layers.parameter import Parameter, Trainability, flatten
from minidl.layers.tree import check_runs_once, format_layer

__all__ = ["Chain", "Steps", "check_layer_object", "knows_output_shape", "one_by_one", "plan_with"]

Steps = list[tuple[int, Any]]
"""What runs one after another: each a layer, or several as one, with the position of the first."""


def one_by_one(layers: Sequence[Any], engine: Any, keeping: bool) -> Steps:
    """Let every layer run by itself."""
    return list(enumerate(layers))


class _Planner:
    """Who decides which layers run as one; ``minidl.layers`` puts ``fusion.plan_steps`` here."""

    plan: Callable[[Sequence[Any], Any, bool], Steps] = staticmethod(one_by_one)


def plan_with(plan: Callable[[Sequence[Any], Any, bool], Steps]) -> None:
    """Let a function decide, of all chains from now on, which layers run as one.

    Parameters
    ----------
    plan : callable
        Takes the layers, the engine that will run them, and whether they must remember what backward needs.
    """
    _Planner.plan = staticmethod(plan)


class _Plan:
    """The steps for one engine, and where the way back may end."""

    def __init__(self, engine: Any, steps: Steps) -> None:
        self.engine, self.steps = engine, steps
        self._stop: tuple[int, bool] = (-1, False)
        self._known_at = -1

    def stop(self) -> tuple[int, bool]:
        """Return the first step with something to train, before which no gradient is of use.

        And whether that step takes ``input_gradient``.
        """
        if self._known_at != Trainability.changes:
            self._known_at, self._stop = Trainability.changes, self._find_stop()
        return self._stop

    def _find_stop(self) -> tuple[int, bool]:
        for index, step in self.steps:
            parameters: list[Any] = getattr(step, "parameters", list)()
            if any(getattr(parameter, "trainable", True) for parameter in parameters):
                return index, getattr(step, "input_gradient_optional", False)
        return sys.maxsize, False


class Chain(Layer):
    """The composition y = f_n(... f_2(f_1(x))): forward from first to last, backward from last to first.

    What a layer returns is the next one's input; a tuple is several inputs. Once every layer is built, all parameters are
    moved into one flat buffer. Layers that the current engine computes faster together run as one; see ``fuse``.

    This is not for models whose data take more than one way, such as attention: write a :class:`Layer` with a ``forward``
    and a ``backward`` of its own for those, made of chains where layers do follow one another.

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
    _not_parts: tuple[str, ...] = ("_layers", "_plans", "_recorded")

    def __init__(self, *layers: Any) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            layers = tuple(layers[0])
        one = layers[0] if len(layers) == 1 else None
        named = one if isinstance(one, Mapping) else {str(index): layer for index, layer in enumerate(layers)}
        self._layers: list[Any] = []
        self._names: list[str] = []
        self._fuse = True
        self._plans: dict[bool, _Plan] = {}
        self._recorded: _Plan | None = None  # what the last forward that kept caches ran
        self._flat = False
        for name, layer in named.items():
            self._add(layer, name)
        check_runs_once(self._layers, type(self).__name__)
        self._settle()

    def append(self, layer: Any, name: str | None = None) -> Chain:
        """Add a layer at the end, named by its position unless a name is given; return the chain."""
        check_runs_once([*self._layers, layer], type(self).__name__)
        self._add(layer, str(len(self._layers)) if name is None else name)
        self._settle(flat=False)  # not yet: several layers may be added before the parameters are needed
        return self

    def _add(self, layer: Any, name: str) -> None:
        check_layer_object(layer, f"{type(self).__name__}: layer {name}")
        if not isinstance(name, str) or not name or "." in name or name in self._names:
            raise ParameterError(
                f"{type(self).__name__}: a layer's name must be a string without dots that no other has, got {name!r}"
            )
        self._layers.append(layer)
        self._names.append(name)

    def _settle(self, flat: bool = True) -> None:
        """Forget how the layers ran, and build what can be built, now that the layers are others."""
        self._forget_plans()
        self._flat = False
        if self.input_shape is not None:
            self._build_each(self.input_shape)
        if flat:
            self._flatten_if_built()

    def _forget_plans(self) -> None:
        self._plans, self._recorded = {}, None

    def replace(self, name: str, layer: Any) -> Any:
        """Put a layer in the place, and under the name, of another; return the other."""
        check_layer_object(layer, f"{type(self).__name__}: layer {name}")
        if name not in self._names:
            raise UnknownNameError.among(f"layer of {type(self).__name__}", name, self._names)
        index = self._names.index(name)
        others = [other for position, other in enumerate(self._layers) if position != index]
        check_runs_once([*others, layer], type(self).__name__)
        before, self._layers[index] = self._layers[index], layer
        self._settle()
        return before

    def runs(self) -> list[Any]:
        """Return the layers that a forward runs."""
        return list(self._layers)

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers, first to last."""
        return tuple(self._layers)

    @property
    def fuse(self) -> bool:
        """Whether layers run as one where the current engine has a kernel for them; True unless set otherwise.

        The numbers agree to rounding either way, and every layer is left with the cache that it would have alone.
        ``summary`` shows what runs as one. Without such kernels, as on the numpy engine, every layer runs by itself.
        """
        return self._fuse

    @fuse.setter
    def fuse(self, wanted: bool) -> None:
        self._fuse = bool(wanted)
        for layer in self._layers:
            if hasattr(layer, "fuse"):  # layers inside layers have the switch too
                layer.fuse = wanted
        self._forget_plans()

    def steps(self, keeping: bool = True) -> Steps:
        """Return what forward runs on the current engine, each step with the position of its first layer.

        Parameters
        ----------
        keeping : bool, default True
            Whether backward may follow; False shows what runs inside ``minidl.inference()``.
        """
        return list(self._plan_for(current(), keeping).steps)

    def _plan_for(self, engine: Any, keeping: bool) -> _Plan:
        plan = self._plans.get(keeping)
        if plan is None or plan.engine is not engine:
            choose = _Planner.plan if self._fuse else one_by_one
            plan = self._plans[keeping] = _Plan(engine, choose(self._layers, engine, keeping))
        return plan

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

    def fused_into(self, inference: bool = False) -> dict[int, int]:
        """Return, for each layer that runs as part of the one before it on the current engine, that layer's position.

        Parameters
        ----------
        inference : bool, default False
            Of what runs inside ``minidl.inference()``, instead of in training.
        """
        starts: list[int] = []
        for index, step in self.steps(keeping=not inference):
            starts += [start for start, _ in step.steps] if hasattr(step, "position") else [index]
        starts.append(len(self._layers))
        return {index: start for start, end in itertools.pairwise(starts) for index in range(start + 1, end)}

    def stacks(self) -> list[range]:
        """Return the positions of layers that the current engine runs in one call, one after another."""
        steps = self.steps()
        ends = [index for index, _ in steps[1:]] + [len(self._layers)]
        return [range(start, end) for (start, step), end in zip(steps, ends, strict=True) if hasattr(step, "position")]

    # computing -------------------------------------------------------------------------------------------------------

    def forward(self, x: Any = None, *more: Any, **named: Any) -> Any:
        """Return the last layer's output; the first layer gets all arguments."""
        if not self._flat:
            self._flatten_if_built()
        plan = self._recorded
        if plan is None or plan.engine is not current() or not keeps_caches():
            keeping = keeps_caches()
            plan = self._plan_for(current(), keeping)
            if keeping:
                self._recorded = plan
        index, step, steps = 0, None, plan.steps
        try:
            if more or named:
                (index, step), *steps = steps
                inputs = () if x is None else (x, *more)
                _check_takes(step, inputs, named)
                x = step.forward(*inputs, **named)
            for index, step in steps:  # noqa: B007 - named in the error below
                x = step.forward(*x) if type(x) is tuple else step.forward(x)
        except MinidlError as error:
            raise error.at(self._place(index, step))  # noqa: B904 - the same error, with its place
        if not self._flat:
            self._flatten_if_built()
        return x

    def backward(self, dy: Any, input_gradient: bool = True) -> Any:
        """Return dx, or None with ``input_gradient=False``: then the layers that need no gradient are left out."""
        plan = self._recorded or self._plan_for(current(), True)
        stop, spares_itself_dx = (-1, False) if input_gradient else plan.stop()
        index, step = 0, None
        try:
            for index, step in reversed(plan.steps):
                if index <= stop:
                    if index == stop and spares_itself_dx:
                        step.backward(dy, input_gradient=False)
                    elif index == stop:
                        step.backward(dy)
                    return None
                dy = step.backward(dy)
        except MinidlError as error:
            raise error.at(self._place(index, step))  # noqa: B904
        return dy

    def forward_with_state(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        """Return the output, and a dict with the state of each layer that has one; see ``Layer.forward_with_state``."""
        if not self._flat:
            self._flatten_if_built()
        before = state or {}
        after: dict[str, Any] = {}
        for name, layer in zip(self._names, self._layers, strict=True):
            try:
                if isinstance(layer, Layer):
                    x, after[name] = layer.forward_with_state(x, before.get(name))
                else:
                    x = layer.forward(x)
            except MinidlError as error:
                raise error.at(self._place(self._names.index(name)))  # noqa: B904
        return x, {name: inner for name, inner in after.items() if inner is not None} or None

    def backward_with_state(self, dy: Any, dstate: Any = None) -> tuple[Any, Any]:
        """Return dx, and the gradients of the states that went in; see ``Layer.backward_with_state``."""
        after = dstate or {}
        before: dict[str, Any] = {}
        for name, layer in zip(reversed(self._names), reversed(self._layers), strict=True):
            try:
                if isinstance(layer, Layer):
                    dy, before[name] = layer.backward_with_state(dy, after.get(name))
                else:
                    dy = layer.backward(dy)
            except MinidlError as error:
                raise error.at(self._place(self._names.index(name)))  # noqa: B904
        return dy, {name: inner for name, inner in before.items() if inner is not None} or None

    def _place(self, index: int, step: Any = None) -> str:
        index = getattr(step, "position", index)  # of several layers in one call, the one that the error is about
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

    @property
    def integer_inputs(self) -> bool:  # type: ignore[override]
        """Whether the first layer's input may hold integers."""
        return bool(self._layers) and getattr(self._layers[0], "integer_inputs", False)

    def build(self, input_shape: Shape) -> None:
        """Build every lazy layer, as far as the shapes are known, for examples of this shape."""
        self._build_each(input_shape)
        self._flatten_if_built()

    def _build_each(self, input_shape: Shape) -> None:
        shape: Shape | None = tuple(input_shape)
        for index, layer in enumerate(self._layers):
            if not isinstance(layer, Layer) or shape is None:
                return
            try:
                layer.build(shape)
                shape = layer.output_shape(shape) if knows_output_shape(layer) else None
            except MinidlError as error:
                raise error.at(self._place(index))  # noqa: B904

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

    def _flatten_if_built(self) -> None:
        """Move all parameters into one buffer, unless they are in one already, perhaps that of a larger model."""
        if self._layers and self.built:
            parameters = super().parameters()
            own = {(p.dtype, p.buffer) for p in parameters if isinstance(p, Parameter)}
            strange = any(not isinstance(p, Parameter) for p in parameters)
            if strange or len({dtype for dtype, _ in own}) < len(own):
                flatten(parameters)
            self._flat = True

    def parameters(self) -> list[Any]:
        """Return the parameters, each once, all in one flat buffer."""
        if not self._flat:
            self._flatten_if_built()
        return super().parameters()

    # parts -----------------------------------------------------------------------------------------------------------

    def children(self) -> dict[str, Any]:
        """Return the layers by name: "0", "1", ... unless names were given."""
        more = {name: part for name, part in super().children().items() if all(part is not own for own in self._layers)}
        return dict(zip(self._names, self._layers, strict=True)) | more

    def named_parameters(self, prefix: str = "") -> Any:
        """Yield ``0.weight``, ``0.bias``, ``2.weight`` ..."""
        try:
            yield from super().named_parameters(prefix)
        except NotBuiltError as error:
            raise error.at(type(self).__name__)  # noqa: B904

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the plans, which a copy makes of its own layers."""
        return {**vars(self), "_plans": {}, "_recorded": None}

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
        return format_layer(type(self).__name__, parts)


def _check_takes(layer: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Raise ParameterError unless a layer's forward takes these inputs."""
    try:
        inspect.signature(layer.forward).bind(*inputs, **named)
    except TypeError as error:
        given = [f"{len(inputs)} by position"] + [f"{name!r} by name" for name in named]
        raise ParameterError(
            f"forward takes {inspect.signature(layer.forward)}, got inputs {', '.join(given)}: {error}"
        ) from error


def check_layer_object(layer: Any, what: str) -> None:
    """Raise ParameterError, which begins with ``what``, unless this is an object with forward and backward."""
    if isinstance(layer, type) or not (hasattr(layer, "forward") and hasattr(layer, "backward")):
        of_class = isinstance(layer, type)
        got = f"the class {layer.__name__}; create it with {layer.__name__}(...)" if of_class else repr(layer)
        raise ParameterError(f"{what} must be an object with forward and backward, got {got}")


def knows_output_shape(layer: Any) -> bool:
    """Whether a layer says what shape it gives; somebody's own may not, and then only an example that passes shows it."""
    if not isinstance(layer, Layer):
        return False
    if not type(layer).__module__.startswith("minidl."):
        return type(layer).output_shape is not Layer.output_shape
    return all(map(knows_output_shape, layer.children().values()))
