"""The board: what a training step, an activation and a matrix product cost, beside other libraries, in one run.

    python -m benchmarks.board                                        # minidl and NumPy only
    python -m benchmarks.board --against torch,jax --json board.json  # the extra 'peers'
    python -m benchmarks.board --against all                          # every peer there is
    python -m benchmarks.board --only Products,gelu                   # parts and workloads by name
    python -m benchmarks.board --against all --only Sequences         # recurrent networks, attention, language models
    python -m benchmarks.board --against all --markdown               # all of it, into docs/board.md
    python -m benchmarks.board --device gpu                           # the same rows on a GPU; see board_gpu.py

The peers are torch (PyTorch, eager), "torch compile" (``torch.compile``, which needs a C++ compiler), "torch bfloat16"
(autocast), jax (compiled) and onnxruntime (inference). One that fails is left out, and why is said. At the end each
workload is set against the fastest peer that computes in float32, and minidl's products in bfloat16 ("minidl bfloat16")
against autocast. ``--markdown`` replaces the section of this machine's
processor in the page, or adds one.

Run it in the repository, with the extension built in place; ``python benchmarks/board.py`` measures the installed
package.

Every contender runs the same step on the same data through its ordinary interface. Each has a process of its own,
because idle threads of one library that keep a core busy would be counted against the next. The processes take turns,
round after round, so that a machine whose speed drifts affects all alike. Printed are the best and the median over
the rounds, the ratio of the medians to minidl's fastest engine, and the peak memory of each process. The limit is a
loop of multiply-adds in registers, times the number of threads; for generation it is reading the weights once for each
token, from where an array of their size lies. To add a workload, see ``benchmarks/workloads.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import board_gpu
import gemm
import workloads
from board_memory import peak_mib
from board_tables import Figure, against_the_fastest, table, tables, write_section
from memory_bound import reading_rate
from workload import Workload, set_threads

PEERS = ("torch", "torch compile", "torch bfloat16", "jax", "onnxruntime")
SETTLE = 0.15
"""Seconds between two turns: idle threads of some libraries keep a processor busy for a while."""
WARM_UP = 2.0
"""Seconds after which no further step is run before the first turn; there are two to five."""
PAGE = Path(__file__).parents[1] / "docs" / "board.md"


def surroundings() -> dict[str, str]:
    """Return the environment for the processes: they import the same minidl as this one."""
    found = importlib.util.find_spec("minidl")
    if found is None or found.origin is None:
        sys.exit("board: minidl is not installed; pip install . in the repository")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    paths = [str(Path(found.origin).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


class FailedError(Exception):
    """A contender cannot run a workload here."""


class Runner:
    """A process that runs one contender's step when it is told to, and sleeps otherwise."""

    def __init__(self, workload: str, contender: str, threads: int) -> None:
        self.contender = contender
        environment = {**surroundings(), "OMP_NUM_THREADS": str(threads)}
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
        answer = json.loads(line) if line else {"failed": "its process ended"}
        if "failed" in answer:
            raise FailedError(answer["failed"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended
            self.process.stdin.close()
        self.process.wait()


def serve(workload: str, contender: str, threads: int) -> None:
    """Serve one contender: for each number of seconds read, run steps for that long and print what a step took."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    try:
        set_threads(contender, threads)
        on_gpu = contender in board_gpu.CONTENDERS
        step = next(w for w in workloads.ALL if w.name == workload).make(contender)
        until = time.perf_counter() + WARM_UP
        for turn in range(5):
            step()
            if turn and time.perf_counter() > until:
                break
    except Exception as error:  # a compiler that is missing, or anything else: the others go on without it
        print(
            json.dumps({"failed": f"{type(error).__name__}: {error}".strip().splitlines()[0]}), file=answers, flush=True
        )
        return
    if on_gpu:
        measured = board_gpu.timer(contender)
        for line in sys.stdin:
            took = measured(step, float(line))
            print(json.dumps({"ms": took, "peak_mib": board_gpu.device_peak_mib(contender)}), file=answers, flush=True)
        return
    for line in sys.stdin:
        start, count, until = time.perf_counter(), 0, time.perf_counter() + float(line)
        batch = 1
        while time.perf_counter() < until:
            for _ in range(batch):
                step()
            count += batch
            batch = min(2 * batch, 64) if (time.perf_counter() - start) / count < 1e-4 else 1
        took = (time.perf_counter() - start) / count * 1e3
        print(json.dumps({"ms": took, "peak_mib": peak_mib()}), file=answers, flush=True)


def measure(
    workload: Workload, contenders: list[str], rounds: int, seconds: float, threads: int, copied: float = 0.0
) -> Iterator[Figure]:
    """Time all contenders in turn; ``copied`` is a GPU's rate of copying, by which work bound by memory is judged."""
    runners = [Runner(workload.name, name, threads) for name in contenders if workload.has(name)]
    for runner in list(runners):
        try:
            runner.ask(seconds)
        except FailedError as error:
            if runner.contender.startswith("minidl"):
                sys.exit(f"board: {runner.contender} failed in {workload.name}: {error}")
            print(f"board: without {runner.contender} in {workload.name}: {error}", file=sys.stderr, flush=True)
            runner.close()
            runners.remove(runner)
    answers: dict[str, list[Any]] = {runner.contender: [] for runner in runners}
    for _ in range(rounds):
        for runner in runners:
            time.sleep(SETTLE)
            answers[runner.contender].append(runner.ask(seconds))
    for runner in runners:
        runner.close()
    if copied:
        bound = workload.bytes / copied * 1e3
    else:
        bound = workload.tokens and workload.bytes / reading_rate(workload.bytes / workload.tokens, threads) * 1e3
    for name, found in answers.items():
        times, peak = [answer["ms"] for answer in found], max(answer["peak_mib"] for answer in found)
        yield Figure(workload.part, workload.name, name, min(times), statistics.median(times), workload.flops,
                     workload.bytes, peak, workload.tokens, bound)  # fmt: skip


def import_cost(module: str) -> tuple[float, float]:
    """Return the milliseconds and MiB that importing a module takes in a fresh interpreter, best of five."""
    code = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r}); start = time.perf_counter(); "
        f"import {module}; took = (time.perf_counter() - start) * 1e3; from board_memory import peak_mib; "
        "print(took, peak_mib())"
    )
    runs = []
    command = [sys.executable, "-c", code]
    for _ in range(5):
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", env=surroundings())
        runs.append([float(number) for number in done.stdout.split()])
    return min(run[0] for run in runs), min(run[1] for run in runs)


