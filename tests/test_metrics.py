"""Metrics: numbers worked by hand, wrong input, and batch by batch."""

import math

import numpy
import pytest

from minidl import metrics
from minidl.errors import DataError, DtypeError, MinidlError, ParameterError, ShapeError, TargetError, UnknownNameError

LOGITS = numpy.array([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0], [1.0, 5.0, 1.0], [0.0, 0.0, -1.0]])  # classes 0, 2, 1, 0


# accuracy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y_true", "y_pred", "expected"),
    [
        ([0, 2, 1, 2], [0, 2, 0, 2], 0.75),
        (["a", "b"], ["a", "a"], 0.5),
        ([True, False], [True, True], 0.5),
        ([[0], [1]], [0, 1], 1.0),
        ([0, 2, 1, 1], LOGITS, 0.75),
        ([[0], [2], [1], [1]], LOGITS, 0.75),
        (numpy.array([0.0, 2.0, 1.0, 0.0]), LOGITS, 1.0),
        (numpy.eye(3)[[0, 2, 1, 1]], LOGITS, 0.75),
        (numpy.eye(3, dtype=int)[[0, 2, 1, 1]], LOGITS.astype("float16"), 0.75),
        (numpy.eye(3, dtype=int)[[0, 2]], numpy.eye(3, dtype=int)[[0, 1]], 0.5),
        ([0, -100, 1, -100], LOGITS, 1.0),
        ([1, 0, 1], numpy.array([0.7, 0.5, 0.2]), 2 / 3),
        ([1, 0, 1], numpy.array([[0.7], [0.5], [0.2]]), 2 / 3),
        ([[1], [0], [1]], numpy.array([0.7, 0.5, 0.2]), 2 / 3),
        (numpy.array([1.0, 0.0, 1.0]), numpy.array([0.7, 0.5, 0.2]), 2 / 3),
    ],
)
def test_accuracy(y_true, y_pred, expected):
    assert metrics.accuracy(y_true, y_pred) == pytest.approx(expected)


def test_accuracy_of_single_logits():
    assert metrics.accuracy([1, 0, 1], numpy.array([0.2, -0.2, 0.3]), threshold=0.0) == 1.0
    assert metrics.accuracy([1, 0, 1], numpy.array([0.2, -0.2, 0.3])) == pytest.approx(1 / 3)


def test_accuracy_of_sequences_has_class_axis_1():
    y_score = numpy.moveaxis(numpy.eye(3)[[[0, 1], [2, 2]]], -1, 1)  # (N, K, T)
    assert metrics.accuracy([[0, 1], [2, 0]], y_score) == 0.75


@pytest.mark.parametrize(
    ("y_true", "y_pred", "error", "message"),
    [
        ([0, 1], [0, 1, 1], ShapeError, "2 and 3"),
        ([0, 1, 1], LOGITS, ShapeError, r"\(4, 3\).*\(4,\)"),
        ([[0, 1], [1, 0]], numpy.array([0.2, 0.8]), ShapeError, r"\(2,\)"),
        ([0, 1, 2], numpy.array([0.0, 1.0, 2.0]), TargetError, r"got 2 at \(2,\); convert .* astype\(int\)"),
        ([-1, 1], numpy.array([0.2, 0.8]), TargetError, "0 or 1, got -1"),
        ([0.5, 0, 1, 1], LOGITS, DtypeError, "integers"),
        ([0, 1], ["a", "b"], DataError, "both"),
        ([0.5, 1], [0, 1], DataError, "got 0.5"),
        ([[1, 1, 0], [0, 0, 1]], [0, 2], DataError, "one-hot"),
        ([], [], DataError, "no examples"),
        ([-100], LOGITS[:1], DataError, "ignored"),
        ([1, 0], numpy.array([0.5, numpy.nan]), DataError, r"the prediction at \(1,\) is NaN"),
        ([0, 1], numpy.array([1j, 0]), DtypeError, "complex"),
        (numpy.zeros((2, 2, 2), int), numpy.zeros((2, 2, 2), int), ShapeError, r"\(2, 2, 2\)"),
        ([None, 1], [0, 1], DtypeError, "object"),
    ],
)
def test_accuracy_of_what_does_not_fit(y_true, y_pred, error, message):
    with pytest.raises(error, match=message):
        metrics.accuracy(y_true, y_pred)


