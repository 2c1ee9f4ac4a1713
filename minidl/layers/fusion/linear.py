"""A matrix product and the activation after it."""

from __future__ import annotations

from typing import Any

from minidl.engines import current
from minidl.layers.activation import Activation
from minidl.layers.base import cast_input
from minidl.layers.inference import keeps_caches
from minidl.layers.linear import Affine, Dense, Linear
from minidl.layers.parameter import Parameter, run_backward
from minidl.layers.stored import StoredLinear
from minidl.ops import Array

__all__ = ["FusedLinear", "FusedStored"]


class FusedLinear:
    """A Linear and the activation after it, or a Dense with its activation, in one step: y = activation(x W^T + b)."""

    input_gradient_optional = True

    def __init__(self, linear: Affine, follower: Activation) -> None:
        self.linear, self.follower = linear, follower

    @classmethod
    def join(cls, before: Any, layer: Any) -> FusedLinear | None:
        """Return the step for a Dense with an activation, or for a Linear and an activation; None for anything else."""
        if before is None:
            return (
                cls(layer, layer.activation)
                if type(layer) is Dense and isinstance(layer.activation, Activation)
                else None
            )
        return cls(before, layer) if type(before) is Linear and isinstance(layer, Activation) else None

    def forward(self, x: Array) -> Array:
        """Return activation(x W^T + b)."""
        linear, follower = self.linear, self.follower
        if not linear.built:
            linear.build(x.shape[1:])
        weight, bias = linear.weight._value, linear.bias
        if type(x) is not type(weight) or x.dtype is not weight.dtype:
            x = cast_input(linear, x, weight)
        y, caches = current().linear_activation(
            x, weight, None if bias is None else bias._value, follower.op, follower.settings
        )
        if keeps_caches():
            linear.__dict__["_cache"], follower.__dict__["_cache"] = caches
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """Return dx, from the caches of the two layers, whether this step or their own forwards left them."""
        linear, follower = self.linear, self.follower
        cache = linear._remembered(), follower._remembered()
        parameters = linear.weight, linear.bias
        return run_backward(current().linear_activation_backward, (dy, cache, follower.op), parameters, input_gradient)

    def parameters(self) -> list[Parameter]:
        """Return the linear layer's parameters."""
        return self.linear.parameters()

    def __repr__(self) -> str:
        return repr(self.linear) if type(self.linear) is Dense else f"{self.linear!r} + {self.follower!r}"


class FusedStored:
    """A StoredLinear and the activation after it in one step: y = activation(x W^T + b). For inference only."""

    def __init__(self, stored: StoredLinear, follower: Activation) -> None:
        self.stored, self.follower = stored, follower

    @classmethod
    def join(cls, before: Any, layer: Any) -> FusedStored | None:
        """Return the step for a StoredLinear and an activation; None for anything else."""
        fits = type(before) is StoredLinear and before.follower is None and isinstance(layer, Activation)
        return cls(before, layer) if fits else None

    def forward(self, x: Array) -> Array:
        """Return activation(x W^T + b)."""
        return self.stored.apply(x, self.follower)

    def parameters(self) -> list[Parameter]:
        """Return none: what is stored is no parameter."""
        return []

    def __repr__(self) -> str:
        return f"{self.stored!r} + {self.follower!r}"
