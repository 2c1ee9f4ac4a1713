"""Convolutions that run as one with what follows them: an activation, or batch normalisation in evaluation."""

from __future__ import annotations

from typing import Any

from minidl import engines
from minidl.engines.fused import FUSIBLE
from minidl.layers.activation import Activation
from minidl.layers.conv import Conv1d, Conv2d
from minidl.layers.norm import BatchNorm1d, BatchNorm2d
from minidl.layers.parameter import Parameter, joint_storage
from minidl.ops import Array
from minidl.ops.folding import batch_norm_as_affine

__all__ = ["FusedConv", "NormalizedConv"]


class FusedConv:
    """A convolution and the activation after it, run by the engine as one; a :class:`Chain` makes these by itself."""

    input_gradient_optional = True

    def __init__(self, conv: Conv1d | Conv2d, follower: Activation) -> None:
        self.conv, self.follower = conv, follower

    @staticmethod
    def fits(first: Any, second: Any) -> bool:
        """Whether the two layers can run as one."""
        return type(first) in (Conv1d, Conv2d) and isinstance(second, Activation) and second.op in FUSIBLE

    def forward(self, x: Array) -> Array:
        """Return activation(conv(x))."""
        conv, follower = self.conv, self.follower
        bias = None if conv.bias is None else conv.bias.value
        y, cache = engines.current().conv_activation(
            conv.op, conv.admitted(x), conv.weight.value, bias, conv.settings(), follower.op, follower.settings
        )
        conv._cache, follower._cache = cache
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx."""
        conv, follower = self.conv, self.follower
        cache = conv._remembered(), follower._remembered()
        storage = joint_storage(conv.weight, conv.bias)
        return engines.current().conv_activation_backward_into(
            conv.op, dy, cache, follower.op, *storage, input_gradient
        )

    def parameters(self) -> list[Parameter]:
        """Return the convolution's parameters."""
        return self.conv.parameters()

    def __repr__(self) -> str:
        return f"{self.conv!r} + {self.follower!r}"


class NormalizedConv:
    """A convolution, the batch normalisation after it, and perhaps an activation; a :class:`Chain` makes these by itself.

    In evaluation the running statistics are constants, so normalising is one multiplication and addition for each channel,
    and all three are one step. In training, where the statistics come from the convolution's own output, they run one by
    one.

    What runs as one keeps nothing to go back through. If ``backward`` is asked for all the same, the layers first run once more,
    one by one.
    """

    input_gradient_optional = True

    def __init__(
        self, conv: Conv1d | Conv2d, norm: BatchNorm1d | BatchNorm2d, follower: Activation | None = None
    ) -> None:
        self.conv, self.norm, self.follower = conv, norm, follower
        self._unrecorded: Array | None = None

    @staticmethod
    def fits(first: Any, second: Any) -> bool:
        """Whether the second layer can join the first, or those that the first already is."""
        if isinstance(first, NormalizedConv):
            return first.follower is None and isinstance(second, Activation) and second.op in FUSIBLE
        pairs = ((Conv1d, BatchNorm1d), (Conv2d, BatchNorm2d))
        return (type(first), type(second)) in pairs and first.out_channels == second.num_features

    @classmethod
    def of(cls, first: Any, second: Any) -> NormalizedConv:
        """Return the two as one."""
        return cls(first.conv, first.norm, second) if isinstance(first, cls) else cls(first, second)

    @property
    def _layers(self) -> list[Any]:
        return [self.conv, self.norm, *([] if self.follower is None else [self.follower])]

    def forward(self, x: Array) -> Array:
        """Return activation(norm(conv(x)))."""
        if not self.at_once:
            self._unrecorded = None
            for layer in self._layers:
                x = layer.forward(x)
            return x
        self._unrecorded = x = self.conv.admitted(x)
        return self.affine(x, self.follower)

    @property
    def at_once(self) -> bool:
        """Whether the normalisation is one multiplication and addition for each channel: in evaluation."""
        return not self.norm.training and self.norm.running_mean is not None

    def affine(self, x: Array, follower: Activation | None, residual: Array | None = None) -> Array:
        """Return follower(norm(conv(x)) + residual) in evaluation, in one step that leaves nothing to go back through."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.eps is not None
        weight, bias = (None if p is None else p.value for p in (norm.weight, norm.bias))
        scale, shift = batch_norm_as_affine(norm.running_mean, norm.running_var, weight, bias, norm.eps)
        if self.conv.bias is not None:
            shift = shift + scale * self.conv.bias.value
        return _conv_affine(self.conv, x, scale, shift, follower, residual)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx."""
        if self._unrecorded is not None:
            x, self._unrecorded = self._unrecorded, None
            for layer in self._layers:
                x = layer.forward(x)
        for layer in reversed(self._layers[1:]):
            dy = layer.backward(dy)
        return self.conv.backward(dy, input_gradient)

    def parameters(self) -> list[Parameter]:
        """Return the parameters of convolution and normalisation."""
        return [*self.conv.parameters(), *self.norm.parameters()]

    def __repr__(self) -> str:
        return " + ".join(map(repr, self._layers))


def _conv_affine(
    conv: Conv1d | Conv2d,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    follower: Activation | None,
    residual: Array | None,
) -> Array:
    weight, activation = conv.weight.value, (None, ()) if follower is None else (follower.op, follower.settings)
    return engines.current().conv_affine(conv.op, x, weight, conv.settings(), scale, shift, *activation, residual)


def ends_in_sum(step: Any, admits: Any = None) -> bool:
    """Whether a step of a chain can add another array to its result: a convolution, perhaps with its normalisation.

    It can in evaluation only, where nothing is kept to go back through: if ``admits`` is given, whether it can now, to an
    array like that one.
    """
    normalized = isinstance(step, NormalizedConv) and step.follower is None
    if not normalized and type(step) not in (Conv1d, Conv2d):
        return False
    if admits is None:
        return True
    conv = step.conv if normalized else step
    return (step.at_once if normalized else not conv.training) and (
        type(admits) is type(conv.weight.value) and admits.dtype == conv.weight.dtype
    )


def sum_with(step: Any, x: Array, residual: Array, follower: Activation | None) -> Array:
    """Return follower(step(x) + residual) for a step that :func:`ends_in_sum`."""
    if isinstance(step, NormalizedConv):
        return step.affine(step.conv.admitted(x), follower, residual)
    bias = None if step.bias is None else step.bias.value
    return _conv_affine(step, step.admitted(x), None, bias, follower, residual)
