"""Which engines the tests run on, and what happens where one is missing."""

import numpy
import pytest
from array_double import DoubleEngine

from minidl import engines


def usable(on_host=False):
    """Return the names of the engines to test: those that work here, and the array double in CuPy's place."""
    names = [name for name, status in engines.engines().items() if status.available]
    return [name for name in names if engines.get(name).xp is numpy] if on_host else [*names, "double"]


def engine_named(name):
    return DoubleEngine() if name == "double" else engines.get(name)


def require(name, required):
    """Skip, with the reason, if an engine is missing; fail if it is required."""
    status = engines.engines()[name]
    if not status.available:
        if name in required:
            pytest.fail(f"engine {status}; but --require-engine={name} was given", pytrace=False)
        pytest.skip(f"engine {status}; none of the tests ran on it")
