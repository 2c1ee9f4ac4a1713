"""The optimisers' updates: steps worked by hand, properties of each method, what is changed, errors."""

import math

import numpy
import pytest

from minidl import errors

UPDATES = {  # the state arrays and the settings that each needs
    "sgd_update": (1, {"lr": 0.1, "momentum": 0.9}),
    "adagrad_update": (1, {"lr": 0.1, "step": 1}),
    "rmsprop_update": (3, {"lr": 0.1, "momentum": 0.9}),
    "adam_update": (3, {"lr": 0.1, "step": 1}),
}


def a(*numbers):
    return numpy.array(numbers)


# by hand ------------------------------------------------------------------------------------------------------------


def test_sgd(host_engine):
    value = a(1.0, -2.0)
    host_engine.sgd_update(value, a(0.5, 1.0), None, lr=0.1, weight_decay=0.5)
    numpy.testing.assert_allclose(value, [1 - 0.1 * (0.5 + 0.5), -2 - 0.1 * (1 - 1)])


def test_sgd_with_momentum(host_engine):
    value, b = a(0.0), a(99.0)  # what is in the buffer before the first step does not count
    host_engine.sgd_update(value, a(1.0), b, lr=1.0, momentum=0.5, dampening=0.25, first_step=True)
    assert (value, b) == (-1, 1)
    host_engine.sgd_update(value, a(1.0), b, lr=1.0, momentum=0.5, dampening=0.25)
    assert (value, b) == (-2.25, 1.25)  # b = 0.5 * 1 + 0.75 * 1


def test_nesterov_looks_ahead(host_engine):
    value, b = a(0.0), a(0.0)
    host_engine.sgd_update(value, a(1.0), b, lr=1.0, momentum=0.5, nesterov=True, first_step=True)
    assert (value, b) == (-1.5, 1)  # g + 0.5 b
    host_engine.sgd_update(value, a(1.0), b, lr=1.0, momentum=0.5, nesterov=True)
    assert (value, b) == (-3.25, 1.5)


def test_adagrad(host_engine):
    value, s = a(0.0), a(0.0)
    host_engine.adagrad_update(value, a(3.0), s, lr=1.0, lr_decay=1.0, eps=0.0, step=1)
    assert (value, s) == (-1, 9)
    host_engine.adagrad_update(value, a(4.0), s, lr=1.0, lr_decay=1.0, eps=0.0, step=2)
    assert s == 25
    assert value == pytest.approx(-1 - 4 / 5 / 2)  # at half the rate


def test_rmsprop(host_engine):
    value, v = a(0.0), a(0.0)
    host_engine.rmsprop_update(value, a(3.0), v, None, None, lr=1.0, alpha=0.75, eps=0.5)
    assert v == 2.25
    assert value == -3 / (1.5 + 0.5)


def test_rmsprop_centred_with_momentum(host_engine):
    value, v, mean, b = a(0.0), a(0.0), a(0.0), a(1.0)
    host_engine.rmsprop_update(value, a(2.0), v, mean, b, lr=1.0, alpha=0.5, eps=0.0, momentum=0.5)
    assert (v, mean) == (2, 1)
    assert b == 0.5 + 2 / math.sqrt(2 - 1)
    assert value == -b


def test_adam(host_engine):
    value, m, v = a(1.0), a(0.0), a(0.0)
    host_engine.adam_update(value, a(2.0), m, v, None, lr=0.5, beta1=0.5, beta2=0.75, eps=0.0, step=1)
    assert (m, v) == (1, 1)
    assert value == 0.5  # m / 0.5 = 2 and sqrt(v / 0.25) = 2
    host_engine.adam_update(value, a(0.0), m, v, None, lr=0.5, beta1=0.5, beta2=0.75, eps=0.0, step=2)
    assert (m, v) == (0.5, 0.75)
    assert value == pytest.approx(0.5 - 0.5 * (0.5 / 0.75) / math.sqrt(0.75 / (1 - 0.75**2)))


