"""Normalisation: what it promises, numbers worked by hand, half precision, errors."""

import numpy
import pytest

from minidl import errors, ops

RNG = numpy.random.default_rng(0)


def test_every_channel_has_mean_0_and_variance_1(host_engine):
    x = 5 + 3 * RNG.standard_normal((8, 4, 5, 6))
    y, cache = host_engine.batch_norm(x, eps=0.0)
    numpy.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-13)
    numpy.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-12)
    mean, var = cache[3:5]
    numpy.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), rtol=1e-13)
    numpy.testing.assert_allclose(var, x.var(axis=(0, 2, 3)), rtol=1e-13)


def test_neither_a_shift_nor_a_stretch_of_x_changes_y_and_the_gradient_knows(host_engine):
    x, dy = RNG.standard_normal((2, 6, 5))
    for name, arguments in (("batch_norm", ()), ("layer_norm", (5,)), ("group_norm", (1,))):
        forward, backward = getattr(host_engine, name), getattr(host_engine, f"{name}_backward")
        y, cache = forward(x, *arguments, eps=0.0)
        numpy.testing.assert_allclose(forward(7 * x - 3, *arguments, eps=0.0)[0], y, rtol=1e-11, atol=1e-12)
        dx = backward(dy, cache)[0]
        axis = 0 if name == "batch_norm" else 1
        numpy.testing.assert_allclose(dx.sum(axis=axis), 0, atol=1e-13)
        numpy.testing.assert_allclose((dx * x).sum(axis=axis), 0, atol=1e-13)


def test_a_batch_norm_worked_by_hand(host_engine):
    """Channels (1, 5) and (2, 2, ...): mean 3, variance 4; mean 2, variance 0."""
    x = numpy.array([[1.0, 2.0], [5.0, 2.0]])
    y, cache = host_engine.batch_norm(x, numpy.array([10.0, 10.0]), numpy.array([1.0, -1.0]), eps=0.25)
    r = 1 / 4.25**0.5
    numpy.testing.assert_allclose(y, [[1 - 20 * r, -1], [1 + 20 * r, -1]], rtol=1e-15)
    dx, dweight, dbias = host_engine.batch_norm_backward(numpy.array([[1.0, 1.0], [0.0, 0.0]]), cache)
    numpy.testing.assert_allclose(dbias, [1, 1])
    numpy.testing.assert_allclose(dweight, [-2 * r, 0], rtol=1e-15)
    # g = (10, 0), less its mean: (5, -5), less x_hat times the mean of g x_hat: x_hat = (-2 r, 2 r), so (-2 r)(-10 r)
    numpy.testing.assert_allclose(dx[:, 0], r * numpy.array([5 - 20 * r * r, -5 + 20 * r * r]), rtol=1e-14)
    numpy.testing.assert_allclose(dx[:, 1], [10, -10], rtol=1e-15)  # 1 / sqrt(0 + 0.25) is 2


def test_running_statistics_are_constants(host_engine):
    x = numpy.array([[1.0], [5.0]])
    y, cache = host_engine.batch_norm(x, None, None, numpy.array([2.0]), numpy.array([8.0]), training=False, eps=1.0)
    numpy.testing.assert_allclose(y, [[-1 / 3], [1.0]], rtol=1e-15)
    dx, dweight, dbias = host_engine.batch_norm_backward(numpy.array([[3.0], [-6.0]]), cache)
    numpy.testing.assert_allclose(dx, [[1.0], [-2.0]], rtol=1e-15)
    assert dweight is None
    assert dbias is None


def test_groups_lie_between_layers_and_channels(host_engine):
    x = RNG.standard_normal((3, 6, 4))
    one, _ = host_engine.group_norm(x, 1)
    numpy.testing.assert_allclose(one, host_engine.layer_norm(x, (6, 4))[0], rtol=1e-12)
    each, _ = host_engine.group_norm(x, 6)
    numpy.testing.assert_allclose(each, host_engine.layer_norm(x, 4)[0], rtol=1e-12)
    by_example = [host_engine.batch_norm(example[None])[0][0] for example in x]
    numpy.testing.assert_allclose(each, by_example, rtol=1e-12)


