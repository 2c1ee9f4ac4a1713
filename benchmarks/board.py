"""The board: what a training step costs, engine beside engine and beside PyTorch and JAX, in one run.

    python benchmarks/board.py                           # engines only
    python benchmarks/board.py --against torch,jax       # the extra 'peers'
    python benchmarks/board.py --against torch --markdown docs/board.md --json board.json

Every contender runs the same step (forward, loss, backward, optimiser) on the same numbers through its ordinary interface.
They take turns, round after round, so that a machine whose speed drifts is unfair to all alike; printed are the best and
the median over the rounds, and the ratio of the medians to minidl's fastest engine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy
import workloads

import minidl


@dataclass
class Figure:
    """One contender's times for one workload, in milliseconds a step."""

    workload: str
    contender: str
    best: float
    median: float
    gflops: float


def measure(workload: workloads.Workload, contenders: list[str], rounds: int, budget: float) -> list[Figure]:
    """Time all contenders in turn; each round of a contender lasts about ``budget`` seconds."""
    steps: dict[str, Callable[[], None]] = {name: workload.make(name) for name in contenders if workload.has(name)}
    counts = {}
    for name, step in steps.items():
        for _ in range(3):
            step()
        start = time.perf_counter()
        step()
        counts[name] = max(1, int(budget / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                step()
            times[name].append((time.perf_counter() - start) / counts[name] * 1e3)
    return [
        Figure(workload.name, name, min(t), statistics.median(t), workload.flops / min(t) / 1e6)
        for name, t in times.items()
    ]


def import_cost(module: str) -> tuple[float, float]:
    """Return the milliseconds and MiB that importing a module takes in a fresh interpreter, best of five."""
    code = (
        "import time, resource; s = time.perf_counter(); "
        f"import {module}; e = time.perf_counter(); "
        "print((e - s) * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    runs = [
        tuple(map(float, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                        cwd="/").stdout.split()))
        for _ in range(5)
    ]  # fmt: skip
    return min(run[0] for run in runs), min(run[1] for run in runs)


def header(contenders: list[str], threads: int) -> list[str]:
    """Say on what all this was measured."""
    lines = [
        f"{processor()}, {os.cpu_count()} processors, {threads} threads, {platform.system()}, "
        f"Python {platform.python_version()}, NumPy {numpy.__version__}, minidl {minidl.__version__}"
    ]
    for name in contenders:
        if name in ("torch", "jax"):
            lines.append(f"{name} {importlib.import_module(name).__version__}")
    lines += [str(status) for status in minidl.engines().values()]
    return lines


def processor() -> str:
    """Return the processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()


def table(figures: list[Figure]) -> list[str]:
    """Return Markdown rows; the ratio is to the best minidl engine in the same workload."""
    lines = [
        "| workload | contender | best ms | median ms | GFLOP/s | times minidl's best |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for figure in figures:
        own = min(f.median for f in figures if f.workload == figure.workload and f.contender.startswith("minidl"))
        gflops = f"{figure.gflops:.1f}" if figure.gflops else ""
        lines.append(
            f"| {figure.workload} | {figure.contender} | {figure.best:.4g} | {figure.median:.4g} | {gflops} | "
            f"{figure.median / own:.2f} |"
        )
    return lines


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", default="", help="peers to run beside minidl: torch,jax")
    parser.add_argument("--only", default="", help="run only workloads whose name contains this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=0.15, help="seconds a contender and round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    return parser.parse_args()


def main() -> None:
    """Run the board."""
    args = arguments()
    peers = [name for name in args.against.split(",") if name]
    for name in peers:
        if importlib.util.find_spec(name) is None:
            sys.exit(f"board: {name} is not installed; pip install 'minidl[peers]'")
    minidl.set_num_threads(args.threads)
    workloads.set_threads(peers, args.threads)
    contenders = [f"minidl {name}" for name, status in minidl.engines().items() if status] + peers
    lines = header(contenders, args.threads)
    print("\n".join(lines), flush=True)
    figures: list[Figure] = []
    for workload in workloads.ALL:
        if args.only in workload.name:
            new = measure(workload, contenders, args.rounds, args.budget)
            print("\n".join(table(new)[0 if not figures else 2 :]), flush=True)
            figures += new
    imports = {name: import_cost(name) for name in ["numpy", "minidl", *peers]}
    cost = ["| import | ms | MiB resident |", "|---|---:|---:|"]
    cost += [f"| {name} | {ms:.0f} | {mib:.0f} |" for name, (ms, mib) in imports.items()]
    print("\n".join(cost))
    if args.json:
        args.json.write_text(json.dumps({"header": lines, "figures": [asdict(f) for f in figures]}, indent=1))
    if args.markdown:
        command = "python benchmarks/board.py " + (f"--against {args.against}" if args.against else "")
        text = ["# The board", "", f"Printed by `{command.strip()}`:", "", *[f"- {line}" for line in lines], ""]
        args.markdown.write_text("\n".join([*text, *table(figures), "", *cost, ""]))


if __name__ == "__main__":
    main()