def test_weight_decay_is_part_of_adams_gradient_and_not_of_adamws(host_engine):
    for decoupled, expected_m, expected in [(False, 1.0, 1.8), (True, 0.0, 2 * (1 - 0.2 * 0.5))]:
        value, m, v = a(2.0), a(0.0), a(0.0)
        settings = {"lr": 0.2, "beta1": 0.0, "eps": 0.0 if not decoupled else 1e-8, "weight_decay": 0.5}
        host_engine.adam_update(value, a(0.0), m, v, None, **settings, decoupled=decoupled, step=1)
        assert m == expected_m
        assert value == pytest.approx(expected)


def test_amsgrad_never_forgets_the_largest_second_moment(host_engine):
    value, m, v, v_max = a(0.0), a(0.0), a(0.0), a(0.0)
    for step, grad in enumerate([10.0, 0.1, 0.1, 0.1], start=1):
        host_engine.adam_update(value, a(grad), m, v, v_max, lr=0.1, beta2=0.5, step=step)
    assert v_max == 50
    assert v < 10


# properties ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_first_step_of_adam_has_length_lr_whatever_the_gradients_size(host_engine, size):
    value = numpy.zeros(2)
    host_engine.adam_update(value, a(size, -size), a(0.0, 0.0), a(0.0, 0.0), None, lr=0.1, eps=0.0, step=1)
    numpy.testing.assert_allclose(value, [-0.1, 0.1])


def test_a_constant_gradient_leaves_no_variance_and_no_nan(host_engine):
    """Centred, v - a^2 falls to zero, and rounding takes it below."""
    value, v, mean = numpy.zeros(100), numpy.zeros(100), numpy.zeros(100)
    grad = numpy.random.default_rng(0).normal(size=100)
    for _ in range(200):
        host_engine.rmsprop_update(value, grad, v, mean, None, lr=1e-12, alpha=0.5)
    assert numpy.isfinite(value).all()


@pytest.mark.parametrize("name", UPDATES)
def test_a_parabola_is_descended(host_engine, name):
    states, settings = UPDATES[name]
    value, state = a(3.0, -2.0), [numpy.zeros(2) for _ in range(states)]
    for step in range(1, 401):
        extra = {"step": step} if "step" in settings else {"first_step": step == 1} if name == "sgd_update" else {}
        lr = 0.5 if name == "adagrad_update" else 0.02
        getattr(host_engine, name)(value, 2 * value, *state, **{**settings, "lr": lr, **extra})
    assert numpy.abs(value).max() < 0.1


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_everything_is_in_place_but_the_gradient(host_engine, name, dtype):
    states, settings = UPDATES[name]
    buffer = numpy.ones(7, dtype)
    value, grad = buffer[2:5], numpy.full(3, 0.5, dtype)  # a view of a larger buffer
    state = [numpy.zeros(3, dtype) for _ in range(states)]
    assert getattr(host_engine, name)(value, grad, *state, **settings) is None
    assert (value != 1).all()
    numpy.testing.assert_array_equal(buffer[[0, 1, 5, 6]], 1)
    numpy.testing.assert_array_equal(grad, 0.5)
    assert all((array != 0).all() for array in state)
    assert buffer.dtype == dtype


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("grad", [0.0, 1e-3, 300.0])
def test_float16_is_updated_in_float32_and_rounded_once(host_engine, name, grad):
    """In float16 the squares of 1e-3 and of 300 are 0 and infinity, and eps is 0."""
    states, settings = UPDATES[name]
    found = {}
    for dtype in ("float16", "float32"):
        value, given = numpy.ones(3, dtype), numpy.full(3, grad, "float16").astype(dtype)
        state = [numpy.zeros(3, "float32") for _ in range(states)]
        getattr(host_engine, name)(value, given, *state, **settings)
        found[dtype] = value, state
    numpy.testing.assert_array_equal(found["float16"][0], found["float32"][0].astype("float16"))
    for half, single in zip(found["float16"][1], found["float32"][1], strict=True):
        numpy.testing.assert_allclose(half, single, rtol=1e-6)  # a kernel may have computed the second


