"""An activation's derivative and column sums after a layer's gradient: inside the product, or as steps of their own.

    python benchmarks/epilogues.py

In the backward pass of relu(x W1^T) W2^T, the gradient of the hidden layer is dy W2 times the derivative of ReLU. Its
sums over the batch are the gradient of the bias. The contenders take turns; the best of each is printed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy

import minidl as dl
from minidl import _native

SHAPES = ((32, 256, 512), (32, 10, 256), (128, 256, 512), (128, 10, 256), (512, 256, 512), (512, 10, 256))
RELU = 0  # its number in csrc/elementwise/activations.h


def contenders(batch: int, out: int, hidden: int) -> dict[str, Callable[[], Any]]:
    """Return the ways to compute the gradient of a hidden layer, for an upstream gradient of shape (batch, out)."""
    random, engine = numpy.random.default_rng(0), dl.engines.get("native")
    dy, weight = (random.normal(size=shape).astype("float32") for shape in ((batch, out), (out, hidden)))
    y, cache = engine.relu(random.normal(size=(batch, hidden)).astype("float32"))
    sums = numpy.zeros(hidden, "float32")
    ones = numpy.ones((batch, 1), "float32")
    dweight = numpy.zeros((hidden, 1), "float32")

    def product() -> Any:
        return engine.matmul(dy, weight)[0]

    def derivative() -> Any:
        return engine.relu_backward(product(), cache)

    def in_product(**more: Any) -> None:
        _native.gemm(1.0, dy, weight, 0.0, numpy.empty((batch, hidden), "float32"), derivative=RELU, saved=y, **more)

    return {
        "product": product,
        "derivative after": derivative,
        "derivative in it": in_product,
        "both after": lambda: engine.linear_backward(
            derivative(), (ones, dweight, True), (dweight, sums), False, (False, True, True)
        ),
        "both in it": lambda: in_product(column_sums=sums),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    for position, (batch, out, hidden) in enumerate(SHAPES):
        ways = contenders(batch, out, hidden)
        if position == 0:
            print(f"| batch x out x hidden | {' | '.join(ways)} |\n|---|{'---:|' * len(ways)}")
        best = dict.fromkeys(ways, numpy.inf)
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                best[name] = min(best[name], time.perf_counter() - start)
        print(f"| {batch} x {out} x {hidden} | {' | '.join(f'{1e6 * t:.1f}' for t in best.values())} |", flush=True)


if __name__ == "__main__":
    main()
