"""Softmax and log-softmax: known values, large and infinite scores, half precision, errors."""

import inspect
import math

import numpy
import pytest

from minidl import errors, ops


def test_values_that_can_be_checked_by_hand(host_engine):
    x = numpy.log(numpy.array([[1.0, 3.0, 4.0], [5.0, 5.0, 10.0]]))
    p = numpy.array([[1 / 8, 3 / 8, 1 / 2], [1 / 4, 1 / 4, 1 / 2]])
    y, cache = host_engine.softmax(x)
    numpy.testing.assert_allclose(y, p, rtol=1e-15)
    dy = numpy.array([[8.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # the means of dy under p are 1 and 1/2
    dx = [[7 / 8, -3 / 8, -1 / 2], [-1 / 8, -1 / 8, 1 / 4]]
    numpy.testing.assert_allclose(host_engine.softmax_backward(dy, cache), dx, rtol=1e-14)
    y, cache = host_engine.log_softmax(x)
    numpy.testing.assert_allclose(y, numpy.log(p), rtol=1e-14)
    # dy less its sum times p
    dx = [[7.0, -3.0, -4.0], [-1 / 4, -1 / 4, 1 / 2]]
    numpy.testing.assert_allclose(host_engine.log_softmax_backward(dy, cache), dx, rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_any_axis_is_the_last_axis_of_the_array_turned(host_engine, axis):
    x = numpy.random.default_rng(0).normal(size=(3, 4, 5))
    dy = numpy.random.default_rng(1).normal(size=(3, 4, 5))
    turn = lambda array: numpy.moveaxis(array, axis, -1)  # noqa: E731
    for name in ("softmax", "log_softmax"):
        y, cache = getattr(host_engine, name)(x, axis)
        expected, expected_cache = getattr(host_engine, name)(turn(x).copy())
        numpy.testing.assert_allclose(turn(y), expected, rtol=1e-14)
        dx = getattr(host_engine, f"{name}_backward")(dy, cache)
        expected = getattr(host_engine, f"{name}_backward")(turn(dy).copy(), expected_cache)
        numpy.testing.assert_allclose(turn(dx), expected, rtol=1e-12, atol=1e-15)


def test_a_constant_added_to_all_scores_changes_nothing(host_engine):
    x = numpy.array([1.0, 2.0, 4.0])
    for shift in (-1e6, 1e6):
        numpy.testing.assert_allclose(host_engine.softmax(x + shift)[0], host_engine.softmax(x)[0], rtol=1e-14)
        numpy.testing.assert_allclose(host_engine.log_softmax(x + shift)[0], host_engine.log_softmax(x)[0], rtol=1e-14)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(("dtype", "size"), [("float16", 3e4), ("float32", 1e38), ("float64", 8e307)])
def test_no_finite_score_overflows_on_the_way(name, dtype, size):
    x = numpy.array([[size, -size, 0.0], [-size, -size, -size], [size, size, size]], dtype)
    with numpy.errstate(all="raise", under="ignore"):
        y, cache = inspect.unwrap(ops.FORMULAS[name])(x)
        dx = inspect.unwrap(ops.FORMULAS[f"{name}_backward"])(numpy.ones_like(x), cache)
    p = y if name == "softmax" else numpy.exp(y)
    numpy.testing.assert_allclose(p, [[1, 0, 0], [1 / 3] * 3, [1 / 3] * 3], rtol=1e-3)
    assert numpy.isfinite(dx).all()


def test_the_logarithm_of_a_vanishing_probability_is_kept(host_engine):
    x = numpy.array([0.0, -1000.0])
    assert host_engine.softmax(x)[0][1] == 0
    assert host_engine.log_softmax(x)[0][1] == -1000
    tiny = host_engine.log_softmax(numpy.array([50.0, 0.0]))[0][0]  # -log(1 + exp(-50)), to an absolute 1e-16 at least
    assert -3e-16 <= tiny <= 0


def test_a_class_may_be_ruled_out_and_nonsense_is_nan(host_engine):
    inf, nan = math.inf, math.nan
    x = numpy.array([[0.0, -inf, 0.0], [-inf, -inf, -inf], [inf, 0.0, 0.0], [nan, 0.0, 0.0]])
    y, cache = host_engine.softmax(x)
    numpy.testing.assert_array_equal(y[0], [0.5, 0, 0.5])
    assert numpy.isnan(y[1]).all()
    assert numpy.isnan(y[2]).any()
    assert numpy.isnan(y[3]).all()
    numpy.testing.assert_allclose(host_engine.softmax_backward(numpy.ones((4, 3)), cache)[0], 0, atol=1e-16)
    y, cache = host_engine.log_softmax(x)
    numpy.testing.assert_allclose(y[0], [-math.log(2), -inf, -math.log(2)])
    assert numpy.isnan(y[1]).all()
    assert numpy.isnan(y[3]).all()
    dx = host_engine.log_softmax_backward(numpy.ones((4, 3)), cache)
    numpy.testing.assert_allclose(dx[0], [-0.5, 1, -0.5])


def test_half_precision_sums_beyond_its_own_range(host_engine):
    """The sum of 80,000 exponentials of 0 is more than the largest float16."""
    x = numpy.zeros(80_000, "float16")
    y, cache = host_engine.softmax(x)
    assert y.dtype == "float16"
    numpy.testing.assert_allclose(y, 1 / 80_000, rtol=0.01)
    dx = host_engine.softmax_backward(numpy.ones_like(x), cache)
    numpy.testing.assert_allclose(dx, 0, atol=1e-6)
    y, cache = host_engine.log_softmax(x)
    numpy.testing.assert_allclose(y, -math.log(80_000), rtol=1e-3)
    dx = host_engine.log_softmax_backward(numpy.ones_like(x), cache)
    numpy.testing.assert_allclose(dx, 0, atol=1e-2)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_empty_batches_pass_and_empty_rows_do_not(host_engine, name):
    forward, backward = getattr(host_engine, name), getattr(host_engine, f"{name}_backward")
    for shape, axis in [((0, 3), 1), ((3, 0), 0), ((2, 3, 0), 1)]:
        y, cache = forward(numpy.ones(shape), axis)
        assert y.shape == backward(numpy.ones(shape), cache).shape == shape
    with pytest.raises(errors.ShapeError, match=rf"{name}: axis 1 of x is empty \(shape \(3, 0\)\)"):
        forward(numpy.ones((3, 0)), 1)
    with pytest.raises(errors.ShapeError, match=rf"{name}: x of shape \(3, 2\) has no axis -3"):
        forward(numpy.ones((3, 2)), -3)
    with pytest.raises(errors.ShapeError, match=rf"{name}: x of shape \(\) has no axis -1"):
        forward(numpy.array(1.0))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_an_upstream_gradient_that_does_not_fit(host_engine, name):
    _, cache = getattr(host_engine, name)(numpy.ones((2, 3)))
    with pytest.raises(
        errors.ShapeError, match=rf"{name}_backward: dy must have the shape of y, \(2, 3\), got \(2, 1\)"
    ):
        getattr(host_engine, f"{name}_backward")(numpy.ones((2, 1)), cache)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gap", [0.2, 0.35, 5.0, 12.0, 30.0, 60.0])
def test_the_gradient_of_a_confident_answer_keeps_its_digits(host_engine, dtype, gap):
    """The right class gets minus the sum of what the others get, also where its probability rounds to 1; so does cross-entropy."""
    x = numpy.array([[gap, 0.0, -1.0, 0.5]], dtype)
    others = numpy.exp(x[0, 1:].astype("float64") - gap)
    p = others / (1 + others.sum())
    expected = [[-p.sum(), *p]]
    rtol = 30 * float(numpy.finfo(dtype).eps)
    _, cache = host_engine.log_softmax(x)
    dx = host_engine.log_softmax_backward(numpy.array([[-1, 0, 0, 0]], dtype), cache)
    numpy.testing.assert_allclose(
        dx, expected, rtol=rtol * max(1, gap)
    )  # exp magnifies the rounding of y by the size of y
    _, cache = host_engine.cross_entropy(x, numpy.array([0]))
    numpy.testing.assert_allclose(host_engine.cross_entropy_backward(1.0, cache), expected, rtol=rtol)
