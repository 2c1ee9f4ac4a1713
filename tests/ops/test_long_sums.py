"""Sums over very many rows: float32 keeps its digits, however far the rows are from zero and whichever axis is summed."""

import numpy
import pytest

from minidl.ops._checks import sum_dtype, sum_widened

ROWS = 1_000_000
ROUNDING = 3e-6
"""25 times that of a float32. Of sums in blocks of 64 that are then added one after another it would be 1.5e-4."""
RNG = numpy.random.default_rng(0)
FAR = (RNG.random((ROWS, 2)) + 1000).astype("float32")
ONES = numpy.full((ROWS, 2), 0.1, "float32")  # one after another, these add up to 100,958


def parameters(*values):
    return [numpy.array(values, "float32") for _ in range(2)]


def statistics_close(x_hat, x, axis):
    """Whether x_hat has mean 0 and variance 1, as far as the rounding of x allows."""
    wide = x.astype("float64")
    expected = (wide - wide.mean(axis=axis, keepdims=True)) / wide.std(axis=axis, keepdims=True)
    numpy.testing.assert_allclose(x_hat, expected, atol=1e-3)
    numpy.testing.assert_allclose(x_hat.var(axis=axis, dtype="float64"), 1, rtol=1e-3)


@pytest.mark.parametrize("rows", [100_000, ROWS])
def test_batch_norm(host_engine, rows):
    x = FAR[:rows]
    y, cache = host_engine.batch_norm(x, *parameters(1.0, 1.0), eps=0.0)
    numpy.testing.assert_allclose(cache[3], x.mean(axis=0, dtype="float64"), rtol=1e-6)
    numpy.testing.assert_allclose(cache[4], x.astype("float64").var(axis=0), rtol=1e-3)
    assert abs(y.std(dtype="float64") - 1) < 1e-3
    dx, dweight, dbias = host_engine.batch_norm_backward(ONES[:rows], cache)
    numpy.testing.assert_allclose(dbias, rows * 0.1, rtol=ROUNDING)
    numpy.testing.assert_allclose(dweight, 0.1 * (y - 1).sum(axis=0, dtype="float64"), atol=0.1)
    numpy.testing.assert_allclose(dx, 0, atol=1e-3)  # a constant dy


@pytest.mark.parametrize("rows", [100_000, ROWS])
def test_positions_of_an_image_are_rows_too(host_engine, rows):
    x = numpy.ascontiguousarray(FAR[:rows].T)[None]  # (1, 2, rows)
    statistics_close(host_engine.batch_norm(x, eps=0.0)[0], x, 2)
    statistics_close(host_engine.group_norm(x, 2, eps=0.0)[0], x, 2)
    statistics_close(host_engine.layer_norm(x, rows, eps=0.0)[0], x, 2)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm", "group_norm"])
def test_gradients_of_the_other_norms(host_engine, norm):
    weight = [numpy.array([1.0, 2.0], "float32")] * (1 if norm == "rms_norm" else 2)
    y, cache = getattr(host_engine, norm)(FAR - 1000, 1 if norm == "group_norm" else 2, *weight)
    _, dweight, *dbias = getattr(host_engine, f"{norm}_backward")(ONES, cache)
    x_hat = (y.astype("float64") - (0 if norm == "rms_norm" else weight[0])) / weight[0]
    numpy.testing.assert_allclose(dweight, 0.1 * x_hat.sum(axis=0), rtol=ROUNDING, atol=1)
    for gradient in dbias:
        numpy.testing.assert_allclose(gradient, 0.1 * ROWS, rtol=ROUNDING)


