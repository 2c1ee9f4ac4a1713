"""Cross-entropy: class indices and probabilities, weights, smoothing, ignored targets, and every mistake in a target."""

import inspect
import itertools
import math

import numpy
import pytest

from minidl import errors, ops


def both(engine, *arguments, dloss=1.0, **options):
    loss, cache = engine.cross_entropy(*arguments, **options)
    return loss, engine.cross_entropy_backward(dloss, cache)


def loss_of_one_row(x, q):
    """Return minus the sum of q log p for one row, by the definition, and the gradient."""
    total = math.fsum(math.exp(v) for v in x)
    p = [math.exp(v) / total for v in x]
    loss = -math.fsum(a * math.log(b) for a, b in zip(q, p, strict=True))
    return loss, [b * math.fsum(q) - a for a, b in zip(q, p, strict=True)]


# values -------------------------------------------------------------------------------------------------------------


def test_two_rows_by_hand(host_engine):
    logits = numpy.log(numpy.array([[1.0, 3.0], [4.0, 1.0]]))
    loss, gradient = both(host_engine, logits, numpy.array([0, 0]))
    assert loss == pytest.approx(-(math.log(1 / 4) + math.log(4 / 5)) / 2)
    numpy.testing.assert_allclose(gradient, [[-3 / 8, 3 / 8], [-1 / 10, 1 / 10]])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_indices_by_a_loop(host_engine, weighted, smoothing, ignored, reduction):
    rng = numpy.random.default_rng(0)
    logits, target = rng.normal(size=(6, 4)), numpy.array([0, 3, 1, 2, 3, 3])
    w = rng.uniform(0.5, 2.0, 4) if weighted else numpy.ones(4)
    dloss = rng.normal(size=6) if reduction == "none" else 1.5
    losses, slopes, divisor = [], [], 0.0
    for x, c in zip(logits, target, strict=True):
        if ignored and c == 3:
            losses.append(0.0)
            slopes.append([0.0] * 4)
            continue
        q = [w[k] * ((1 - smoothing) * (k == c) + smoothing / 4) for k in range(4)]
        loss, slope = loss_of_one_row(x, q)
        losses.append(loss)
        slopes.append(slope)
        divisor += w[c]
    options = {"ignore_index": 3 if ignored else -100, "label_smoothing": smoothing, "reduction": reduction}
    loss, gradient = both(host_engine, logits, target, w if weighted else None, dloss=dloss, **options)
    expected = {"mean": sum(losses) / divisor, "sum": sum(losses), "none": losses}[reduction]
    numpy.testing.assert_allclose(loss, expected, rtol=1e-13)
    upstream = dloss[:, None] if reduction == "none" else dloss / (divisor if reduction == "mean" else 1)
    numpy.testing.assert_allclose(gradient, upstream * numpy.array(slopes), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_probabilities_by_a_loop(host_engine, weighted, smoothing):
    rng = numpy.random.default_rng(0)
    logits, target = rng.normal(size=(3, 4)), rng.dirichlet(numpy.ones(4), 3)
    w = rng.uniform(0.5, 2.0, 4) if weighted else numpy.ones(4)
    rows = [
        loss_of_one_row(x, [w[k] * ((1 - smoothing) * t[k] + smoothing / 4) for k in range(4)])
        for x, t in zip(logits, target, strict=True)
    ]
    loss, gradient = both(host_engine, logits, target, w if weighted else None, label_smoothing=smoothing)
    assert loss == pytest.approx(sum(row[0] for row in rows) / 3)  # by the number of rows, whatever the weights
    numpy.testing.assert_allclose(gradient, numpy.array([row[1] for row in rows]) / 3, rtol=1e-12)


def test_an_index_is_a_probability_of_one(host_engine):
    logits, target = numpy.random.default_rng(0).normal(size=(5, 3)), numpy.array([2, 0, 1, 1, 2])
    for smoothing in (0.0, 0.3):
        first = both(host_engine, logits, target, label_smoothing=smoothing)
        second = both(host_engine, logits, numpy.eye(3)[target], label_smoothing=smoothing)
        numpy.testing.assert_allclose(first[0], second[0], rtol=1e-15)
        numpy.testing.assert_allclose(first[1], second[1], atol=1e-16)


def test_it_is_softmax_then_logarithm_then_picking(host_engine):
    logits, target = numpy.random.default_rng(0).normal(size=(5, 3)), numpy.array([2, 0, 1, 1, 2])
    log_p = host_engine.log_softmax(logits)[0]
    assert host_engine.cross_entropy(logits, target)[0] == pytest.approx(-log_p[numpy.arange(5), target].mean())


@pytest.mark.parametrize("rest", [(2,), (2, 3), (1, 2, 2)])
def test_classes_are_on_axis_one(host_engine, rest):
    rng = numpy.random.default_rng(0)
    logits, target = rng.normal(size=(2, 4, *rest)), rng.integers(0, 4, (2, *rest))
    target.flat[1] = -100
    weight, dloss = rng.uniform(0.5, 2, 4), rng.normal(size=target.shape)
    loss, gradient = both(host_engine, logits, target, weight, reduction="none", dloss=dloss)
    assert loss.shape == target.shape
    assert gradient.shape == logits.shape
    for index in itertools.product(*map(range, target.shape)):
        place = (index[0], slice(None), *index[1:])
        one = both(host_engine, logits[place], numpy.array(target[index]), weight, reduction="sum", dloss=dloss[index])
        numpy.testing.assert_allclose(loss[index], one[0])
        numpy.testing.assert_allclose(gradient[place], one[1], atol=1e-16)


def test_a_single_example_has_no_batch_axis(host_engine):
    loss, gradient = both(host_engine, numpy.log(numpy.array([1.0, 3.0])), numpy.array(0))
    assert loss == pytest.approx(math.log(4))
    numpy.testing.assert_allclose(gradient, [-3 / 4, 3 / 4])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_any_integer_dtype_and_more_classes_than_it_can_count(host_engine, dtype):
    logits = numpy.random.default_rng(0).normal(size=(3, 300))
    target = numpy.array([0, 127, 5])
    assert both(host_engine, logits, target.astype(dtype))[0] == both(host_engine, logits, target)[0]


def test_a_target_may_be_ignored_that_would_be_a_class(host_engine):
    logits = numpy.random.default_rng(0).normal(size=(4, 3))
    loss, gradient = both(host_engine, logits, numpy.array([0, 1, 0, 2]), ignore_index=0)
    assert loss == pytest.approx(host_engine.cross_entropy(logits[[1, 3]], numpy.array([1, 2]))[0])
    numpy.testing.assert_array_equal(gradient[[0, 2]], 0)


def test_ignored_rows_do_not_reach_the_loss(host_engine):
    logits = numpy.array([[1.0, 2.0], [1e30, -1e30]])
    target = numpy.array([1, -100])
    for options in ({}, {"label_smoothing": 0.1}, {"weight": numpy.array([1.0, 2.0])}):
        loss, gradient = both(host_engine, logits, target, **options)
        expected, one = both(host_engine, logits[:1], target[:1], **options)
        assert loss == pytest.approx(expected)
        numpy.testing.assert_allclose(gradient, [one[0], [0, 0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, numpy.array([1.0, 2.0])])
def test_the_mean_of_ignored_targets_only_is_nan_and_its_gradient_zero(host_engine, smoothing, weight):
    logits, target = numpy.ones((3, 2)), numpy.full(3, -100)
    loss, gradient = both(host_engine, logits, target, weight, label_smoothing=smoothing)
    assert math.isnan(loss)
    numpy.testing.assert_array_equal(gradient, numpy.zeros((3, 2)))
    loss, gradient = both(host_engine, logits, target, weight, label_smoothing=smoothing, reduction="sum")
    assert loss == 0
    numpy.testing.assert_array_equal(gradient, numpy.zeros((3, 2)))


# extremes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "size"), [("float16", 3e4), ("float32", 1e38), ("float64", 8e307)])
def test_no_finite_logit_overflows_on_the_way(dtype, size):
    logits, target = numpy.array([[size, -size], [-size, size]], dtype), numpy.array([0, 0])
    forward, backward = (inspect.unwrap(ops.FORMULAS[name]) for name in ("cross_entropy", "cross_entropy_backward"))
    with numpy.errstate(all="raise", under="ignore"):
        loss, cache = forward(logits, target, reduction="none")
        slope = backward(1.0, cache)
    numpy.testing.assert_allclose(loss.astype("float64"), [0, 2 * size], rtol=1e-3)
    numpy.testing.assert_array_equal(slope, [[0, 0], [-1, 1]])


def test_a_class_ruled_out_by_minus_infinity(host_engine):
    """What a mask of classes needs: 0 times minus infinity is 0 here."""
    logits, target = numpy.array([[0.0, -math.inf, 0.0]]), numpy.array([2])
    loss, gradient = both(host_engine, logits, target)
    assert loss == pytest.approx(math.log(2))
    numpy.testing.assert_allclose(gradient, [[0.5, 0, -0.5]])
    loss, gradient = both(host_engine, logits, numpy.array([[0.5, 0.0, 0.5]]))
    assert loss == pytest.approx(math.log(2))
    numpy.testing.assert_allclose(gradient, [[0, 0, 0]], atol=1e-16)
    assert host_engine.cross_entropy(logits, numpy.array([1]))[0] == math.inf
    assert host_engine.cross_entropy(logits, target, label_smoothing=0.1)[0] == math.inf


def test_nan_is_quiet_and_seen(host_engine):
    for logits in (numpy.array([[math.nan, 0.0]]), numpy.array([[math.inf, 0.0]])):
        loss, gradient = both(host_engine, logits, numpy.array([0]))
        assert math.isnan(loss)
        assert numpy.isnan(gradient).any()


def test_half_precision_computes_in_single(host_engine):
    logits = numpy.zeros((2, 80_000), "float16")
    loss, gradient = both(host_engine, logits, numpy.array([3, 4]))
    assert loss.dtype == gradient.dtype == "float16"
    assert float(loss) == pytest.approx(math.log(80_000), rel=1e-3)
    assert gradient[0, 3] == -0.5


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtype_is_kept_whatever_the_target_weight_and_upstream_gradient_are(host_engine, dtype):
    logits = numpy.array([[0.5, -1.0], [2.0, 0.0]], dtype)
    for target in (numpy.array([1, 0]), numpy.array([[0.25, 0.75], [1.0, 0.0]])):
        for weight in (None, numpy.array([1.0, 2.0]), numpy.array([1.0, 2.0], "float32")):
            for dloss in (1.0, numpy.float64(2.0), numpy.array(2.0)):
                for reduction in ("mean", "sum", "none"):
                    loss, gradient = both(host_engine, logits, target, weight, reduction=reduction, dloss=dloss)
                    assert loss.dtype == gradient.dtype == dtype


def test_the_cache_holds_two_numbers_for_each_row(host_engine):
    logits, target = numpy.log(numpy.array([[1.0, 2.0, 1.0], [4.0, 1.0, 1.0]])), numpy.array([0, 0])
    _, (kept, s, axis, kept_target, weight, ignore_index, smoothing, largest, rest) = host_engine.cross_entropy(
        logits, target
    )
    assert kept is logits
    assert kept_target is target
    assert (s, axis, weight, ignore_index, smoothing) == (0.5, 1, None, -100, 0.0)
    numpy.testing.assert_allclose(largest, numpy.log([[2.0], [4.0]]))
    numpy.testing.assert_allclose(rest, [[1.0], [0.5]])


# mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            [0, 1, 3, 7],
            r"target 3 at index \(2,\) is not a class; with 3 classes the indices are 0 to 2, or -100 to ignore",
        ),
        ([0, -1, 1, 2], r"target -1 at index \(1,\)"),
        ([-100, -99, 1, 2], r"target -99 at index \(1,\)"),
    ],
)
def test_the_first_class_out_of_range_is_named(host_engine, target, message):
    with pytest.raises(errors.TargetError, match=f"cross_entropy: {message}"):
        host_engine.cross_entropy(numpy.ones((4, 3)), numpy.array(target))


