"""Matrix products: GFLOP/s of the native engine beside NumPy's BLAS and PyTorch, or the rungs of docs/gemm.md.

    python benchmarks/gemm.py                               # every shape, with 1 and with 2 threads
    python benchmarks/gemm.py --against numpy torch --shapes 128x784x512 --layouts NT
    python benchmarks/gemm.py --ladder
    python benchmarks/gemm.py --sweep --budget 240          # some two hundred shapes against the faster of both

A shape is MxKxN. A layout is two letters, the first for A and the second for B: N as it lies, T transposed. The
contenders take turns, with several threads only when the machine is idle. The best and the median of each one's turns
are printed. The limit is a loop of multiply-adds in registers, timed in the same run. Each number of threads gets a
process of its own, because BLAS libraries read the number when they are loaded.

The sweep goes through `cases()`: sizes from 1 to 2048, powers of two and their neighbours, thin and flat ones, all four
layouts, operands with gaps between their rows. It prints how the ratios to the faster of NumPy and PyTorch are
distributed, and the ten worst. With one thread it counts the thread's own time, which other processes do not disturb.
With --record FILE the best figures are kept, and the next run begins with the oldest: so a sweep can be done in slices.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SHAPES = (
    *(f"{s}x{s}x{s}" for s in (32, 64, 128, 256, 512, 1024, 2048)),
    "128x784x512", "512x128x784", "64x512x256", "1x1024x1024", "768x128x512", "65536x27x64", "64x576x16384",
)  # fmt: skip
THIN = (
    "1x256x256",
    "4x1024x1024",
    "16x1024x1024",
    "1024x1024x1",
    "1024x1024x8",
    "128x256x10",
    "10x128x256",
    "64x16x16",
)
LAYOUTS = ("NN", "NT", "TN")
RUNGS = (
    *("naive", "reordered", "blocked", "register_tiled", "packed", "vectorised", "in_place", "staggered", "decided"),
    *("bfloat16", "amx"),
)  # fmt: skip
PAUSE = 0.25  # seconds, in which the threads of the previous contender go to sleep
Call = Callable[[], object]


def timed(call: Call, calls: int) -> float:
    """Return the seconds that one call takes, averaged over so many."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def settle(patience: int) -> None:
    """Wait for a pause in which all cores are idle, at most so many; only one if the system does not report it."""
    for _ in range(patience):
        before = _idle()
        time.sleep(PAUSE)
        idle = _idle() - before
        if before == 0 or idle > 0.9 * PAUSE * (os.cpu_count() or 1):
            return


