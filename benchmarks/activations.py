"""What activations cost on arrays of a million elements, beside PyTorch and beside copying the same bytes.

    python benchmarks/activations.py                     # the native engine
    python benchmarks/activations.py --against torch     # the extra 'peers'
    python benchmarks/activations.py --pool              # with and without recycling the memory of large arrays
    python benchmarks/activations.py --distances         # by how far into its page the result begins

The contenders take turns, round after round, with pauses in which the spinning threads of the previous one go to
sleep. In its turn each makes a few calls, and the fastest counts. Printed are the best of all rounds, how much longer
that is than copying as many bytes as the step must read and write, and PyTorch's best as a multiple of minidl's.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy

CALLS = 30
PAGE = 4096  # bytes
PAUSE = 0.25  # seconds; PyTorch's threads spin for 0.2


def activations() -> dict[str, tuple[Any, ...]]:
    """Return what is measured: every activation with its default settings, and GELU also in its other form."""
    from minidl.engines.compositions import FUSIBLE

    return dict.fromkeys(FUSIBLE, ()) | {"gelu (tanh)": ("tanh",)}


def steps(name: str, settings: tuple[Any, ...], x: numpy.ndarray, dy: numpy.ndarray) -> dict[str, Callable[[], Any]]:
    """Return minidl's forward, and its forward with backward."""
    from minidl import engines

    engine = engines.get("native") if engines.current().xp is numpy else engines.current()
    x, dy = map(engine.asarray, (x, dy))
    forward, backward = getattr(engine, name), getattr(engine, f"{name}_backward")

    def both() -> None:
        _, cache = forward(x, *settings)
        backward(dy, cache)

    return {"forward": lambda: forward(x, *settings), "both": both}


def torch_steps(
    name: str, settings: tuple[Any, ...], x: numpy.ndarray, dy: numpy.ndarray
) -> dict[str, Callable[[], Any]]:
    """Return the same of PyTorch."""
    import torch

    function = getattr(torch.nn.functional, name)
    input, upstream = torch.tensor(x, requires_grad=True), torch.tensor(dy)
    keywords = {"approximate": settings[0]} if settings else {}

    def both() -> None:
        input.grad = None
        function(input, **keywords).backward(upstream)

    def forward() -> None:
        with torch.no_grad():
            function(input, **keywords)

    return {"forward": forward, "both": both}


def jax_steps(
    name: str, settings: tuple[Any, ...], x: numpy.ndarray, dy: numpy.ndarray
) -> dict[str, Callable[[], Any]]:
    """Return the same of JAX, compiled."""
    import jax

    function = {"tanh": jax.numpy.tanh, "gelu": lambda x: jax.nn.gelu(x, approximate=settings == ("tanh",))}.get(name)
    function = function or getattr(jax.nn, name)
    input, upstream = jax.numpy.asarray(x), jax.numpy.asarray(dy)

    @jax.jit
    def both(x: Any, dy: Any) -> Any:
        y, backward = jax.vjp(function, x)
        return y, backward(dy)

    forward = jax.jit(function)
    return {
        "forward": lambda: forward(input).block_until_ready(),
        "both": lambda: jax.block_until_ready(both(input, upstream)),
    }


