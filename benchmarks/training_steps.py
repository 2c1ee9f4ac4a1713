"""One training step in each library: forward, loss, backward, optimiser. The board's workloads bring the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from workload import on_engine

Step = Callable[[], Any]
Settings = dict[str, float]


def minidl_step(model: Any, loss: Any, x: Any, target: Any, optimizer: str, settings: Settings) -> Step:
    """Return minidl's step, which returns the loss."""
    import minidl as dl

    kinds = {"sgd": dl.SGD, "adam": dl.Adam, "adamw": dl.AdamW}
    update = kinds[optimizer](model.parameters(), **settings)
    x, target = on_engine(x, target)

    def step() -> Any:
        value = loss.forward(model.forward(x), target)
        model.backward(loss.backward(), input_gradient=False)
        update.step()
        update.zero_grad()
        return value

    return step


def torch_step(compute: Callable[[], Any], parameters: Iterable[Any], optimizer: str, settings: Settings) -> Step:
    """Return PyTorch's; ``compute`` returns the loss."""
    import torch

    kinds: dict[str, tuple[Any, dict[str, bool]]] = {
        "sgd": (torch.optim.SGD, {}), "adam": (torch.optim.Adam, {"fused": True}),
        "adamw": (torch.optim.AdamW, {"fused": True}),
    }  # fmt: skip
    kind, extra = kinds[optimizer]
    update = kind(parameters, **settings, **extra)

    def step() -> Any:
        value = compute()
        value.backward()
        update.step()
        update.zero_grad()
        return value

    return step


def jax_step(loss_of: Callable[[Any], Any], parameters: Any, optimizer: str, settings: Settings) -> Step:
    """Return JAX's, compiled as a whole; ``loss_of`` takes the parameters, a tree of arrays."""
    import jax
    from jax import numpy as jnp

    tree, lr = jax.tree_util.tree_map, settings["lr"]

    def updated(p: Any, m: Any, v: Any, t: Any) -> Any:
        value, gradients = jax.value_and_grad(loss_of)(p)
        if optimizer.startswith("adam"):
            m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
            v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
            scale, second = lr / (1 - 0.9**t), 1 - 0.999**t
            kept = 1 - lr * settings["weight_decay"] if optimizer == "adamw" else 1.0
            new = tree(lambda p, m, v: kept * p - scale * m / (jnp.sqrt(v / second) + 1e-8), p, m, v)
        elif settings.get("momentum"):
            m = tree(lambda m, g: settings["momentum"] * m + g, m, gradients)
            new = tree(lambda p, m: p - lr * m, p, m)
        else:
            new = tree(lambda p, g: p - lr * g, p, gradients)
        return (new, m, v, t + 1), value

    compiled = jax.jit(updated, donate_argnums=(0, 1, 2))
    state = [parameters, tree(jnp.zeros_like, parameters), tree(jnp.zeros_like, parameters), jnp.asarray(1.0)]

    def step() -> Any:
        state[:], value = compiled(*state)
        jax.block_until_ready(state[0])
        return value

    return step
