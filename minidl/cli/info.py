"""``minidl info``: show what is installed here, and which engines are available."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform

import numpy

import minidl
from minidl import engines

__all__ = ["add_arguments", "run"]

EXTRAS = (
    ("safetensors", "weights", "saving and loading weights"),
    ("matplotlib", "plot", "pictures"),
    ("tensorboardX", "board", "TensorBoard"),
    ("onnx", "onnx", "graphs for other runtimes, and of other frameworks"),
    ("starlette", "serve", "answering requests over HTTP"),
    ("tokenizers", "text", "tokenizers of Hugging Face"),
    ("cupy", "cuda13", "NVIDIA GPUs; 'cuda12' for CUDA 12"),
    ("hypothesis", "test", "the tests"),
    ("torch", "peers", "comparisons with other frameworks"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the command has none."""


def run(args: argparse.Namespace) -> int:
    """Print versions, the engines with their kernels, and the extras."""
    print(
        f"minidl {minidl.__version__}, Python {platform.python_version()}, NumPy {numpy.__version__}, {platform.platform()}"
    )
    print(f"{_count_cores()} cores; current engine: {engines.current().name}")
    print("engines:")
    for name, status in engines.engines().items():
        print(f"  {status}")
        if status.available:
            print(f"    {_coverage(name)}")
    print("extras:")
    for package, extra, use in EXTRAS:
        found = _installed_version(package) or f"not installed; pip install 'minidl[{extra}]'"
        print(f"  {package}: {found} ({use})")
    return 0


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _coverage(name: str) -> str:
    """Describe which ops of an engine are kernels."""
    coverage = engines.get(name).coverage()
    formulas = sorted(op for op, how in coverage.items() if how == "formula")
    kernels = sum(how == "kernel" for how in coverage.values())
    if not kernels:
        return "every op runs its formula"
    rest = f"; formulas: {', '.join(formulas)}" if formulas else ""
    return f"{kernels} kernels{rest}"


def _installed_version(package: str) -> str:
    """Return the version of a package without importing it; an empty string if it is not installed."""
    if importlib.util.find_spec(package) is None:
        return ""
    names = importlib.metadata.packages_distributions().get(package, [package])
    try:
        return importlib.metadata.version(names[0])
    except importlib.metadata.PackageNotFoundError:
        return "installed"
