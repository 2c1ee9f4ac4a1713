"""On the very boundary of a comparison, and defaults: where a strict inequality and the other one differ."""

import inspect

import numpy
import pytest

from minidl import ops
from minidl.ops._checks import sum_dtype
from minidl.ops.folding import batch_norm_as_affine


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softplus_at_its_threshold_is_smooth(host_engine, dtype):
    """y is x beyond the threshold, and log(1 + exp(x)) on it, where the two still differ by a third."""
    x = numpy.full(40, 1.0, dtype)  # vectors and what is left after them
    y, cache = host_engine.softplus(x, 1.0, 1.0)
    numpy.testing.assert_allclose(y, numpy.log1p(numpy.exp(x)), rtol=1e-6)
    dx = host_engine.softplus_backward(numpy.full(40, 3.0, dtype), cache)
    numpy.testing.assert_allclose(dx, 3 / (1 + numpy.exp(-x)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_keeps_a_number_that_equals_p(host_engine, dtype):
    """The number drawn is at least p: so each is kept with probability 1 - p, and all are with p = 0."""
    x = numpy.ones((5, 20), dtype)
    uniform = numpy.random.default_rng(3).random(x.shape, dtype="float32")
    for drawn in uniform.flat[:7]:
        y, _ = host_engine.dropout(x, float(drawn), numpy.random.default_rng(3))
        numpy.testing.assert_array_equal(y != 0, uniform >= drawn)
    images = x[:, :, None, None]
    y, _ = host_engine.dropout2d(images, float(uniform[0, 0]), numpy.random.default_rng(3))
    numpy.testing.assert_array_equal(y[:, :, 0, 0] != 0, uniform >= uniform[0, 0])


def test_folding_has_the_eps_of_batch_norm():
    eps = [inspect.signature(op).parameters["eps"].default for op in (ops.batch_norm, ops.fold_batch_norm)]
    assert eps == [1e-5, 1e-5]
    scale, shift = batch_norm_as_affine(numpy.ones(1), numpy.zeros(1))
    numpy.testing.assert_allclose(scale, 1e-5**-0.5, rtol=1e-14)
    numpy.testing.assert_allclose(shift, -(1e-5**-0.5), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "complex128", "longdouble"])
def test_long_sums_of_wide_numbers_stay_wide(dtype):
    """float64 would cost complex numbers their imaginary part and long doubles their digits."""
    for terms in (64, 65):
        assert sum_dtype(numpy.zeros(1, dtype), terms) == dtype
        assert sum_dtype(numpy.zeros(1, "float32"), terms) == ("float32" if terms == 64 else "float64")
