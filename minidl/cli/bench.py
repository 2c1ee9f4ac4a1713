"""``minidl bench``: time a training step on each engine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy

import minidl
from minidl import engines, layers, models
from minidl.cli.arguments import whole

__all__ = ["add_arguments", "run", "step_times", "times_of"]

MODELS = ([1, 1], [2, 16, 16, 1], [64, 128, 64, 10], [784, 512, 256, 10])
ROUNDS = 9
SECONDS = 0.03
"""Duration of one turn of an engine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--batch-size", type=whole, default=128)
    parser.add_argument("--threads", type=whole, help="threads of the native engine (default: one for each core)")


def run(args: argparse.Namespace) -> int:
    """Print a table: a row for each model, a column for each engine."""
    if args.threads is not None:
        engines.set_num_threads(args.threads)
    names = [name for name, status in engines.engines().items() if status.available]
    print("milliseconds per training step (forward, loss, backward, Adam), best of many, the engines take turns")
    print(f"batch {args.batch_size}, {engines.get_num_threads()} threads in the native engine")
    print("perceptron".ljust(18) + "".join(name.rjust(12) for name in names))
    for sizes in MODELS:
        times = step_times(sizes, args.batch_size)
        print("-".join(map(str, sizes)).ljust(18) + "".join(f"{times[name]:12.4f}" for name in names))
    print("compare with PyTorch and JAX: python benchmarks/board.py --against torch,jax, in the source repository")
    return 0


def step_times(sizes: list[int], batch_size: int) -> dict[str, float]:
    """Return the best times of a training step of a perceptron; see :func:`times_of`."""
    return times_of(lambda: models.mlp(sizes), (sizes[0],), sizes[-1], batch_size)


def times_of(
    make: Callable[[], models.Sequential], shape: tuple[int, ...], outputs: int, batch_size: int
) -> dict[str, float]:
    """Return the best time of a training step in milliseconds, for each engine that is available here."""
    usable = [name for name, status in engines.engines().items() if status.available]
    steps = {name: _step(make, shape, outputs, batch_size, name) for name in usable}
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(ROUNDS):
        for name, step in steps.items():
            with engines.use(name) as engine:
                stop = time.perf_counter() + SECONDS
                while True:
                    start = time.perf_counter()
                    step()
                    engine.synchronize()
                    now = time.perf_counter()
                    best[name] = min(best[name], (now - start) * 1e3)
                    if now >= stop:
                        break
    return best


def _step(
    make: Callable[[], models.Sequential], shape: tuple[int, ...], outputs: int, batch_size: int, name: str
) -> Callable[[], None]:
    """Return one training step on an engine, of a classifier or, with a single output, a regression."""
    random = numpy.random.default_rng(0)
    with engines.use(name) as engine:
        model = make()
        optimizer = minidl.Adam(model.parameters())
        x = engine.asarray(random.normal(size=(batch_size, *shape)).astype("float32"))
        loss: layers.Loss
        if outputs == 1:
            loss, y = layers.MSELoss(), engine.asarray(random.normal(size=(batch_size, 1)).astype("float32"))
        else:
            loss, y = layers.CrossEntropyLoss(), engine.asarray(random.integers(0, outputs, batch_size))

    def step() -> None:
        loss.forward(model.forward(x), y)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()

    return step
