"""Dropout: masks given and drawn, its expectation, the ends of p, errors."""

import numpy
import pytest

from minidl import errors, ops
from minidl.errors import ParameterError, ShapeError


def test_a_given_mask_decides(host_engine):
    x, mask = numpy.array([1.0, 2.0, 3.0, 4.0]), numpy.array([True, False, True, False])
    y, cache = host_engine.dropout(x, 0.75, mask)
    numpy.testing.assert_array_equal(y, [4, 0, 12, 0])
    numpy.testing.assert_array_equal(host_engine.dropout_backward(numpy.ones(4), cache), [4, 0, 4, 0])


def test_the_same_generator_draws_the_same_mask_for_every_dtype(host_engine):
    masks = []
    for dtype in ("float16", "float32", "float64"):
        y, _ = host_engine.dropout(numpy.ones((50, 40), dtype), 0.3, numpy.random.default_rng(5))
        assert y.dtype == dtype
        masks.append(y > 0)
    assert (masks[0] == masks[1]).all()
    assert (masks[1] == masks[2]).all()
    expected = numpy.random.default_rng(5).random((50, 40), dtype=numpy.float32) >= 0.3
    assert (masks[0] == expected).all()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_fraction_dropped_and_the_mean(host_engine, p):
    n = 100_000
    y, _ = host_engine.dropout(numpy.ones(n), p, numpy.random.default_rng(0))
    standard_error = (p * (1 - p) / n) ** 0.5
    assert abs((y == 0).mean() - p) < 5 * standard_error
    assert abs(y.mean() - 1) < 5 * standard_error / (1 - p)
    numpy.testing.assert_allclose(y[y > 0], 1 / (1 - p), rtol=1e-15)


def test_nothing_and_everything(host_engine):
    x = numpy.array([1.0, -2.0, 3.0])
    y, cache = host_engine.dropout(x, 0.0, numpy.random.default_rng(0))
    numpy.testing.assert_array_equal(y, x)
    numpy.testing.assert_array_equal(host_engine.dropout_backward(x, cache), x)
    y, cache = host_engine.dropout(x, 1.0, numpy.random.default_rng(0))
    numpy.testing.assert_array_equal(y, 0)
    numpy.testing.assert_array_equal(host_engine.dropout_backward(x, cache), 0)


def test_each_call_draws_anew(host_engine):
    random = numpy.random.default_rng(0)
    first, second = (host_engine.dropout(numpy.ones(100), 0.5, random)[0] for _ in range(2))
    assert (first != second).any()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 2, 3)])
def test_any_shape(host_engine, shape):
    y, cache = host_engine.dropout(numpy.ones(shape), 0.5, numpy.random.default_rng(0))
    assert y.shape == host_engine.dropout_backward(numpy.ones(shape), cache).shape == shape


def test_infinity_dropped_is_nan(host_engine):
    y, _ = host_engine.dropout(numpy.array([numpy.inf, numpy.inf]), 0.5, numpy.array([True, False]))
    numpy.testing.assert_array_equal(y, [numpy.inf, numpy.nan])


@pytest.mark.parametrize(
    ("p", "random", "error", "message"),
    [
        (-0.1, numpy.ones(3, bool), errors.ParameterError, "from 0 to 1, got -0.1"),
        (1.1, numpy.ones(3, bool), errors.ParameterError, "from 0 to 1, got 1.1"),
        (float("nan"), numpy.ones(3, bool), errors.ParameterError, "from 0 to 1, got nan"),
        (0.5, None, errors.ParameterError, r"Generator or a boolean mask of shape \(3,\), got None"),
        (0.5, 7, errors.ParameterError, "got 7"),
        (0.5, numpy.ones(4, bool), errors.ShapeError, r"the shape of x, \(3,\), got \(4,\)"),
        (0.5, numpy.ones(1, bool), errors.ShapeError, r"the shape of x, \(3,\), got \(1,\)"),
        (0.5, numpy.ones(3), errors.DtypeError, "must be boolean .*got dtype float64"),
        (0.5, numpy.ones(3, int), errors.DtypeError, "must be boolean .*got dtype int64"),
    ],
)
def test_what_is_wrong_is_named(host_engine, p, random, error, message):
    with pytest.raises(error, match=f"dropout: .*{message}"):
        host_engine.dropout(numpy.ones(3), p, random)


def test_an_upstream_gradient_that_does_not_fit(host_engine):
    _, cache = host_engine.dropout(numpy.ones((2, 3)), 0.5, numpy.random.default_rng(0))
    with pytest.raises(errors.ShapeError, match=r"dropout_backward: dy must have the shape of y, \(2, 3\), got \(3,\)"):
        host_engine.dropout_backward(numpy.ones(3), cache)


def test_channels_are_dropped_whole(host_engine):
    x = numpy.random.default_rng(0).normal(size=(50, 40, 3, 2))
    y, cache = host_engine.dropout2d(x, 0.25, numpy.random.default_rng(5))
    kept = (y != 0).any(axis=(2, 3), keepdims=True)
    numpy.testing.assert_allclose(y, kept * x / 0.75)
    assert abs(kept.mean() - 0.75) < 5 * (0.25 * 0.75 / kept.size) ** 0.5
    assert numpy.array_equal(kept, numpy.random.default_rng(5).random(kept.shape, dtype="float32") >= 0.25)
    numpy.testing.assert_allclose(host_engine.dropout2d_backward(x, cache), kept * x / 0.75)


def test_what_the_dropout_of_channels_refuses():
    x = numpy.ones((2, 3, 4, 4))
    with pytest.raises(ShapeError, match=r"dropout2d: x must have shape \(N, C, H, W\), got \(2, 3\); .*use dropout"):
        ops.dropout2d(x[:, :, 0, 0], 0.5, numpy.random.default_rng(0))
    with pytest.raises(
        ShapeError, match=r"mask must have one element for each channel, \(2, 3, 1, 1\), got \(2, 3, 4, 4\)"
    ):
        ops.dropout2d(x, 0.5, x > 0)
    with pytest.raises(ParameterError, match="dropout2d: p must be a probability"):
        ops.dropout2d(x, 1.5, numpy.random.default_rng(0))
    _, cache = ops.dropout2d(x, 0.5, numpy.random.default_rng(0))
    with pytest.raises(ShapeError, match=r"dy must have the shape of y, \(2, 3, 4, 4\)"):
        ops.dropout2d_backward(x[:, :, :1, :1], cache)