def test_the_place_of_a_bad_class_has_all_its_axes(host_engine):
    target = numpy.zeros((2, 2, 3), "uint8")
    target[1, 0, 2] = 200
    with pytest.raises(errors.TargetError, match=r"target 200 at index \(1, 0, 2\) is not a class; with 5 classes"):
        host_engine.cross_entropy(numpy.ones((2, 5, 2, 3)), target)
    with pytest.raises(errors.TargetError, match=r"target 9 at index \(\) is not a class"):
        host_engine.cross_entropy(numpy.ones(4), numpy.array(9))


ONES = numpy.ones


@pytest.mark.parametrize(
    ("logits", "target", "options", "error", "message"),
    [
        (
            ONES((2, 3)),
            ONES(2),
            {},
            errors.TargetError,
            r"indices must be integers, got dtype float64; .*astype\('int64'\)",
        ),
        (ONES((2, 3)), ONES(2, bool), {}, errors.DtypeError, "class indices.*probabilities.*got dtype bool"),
        (ONES((2, 3)), ONES((2, 3), complex), {}, errors.DtypeError, "got dtype complex128"),
        (ONES((2, 3)), [0, 1], {}, errors.DtypeError, "got list"),
        (ONES((2, 3)), ONES((2, 3), int), {}, errors.ShapeError, r"must have shape \(2,\), got \(2, 3\); one-hot"),
        (ONES((2, 3)), ONES((2, 1), int), {}, errors.ShapeError, r"must have shape \(2,\), got \(2, 1\)$"),
        (ONES((2, 3)), ONES(3, int), {}, errors.ShapeError, r"must have shape \(2,\), got \(3,\)"),
        (ONES((2, 3, 4)), ONES((2, 3), int), {}, errors.ShapeError, r"must have shape \(2, 4\), got \(2, 3\)"),
        (ONES((2, 3)), ONES((2, 4)), {}, errors.ShapeError, r"shape of the logits, \(2, 3\), got \(2, 4\)"),
        (
            ONES((2, 3), int),
            ONES(2, int),
            {},
            errors.DtypeError,
            "logits must be a floating-point array, got dtype int64",
        ),
        (numpy.array(1.0), numpy.array(0), {}, errors.ShapeError, "logits must have a class axis"),
        (ONES((2, 0)), ONES(2, int), {}, errors.ShapeError, "there are no classes on axis 1"),
        (ONES((0, 3)), ONES(0, int), {}, errors.ShapeError, "the mean of an empty batch is undefined"),
        (ONES((0, 3)), ONES((0, 3)), {}, errors.ShapeError, "the mean of an empty batch is undefined"),
        (ONES((2, 3)), ONES(2, int), {"weight": ONES(2)}, errors.ShapeError, r"each of the 3 classes, got \(2,\)"),
        (ONES((2, 3)), ONES(2, int), {"weight": [1.0, 1.0, 1.0]}, errors.ShapeError, "must be an array"),
        (ONES((2, 3)), ONES(2, int), {"label_smoothing": 1.5}, errors.ParameterError, "from 0 to 1, got 1.5"),
        (ONES((2, 3)), ONES(2, int), {"label_smoothing": math.nan}, errors.ParameterError, "from 0 to 1, got nan"),
        (ONES((2, 3)), ONES(2, int), {"reduction": "average"}, errors.ParameterError, "mean, sum, none, got 'average'"),
        (
            ONES((2, 3)),
            ONES(2, int),
            {"reduction": "half_sum"},
            errors.ParameterError,
            "mean, sum, none, got 'half_sum'",
        ),
    ],
)
def test_what_is_wrong_is_named(host_engine, logits, target, options, error, message):
    with pytest.raises(error, match=f"cross_entropy: .*{message}"):
        host_engine.cross_entropy(logits, target, **options)


