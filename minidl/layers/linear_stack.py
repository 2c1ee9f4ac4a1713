"""Linear layers, with activations between them, that the engine runs in one call."""

from __future__ import annotations

from typing import Any

from minidl.engines import current
from minidl.errors import MinidlError
from minidl.layers.activation import Activation
from minidl.layers.base import admit
from minidl.layers.linear import Dense, FusedLinear, Linear
from minidl.layers.parameter import Parameter, ParameterBuffer, joint_storage
from minidl.ops import Array

__all__ = ["LinearStack"]


class LinearStack:
    """Linear layers one after another, each perhaps with an activation; a :class:`Chain` makes these by itself.

    The same ops compute the same numbers in the same order as layer by layer, and every layer is left with the cache that
    it would have alone. What is saved is the Python between the layers, which takes longer than the arithmetic of small ones.

    Parameters
    ----------
    steps : list of (int, Linear or Dense or FusedLinear)
        Steps of a chain that :meth:`fits` lets in, each with its position there.

    Attributes
    ----------
    position : int
        Of the step that an error is about.
    """

    input_gradient_optional = True

    def __init__(self, steps: list[tuple[int, Any]]) -> None:
        self.steps = steps
        self.position = steps[0][0]
        self._buffer: ParameterBuffer | None = None  # that of all parameters, and what was found in it:
        self._members: list[tuple[Any, Parameter, Parameter | None, Activation | None, tuple[Any, ...]]] = []
        self._layers: tuple[tuple[Array, Array | None, str | None, tuple[Any, ...]], ...] = ()
        self._untouched: tuple[tuple[Array, Array | None, bool], ...] = ()
        self._whole = False
        self._kind: Any = None
        self._dtype: Any = None
        self._caches: list[Any] | None = None

    @staticmethod
    def fits(step: Any) -> bool:
        """Whether a step of a chain can be part of a stack."""
        return type(step) in (Linear, FusedLinear) or (type(step) is Dense and step.runs_as_one)

    def forward(self, x: Array) -> Array:
        """Return what the last layer makes of x."""
        if not self._is_current() and not self._gather():
            return self._one_by_one(x)
        layers = self._layers
        try:
            if type(x) is not self._kind or x.dtype is not self._dtype:
                x = admit(self._members[0][0], x, layers[0][0])
            y, caches = current().linear_stack(x, layers)
        except MinidlError:
            return self._one_by_one(x)  # which meets the error in the layer that it is about
        self._caches = caches
        for (affine, _, _, follower, _), cache in zip(self._members, caches):  # noqa: B905 - as many, and time counts
            if follower is None:
                affine._cache = cache
            else:
                affine._cache, follower._cache = cache
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx."""
        found = self._is_current() or self._gather()
        if self._caches is None or not found:
            return self._one_by_one_backward(dy, input_gradient)
        if self._whole and self._buffer.claim_untouched():  # type: ignore[union-attr]
            storage: Any = self._untouched
        else:
            backwards = [joint_storage(weight, bias) for _, weight, bias, _, _ in reversed(self._members)]
            storage = backwards[::-1]  # asked for in the order of writing, for a parameter that two layers share
        try:
            return current().linear_stack_backward_into(dy, self._caches, self._layers, storage, input_gradient)
        except MinidlError:
            self.position = self.steps[-1][0]  # which takes dy
            if storage is self._untouched:
                self._buffer.take_back_claim()  # type: ignore[union-attr]
            raise

    def _is_current(self) -> bool:
        """Whether parameters and settings are still those that were gathered, and where they were."""
        buffer = self._buffer
        if buffer is None or (buffer.retired and any(p.buffer is not buffer for p in self.parameters())):
            return False
        for affine, weight, bias, follower, settings in self._members:
            if affine.weight is not weight or affine.bias is not bias:
                return False
            if follower is not None and follower.settings is not settings:
                return False
        return True

    def _gather(self) -> bool:
        """Look up all arrays, once for many steps; False if the parameters do not lie in one buffer, or do not exist yet."""
        self._buffer = self._caches = None
        pairs = [_pair(step) for _, step in self.steps]
        if not all(affine.built for affine, _ in pairs):
            return False
        self._members = [(a, a.weight, a.bias, f, () if f is None else f.settings) for a, f in pairs]
        parameters = self.parameters()
        if len({parameter.buffer for parameter in parameters}) != 1:
            return False
        self._buffer = parameters[0].buffer
        self._kind, self._dtype = type(self._buffer.values), self._buffer.values.dtype
        self._whole = len(set(parameters)) == len(parameters) == len(self._buffer.parameters)
        self._untouched = tuple((w._grad, None if b is None else b._grad, False) for _, w, b, _, _ in self._members)
        self._layers = tuple(
            (w._value, None if b is None else b._value, None if f is None else f.op, settings)
            for _, w, b, f, settings in self._members
        )
        return True

    def _one_by_one(self, x: Array) -> Array:
        self._caches = None
        for position, step in self.steps:
            self.position = position
            x = step.forward(x)
        return x

    def _one_by_one_backward(self, dy: Any, input_gradient: bool) -> Array | None:
        for position, step in reversed(self.steps[1:]):
            self.position = position
            dy = step.backward(dy)
        self.position, first = self.steps[0]
        return first.backward(dy, input_gradient)

    def parameters(self) -> list[Parameter]:
        """Return the parameters of all layers."""
        return [parameter for _, step in self.steps for parameter in step.parameters()]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a copy has to look up in its own layers."""
        return {**vars(self), "_buffer": None, "_members": [], "_layers": (), "_untouched": (), "_caches": None}

    def __repr__(self) -> str:
        return " + ".join(repr(step) for _, step in self.steps)


def _pair(step: Any) -> tuple[Any, Activation | None]:
    """Return the layer with the parameters, and the activation after it."""
    if isinstance(step, FusedLinear):
        return step.linear, step.follower
    return step, step.activation if isinstance(step, Dense) else None
