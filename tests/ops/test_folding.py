"""Folding a batch normalisation into what is before it: the same map, in fewer numbers."""

import numpy
import pytest
from array_double import transfers, xp

from minidl import ops
from minidl.errors import DtypeError, ShapeError


def drawn(shape, dtype="float64", affine=True):
    """Return weight, bias and the normalisation's four arrays."""
    random = numpy.random.default_rng(0)
    weight, *rest = random.normal(size=shape), *random.normal(size=(4, shape[0]))
    bias, mean, gamma, beta = rest
    var = random.uniform(0.1, 4, size=shape[0])
    arrays = [weight, bias, mean, var, *([gamma, beta] if affine else [])]
    return [array.astype(dtype) for array in arrays]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    ("op", "shape", "x", "settings"),
    [
        ("conv2d", (6, 2, 3, 2), (2, 4, 7, 6), (2, 1, 1, 2)),
        ("conv1d", (3, 4, 3), (2, 4, 9), (1, 2, 2, 1)),
        ("linear", (3, 5), (4, 5), ()),
    ],
)
def test_the_folded_map_is_the_two_after_one_another(host_engine, op, shape, x, settings, has_bias, affine):
    weight, bias, mean, var, *more = drawn(shape, affine=affine)
    x, bias = numpy.random.default_rng(1).normal(size=x), bias if has_bias else None
    run = getattr(host_engine, op)
    gamma, beta = more or (None, None)
    wanted, _ = host_engine.batch_norm(run(x, weight, bias, *settings)[0], gamma, beta, mean, var, False, 1e-3)
    folded = ops.fold_batch_norm(weight, bias, mean, var, gamma, beta, eps=1e-3)
    numpy.testing.assert_allclose(run(x, *folded, *settings)[0], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_dtype_stays_and_nothing_is_written_to(dtype):
    arrays = drawn((3, 2, 3, 3), dtype)
    before = [array.copy() for array in arrays]
    weight, bias = ops.fold_batch_norm(*arrays)
    assert weight.dtype == bias.dtype == dtype
    for array, old in zip(arrays, before, strict=True):
        numpy.testing.assert_array_equal(array, old)
    exact = ops.fold_batch_norm(*(array.astype("float64") for array in arrays))
    for rounded, true in zip((weight, bias), exact, strict=True):
        numpy.testing.assert_allclose(rounded, true, rtol=8 * numpy.finfo(dtype).eps, atol=8 * numpy.finfo(dtype).eps)


def test_arrays_of_a_gpu_stay_there():
    arrays = drawn((3, 2, 3, 3))
    there = [xp.asarray(array) for array in arrays]
    transfers.clear()
    weight, bias = ops.fold_batch_norm(*there)
    assert +transfers == {}
    for one, other in zip((weight, bias), ops.fold_batch_norm(*arrays), strict=True):
        numpy.testing.assert_allclose(one.get(), other)


def test_what_does_not_fit_is_named():
    weight, bias, mean, var, gamma, beta = drawn((3, 2, 3, 3))
    with pytest.raises(
        ShapeError, match=r"gamma must have one element for each of the output channels .* \(3,\), got \(2,\)"
    ):
        ops.fold_batch_norm(weight, bias, mean, var, gamma[:2], beta)
    with pytest.raises(DtypeError, match="running_var must have the dtype of weight"):
        ops.fold_batch_norm(weight, bias, mean, var.astype("float32"))