def test_an_empty_batch_has_a_sum(host_engine):
    loss, gradient = both(host_engine, ONES((0, 3)), ONES(0, int), reduction="sum")
    assert loss == 0
    assert gradient.shape == (0, 3)
    loss, gradient = both(host_engine, ONES((0, 3)), ONES(0, int), reduction="none", dloss=ONES(0))
    assert loss.shape == (0,)
    assert gradient.shape == (0, 3)


def test_an_upstream_gradient_that_does_not_fit(host_engine):
    _, cache = host_engine.cross_entropy(ONES((2, 3)), ONES(2, int), reduction="none")
    for shape in [(3,), (2, 3), (2, 1)]:
        with pytest.raises(errors.ShapeError, match=r"cross_entropy_backward: dloss must be .*\(2,\), got"):
            host_engine.cross_entropy_backward(ONES(shape), cache)


# confident answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ahead", [5.0, 20.0, 40.0, 80.0])
@pytest.mark.parametrize("target", [0, 1])
def test_a_confident_answer_keeps_the_digits_of_its_loss_and_gradient(host_engine, ahead, target, dtype):
    """-log(p) = log1p(exp(-ahead)), where p itself rounds to 1; the gradients of the two classes are opposite."""
    logits = numpy.array([[ahead, 0.0]] * 3, dtype)[:, :: 1 if target == 0 else -1]
    loss, cache = host_engine.cross_entropy(logits, numpy.full(3, target), reduction="none")
    wrong = numpy.exp(-ahead) / (1 + numpy.exp(-ahead))
    tolerance = 10 * numpy.finfo(dtype).eps
    numpy.testing.assert_allclose(loss, numpy.log1p(numpy.exp(-ahead)), rtol=tolerance)
    dx = host_engine.cross_entropy_backward(1.0, cache)
    numpy.testing.assert_allclose(dx[:, target], -wrong, rtol=tolerance)
    numpy.testing.assert_allclose(dx[:, 1 - target], wrong, rtol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [1, 2])