@pytest.mark.parametrize("name", UPDATES)
def test_the_state_of_float16_may_be_float16_too(host_engine, name):
    states, settings = UPDATES[name]
    names = {"sgd_update": ["momentum_buffer"], "adagrad_update": ["square_sum"], "adam_update": ["m", "v", "v_max"],
             "rmsprop_update": ["square_average", "grad_average", "momentum_buffer"]}[name]  # fmt: skip
    for order in ("float16", ">f2"):
        value, grad = numpy.ones(3, order), numpy.full(3, 0.5, order)
        wide = [numpy.ones(3, "float32"), grad.astype("float32"), *(numpy.zeros(3, "float32") for _ in range(states))]
        state = {key: numpy.zeros(3, order) for key in names}
        getattr(host_engine, name)(value=value, grad=grad, **state, **settings)
        getattr(host_engine, name)(*wide, **settings)
        for found, expected in zip([value, *state.values()], [wide[0], *wide[2:]], strict=True):
            numpy.testing.assert_array_equal(found, expected.astype("float16"))


@pytest.mark.parametrize("name", UPDATES)
def test_nothing_to_update(host_engine, name):
    states, settings = UPDATES[name]
    getattr(host_engine, name)(numpy.zeros(0), numpy.zeros(0), *(numpy.zeros(0) for _ in range(states)), **settings)


@pytest.mark.parametrize("name", UPDATES)
def test_infinity_and_nan_go_through_quietly(host_engine, name):
    states, settings = UPDATES[name]
    value = numpy.ones(3)
    grad = a(math.nan, math.inf, 1.0)
    getattr(host_engine, name)(value, grad, *(numpy.zeros(3) for _ in range(states)), **settings)
    assert math.isnan(value[0])
    assert not math.isfinite(value[1])
    assert math.isfinite(value[2])


# errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UPDATES)
def test_arrays_that_are_not_alike(host_engine, name):
    states, settings = UPDATES[name]
    update = getattr(host_engine, name)
    state = [numpy.zeros(3) for _ in range(states)]
    with pytest.raises(errors.ShapeError, match=rf"{name}: grad must have the shape of value, \(3,\), got \(1,\)"):
        update(numpy.zeros(3), numpy.zeros(1), *state, **settings)
    with pytest.raises(errors.DtypeError, match=f"{name}: grad must have the dtype of value, float64, got float32"):
        update(numpy.zeros(3), numpy.zeros(3, "float32"), *state, **settings)
    with pytest.raises(errors.DtypeError, match=f"{name}: value must be a floating-point array, got dtype int64"):
        update(numpy.zeros(3, int), numpy.zeros(3), *state, **settings)
    with pytest.raises(errors.DtypeError, match=f"{name}: grad must have the dtype of value, float16, got float32"):
        update(numpy.zeros(3, "float16"), numpy.zeros(3, "float32"), *state, **settings)
    for position in range(states):
        wrong = [numpy.zeros(2) if i == position else array for i, array in enumerate(state)]
        with pytest.raises(errors.ShapeError, match=rf"{name}: .* must have the shape of value, \(3,\), got \(2,\)"):
            update(numpy.zeros(3), numpy.zeros(3), *wrong, **settings)


def test_momentum_without_a_buffer(host_engine):
    with pytest.raises(errors.ParameterError, match="sgd_update: momentum needs a momentum_buffer"):
        host_engine.sgd_update(a(1.0), a(1.0), None, lr=0.1, momentum=0.9)
    with pytest.raises(errors.ParameterError, match="rmsprop_update: momentum needs a momentum_buffer"):
        host_engine.rmsprop_update(a(1.0), a(1.0), a(0.0), None, None, lr=0.1, momentum=0.9)
