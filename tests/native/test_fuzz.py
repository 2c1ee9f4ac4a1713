"""The random caller of fuzz.py, for some seconds here and for minutes in .ci/sanitize and with --nightly."""

import subprocess
import sys
from pathlib import Path

import pytest

from minidl import engines

FUZZ = Path(__file__).with_name("fuzz.py")

if not engines.engines()["native"].available:
    pytest.skip("the native engine is missing", allow_module_level=True)


def calls(tmp_path, seed, number):
    """Make so many calls in a process of their own, so that a crash is a failure with the call that it came from."""
    log = tmp_path / "call.txt"
    done = subprocess.run(
        [sys.executable, FUZZ, "--seed", str(seed), "--calls", str(number), "--log", log],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log.read_text()}"
    return done.stdout


def test_random_calls_reach_every_kernel(tmp_path):
    said = calls(tmp_path, 0, 1500)
    assert "1500 calls" in said
    assert "kernels never called: none" in said


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 21))
def test_many_random_calls(tmp_path, seed):
    calls(tmp_path, seed, 20_000)
