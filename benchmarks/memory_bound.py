"""Workloads of the board that are bound by memory: normalisation and pooling by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from images import Shape, Step, jax_pool, numbers


@dataclass(frozen=True)
class Layer:
    """An op on an array of shape x, its further arguments, and the shape of its weight and bias."""

    op: str
    x: Shape
    settings: tuple[int, ...] = ()
    parameters: Shape | None = None

    @property
    def arguments(self) -> list[Any]:
        """Make x and the parameters, the same each time."""
        own = [] if self.parameters is None else [numbers(seed, *self.parameters) for seed in (1, 2)]
        return [numbers(0, *self.x), *own]


def makers(layer: Layer, kind: str) -> dict[str, Callable[[], Step]]:
    """Make a layer's steps: forward, which returns y, or forward and all gradients ("both"), which returns both."""
    found = {"minidl": _minidl_layer, "torch": _torch_layer, "jax": _jax_layer}
    return {name: partial(make, layer, kind) for name, make in found.items()}


def _minidl_layer(layer: Layer, kind: str) -> Step:
    import minidl as dl

    forward, backward = getattr(dl.ops, layer.op), getattr(dl.ops, f"{layer.op}_backward")
    x, *own = layer.arguments
    dy = numbers(3, *forward(x, *layer.settings, *own)[0].shape)

    def both() -> Any:
        y, cache = forward(x, *layer.settings, *own)
        gradients = backward(dy, cache)
        return y, gradients if isinstance(gradients, tuple) else (gradients,)

    return both if kind == "both" else lambda: forward(x, *layer.settings, *own)[0]


def _torch_layer(layer: Layer, kind: str) -> Step:
    import torch
    from torch.nn import functional

    functions: dict[str, Callable[..., Any]] = {
        "batch_norm": lambda x, weight, bias: functional.batch_norm(x, None, None, weight, bias, training=True),
        "layer_norm": lambda x, weight, bias: functional.layer_norm(x, weight.shape, weight, bias),
        "max_pool2d": lambda x: functional.max_pool2d(x, *layer.settings),
    }
    function = functions[layer.op]
    tensors = [torch.from_numpy(a).requires_grad_() for a in layer.arguments]

    def forward() -> Any:
        with torch.no_grad():
            return function(*tensors)

    dy = torch.from_numpy(numbers(3, *forward().shape))

    def both() -> Any:
        y = function(*tensors)
        return y, torch.autograd.grad(y, tensors, dy)

    return both if kind == "both" else forward


def _jax_layer(layer: Layer, kind: str) -> Step:
    import jax
    from jax import numpy as jnp

    def standard(x: Any, axes: tuple[int, ...]) -> Any:
        mean = x.mean(axes, keepdims=True)
        return (x - mean) / jnp.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + 1e-5)

    functions: dict[str, Callable[..., Any]] = {
        "batch_norm": lambda x, weight, bias: standard(x, (0, 2, 3)) * weight[:, None, None] + bias[:, None, None],
        "layer_norm": lambda x, weight, bias: standard(x, (1,)) * weight + bias,
        "max_pool2d": jax_pool,
    }
    arrays = [jnp.asarray(a) for a in layer.arguments]
    forward = jax.jit(functions[layer.op])
    dy = jnp.asarray(numbers(3, *forward(*arrays).shape))

    def gradients(dy: Any, *arrays: Any) -> Any:
        y, back = jax.vjp(functions[layer.op], *arrays)
        return y, back(dy)

    function = partial(jax.jit(gradients), dy) if kind == "both" else forward
    return lambda: jax.block_until_ready(function(*arrays))
