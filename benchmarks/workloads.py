"""What the board measures: each workload for each contender, as a function that does one step.

To add one, write a function that returns a :class:`Workload` (``perceptron`` below is the pattern) and put a call of it
into ``ALL``. The board finds it there, runs it, and gives it rows under the heading of its ``part``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import activations
import gemm
import images
import memory_bound
import numpy
import sequences
from memory_bound import Layer
from training_steps import jax_step, minidl_step, torch_step
from workload import Step, Workload

# multilayer perceptrons ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Perceptron:
    """A perceptron and how it is trained."""

    sizes: list[int]
    batch: int
    activation: str
    loss: str
    optimizer: str
    settings: dict[str, float]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer."""
        return list(itertools.pairwise(self.sizes))

    def data(self) -> tuple[numpy.ndarray, numpy.ndarray, list[numpy.ndarray]]:
        """Return inputs, targets and first weights, the same each time."""
        random = numpy.random.default_rng(0)
        x = random.normal(size=(self.batch, self.sizes[0])).astype("float32")
        if self.loss == "cross_entropy":
            target = random.integers(0, self.sizes[-1], self.batch)
        else:
            target = random.normal(size=(self.batch, self.sizes[-1])).astype("float32")
        return x, target, [(random.normal(size=(o, i)) / numpy.sqrt(i)).astype("float32") for i, o in self.pairs]


def perceptron(
    name: str, sizes: list[int], batch: int, activation: str, loss: str, optimizer: str, **settings: float
) -> Workload:
    """Describe one training step of a perceptron: forward, loss, backward, optimiser."""
    spec = Perceptron(sizes, batch, activation, loss, optimizer, settings)
    makers = {
        "minidl": _minidl_perceptron, "torch": _torch_perceptron, "jax": _jax_perceptron,
        "torch compile": partial(_torch_perceptron, compiled=True),
    }  # fmt: skip
    # forward and both gradients are 2 i o each for a row; the first layer needs no gradient of its input
    flops = batch * sum((6 if position else 4) * i * o for position, (i, o) in enumerate(spec.pairs))
    return Workload("Training steps", name, {kind: partial(make, spec) for kind, make in makers.items()}, flops)


def _minidl_perceptron(spec: Perceptron) -> Step:
    import minidl as dl

    x, target, weights = spec.data()
    follower = {"tanh": dl.Tanh, "relu": dl.ReLU}[spec.activation]
    layers: list[Any] = []
    for (i, o), weight in zip(spec.pairs, weights, strict=True):
        layers += [dl.Linear(i, o), follower()]
        layers[-2].weight.value, layers[-2].bias.value = weight, 0.0
    model = dl.Sequential(layers[:-1])
    loss = dl.CrossEntropyLoss() if spec.loss == "cross_entropy" else dl.MSELoss()
    return minidl_step(model, loss, x, target, spec.optimizer, spec.settings)


def _torch_perceptron(spec: Perceptron, compiled: bool = False) -> Step:
    import torch

    data, labels, weights = spec.data()
    x, target = torch.tensor(data), torch.tensor(labels)
    follower = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[spec.activation]
    layers: list[Any] = []
    for (i, o), weight in zip(spec.pairs, weights, strict=True):
        layers += [torch.nn.Linear(i, o), follower()]
        layers[-2].weight.data.copy_(torch.tensor(weight))
        layers[-2].bias.data.zero_()
    model: Any = torch.nn.Sequential(*layers[:-1])
    model = torch.compile(model) if compiled else model
    loss = torch.nn.CrossEntropyLoss() if spec.loss == "cross_entropy" else torch.nn.MSELoss()
    return torch_step(lambda: loss(model(x), target), model.parameters(), spec.optimizer, spec.settings)


def _jax_perceptron(spec: Perceptron) -> Step:
    import jax
    from jax import numpy as jnp

    x, target, weights = spec.data()
    f = {"tanh": jnp.tanh, "relu": jax.nn.relu}[spec.activation]

    def loss_of(parameters: Any) -> Any:
        h = x
        for position, (weight, bias) in enumerate(parameters):
            h = h @ weight.T + bias
            h = f(h) if position < len(parameters) - 1 else h
        if spec.loss == "cross_entropy":
            return -jax.nn.log_softmax(h)[jnp.arange(len(target)), target].mean()
        return ((h - target) ** 2).mean()

    parameters = [(jnp.asarray(w), jnp.zeros(w.shape[0])) for w in weights]
    return jax_step(loss_of, parameters, spec.optimizer, spec.settings)


# activations ---------------------------------------------------------------------------------------------------------


def activation(name: str, kind: str, size: int = 1 << 20) -> Workload:
    """Describe an activation of a large array; ``kind`` is "forward", or "both" for forward and backward."""
    settings = activations.activations()[name]
    makers = {
        "minidl native": activations.steps,
        "minidl cupy": activations.steps,
        "torch": activations.torch_steps,
        "jax": activations.jax_steps,
    }

    def make(steps: Callable[..., dict[str, Step]]) -> Step:
        random = numpy.random.default_rng(0)
        x, dy = (random.standard_normal(size, dtype=numpy.float32) for _ in range(2))
        return steps(name, settings, x, dy)[kind]

    label = f"{name}, 2^{size.bit_length() - 1} floats, forward{' and backward' * (kind == 'both')}"
    arrays = 2 if kind == "forward" else 5  # x, y; dy, what forward saved, dx
    return Workload("Activations", label, {k: partial(make, v) for k, v in makers.items()}, bytes=arrays * size * 4)


# products ------------------------------------------------------------------------------------------------------------


