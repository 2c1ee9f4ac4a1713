"""A convolution and the activation after it, and in inference also the batch normalisation between them."""

from __future__ import annotations

from typing import Any

from minidl.engines import current
from minidl.layers.activation import Activation
from minidl.layers.conv import Conv1d, Conv2d
from minidl.layers.inference import keeps_caches
from minidl.layers.norm import BatchNorm1d, BatchNorm2d
from minidl.layers.parameter import Parameter, run_backward
from minidl.ops import Array
from minidl.ops.folding import batch_norm_as_affine

__all__ = ["FusedConv", "NormalizedConv", "conv_affine"]


class FusedConv:
    """A convolution and the activation after it, in one step."""

    input_gradient_optional = True

    def __init__(self, conv: Conv1d | Conv2d, follower: Activation) -> None:
        self.conv, self.follower = conv, follower

    @classmethod
    def join(cls, before: Any, layer: Any) -> FusedConv | None:
        """Return the step for a convolution and an activation, or None for anything else."""
        return cls(before, layer) if type(before) in (Conv1d, Conv2d) and isinstance(layer, Activation) else None

    def forward(self, x: Array) -> Array:
        """Return activation(conv(x))."""
        conv, follower = self.conv, self.follower
        weight, bias = conv.weight._value, conv.bias
        if type(x) is not type(weight) or x.dtype is not weight.dtype:
            x = conv.cast_input(x)
        y, caches = current().conv_activation(
            conv.op, x, weight, None if bias is None else bias._value, conv.settings, follower.op, follower.settings
        )
        if keeps_caches():
            conv.__dict__["_cache"], follower.__dict__["_cache"] = caches
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx."""
        conv, follower = self.conv, self.follower
        cache = conv._remembered(), follower._remembered()
        arguments = conv.op, dy, cache, follower.op
        return run_backward(current().conv_activation_backward, arguments, (conv.weight, conv.bias), input_gradient)

    def parameters(self) -> list[Parameter]:
        """Return the convolution's parameters."""
        return self.conv.parameters()

    def __repr__(self) -> str:
        return f"{self.conv!r} + {self.follower!r}"


class NormalizedConv:
    """A convolution, batch normalisation and perhaps an activation, in one step. For inference only.

    With running statistics, batch normalisation is an affine map of each channel. In training its statistics are those of
    the output of the convolution, so the layers run one by one.
    """

    def __init__(
        self, conv: Conv1d | Conv2d, norm: BatchNorm1d | BatchNorm2d, follower: Activation | None = None
    ) -> None:
        self.conv, self.norm, self.follower = conv, norm, follower

    @classmethod
    def join(cls, before: Any, layer: Any) -> NormalizedConv | None:
        """Return the step for a convolution and batch normalisation, or these and an activation; None for anything else."""
        if isinstance(before, cls):
            fits = before.follower is None and isinstance(layer, Activation)
            return cls(before.conv, before.norm, layer) if fits else None
        pairs = ((Conv1d, BatchNorm1d), (Conv2d, BatchNorm2d))
        fits = (type(before), type(layer)) in pairs and before.out_channels == layer.num_features
        return cls(before, layer) if fits else None

    def forward(self, x: Array) -> Array:
        """Return activation(norm(conv(x)))."""
        if self.is_affine:
            return self.affine(x, self.follower)
        x = self.norm.forward(self.conv.forward(x))
        return x if self.follower is None else self.follower.forward(x)

    @property
    def is_affine(self) -> bool:
        """Whether the normalisation is an affine map of each channel: in evaluation, with running statistics."""
        return not self.norm.moves_statistics and self.norm.running_mean is not None

    def affine(self, x: Array, follower: Activation | None, residual: Array | None = None) -> Array:
        """Return follower(norm(conv(x)) + residual), with the running statistics."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.eps is not None
        weight, bias = (None if p is None else p.value for p in (norm.weight, norm.bias))
        scale, shift = batch_norm_as_affine(norm.running_mean, norm.running_var, weight, bias, norm.eps)
        if self.conv.bias is not None:
            shift = shift + scale * self.conv.bias.value
        return conv_affine(self.conv, x, scale, shift, follower, residual)

    def parameters(self) -> list[Parameter]:
        """Return the parameters of the convolution and the normalisation."""
        return [*self.conv.parameters(), *self.norm.parameters()]

    def __repr__(self) -> str:
        return " + ".join(repr(layer) for layer in (self.conv, self.norm, self.follower) if layer is not None)


def conv_affine(
    conv: Conv1d | Conv2d,
    x: Array,
    scale: Array | None,
    shift: Array | None,
    follower: Activation | None,
    residual: Array | None,
) -> Array:
    """Return follower(scale conv(x) + shift + residual), by the engine's ``conv_affine``."""
    weight, activation = conv.weight.value, (None, ()) if follower is None else (follower.op, follower.settings)
    x = conv.cast_input(x)
    return current().conv_affine(conv.op, x, weight, conv.settings, scale, shift, *activation, residual)
