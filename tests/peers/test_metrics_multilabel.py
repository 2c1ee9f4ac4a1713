"""Metrics of several labels or outputs, batch by batch, against scikit-learn's; and what no metric may take for something else."""

import math
import warnings

import numpy
import pytest

sklearn = pytest.importorskip("sklearn.metrics")

import minidl as dl  # noqa: E402
from minidl import metrics  # noqa: E402
from minidl.errors import MinidlError  # noqa: E402

pytestmark = pytest.mark.peers

PAIRS = {
    "precision": (metrics.Precision, sklearn.precision_score),
    "recall": (metrics.Recall, sklearn.recall_score),
    "f1": (metrics.F1, sklearn.f1_score),
}


def theirs(function, *args, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **keywords)


def labelled(seed):
    """Return targets and scores of several labels, with ties, and now and then a label that all examples have, or none."""
    random = numpy.random.default_rng(seed)
    n, labels = int(random.integers(1, 25)), int(random.integers(2, 6))
    y = (random.random((n, labels)) < random.choice([0.0, 0.3, 0.7, 1.0], size=labels)).astype(int)
    return y, random.random((n, labels)).round(int(random.integers(0, 3)))


def in_batches(metric, y, scores):
    for start in range(0, len(y), 4):
        metric.update(scores[start : start + 4], y[start : start + 4])
    return metric.result()


@pytest.mark.parametrize("seed", range(60))
def test_labels_at_random(seed):
    y, scores = labelled(seed)
    decided = (scores > 0.5).astype(int)
    for ours, peer in PAIRS.values():
        for average in ("micro", "macro", "weighted"):
            for zero in (0.0, 1.0, math.nan):
                found = in_batches(ours(average, zero_division=zero, multilabel=True), y, scores)
                expected = theirs(peer, y, decided, average=average, zero_division=zero)
                numpy.testing.assert_allclose(found, expected, rtol=1e-12)
        assert in_batches(ours(multilabel=True), y, scores) == theirs(
            peer, y, decided, average="micro", zero_division=0
        )
    for average in ("macro", "weighted", None):
        expected = theirs(sklearn.roc_auc_score, y, scores, average=average)
        if average == "weighted" and not y.any():
            expected = math.nan  # scikit-learn says 0
        numpy.testing.assert_allclose(metrics.roc_auc(y, scores, average=average), expected, rtol=1e-12)
    expected = theirs(sklearn.roc_auc_score, y, scores)
    numpy.testing.assert_allclose(in_batches(metrics.RocAuc(multilabel=True), y, scores), expected, rtol=1e-12)
    assert in_batches(metrics.BinaryAccuracy(), y, scores) == pytest.approx((y == decided).mean())


@pytest.mark.parametrize("seed", range(20))
def test_outputs_at_random(seed):
    random = numpy.random.default_rng(seed)
    y, found = random.normal(size=(2, int(random.integers(2, 20)), int(random.integers(1, 5)))) * [[[1.0]], [[3.0]]]
    if seed % 3 == 0:
        y[:, 0] = 0.5  # an output that is constant; of others scikit-learn's mean is off by a rounding
    for name, function, peer in (
        ("mae", metrics.mean_absolute_error, sklearn.mean_absolute_error),
        ("mse", metrics.mean_squared_error, sklearn.mean_squared_error),
        ("rmse", metrics.root_mean_squared_error, sklearn.root_mean_squared_error),
        ("r2", metrics.r2_score, sklearn.r2_score),
    ):
        expected = theirs(peer, y, found)
        assert function(y, found) == pytest.approx(expected, rel=1e-10)
        assert in_batches(metrics.get(name), y, found) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "auc", "binary_accuracy", "mae", "rmse"])
@pytest.mark.parametrize("ending", [[], [dl.Sigmoid()]], ids=["logits", "probabilities"])
def test_named_metrics_of_a_model_with_several_labels(name, ending):
    """As scikit-learn says of the model's decisions, or, for accuracy, as Keras's binary accuracy."""
    random = numpy.random.default_rng(0)
    x, y = random.normal(size=(40, 3)).astype("float32"), random.integers(0, 2, (40, 3))
    model = dl.Sequential(dl.Linear(3, 3), *ending)
    model.compile("sgd", "binary_crossentropy", [name])
    output = model.predict(x)
    decided = output > (0.5 if ending else 0.0)
    expected = {
        "accuracy": (y == decided).mean(),
        "binary_accuracy": (y == decided).mean(),
        "precision": sklearn.precision_score(y, decided, average="micro"),
        "recall": sklearn.recall_score(y, decided, average="micro"),
        "f1": sklearn.f1_score(y, decided, average="micro"),
        "auc": sklearn.roc_auc_score(y, output),
        "mae": sklearn.mean_absolute_error(y, output),
        "rmse": sklearn.root_mean_squared_error(y, output),
    }[name]
    for size in (40, 7):
        assert model.evaluate(x, y, batch_size=size, return_dict=True)[name] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "metric", ["accuracy", "precision", "recall", "f1", "auc", "top_k_accuracy", "categorical_accuracy"]
)
@pytest.mark.parametrize("rows", [[[1, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]], [[0.5, 0.2, 0.1], [0, 1, 0]]])
def test_rows_that_name_no_class_or_several_are_refused(metric, rows):
    scores, y = numpy.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]), numpy.array(rows)
    with pytest.raises(MinidlError, match="multilabel=True"):
        metrics.get(metric).update(scores, y)


@pytest.mark.parametrize(
    "function", [metrics.accuracy, metrics.precision, metrics.recall, metrics.f1, metrics.confusion_matrix]
)
def test_functions_refuse_several_labels(function):
    several = numpy.array([[1, 1, 0], [0, 0, 1]])
    one = numpy.array([[1, 0, 0], [0, 0, 1]])
    for y_true, y_pred in ((several, one), (one, several), ([0, 2], several), ([0, 2], several.astype(bool))):
        with pytest.raises(MinidlError, match="one-hot.*multilabel=True"):
            function(y_true, y_pred)


@pytest.mark.parametrize("y_true", [[0.2, 0.7, 0.2], [0.0, math.nan, 1.0], [0.0, math.inf, 1.0]])
def test_fractions_are_no_classes(y_true):
    for function in (metrics.roc_auc, lambda y, scores: metrics.accuracy(y, numpy.array(scores))):
        with pytest.raises(MinidlError):
            function(y_true, [0.1, 0.2, 0.3])
        with pytest.raises(MinidlError):
            function(y_true, [[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])


@pytest.mark.parametrize(("zero_division", "wanted"), [("warn", "a number"), (None, "a number"), (0.5, "0, 1 or nan")])
def test_a_value_of_nothing_by_nothing(zero_division, wanted):
    with pytest.raises(MinidlError, match=f"precision: zero_division must be {wanted}"):
        metrics.precision([0, 1], [0, 0], zero_division=zero_division)
    with pytest.raises(MinidlError, match=f"zero_division must be {wanted}"):
        metrics.Precision(zero_division=zero_division)
