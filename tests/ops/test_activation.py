"""Activations: known values, extreme and non-finite inputs, digits that must survive, and errors."""

import inspect
import math

import numpy
import pytest

from minidl import errors, ops
from minidl.engines.compositions import FUSIBLE

FUNCTIONS = {  # f and f' of some, from the definitions; the catalogue has all
    "relu": (lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "relu6": (lambda x: min(max(x, 0.0), 6.0), lambda x: float(0 < x < 6)),
    "leaky_relu": (lambda x: x if x > 0 else 0.01 * x, lambda x: 1.0 if x > 0 else 0.01),
    "sigmoid": (lambda x: 1 / (1 + math.exp(-x)), lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2),
    "tanh": (math.tanh, lambda x: 1 / math.cosh(x) ** 2),
    "softplus": (lambda x: math.log(1 + math.exp(x)), lambda x: 1 / (1 + math.exp(-x))),
    "elu": (lambda x: x if x > 0 else math.exp(x) - 1, lambda x: 1.0 if x > 0 else math.exp(x)),
    "gelu": (
        lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
        lambda x: (1 + math.erf(x / math.sqrt(2))) / 2 + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    "silu": (
        lambda x: x / (1 + math.exp(-x)),
        lambda x: (1 + math.exp(-x) * (1 + x)) / (1 + math.exp(-x)) ** 2,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_slopes_from_the_definition(host_engine, name):
    f, slope = FUNCTIONS[name]
    x = numpy.array([-3.0, -1.0, -0.3, 0.2, 1.0, 2.5])
    y, cache = getattr(host_engine, name)(x)
    numpy.testing.assert_allclose(y, [f(v) for v in x], rtol=1e-14)
    dx = getattr(host_engine, f"{name}_backward")(numpy.full(6, -2.0), cache)
    numpy.testing.assert_allclose(dx, [-2 * slope(v) for v in x], rtol=1e-14)


def test_the_settings_do_what_they_say(host_engine):
    x, dy = numpy.array([-2.0, 3.0]), numpy.ones(2)
    y, cache = host_engine.leaky_relu(x, 0.5)
    numpy.testing.assert_array_equal(y, [-1, 3])
    numpy.testing.assert_array_equal(host_engine.leaky_relu_backward(dy, cache), [0.5, 1])
    y, cache = host_engine.elu(x, 2.0)
    numpy.testing.assert_allclose(y, [2 * math.expm1(-2), 3])
    numpy.testing.assert_allclose(host_engine.elu_backward(dy, cache), [2 * math.exp(-2), 1])
    y, cache = host_engine.softplus(x, 2.0, 5.0)  # 2 * 3 is beyond 5
    numpy.testing.assert_allclose(y, [math.log1p(math.exp(-4)) / 2, 3], rtol=1e-15)
    numpy.testing.assert_allclose(host_engine.softplus_backward(dy, cache), [1 / (1 + math.exp(4)), 1])


def test_the_tanh_form_of_gelu_is_near_the_exact_one_and_not_it(host_engine):
    x = numpy.linspace(-6, 6, 121)
    difference = numpy.abs(host_engine.gelu(x, "tanh")[0] - host_engine.gelu(x)[0])
    assert 1e-4 < difference.max() < 5e-4


def test_slopes_at_the_kinks_are_those_of_the_left(host_engine):
    zero, one = numpy.zeros(1), numpy.ones(1)
    for name, slope in [("relu", 0.0), ("leaky_relu", 0.01), ("elu", 1.0)]:
        y, cache = getattr(host_engine, name)(zero)
        assert getattr(host_engine, f"{name}_backward")(one, cache)[0] == slope
        assert y[0] == 0


def test_hardtanh_needs_room_between_its_bounds(host_engine):
    for bounds in ((1.0, -1.0), (0.5, 0.5), (float("nan"), 1.0)):
        with pytest.raises(errors.ParameterError, match="hardtanh: min_val must be less than max_val, got"):
            host_engine.hardtanh(numpy.ones(3), *bounds)
    y, cache = host_engine.hardtanh(numpy.array([-1.0, 0.0, 1.0]))
    numpy.testing.assert_array_equal(y, [-1, 0, 1])
    numpy.testing.assert_array_equal(host_engine.hardtanh_backward(numpy.ones(3), cache), [0, 1, 0])


def test_relu6_is_flat_beyond_six(host_engine):
    y, cache = host_engine.relu6(numpy.array([5.9, 6.0, 6.1, 100.0]))
    numpy.testing.assert_array_equal(y, [5.9, 6, 6, 6])
    numpy.testing.assert_array_equal(host_engine.relu6_backward(numpy.ones(4), cache), [1, 0, 0, 0])


# extremes -----------------------------------------------------------------------------------------------------------

NAMES = [*FUSIBLE, "gelu tanh"]


def pair(name):
    """Return forward and backward without the decorator that keeps NumPy quiet, so that a warning is an error here."""
    op, *approximate = name.split()
    forward, backward = (inspect.unwrap(ops.FORMULAS[key]) for key in (op, f"{op}_backward"))
    return (lambda x: forward(x, *approximate)), backward


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_no_finite_input_overflows_on_the_way(name, dtype):
    forward, backward = pair(name)
    information = numpy.finfo(dtype)
    grid = numpy.linspace(-12, 12, 4801)
    values = forward(grid)[0]
    steepest = numpy.max(numpy.abs(numpy.diff(values))) / (grid[1] - grid[0])
    beyond = numpy.abs(grid) > 6
    growth = max(1.0, numpy.max(numpy.abs(values[beyond] / grid[beyond]))) * (1 + 2 * float(information.eps))
    sizes = [float(information.max) / 1.1, 1e4, 800.0, 100.0, 45.0, 12.0, 1.0, float(information.tiny), 0.0]
    x = numpy.array([*sizes, *(-size for size in sizes)], dtype)
    with numpy.errstate(all="raise", under="ignore"):
        y, cache = forward(x)
        dx = backward(numpy.ones_like(x), cache)
    assert numpy.isfinite(y).all()
    assert numpy.isfinite(dx).all()
    assert (numpy.abs(y) <= growth * numpy.abs(x.astype("float64")) + 1.01).all()
    assert (numpy.abs(dx) < 1.05 * steepest + 0.01).all()


@pytest.mark.parametrize(
    ("name", "values", "slopes"),  # at minus infinity, infinity and nan
    [
        ("relu", (0, math.inf, math.nan), (0, 1, 0)),
        ("relu6", (0, 6, math.nan), (0, 0, 0)),
        ("leaky_relu", (-math.inf, math.inf, math.nan), (0.01, 1, 0.01)),
        ("sigmoid", (0, 1, math.nan), (0, 0, math.nan)),
        ("tanh", (-1, 1, math.nan), (0, 0, math.nan)),
        ("softplus", (0, math.inf, math.nan), (0, 1, math.nan)),
        ("elu", (-1, math.inf, math.nan), (0, 1, math.nan)),
        ("gelu", (math.nan, math.inf, math.nan), None),  # zero times infinity, as in PyTorch
        ("silu", (math.nan, math.inf, math.nan), None),
    ],
)
def test_infinity_and_nan(host_engine, name, values, slopes):
    y, cache = getattr(host_engine, name)(numpy.array([-math.inf, math.inf, math.nan]))
    numpy.testing.assert_array_equal(y, values)
    if slopes is not None:
        numpy.testing.assert_array_equal(getattr(host_engine, f"{name}_backward")(numpy.ones(3), cache), slopes)


def test_infinite_upstream_gradients_are_quiet(host_engine):
    x = numpy.array([-1000.0, 1000.0])
    for name in FUSIBLE:
        _, cache = getattr(host_engine, name)(x)
        getattr(host_engine, f"{name}_backward")(numpy.full(2, math.inf), cache)  # a warning would be an error


def test_small_results_keep_their_digits():
    """Where a formula written down carelessly gives 0."""
    far = numpy.array([-40.0])
    exact = math.exp(-40.0)  # of sigmoid and softplus, both within exp(-40) of it
    formula = ops.FORMULAS
    for y in (formula["sigmoid"](far)[0], formula["softplus"](far)[0], formula["silu"](far)[0] / -40):
        assert y[0] == pytest.approx(exact, rel=4e-16, abs=0)
    assert formula["elu"](numpy.array([-1e-20]))[0][0] == -1e-20
    assert formula["gelu"](numpy.array([-20.0]))[0][0] == pytest.approx(-20 * 2.7536241186062337e-89, rel=1e-15, abs=0)
    u = math.sqrt(2 / math.pi) * (-8 + 0.044715 * -512)
    tail = -8 * math.exp(2 * u)  # -8 sigmoid(2 u)
    assert formula["gelu"](numpy.array([-8.0]), "tanh")[0][0] == pytest.approx(tail, rel=1e-13, abs=0)


def test_gelus_slope_is_right_in_the_left_tail():
    """Phi(x) + x phi(x), two terms of unlike sign: x = -20 leaves 1 - 400 of them."""
    x = numpy.array([-20.0])
    _, cache = ops.FORMULAS["gelu"](x)
    density = math.exp(-200) / math.sqrt(2 * math.pi)
    expected = 2.7536241186062337e-89 - 20 * density
    assert ops.FORMULAS["gelu_backward"](numpy.ones(1), cache)[0] == pytest.approx(expected, rel=2e-15, abs=0)


def test_the_sigmoid_is_as_symmetric_as_its_definition(host_engine):
    x = numpy.linspace(0, 50, 501)
    numpy.testing.assert_allclose(host_engine.sigmoid(x)[0] + host_engine.sigmoid(-x)[0], 1, rtol=3e-16)


# errors and shapes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUSIBLE)
def test_any_shape(host_engine, name):
    for shape in [(), (0,), (3, 0, 2), (1, 2, 3, 4)]:
        x = numpy.full(shape, 0.5)
        y, cache = getattr(host_engine, name)(x)
        assert y.shape == shape
        assert getattr(host_engine, f"{name}_backward")(numpy.ones(shape), cache).shape == shape


@pytest.mark.parametrize("name", FUSIBLE)
def test_an_upstream_gradient_that_does_not_fit(host_engine, name):
    _, cache = getattr(host_engine, name)(numpy.ones((2, 3)))
    backward = getattr(host_engine, f"{name}_backward")
    with pytest.raises(errors.ShapeError, match=rf"{name}_backward: dy .*\(2, 3\), got \(3,\)"):
        backward(numpy.ones(3), cache)
    with pytest.raises(errors.DtypeError, match=rf"{name}_backward: dy .*float64, got float32"):
        backward(numpy.ones((2, 3), "float32"), cache)
    with pytest.raises(
        errors.DtypeError, match=rf"{name}_backward: dy must be a floating-point array, got dtype int64"
    ):
        backward(numpy.ones((2, 3), "int64"), cache)
    with pytest.raises(errors.DtypeError, match=r"must be an array, got float"):
        backward(1.0, cache)


@pytest.mark.parametrize("name", FUSIBLE)
def test_a_list_is_no_array(host_engine, name):
    with pytest.raises(
        errors.DtypeError, match=rf"{name}: x must be an array, got list; convert it with numpy.asarray"
    ):
        getattr(host_engine, name)([1.0, 2.0])


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_softplus_wants_a_positive_beta(host_engine, beta):
    with pytest.raises(errors.ParameterError, match="softplus: beta must be positive"):
        host_engine.softplus(numpy.ones(2), beta)
