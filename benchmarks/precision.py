"""Products in bfloat16, and linear layers with weights of 16 and 8 bits: speed, and accuracy on Fashion-MNIST.

    python benchmarks/precision.py                            # products: float32 and bfloat16 in turn, and the limits
    python benchmarks/precision.py --step --against torch     # a training step of 1024-4096-1024-10 at batch 512
    python benchmarks/precision.py --stored                   # one row through 4096 x 4096 weights
    MINIDL_DATA=FOLDER python benchmarks/precision.py --fashion mlp --seeds 3

The contenders take turns in one process. The best and the median of each one's turns are printed; trust their ratios. The
limits are loops of multiply-adds in registers, of float32 and of bfloat16, timed in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import itertools
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy

import minidl as dl

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

Call = Callable[[], object]
Times = dict[str, tuple[float, float]]


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def in_turns(calls: dict[str, Call], rounds: int) -> Times:
    """Return the best and the median seconds of each contender, of so many turns with three calls each."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            best = float("inf")
            for _ in range(3):
                start = time.perf_counter()
                call()
                best = min(best, time.perf_counter() - start)
            found[name].append(best)
    return {name: (min(times), statistics.median(times)) for name, times in found.items()}


def in_bfloat16(call: Call) -> Call:
    """Return the same call with products in bfloat16."""

    def run() -> object:
        with dl.matmul_precision("bfloat16"):
            return call()

    return run


def limits() -> tuple[float, float]:
    """Return the operations per second of one thread that only multiplies and adds: float32 and bfloat16."""
    from minidl import _native

    def best(loop: Callable[[int], float]) -> float:
        rates = []
        for _ in range(50):
            start = time.perf_counter()
            rates.append(loop(10_000) / (time.perf_counter() - start))
        return max(rates)

    return best(_native.gemm_limit), best(_native.bfloat16_limit)


def products(sizes: list[int], rounds: int, against: bool) -> Iterator[str]:
    """Yield the table of square products."""
    threads = dl.get_num_threads()
    single, low = (limit * threads / 1e9 for limit in limits())
    yield f"limits: float32 {single:.0f}, bfloat16 {low:.0f} GFLOP/s"
    other = " PyTorch bfloat16 | ours / PyTorch |" if against else ""
    yield f"| size | layout | float32 GFLOP/s | bfloat16 GFLOP/s (median) | of the limit | bfloat16 / float32 (medians) |{other}"
    yield "|---|---|--:|--:|--:|--:|" + "--:|--:|" * against
    random = numpy.random.default_rng(0)
    native = dl.engines.get("native")
    for size in sizes:
        a, b = (random.standard_normal((size, size), dtype="f") for _ in range(2))
        c = numpy.empty_like(a)
        for layout in ("NN", "NT", "TN"):
            turned = [letter == "T" for letter in layout]

            def multiply(turned: list[bool] = turned, a: Any = a, b: Any = b, c: Any = c) -> None:
                native.matmul(a, b, *turned, out=c)

            calls: dict[str, Call] = {"float32": multiply, "bfloat16": in_bfloat16(multiply)}
            if against:
                import torch

                left, right = (torch.from_numpy(x.T if t else x) for x, t in zip((a, b), turned, strict=True))

                def by_torch(left: Any = left, right: Any = right) -> Any:
                    with torch.autocast("cpu", torch.bfloat16):  # which rounds its operands at each call, as we do
                        return torch.mm(left, right)

                calls["torch"] = by_torch
            times = in_turns(calls, rounds)
            operations = 2e-9 * size**3
            (single_best, single_median), (low_best, low_median) = times["float32"], times["bfloat16"]
            line = (
                f"| {size} | {layout} | {operations / single_best:.0f} | {operations / low_best:.0f} "
                f"({operations / low_median:.0f}) | {operations / low_best / low:.0%} | "
                f"{single_best / low_best:.2f} ({single_median / low_median:.2f}) |"
            )
            if against:
                line += f" {operations / times['torch'][0]:.0f} | {times['torch'][0] / low_best:.2f} |"
            yield line


def step(
    rounds: int, against: bool, widths: tuple[int, ...] = (1024, 4096, 1024, 10), batch: int = 512
) -> Iterator[str]:
    """Yield the times of one training step with SGD: forward, loss, backward, update."""
    random = numpy.random.default_rng(0)
    x, target = random.standard_normal((batch, widths[0]), dtype="f"), random.integers(0, widths[-1], batch)
    layers: list[Any] = []
    for into, out in itertools.pairwise(widths):
        layers += [dl.Linear(into, out), dl.ReLU()]
    model, loss = dl.Sequential(*layers[:-1]), dl.CrossEntropyLoss()
    optimizer = dl.SGD(model.parameters(), lr=0.01)

    def ours() -> None:
        loss.forward(model.forward(x), target)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()

    calls: dict[str, Call] = {"minidl float32": ours, "minidl bfloat16": in_bfloat16(ours)}
    if against:
        calls |= torch_steps(x, target, widths)
    times = in_turns(calls, rounds)
    best, median = times["minidl bfloat16"]
    yield f"| step of {'-'.join(map(str, widths))} at batch {batch} | ms, best (median) | times the bfloat16 step's (medians) |"
    yield "|---|--:|--:|"
    for name, (its, typical) in times.items():
        yield f"| {name} | {its * 1e3:.1f} ({typical * 1e3:.1f}) | {its / best:.2f} ({typical / median:.2f}) |"


