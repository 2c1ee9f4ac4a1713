"""Workloads of the board on images: convolutions by themselves, training steps, and inference."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy
from training_steps import jax_step, minidl_step, torch_step
from workload import on_engine

Step = Callable[[], Any]
Shape = tuple[int, ...]


def numbers(seed: int, *shape: int) -> numpy.ndarray:
    """Draw from the normal distribution."""
    return numpy.random.default_rng(seed).standard_normal(shape, dtype=numpy.float32)


# single layers -----------------------------------------------------------------------------------------------------------


def convolution(kind: str, x: Shape, weight: Shape, padding: int, groups: int) -> dict[str, Callable[[], Step]]:
    """Make a convolution's steps: forward, or forward and all gradients ("both")."""
    makers = {"minidl": _minidl_convolution, "torch": _torch_convolution, "jax": _jax_convolution}
    return {name: partial(make, kind, x, weight, padding, groups) for name, make in makers.items()}


def _minidl_convolution(kind: str, x_shape: Shape, weight_shape: Shape, padding: int, groups: int) -> Step:
    import minidl as dl

    x, weight, bias = on_engine(numbers(0, *x_shape), numbers(1, *weight_shape), numbers(2, weight_shape[0]))
    y, _ = dl.ops.conv2d(x, weight, bias, 1, padding, 1, groups)
    dy = on_engine(numbers(3, *y.shape))

    def forward() -> Any:
        return dl.ops.conv2d(x, weight, bias, 1, padding, 1, groups)[0]

    def both() -> Any:
        _, cache = dl.ops.conv2d(x, weight, bias, 1, padding, 1, groups)
        return dl.ops.conv2d_backward(dy, cache)

    return forward if kind == "forward" else both


def _torch_convolution(kind: str, x_shape: Shape, weight_shape: Shape, padding: int, groups: int) -> Step:
    import torch

    tensors = [torch.from_numpy(numbers(0, *x_shape)), torch.from_numpy(numbers(1, *weight_shape))]
    tensors.append(torch.from_numpy(numbers(2, weight_shape[0])))
    conv = partial(torch.nn.functional.conv2d, padding=padding, groups=groups)
    dy = torch.from_numpy(numbers(3, *conv(*tensors).shape))
    trained = [t.clone().requires_grad_() for t in tensors]

    def forward() -> Any:
        with torch.no_grad():
            return conv(*tensors)

    def both() -> Any:
        return torch.autograd.grad(conv(*trained), trained, dy)

    return forward if kind == "forward" else both


def _jax_convolution(kind: str, x_shape: Shape, weight_shape: Shape, padding: int, groups: int) -> Step:
    import jax
    from jax import numpy as jnp

    arrays = [
        jnp.asarray(numbers(0, *x_shape)),
        jnp.asarray(numbers(1, *weight_shape)),
        jnp.asarray(numbers(2, weight_shape[0])),
    ]

    def conv(x: Any, weight: Any, bias: Any) -> Any:
        return _jax_conv(x, weight, padding, groups) + bias[:, None, None]

    dy = jnp.asarray(numbers(3, *conv(*arrays).shape))

    def gradients(x: Any, weight: Any, bias: Any, dy: Any) -> Any:
        y, back = jax.vjp(conv, x, weight, bias)
        return y, back(dy)

    function = jax.jit(conv) if kind == "forward" else partial(jax.jit(gradients), dy=dy)
    return lambda: jax.block_until_ready(function(*arrays))


def _jax_conv(x: Any, weight: Any, padding: int = 0, groups: int = 1, stride: int = 1) -> Any:
    import jax

    sides = [(padding, padding)] * 2
    return jax.lax.conv_general_dilated(x, weight, (stride, stride), sides, feature_group_count=groups)


