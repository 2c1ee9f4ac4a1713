"""The board: what a training step costs, engine beside engine and beside PyTorch and JAX, in one run.

    python benchmarks/board.py                           # engines only
    python benchmarks/board.py --against torch,jax       # the extra 'peers'
    python benchmarks/board.py --against torch,jax --markdown docs/board.md --json board.json

Every contender runs the same step (forward, loss, backward, optimiser) on the same numbers through its ordinary interface, in
a process of its own, because idle threads of one library that keep a processor busy would be counted against the next. The
processes take turns, round after round, so that a machine whose speed drifts is unfair to all alike. Printed are the best
and the median over the rounds, the ratio of the medians to minidl's fastest engine, and each process's peak memory.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy
import workloads
from board_memory import peak_mib

import minidl

SETTLE = 0.15
"""Seconds between two turns: idle threads of some libraries keep a processor busy for a while."""


@dataclass
class Figure:
    """One contender's times for one workload, in milliseconds a step, and its process's peak memory."""

    workload: str
    contender: str
    best: float
    median: float
    gflops: float
    peak_mib: float


class Runner:
    """A process that runs one contender's step when it is told to, and sleeps otherwise."""

    def __init__(self, workload: str, contender: str, threads: int) -> None:
        self.contender = contender
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        environment["OMP_NUM_THREADS"] = str(threads)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", workload, contender, "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, seconds: float) -> dict[str, float]:
        """Run steps for about this long; return milliseconds a step and the peak memory so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"board: {self.contender} failed")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve(workload: str, contender: str, threads: int) -> None:
    """Be a runner: for each number of seconds read, run steps for that long and print what a step took."""
    peers = [contender] if contender in ("torch", "jax") else []
    workloads.set_threads(peers, threads)
    minidl.set_num_threads(threads)
    step = next(w for w in workloads.ALL if w.name == workload).make(contender)
    for _ in range(5):
        step()
    for line in sys.stdin:
        start, count, until = time.perf_counter(), 0, time.perf_counter() + float(line)
        batch = 1
        while time.perf_counter() < until:
            for _ in range(batch):
                step()
            count += batch
            batch = min(2 * batch, 64) if (time.perf_counter() - start) / count < 1e-4 else 1
        took = (time.perf_counter() - start) / count * 1e3
        print(json.dumps({"ms": took, "peak_mib": peak_mib()}), flush=True)


def measure(
    workload: workloads.Workload, contenders: list[str], rounds: int, seconds: float, threads: int
) -> list[Figure]:
    """Time all contenders in turn."""
    runners = [Runner(workload.name, name, threads) for name in contenders if workload.has(name)]
    answers: dict[str, list[Any]] = {runner.contender: [] for runner in runners}
    for runner in runners:
        runner.ask(seconds)
    for _ in range(rounds):
        for runner in runners:
            time.sleep(SETTLE)
            answers[runner.contender].append(runner.ask(seconds))
    for runner in runners:
        runner.close()
    figures = []
    for name, found in answers.items():
        times = [answer["ms"] for answer in found]
        figures.append(
            Figure(workload.name, name, min(times), statistics.median(times), workload.flops / min(times) / 1e6,
                   max(answer["peak_mib"] for answer in found))
        )  # fmt: skip
    return figures


def import_cost(module: str) -> tuple[float, float]:
    """Return the milliseconds and MiB that importing a module takes in a fresh interpreter, best of five."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r}); start = time.perf_counter(); "
        f"import {module}; took = (time.perf_counter() - start) * 1e3; from board_memory import peak_mib; "
        "print(took, peak_mib())"
    )
    runs = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
        runs.append([float(number) for number in done.stdout.split()])
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
        "| workload | contender | best ms | median ms | GFLOP/s | times minidl's best | peak MiB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for figure in figures:
        own = min(f.median for f in figures if f.workload == figure.workload and f.contender.startswith("minidl"))
        gflops = f"{figure.gflops:.1f}" if figure.gflops else ""
        lines.append(
            f"| {figure.workload} | {figure.contender} | {figure.best:.4g} | {figure.median:.4g} | {gflops} | "
            f"{figure.median / own:.2f} | {figure.peak_mib:.0f} |"
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
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    return parser.parse_args()


def main() -> None:
    """Run the board."""
    args = arguments()
    if args.serve:
        serve(*args.serve, args.threads)
        return
    peers = [name for name in args.against.split(",") if name]
    for name in peers:
        if importlib.util.find_spec(name) is None:
            sys.exit(f"board: {name} is not installed; pip install 'minidl[peers]'")
    minidl.set_num_threads(args.threads)
    contenders = [f"minidl {name}" for name, status in minidl.engines().items() if status] + peers
    lines = header(contenders, args.threads)
    print("\n".join(lines), flush=True)
    figures: list[Figure] = []
    for workload in workloads.ALL:
        if args.only in workload.name:
            new = measure(workload, contenders, args.rounds, args.budget, args.threads)
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
