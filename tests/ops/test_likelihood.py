"""Losses of probabilities and log-probabilities: worked by hand, bounds, what they share with the losses of logits, errors."""

import math

import numpy
import pytest

import minidl
from minidl import errors

LOG_P = numpy.array([[-0.5, -1.5, -2.0], [-3.0, -0.25, -1.0]])


def both(engine, op, *arguments, upstream=1.0, **options):
    value, cache = getattr(engine, op)(*arguments, **options)
    return value, getattr(engine, f"{op}_backward")(upstream, cache)


# negative log-likelihood --------------------------------------------------------------------------------------------


def test_nll_loss_by_hand(host_engine):
    weight = numpy.array([1.0, 2.0, 3.0])
    value, slope = both(host_engine, "nll_loss", LOG_P, numpy.array([0, 2]), weight)
    assert value == 0.875  # (0.5 + 3) / (1 + 3)
    numpy.testing.assert_array_equal(slope, [[-0.25, 0, 0], [0, 0, -0.75]])
    value, slope = both(host_engine, "nll_loss", LOG_P, numpy.array([0, 2]), weight, reduction="sum")
    assert value == 3.5
    value, slope = both(host_engine, "nll_loss", LOG_P, numpy.array([0, 2]), ignore_index=2)
    assert value == 0.5
    numpy.testing.assert_array_equal(slope, [[-1, 0, 0], [0, 0, 0]])


def test_nll_loss_of_log_softmax_is_cross_entropy(host_engine):
    random = numpy.random.default_rng(0)
    x, target = random.normal(size=(5, 7, 3)), random.integers(0, 7, (5, 3))
    weight = random.uniform(0.5, 2, 7)
    log_p, cache = host_engine.log_softmax(x, axis=1)
    value, slope = both(host_engine, "nll_loss", log_p, target, weight)
    dx = host_engine.log_softmax_backward(slope, cache)
    expected, expected_dx = both(host_engine, "cross_entropy", x, target, weight)
    assert value == pytest.approx(expected, rel=1e-14)
    numpy.testing.assert_allclose(dx, expected_dx, atol=1e-15)


def test_classes_that_are_ruled_out_cost_nothing_unless_they_are_right(host_engine):
    log_p = numpy.array([[-math.inf, 0.0]])
    assert host_engine.nll_loss(log_p, numpy.array([1]))[0] == 0
    assert host_engine.nll_loss(log_p, numpy.array([0]))[0] == math.inf


def test_all_targets_ignored(host_engine):
    value, slope = both(host_engine, "nll_loss", LOG_P, numpy.array([-100, -100]))
    assert math.isnan(value)
    numpy.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (numpy.array([0, 3]), errors.TargetError, r"nll_loss: target 3 at index \(1,\) is not a class"),
        (numpy.array([0.0, 1.0]), errors.DtypeError, "nll_loss: target must be an array of integers .* or kl_div"),
        ([0, 1], errors.DtypeError, "nll_loss: target must be an array of integers .*got list"),
        (numpy.eye(3, dtype=int)[:2], errors.ShapeError, r"one-hot rows .*target.argmax\(axis=1\)"),
    ],
)
def test_nll_loss_refuses(host_engine, target, error, message):
    with pytest.raises(error, match=message):
        host_engine.nll_loss(LOG_P, target)
    with pytest.raises(errors.ShapeError, match="nll_loss: weight must be an array with one entry for each of the 3"):
        host_engine.nll_loss(LOG_P, numpy.array([0, 1]), numpy.ones(2))


# binary cross-entropy of probabilities ------------------------------------------------------------------------------


def test_binary_cross_entropy_by_hand(host_engine):
    value, slope = both(host_engine, "binary_cross_entropy", numpy.array([0.2, 0.9]), numpy.array([0.0, 1.0]))
    assert value == pytest.approx(-(math.log(0.8) + math.log(0.9)) / 2)
    numpy.testing.assert_allclose(slope, [0.5 / 0.8, -0.5 / 0.9])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_wrong_and_certain_answers_are_bounded(host_engine, dtype):
    p, t = numpy.array([0.0, 1.0, 0.0, 1.0], dtype), numpy.array([1.0, 0.0, 0.0, 1.0])
    each, slope = both(host_engine, "binary_cross_entropy", p, t, reduction="none")
    numpy.testing.assert_array_equal(each, [100, 100, 0, 0])
    assert each.dtype == slope.dtype == dtype
    bound = 1e12 if dtype != "float16" else math.inf
    numpy.testing.assert_allclose(slope, [-bound, bound, 0, 0], rtol=1e-6)


def test_probabilities_outside_their_range_give_nan(host_engine):
    for t in (0.0, 0.5, 1.0):
        each, _ = host_engine.binary_cross_entropy(
            numpy.array([-0.5, 1.5, math.nan]), numpy.full(3, t), reduction="none"
        )
        assert numpy.isnan(each).all()


