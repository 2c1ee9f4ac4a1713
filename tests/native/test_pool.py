"""The pooling kernels at every width around the lengths of vectors, against the formulas: bit for bit where they only choose."""

import numpy
import pytest

import minidl as dl
from minidl import ops
from minidl.engines import native

if not native.status():
    pytest.skip(str(native.status()), allow_module_level=True)

NATIVE, FORMULAS = dl.engines.get("native"), dl.engines.get("numpy")
WIDTHS = [*range(1, 20), 31, 32, 33, 34, 35, 63, 64, 65, 66, 67, 130]
MAX = [
    (2,),
    (3, 2, 1),
    (3, 1, 1),
    (3, 1),
    (3, 2),
    (2, 1),
    ((2, 3), (1, 2)),
    (5, 3, 2),
    (3, 2, 1, 2),
    ((1, 2), 2, 0, (1, 3)),
    (1, 2),
]
AVG = [(2,), (3, 2, 1), (3, 1, 1), ((1, 4), (1, 2)), (5, 1, 2), ((2, 1), 2), (3, 3, 1)]


def drawn(width, dtype, whole):
    random = numpy.random.default_rng(width)
    shape = (2, 3, 7, width)
    return (random.integers(-2, 3, shape) if whole else random.normal(size=shape)).astype(dtype)


def both(name, x, *settings, **options):
    """Return y, the cache and dx of the kernel and of the formula, or what they raise."""
    found = []
    for engine in (vars(NATIVE), ops.FORMULAS):
        try:
            y, cache = engine[name](x, *settings, **options)
        except dl.MinidlError as error:
            found.append(str(error))
            continue
        dy = numpy.random.default_rng(0).integers(-9, 10, y.shape).astype(x.dtype)
        found.append((y, cache, engine[f"{name}_backward"](dy, cache)))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", MAX, ids=str)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max(settings, ceil_mode, dtype):
    for width in WIDTHS:
        x = drawn(width, dtype, whole=True)  # with many ties
        x.flat[::5] = numpy.random.default_rng(1).choice([numpy.nan, numpy.inf, -numpy.inf], x.flat[::5].shape)
        kernel, formula = both("max_pool2d", x, *settings, ceil_mode=ceil_mode)
        if isinstance(formula, str):
            assert kernel == formula
            continue
        for one, other in zip(
            (kernel[0], kernel[1][0], kernel[2]), (formula[0], formula[1][0], formula[2]), strict=True
        ):
            numpy.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
        assert kernel[1][1:] == formula[1][1:]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("settings", AVG, ids=str)
@pytest.mark.parametrize("options", [{}, {"ceil_mode": True}, {"ceil_mode": True, "count_include_pad": False}])
def test_average(settings, options, dtype):
    for width in WIDTHS:
        kernel, formula = both("avg_pool2d", drawn(width, dtype, whole=False), *settings, **options)
        if isinstance(formula, str):
            assert kernel == formula
            continue
        tolerance = {"rtol": 16 * numpy.finfo(dtype).eps, "atol": 64 * numpy.finfo(dtype).eps}
        numpy.testing.assert_allclose(kernel[0], formula[0], **tolerance)
        numpy.testing.assert_allclose(kernel[2], formula[2], **tolerance)
        assert kernel[1] == formula[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, (1, 3), (None, 1), 5, (7, None), 40])
def test_adaptive(size, dtype):
    for width in WIDTHS:
        kernel, formula = both("adaptive_avg_pool2d", drawn(width, dtype, whole=False), size)
        tolerance = {"rtol": 16 * numpy.finfo(dtype).eps, "atol": 64 * numpy.finfo(dtype).eps}
        numpy.testing.assert_allclose(kernel[0], formula[0], **tolerance)
        numpy.testing.assert_allclose(kernel[2], formula[2], **tolerance)
        assert kernel[1] == formula[1]


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"])
def test_every_number_of_threads_gives_the_same(name):
    x = numpy.random.default_rng(0).normal(size=(5, 7, 64, 66)).astype("float32")
    before, results = dl.get_num_threads(), []
    for threads in (1, 2, 3):
        dl.set_num_threads(threads)
        y, cache = getattr(NATIVE, name)(x, 2)
        results.append((y, getattr(NATIVE, f"{name}_backward")(y, cache)))
    dl.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            numpy.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kernel", [(15, 17), (16, 16)])
def test_a_kernel_too_large_for_a_byte_is_the_formulas(kernel):
    x = drawn(40, "float32", whole=False)[:, :, :1].repeat(20, axis=2)
    found, formula = both("max_pool2d", x, kernel, 1)
    numpy.testing.assert_array_equal(found[2], formula[2])
    assert found[1][0].dtype == ("uint8" if kernel == (15, 17) else "int32")


def test_large_means_are_as_good_as_the_formulas():
    x = numpy.random.default_rng(0).uniform(size=(1, 2, 512, 512)).astype("float32")
    exact = x.astype("float64").mean(axis=(2, 3))
    assert numpy.abs(NATIVE.adaptive_avg_pool2d(x, 1)[0][:, :, 0, 0] / exact - 1).max() < 2e-7


def test_an_upstream_gradient_that_does_not_fit_is_refused():
    y, cache = NATIVE.max_pool2d(numpy.ones((2, 3, 8, 8), "float32"), 2)
    for dy in (y[:1], y[..., :3], y.astype("float64"), y[0]):
        with pytest.raises(dl.MinidlError, match="max_pool2d_backward: dy must have"):
            NATIVE.max_pool2d_backward(dy, cache)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, (3, 4), (6, 11)])
def test_adaptive_maxima_of_special_values(size, dtype):
    values = numpy.array([0.0, -0.0, 1.0, 1.0, -1.0, numpy.nan, numpy.inf, -numpy.inf], dtype)
    x = numpy.random.default_rng(0).choice(values, size=(40, 3, 7, 9), p=[0.2, 0.2, 0.2, 0.1, 0.2, 0.02, 0.04, 0.04])
    y, (places, *_) = NATIVE.adaptive_max_pool2d(x, size)
    expected, (expected_places, *_) = FORMULAS.adaptive_max_pool2d(x, size)
    numpy.testing.assert_array_equal(y, expected)
    numpy.testing.assert_array_equal(places, expected_places)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_adaptive_maxima_over_threads(threads):
    x = numpy.random.default_rng(0).normal(size=(37, 11, 30, 31)).astype("float32")
    before = dl.get_num_threads()
    try:
        dl.set_num_threads(threads)
        y, cache = NATIVE.adaptive_max_pool2d(x, (4, 5))
        expected, expected_cache = FORMULAS.adaptive_max_pool2d(x, (4, 5))
        numpy.testing.assert_array_equal(y, expected)
        dx = NATIVE.adaptive_max_pool2d_backward(y, cache)
        numpy.testing.assert_allclose(dx, FORMULAS.adaptive_max_pool2d_backward(y, expected_cache), rtol=1e-6)
    finally:
        dl.set_num_threads(before)


def test_places_that_were_written_to_reach_no_other_memory():
    x = numpy.ones((2, 3, 6, 6), "float32")
    y, (places, *rest) = NATIVE.adaptive_max_pool2d(x, 2)
    for wrong in (-1, 36, 2**62, -(2**62)):
        places[...] = wrong
        assert not NATIVE.adaptive_max_pool2d_backward(y, (places, *rest)).any()