def test_the_right_class_gets_minus_what_the_others_get(host_engine, axis, dtype):
    random = numpy.random.default_rng(0)
    logits = random.normal(size=(6, 11)).astype(dtype)
    target = random.integers(0, 11, 6)
    logits[numpy.arange(6), target] += 30
    weight = random.uniform(0.5, 2, 11).astype(dtype)
    x, t = (logits, target) if axis == 1 else (logits.T[None], target[None])
    _, cache = host_engine.cross_entropy(x, t, weight, reduction="sum")
    dx = host_engine.cross_entropy_backward(1.0, cache).astype("float64").reshape(x.shape[axis - 1 :])
    dx = dx if axis == 1 else dx.T
    own = dx[numpy.arange(6), target]
    assert (own < 0).all()
    numpy.testing.assert_allclose(dx.sum(axis=1), 0, atol=20 * numpy.finfo(dtype).eps * abs(own).max())


@pytest.mark.parametrize("ties", [1, 2, 3])
def test_ties_for_the_largest_logit(host_engine, ties):
    logits = numpy.array([[1.0] * ties + [0.0] * (4 - ties)])
    p = numpy.exp(logits) / numpy.exp(logits).sum()
    for target in range(4):
        loss, cache = host_engine.cross_entropy(logits, numpy.array([target]))
        numpy.testing.assert_allclose(loss, -numpy.log(p[0, target]), rtol=1e-14)
        expected = p - (numpy.arange(4) == target)
        numpy.testing.assert_allclose(host_engine.cross_entropy_backward(1.0, cache), expected, rtol=1e-13)


