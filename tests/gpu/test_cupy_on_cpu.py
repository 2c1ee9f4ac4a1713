"""Rung e: the real CuPy, its calls of CUDA replaced by memory of the host and its kernels compiled for the CPU.

What it proves: that CuPy takes every call of ours, that the code which it generates for them computes what the formulas do, and that
kernels get the arguments that they declare. What it cannot prove: speed, asynchrony, rounding of a device, cuBLAS itself.
cupy_on_cpu/run.py runs in processes of its own; here their results are looked at one by one.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from device_cases import LAYERS, LOSSES, MODELS, TRAINING

import minidl
from minidl.testing import SPECS, UPDATES

pytestmark = pytest.mark.gpu_cupy

FOLDER = Path(__file__).parent / "cupy_on_cpu"
SUPPORTED = "14.2.0"
ENGINE = [
    "a_model_moves_with_its_optimiser",
    "a_planted_error_shows",
    "a_step_calls_nothing_that_waits",
    "clipping_stays_on_the_device",
    "dropout_draws_on_the_device",
    "errors_that_kernels_find_are_raised",
    "mixtures_are_refused",
    "status_says_what_computes",
    "the_second_device",
]
NAMES = {
    "training": list(TRAINING),
    "catalogue": [*SPECS, *UPDATES],
    "layers": [name for name in (*LAYERS, *MODELS, *LOSSES) if name != "mobilenet"],
    "engine": ENGINE,
}
SHARES = [
    ("training", 0, 1),
    ("catalogue", 0, 3),
    ("catalogue", 1, 3),
    ("catalogue", 2, 3),
    ("layers", 0, 1),
    ("engine", 0, 1),
]
"""What the processes run, the longest first: (part, which share of it, of how many)."""


@pytest.fixture(scope="session")
def results(cpp, tmp_path_factory):
    """Return what each process printed, by (part, name)."""
    try:
        version = importlib.metadata.version("cupy-cuda13x")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("cupy-cuda13x is not installed; pip install 'minidl[cuda13]'")
    if version != SUPPORTED:
        pytest.skip(f"the emulation replaces the driver under cupy {SUPPORTED}, this is {version}")
    cache = tmp_path_factory.mktemp("kernels")
    paths = [str(Path(minidl.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    environment.setdefault("MINIDL_EMULATION_CACHE", str(cache))

    def run(share):
        command = [sys.executable, str(FOLDER / "run.py"), *map(str, share)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
        return done.stdout.splitlines(), done.stderr[-3000:]

    found, ends = {}, {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2) as pool:
        for share, (lines, complaints) in zip(SHARES, pool.map(run, SHARES), strict=True):
            for line in map(json.loads, lines):
                if "summary" in line:
                    ends[share] = line["summary"]
                else:
                    found[line["part"], line["name"]] = line
            if share not in ends:
                found[share[0], "the process"] = {"problem": f"the process of {share} ended early:\n{complaints}"}
    return found


def test_every_process_came_to_its_end(results):
    problems = [line["problem"] for (_, name), line in results.items() if name == "the process"]
    assert not problems, problems[0]
    expected = {(part, name) for part, names in NAMES.items() for name in names}
    assert set(results) == expected


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in NAMES.items() for name in names])
def test_it_computes_what_the_host_computes(results, part, name):
    line = results.get((part, name))
    assert line is not None, "its process ended before it"
    assert not line["problem"], line["problem"]


def test_a_step_waits_for_next_to_nothing(results):
    """A fit of 40 steps on the real CuPy: whether the weights are finite is asked once, and nothing else waits."""
    told = results["engine", "a_step_calls_nothing_that_waits"]["told"]
    assert sum(told.values()) <= 3, told
