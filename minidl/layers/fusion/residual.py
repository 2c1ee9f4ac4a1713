"""A residual layer whose last convolution adds the shortcut. For inference only."""

from __future__ import annotations

from typing import Any

from minidl.engines import current
from minidl.errors import MinidlError
from minidl.layers.activation import Activation
from minidl.layers.chain import Chain
from minidl.layers.conv import Conv1d, Conv2d
from minidl.layers.fusion.conv import NormalizedConv, conv_affine
from minidl.layers.parameter import Parameter
from minidl.layers.residual import Residual
from minidl.ops import Array

__all__ = ["SummedResidual"]


class SummedResidual:
    """A residual layer whose branch ends in a convolution, which adds the shortcut while its output is in cache.

    The activation after the sum is part of the step, whether it belongs to the residual layer or is the next layer.
    """

    def __init__(self, residual: Residual, follower: Activation | None = None) -> None:
        self.residual, self.follower = residual, follower

    @classmethod
    def join(cls, before: Any, layer: Any) -> SummedResidual | None:
        """Return the step for a residual layer, or for one and the activation after it; None for anything else."""
        if before is None:
            fits = isinstance(layer, Residual) and layer.branch.fuse and _ends_in_conv(_last_step(layer.branch))
            return cls(layer) if fits else None
        fits = isinstance(before, cls) and before.follower is None and before.residual.follower is None
        return cls(before.residual, layer) if fits and isinstance(layer, Activation) else None

    def forward(self, x: Array) -> Array:
        """Return activation(f(x) + shortcut(x))."""
        y = self._sum_at_once(x)
        if y is not None:
            return y
        y = self.residual.forward(x)
        return y if self.follower is None else self.follower.forward(y)

    def _sum_at_once(self, x: Array) -> Array | None:
        """Return the result, with the sum made by the last step of the branch; None if that is not possible."""
        residual = self.residual
        last = _last_step(residual.branch)
        if residual.training or (isinstance(last, NormalizedConv) and not last.is_affine):
            return None  # before anything runs, because a forward in training may change statistics
        follower = self.follower or residual.follower
        applied = follower if current().applies("conv_affine", getattr(follower, "op", "")) else None
        try:
            other = x if residual.shortcut is None else residual.shortcut.forward(x)
            if not _takes(last, other):
                return None
            before = _run_to_last_step(residual.branch, x)
            if isinstance(last, NormalizedConv):
                y = last.affine(before, applied, other)
            else:
                y = conv_affine(last, before, None, None if last.bias is None else last.bias.value, applied, other)
        except MinidlError:
            return None  # the layers run one by one next, and meet the same error, which then names its layer
        return y if follower is applied else follower.forward(y)

    def parameters(self) -> list[Parameter]:
        """Return the residual layer's parameters."""
        return self.residual.parameters()

    def __repr__(self) -> str:
        return repr(self.residual) if self.follower is None else f"{self.residual!r} + {self.follower!r}"


def _last_step(chain: Chain) -> Any:
    """Return the last step of a chain in inference, or that of a chain inside it; None if there is no step."""
    steps = chain.steps(keeping=False)
    step = steps[-1][1] if steps else None
    return _last_step(step) if isinstance(step, Chain) else step


def _run_to_last_step(chain: Chain, x: Array) -> Array:
    """Return the input of the last step."""
    steps = chain.steps(keeping=False)
    for _, step in steps[:-1]:
        x = step.forward(x)
    last = steps[-1][1]
    return _run_to_last_step(last, x) if isinstance(last, Chain) else x


def _ends_in_conv(step: Any) -> bool:
    return type(step) in (Conv1d, Conv2d) or (isinstance(step, NormalizedConv) and step.follower is None)


def _takes(step: Any, other: Array) -> bool:
    """Whether the step can add this array to its output."""
    conv = step.conv if isinstance(step, NormalizedConv) else step
    return type(other) is type(conv.weight.value) and other.dtype == conv.weight.dtype