def header(contenders: list[str], threads: int, limit: float) -> list[str]:
    """Describe the machine and the versions that were measured."""
    import minidl

    lines = [
        f"{processor()}, {os.cpu_count()} processors, {threads} threads, {platform.system()}, "
        f"Python {platform.python_version()}, NumPy {importlib.metadata.version('numpy')}, minidl {minidl.__version__}"
    ]
    packages = dict.fromkeys(name.split()[0] for name in contenders if name in PEERS)
    lines += [f"{name} {importlib.metadata.version(name)}" for name in packages]
    lines += [str(status) for status in minidl.engines().values()]
    if limit:
        lines.append(f"limit: {limit / 1e9:.0f} GFLOP/s, float32 multiply-adds in registers, {threads} threads")
    return lines


def processor() -> str:
    """Return the processor's name with its family and model, because a virtual machine often gives no more than "AMD EPYC"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = found.get("model name") or platform.processor() or platform.machine()
    return f"{name}, family {found['cpu family']} model {found['model']}" if "cpu family" in found else name


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", default="", help=f"peers to run beside minidl, or all: {','.join(PEERS)}")
    parser.add_argument("--only", default="", help="run only parts and workloads whose names contain one of these")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="gpu: cupy beside PyTorch's CUDA")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no workload after so many seconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=0.1, help="seconds for each contender and round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument(
        "--markdown",
        type=Path,
        nargs="?",
        const=PAGE,
        help="write the tables into this processor's section; docs/board.md",
    )
    args = parser.parse_args()
    if args.markdown and (args.only or args.device == "gpu"):
        parser.error("--markdown writes the whole board of a CPU; leave --only and --device out")
    return args


def run(args: argparse.Namespace, contenders: list[str], limit: float, copied: float = 0.0) -> list[Figure]:
    """Measure and print, workload after workload."""
    figures: list[Figure] = []
    until = time.perf_counter() + args.seconds
    own = [name for name in contenders if name.startswith("minidl")]
    wanted = [
        workload
        for workload in workloads.ALL
        if any(map(workload.has, own))
        and any(text in f"{workload.part}: {workload.name}" for text in args.only.split(","))
    ]
    for part, group in itertools.groupby(wanted, lambda workload: workload.part):
        print(f"\n## {part}\n")
        for position, workload in enumerate(group):
            if time.perf_counter() > until:
                print(f"board: no time is left for {workload.name}", file=sys.stderr, flush=True)
                continue
            new = list(measure(workload, contenders, args.rounds, args.budget, args.threads, copied))
            print("\n".join(table(new, limit, head=position == 0)), flush=True)
            figures += new
    return figures


def import_costs(modules: list[str]) -> list[str]:
    """Return the lines of the table of imports."""
    costs = {name: import_cost(name) for name in modules}
    lines = ["## Imports", "", "| import | ms | MiB resident |", "|---|---:|---:|"]
    return lines + [f"| {name} | {ms:.0f} | {mib:.0f} |" for name, (ms, mib) in costs.items()]


def main_gpu(args: argparse.Namespace) -> None:
    """Run the board on a GPU, or say that there is none."""
    import minidl

    missing = board_gpu.reason()
    if missing:
        print(f"board: GPU: not run: {missing}")
        sys.exit(board_gpu.NO_GPU)
    contenders, rates = board_gpu.contenders(), board_gpu.limits()
    flops, copied = rates["operations per second"], rates["bytes per second"]
    lines = [
        f"{rates['card']}, compute capability {rates['compute capability']}, driver {rates['driver']}, runtime {rates['runtime']}",
        *header(["torch"] if "torch cuda" in contenders else [], args.threads, 0.0),
        f"limits, measured: {flops / 1e12:.3g} TFLOP/s in float32 products, {copied / 1e9:.4g} GB/s read and written by copying",
    ]
    print("\n".join(lines), flush=True)
    figures = run(args, contenders, flops, copied)
    print("\n".join(["", *against_the_fastest(figures)]))
    if args.json:
        found = {"header": lines, "limits": rates, "figures": [asdict(figure) for figure in figures]}
        minidl.weights.write_atomically(args.json, json.dumps(found, indent=1).encode())


def main() -> None:
    """Run the board."""
    args = arguments()
    if args.serve:
        serve(*args.serve, args.threads)
        return
    if args.device == "gpu":
        main_gpu(args)
        return
    peers = list(PEERS) if args.against == "all" else [name for name in args.against.split(",") if name]
    for name in peers:
        if name not in PEERS:
            sys.exit(f"board: there is no peer {name!r}; there are {', '.join(PEERS)}")
        if importlib.util.find_spec(name.split()[0]) is None:
            sys.exit(f"board: {name} is not installed; pip install 'minidl[peers]'")
    import minidl

    minidl.set_num_threads(args.threads)
    engines = {name: bool(status) for name, status in minidl.engines().items()}
    contenders = [f"minidl {name}" for name, there in engines.items() if there]
    contenders += [*(["minidl bfloat16"] if engines["native"] else []), "numpy", *peers]
    limit = gemm.limit() * args.threads if engines["native"] else 0.0
    lines = header(contenders, args.threads, limit)
    print("\n".join(lines), flush=True)
    figures = run(args, contenders, limit)
    costs = import_costs(["numpy", "minidl", *dict.fromkeys(name.split()[0] for name in peers)])
    ratios = against_the_fastest(figures)
    print("\n".join(["", *ratios, "", *costs]))
    if args.json:
        found = {"header": lines, "limit_flops": limit, "figures": [asdict(figure) for figure in figures]}
        minidl.weights.write_atomically(args.json, json.dumps(found, indent=1).encode())
    if args.markdown:
        against = [f'--against "{args.against}"'] if peers else []
        command = " ".join(["python -m benchmarks.board", *against, f"--rounds {args.rounds}", "--markdown"])
        said = [f"Printed by `{command}`:", "", *[f"- {line}" for line in lines], ""]
        found = [*said, *ratios, "", *tables(figures, limit), *costs]
        head = f"## {processor()}, {datetime.date.today()}"
        body = [line.replace("## ", "### ", 1) for line in found]
        write_section(args.markdown, "board", processor(), [head, "", *body])


if __name__ == "__main__":
    main()
