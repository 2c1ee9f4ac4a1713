"""Losses with one prediction for each target: numbers worked by hand, alignment, reductions, extremes, errors."""

import inspect
import math

import numpy
import pytest

from minidl import errors, ops

LOSSES = ["mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits"]


def both(engine, name, *arguments, dloss=1.0, **options):
    """Return the loss and its gradient."""
    loss, cache = getattr(engine, name)(*arguments, **options)
    return loss, getattr(engine, f"{name}_backward")(dloss, cache)


# values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reduction", "loss", "gradient"),
    [
        ("mean", 7.0, [2 / 3, -4 / 3, 8 / 3]),
        ("sum", 21.0, [2, -4, 8]),
        ("half_sum", 10.5, [1, -2, 4]),
    ],
)
def test_squared_error(host_engine, reduction, loss, gradient):
    found = both(
        host_engine, "mse_loss", numpy.array([1.0, 0.0, 5.0]), numpy.array([0.0, 2.0, 1.0]), reduction=reduction
    )
    numpy.testing.assert_allclose(found[0], loss)
    numpy.testing.assert_allclose(found[1], gradient)


def test_half_the_square_of_the_single_neuron(host_engine):
    """Prediction 2.5, target 3: loss 0.125, delta -0.5."""
    assert both(host_engine, "mse_loss", numpy.array([2.5]), numpy.array([3.0]), reduction="half_sum") == (0.125, -0.5)


def test_absolute_error(host_engine):
    found = both(host_engine, "l1_loss", numpy.array([1.0, 0.0, 5.0, 7.0]), numpy.array([0.0, 2.0, 1.0, 7.0]))
    numpy.testing.assert_allclose(found[0], 7 / 4)
    numpy.testing.assert_allclose(found[1], [0.25, -0.25, 0.25, 0])


def test_huber(host_engine):
    prediction = numpy.array([0.5, -0.5, 2.0, -2.0, 5.0])
    loss, gradient = both(host_engine, "huber_loss", prediction, numpy.zeros(5), 2.0, "none", dloss=numpy.ones(5))
    numpy.testing.assert_allclose(loss, [1 / 8, 1 / 8, 2, 2, 8])  # at 5: 2 (5 - 1)
    numpy.testing.assert_allclose(gradient, [0.5, -0.5, 2, -2, 2])


def test_binary_cross_entropy(host_engine):
    """With sigma(x) = 3/4 and the target 1/3."""
    x, t = numpy.log([3.0]), numpy.array([1 / 3])
    found = both(host_engine, "binary_cross_entropy_with_logits", x, t)
    numpy.testing.assert_allclose(found[0], -(math.log(3 / 4) + 2 * math.log(1 / 4)) / 3)
    numpy.testing.assert_allclose(found[1], 3 / 4 - 1 / 3)


def test_binary_cross_entropy_with_weights_by_a_loop(host_engine):
    rng = numpy.random.default_rng(0)
    x, t = rng.normal(size=(4, 3)), rng.random((4, 3))
    weight, pos_weight = rng.uniform(0.5, 2, (4, 1)), rng.uniform(0.5, 2, 3)
    loss, gradient = both(host_engine, "binary_cross_entropy_with_logits", x, t, weight, pos_weight)
    total = 0.0
    for n in range(4):
        for k in range(3):
            p = 1 / (1 + math.exp(-x[n, k]))
            w, q = weight[n, 0], pos_weight[k]
            total -= w * (q * t[n, k] * math.log(p) + (1 - t[n, k]) * math.log(1 - p))
            slope = -w * (q * t[n, k] / p - (1 - t[n, k]) / (1 - p)) * p * (1 - p)
            assert gradient[n, k] == pytest.approx(slope / 12)
    assert loss == pytest.approx(total / 12)  # by the number of elements, whatever the weights


def test_targets_outside_zero_to_one_are_taken_as_they_are(host_engine):
    loss, gradient = both(host_engine, "binary_cross_entropy_with_logits", numpy.array([0.5]), numpy.array([2.0]))
    assert loss == pytest.approx(-2 * math.log(1 / (1 + math.exp(-0.5))) + math.log(1 - 1 / (1 + math.exp(-0.5))))
    assert gradient == pytest.approx(1 / (1 + math.exp(-0.5)) - 2)


