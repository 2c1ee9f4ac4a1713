"""The ladder of the GPU proof: which rungs a test run has climbed, shown at its end and written with --gpu-ladder=FILE.

A rung whose tests were all skipped or deselected was not run, and that is what it says. docs/gpu.md takes its table from the file
that docs/generate_tables.py reads.
"""

import datetime
import json
import platform
from pathlib import Path

import pytest

RUNGS = {
    "gpu_surface": ("a", "every name and keyword of CuPy exists"),
    "gpu_double": ("b", "the strict array double: catalogue, layers, models, training"),
    "gpu_compile": ("c", "every kernel compiled by NVRTC"),
    "gpu_emulate": ("d", "every kernel on the CPU, thread by thread (emulation)"),
    "gpu_cupy": ("e", "the real CuPy on the CPU (emulation)"),
    "gpu_device": ("f", "a real GPU"),
}
COUNTS = pytest.StashKey()


def pytest_addoption(parser):
    parser.getgroup("minidl").addoption(
        "--gpu-ladder", type=Path, metavar="FILE", help="write what ran of each rung of the GPU proof, as JSON"
    )


def pytest_configure(config):
    config.stash[COUNTS] = {rung: {"passed": 0, "failed": 0, "skipped": 0} for rung in RUNGS}
    config.pluginmanager.register(Counter(config.stash[COUNTS]))


class Counter:
    """Counts the outcomes, which with pytest-xdist come from other processes."""

    def __init__(self, counts):
        self.counts = counts

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            for rung in RUNGS:
                if rung in report.keywords:
                    self.counts[rung][report.outcome] += 1


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash[COUNTS]
    path = config.getoption("--gpu-ladder")
    if path:
        before = json.loads(path.read_text())["rungs"] if path.exists() else []
        path.write_text(
            json.dumps({"rungs": ladder(counts, {rung["marker"]: rung for rung in before})}, indent=1) + "\n"
        )
    if path or any(sum(found.values()) for found in counts.values()):
        terminalreporter.section("the ladder of the GPU proof")
        for rung in ladder(counts, {}):
            terminalreporter.line(f"{rung['letter']}  {rung['what']}: {rung['said']}")


def ladder(counts, before):
    """Return what is written and shown; a rung that this run left out stays as it was written before, with its date."""
    rungs = []
    for rung, (letter, what) in RUNGS.items():
        found = counts[rung]
        if rung in before and not any(found.values()):
            rungs.append(before[rung])
            continue
        ran = {"date": str(datetime.date.today()), "where": where()} if found["passed"] + found["failed"] else {}
        rungs.append({"letter": letter, "marker": rung, "what": what, "said": said(rung, **found), **found, **ran})
    return rungs


def said(rung, passed, failed, skipped):
    """Return how a rung went; one of which nothing was run was not run, whatever was skipped."""
    if failed:
        return f"{failed} failed, {passed} passed"
    if not passed:
        return "GPU: not run" if rung == "gpu_device" else "not run"
    return f"{passed} passed" + (f", {skipped} skipped" if skipped else "")


def where():
    """Return the machine: its GPU, or else that it has none, and its processor."""
    from minidl import engines

    status = engines.engines()["cupy"]
    gpu = status.reason if status.available else "no GPU"
    return f"{platform.machine()}, Python {platform.python_version()}, {gpu}"