def measure(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return for each contender the milliseconds of its fastest call in every round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        before = ""
        for name, step in contenders.items():
            if before and name.split()[0] != before.split()[0]:
                time.sleep(PAUSE)
            before = name
            calls = []
            for _ in range(CALLS):
                start = time.perf_counter()
                step()
                calls.append(time.perf_counter() - start)
            times[name].append(min(calls) * 1e3)
        if len(contenders) > 2:
            time.sleep(PAUSE)
    return times


def copying(arrays: int, size: int, dtype: str) -> float:
    """Return the milliseconds that all threads take to copy the bytes of that many arrays: half read, half written."""
    from minidl import engines

    native = engines.get("native")
    source = numpy.ones(size * arrays // 2, dtype=dtype)
    best = []
    for _ in range(20):
        best += measure({"copy": lambda: native.relu(source)}, 1)["copy"]
        time.sleep(PAUSE)
    return min(best)


def compare(args: argparse.Namespace) -> None:
    """Print the table."""
    random = numpy.random.default_rng(0)
    x, dy = (random.normal(size=args.size).astype(args.dtype) for _ in range(2))
    floor = {"forward": copying(2, args.size, args.dtype), "both": copying(5, args.size, args.dtype)}
    peer = args.against == "torch"
    print(
        f"| {args.size} {args.dtype} | forward ms | x copy | with backward ms | x copy |"
        + peer * " PyTorch | with backward | ratio | ratio |"
    )
    print("|---|---:|---:|---:|---:|" + peer * "---:|---:|---:|---:|")
    for label, settings in activations().items():
        if args.only and label not in args.only:
            continue
        name = label.split()[0]
        contenders = {f"minidl {kind}": step for kind, step in steps(name, settings, x, dy).items()}
        if peer:
            contenders |= {f"torch {kind}": step for kind, step in torch_steps(name, settings, x, dy).items()}
        times = measure(contenders, args.rounds)
        row = f"| {label} |"
        for kind in ("forward", "both"):
            best = min(times[f"minidl {kind}"])
            row += f" {best:.3f} | {best / floor[kind]:.1f} |"
        if peer:
            row += "".join(f" {min(times[f'torch {kind}']):.3f} |" for kind in ("forward", "both"))
            for kind in ("forward", "both"):
                row += f" {min(times[f'torch {kind}']) / min(times[f'minidl {kind}']):.2f} |"
        print(row, flush=True)


def pool(args: argparse.Namespace) -> None:
    """Print what recycling large arrays saves."""
    import minidl as dl

    print("| elements | memory | relu and its backward, ms | page faults a step |\n|---:|---|---:|---:|")
    for size in (1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24):
        x = numpy.random.default_rng(0).normal(size=size).astype(args.dtype)
        step = steps("relu", (), x, x)["both"]
        for label, limit in (("from the system each time", 0), ("recycled", 1 << 30)):
            dl.engines.native.set_memory_limit(limit)
            step()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            best = min(measure({"step": step}, args.rounds)["step"])
            faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (args.rounds * CALLS)
            print(f"| {size} | {label} | {best:.3f} | {faults:.0f} |", flush=True)


DISTANCES = (48, 112, 304, 560, 1072, 2096, 3120, 4064)


def distances(args: argparse.Namespace) -> None:
    """Print what 4K aliasing costs: loads that wait because the lowest 12 bits of a recent store's address match."""
    from minidl import engines

    x = numpy.random.default_rng(0).normal(size=args.size).astype(args.dtype)
    room = numpy.empty(x.nbytes + 3 * PAGE, dtype=numpy.uint8)
    engine, names = engines.get("native"), ("relu", "sigmoid", "tanh")
    found: dict[tuple[int, str], list[float]] = {}
    for _ in range(args.rounds):
        for distance in DISTANCES:
            offset = (engine.relu(x)[0].ctypes.data - distance - room.ctypes.data) % PAGE
            near = room[offset : offset + x.nbytes].view(x.dtype)
            near[...] = x
            for name in names:
                best = measure({name: lambda name=name, near=near: getattr(engine, name)(near)}, 2)[name]
                found.setdefault((distance, name), []).append(min(best))
    print(f"| bytes | {' | '.join(f'{name} ms' for name in names)} |\n|---:|---:|---:|---:|")
    for distance in DISTANCES:
        print(f"| {distance} | {' | '.join(f'{min(found[distance, name]):.3f}' for name in names)} |")


def main() -> None:
    """Read the command line and print the tables."""
    import minidl as dl

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", default="", choices=["", "torch"])
    parser.add_argument("--size", type=int, default=1 << 20)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="measure these, such as tanh 'gelu (tanh)'")
    parser.add_argument("--pool", action="store_true", help="show what recycling large arrays saves")
    parser.add_argument(
        "--distances", action="store_true", help="show what the position of the result in its page costs"
    )
    args = parser.parse_args()
    dl.set_num_threads(args.threads)
    if args.against == "torch":
        import torch

        torch.set_num_threads(args.threads)
        print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}", end="; ")
    print(dl.engines.engines()["native"])
    (pool if args.pool else distances if args.distances else compare)(args)


if __name__ == "__main__":
    main()
