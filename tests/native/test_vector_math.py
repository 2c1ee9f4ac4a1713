"""The vector functions: errors in units in the last place, special values, every instruction set."""

import math
from pathlib import Path

import numpy
import pytest
from fresh_python import run_on
from kernel_list import ACTIVATIONS

from minidl import engines

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

from minidl.engines.native import vector_function
from minidl.ops import activation as formulas

ALLOWED = 2.0


def sigmoid(x):
    e = numpy.exp(-numpy.abs(x))
    return numpy.where(x < 0, e, 1) / (1 + e)


EXACT = {"exp": numpy.exp, "log": numpy.log, "tanh": numpy.tanh, "sigmoid": sigmoid, "erf": numpy.vectorize(math.erf)}


def errors(name, x):
    """Return the error of every result in ULP of the exact one; 0 where a special result is right, inf where not."""
    with numpy.errstate(all="ignore"):
        y = vector_function(name, x)
        exact = EXACT[name](x.astype(numpy.float64))
        rounded = exact.astype(numpy.float32)
        error = numpy.abs(y - exact) / numpy.spacing(numpy.abs(rounded)).astype(numpy.float64)
    same = (y == rounded) | (numpy.isnan(y) & numpy.isnan(rounded))
    return numpy.where(same, 0.0, numpy.where(numpy.isfinite(error), error, numpy.inf))


def all_floats(step):
    return numpy.arange(0, 2**32, step, dtype=numpy.uint64).astype(numpy.uint32).view(numpy.float32)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid"])
def test_over_all_sizes_and_signs(name):
    assert errors(name, all_floats(4099)).max() <= ALLOWED


@pytest.mark.parametrize("name", EXACT)
def test_where_it_matters(name):
    x = numpy.linspace(-17, 17, 40_001, dtype=numpy.float32)
    assert errors(name, x).max() <= ALLOWED


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_every_float(name):
    for start in range(0, 2**32, 2**24):
        bits = numpy.arange(start, start + 2**24, dtype=numpy.uint64).astype(numpy.uint32)
        assert errors(name, bits.view(numpy.float32)).max() <= ALLOWED


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("exp", [-numpy.inf, numpy.inf, 0.0, -0.0, -1e30, 1e30], [0, numpy.inf, 1, 1, 0, numpy.inf]),
        (
            "log",
            [0.0, -0.0, 1.0, numpy.inf, -1.0, -numpy.inf],
            [-numpy.inf, -numpy.inf, 0, numpy.inf, numpy.nan, numpy.nan],
        ),
        ("tanh", [-numpy.inf, numpy.inf, 0.0, 1e30, -1e30, 1e-30], [-1, 1, 0, 1, -1, 1e-30]),
        ("sigmoid", [-numpy.inf, numpy.inf, 0.0, 1e30, -1e30, 1e-30], [0, 1, 0.5, 1, 0, 0.5]),
        ("erf", [-numpy.inf, numpy.inf, 0.0, 1e30, -1e30, 30.0], [-1, 1, 0, 1, -1, 1]),
    ],
)
def test_special_values(name, x, y, dtype):
    x = numpy.array([*x, numpy.nan], dtype=dtype)
    with numpy.errstate(all="ignore"):
        numpy.testing.assert_array_equal(vector_function(name, x), numpy.array([*y, numpy.nan], dtype=dtype))


def test_the_sign_of_zero_is_kept():
    for name in ("tanh", "erf"):
        assert numpy.signbit(vector_function(name, numpy.array([-0.0])))[0]


def test_results_below_the_normal_range_are_not_flushed():
    x = numpy.array([-100.0, -103.0], dtype=numpy.float32)
    assert (vector_function("exp", x) > 0).all()
    assert (vector_function("sigmoid", x) > 0).all()
    smallest = numpy.array([1e-45], dtype=numpy.float32)
    numpy.testing.assert_array_equal(vector_function("tanh", smallest), smallest)
    numpy.testing.assert_allclose(vector_function("log", smallest), numpy.log(smallest), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ACTIVATIONS)