def test_binary_cross_entropy_of_a_sigmoid_is_that_of_logits(host_engine):
    random = numpy.random.default_rng(0)
    x, t, weight = random.normal(size=(4, 5)), random.random((4, 5)), random.uniform(0.5, 2, 5)
    p, cache = host_engine.sigmoid(x)
    value, slope = both(host_engine, "binary_cross_entropy", p, t, weight)
    expected, dx = both(host_engine, "binary_cross_entropy_with_logits", x, t, weight)
    assert value == pytest.approx(expected, rel=1e-14)
    numpy.testing.assert_allclose(host_engine.sigmoid_backward(slope, cache), dx, rtol=1e-12)


# Kullback-Leibler divergence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 1), ("batchmean", 1 / 3), ("mean", 1 / 6)])
def test_kl_div_by_hand(host_engine, reduction, expected):
    q, p = numpy.log(numpy.full((3, 2), 0.5)), numpy.array([[0.25, 0.75]] * 3)
    one = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    for target, log_target in ((p, False), (numpy.log(p), True)):
        value, slope = both(host_engine, "kl_div", q, target, reduction, log_target)
        assert value == pytest.approx(3 * one * expected)
        numpy.testing.assert_allclose(slope, -p * expected)


def test_events_that_the_target_rules_out_cost_nothing(host_engine):
    q, p = numpy.array([-math.inf, 0.0]), numpy.array([0.0, 1.0])
    for target, log_target in ((p, False), (numpy.array([-math.inf, 0.0]), True)):
        value, slope = both(host_engine, "kl_div", q, target, "sum", log_target)
        assert value == 0
        numpy.testing.assert_array_equal(slope, [0, -1])


def test_a_distribution_does_not_diverge_from_itself(host_engine):
    p = numpy.random.default_rng(0).dirichlet(numpy.ones(6), 4)
    assert host_engine.kl_div(numpy.log(p), p, "batchmean")[0] == pytest.approx(0, abs=1e-15)


def test_kl_div_refuses(host_engine):
    with pytest.raises(errors.ParameterError, match="kl_div: reduction must be one of mean, sum, none, batchmean"):
        host_engine.kl_div(LOG_P, LOG_P, "half_sum")
    with pytest.raises(errors.ShapeError, match="kl_div: prediction has shape"):
        host_engine.kl_div(LOG_P, LOG_P[:1])


# as layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "prediction", "target"),
    [
        (minidl.NLLLoss(), LOG_P, numpy.array([0, 2])),
        (minidl.NLLLoss(numpy.array([1.0, 2.0, 3.0]), ignore_index=1, reduction="sum"), LOG_P, numpy.array([0, 1])),
        (minidl.BCELoss(), numpy.array([[0.2, 0.9]]), numpy.array([[0.0, 1.0]])),
        (minidl.BCELoss(numpy.array([0.5, 2.0]), "sum"), numpy.array([[0.2, 0.9]]), numpy.array([[0.3, 1.0]])),
        (minidl.KLDivLoss(), LOG_P, numpy.exp(LOG_P[::-1])),
        (minidl.KLDivLoss("batchmean", log_target=True), LOG_P, LOG_P[::-1]),
    ],
    ids=repr,
)
def test_the_losses_as_objects(loss, prediction, target):
    expected, cache = getattr(minidl.ops, loss.op)(prediction, target, reduction=loss.reduction, **loss.settings)
    assert loss(prediction, target) == expected
    numpy.testing.assert_array_equal(loss.backward(), getattr(minidl.ops, f"{loss.op}_backward")(1.0, cache))
    minidl.gradcheck(loss, prediction, target)


def test_sample_weights_of_batchmean():
    p = numpy.exp(LOG_P[::-1])
    loss, plain = minidl.KLDivLoss("batchmean"), minidl.KLDivLoss("none")
    weight = numpy.array([0.5, 2.0])
    value = loss.forward(LOG_P, p, weight)
    assert value == pytest.approx((plain.forward(LOG_P, p).sum(axis=1) * weight).sum() / 2)
    numpy.testing.assert_allclose(loss.backward(), -p * weight[:, None] / 2)
    assert loss.forward(LOG_P, p, numpy.ones(2)) == pytest.approx(loss.forward(LOG_P, p))


def test_a_model_that_ends_in_log_softmax_trains_with_nll_loss():
    random = numpy.random.default_rng(0)
    x = random.normal(size=(200, 4)).astype("float32")
    y = (x[:, 0] > x[:, 1]).astype(int)
    model = minidl.Sequential([minidl.Linear(4, 2), minidl.LogSoftmax()])
    optimizer, loss = minidl.Adam(model.parameters(), lr=0.1), minidl.NLLLoss()
    values = []
    for _ in range(50):
        values.append(float(loss(model(x), y)))
        model.backward(loss.backward())
        optimizer.step()
        optimizer.zero_grad()
    assert values[-1] < 0.2 < values[0]
