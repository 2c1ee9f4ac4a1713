"""Code in a fresh interpreter: what minidl chooses as it is imported, the environment can change only there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(code, *folders, timeout=120, **environment):
    """Run code that can import from this folder, and from those given, too; return what it printed."""
    path = os.pathsep.join(filter(None, [*map(str, folders), str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd="/",  # in the checkout, its sources would hide the installed package
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_on(isa, code, *folders, timeout=120):
    """Run code with the kernels of one instruction set, or skip where the machine lacks it."""
    status = run("import minidl; print(minidl.engines()['native'])", *folders, MINIDL_ISA=isa)
    if "names an instruction set that this machine does not have" in status:
        assert isa != "baseline"
        pytest.skip(f"this machine has no {isa}")
    return run(code, *folders, timeout=timeout, MINIDL_ISA=isa)
