"""What is bound by memory: layers for the board, and every such op beside the time that copying takes.

    python benchmarks/memory_bound.py                                    # on one thread
    python benchmarks/memory_bound.py --threads 2 --budget 0.2 --only adam,relu
    python benchmarks/memory_bound.py --markdown                         # into docs/board.md

An op must read its inputs and write its results, each once. So many bytes, half read and half written, are copied for
comparison, by ``memcpy`` on as many threads: that time divided by the op's is the share of the bound. The sizes are such
that all arrays lie in the L1, L2 or L3 cache, or in memory. In the L1 cache the call from Python, a tenth of a
microsecond, is most of the time.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy
from images import Shape, Step, jax_pool, numbers
from workload import on_engine

LEVELS = {"L1": 1 << 11, "L2": 1 << 15, "L3": 1 << 19, "memory": 1 << 24}
"""The elements of an array, by where four such arrays of float32 lie."""
COLUMNS = 256  # of what is normalised by rows
LEAST_TURNS = 6  # however small the budget: the first ones meet new pages
PAGE = Path(__file__).parents[1] / "docs" / "board.md"


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


def reading_rate(size: float, threads: int, seconds: float = 0.3) -> float:
    """Return the bytes per second at which threads together read so many bytes again and again; the best of several turns."""
    array = numpy.ones(max(int(size) // 4, 1), "float32")
    parts, best = numpy.array_split(array, threads), 0.0
    with ThreadPoolExecutor(threads) as pool:
        until = time.perf_counter() + seconds
        while not best or time.perf_counter() < until:
            start = time.perf_counter()
            list(pool.map(numpy.max, parts))
            best = max(best, array.nbytes / (time.perf_counter() - start))
    return best


def makers(layer: Layer, kind: str) -> dict[str, Callable[[], Step]]:
    """Make a layer's steps: forward, which returns y, or forward and all gradients ("both"), which returns both."""
    found = {"minidl": _minidl_layer, "torch": _torch_layer, "jax": _jax_layer}
    return {name: partial(make, layer, kind) for name, make in found.items()}


def _minidl_layer(layer: Layer, kind: str) -> Step:
    import minidl as dl

    forward, backward = getattr(dl.ops, layer.op), getattr(dl.ops, f"{layer.op}_backward")
    x, *own = map(on_engine, layer.arguments)
    dy = on_engine(numbers(3, *forward(x, *layer.settings, *own)[0].shape))

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


# the table ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """An op over n elements: how many arrays of n elements it reads and writes, and the function that makes the call."""

    name: str
    arrays: float
    make: Callable[[Any, int], Step]