# top k ---------------------------------------------------------------------------------------------------------------


def test_top_k():
    y_score = [[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]
    assert metrics.top_k_accuracy([2, 1, 0], y_score, k=1) == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy([2, 1, 0], y_score, k=2) == pytest.approx(2 / 3)
    assert metrics.top_k_accuracy(numpy.eye(3)[[2, 1, 0]], y_score, k=2) == pytest.approx(2 / 3)
    assert metrics.top_k_accuracy([2, 1, 0], y_score) == 1.0


def test_top_k_of_constant_scores_does_not_flatter():
    y_true = numpy.arange(10)
    assert metrics.top_k_accuracy(y_true, numpy.zeros((10, 10)), k=3) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("y_true", "y_score", "k", "error"),
    [
        ([3], [[0.1, 0.2, 0.7]], 2, TargetError),
        ([-1], [[0.1, 0.2, 0.7]], 2, TargetError),
        ([0], [[0.1, numpy.nan, 0.7]], 2, DataError),
        ([0, 1], [[0.1, 0.2, 0.7]], 2, ShapeError),
        ([0], [[0.1, 0.2, 0.7]], 0, ParameterError),
        ([0], [[0.1, 0.2, 0.7]], 1.0, ParameterError),
        ([2, 0], [0.1, 0.2], 1, TargetError),
    ],
)
def test_top_k_of_what_does_not_fit(y_true, y_score, k, error):
    with pytest.raises(error):
        metrics.top_k_accuracy(y_true, y_score, k)


# counts --------------------------------------------------------------------------------------------------------------


def test_confusion_matrix():
    y_true, y_pred = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2]
    numpy.testing.assert_array_equal(metrics.confusion_matrix(y_true, y_pred), [[1, 1, 0], [0, 1, 0], [1, 0, 2]])
    numpy.testing.assert_array_equal(metrics.confusion_matrix(y_true, y_pred, labels=[2, 0]), [[2, 1], [0, 1]])
    rows = metrics.confusion_matrix(y_true, y_pred, normalize="true")
    numpy.testing.assert_allclose(rows, [[0.5, 0.5, 0], [0, 1, 0], [1 / 3, 0, 2 / 3]])
    numpy.testing.assert_array_equal(
        metrics.confusion_matrix([1], [1], labels=[0, 1], normalize="true"), [[0, 0], [0, 1]]
    )


def test_confusion_matrix_of_scores():
    numpy.testing.assert_array_equal(metrics.confusion_matrix([0, 2, 1, 1], LOGITS).diagonal(), [1, 1, 1])


@pytest.mark.parametrize("labels", [[], [0, 0], [[0, 1]], ["a"]])
def test_labels_must_be_different_classes(labels):
    with pytest.raises(ParameterError, match="labels"):
        metrics.confusion_matrix([0, 1], [0, 1], labels=labels)


def test_precision_recall_and_f1_of_the_classes():
    y_true, y_pred = [0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 0, 2]
    each = {
        metrics.precision: [1 / 2, 1 / 2, 1],
        metrics.recall: [1 / 2, 1, 2 / 3],
        metrics.f1: [1 / 2, 2 / 3, 4 / 5],
    }
    for function, expected in each.items():
        numpy.testing.assert_allclose(function(y_true, y_pred, average=None), expected)
        assert function(y_true, y_pred, average="macro") == pytest.approx(numpy.mean(expected))
        assert function(y_true, y_pred, average="weighted") == pytest.approx(numpy.dot(expected, [2, 1, 3]) / 6)
        assert function(y_true, y_pred, average="micro") == pytest.approx(4 / 6)


