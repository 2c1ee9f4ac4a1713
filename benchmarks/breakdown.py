"""Where the time of a training step goes: each op of the native engine beside the least that it could take.

    python benchmarks/breakdown.py                               # the 784-512-256-10 perceptron, batch 32, 128 and 512
    python benchmarks/breakdown.py --only "batch 128, SGD"       # any training step of the board
    python benchmarks/breakdown.py --markdown                    # into docs/board.md

Every op of the engine is timed; the least over many steps is shown, for each op and for the whole. Three columns
stand beside it. "Products alone" is the same matrix products by themselves; an op takes longer because of epilogues
and of operands that are not in cache. "At the limit" is the operations at the rate of multiply-adds in registers on
all threads. "Copying" is the bytes of all arrays that the op must read or write, at the rate of copying.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import activations
import gemm
import numpy
import workloads
from board_tables import write

import minidl as dl

Product = tuple[str, str]  # MxKxN and layout
PAGE = Path(__file__).parents[1] / "docs" / "board.md"
MARKS = "<!-- breakdown: begin -->", "<!-- breakdown: end -->"


@dataclass
class Call:
    """One op in one step."""

    op: str
    seconds: float
    bytes: int = 0
    products: list[Product] = field(default_factory=list)

    @property
    def flops(self) -> float:
        """The operations of its products."""
        return sum(2.0 * math.prod(map(int, shape.split("x"))) for shape, _ in self.products)


def arrays_in(value: Any) -> Iterator[numpy.ndarray]:
    """Yield the arrays in arguments or results, however nested."""
    if isinstance(value, numpy.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from arrays_in(part)


def traffic(op: str, args: tuple[Any, ...], result: Any) -> int:
    """Return the bytes of every array once; an update reads and writes all but the gradient."""
    sizes = {a.__array_interface__["data"]: a.nbytes for a in arrays_in([args, result])}
    if op.endswith("_update"):
        return 2 * sum(sizes.values()) - args[1].nbytes
    return sum(sizes.values())


def products(op: str, args: tuple[Any, ...]) -> list[Product]:
    """Return the matrix products that an op is made of."""
    if op in ("linear", "linear_activation"):
        x, weight = args[:2]
        outputs, inputs = weight.shape
        return [(f"{x.size // inputs}x{inputs}x{outputs}", "NT")]  # x W^T
    if op in ("linear_backward", "linear_activation_backward"):
        dy, cache, *_, wanted = args
        weight = (cache if op == "linear_backward" else cache[0])[1]
        outputs, inputs = weight.shape
        rows = dy.size // outputs
        dweight, dx = (f"{outputs}x{rows}x{inputs}", "TN"), (f"{rows}x{outputs}x{inputs}", "NN")  # dy^T x; dy W
        return [product for product, asked in ((dweight, wanted[1]), (dx, wanted[0])) if asked]
    return []


class Watched(dl.engines.Engine):
    """The native engine, with a clock around every op."""

    def __init__(self) -> None:
        native = dl.engines.get("native")
        kernels = [name for name, how in native.coverage().items() if how == "kernel"]
        names = [name for name in kernels if not name.startswith("linear_stack")]  # which is split into its ops
        clocked = {name: self._clocked(name, getattr(native, name)) for name in names}
        super().__init__("native", kernels=clocked, activations=native.activations)
        self.calls: list[tuple[str, float, tuple[Any, ...], Any]] = []

    def _clocked(self, name: str, op: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(op)  # the engine reads its arguments
        def clocked(*args: Any, **settings: Any) -> Any:
            start = time.perf_counter()
            result = op(*args, **settings)
            self.calls.append((name, time.perf_counter() - start, args, result))
            return result

        return clocked


def fastest(workload: workloads.Workload, seconds: float) -> tuple[float, float, list[Call]]:
    """Return the least time of a step, of the Python between its ops, and of each op, over so many seconds."""
    watched = Watched()
    with dl.use(watched):
        step = workload.makers["minidl"]()
        best, between, least, until = math.inf, math.inf, numpy.inf, time.perf_counter() + seconds
        while time.perf_counter() < until:
            watched.calls.clear()
            start = time.perf_counter()
            step()
            took = time.perf_counter() - start
            times = numpy.array([seconds for _, seconds, _, _ in watched.calls])
            best, between, least = min(best, took), min(between, took - times.sum()), numpy.minimum(least, times)
    calls = [
        Call(name, seconds, traffic(name, args, result), products(name, args))
        for seconds, (name, _, args, result) in zip(least, watched.calls, strict=True)
    ]
    return best, between, calls


def alone(call: Call, seconds: float = 0.8) -> float:
    """Return the least seconds that the products of an op take by themselves."""
    total = 0.0
    for product in call.products:
        multiply = gemm.contenders(*product, ["minidl"])["minidl"]
        best, until = math.inf, time.perf_counter() + seconds
        while time.perf_counter() < until:
            best = min(best, gemm.timed(multiply, 1))
        total += best
    return total


def hand_over() -> float:
    """Return the seconds that it costs to hand half of the work to a second thread."""
    x, threads, best = numpy.ones(1 << 17, numpy.float32), dl.get_num_threads(), {}
    for n in (1, 2):
        dl.set_num_threads(n)
        best[n] = min(gemm.timed(lambda: dl.engines.get("native").tanh(x), 1) for _ in range(3000))
    dl.set_num_threads(threads)
    return best[2] - best[1] / 2


def row(name: str, found: numpy.ndarray, total: float) -> str:
    """Return a line of the table."""
    seconds, flops, own, least, size, copying = found
    cells = [name, f"{seconds * 1e3:.3g}", f"{seconds / total:.0%}", f"{flops / seconds / 1e9:.0f}" if flops else ""]
    cells += [f"{own * 1e3:.3g}", f"{least * 1e3:.3g}"] if flops else ["", ""]
    return "| " + " | ".join([*cells, f"{size / 1e6:.2f}", f"{copying * 1e3:.3g}" if copying else ""]) + " |"


def breakdown(workload: workloads.Workload, limit: float, seconds: float) -> Iterator[str]:
    """Yield the table of one workload."""
    total, between, calls = fastest(workload, seconds)
    yield from ["", f"### {workload.name}", ""]
    yield "| op | ms | of the step | GFLOP/s | products alone ms | at the limit ms | MB | copying ms |"
    yield "|---|" + "---:|" * 7
    sums = numpy.zeros(6)
    for call in calls:
        copying = activations.copying(1, call.bytes // 4, "float32") / 1e3 if call.bytes >= 1 << 16 else 0.0
        found = numpy.array([call.seconds, call.flops, alone(call), call.flops / limit, call.bytes, copying])
        yield row(call.op + "".join(f" {shape}" for shape, _ in call.products[:1]), found, total)
        sums += found
    yield row("all ops", sums, total)
    yield f"| Python between them | {between * 1e3:.3g} | {between / total:.0%} | | | | | |"
    rate = workload.flops / total
    yield f"| the step | {total * 1e3:.3g} | | {rate / 1e9:.0f}, {rate / limit:.0%} of the limit | | | | |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="784-512-256-10 relu, batch 32, Adam;batch 128, Adam;batch 512, Adam")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each step is repeated")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--markdown", type=Path, nargs="?", const=PAGE, help="write between two marks; docs/board.md")
    args = parser.parse_args()
    dl.set_num_threads(args.threads)
    limit = gemm.limit() * args.threads
    lines = [f"{args.threads} threads, limit {limit / 1e9:.0f} GFLOP/s"]
    if args.threads > 1:
        lines[0] += f"; handing a part to a second thread costs {hand_over() * 1e6:.1f} microseconds"
    print(lines[0])
    for workload in workloads.ALL:
        if workload.part.startswith("Training steps") and any(text in workload.name for text in args.only.split(";")):
            for line in breakdown(workload, limit, args.seconds):
                print(line, flush=True)
                lines.append(line)
    if args.markdown:
        write(args.markdown, ["Printed by `python benchmarks/breakdown.py --markdown`:", "", *lines], *MARKS)


if __name__ == "__main__":
    main()