def passes() -> Iterator[Pass]:
    """Yield everything that is measured."""
    from minidl.engines.compositions import FUSIBLE

    for op in FUSIBLE:
        yield from _both(op, lambda n: (numbers(0, n),), 2, 3)
    yield from _both("softmax", _rows, 2, 3)
    yield from _both("layer_norm", lambda n: (*_rows(n), (COLUMNS,), *_ones(COLUMNS)), 2, 3)
    yield from _both("rms_norm", lambda n: (*_rows(n), (COLUMNS,), _ones(COLUMNS)[0]), 2, 3)
    yield from _both("batch_norm", lambda n: (numbers(0, 2, 16, n // 32), *_ones(16)), 2, 3)
    yield Pass("dropout", 2 + 1 / 4, lambda engine, n: partial(engine.dropout, numbers(0, n), 0.5, _generator()))
    yield Pass("cross_entropy", 2, _cross_entropy)
    for name, op, states, settings in [
        ("SGD", "sgd_update", 0, {}),
        ("SGD with momentum", "sgd_update", 1, {"momentum": 0.9}),
        ("Adagrad", "adagrad_update", 1, {"step": 5}),
        ("RMSprop", "rmsprop_update", 1, {}),
        ("Adam", "adam_update", 2, {"step": 5}),
    ]:
        yield Pass(name, 3 + 2 * states, partial(_update, op, states, settings))


def _both(op: str, arguments: Callable[[int], tuple[Any, ...]], forward: int, backward: int) -> Iterator[Pass]:
    """Yield the forward of an op and its backward, which moves dy, dx and what the forward kept."""

    def make_backward(engine: Any, n: int) -> Step:
        y, cache = getattr(engine, op)(*arguments(n))
        return partial(getattr(engine, f"{op}_backward"), numbers(3, *y.shape), cache)

    yield Pass(op, forward, lambda engine, n: partial(getattr(engine, op), *arguments(n)))
    yield Pass(f"{op} backward", backward, make_backward)


def _rows(n: int) -> tuple[Any]:
    return (numbers(0, n // COLUMNS, COLUMNS),)


def _ones(size: int) -> tuple[Any, Any]:
    return numpy.ones(size, "float32"), numpy.zeros(size, "float32")


def _generator() -> numpy.random.Generator:
    return numpy.random.default_rng(0)


def _cross_entropy(engine: Any, n: int) -> Step:
    (logits,) = _rows(n)
    return partial(engine.cross_entropy, logits, numpy.zeros(len(logits), "int64"))


def _update(op: str, states: int, settings: dict[str, Any], engine: Any, n: int) -> Step:
    """Make a step of an optimiser that leaves everything finite, however often it runs."""
    value, grad = numbers(0, n), numbers(1, n)
    state: list[Any] = [numpy.ones(n, "float32") for _ in range(states)]
    state += [None] * ({"sgd_update": 1, "adagrad_update": 1, "rmsprop_update": 3, "adam_update": 3}[op] - states)
    return partial(getattr(engine, op), value, grad, *state, lr=1e-6, **settings)


def fastest(step: Step, budget: float) -> float:
    """Return the least seconds of a call, within a budget; calls of a few microseconds are timed some at a time."""
    start = time.perf_counter()
    step()
    count = max(1, int(2e-5 / (time.perf_counter() - start)))
    best, turns, until = numpy.inf, 0, time.perf_counter() + budget
    while time.perf_counter() < until or turns < LEAST_TURNS:
        start = time.perf_counter()
        for _ in range(count):
            step()
        best, turns = min(best, (time.perf_counter() - start) / count), turns + 1
    return float(best)


def copying(size: int, threads: int, budget: float) -> float:
    """Return the seconds in which so many bytes are copied, half of them read, each thread with arrays of its own.

    The threads copy side by side for a while, so what it costs to hand out work is not in it.
    """
    found: list[float] = []

    def copy() -> None:
        source = numpy.ones(max(size // 2 // threads, 1), "uint8")
        target = source.copy()
        found.append(fastest(partial(numpy.copyto, target, source), budget))

    team = [threading.Thread(target=copy) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return max(found)


def lines(only: list[str], threads: int, budget: float) -> Iterator[str]:
    """Yield the table."""
    import minidl as dl

    engine = dl.engines.get("native")
    yield "| op | bytes an element |" + "".join(f" {level} us | of the bound |" for level in LEVELS)
    yield "|---|---:|" + "---:|---:|" * len(LEVELS)
    for one in passes():
        if not any(text in one.name for text in only):
            continue
        cells = [one.name, f"{4 * one.arrays:g}"]
        for n in LEVELS.values():
            took = fastest(one.make(engine, n), budget)
            cells += [f"{took * 1e6:.3g}", f"{copying(int(4 * one.arrays * n), threads, budget) / took:.0%}"]
        yield "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    import minidl as dl

    parser = argparse.ArgumentParser(description="What is bound by memory, beside copying the same bytes.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=0.1, help="seconds for each time in the table, and its copy")
    parser.add_argument("--only", default="", help="only ops whose names contain one of these")
    parser.add_argument(
        "--markdown", type=Path, nargs="?", const=PAGE, help="write into this processor's section; docs/board.md"
    )
    args = parser.parse_args()
    dl.set_num_threads(args.threads)
    found = []
    for line in lines(args.only.split(","), args.threads, args.budget):
        print(line, flush=True)
        found.append(line)
    if args.markdown:
        from board import processor
        from board_tables import write_section

        head = f"### {processor()}, {datetime.date.today()}"
        command = f"python benchmarks/memory_bound.py --threads {args.threads} --budget {args.budget} --markdown"
        write_section(args.markdown, "memory", processor(), [head, "", f"Printed by `{command}`:", "", *found])


if __name__ == "__main__":
    main()