def test_binary_is_about_the_positive_class():
    y_true, y_pred = ["ham", "spam", "spam"], ["spam", "spam", "spam"]
    assert metrics.precision(y_true, y_pred, pos_label="spam") == pytest.approx(2 / 3)
    assert metrics.recall(y_true, y_pred, pos_label="ham") == 0
    with pytest.raises(DataError, match="pos_label 1 is not one of"):
        metrics.f1(y_true, y_pred)
    with pytest.raises(DataError, match="average='binary' needs two classes, got 3"):
        metrics.f1([0, 1, 2], [0, 1, 1])


def test_zero_division():
    assert metrics.precision([1, 1], [0, 0]) == 0
    assert metrics.precision([1, 1], [0, 0], zero_division=1) == 1
    assert math.isnan(metrics.precision([1, 1], [0, 0], zero_division=math.nan))
    assert metrics.precision([1, 1, 0], [0, 0, 0], average="macro", zero_division=math.nan) == pytest.approx(1 / 3)
    with pytest.raises(ParameterError, match="zero_division"):
        metrics.precision([1, 1], [0, 0], zero_division=0.5)
    with pytest.raises(ParameterError, match="average must be one of 'binary', 'macro'"):
        metrics.precision([1, 1], [0, 0], average="samples")


# ranking -------------------------------------------------------------------------------------------------------------


def test_roc_auc():
    assert metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.roc_auc([0, 0, 1, 1], [1, 2, 3, 4]) == 1
    assert metrics.roc_auc([1, 1, 0, 0], [1, 2, 3, 4]) == 0
    assert metrics.roc_auc([1, 0, 1, 0], [5, 5, 5, 5]) == 0.5
    assert metrics.roc_auc(["no", "yes", "yes"], [-numpy.inf, 0, numpy.inf]) == 1
    assert metrics.roc_auc([[0], [1]], numpy.array([[0.1], [0.2]])) == 1
    assert metrics.roc_auc([0, 1], [[0.9, 0.1], [0.2, 0.8]]) == 1
    assert metrics.roc_auc([0, 1], [0.1, 0.2], labels=[1, 0]) == 0


def test_roc_auc_of_several_classes():
    y_true, y_score = [0, 1, 2, 2], [[0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]]
    each = [0.5, 1.0, 0.75]  # class 0: of its three rivals 0.2 beats one, ties with one, loses to one
    numpy.testing.assert_allclose(metrics.roc_auc(y_true, y_score, average=None), each)
    assert metrics.roc_auc(y_true, y_score) == pytest.approx(0.75)
    assert metrics.roc_auc(numpy.eye(3)[y_true], y_score, average="weighted") == pytest.approx((0.5 + 1 + 1.5) / 4)


def test_roc_auc_is_undefined_with_one_class():
    assert math.isnan(metrics.roc_auc([1, 1], [0.1, 0.2]))
    assert math.isnan(metrics.roc_auc(["x", "x"], [0.1, 0.2]))
    y_score = [[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]]
    assert math.isnan(metrics.roc_auc([0, 1], y_score))
    numpy.testing.assert_array_equal(metrics.roc_auc([0, 1], y_score, average=None), [1, 1, numpy.nan])


@pytest.mark.parametrize(
    ("y_true", "y_score", "settings", "error"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], {}, DataError),
        ([0, 1, 5, 7], numpy.ones((4, 3)), {}, DataError),
        ([0, 1], [0.1, numpy.nan], {}, DataError),
        ([0, 1], [0.1, 0.2, 0.3], {}, ShapeError),
        ([], [], {}, DataError),
        ([0, 1], [0.1, 0.2], {"average": "micro"}, ParameterError),
        ([0, 1], [0.1, 0.2], {"labels": [0]}, ParameterError),
        ([0, 1], [0.1, 0.2], {"labels": [0, 2]}, DataError),
    ],
)
def test_roc_auc_of_what_does_not_fit(y_true, y_score, settings, error):
    with pytest.raises(error):
        metrics.roc_auc(y_true, y_score, **settings)


# numbers -------------------------------------------------------------------------------------------------------------

REGRESSION = [
    metrics.mean_absolute_error,
    metrics.mean_squared_error,
    metrics.root_mean_squared_error,
    metrics.r2_score,
]


