"""Metrics against scikit-learn's, on random and on degenerate inputs."""

import math
import warnings

import numpy
import pytest

sklearn = pytest.importorskip("sklearn.metrics")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from minidl import metrics  # noqa: E402

pytestmark = pytest.mark.peers

NAN = math.nan
AVERAGES = ["macro", "micro", "weighted", None]
LABELS = [
    pytest.param([0, 1, 2, 1, 0], [0, 2, 2, 1, 1], id="three classes"),
    pytest.param([0, 0, 3, 0], [1, 1, 3, 1], id="a class never true and one never predicted"),
    pytest.param([2, 2, 2], [2, 2, 2], id="a single class"),
    pytest.param([0, 0], [1, 1], id="all wrong"),
    pytest.param([7], [7], id="a single example"),
    pytest.param([-1, 5, -1], [5, 5, -1], id="labels that are no counts"),
    pytest.param(["b", "a", "c"], ["b", "b", "c"], id="text"),
    pytest.param([True, False, True], [True, True, True], id="booleans"),
]
PAIRS = {
    "precision": (metrics.precision, sklearn.precision_score),
    "recall": (metrics.recall, sklearn.recall_score),
    "f1": (metrics.f1, sklearn.f1_score),
}


def theirs(function, *args, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **keywords)


def assert_close(ours, peers):
    numpy.testing.assert_allclose(ours, peers, rtol=1e-12, atol=1e-15, equal_nan=True)


@pytest.mark.parametrize(("y_true", "y_pred"), LABELS)
def test_accuracy_and_confusion_matrix(y_true, y_pred):
    assert metrics.accuracy(y_true, y_pred) == pytest.approx(sklearn.accuracy_score(y_true, y_pred))
    for normalize in (None, "true", "pred", "all"):
        peers = theirs(sklearn.confusion_matrix, y_true, y_pred, normalize=normalize)
        assert_close(metrics.confusion_matrix(y_true, y_pred, normalize=normalize), peers)


@pytest.mark.parametrize("which", PAIRS)
@pytest.mark.parametrize("zero_division", [0.0, 1.0, NAN])
@pytest.mark.parametrize(("y_true", "y_pred"), LABELS)
def test_averages(which, y_true, y_pred, zero_division):
    ours, peer = PAIRS[which]
    for average in AVERAGES:
        expected = theirs(peer, y_true, y_pred, average=average, zero_division=zero_division)
        assert_close(ours(y_true, y_pred, average=average, zero_division=zero_division), expected)


@pytest.mark.parametrize("which", PAIRS)
@pytest.mark.parametrize("labels", [[1, 2], [2, 0], [0, 1, 2, 9], [9], [1]])
def test_a_choice_of_labels(which, labels):
    ours, peer = PAIRS[which]
    y_true, y_pred = [0, 1, 2, 1, 0, 2, 2], [0, 2, 2, 1, 1, 0, 2]
    for average in AVERAGES:
        for zero_division in (0.0, 1.0, NAN):
            more = {"labels": labels, "average": average, "zero_division": zero_division}
            assert_close(ours(y_true, y_pred, **more), theirs(peer, y_true, y_pred, **more))
    if labels != [9]:  # scikit-learn refuses labels of which none is true
        assert_close(
            metrics.confusion_matrix(y_true, y_pred, labels=labels),
            theirs(sklearn.confusion_matrix, y_true, y_pred, labels=labels),
        )


@pytest.mark.parametrize("which", PAIRS)
@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [([0, 1, 1, 0], [0, 1, 0, 1]), ([1, 1], [0, 0]), ([0, 0], [0, 0]), ([0, 0], [1, 1]), ([3], [3])],
)
def test_binary(which, y_true, y_pred):
    ours, peer = PAIRS[which]
    for zero_division in (0.0, 1.0, NAN):
        expected = theirs(peer, y_true, y_pred, zero_division=zero_division)
        assert_close(ours(y_true, y_pred, zero_division=zero_division), expected)


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 10_000))
def test_labels_at_random(classes, n, seed):
    rng = numpy.random.default_rng(seed)
    y_true, y_pred = rng.integers(classes, size=n), rng.integers(classes, size=n)
    assert_close(metrics.accuracy(y_true, y_pred), sklearn.accuracy_score(y_true, y_pred))
    assert_close(metrics.confusion_matrix(y_true, y_pred), theirs(sklearn.confusion_matrix, y_true, y_pred))
    for ours, peer in PAIRS.values():
        for average in AVERAGES:
            expected = theirs(peer, y_true, y_pred, average=average, zero_division=NAN)
            assert_close(ours(y_true, y_pred, average=average, zero_division=NAN), expected)


