"""The native convolutions: fast kernels for 3 x 3, strips, threads, and what is left to the formula."""

import numpy
import pytest

import minidl as dl
from minidl.ops import conv

native = pytest.importorskip("minidl._native")

EPS = float(numpy.finfo("float32").eps)


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def against_the_formula(random, x_shape, weight_shape, bound, **settings):
    """Return y and gradients in float32, each within ``bound`` units of rounding of the root mean square of the float64 ones."""
    x, weight = (random.normal(size=shape).astype("float32") for shape in (x_shape, weight_shape))
    bias = random.normal(size=weight_shape[0]).astype("float32")
    y, cache = native.conv2d(x, weight, bias, **settings)
    exact, exact_cache = conv.conv2d(*(a.astype("float64") for a in (x, weight, bias)), **settings)
    dy = random.normal(size=y.shape).astype("float32")
    found = [y, *native.conv2d_backward(dy, cache)]
    for one, other in zip(found, [exact, *conv.conv2d_backward(dy.astype("float64"), exact_cache)], strict=True):
        size = numpy.sqrt(numpy.mean(other**2))
        assert abs(one - other).max() <= bound * EPS * size
    return found


# Channels from 16 to 64 with 3 x 3 kernels are what Winograd's algorithm takes; sizes around its tiles of 4 x 4.
@pytest.mark.parametrize("padding", [0, 1, 2, (0, 2)])
@pytest.mark.parametrize("size", [(5, 5), (6, 7), (8, 9), (13, 10), (33, 34)])
def test_three_by_three_within_the_documented_error(random, size, padding):
    against_the_formula(random, (3, 19, *size), (35, 19, 3, 3), 100, padding=padding)


@pytest.mark.parametrize(("images", "channels"), [(1, (16, 16)), (2, (64, 64)), (7, (17, 48)), (20, (32, 31))])
def test_three_by_three_for_any_number_of_images_and_channels(random, images, channels):
    against_the_formula(random, (images, channels[0], 14, 15), (channels[1], channels[0], 3, 3), 100, padding=1)