def test_errors_of_numbers():
    y_true, y_pred = [3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0]
    assert metrics.mean_absolute_error(y_true, y_pred) == 0.5
    assert metrics.mean_squared_error(y_true, y_pred) == 0.375
    assert metrics.root_mean_squared_error(y_true, y_pred) == math.sqrt(0.375)
    assert metrics.r2_score(y_true, y_pred) == pytest.approx(1 - 1.5 / 29.1875)


@pytest.mark.parametrize("function", REGRESSION)
def test_a_column_is_aligned_and_never_broadcast(function):
    y_true, y_pred = numpy.arange(5.0), numpy.arange(5.0)[::-1]
    assert function(y_true, y_pred[:, None]) == function(y_true[:, None], y_pred) == function(y_true, y_pred)
    for wrong in (y_pred[None], y_pred[:1], y_pred[:, None, None], numpy.float64(1)):
        with pytest.raises(ShapeError):
            function(y_true, wrong)


@pytest.mark.parametrize("function", REGRESSION)
@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf])
def test_numbers_must_be_finite(function, bad):
    with pytest.raises(DataError, match=r"y_pred at \(1,\) is (nan|inf)"):
        function([1.0, 2.0], [1.0, bad])
    with pytest.raises(DataError, match="y_true"):
        function([1.0, bad], [1.0, 2.0])


@pytest.mark.parametrize("function", REGRESSION)
def test_there_must_be_numbers(function):
    with pytest.raises(DataError, match="no examples"):
        function([], [])
    with pytest.raises(DtypeError):
        function(["a"], ["b"])


def test_small_floats_are_compared_in_float64():
    y_true = numpy.full(10_000, 1000, dtype="float16")
    assert metrics.mean_squared_error(y_true, y_true - 500) == 250_000


def test_r2_of_a_constant():
    assert metrics.r2_score([0.1] * 3, [0.1] * 3) == 1
    assert metrics.r2_score([0.1] * 3, [0.1, 0.1, 0.2]) == 0
    assert math.isnan(metrics.r2_score([0.1], [0.1]))


# batch by batch ------------------------------------------------------------------------------------------------------


def rng():
    return numpy.random.default_rng(0)


def probabilities(k=4, n=50):
    scores = rng().random((n, k))
    return scores / scores.sum(axis=1, keepdims=True), rng().integers(k, size=n)


def single(n=50):
    generator = rng()
    return generator.random(n).round(1), generator.integers(2, size=n)


def numbers(outputs=2, n=50):
    generator = rng()
    return generator.normal(size=(n, outputs)), generator.normal(size=(n, outputs))


def macro(function):
    return lambda y, p: function(y, p.argmax(axis=1), average="macro")


def binary(function):
    return lambda y, p: function(y, (p > 0.5).astype(int))


STREAMS = [
    ("accuracy", probabilities, metrics.accuracy),
    ("accuracy", single, metrics.accuracy),
    ("binary_accuracy", single, metrics.accuracy),
    ("top_k_categorical_accuracy", lambda: probabilities(8), metrics.top_k_accuracy),
    ("precision", probabilities, macro(metrics.precision)),
    ("precision", single, binary(metrics.precision)),
    ("recall", probabilities, macro(metrics.recall)),
    ("recall", single, binary(metrics.recall)),
    ("f1_score", probabilities, macro(metrics.f1)),
    ("f1", single, binary(metrics.f1)),
    ("auc", probabilities, metrics.roc_auc),
    ("auc", single, metrics.roc_auc),
    ("mae", numbers, metrics.mean_absolute_error),
    ("mse", numbers, metrics.mean_squared_error),
    ("rmse", numbers, metrics.root_mean_squared_error),
    ("r2_score", numbers, metrics.r2_score),
]


