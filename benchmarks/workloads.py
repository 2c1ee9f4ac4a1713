"""What the board measures: each workload for each contender, as a function that does one step."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy

import minidl as dl

Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """One row of the board: a name, the operations of one step, and how to make a step for a contender."""

    name: str
    flops: float
    makers: dict[str, Callable[[], Step]]

    def has(self, contender: str) -> bool:
        """Whether this contender takes part."""
        return contender.split()[0] in self.makers

    def make(self, contender: str) -> Step:
        """Return the step; a minidl contender is named with its engine."""
        kind, _, engine = contender.partition(" ")
        if not engine:
            return self.makers[kind]()
        with dl.use(engine):
            step = self.makers[kind]()
        chosen = dl.engines.get(engine)

        def within() -> None:
            with dl.use(chosen):
                step()

        return within if chosen is not dl.engines.current() else step


def set_threads(peers: list[str], threads: int) -> None:
    """Give the peers as many threads; JAX reads its number from the environment before its first import."""
    if "torch" in peers:
        import torch

        torch.set_num_threads(threads)
    if "jax" in peers:
        os.environ.setdefault("XLA_FLAGS", f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}")
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


# multilayer perceptrons ----------------------------------------------------------------------------------------------


def perceptron(
    name: str, sizes: list[int], batch: int, activation: str, loss: str, optimizer: str, **settings: float
) -> Workload:
    """Describe one training step of a perceptron: forward, loss, backward, optimiser."""
    random = numpy.random.default_rng(0)
    x = random.normal(size=(batch, sizes[0])).astype("float32")
    if loss == "cross_entropy":
        target = random.integers(0, sizes[-1], batch)
    else:
        target = random.normal(size=(batch, sizes[-1])).astype("float32")
    pairs = list(itertools.pairwise(sizes))
    weights = [(random.normal(size=(o, i)) / numpy.sqrt(i)).astype("float32") for i, o in pairs]
    # forward and both gradients are 2 i o each for a row; the first layer needs no gradient of its input
    flops = batch * sum((6 if position else 4) * i * o for position, (i, o) in enumerate(pairs))
    given = (pairs, weights, x, target, activation, loss, optimizer, settings)
    return Workload(
        name,
        flops,
        {
            "minidl": lambda: _minidl_perceptron(*given),
            "torch": lambda: _torch_perceptron(*given),
            "jax": lambda: _jax_perceptron(*given),
        },
    )


def _minidl_perceptron(pairs: Any, weights: Any, x: Any, target: Any, activation: str, loss_name: str,
                       optimizer_name: str, settings: Any) -> Step:  # fmt: skip
    layers: list[Any] = []
    for position, (i, o) in enumerate(pairs):
        layers += [dl.Linear(i, o)] + ([{"tanh": dl.Tanh, "relu": dl.ReLU}[activation]()] * (position < len(pairs) - 1))
    model = dl.Sequential(layers)
    for layer, weight in zip([layer for layer in layers if isinstance(layer, dl.Linear)], weights, strict=True):
        layer.weight.value, layer.bias.value = weight, 0.0
    loss = dl.CrossEntropyLoss() if loss_name == "cross_entropy" else dl.MSELoss()
    optimizer = {"sgd": dl.SGD, "adam": dl.Adam}[optimizer_name](model.parameters(), **settings)

    def step() -> None:
        loss.forward(model.forward(x), target)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _torch_perceptron(pairs: Any, weights: Any, x: Any, target: Any, activation: str, loss_name: str,
                      optimizer_name: str, settings: Any) -> Step:  # fmt: skip
    import torch

    layers: list[Any] = []
    for position, ((i, o), weight) in enumerate(zip(pairs, weights, strict=True)):
        linear = torch.nn.Linear(i, o)
        linear.weight.data.copy_(torch.tensor(weight))
        linear.bias.data.zero_()
        layers += [linear] + [{"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[activation]()] * (
            position < len(pairs) - 1
        )
    model = torch.nn.Sequential(*layers)
    loss = torch.nn.CrossEntropyLoss() if loss_name == "cross_entropy" else torch.nn.MSELoss()
    kind, extra = {"sgd": (torch.optim.SGD, {}), "adam": (torch.optim.Adam, {"fused": True})}[optimizer_name]
    optimizer = kind(model.parameters(), **settings, **extra)
    x, target = torch.tensor(x), torch.tensor(target)

    def step() -> None:
        loss(model(x), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _jax_perceptron(pairs: Any, weights: Any, x: Any, target: Any, activation: str, loss_name: str,
                    optimizer_name: str, settings: Any) -> Step:  # fmt: skip
    import jax
    from jax import numpy as jnp

    f = {"tanh": jnp.tanh, "relu": jax.nn.relu}[activation]

    def loss_of(parameters: Any) -> Any:
        h = x
        for position, (weight, bias) in enumerate(parameters):
            h = h @ weight.T + bias
            h = f(h) if position < len(parameters) - 1 else h
        if loss_name == "cross_entropy":
            return -jax.nn.log_softmax(h)[jnp.arange(len(target)), target].mean()
        return ((h - target) ** 2).mean()

    def updated(parameters: Any, m: Any, v: Any, t: Any) -> Any:
        gradients = jax.grad(loss_of)(parameters)
        tree = jax.tree_util.tree_map
        if optimizer_name == "adam":
            m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
            v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
            scale = settings["lr"] / (1 - 0.9**t)
            second = 1 - 0.999**t
            new = tree(lambda p, m, v: p - scale * m / (jnp.sqrt(v / second) + 1e-8), parameters, m, v)
        elif settings.get("momentum"):
            m = tree(lambda m, g: settings["momentum"] * m + g, m, gradients)
            new = tree(lambda p, m: p - settings["lr"] * m, parameters, m)
        else:
            new = tree(lambda p, g: p - settings["lr"] * g, parameters, gradients)
        return new, m, v, t + 1

    parameters = [(jnp.asarray(w), jnp.zeros(w.shape[0])) for w in weights]
    zeros = jax.tree_util.tree_map(jnp.zeros_like, parameters)
    compiled = jax.jit(updated, donate_argnums=(0, 1, 2))
    state = [parameters, zeros, jax.tree_util.tree_map(jnp.zeros_like, parameters), jnp.asarray(1.0)]

    def step() -> None:
        state[:] = compiled(*state)
        jax.block_until_ready(state[0])

    return step


MLP = [784, 512, 256, 10]
ALL = [
    perceptron("linear regression, batch 32, SGD", [1, 1], 32, "relu", "mse", "sgd", lr=0.01),
    perceptron("2-16-16-1 tanh, batch 64, SGD", [2, 16, 16, 1], 64, "tanh", "mse", "sgd", lr=0.01),
    *(
        perceptron(f"784-512-256-10 relu, batch {batch}, Adam", MLP, batch, "relu", "cross_entropy", "adam", lr=1e-4)
        for batch in (32, 128, 512)
    ),
    perceptron(
        "784-512-256-10 relu, batch 128, SGD momentum", MLP, 128, "relu", "cross_entropy", "sgd", lr=1e-3, momentum=0.9
    ),
]