def _idle() -> float:
    """Return the seconds that all cores together have been idle."""
    try:
        return int(Path("/proc/stat").read_text().split("\n")[0].split()[4]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def limit() -> float:
    """Return the operations per second of one thread that only multiplies and adds."""
    from minidl import _native

    best = 0.0
    for _ in range(100):
        start = time.perf_counter()
        operations = _native.gemm_limit(20_000)
        best = max(best, operations / (time.perf_counter() - start))
    return best


def contenders(shape: str, layout: str, names: Iterable[str], gap: int = 0) -> dict[str, Call]:
    """Return one call for each contender (minidl, numpy, torch, jax), all of the same product.

    The rows of A and B lie `gap` elements farther apart than they are long.
    """
    import numpy

    m, k, n = map(int, shape.split("x"))
    random = numpy.random.default_rng(0)
    turned = [letter == "T" for letter in layout]

    def operand(rows: int, columns: int) -> numpy.ndarray:
        return random.standard_normal((rows, columns + gap), dtype=numpy.float32)[:, :columns]

    a = operand(*((k, m) if turned[0] else (m, k)))
    b = operand(*((n, k) if turned[1] else (k, n)))
    c = numpy.empty((m, n), numpy.float32)
    left, right = a.T if turned[0] else a, b.T if turned[1] else b
    calls: dict[str, Call] = {}
    if "minidl" in names:
        from minidl import _native

        calls["minidl"] = lambda: _native.gemm(1.0, a, b, 0.0, c, *turned)
    if "cupy" in names:
        from workload import on_engine

        placed = on_engine(left, right)
        calls["cupy"] = lambda: placed[0] @ placed[1]
    if "numpy" in names:
        calls["numpy"] = lambda: numpy.matmul(left, right, out=c)
    if "torch" in names:
        import torch

        left_tensor, right_tensor, result = torch.from_numpy(left), torch.from_numpy(right), torch.from_numpy(c)
        calls["torch"] = lambda: torch.mm(left_tensor, right_tensor, out=result)
    if "jax" in names:
        import jax

        multiply = jax.jit(lambda a, b: (a.T if turned[0] else a) @ (b.T if turned[1] else b))
        on_device = jax.numpy.asarray(a), jax.numpy.asarray(b)
        calls["jax"] = lambda: multiply(*on_device).block_until_ready()
    return calls


def measure(calls: dict[str, Call], operations: float, rounds: int, patience: int) -> dict[str, tuple[float, float]]:
    """Return the best and the median operations per second of each contender."""
    repeats = max(1, int(1e-3 / (operations / 50e9 + 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            settle(patience)
            timed(call, 1)
            found[name].append(min(timed(call, repeats) for _ in range(5)))
    return {name: (operations / min(t), operations / statistics.median(t)) for name, t in found.items()}


def table(arguments: argparse.Namespace, threads: int) -> Iterator[str]:
    """Yield the lines of the table of shapes, in a process that was made for this number of threads."""
    import minidl

    minidl.set_num_threads(threads)
    if "torch" in arguments.against:
        import torch

        torch.set_num_threads(threads)
    ceiling = limit() * threads
    yield f"{threads} thread{'s' * (threads > 1)}; limit {ceiling / 1e9:.0f} GFLOP/s"
    yield ""
    others = arguments.against
    yield "| shape | layout | minidl GFLOP/s (median) | of the limit |" + "".join(
        f" {o} | minidl / {o} |" for o in others
    )
    yield "|---|---|--:|--:|" + "--:|--:|" * len(others)
    for shape in arguments.shapes:
        m, k, n = map(int, shape.split("x"))
        for layout in arguments.layouts:
            calls = contenders(shape, layout, ["minidl", *others])
            found = measure(calls, 2.0 * m * n * k, arguments.rounds, arguments.patience if threads > 1 else 0)
            best, median = found["minidl"]
            line = f"| {shape} | {layout} | {best / 1e9:.1f} ({median / 1e9:.1f}) | {best / ceiling:.0%} |"
            yield line + "".join(f" {found[o][0] / 1e9:.1f} | {best / found[o][0]:.2f} |" for o in others)


def ladder(sizes: tuple[int, ...] = (128, 512, 1000, 1024, 2048)) -> Iterator[str]:
    """Yield the lines of the table of rungs: GFLOP/s for squares of several sizes."""
    import numpy

    import minidl
    from minidl import _native

    random = numpy.random.default_rng(0)
    squares = {s: [random.standard_normal((s, s), dtype=numpy.float32) for _ in range(3)] for s in sizes}

    def rate(size: int, call: Call) -> str:
        operations = 2.0 * size**3
        first = timed(call, 1)
        best = min([first, *(timed(call, 1) for _ in range(min(50, int(1.0 / first))))])
        return f"{operations / best / 1e9:.1f}"

    yield f"limit of one thread {limit() / 1e9:.0f} GFLOP/s; {minidl.get_num_threads()} threads"
    yield ""
    yield "| rung |" + "".join(f" {s} |" for s in sizes)
    yield "|---|" + "--:|" * len(sizes)
    amx = _native.build_info()["bfloat16 products"] == "amx"
    for rung in RUNGS:
        if rung == "amx" and not amx:
            yield f"| amx | {' | '.join('none here' for _ in sizes)} |"
            continue
        multiply = getattr(_native, f"ladder_{rung}")
        cells = [rate(s, lambda s=s, f=multiply: f(*squares[s])) if rung != "naive" or s <= 1024 else "" for s in sizes]
        yield f"| {rung} | " + " | ".join(cells) + " |"
    everything = minidl.get_num_threads()
    for threads in (1, everything):
        minidl.set_num_threads(threads)
        cells = [rate(s, lambda s=s: _native.matmul(*squares[s][:2], out=squares[s][2])) for s in sizes]
        yield f"| matmul, {threads} thread{'s' * (threads > 1)} | " + " | ".join(cells) + " |"
    minidl.set_num_threads(everything)


def cases() -> list[str]:
    """Return what a sweep measures, as MxKxN, a layout, and +G for a gap of G elements between the rows of A and B."""
    layouts = itertools.cycle(("NN", "NT", "TN", "TT"))
    squares = [size + d for size in (4, 8, 16, 32, 64, 128, 256, 512, 1024) for d in (-1, 0, 1)]
    found = [f"{s}x{s}x{s} {next(layouts)}" for s in (1, 2, *squares, 2047)]
    powers = (16, 32, 64, 128, 256, 512, 1024, 2048)
    found += [f"{s}x{s}x{s} {layout}" for s in powers for layout in ("NN", "NT", "TN", "TT")]
    found += [f"{s}x{s}x{s} {layout}" for s in (24, 48, 96, 192, 384, 500, 768, 1000) for layout in ("NN", "NT", "TN")]
    thin = [f"{few}x{s}x{s}" for few in (1, 2, 4, 8, 12) for s in (256, 1000, 2048)]
    narrow = [f"{s}x{s}x{few}" for few in (1, 4, 8, 10) for s in (128, 512, 2048)]
    flat = [f"{s}x{few}x{s}" for few in (1, 3, 8, 27) for s in (64, 512, 2048)]
    longest = ["8x4096x4096", "4096x8x512", "16x16384x16", "64x8192x64", "1x16384x64", "4096x1x512", "65536x27x64"]
    training = ["128x784x512", "784x128x512", "32x512x256", "400x700x600", "96x600x200", "512x1000x4000", "64x576x4096"]
    for shape in (*thin, *narrow, *flat, *longest, *training):
        found += [f"{shape} {next(layouts)}", f"{shape} {next(layouts)}"]
        next(layouts) if len(found) % 3 == 0 else None
    gapped = ("64x64x64", "128x512x256", "256x256x256", "500x500x500", "512x512x512", "8x1024x512", "960x960x960")
    found += [f"{shape} {next(layouts)} +{gap}" for shape in gapped for gap in (1, 24, 64)]
    return list(dict.fromkeys(found))


def measure_case(case: str, threads: int, seconds: float) -> dict[str, float]:
    """Return the operations per second of each contender: the best of rounds in which they take turns."""
    shape, layout, *gap = case.split()
    m, k, n = map(int, shape.split("x"))
    calls = contenders(shape, layout, ["minidl", "numpy", "torch"], int(gap[0]) if gap else 0)
    clock = time.thread_time if threads == 1 else time.perf_counter
    repeats = max(1, int(3e-4 / (2.0 * m * n * k / 50e9 + 1e-6)))
    best = dict.fromkeys(calls, float("inf"))
    until = time.perf_counter() + seconds
    for rounds in itertools.count():
        if rounds >= 3 and time.perf_counter() > until:
            return {name: 2.0 * m * n * k / its for name, its in best.items()}
        for name, call in calls.items():
            call()
            start = clock()
            for _ in range(repeats):
                call()
            best[name] = min(best[name], (clock() - start) / repeats)
    raise AssertionError


def sweep(arguments: argparse.Namespace, threads: int) -> Iterator[str]:
    """Yield the lines of a sweep, in a process that was made for this number of threads."""
    import torch

    import minidl

    minidl.set_num_threads(threads)
    torch.set_num_threads(threads)
    record = Path(arguments.record) if arguments.record else None
    kept = json.loads(record.read_text()) if record and record.exists() else {}
    here = kept.setdefault(str(threads), {})
    ceiling = here["limit"] = max(limit() * threads, here.get("limit", 0.0))
    rates = here.setdefault("rates", {})
    waiting = sorted(cases(), key=lambda case: list(rates).index(case) if case in rates else -1)
    if arguments.worst:
        waiting = sorted(rates, key=lambda case: _ratio(rates[case]))[: arguments.worst]
    end = time.perf_counter() + arguments.budget
    for done, case in enumerate(waiting):
        left = end - time.perf_counter()
        if left <= 0:
            break
        found = measure_case(case, threads, left / (len(waiting) - done))
        before = rates.pop(case, {})  # so that the order is that of measurement
        rates[case] = {name: max(rate, before.get(name, 0.0)) for name, rate in found.items()}
        if record:
            record.write_text(json.dumps(kept, indent=1))
    yield from distribution(rates, ceiling, threads)


def _ratio(rates: dict[str, float]) -> float:
    return rates["minidl"] / max(rates["numpy"], rates["torch"])


def distribution(rates: dict[str, dict[str, float]], ceiling: float, threads: int) -> Iterator[str]:
    """Yield what is to be said of a sweep: quantiles of the ratios, shares of the limit, the ten worst."""
    ordered = sorted(rates, key=lambda case: _ratio(rates[case]))
    ratios = [_ratio(rates[case]) for case in ordered]

    def at(share: float) -> float:
        return ratios[round(share * (len(ratios) - 1))]

    yield f"{threads} thread{'s' * (threads > 1)}: {len(ratios)} shapes; limit {ceiling / 1e9:.0f} GFLOP/s"
    yield (
        f"minidl / the faster of numpy and torch: least {at(0):.2f}, 10 % {at(0.1):.2f}, median {at(0.5):.2f}, "
        f"90 % {at(0.9):.2f}; under 0.9: {sum(ratio < 0.9 for ratio in ratios)}"
    )
    large = [case for case in ordered if min(map(int, case.split()[0].split("x"))) >= 500]
    if large:
        shares = sorted(rates[case]["minidl"] / ceiling for case in large)
        yield (
            f"share of the limit from 500 up ({len(large)} shapes): least {shares[0]:.0%}, "
            f"median {shares[len(shares) // 2]:.0%}; under 85 %: {sum(share < 0.85 for share in shares)}"
        )
    yield ""
    yield "| the ten worst | minidl GFLOP/s | numpy | torch | ratio |"
    yield "|---|--:|--:|--:|--:|"
    for case in ordered[:10]:
        of = rates[case]
        cells = " | ".join(f"{of[name] / 1e9:.1f}" for name in ("minidl", "numpy", "torch"))
        yield f"| {case} | {cells} | {_ratio(of):.2f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--against", nargs="*", choices=["numpy", "torch"], default=["numpy"])
    parser.add_argument("--shapes", nargs="+", default=[*SHAPES, *THIN])
    parser.add_argument("--layouts", nargs="+", choices=["NN", "NT", "TN", "TT"], default=LAYOUTS)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument(
        "--patience", type=int, default=8, help="with several threads: pauses to wait for an idle machine"
    )
    parser.add_argument("--ladder", action="store_true", help="the rungs of docs/gemm.md instead")
    parser.add_argument("--sweep", action="store_true", help="some two hundred shapes instead")
    parser.add_argument("--budget", type=float, default=120, help="seconds of a sweep, for each number of threads")
    parser.add_argument("--record", help="file in which the figures of a sweep are kept")
    parser.add_argument("--worst", type=int, help="measure so many again, those that were worst in the record")
    arguments = parser.parse_args()
    if arguments.ladder:
        for line in ladder():
            print(line, flush=True)
        return
    if len(arguments.threads) == 1 and os.environ.get("OPENBLAS_NUM_THREADS") == str(arguments.threads[0]):
        for line in (sweep if arguments.sweep else table)(arguments, arguments.threads[0]):
            print(line, flush=True)
        return
    for threads in arguments.threads:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        environment.pop("OPENBLAS_CORETYPE", None)  # which would have NumPy's BLAS use another processor's kernels
        options = ["--shapes", *arguments.shapes, "--layouts", *arguments.layouts, "--rounds", str(arguments.rounds)]
        options += ["--patience", str(arguments.patience)]
        if arguments.sweep:
            options += ["--sweep", "--budget", str(arguments.budget)]
            options += ["--record", arguments.record] if arguments.record else []
            options += ["--worst", str(arguments.worst)] if arguments.worst else []
        command = [sys.executable, __file__, "--threads", str(threads), "--against", *arguments.against, *options]
        subprocess.run(command, env=environment, check=True)
        print(flush=True)


if __name__ == "__main__":
    main()