@given(st.integers(1, 40), st.integers(0, 3), st.integers(0, 10_000))
def test_binary_roc_auc_with_ties(n, digits, seed):
    """Rounded to no digits most scores are equal; with few examples there is often a single class."""
    rng = numpy.random.default_rng(seed)
    y_true, y_score = rng.integers(2, size=n), rng.random(n).round(digits)
    assert_close(metrics.roc_auc(y_true, y_score), theirs(sklearn.roc_auc_score, y_true, y_score))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_constant_scores(value):
    y_true = [0, 1, 1, 0, 1]
    assert metrics.roc_auc(y_true, [value] * 5) == sklearn.roc_auc_score(y_true, [value] * 5) == 0.5
    y_score = numpy.full((5, 3), 1 / 3)
    expected = sklearn.roc_auc_score([0, 1, 2, 0, 1], y_score, multi_class="ovr")
    assert metrics.roc_auc([0, 1, 2, 0, 1], y_score) == expected == 0.5


@given(st.integers(3, 5), st.integers(3, 30), st.integers(1, 3), st.integers(0, 10_000))
def test_multiclass_roc_auc(classes, n, digits, seed):
    rng = numpy.random.default_rng(seed)
    y_true = rng.integers(classes, size=n)
    y_score = rng.integers(1, 10**digits + 1, size=(n, classes)).astype(float)
    y_score /= y_score.sum(axis=1, keepdims=True)
    for average in ("macro", "weighted", None):
        more = {"average": average, "labels": list(range(classes))}
        expected = theirs(sklearn.roc_auc_score, y_true, y_score, multi_class="ovr", **more)
        assert_close(metrics.roc_auc(y_true, y_score, average=average), expected)


@given(st.integers(3, 6), st.integers(1, 20), st.integers(0, 2), st.integers(0, 10_000))
def test_top_k_with_ties(classes, n, digits, seed):
    rng = numpy.random.default_rng(seed)
    y_true, y_score = rng.integers(classes, size=n), rng.random((n, classes)).round(digits)
    for k in range(1, classes + 1):
        expected = theirs(sklearn.top_k_accuracy_score, y_true, y_score, k=k, labels=list(range(classes)))
        assert_close(metrics.top_k_accuracy(y_true, y_score, k=k), expected)


REGRESSION = [
    (metrics.mean_absolute_error, sklearn.mean_absolute_error),
    (metrics.mean_squared_error, sklearn.mean_squared_error),
    (metrics.r2_score, sklearn.r2_score),
]


@given(st.integers(1, 20), st.integers(1, 3), st.integers(0, 10_000))
def test_regression_at_random(n, outputs, seed):
    rng = numpy.random.default_rng(seed)
    y_true, y_pred = rng.normal(size=(2, n, outputs))
    for ours, peer in REGRESSION:
        assert_close(ours(y_true, y_pred), theirs(peer, y_true, y_pred))


@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [
        ([2.0, 2.0], [2.0, 2.0]),
        ([2.0, 2.0], [2.0, 3.0]),
        ([1.0], [1.0]),
        ([1.0], [2.0]),
        ([[1.0, 2.0], [1.0, 3.0]],) * 2,
    ],
)
def test_degenerate_regression(y_true, y_pred):
    for ours, peer in REGRESSION:
        assert_close(ours(y_true, y_pred), theirs(peer, y_true, y_pred))


def test_root_mean_squared_error():
    y_true, y_pred = numpy.random.default_rng(0).normal(size=(2, 30))
    assert_close(metrics.root_mean_squared_error(y_true, y_pred), sklearn.root_mean_squared_error(y_true, y_pred))