def test_almost_certain_probabilities_as_targets(host_engine):
    """The target gives the wrong class 1e-9, less than the answer does: the rounded 1 of the right class must not hide it."""
    logits, target = numpy.array([[20.0, 0.0]]), numpy.array([[1.0, 1e-9]])
    for dtype in ("float32", "float64"):
        loss, cache = host_engine.cross_entropy(logits.astype(dtype), target.astype(dtype))
        small = numpy.exp(-20.0)
        numpy.testing.assert_allclose(loss, numpy.log1p(small) + 1e-9 * (20 + small), rtol=1e-6)
        slope = (small - 1e-9) / (1 + small)
        numpy.testing.assert_allclose(host_engine.cross_entropy_backward(1.0, cache), [[-slope, slope]], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_log_softmax_of_a_confident_answer(host_engine, axis):
    for dtype in ("float32", "float64"):
        x = numpy.array([[30.0, 0.0, -3.0]], dtype)
        y = host_engine.log_softmax(x if axis else x.T, axis)[0].ravel()
        assert y[0] == pytest.approx(-numpy.log1p(numpy.exp(-30.0) + numpy.exp(-33.0)), rel=1e-6, abs=0)


def test_an_infinite_score_leaves_nothing_known(host_engine):
    """As in softmax and PyTorch: also where the infinity is not at the label, which would make the loss infinite."""
    x = numpy.array([[numpy.inf, 0.0, 1.0], [1.0, 2.0, 3.0]])
    for label in range(3):
        loss, cache = host_engine.cross_entropy(x, numpy.array([label, 0]), reduction="none")
        numpy.testing.assert_array_equal(numpy.isnan(loss), [True, False])
        dx = host_engine.cross_entropy_backward(numpy.ones(2), cache)
        numpy.testing.assert_array_equal(numpy.isnan(dx), [[True] * 3, [False] * 3])