@pytest.mark.parametrize(
    ("x", "weight", "settings"),
    [
        ((2, 3, 61, 60), (5, 3, 3, 3), {"padding": 1}),  # several strips of rows
        ((1, 40, 90, 70), (9, 40, 3, 3), {"stride": 2, "padding": 1}),
        ((2, 24, 15, 17), (26, 24, 3, 3), {"dilation": 2, "padding": 2}),
        ((2, 32, 15, 17), (32, 16, 3, 3), {"groups": 2, "padding": 1}),
        ((3, 20, 12, 12), (17, 20, 5, 5), {"padding": "same"}),
        ((3, 50, 9, 11), (60, 50, 1, 1), {}),
        ((3, 50, 9, 11), (60, 50, 1, 1), {"stride": 3}),
        ((2, 37, 20, 21), (37, 1, 3, 3), {"groups": 37, "padding": 1}),
        ((2, 37, 20, 21), (37, 1, 5, 3), {"groups": 37, "stride": 2}),
        ((2, 6, 20, 21), (12, 1, 3, 3), {"groups": 6}),
        ((5, 37, 9, 7), (37, 1, 3, 3), {"groups": 37, "padding": 1}),  # rows shorter than a vector
        ((5, 6, 14, 14), (16, 6, 5, 5), {}),  # most rows of the result see a part of the kernel only
        ((2, 24, 70, 75), (24, 24, 7, 5), {"stride": (3, 2)}),
        ((7, 48, 8, 8), (40, 48, 3, 3), {"stride": 2, "padding": 1}),  # many channels, several images at once
        ((13, 30, 5, 4), (70, 30, 3, 2), {"padding": (2, 1), "dilation": (2, 1)}),
        ((5, 64, 6, 6), (96, 32, 1, 1), {"groups": 2}),
        ((1, 130, 4, 4), (140, 130, 3, 3), {"padding": 1}),  # the channels of one image, shared out
        ((2, 40, 40, 42), (64, 40, 3, 3), {"stride": 2}),  # strips of rows
        ((40, 20, 3, 3), (18, 20, 3, 3), {"padding": 3, "stride": 3}),
        ((1, 1, 1, 300), (3, 1, 1, 7), {"padding": (0, 3)}),
        ((1, 2, 300, 1), (3, 2, 7, 1), {"padding": (3, 0), "stride": (2, 1)}),
    ],
)
def test_other_kernels_within_the_error_of_a_plain_sum(random, x, weight, settings):
    against_the_formula(random, x, weight, 60, **settings)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((3, 32, 20, 20), (32, 32, 3, 3)),
        ((2, 8, 20, 20), (8, 8, 5, 5)),
        ((4, 64, 20, 20), (64, 1, 3, 3)),
        ((9, 64, 5, 5), (64, 64, 5, 5)),
    ],
)
def test_the_same_number_of_threads_gives_the_same_bits(random, x, weight, threads):
    settings = {"groups": x[1] // weight[1], "padding": 1}
    before = dl.get_num_threads()
    try:
        dl.set_num_threads(threads)
        runs = [against_the_formula(numpy.random.default_rng(1), x, weight, 100, **settings) for _ in range(3)]
    finally:
        dl.set_num_threads(before)
    for other in runs[1:]:
        for one, two in zip(runs[0], other, strict=True):
            numpy.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("value", [numpy.inf, -numpy.inf, numpy.nan])
@pytest.mark.parametrize("place", ["x", "weight", "dy"])
@pytest.mark.parametrize("groups", [1, 16])
def test_what_is_not_finite_reaches_what_it_reaches_in_the_formula(random, value, place, groups):
    arrays = {
        "x": random.normal(size=(2, 16, 12, 12)).astype("float32"),
        "weight": random.normal(size=(16, 16 // groups, 3, 3)).astype("float32"),
        "dy": random.normal(size=(2, 16, 12, 12)).astype("float32"),
    }
    arrays[place][(1, 0, 2, 0)] = value
    results = []
    for engine in (native, conv):
        with numpy.errstate(invalid="ignore"):
            y, cache = engine.conv2d(arrays["x"], arrays["weight"], padding=1, groups=groups)
            results.append([y, *engine.conv2d_backward(arrays["dy"], cache)[:2]])
    for one, other in zip(*results, strict=True):
        for kind in (numpy.isnan, numpy.isposinf, numpy.isneginf):
            numpy.testing.assert_array_equal(kind(one), kind(other))


def test_numbers_that_only_the_transformations_overflow_on(random):
    x = numpy.full((1, 16, 8, 8), 2e37, "float32")
    weight = numpy.zeros((16, 16, 3, 3), "float32")
    weight[:, 0, 1, 1] = 1
    y, _ = native.conv2d(x, weight, padding=1)
    numpy.testing.assert_allclose(y, 2e37, rtol=1e-6)


def test_strided_arrays_are_read_as_they_are(random):
    x = random.normal(size=(2, 9, 8, 6)).astype("float32").transpose(0, 3, 1, 2)
    weight = random.normal(size=(3, 3, 6, 5)).astype("float32").transpose(3, 2, 0, 1)
    y, cache = native.conv2d(x, weight)
    plain, plain_cache = native.conv2d(x.copy(), weight.copy())
    numpy.testing.assert_array_equal(y, plain)
    dy = random.normal(size=(*y.shape[:2], y.shape[3], y.shape[2])).astype("float32").swapaxes(2, 3)
    for one, other in zip(
        native.conv2d_backward(dy, cache)[:2], native.conv2d_backward(dy.copy(), plain_cache)[:2], strict=True
    ):
        numpy.testing.assert_array_equal(one, other)


def test_gradients_are_added_where_asked(random):
    x, weight = (
        random.normal(size=(2, 16, 9, 9)).astype("float32"),
        random.normal(size=(16, 16, 3, 3)).astype("float32"),
    )
    for groups in (1, 4):
        y, cache = native.conv2d(x, weight[:, : 16 // groups], weight[:, 0, 0, 0], padding=1, groups=groups)
        _, dweight, dbias = native.conv2d_backward(y, cache)
        sums = numpy.ones_like(dweight), numpy.ones_like(dbias)
        assert native.conv2d_backward(y, cache, sums, True, (False, True, True))[0] is None
        numpy.testing.assert_allclose(sums[0], dweight + 1, rtol=1e-5, atol=1e-3)
        numpy.testing.assert_allclose(sums[1], dbias + 1, rtol=1e-5)


def test_a_convolution_asks_nothing_of_the_system_the_second_time(random):
    x, weight = (
        random.normal(size=(4, 32, 30, 30)).astype("float32"),
        random.normal(size=(32, 32, 3, 3)).astype("float32"),
    )

    def step():
        y, cache = native.conv2d(x, weight, padding=1)
        native.conv2d_backward(y, cache)

    step()
    step()
    before = native.memory_info()["from_system"]
    step()
    assert native.memory_info()["from_system"] == before