@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize(("name", "data", "function"), STREAMS)
def test_batches_give_the_number_of_the_whole(name, data, function, size):
    prediction, target = data()
    metric = metrics.get(name)
    assert metric.name == name
    assert math.isnan(metric.result())
    for _ in range(2):
        metric.reset()
        for start in range(0, len(target), size):
            metric.update(prediction[start : start + size], target[start : start + size])
        assert metric.result() == pytest.approx(function(target, prediction), rel=1e-12)
    metric.reset()
    assert math.isnan(metric.result())


@pytest.mark.parametrize("name", ["accuracy", "binary_accuracy", "precision", "recall", "f1"])
def test_from_logits_moves_the_threshold(name):
    logits, target = numpy.array([0.2, 0.3, -0.1, -4.0]), numpy.array([1, 1, 0, 0])
    metric = metrics.get(name, from_logits=True)
    metric.update(logits, target)
    assert metric.result() == 1
    metric = metrics.get(name)
    metric.update(logits, target)
    assert metric.result() < 1


def test_auc_of_logits_is_that_of_probabilities():
    logits, target = 5 * rng().normal(size=(40, 3)), rng().integers(3, size=40)
    exponentials = numpy.exp(logits)
    metric = metrics.get("auc", from_logits=True)
    metric.update(logits, target)
    expected = metrics.roc_auc(target, exponentials / exponentials.sum(axis=1, keepdims=True))
    assert metric.result() == pytest.approx(expected)
    assert metrics.roc_auc(target, logits) != expected


def test_binary_accuracy_of_several_outputs():
    metric = metrics.get("binary_accuracy")
    metric.update(numpy.array([[0.9, 0.2], [0.4, 0.6]]), numpy.array([[1, 1], [0, 1]]))
    assert metric.result() == 0.75


def test_binary_average_of_several_classes():
    metric = metrics.Precision(average="binary")
    metric.update(*probabilities())
    with pytest.raises(ParameterError, match="average='macro'"):
        metric.result()


def test_averages_of_counted_metrics():
    prediction, target = probabilities()
    for average in ("micro", "weighted"):
        metric = metrics.F1(average=average)
        metric.update(prediction, target)
        assert metric.result() == pytest.approx(metrics.f1(target, prediction, average=average))
    metric = metrics.Recall(average="macro")
    metric.update(numpy.array([0.2, 0.8]), numpy.array([1, 1]))
    assert metric.result() == 0.25  # class 0 is never true, and 0 / 0 is 0 unless said otherwise


def test_labels_as_predictions():
    metric = metrics.Precision()
    metric.update([1, 1, 0], [1, 0, 0])
    assert metric.result() == 0.5


def test_r2_far_from_zero_keeps_its_digits():
    generator = rng()
    target = 1e8 + generator.normal(size=600)
    prediction = target + 0.5 * generator.normal(size=600)
    metric = metrics.R2Score()
    for start in range(0, 600, 100):
        metric.update(prediction[start : start + 100], target[start : start + 100])
    assert metric.result() == pytest.approx(metrics.r2_score(target, prediction), rel=1e-6)
    with pytest.raises(ShapeError, match="1 and 2 outputs"):
        metric.update(numpy.zeros((3, 2)), numpy.zeros((3, 2)))


def test_r2_of_a_constant_in_batches():
    metric = metrics.R2Score()
    for n in (3, 4):
        metric.update(numpy.full(n, 0.1), numpy.full(n, 0.1))
    assert metric.result() == 1


def test_scores_are_kept_by_value():
    buffer, metric = numpy.array([0.9, 0.1]), metrics.RocAuc()
    metric.update(buffer, numpy.array([1, 0]))
    buffer[...] = 0
    assert metric.result() == 1


def test_which_way_is_better():
    assert metrics.get("acc").larger_is_better
    assert not metrics.get("mse").larger_is_better


@pytest.mark.parametrize(("name", "data", "function"), STREAMS)
def test_arrays_of_any_engine(engine, name, data, function):
    prediction, target = data()
    metric = metrics.get(name)
    metric.update(engine.asarray(prediction), engine.asarray(target))
    assert metric.result() == pytest.approx(function(target, prediction), rel=1e-12)


# names ---------------------------------------------------------------------------------------------------------------


