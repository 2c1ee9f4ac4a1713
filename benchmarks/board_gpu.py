"""The board on a GPU: minidl's cupy engine beside PyTorch's CUDA, timed by events of the device.

    python -m benchmarks.board --device gpu                  # all rows
    python -m benchmarks.board --device gpu --only GPT,conv
    python -m benchmarks.board --device gpu --json gpu.json

Without a GPU it says why and exits with code 3. Rates are set against the card's own: what copying an array on the device reads and
writes, and what the largest product in float32 computes. Both are measured in the same run. An event is a mark in the stream of the
device, so what is timed is from the first kernel of the steps to the last one, waiting for Python included.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["CONTENDERS", "NO_GPU", "contenders", "device_peak_mib", "limits", "reason", "timer"]

CONTENDERS = ("minidl cupy", "torch cuda")
NO_GPU = 3
"""The exit code where there is no GPU; 1 is a failure, 2 a wrong command line."""
COPIED = 1 << 29
"""The bytes of the array whose copying is timed."""
SIDE = 8192
"""The rows and columns of the matrices whose product is timed."""


def reason() -> str:
    """Return why there is nothing to measure here, or an empty string."""
    import minidl

    status = minidl.engines()["cupy"]
    return "" if status.available else status.reason


def contenders() -> list[str]:
    """Return who can take part here."""
    found = [CONTENDERS[0]]
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            found.append(CONTENDERS[1])
        else:
            print("board: without torch cuda: this PyTorch has no CUDA, or does not find the GPU", file=sys.stderr)
    return found


def timer(contender: str) -> Callable[[Callable[[], Any], float], float]:
    """Return a function of a step and a number of seconds, which returns the milliseconds that a step takes on the device."""
    make, elapsed = _events(contender)

    def measured(step: Callable[[], Any], seconds: float) -> float:
        count, until = 1, time.perf_counter() + seconds
        while True:
            start, end = make(), make()
            start.record()
            for _ in range(count):
                step()
            end.record()
            end.synchronize()
            if time.perf_counter() > until:
                return elapsed(start, end) / count
            count *= 2

    return measured


def _events(contender: str) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    if contender == "torch cuda":
        import torch

        return lambda: torch.cuda.Event(enable_timing=True), lambda start, end: start.elapsed_time(end)
    import cupy

    return cupy.cuda.Event, cupy.cuda.get_elapsed_time


def device_peak_mib(contender: str) -> float:
    """Return the most memory of the device that a contender's process has held, in MiB."""
    if contender == "torch cuda":
        import torch

        return torch.cuda.max_memory_reserved() / 2**20
    import cupy

    return cupy.get_default_memory_pool().total_bytes() / 2**20


def limits() -> dict[str, Any]:
    """Return the card's name and rates, measured in a process of their own."""
    command = [sys.executable, __file__]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": _paths()}
    )
    if done.returncode:
        sys.exit(f"board: the card's rates cannot be measured: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def _paths() -> str:
    import minidl

    return os.pathsep.join(filter(None, [str(Path(minidl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))


def _measure() -> dict[str, Any]:
    import cupy

    measured = timer(CONTENDERS[0])
    source = cupy.ones(COPIED // 4, "float32")
    to = cupy.empty_like(source)
    left, right = (cupy.random.RandomState(seed).standard_normal((SIDE, SIDE), dtype="float32") for seed in (0, 1))
    product = cupy.empty((SIDE, SIDE), "float32")
    copying = min(measured(lambda: cupy.copyto(to, source), 0.3) for _ in range(3))
    multiplying = min(measured(lambda: cupy.matmul(left, right, out=product), 0.5) for _ in range(3))
    runtime = cupy.cuda.runtime
    return {
        "card": runtime.getDeviceProperties(0)["name"].decode(),
        "compute capability": cupy.cuda.Device(0).compute_capability,
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "bytes per second": 2 * COPIED / copying * 1e3,
        "operations per second": 2.0 * SIDE**3 / multiplying * 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(_measure()))
