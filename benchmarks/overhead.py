"""What a call of a native op costs beyond its arithmetic: microseconds on arrays of 4 x 4, where there is next to none.

    python benchmarks/overhead.py

It also times a training step of a small perceptron, with its layers in one call and one by one.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import numpy

import minidl as dl


def calls() -> dict[str, Callable[[], Any]]:
    """Return the ops to be called, with their arrays."""
    native = dl.engines.get("native")
    x, weight, bias = (numpy.ones(shape, dtype=numpy.float32) for shape in ((4, 4), (4, 4), 4))
    target, labels = numpy.zeros_like(x), numpy.zeros(4, dtype=numpy.int64)
    into = numpy.zeros_like(weight), numpy.zeros_like(bias)
    value, grad, m, v = (numpy.ones(16, dtype=numpy.float32) for _ in range(4))
    (_, tanh), (_, linear), (_, fused) = (
        native.tanh(x),
        native.linear(x, weight, bias),
        native.linear_activation(x, weight, bias, "tanh"),
    )
    (_, mse), (_, entropy) = native.mse_loss(x, target), native.cross_entropy(x, labels)
    return {
        "numpy.empty": lambda: numpy.empty((4, 4), numpy.float32),
        "relu": lambda: native.relu(x),
        "tanh": lambda: native.tanh(x),
        "tanh_backward": lambda: native.tanh_backward(x, tanh),
        "gelu": lambda: native.gelu(x),
        "softmax": lambda: native.softmax(x),
        "matmul": lambda: native.matmul(x, weight),
        "linear": lambda: native.linear(x, weight, bias),
        "linear_backward": lambda: native.linear_backward(x, linear),
        "linear_backward into given arrays": lambda: native.linear_backward(x, linear, into),
        "linear_activation": lambda: native.linear_activation(x, weight, bias, "tanh"),
        "linear_activation_backward into given arrays": lambda: native.linear_activation_backward(
            x, fused, "tanh", into
        ),
        "mse_loss": lambda: native.mse_loss(x, target),
        "mse_loss_backward": lambda: native.mse_loss_backward(1.0, mse),
        "cross_entropy": lambda: native.cross_entropy(x, labels),
        "cross_entropy_backward": lambda: native.cross_entropy_backward(1.0, entropy),
        "sgd_update": lambda: native.sgd_update(value, grad, None, lr=0.0),
        "adam_update": lambda: native.adam_update(value, grad, m, v, None, lr=0.0, step=1),
    }


def training_step(fuse: bool) -> Callable[[], Any]:
    """Return a step of a 2-16-16-1 perceptron with tanh, mean squared error and SGD, batch 64."""
    random = numpy.random.default_rng(0)
    x, target = (random.normal(size=(64, n)).astype("float32") for n in (2, 1))
    model = dl.Sequential(dl.Linear(2, 16), dl.Tanh(), dl.Linear(16, 16), dl.Tanh(), dl.Linear(16, 1))
    model.fuse = fuse
    loss, optimizer = dl.MSELoss(), dl.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        loss.forward(model.forward(x), target)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Print the table."""
    print("| call | microseconds |\n|---|---:|")
    steps = {"a training step of 2-16-16-1": training_step(True), "the same, fuse = False": training_step(False)}
    for name, call in (calls() | steps).items():
        number = 100  # short turns, of which some are not interrupted
        print(f"| {name} | {min(timeit.repeat(call, number=number, repeat=1500)) / number * 1e6:.2f} |")


if __name__ == "__main__":
    main()