def torch_steps(x: numpy.ndarray, target: numpy.ndarray, widths: tuple[int, ...]) -> dict[str, Call]:
    """Return PyTorch's step in float32, and under autocast."""
    import torch

    layers: list[Any] = []
    for into, out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(into, out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs, classes = torch.from_numpy(x), torch.from_numpy(target)

    def run(low: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            value = torch.nn.functional.cross_entropy(model(inputs), classes)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return {"torch float32": lambda: run(False), "torch autocast": lambda: run(True)}


def stored(rounds: int, size: int = 4096) -> Iterator[str]:
    """Yield the times of some rows through a linear layer whose weights exceed the cache."""
    from minidl.layers import StoredLinear

    random = numpy.random.default_rng(0)
    names = ("float32 us", "bfloat16", "float16", "int8", "bfloat16, x rounded too")
    yield f"| rows of {size} x {size} weights | " + " | ".join(names) + " |"
    yield "|---|--:|--:|--:|--:|--:|"
    plain = dl.Linear(size, size)
    layers = {"float32": plain, **{name: StoredLinear(plain, name) for name in ("bfloat16", "float16", "int8")}}
    for rows in (1, 4, 16, 128):
        x = random.standard_normal((rows, size), dtype="f")

        def runs(layer: Any, precision: str = "highest", x: Any = x) -> Call:
            def call() -> Any:
                with dl.matmul_precision(precision):
                    return layer.forward(x)

            return call

        with dl.inference():
            calls = {name: runs(layer) for name, layer in layers.items()}
            times = in_turns({**calls, "rounded": runs(layers["bfloat16"], "bfloat16")}, rounds)
        base = times["float32"]
        cells = [f"{base[0] * 1e6:.0f} ({base[1] * 1e6:.0f})"]
        cells += [f"{base[0] / best:.2f} times ({base[1] / median:.2f})" for best, median in list(times.values())[1:]]
        yield f"| {rows} | " + " | ".join(cells) + " |"


def fashion(name: str, seeds: int, epochs: int | None) -> Iterator[str]:
    """Yield test accuracies on Fashion-MNIST of models trained in float32 and in bfloat16, from the same seeds."""
    import fashion_mnist as example

    make, recipe = example.RECIPES[name]
    recipe = {**recipe, "epochs": epochs or recipe["epochs"]}
    data = dl.data.fashion_mnist()
    yield f"{name}, {recipe['epochs']} epochs as in examples/fashion_mnist.py; test accuracy in percent"
    yield "| seed | float32 | bfloat16 | float32, then stored in bfloat16 | then in int8 |"
    yield "|---|--:|--:|--:|--:|"
    found: list[list[float]] = []
    for seed in range(seeds):
        row = []
        for precision in ("bfloat16", "highest"):
            dl.seed(seed)
            model = make()
            with dl.matmul_precision(precision), contextlib.redirect_stdout(io.StringIO()):
                row.insert(0, 100 * example.train(model, data, **recipe))
        for dtype in ("bfloat16", "int8"):
            smaller = dl.store_weights(copy.deepcopy(model), dtype)
            classes = example.predict(smaller, data.as_floats()[1]).argmax(axis=1)
            row.append(100 * float(numpy.mean(classes == data.test_labels)))
        found.append(row)
        yield f"| {seed} | " + " | ".join(f"{value:.2f}" for value in row) + " |"
    columns = numpy.array(found)
    yield "| mean | " + " | ".join(f"{value:.2f}" for value in columns.mean(axis=0)) + " |"
    if seeds > 1:
        deviations = columns.std(axis=0, ddof=1)
        yield "| standard deviation over seeds | " + " | ".join(f"{value:.2f}" for value in deviations) + " |"


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=dl.get_num_threads())
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512, 1024, 2048])
    parser.add_argument("--rounds", type=int, default=10, help="turns of each contender")
    parser.add_argument("--against", choices=["torch"], help="measure PyTorch too, under autocast")
    parser.add_argument("--step", action="store_true", help="a training step instead of products")
    parser.add_argument("--stored", action="store_true", help="linear layers with stored weights instead")
    parser.add_argument("--fashion", choices=["mlp", "lenet", "resnet"], help="accuracies on Fashion-MNIST instead")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    dl.set_num_threads(arguments.threads)
    if arguments.against:
        import torch

        torch.set_num_threads(arguments.threads)
    info = dl.engines.native.info()
    print(
        f"{processor()}, {arguments.threads} threads; bfloat16 by {info['bfloat16 products']}, int8 by {info['int8 products']}"
    )
    if arguments.fashion:
        lines = fashion(arguments.fashion, arguments.seeds, arguments.epochs)
    elif arguments.stored:
        lines = stored(arguments.rounds)
    elif arguments.step:
        lines = step(arguments.rounds, bool(arguments.against))
    else:
        lines = products(arguments.sizes, arguments.rounds, bool(arguments.against))
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
