"""Trained networks of others, as ONNX files: minidl's time for a forward beside onnxruntime's.

    python benchmarks/onnx_graphs.py [--threads 1] [--seconds 8] [--profile]

The networks are in packages (see tests/helpers/foreign_networks.py for the pip command); those that are not installed are left out.
Both sides take turns in one process; best and median are milliseconds. --profile adds the operators that take longest.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from pathlib import Path
from typing import Any

import numpy

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import onnxruntime
from foreign_networks import NETWORKS

import minidl as dl
from minidl.interop.onnx import fusing, load
from minidl.interop.onnx.operators import OPERATORS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each network")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    dl.set_num_threads(args.threads)
    print(f"{processor()}, {args.threads} thread{'s' * (args.threads > 1)}, engine {dl.engines.current().name}")
    print(
        f"{'network':22} {'nodes':>5} {'minidl best':>11} {'median':>8} {'onnxruntime':>11} {'median':>8} {'ratio':>6}"
    )
    for name, network in NETWORKS.items():
        try:
            path = network.path()
        except BaseException as error:  # pytest's skip
            print(f"{name:22} left out: {error}")
            continue
        compare(name, path, network.shape, args)


def processor() -> str:
    """Return the processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def compare(name: str, path: Path, shape: tuple[int, ...], args: argparse.Namespace) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = args.threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model, title = load(path), session.get_inputs()[0].name
    x = numpy.random.default_rng(0).standard_normal(shape).astype("float32")
    times: dict[str, list[float]] = {"minidl": [], "onnxruntime": []}
    end = time.perf_counter() + args.seconds
    with dl.inference():
        while time.perf_counter() < end or len(times["minidl"]) < 3:
            for side, run in (
                ("minidl", lambda: model.forward(x)),
                ("onnxruntime", lambda: session.run(None, {title: x})),
            ):
                start = time.perf_counter()
                run()
                times[side].append(1e3 * (time.perf_counter() - start))
    best = [min(t) for t in times.values()]
    middle = [float(numpy.median(t)) for t in times.values()]
    row = f"{name:22} {len(model.graph.nodes):5} {best[0]:11.2f} {middle[0]:8.2f} {best[1]:11.2f} {middle[1]:8.2f}"
    print(f"{row} {best[0] / best[1]:6.2f}", flush=True)
    if args.profile:
        profile(model, x)


def profile(model: Any, x: Any) -> None:
    """Print the kinds of steps of a forward that take longest."""
    total: collections.Counter[str] = collections.Counter()
    values = dict(model.graph.constants)
    values.update((name, model._value(own)) for name, own in model._by_name.items())
    values.update(zip(model.inputs, [x], strict=True))
    for step in model._plan:
        start = time.perf_counter()
        if isinstance(step, fusing.FusedConv):
            outputs: Any = (step.run(values),)
        else:
            outputs, _ = OPERATORS[step.kind].rule(step, *(values[n] if n else None for n in step.inputs))
        total[step.kind] += time.perf_counter() - start
        values.update(zip(step.outputs, outputs, strict=False))
    print("    " + ", ".join(f"{kind} {1e3 * spent:.2f} ms" for kind, spent in total.most_common(6)))


if __name__ == "__main__":
    main()