# reductions and upstream gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_the_reductions_agree(host_engine, name):
    rng = numpy.random.default_rng(0)
    prediction, target = rng.normal(size=(3, 4)), rng.random((3, 4))
    dloss = rng.normal(size=(3, 4))
    each, slope = both(host_engine, name, prediction, target, reduction="none", dloss=dloss)
    assert each.shape == (3, 4)
    slope = slope / dloss
    total, gradient = both(host_engine, name, prediction, target, reduction="sum", dloss=-3.0)
    numpy.testing.assert_allclose(total, each.sum())
    numpy.testing.assert_allclose(gradient, -3 * slope)
    mean, gradient = both(host_engine, name, prediction, target)
    numpy.testing.assert_allclose(mean, each.mean())
    numpy.testing.assert_allclose(gradient, slope / 12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_is_kept_whatever_the_target_and_upstream_gradient_are(host_engine, name, dtype):
    prediction = numpy.array([0.5, -1.0], dtype)
    for target in (numpy.array([1.0, 0.0]), numpy.array([1, 0]), numpy.array([True, False])):
        for dloss in (1.0, 2, numpy.float64(2.0), numpy.array(2.0), numpy.float32(2.0)):
            for reduction in ("mean", "sum", "none"):
                loss, gradient = both(host_engine, name, prediction, target, reduction=reduction, dloss=dloss)
                assert loss.dtype == gradient.dtype == dtype
                assert loss.shape == ((2,) if reduction == "none" else ())


@pytest.mark.parametrize("name", LOSSES)
def test_an_upstream_gradient_that_does_not_fit(host_engine, name):
    _, cache = getattr(host_engine, name)(numpy.ones((2, 3)), numpy.ones((2, 3)), reduction="none")
    backward = getattr(host_engine, f"{name}_backward")
    with pytest.raises(errors.ShapeError, match=rf"{name}_backward: dloss must be .*\(2, 3\), got \(3,\)"):
        backward(numpy.ones(3), cache)
    with pytest.raises(errors.DtypeError, match=rf"{name}_backward: dloss .*float64, got float32"):
        backward(numpy.ones((2, 3), "float32"), cache)


# alignment ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_columns_and_vectors_are_aligned(host_engine, name):
    p, t = numpy.array([0.1, 0.7, -0.3]), numpy.array([1.0, 0.0, 1.0])
    loss, gradient = both(host_engine, name, p, t)
    found = both(host_engine, name, p[:, None], t)
    assert found[0] == loss
    numpy.testing.assert_array_equal(found[1], gradient[:, None])
    found = both(host_engine, name, p, t[:, None])
    assert found[0] == loss
    numpy.testing.assert_array_equal(found[1], gradient)
    each, _ = getattr(host_engine, name)(p[:, None], t, reduction="none")
    assert each.shape == (3, 1)  # the prediction's


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ((3,), (4,)),
        ((3,), (1,)),
        ((3,), ()),
        ((1, 3), (3,)),
        ((3,), (1, 3)),
        ((3, 1), (1, 3)),
        ((3, 2), (3,)),
        ((3, 2), (3, 1)),
        ((2, 3, 1), (2, 3)),
    ],
)
def test_nothing_is_broadcast(host_engine, name, prediction, target):
    with pytest.raises(errors.ShapeError) as caught:
        getattr(host_engine, name)(numpy.ones(prediction), numpy.ones(target))
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert str(prediction) in message
    assert str(target) in message
    assert "nothing is broadcast" in message


# extremes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_binary_cross_entropy_overflows_nowhere(dtype):
    largest = float(numpy.finfo(dtype).max)
    x = numpy.array([largest, 1000.0, 30.0, 0.0, -30.0, -1000.0, -largest] * 2, dtype)
    t = numpy.repeat(numpy.array([0.0, 1.0], dtype), 7)
    forward = inspect.unwrap(ops.FORMULAS["binary_cross_entropy_with_logits"])
    with numpy.errstate(all="raise", under="ignore"):
        loss, (slope, _) = forward(x, t, reduction="none")
    wrong = [largest, 1000, 30, math.log(2), 0, 0, 0]
    numpy.testing.assert_allclose(loss.astype("float64"), [*wrong, *wrong[::-1]], rtol=1e-3, atol=1e-10)
    numpy.testing.assert_allclose(slope, [1, 1, 1, 0.5, 0, 0, 0, 0, 0, 0, -0.5, -1, -1, -1], atol=1e-10)


def test_a_confident_and_right_answer_keeps_its_digits(host_engine):
    """-log(sigmoid(40)) is exp(-40), not 0; the same for its mirror image, and for the slopes."""
    x, t = numpy.array([40.0, -40.0]), numpy.array([1.0, 0.0])
    loss, slope = both(host_engine, "binary_cross_entropy_with_logits", x, t, reduction="none")
    numpy.testing.assert_allclose(loss, math.exp(-40), rtol=1e-15)
    numpy.testing.assert_allclose(slope, [-math.exp(-40), math.exp(-40)], rtol=1e-15)


