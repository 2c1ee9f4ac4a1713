"""Metrics of probabilities, decisions and rankings."""

import numpy
import pytest

from minidl.errors import DataError, ParameterError, ShapeError, TargetError
from minidl.metrics import (
    best_threshold,
    brier_score,
    calibration_error,
    decision_cost,
    fit_temperature,
    ndcg,
    recall_at_k,
)

RNG = numpy.random.default_rng(0)
TRUE, PROBABILITY = RNG.integers(0, 2, 200), RNG.uniform(size=200)


def test_calibration_error_by_bins():
    total = 0.0
    for low in numpy.arange(5) / 5:
        inside = (low <= PROBABILITY) & (low + 0.2 > PROBABILITY)
        total += inside.sum() / 200 * abs(TRUE[inside].mean() - PROBABILITY[inside].mean())
    assert calibration_error(TRUE, PROBABILITY, bins=5) == pytest.approx(total, rel=1e-12)
    assert calibration_error([1, 0], [1.0, 0.0]) == 0  # 1 belongs to the last bin
    assert brier_score(TRUE[:, None], PROBABILITY) == pytest.approx(((TRUE - PROBABILITY) ** 2).mean())


@pytest.mark.parametrize("costs", [(1, 5), (2, 1), (1, 0), (0, 1)])
def test_no_threshold_costs_less_than_the_best(costs):
    how = {"false_positive": costs[0], "false_negative": costs[1]}
    rounded = PROBABILITY.round(1)  # many are equal
    for given in (PROBABILITY, rounded):
        best = decision_cost(TRUE, given, best_threshold(TRUE, given, **how), **how)
        tried = [decision_cost(TRUE, given, threshold, **how) for threshold in [*numpy.linspace(0, 1, 501), 1.1]]
        assert best <= min(tried) + 1e-12


def test_of_equal_thresholds_the_one_next_to_the_theory():
    assert best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == pytest.approx(0.5)
    assert best_threshold([1, 1], [0.3, 0.4]) == 0
    assert best_threshold([0, 0], [0.3, 1.0]) > 1


@pytest.mark.parametrize("classes", [2, 3])
def test_the_temperature_has_the_least_cross_entropy(classes):
    z = 4 * RNG.normal(size=(500, classes))
    p = numpy.exp(z / 2.5)
    p /= p.sum(axis=1, keepdims=True)
    true = (p.cumsum(axis=1) < RNG.uniform(size=(500, 1))).sum(axis=1)  # drawn at temperature 2.5

    def loss(temperature):
        scaled = z / temperature
        return (numpy.log(numpy.exp(scaled).sum(axis=1)) - scaled[numpy.arange(500), true]).mean()

    found = fit_temperature(z, true)
    assert 2.0 < found < 3.0
    assert loss(found) < min(loss(found * 1.001), loss(found / 1.001))
    if classes == 2:
        assert fit_temperature(z[:, 1] - z[:, 0], true) == pytest.approx(found, rel=1e-9)
        assert fit_temperature((z[:, 1] - z[:, 0])[:, None], true[:, None]) == pytest.approx(found, rel=1e-9)


def test_no_temperature_is_best():
    with pytest.raises(DataError, match="are right for every example"):
        fit_temperature([2.0, -1.0], [1, 0])
    with pytest.raises(DataError, match="do not tell the classes apart"):
        fit_temperature([-2.0, 1.0, 0.5], [1, 0, 0])


def test_recall_and_gain_by_hand():
    scores = numpy.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]])
    relevant = numpy.array([[1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
    assert recall_at_k(relevant, scores, 2) == (1 / 2 + 1) / 2
    assert recall_at_k(relevant[2:], scores[2:], 2) != recall_at_k(relevant[2:], scores[2:], 2)  # nan
    ideal = 1 + 1 / numpy.log2(3)
    assert ndcg(relevant, scores) == pytest.approx(((1 + 1 / numpy.log2(5)) / ideal + 1) / 2)
    assert ndcg(relevant, scores, k=1) == 1
    assert ndcg([[1, 0]], [[0.5, 0.5]]) == pytest.approx((1 + 1 / numpy.log2(3)) / 2)
    assert ndcg([[0, 0]], [[1.0, 2.0]]) != ndcg([[0, 0]], [[1.0, 2.0]])  # nan


def test_sizes_may_be_numpy_integers():
    five = numpy.int64(5)
    assert calibration_error(TRUE, PROBABILITY, bins=five) == calibration_error(TRUE, PROBABILITY, bins=5)
    relevant, scores = TRUE.reshape(10, 20), PROBABILITY.reshape(10, 20)
    assert recall_at_k(relevant, scores, five) == recall_at_k(relevant, scores, 5)
    assert ndcg(relevant, scores, five) == ndcg(relevant, scores, 5)


def test_known_items_are_never_found():
    assert recall_at_k([[1, 0, 1]], [[-numpy.inf, 1.0, 0.0]], 2) == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: brier_score([1, 0], [2.0, 0.5]), DataError, "expected probabilities from 0 to 1, got 2"),
        (lambda: brier_score([1, 2], [0.1, 0.5]), TargetError, "must be 0 or 1"),
        (lambda: calibration_error([1, 0], [0.1, 0.5], bins=0), ParameterError, "bins must be at least 1"),
        (lambda: decision_cost([1], [0.5], false_positive=-1), ParameterError, "false_positive must be a cost"),
        (lambda: best_threshold([1], [0.5], false_positive=0, false_negative=0), ParameterError, "both costs are 0"),
        (lambda: fit_temperature([[0.0, 1.0, 2.0]] * 2, [0.5, 1]), Exception, "class numbers must be integers"),
        (lambda: recall_at_k([[2, 0]], [[0.1, 0.2]], 1), TargetError, "relevant must hold 0 and 1"),
        (lambda: recall_at_k([[1, 0]], [[0.1, 0.2]], 3), ParameterError, "k must be from 1 to the number of items, 2"),
        (lambda: ndcg([[1, -1]], [[0.1, 0.2]]), TargetError, "at least 0"),
        (lambda: ndcg([1, 0], [0.1, 0.2]), ShapeError, r"shape \(Q, I\)"),
        (lambda: ndcg([[1, 0]], [[0.1, numpy.nan]]), DataError, "NaN"),
    ],
)
def test_what_cannot_be_measured(call, error, message):
    with pytest.raises(error, match=message):
        call()