def test_names_and_objects():
    assert isinstance(metrics.get("acc"), metrics.Accuracy)
    assert metrics.get("ACC").name == "acc"
    own = metrics.TopKAccuracy(k=3, name="top3")
    assert metrics.get(own) is own
    assert isinstance(metrics.get(metrics.R2Score), metrics.R2Score)
    assert repr(own) == "TopKAccuracy(name='top3')"


def test_anything_with_the_methods_of_a_metric_will_do():
    class Count:
        name = "count"

        def reset(self):
            self.n = 0

        def update(self, prediction, target):
            self.n += len(target)

        def result(self):
            return self.n

    own = Count()
    assert metrics.get(own) is own


def test_a_function_of_ones_own():
    def largest_error(y_true, y_pred):
        return abs(y_true - y_pred)

    metric = metrics.get(largest_error)
    assert metric.name == "largest_error"
    metric.update(numpy.array([1.0, 2.0, 3.0]), numpy.array([1.0, 2.0, 6.0]))
    metric.update(numpy.array([5.0]), numpy.array([0.0]))
    assert metric.result() == 2.0
    assert metrics.FunctionMetric(largest_error, name="le").name == "le"


def test_unknown_names_list_the_known():
    with pytest.raises(UnknownNameError, match=r"unknown metric 'accurracy'; known: acc, accuracy, auc, .*top_k"):
        metrics.get("accurracy")
    with pytest.raises(ParameterError, match="got 3"):
        metrics.get(3)


@pytest.mark.parametrize(
    "make",
    [lambda: metrics.TopKAccuracy(k=0), lambda: metrics.Precision(average="mean"), lambda: metrics.TopKAccuracy(k=1.5)],
)
def test_settings_outside_their_range(make):
    with pytest.raises(ParameterError):
        make()


def test_a_metric_of_ones_own_must_be_whole():
    with pytest.raises(NotImplementedError, match="no reset"):
        metrics.Metric()


@pytest.mark.parametrize("name", sorted({name for name, _, _ in STREAMS}))
def test_batches_that_do_not_fit_change_nothing(name):
    prediction, target = next(data for n, data, _ in STREAMS if n == name)()
    metric = metrics.get(name)
    metric.update(prediction, target)
    before = metric.result()
    with pytest.raises(MinidlError):
        metric.update(prediction, target[:-1])
    with pytest.raises(MinidlError):
        metric.update(numpy.full(prediction.shape, numpy.nan), target)
    assert metric.result() == before


@pytest.mark.parametrize("size", [1, 4, 30])
def test_a_function_sees_all_examples_as_one_batch(size):
    """The correlation, the median error and the largest one are no means; errors of each example are."""
    y, found = numpy.random.default_rng(0).normal(size=(2, 30))
    functions = {
        "correlation": lambda true, pred: numpy.corrcoef(true, pred)[0, 1] if len(true) > 1 else math.nan,
        "median": lambda true, pred: numpy.median(abs(true - pred)),
        "largest": lambda true, pred: abs(true - pred).max(),
        "errors": lambda true, pred: abs(true - pred),
    }
    for name, function in functions.items():
        metric = metrics.FunctionMetric(function, name)
        for start in range(0, 30, size):
            metric.update(found[start : start + size], y[start : start + size])
            metric.result()
        assert metric.result() == pytest.approx(numpy.mean(function(y, found)))
        metric.reset()
        assert math.isnan(metric.result())


def test_a_function_of_examples_that_differ_in_shape():
    metric = metrics.FunctionMetric(lambda true, pred: abs(true - pred).max())
    metric.update(numpy.full((2, 3), 4.0), numpy.zeros((2, 3)))
    metric.update(numpy.full((1, 2), 1.0), numpy.zeros((1, 2)))
    assert metric.result() == pytest.approx((2 * 4 + 1) / 3)


def test_a_function_that_returns_something_else():
    with pytest.raises(ShapeError, match="must return a number, or an array with one or more for each of the 2"):
        metrics.FunctionMetric(lambda true, pred: numpy.ones(5), "five").update(numpy.ones(2), numpy.ones(2))