def test_half_precision_computes_in_single(host_engine):
    """Neither the squares (400^2) nor the sum of 100,000 ones fit into float16; their means do."""
    prediction = numpy.full(100_000, 1.0, "float16")
    loss, gradient = both(host_engine, "l1_loss", prediction, prediction * 0)
    assert loss == 1
    loss, gradient = both(
        host_engine, "mse_loss", numpy.array([400.0] + [0.0] * 9, "float16"), numpy.zeros(10, "float16")
    )
    assert loss == 16_000
    assert gradient[0] == 80


@pytest.mark.parametrize("name", LOSSES)
def test_infinity_and_nan_are_quiet_and_seen(host_engine, name):
    inf, nan = math.inf, math.nan
    for p, t in [(inf, 0.0), (-inf, 1.0), (1.0, inf)]:
        assert not math.isfinite(getattr(host_engine, name)(numpy.array([p]), numpy.array([t]))[0])
    for p, t in [(nan, 0.0), (0.0, nan)]:
        loss, _ = both(host_engine, name, numpy.array([p]), numpy.array([t]))
        assert math.isnan(loss)


def test_overflow_is_infinity_and_quiet(host_engine):
    assert host_engine.mse_loss(numpy.array([1e200]), numpy.array([-1e200]))[0] == math.inf


# empty batches and other mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_there_is_no_mean_of_nothing_but_a_sum(host_engine, name, shape):
    nothing = numpy.ones(shape)
    with pytest.raises(errors.ShapeError, match=f"{name}: the mean of an empty batch is undefined"):
        getattr(host_engine, name)(nothing, nothing)
    loss, gradient = both(host_engine, name, nothing, nothing, reduction="sum")
    assert loss == 0
    assert gradient.shape == shape
    loss, gradient = both(host_engine, name, nothing, nothing, reduction="none", dloss=nothing)
    assert loss.shape == gradient.shape == shape


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_wrong_is_named(host_engine, name):
    loss, x = getattr(host_engine, name), numpy.ones(3)
    argument = "logits" if "logits" in name else "prediction"
    with pytest.raises(errors.DtypeError, match=f"{name}: {argument} must be a floating-point array, got dtype int64"):
        loss(numpy.ones(3, int), x)
    for dtype in ("complex128", "object", "U1"):
        with pytest.raises(errors.DtypeError, match=f"{name}: target must be an array of real numbers, got dtype"):
            loss(x, x.astype(dtype))
    with pytest.raises(errors.DtypeError, match=f"{name}: target must be an array of real numbers, got list"):
        loss(x, [1.0, 1.0, 1.0])
    known = "mean, sum, none" + (", half_sum" if name == "mse_loss" else "")
    with pytest.raises(errors.ParameterError, match=f"{name}: reduction must be one of {known}, got 'average'"):
        loss(x, x, reduction="average")
    if name != "mse_loss":
        with pytest.raises(errors.ParameterError, match="half_sum"):
            loss(x, x, reduction="half_sum")


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan])
def test_huber_wants_a_positive_delta(host_engine, delta):
    with pytest.raises(errors.ParameterError, match="huber_loss: delta must be positive"):
        host_engine.huber_loss(numpy.ones(2), numpy.ones(2), delta)


@pytest.mark.parametrize("argument", ["weight", "pos_weight"])
def test_weights_broadcast_to_the_logits_and_no_further(host_engine, argument):
    loss = host_engine.binary_cross_entropy_with_logits
    x = numpy.ones((2, 3))
    for shape in [(), (1,), (3,), (2, 1), (1, 3), (2, 3)]:
        assert loss(x, x, **{argument: numpy.ones(shape)})[0] == pytest.approx(loss(x, x)[0])
    for shape in [(2,), (3, 3), (1, 2, 3)]:
        with pytest.raises(errors.ShapeError, match=f"{argument} of shape .* does not broadcast to"):
            loss(x, x, **{argument: numpy.ones(shape)})
    with pytest.raises(errors.DtypeError, match=f"{argument} must be an array, got float"):
        loss(x, x, **{argument: 2.0})


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits"])
def test_a_target_that_is_a_matrix_is_an_array(host_engine, name):
    """Square ones would be multiplied as matrices, without a word."""
    p, t = numpy.array([[0.2, 0.9], [0.4, 0.1]]), numpy.array([[1.0, 0.0], [1.0, 1.0]])
    loss, cache = getattr(host_engine, name)(p, numpy.asmatrix(t))
    expected, expected_cache = getattr(host_engine, name)(p, t)
    assert loss == pytest.approx(expected)
    for backward_cache in (cache, expected_cache):
        assert type(getattr(host_engine, f"{name}_backward")(1.0, backward_cache)) is numpy.ndarray
    with pytest.raises(errors.DtypeError, match="give numpy.asarray"):
        getattr(host_engine, name)(numpy.asmatrix(p), t)
    with pytest.raises(errors.DtypeError, match="give numpy.asarray"):
        host_engine.gelu(numpy.asmatrix(p))