def test_variance_of_equal_differences(host_engine):
    x = numpy.tile(numpy.array([[1.0], [3.0]], "float32"), (ROWS // 2, 2))
    numpy.testing.assert_allclose(host_engine.batch_norm(x * numpy.float32(0.1))[1][4], 0.01, rtol=ROUNDING)


def test_slopes_of_prelu(host_engine):
    for x in (-ONES, -ONES.T[None].copy()):
        for slopes in ([0.5], [0.5, 0.5]):
            y, cache = host_engine.prelu(x, numpy.array(slopes, "float32"))
            dweight = host_engine.prelu_backward(numpy.ones_like(y), cache)[1]
            numpy.testing.assert_allclose(dweight, -0.1 * x.size / len(slopes), rtol=ROUNDING)


def test_infinities_stay_what_they_are(host_engine):
    """What a sum has lost by rounding is nan where the sum is infinite."""
    dy = numpy.ones((200, 3), "float32")
    dy[100] = [numpy.inf, -numpy.inf, numpy.nan]
    weight = numpy.ones((3, 2), "float32")
    _, cache = host_engine.linear(numpy.ones((200, 2), "float32"), weight, weight[:, 0].copy())
    numpy.testing.assert_array_equal(host_engine.linear_backward(dy, cache)[2], dy[100])
    _, cache = host_engine.layer_norm(numpy.tile(numpy.arange(3.0), (200, 1)), 3, *numpy.ones((2, 3)))
    numpy.testing.assert_array_equal(host_engine.layer_norm_backward(dy.astype("float64"), cache)[2], dy[100])


def test_bias_gradients(host_engine):
    weight = numpy.ones((2, 2), "float32")
    _, cache = host_engine.linear(ONES, weight, weight[0])
    numpy.testing.assert_allclose(host_engine.linear_backward(ONES, cache)[2], 0.1 * ROWS, rtol=ROUNDING)
    _, cache = host_engine.linear_activation(ONES, weight, weight[0], "relu")
    numpy.testing.assert_allclose(
        host_engine.linear_activation_backward(ONES, cache, "relu")[2], 0.1 * ROWS, rtol=ROUNDING
    )
    x = ONES.reshape(ROWS, 2, 1)
    _, cache = host_engine.conv1d(x, weight[:, :, None], weight[0])
    numpy.testing.assert_allclose(host_engine.conv1d_backward(x, cache)[2], 0.1 * ROWS, rtol=ROUNDING)


@pytest.mark.parametrize("loss", ["mse_loss", "l1_loss", "huber_loss"])
def test_means_of_losses_in_any_layout(host_engine, loss):
    for x in (ONES, numpy.asfortranarray(ONES), ONES[::-1]):
        value, _ = getattr(host_engine, loss)(x, numpy.zeros_like(x))
        numpy.testing.assert_allclose(value, {"mse_loss": 0.01, "l1_loss": 0.1, "huber_loss": 0.005}[loss], rtol=1e-6)


def test_softmax_along_the_first_axis(host_engine):
    x = numpy.zeros((ROWS, 2), "float32")
    y, cache = host_engine.softmax(x, 0)
    numpy.testing.assert_allclose(y * ROWS, 1, rtol=1e-5)
    numpy.testing.assert_allclose(host_engine.softmax_backward(ONES, cache) * ROWS, 0, atol=1e-5)
    y, cache = host_engine.log_softmax(x, 0)
    numpy.testing.assert_allclose(y, -numpy.log(ROWS), rtol=1e-6)
    numpy.testing.assert_allclose(host_engine.log_softmax_backward(ONES, cache), 0, atol=1e-4)


def test_means_over_long_windows(host_engine):
    x = ONES[:100_001].T[None]  # two channels
    numpy.testing.assert_allclose(host_engine.adaptive_avg_pool1d(x, 1)[0], 0.1, rtol=1e-5)
    # two windows do not divide the length; added one after another, 10,001 of these would be wrong by 1e-4
    numpy.testing.assert_allclose(host_engine.adaptive_avg_pool1d(x[..., :20_001], 2)[0], 0.1, rtol=1e-5)
    y, cache = host_engine.avg_pool1d(x[..., :20_000], 10_000)
    numpy.testing.assert_allclose(y, 0.1, rtol=1e-3)
    dy = numpy.ones((1, 1, 100_001), "float32")
    _, cache = host_engine.upsample_nearest(numpy.ones((1, 1, 2), "float32"), 100_001)
    numpy.testing.assert_allclose(host_engine.upsample_nearest_backward(dy * 0.1, cache), 5000, rtol=1e-3)
    _, cache = host_engine.pad(numpy.ones((1, 1, 2), "float32"), (100_000, 0), "replicate")
    dx = host_engine.pad_backward(numpy.full((1, 1, 100_002), 0.1, "float32"), cache)
    numpy.testing.assert_allclose(dx[0, 0], [10_000.1, 0.1], rtol=1e-3)


def test_the_result_has_the_dtype_of_x_and_nothing_overflows_before_the_division():
    for dtype in ("float16", "float32"):
        x = numpy.full(10, numpy.finfo(dtype).max / 5, dtype)
        total = sum_widened(x, divisor=10)
        assert total.dtype == dtype
        numpy.testing.assert_allclose(total, x[0])
    assert sum_dtype(numpy.zeros(1), 10**6) == "float64"
