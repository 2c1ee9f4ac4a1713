"""Strategies draw what they say, and say so where Hypothesis is missing."""

import builtins

import numpy
import pytest

from minidl import ops
from minidl.errors import MissingDependencyError
from minidl.testing import SPECS
from minidl.testing.layouts import HOST_LAYOUTS, LAYOUTS
from minidl.testing.strategies import arrays, calls, shapes

hypothesis = pytest.importorskip("hypothesis")


def test_shapes_and_arrays():
    @hypothesis.given(shapes((1, 2), (0, 3)), arrays(shape=(2, 3), dtype="float32"), arrays())
    def check(shape, fixed, free):
        assert 1 <= len(shape) <= 2
        assert max(shape) <= 3
        assert (fixed.shape, fixed.dtype) == ((2, 3), numpy.float32)
        assert free.dtype == numpy.float64

    check()


@pytest.mark.parametrize("name", SPECS)
def test_calls(name):
    seen = set()

    @hypothesis.settings(max_examples=150)
    @hypothesis.given(calls(name))
    def check(call):
        y, _ = ops.FORMULAS[name](*call.arguments, **call.case.options)
        assert all(output.dtype == call.dtype for output in (y if call.spec.several else (y,)))
        seen.update({call.dtype, call.layout, call.case.name})

    check()
    assert seen >= {"float32", "float64", "contiguous", *LAYOUTS}


def test_without_hypothesis(monkeypatch):
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name == "hypothesis":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(MissingDependencyError, match=r"pip install 'minidl\[test\]'"):
        shapes()


@pytest.mark.parametrize("name", [*LAYOUTS, *HOST_LAYOUTS])
@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3, 4), (2, 3, 4)])
def test_layouts_hold_the_same_numbers(name, shape):
    x = numpy.random.default_rng(0).standard_normal(shape)
    arranged = {**LAYOUTS, **HOST_LAYOUTS}[name](x)
    numpy.testing.assert_array_equal(arranged, x)
    if x.ndim > 1 and x.size and name in LAYOUTS:
        assert not arranged.flags.c_contiguous
    if name == "read-only":
        assert not arranged.flags.writeable
    if name == "unaligned" and x.size:
        assert not arranged.flags.aligned