def product(shape: str, layout: str) -> Workload:
    """Describe a matrix product MxKxN, each operand as it lies (N) or transposed (T)."""
    m, k, n = map(int, shape.split("x"))

    def make(contender: str) -> Step:
        return gemm.contenders(shape, layout, [contender])[contender]

    kinds = {"minidl native": "minidl", "minidl cupy": "cupy", "numpy": "numpy", "torch": "torch", "jax": "jax"}
    return Workload(
        "Products", f"{shape} {layout}", {name: partial(make, kind) for name, kind in kinds.items()}, 2.0 * m * n * k
    )


# images --------------------------------------------------------------------------------------------------------------


def convolution(
    batch: int, x: tuple[int, ...], weight: tuple[int, ...], padding: int, kind: str, groups: int = 1
) -> Workload:
    """Describe a convolution with stride 1 of a batch of images of shape x; the kind is "forward" or "both"."""
    shape, kernel = "x".join(map(str, x)), "x".join(map(str, weight[2:]))
    name = f"{'depthwise ' * (groups > 1)}{kernel}, {shape} to {weight[0]}, batch {batch}, forward{' and backward' * (kind == 'both')}"
    height, width = (n + 2 * padding - k + 1 for n, k in zip(x[1:], weight[2:], strict=True))
    flops = 2.0 * batch * math.prod(weight) * height * width * (3 if kind == "both" else 1)
    return Workload("Convolutions", name, images.convolution(kind, (batch, *x), weight, padding, groups), flops)


def memory_bound_layer(name: str, layer: Layer, kind: str, outputs: float = 1.0) -> Workload:
    """Describe a layer with so many outputs per input; the kind is "forward" or "both"."""
    label = f"{name}, forward{' and backward' * (kind == 'both')}"
    arrays = 1 + outputs if kind == "forward" else 3 + 2 * outputs  # x, y; dy, x, dx
    arrays -= (layer.op == "max_pool2d") * (kind == "both")  # whose backward does not need x
    return Workload(
        "Normalisation and pooling", label, memory_bound.makers(layer, kind), bytes=4 * arrays * math.prod(layer.x)
    )


def network(
    name: str, layers: images.Layers, batch: int, x: tuple[int, ...], optimizer: str, **settings: float
) -> Workload:
    """Describe one training step of a network on images of shape x."""
    makers = images.training(layers, (batch, *x), optimizer, **settings)
    return Workload("Training steps on images", name, makers, 3 * batch * images.flops(layers, *x[1:]))


def prediction(name: str, layers: images.Layers, x: tuple[int, ...]) -> Workload:
    """Describe the forward pass of one image, or of one row of a table."""
    makers, size = images.inference(layers, (1, *x)), x[1:] or (1, 1)
    return Workload("One image" if len(x) > 1 else "One row", name, makers, images.flops(layers, *size))


def rows(*sizes: int) -> images.Layers:
    """Describe a perceptron with relu as a network."""
    layers: images.Layers = []
    for i, o in itertools.pairwise(sizes):
        layers += [("linear", i, o), ("relu",)]
    return layers[:-1]


IMAGES = [
    *(
        convolution(batch, x, weight, padding, kind, groups)
        for batch, x, weight, padding, groups in [
            (64, (1, 28, 28), (32, 1, 3, 3), 1, 1),
            (64, (32, 14, 14), (64, 32, 3, 3), 1, 1),
            (16, (64, 32, 32), (64, 64, 3, 3), 1, 1),
            (32, (128, 16, 16), (256, 128, 1, 1), 0, 1),
            (16, (64, 32, 32), (64, 1, 3, 3), 1, 64),
        ]
        for kind in ("forward", "both")
    ),
    network("conv 32 - pool - conv 64 - pool - 128 - 10, batch 64, Adam", images.SMALL, 64, (1, 28, 28), "adam", lr=1e-4),
    network(
        "two residual blocks of 64 channels on 32x32, batch 16, SGD momentum", images.RESIDUAL, 16, (64, 32, 32), "sgd",
        lr=1e-3, momentum=0.9,
    ),
    network("LeNet-5, batch 128, SGD momentum", images.LENET, 128, (1, 28, 28), "sgd", lr=1e-3, momentum=0.9),
    prediction("conv 32 - pool - conv 64 - pool - 128 - 10", images.SMALL, (1, 28, 28)),
    prediction("two residual blocks of 64 channels on 32x32", images.RESIDUAL, (64, 32, 32)),
    prediction("LeNet-5", images.LENET, (1, 28, 28)),
]  # fmt: skip
MEMORY_BOUND = [
    memory_bound_layer(name, layer, kind, outputs)
    for name, layer, outputs in [
        ("batch norm in training, 64x32x32, batch 16", Layer("batch_norm", (16, 64, 32, 32), (), (64,)), 1.0),
        ("layer norm, 128x768", Layer("layer_norm", (128, 768), (768,), (768,)), 1.0),
        ("max pool 2x2, 64x32x32, batch 16", Layer("max_pool2d", (16, 64, 32, 32), (2,)), 0.25),
    ]
    for kind in ("forward", "both")
]
MLP, LARGE_MLP = [784, 512, 256, 10], [1000, 4000, 1000, 10]
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
    perceptron("1000-4000-1000-10 relu, batch 512, Adam", LARGE_MLP, 512, "relu", "cross_entropy", "adam", lr=1e-4),
    *(activation(name, kind) for name in ("relu", "sigmoid", "tanh", "gelu") for kind in ("forward", "both")),
    *(product(shape, layout) for shape in gemm.SHAPES for layout in gemm.LAYOUTS),
    *IMAGES,
    prediction("784-512-256-10 relu", rows(*MLP), (784,)),
    prediction("1000-4000-1000-10 relu", rows(*LARGE_MLP), (1000,)),
    *MEMORY_BOUND,
    *sequences.ALL,
]