def test_an_element_does_not_depend_on_its_neighbours(op, dtype):
    engine = engines.get("native")
    forward, backward = getattr(engine, op), getattr(engine, f"{op}_backward")
    x = numpy.linspace(-6, 6, 997).astype(dtype)
    far = numpy.array([0.0, 3.98, 3.99, 4.0, -5.0, 30.0, numpy.inf, -numpy.inf, numpy.nan], dtype=dtype)
    y, cache = forward(x)
    dx = backward(numpy.ones_like(x), cache)
    for other in far:
        mixed = numpy.insert(x, slice(0, None, 7), other)
        own = numpy.arange(mixed.size) % 8 != 0
        z, cache = forward(mixed)
        numpy.testing.assert_array_equal(z[own], y)
        numpy.testing.assert_array_equal(backward(numpy.ones_like(mixed), cache)[own], dx)


def test_gelu_keeps_its_digits_in_the_negative_tail():
    x = numpy.concatenate([numpy.linspace(-13, 13, 20_001), numpy.geomspace(1e-20, 1, 99)]).astype(numpy.float32)
    wide = x.astype(numpy.float64)
    exact = wide / 2 * numpy.array([math.erfc(-v / math.sqrt(2)) for v in wide])
    gelu = engines.get("native").gelu
    assert (numpy.abs(gelu(x)[0] - exact) / numpy.spacing(numpy.abs(exact.astype(numpy.float32)))).max() <= 9  # ULP
    numpy.testing.assert_allclose(gelu(wide)[0], exact, rtol=1e-13)  # the reference's own argument is rounded


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_of_special_values_is_that_of_the_formula(approximate, dtype):
    x = numpy.array([numpy.inf, -numpy.inf, numpy.nan, 0.0, -0.0, 30, -30, 1e30, -1e30, 1e-42, -1e-42], dtype=dtype)
    engine = engines.get("native")
    with numpy.errstate(all="ignore"):
        y, cache = formulas.gelu(x, approximate)
        own = engine.gelu(x, approximate)[0]
        numpy.testing.assert_allclose(own, y, rtol=1e-6, atol=0)
        numpy.testing.assert_array_equal(numpy.signbit(own[3:5]), [False, True])  # of the two zeros
        dx = formulas.gelu_backward(numpy.ones_like(x), cache)
        numpy.testing.assert_allclose(engine.gelu_backward(numpy.ones_like(x), cache), dx, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", EXACT)
def test_an_element_does_not_depend_on_its_neighbours_or_its_place(name):
    """The last, shorter vector computes what the whole ones do."""
    x = numpy.random.default_rng(0).uniform(0.1, 3, 67).astype(numpy.float32)
    expected = vector_function(name, x)
    for start in range(17):
        for stop in range(start + 1, 67, 5):
            numpy.testing.assert_array_equal(vector_function(name, x[start:stop]), expected[start:stop])


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_is_as_accurate(isa):
    code = """
import test_vector_math as t
for name in t.EXACT:
    x = t.numpy.linspace(-17, 17, 20_001, dtype="float32")
    assert t.errors(name, x).max() <= t.ALLOWED, name
    assert t.errors(name, t.all_floats(400_009)).max() <= t.ALLOWED, name
t.test_gelu_keeps_its_digits_in_the_negative_tail()
for name, case in (("log", -1.0), ("exp", 1e30)):
    for dtype in ("float32", "float64"):
        t.test_special_values(name, [case], [t.numpy.nan if case < 0 else t.numpy.inf], dtype)
        for approximate in ("none", "tanh"):
            t.test_gelu_of_special_values_is_that_of_the_formula(approximate, dtype)
print("right")
"""
    assert run_on(isa, code, Path(__file__).parent) == "right"


def test_other_arrays_are_refused():
    for wrong in (numpy.arange(3), [1.0], numpy.zeros(2, dtype=numpy.float16)):
        with pytest.raises(TypeError, match="float32 or float64"):
            vector_function("exp", wrong)