def jax_pool(x: Any) -> Any:
    import jax

    return jax.lax.reduce_window(x, -numpy.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


# networks ----------------------------------------------------------------------------------------------------------------
#
# A network is a list of layers, each a name and its sizes, which every library builds its own way.

Layers = list[tuple[Any, ...]]

SMALL: Layers = [
    ("conv", 1, 32, 3, 1), ("relu",), ("max_pool",),
    ("conv", 32, 64, 3, 1), ("relu",), ("max_pool",),
    ("flatten",), ("linear", 64 * 7 * 7, 128), ("relu",), ("linear", 128, 10),
]  # fmt: skip
BLOCK: Layers = [("conv", 64, 64, 3, 1), ("batch_norm", 64), ("relu",), ("conv", 64, 64, 3, 1), ("batch_norm", 64)]
RESIDUAL: Layers = [
    ("residual", BLOCK), ("relu",), ("residual", BLOCK), ("relu",), ("mean",), ("flatten",), ("linear", 64, 10)
]  # fmt: skip
LENET: Layers = [
    ("conv", 1, 6, 5, 2), ("relu",), ("max_pool",),
    ("conv", 6, 16, 5, 0), ("relu",), ("max_pool",),
    ("flatten",), ("linear", 400, 120), ("relu",), ("linear", 120, 84), ("relu",), ("linear", 84, 10),
]  # fmt: skip


def first_weights(layers: Layers, seed: int = 0) -> list[numpy.ndarray]:
    """Draw the weights of convolutions and linear layers, in order; all else starts as zeros and ones."""
    found: list[numpy.ndarray] = []
    for kind, *sizes in layers:
        if kind == "residual":
            found += first_weights(sizes[0], seed + 100 * (1 + len(found)))
        elif kind in ("conv", "linear"):
            shape = (sizes[1], sizes[0], *([sizes[2]] * 2 if kind == "conv" else []))
            found.append(numbers(seed + len(found), *shape) / numpy.float32(numpy.sqrt(numpy.prod(shape[1:]) / 2)))
    return found


def batch_of(shape: Shape) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Draw images and labels."""
    return numbers(7, *shape), numpy.random.default_rng(8).integers(0, 10, shape[0])


def training(layers: Layers, shape: Shape, optimizer: str, **settings: float) -> dict[str, Callable[[], Step]]:
    """Make a training step: forward, cross-entropy, backward, optimiser; it returns the loss."""
    makers = {
        "minidl": _minidl_training, "torch": _torch_training, "jax": _jax_training,
        "torch compile": partial(_torch_training, compiled=True),
    }  # fmt: skip
    return {name: partial(make, layers, shape, optimizer, settings) for name, make in makers.items()}


def inference(layers: Layers, shape: Shape) -> dict[str, Callable[[], Step]]:
    """Make a forward pass in evaluation mode."""
    makers = {
        "minidl": _minidl_inference, "torch": _torch_inference, "jax": _jax_inference, "onnxruntime": _onnx_inference,
        "torch compile": partial(_torch_inference, compiled=True),
    }  # fmt: skip
    return {name: partial(make, layers, shape) for name, make in makers.items()}


def _onnx_inference(layers: Layers, shape: Shape) -> Step:
    import onnx_models

    session, inputs = onnx_models.session(layers, first_weights(layers), shape), {"x": batch_of(shape)[0]}
    return lambda: session.run(None, inputs)[0]


def _minidl_model(layers: Layers) -> Any:
    import minidl as dl

    weights = iter(first_weights(layers))

    def made(kind: str, *sizes: Any) -> Any:
        if kind == "residual":
            return dl.Residual(*(made(*layer) for layer in sizes[0]))
        if kind in ("conv", "linear"):
            i, o, *kernel = sizes
            layer: Any = dl.Conv2d(i, o, kernel[0], padding=kernel[1]) if kernel else dl.Linear(i, o)
            layer.weight.value, layer.bias.value = next(weights), 0.0
            return layer
        makers = {
            "relu": dl.ReLU, "flatten": dl.Flatten, "max_pool": partial(dl.MaxPool2d, 2),
            "mean": partial(dl.AdaptiveAvgPool2d, 1), "batch_norm": dl.BatchNorm2d,
        }  # fmt: skip
        return makers[kind](*sizes)

    return dl.Sequential([made(*layer) for layer in layers])


def _minidl_training(layers: Layers, shape: Shape, optimizer: str, settings: dict[str, float]) -> Step:
    import minidl as dl

    return minidl_step(_minidl_model(layers), dl.CrossEntropyLoss(), *batch_of(shape), optimizer, settings)


def _minidl_inference(layers: Layers, shape: Shape) -> Step:
    import minidl

    x, model = on_engine(batch_of(shape)[0]), _minidl_model(layers).eval()

    def step() -> Any:
        with minidl.inference():
            return model.forward(x)

    return step


def _torch_model(layers: Layers) -> Any:
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, branch: Any) -> None:
            super().__init__()
            self.branch = branch

        def forward(self, x: Any) -> Any:
            return x + self.branch(x)

    weights = iter(first_weights(layers))

    def made(kind: str, *sizes: Any) -> Any:
        if kind == "residual":
            return Residual(nn.Sequential(*(made(*layer) for layer in sizes[0])))
        if kind in ("conv", "linear"):
            i, o, *kernel = sizes
            layer: Any = nn.Conv2d(i, o, kernel[0], padding=kernel[1]) if kernel else nn.Linear(i, o)
            layer.weight.data.copy_(torch.from_numpy(next(weights)))
            layer.bias.data.zero_()
            return layer
        makers = {
            "relu": nn.ReLU, "flatten": nn.Flatten, "max_pool": partial(nn.MaxPool2d, 2),
            "mean": partial(nn.AdaptiveAvgPool2d, 1), "batch_norm": nn.BatchNorm2d,
        }  # fmt: skip
        return makers[kind](*sizes)

    return nn.Sequential(*(made(*layer) for layer in layers))


def _torch_training(
    layers: Layers, shape: Shape, optimizer: str, settings: dict[str, float], compiled: bool = False
) -> Step:
    import torch

    x, target = (torch.from_numpy(a) for a in batch_of(shape))
    model, loss = _torch_model(layers), torch.nn.CrossEntropyLoss()
    model = torch.compile(model) if compiled else model
    return torch_step(lambda: loss(model(x), target), model.parameters(), optimizer, settings)


def _torch_inference(layers: Layers, shape: Shape, compiled: bool = False) -> Step:
    import torch

    x, model = torch.from_numpy(batch_of(shape)[0]), _torch_model(layers).eval()
    model = torch.compile(model) if compiled else model

    def step() -> Any:
        with torch.inference_mode():
            return model(x)

    return step


def _jax_parameters(layers: Layers) -> list[Any]:
    from jax import numpy as jnp

    weights = iter(first_weights(layers))

    def made(layers: Layers) -> list[Any]:
        found: list[Any] = []
        for kind, *sizes in layers:
            if kind == "residual":
                found.append(made(sizes[0]))
            elif kind in ("conv", "linear"):
                weight = jnp.asarray(next(weights))
                found.append((weight, jnp.zeros(weight.shape[0])))
            else:
                found.append((jnp.ones(sizes[0]), jnp.zeros(sizes[0])) if kind == "batch_norm" else ())
        return found

    return made(layers)


def _jax_forward(layers: Layers, parameters: list[Any], x: Any, training: bool = True) -> Any:
    import jax

    for (kind, *sizes), own in zip(layers, parameters, strict=True):
        if kind == "residual":
            x = x + _jax_forward(sizes[0], own, x, training)
        elif kind == "conv":
            x = _jax_conv(x, own[0], sizes[3]) + own[1][:, None, None]
        elif kind == "linear":
            x = x @ own[0].T + own[1]
        elif kind == "batch_norm":
            mean = x.mean((0, 2, 3), keepdims=True) if training else 0.0
            variance = ((x - mean) ** 2).mean((0, 2, 3), keepdims=True) if training else 1.0
            x = (x - mean) / jax.numpy.sqrt(variance + 1e-5) * own[0][:, None, None] + own[1][:, None, None]
        elif kind == "max_pool":
            x = jax_pool(x)
        elif kind == "mean":
            x = x.mean((2, 3))
        elif kind == "flatten":
            x = x.reshape(x.shape[0], -1)
        else:
            x = jax.nn.relu(x)
    return x


def _jax_training(layers: Layers, shape: Shape, optimizer: str, settings: dict[str, float]) -> Step:
    import jax
    from jax import numpy as jnp

    images, labels = batch_of(shape)
    x, target = jnp.asarray(images), jnp.asarray(labels)

    def loss_of(parameters: Any) -> Any:
        logits = _jax_forward(layers, parameters, x)
        return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), target].mean()

    return jax_step(loss_of, _jax_parameters(layers), optimizer, settings)


def _jax_inference(layers: Layers, shape: Shape) -> Step:
    import jax
    from jax import numpy as jnp

    x, parameters = jnp.asarray(batch_of(shape)[0]), _jax_parameters(layers)
    function = jax.jit(lambda parameters, x: _jax_forward(layers, parameters, x, training=False))
    return lambda: jax.block_until_ready(function(parameters, x))


def flops(layers: Layers, height: int, width: int) -> float:
    """Count the operations of one image's forward in convolutions and linear layers; a multiply-add is 2."""
    total = 0.0
    for kind, *sizes in layers:
        if kind == "residual":
            total += flops(sizes[0], height, width)
        elif kind == "conv":
            i, o, kernel, padding = sizes
            height, width = height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1
            total += 2.0 * i * o * kernel * kernel * height * width
        elif kind == "max_pool":
            height, width = height // 2, width // 2
        elif kind == "linear":
            total += 2.0 * sizes[0] * sizes[1]
    return total