def test_layers_of_several_axes(host_engine):
    x, dy = RNG.standard_normal((2, 2, 3, 4))
    weight, bias = RNG.standard_normal((2, 3, 4))
    flat = host_engine.layer_norm(x.reshape(2, 12), 12, weight.ravel(), bias.ravel())
    y, cache = host_engine.layer_norm(x, (3, 4), weight, bias)
    numpy.testing.assert_allclose(y.reshape(2, 12), flat[0], rtol=1e-14)
    for one, other in zip(
        host_engine.layer_norm_backward(dy, cache),
        host_engine.layer_norm_backward(dy.reshape(2, 12), flat[1]),
        strict=True,
    ):
        numpy.testing.assert_allclose(one.ravel(), other.ravel(), rtol=1e-13)


def test_root_mean_square_of_the_machine_epsilon(host_engine):
    for dtype in ("float32", "float64"):
        y, _ = host_engine.rms_norm(numpy.zeros((1, 3), dtype), 3)
        numpy.testing.assert_array_equal(y, 0)
        small = numpy.full((1, 3), numpy.finfo(dtype).eps ** 0.5, dtype)
        numpy.testing.assert_allclose(host_engine.rms_norm(small, 3)[0], 0.5**0.5, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mean_far_from_0_costs_no_digits_of_the_variance(host_engine, dtype):
    """Numbers around 4096 that differ by sixteenths; the mean square less the squared mean would lose all digits."""
    steps = RNG.integers(-8, 9, (64, 3, 40))
    x = (4096 + steps / 16).astype(dtype)
    exact = steps.astype("float64") - steps.mean(axis=(0, 2), keepdims=True)
    exact /= numpy.sqrt((exact**2).mean(axis=(0, 2), keepdims=True))
    y, cache = host_engine.batch_norm(x, eps=0.0)
    numpy.testing.assert_allclose(y, exact, atol=1e-2 if dtype == "float32" else 1e-10)
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    numpy.testing.assert_allclose(cache[4], (steps / 16).var(axis=(0, 2)), rtol=tolerance)
    rows = x.swapaxes(0, 1).reshape(3, 2560)
    inverse = host_engine.layer_norm(rows, 2560, eps=0.0)[1][-1]
    numpy.testing.assert_allclose(inverse**-2.0, cache[4], rtol=tolerance)


def test_half_precision_beyond_its_own_range(host_engine):
    """The squares of these numbers are more than the largest float16, and so is their sum."""
    x = numpy.asarray(600 * RNG.standard_normal((100, 3, 40)), "float16")
    exact = x.astype("float64")
    for name, arguments in (("batch_norm", ()), ("layer_norm", (40,)), ("group_norm", (3,)), ("rms_norm", (40,))):
        y, cache = getattr(host_engine, name)(x, *arguments)
        assert y.dtype == "float16"
        assert {part.dtype for part in cache[3:] if hasattr(part, "dtype")} == {numpy.dtype("float32")}
        numpy.testing.assert_allclose(y, getattr(host_engine, name)(exact, *arguments)[0], rtol=2e-3, atol=1e-3)
        dx = getattr(host_engine, f"{name}_backward")(x, cache)[0]
        assert dx.dtype == "float16"
        assert numpy.isfinite(dx).all()


def test_one_number_becomes_the_bias_and_has_no_gradient(host_engine):
    x, weight, bias = numpy.array([[3.0, -2.0]]), numpy.array([2.0, 2.0]), numpy.array([0.5, 0.25])
    y, cache = host_engine.batch_norm(x, weight, bias)
    numpy.testing.assert_array_equal(y, [[0.5, 0.25]])
    dx, dweight, dbias = host_engine.batch_norm_backward(numpy.array([[7.0, 8.0]]), cache)
    numpy.testing.assert_array_equal(dx, [[0, 0]])
    numpy.testing.assert_array_equal(dweight, [0, 0])
    numpy.testing.assert_array_equal(dbias, [7, 8])


def test_nothing_in_nothing_out(host_engine):
    for name, shape, arguments in (
        ("batch_norm", (0, 3, 2), ()),
        ("batch_norm", (2, 0), ()),
        ("batch_norm", (2, 3, 0), ()),
        ("layer_norm", (0, 3), (3,)),
        ("layer_norm", (3, 0), (0,)),
        ("group_norm", (0, 4), (2,)),
        ("group_norm", (3, 4, 0), (2,)),
        ("rms_norm", (3, 0), (0,)),
        ("rms_norm", (0, 3), (3,)),
    ):
        y, cache = getattr(host_engine, name)(numpy.ones(shape), *arguments)
        dx = getattr(host_engine, f"{name}_backward")(numpy.ones(shape), cache)[0]
        assert y.shape == dx.shape == shape


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: e.batch_norm(numpy.ones(3)), errors.ShapeError, r"batch_norm: x must have shape \(N, C, ...\)"),
        (
            lambda e: e.batch_norm(numpy.ones((2, 8, 8, 3)), numpy.ones(3)),
            errors.ShapeError,
            r"batch_norm: weight must have one element for each channel, shape \(8,\) for x of shape \(2, 8, 8, 3\)",
        ),
        (
            lambda e: e.batch_norm(numpy.ones((2, 3)), None, numpy.ones((3, 1))),
            errors.ShapeError,
            "batch_norm: bias must have one element for each channel",
        ),
        (
            lambda e: e.batch_norm(numpy.ones((2, 3)), training=False),
            errors.ParameterError,
            "with training=False, running_mean and running_var must be given",
        ),
        (
            lambda e: e.batch_norm(numpy.ones((2, 3)), None, None, numpy.ones(3), numpy.ones(2), training=False),
            errors.ShapeError,
            "running_var must have one element for each channel",
        ),
        (
            lambda e: e.batch_norm(numpy.ones((2, 3)), numpy.ones(3, "float32")),
            errors.DtypeError,
            "batch_norm: weight must have the dtype of x, float64, got float32",
        ),
        (
            lambda e: e.batch_norm(numpy.ones((2, 3), "uint8")),
            errors.DtypeError,
            "batch_norm: x must be a floating-point array, got dtype uint8",
        ),
        (
            lambda e: e.layer_norm(numpy.ones((2, 3)), 4),
            errors.ShapeError,
            r"layer_norm: the last axes of x must have shape \(4,\), got x of shape \(2, 3\)",
        ),
        (
            lambda e: e.layer_norm(numpy.ones((2, 3)), (5, 2, 3)),
            errors.ShapeError,
            r"layer_norm: the last axes of x must have shape \(5, 2, 3\)",
        ),
        (lambda e: e.layer_norm(numpy.ones((2, 3)), ()), errors.ShapeError, "layer_norm: the last axes"),
        (
            lambda e: e.layer_norm(numpy.ones((2, 2, 3)), (2, 3), numpy.ones(3)),
            errors.ShapeError,
            r"layer_norm: weight must have shape \(2, 3\), as normalized_shape, got \(3,\)",
        ),
        (
            lambda e: e.rms_norm(numpy.ones((2, 3)), 3, numpy.ones(3, "float16")),
            errors.DtypeError,
            "rms_norm: weight must have the dtype of x",
        ),
        (
            lambda e: e.group_norm(numpy.ones((2, 6)), 4),
            errors.ParameterError,
            "group_norm: 6 channels cannot be divided into 4 equal groups",
        ),
        (lambda e: e.group_norm(numpy.ones((2, 6)), 0), errors.ParameterError, "into 0 equal groups"),
        (lambda e: e.group_norm(numpy.ones(6), 2), errors.ShapeError, r"group_norm: x must have shape \(N, C, ...\)"),
    ],
)
def test_what_does_not_fit_is_said(host_engine, call, error, message):
    with pytest.raises(error, match=message):
        call(host_engine)


@pytest.mark.parametrize(
    ("name", "arguments"), [("batch_norm", ()), ("layer_norm", (3,)), ("group_norm", (3,)), ("rms_norm", (3,))]
)
def test_an_upstream_gradient_that_does_not_fit(host_engine, name, arguments):
    _, cache = getattr(host_engine, name)(numpy.ones((2, 3)), *arguments)
    backward = getattr(host_engine, f"{name}_backward")
    with pytest.raises(errors.ShapeError, match=rf"{name}_backward: dy must have the shape of y, \(2, 3\)"):
        backward(numpy.ones((3, 2)), cache)
    with pytest.raises(errors.DtypeError, match=f"{name}_backward: dy must have the dtype of y"):
        backward(numpy.ones((2, 3), "float32"), cache)


def test_the_formulas_change_nothing():
    mean, var = numpy.zeros(3), numpy.ones(3)
    ops.batch_norm(RNG.standard_normal((4, 3)), None, None, mean, var)
    assert not mean.any()
    assert (var == 1).all()
