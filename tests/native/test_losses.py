"""Losses and dropout of the native engine beside the formulas: every option, odd sizes, awkward layouts."""

import tracemalloc

import numpy
import pytest

import minidl as dl
from minidl import engines

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

native, formulas = engines.get("native"), engines.get("numpy")
TOLERANCE = {"float32": 3e-6, "float64": 1e-14}
POINTWISE = ("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits")


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def agree(op, arguments, keywords, dtype, upstream=1.0):
    own, own_cache = getattr(native, op)(*arguments, **keywords)
    expected, cache = getattr(formulas, op)(*arguments, **keywords)
    assert numpy.asarray(own).dtype == expected.dtype
    assert type(own) is type(expected)
    close = {"rtol": TOLERANCE[dtype] * 10, "atol": TOLERANCE[dtype]}
    numpy.testing.assert_allclose(own, expected, **close)
    if keywords.get("reduction") == "none":
        upstream = numpy.linspace(-1, 1, expected.size).astype(dtype).reshape(expected.shape)
    own_slope = getattr(native, f"{op}_backward")(upstream, own_cache)
    slope = getattr(formulas, f"{op}_backward")(upstream, cache)
    assert own_slope.dtype == slope.dtype
    numpy.testing.assert_allclose(own_slope, slope, **close)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("op", POINTWISE)
@pytest.mark.parametrize("shape", [(1,), (7,), (16,), (5, 13), (3, 4, 11)])
def test_pointwise(op, reduction, shape, dtype, random):
    prediction = (random.normal(size=shape) * 2).astype(dtype)
    target = random.uniform(size=shape).astype(dtype)
    agree(op, (prediction, target), {"reduction": reduction}, dtype)


@pytest.mark.parametrize("op", POINTWISE)
def test_pointwise_targets_as_a_column_and_strided(op, random):
    prediction = random.normal(size=(9, 1))
    agree(op, (prediction, random.uniform(size=9)), {}, "float64")
    agree(op, (numpy.repeat(prediction, 3, axis=0)[::3], random.uniform(size=(1, 9)).T), {}, "float64")


@pytest.mark.parametrize("op", POINTWISE)
def test_pointwise_special_values(op):
    values = numpy.array([numpy.inf, -numpy.inf, numpy.nan, 0.0, 100.0, -100.0], dtype=numpy.float32)
    with numpy.errstate(all="ignore"):
        for target in (0.0, 0.5, 1.0):
            agree(op, (values, numpy.full_like(values, target)), {"reduction": "none"}, "float32")


@pytest.mark.parametrize("delta", [0.3, 1.0, 5.0])
def test_huber(delta, random):
    agree("huber_loss", (random.normal(size=50) * 3, random.normal(size=50), delta), {}, "float64")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (3, 2), (6, 10), (4, 16), (5, 37), (2, 1000)])
