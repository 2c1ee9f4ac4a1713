"""Linear layers, with or without activations, that the engine computes in one call."""

from __future__ import annotations

from typing import Any

from minidl.engines import current
from minidl.errors import MinidlError
from minidl.layers.activation import Activation
from minidl.layers.base import cast_input
from minidl.layers.fusion.linear import FusedLinear
from minidl.layers.inference import keeps_caches
from minidl.layers.linear import Affine, Dense, Linear
from minidl.layers.parameter import (
    Parameter,
    ParameterBuffer,
    Storage,
    claim_gradients,
    release_gradients,
    structure,
)
from minidl.ops import Array

__all__ = ["LinearStack"]

Member = tuple[Affine, Parameter, Parameter | None, Activation | None, tuple[Any, ...]]


class LinearStack:
    """Linear layers one after another, with or without activations, in one call of the engine.

    The same ops run in the same order as layer by layer. Only the Python code between the layers is saved, which takes
    longer than the arithmetic of small layers. The arrays are looked up once, and again after a parameter was moved, frozen
    or replaced.

    Parameters
    ----------
    steps : list of (int, Linear or Dense or FusedLinear)
        Steps of a plan, each with its position in the chain; see :meth:`fits`.

    Attributes
    ----------
    position : int
        The position of the step that an error is about.
    """

    input_gradient_optional = True

    def __init__(self, steps: list[tuple[int, Any]]) -> None:
        self.steps = steps
        self.position = steps[0][0]
        self._buffer: ParameterBuffer | None = None  # the buffer of all parameters; the rest was looked up in it
        self._members: list[Member] = []
        self._attributes: list[tuple[dict[str, Any], dict[str, Any] | None]] = []  # of the members, to leave caches in
        self._layers: tuple[tuple[Array, Array | None, str | None, tuple[Any, ...]], ...] = ()
        self._untouched: dict[bool, tuple[Storage, ...]] = {}
        self._pairs: dict[bool, list[tuple[tuple[Parameter, Parameter | None], bool]]] = {}
        self._whole = False
        self._kind: Any = None
        self._dtype: Any = None
        self._known_at = -1
        self._caches: list[Any] | None = None

    @staticmethod
    def fits(step: Any) -> bool:
        """Whether a step can be part of a stack."""
        return type(step) in (Linear, FusedLinear) or (type(step) is Dense and step.activation is None)

    def forward(self, x: Array) -> Array:
        """Return the output of the last layer."""
        if self._known_at != structure.changes and not self._look_up():
            return self._forward_one_by_one(x)
        layers = self._layers
        try:
            if type(x) is not self._kind or x.dtype is not self._dtype:
                x = cast_input(self._members[0][0], x, layers[0][0])
            y, caches = current().linear_stack(x, layers)
        except MinidlError:
            return self._forward_one_by_one(x)  # meets the same error, and knows its layer
        if not keeps_caches():
            return y
        self._caches = caches
        for (affine, follower), cache in zip(self._attributes, caches):  # noqa: B905 - equally long, and time counts
            if follower is None:
                affine["_cache"] = cache
            else:
                affine["_cache"], follower["_cache"] = cache
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx, or None with ``input_gradient=False``."""
        found = self._known_at == structure.changes or self._look_up()
        if self._caches is None or not found:
            return self._backward_one_by_one(dy, input_gradient)
        assert self._buffer is not None
        whole = self._whole and self._buffer.claim_untouched()
        storage = self._untouched_storage(input_gradient) if whole else self._claim(input_gradient)
        try:
            return current().linear_stack_backward(dy, self._caches, self._layers, storage)
        except BaseException as error:
            if whole:
                self._buffer.take_back_claim()
            else:
                for (_, weight, bias, _, _), one in zip(self._members, storage, strict=True):
                    release_gradients((weight, bias), one)
            if isinstance(error, MinidlError):
                self.position = self.steps[-1][0]  # the layer that takes dy
            raise

    def _untouched_storage(self, input_gradient: bool) -> tuple[Storage, ...]:
        """Return the storage of all gradients for the case that none is written yet; it is the same at every step."""
        storage = self._untouched.get(input_gradient)
        if storage is None:
            assert self._buffer is not None
            self._buffer.make_gradients()
            storage = self._untouched[input_gradient] = tuple(
                ((w._grad, None if b is None else b._grad), False, (wanted, True, b is not None))
                for (_, w, b, _, _), wanted in zip(self._members, self._wanted(input_gradient), strict=True)
            )
        return storage

    def _claim(self, input_gradient: bool) -> tuple[Storage, ...]:
        """Claim the gradients in the order in which they are written, so that a parameter of two layers is added up."""
        pairs = self._pairs.get(input_gradient)
        if pairs is None:
            wanted = reversed(self._wanted(input_gradient))
            members = reversed(self._members)
            pairs = [((w, b), asked) for (_, w, b, _, _), asked in zip(members, wanted, strict=True)]
            self._pairs[input_gradient] = pairs
        return tuple([claim_gradients(pair, asked) for pair, asked in pairs][::-1])

    def _wanted(self, input_gradient: bool) -> list[bool]:
        """Return for each layer whether its dx is wanted, by the caller or by a trained layer before it."""
        wanted = [input_gradient]
        for _, weight, bias, _, _ in self._members[:-1]:
            wanted.append(wanted[-1] or weight.trainable or (bias is not None and bias.trainable))
        return wanted

    def _look_up(self) -> bool:
        """Look up all arrays; return False if the parameters do not exist yet or are not in one buffer.

        They are looked up again when ``structure.changes`` has changed, and before every use if an activation computes its
        settings, which nobody counts.
        """
        self._caches = None
        self._known_at, known = -1, structure.changes
        pairs = [_pair(step) for _, step in self.steps]
        if not all(affine.built for affine, _ in pairs):
            return False
        self._members = members = [(a, a.weight, a.bias, f, () if f is None else f.settings) for a, f in pairs]
        self._attributes = [(vars(a), None if f is None else vars(f)) for a, f in pairs]
        parameters = self.parameters()
        if len({parameter.buffer for parameter in parameters}) != 1:
            return False
        self._buffer = buffer = parameters[0].buffer
        self._kind, self._dtype = type(buffer.values), buffer.values.dtype
        self._whole = len(set(parameters)) == len(parameters) == len(buffer.parameters) and all(
            parameter.trainable for parameter in parameters
        )
        self._untouched, self._pairs = {}, {}
        self._layers = tuple(
            (w._value, None if b is None else b._value, None if f is None else f.op, settings)
            for _, w, b, f, settings in members
        )
        if all(follower is None or "settings" in vars(follower) for _, follower in pairs):
            self._known_at = known  # last, because another thread takes it for everything
        return True

    def _forward_one_by_one(self, x: Array) -> Array:
        if keeps_caches():
            self._caches = None
        for position, step in self.steps:
            self.position = position
            x = step.forward(x)
        return x

    def _backward_one_by_one(self, dy: Any, input_gradient: bool) -> Array | None:
        for position, step in reversed(self.steps[1:]):
            self.position = position
            dy = step.backward(dy)
        self.position, first = self.steps[0]
        return first.backward(dy, input_gradient)

    def parameters(self) -> list[Parameter]:
        """Return the parameters of all layers."""
        return [parameter for _, step in self.steps for parameter in step.parameters()]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a copy must look up in its own layers."""
        return {
            **vars(self),
            "_buffer": None,
            "_members": [],
            "_attributes": [],
            "_layers": (),
            "_untouched": {},
            "_pairs": {},
            "_caches": None,
        }

    def __repr__(self) -> str:
        return " + ".join(repr(step) for _, step in self.steps)


def _pair(step: Any) -> tuple[Any, Activation | None]:
    """Return the layer with the parameters, and the activation after it or None."""
    return (step.linear, step.follower) if isinstance(step, FusedLinear) else (step, None)