def test_cross_entropy(rows, classes, weighted, smoothing, reduction, dtype, random):
    logits = (random.normal(size=(rows, classes)) * 5).astype(dtype)
    target = random.integers(0, classes, rows)
    weight = random.uniform(0.1, 2, classes).astype(dtype) if weighted else None
    keywords = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    agree("cross_entropy", (logits, target), keywords, dtype)
    if rows > 1:
        target[1] = -100
        agree("cross_entropy", (logits, target), keywords, dtype)
    agree("cross_entropy", (numpy.asfortranarray(logits), target.astype(numpy.int32)), keywords, dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_classes_that_cannot_be(smoothing, random):
    logits, target = random.normal(size=(4, 5)), numpy.array([0, 1, 2, 3])
    logits[:, 4] = -numpy.inf
    weight = numpy.array([1.0, 2.0, 3.0, 4.0, 0.0])
    with numpy.errstate(all="ignore"):
        agree("cross_entropy", (logits, target), {"weight": weight, "label_smoothing": smoothing}, "float64")
        agree("cross_entropy", (logits, target), {"label_smoothing": smoothing}, "float64")


def test_cross_entropy_of_ignored_rows_only():
    arguments = numpy.ones((2, 3)), numpy.array([-100, -100])
    loss, cache = native.cross_entropy(*arguments)
    expected, expected_cache = formulas.cross_entropy(*arguments)
    assert numpy.isnan(loss)
    assert numpy.isnan(expected)
    assert cache[1:3] == expected_cache[1:3] == (0.0, 1)
    numpy.testing.assert_array_equal(native.cross_entropy_backward(1.0, cache), 0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("classes", [2047, 2048, 2049, 5000])
def test_cross_entropy_in_blocks_of_classes(classes, dtype, random):
    """Where the largest logit comes first, last, again and again; where whole blocks are ruled out; and where one is nan."""
    logits = random.normal(size=(9, classes))
    logits[1], logits[2] = numpy.sort(logits[1]), numpy.sort(logits[2])[::-1]
    logits[3, :2048] = logits[4, 2048:] = -numpy.inf
    logits[5], logits[6, -1] = 3.0, 60.0
    logits[7, 0] = logits[8, -1] = numpy.nan
    logits[7, 1:2048] = -numpy.inf
    target = numpy.where(numpy.arange(9) == 4, 1, classes - 1)
    for smoothing in (0.0, 0.1):
        with numpy.errstate(all="ignore"):
            keywords = {"label_smoothing": smoothing, "reduction": "none"}
            agree("cross_entropy", (logits.astype(dtype), target), keywords, dtype)
    unknown = numpy.isnan(native.cross_entropy(logits, target, reduction="none")[0]).tolist()
    assert unknown == [False] * 3 + [classes <= 2048] + [False] * 3 + [True] * 2


@pytest.mark.parametrize("threads", [1, 2])
def test_cross_entropy_makes_one_array_of_the_size_of_the_logits(threads, random):
    logits, target = random.normal(size=(64, 4096)).astype("float32"), random.integers(0, 4096, 64)
    before, loss = dl.engines.get_num_threads(), dl.CrossEntropyLoss(class_axis=-1)
    dl.set_num_threads(threads)
    tracemalloc.start()
    try:
        with dl.use("native"):
            loss.forward(logits, target)
            kept, most = tracemalloc.get_traced_memory()
            assert most < logits.nbytes / 50
            dx = loss.backward()
            assert tracemalloc.get_traced_memory()[1] - kept < 1.05 * logits.nbytes
    finally:
        tracemalloc.stop()
        dl.set_num_threads(before)
    assert not numpy.shares_memory(dx, logits)


@pytest.mark.parametrize("dloss", [numpy.float32(0.5), numpy.array(0.5), 2, True, numpy.inf, numpy.nan])
def test_any_upstream_gradient_of_cross_entropy(dloss, random):
    logits, target = random.normal(size=(5, 7)).astype("float32"), random.integers(0, 7, 5)
    for smoothing in (0.0, 0.1):
        agree("cross_entropy", (logits, target), {"label_smoothing": smoothing}, "float32", dloss)


def test_targets_and_statistics_that_changed_since_cross_entropy(random):
    """They are looked at again: no index leads out of an array, and what does not fit goes to the formula."""
    logits, target = random.normal(size=(4, 5)), numpy.array([0, 1, 2, 3])
    _, cache = native.cross_entropy(logits, target)
    expected = native.cross_entropy_backward(1.0, cache)
    for place, other in ((7, cache[7].astype("float32")), (8, numpy.asfortranarray(cache[8])[::1])):
        changed = (*cache[:place], other, *cache[place + 1 :])
        numpy.testing.assert_allclose(native.cross_entropy_backward(1.0, changed), expected, rtol=1e-6)
    for engine in (native, formulas):
        target[2] = 2**40
        numpy.testing.assert_allclose(engine.cross_entropy_backward(1.0, cache)[[0, 1, 3]], expected[[0, 1, 3]])


def test_a_confident_and_right_answer_keeps_its_digits():
    logits, target = numpy.array([40.0, -40.0]), numpy.array([1.0, 0.0])
    each, (slope, _) = native.binary_cross_entropy_with_logits(logits, target, reduction="none")
    numpy.testing.assert_allclose(each, numpy.exp(-40.0), rtol=1e-12)
    numpy.testing.assert_allclose(slope, numpy.array([-1, 1]) * numpy.exp(-40.0), rtol=1e-12)


def test_cross_entropy_with_probabilities(random):
    probabilities = random.dirichlet(numpy.ones(5), 4)
    agree("cross_entropy", (random.normal(size=(4, 5)), probabilities), {"label_smoothing": 0.1}, "float64")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_draws_what_the_formula_draws(p, dtype, random):
    x = random.normal(size=(17, 9)).astype(dtype)
    for layout in (x, numpy.asfortranarray(x)):
        y, (scale,) = native.dropout(layout, p, numpy.random.default_rng(5))
        expected, (expected_scale,) = formulas.dropout(layout, p, numpy.random.default_rng(5))
        numpy.testing.assert_array_equal(y, expected)
        numpy.testing.assert_array_equal(scale, expected_scale)
        numpy.testing.assert_array_equal(native.dropout_backward(x, (scale,)), x * scale)


def test_dropout_with_a_mask(random):
    x, mask = random.normal(size=(6, 7)), random.random((6, 7)) < 0.5
    for keep in (mask, numpy.asfortranarray(mask)):
        numpy.testing.assert_array_equal(native.dropout(x, 0.25, keep)[0], formulas.dropout(x, 0.25, keep)[0])


def test_dropout_is_refused_as_by_the_formula(random):
    for arguments in ((random.normal(size=3), 1.5, random), (random.normal(size=3), 0.5, None), ([1.0], 0.5, random),
                      (random.normal(size=3), 0.5, numpy.ones(4, dtype=bool))):  # fmt: skip
        raised = []
        for engine in (native, formulas):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is compared
                engine.dropout(*arguments)
            raised.append((type(caught.value), str(caught.value)))
        assert raised[0] == raised[1]


# losses of probabilities and their logarithms -------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, 0.5, 1e-30, 1e-8, 3e-7, 1 - 1e-6, 2.0, -1.0, 100.0, numpy.nan, numpy.inf, -numpy.inf]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("op", "reduction"),
    [("binary_cross_entropy", "none"), ("kl_div", "none"), ("kl_div", "batchmean"), ("binary_cross_entropy", "mean")],
)
def test_special_values_as_prediction_and_as_target(op, reduction, dtype):
    prediction, target = (grid.ravel().astype(dtype) for grid in numpy.meshgrid(SPECIAL, SPECIAL))
    finite = numpy.isfinite(prediction) & numpy.isfinite(target)
    keep = slice(None) if reduction == "none" else finite & (target >= 0)
    loss, (slope, _) = getattr(native, op)(prediction[keep], target[keep], reduction=reduction)
    expected, (expected_slope, _) = getattr(formulas, op)(prediction[keep], target[keep], reduction=reduction)
    rtol = 20 * numpy.finfo(dtype).eps
    numpy.testing.assert_allclose(loss, expected, rtol=rtol)
    numpy.testing.assert_allclose(slope, expected_slope, rtol=rtol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, [1.0, 0.0, 2.0, 0.5, -1.0, 3.0], [1.0, 0.0, 2.0, numpy.inf, -1.0, 3.0]])
def test_nll_loss(weight, reduction, dtype, random):
    x = random.choice(numpy.array(SPECIAL, dtype), size=(40, 6)) if reduction == "none" else random.normal(size=(40, 6))
    x, target = x.astype(dtype), random.integers(0, 6, 40)
    target[[3, 30]] = -100
    keywords = {"weight": None if weight is None else numpy.array(weight, dtype), "reduction": reduction}
    loss, (slope, factor, axis) = native.nll_loss(x, target, **keywords)
    expected, (expected_slope, expected_factor, expected_axis) = formulas.nll_loss(x, target, **keywords)
    rtol = 20 * numpy.finfo(dtype).eps
    numpy.testing.assert_allclose(loss, expected, rtol=rtol)
    numpy.testing.assert_array_equal(slope, expected_slope)
    numpy.testing.assert_allclose(factor, expected_factor, rtol=rtol)
    assert axis == expected_axis
    for wrong in (6, -1):
        target[5] = wrong
        with pytest.raises(dl.errors.TargetError, match=f"nll_loss: target {wrong} at index"):
            native.nll_loss(x, target, **keywords)
