"""Poolings: windows worked by hand, ties, nan, the edges of images, and what is refused."""

import numpy
import pytest

from minidl import ops
from minidl.errors import DtypeError, ParameterError, ShapeError

X = numpy.arange(25.0).reshape(1, 1, 5, 5)


def pooled(op, x, *args, **kwargs):
    """Return y and, for an upstream gradient of ones, dx."""
    y, cache = getattr(ops, op)(x, *args, **kwargs)
    return y, getattr(ops, f"{op}_backward")(numpy.ones_like(y), cache)


def line(*values):
    return numpy.array(values, dtype=float).reshape(1, 1, -1)


def test_the_stride_is_the_kernels_size_unless_given():
    numpy.testing.assert_array_equal(ops.max_pool2d(X, 2)[0][0, 0], [[6, 8], [16, 18]])
    numpy.testing.assert_array_equal(ops.max_pool2d(X, 2, (3, 1))[0][0, 0], [[6, 7, 8, 9], [21, 22, 23, 24]])
    numpy.testing.assert_array_equal(ops.avg_pool2d(X, (1, 5))[0][0, 0, :, 0], [2, 7, 12, 17, 22])


def test_of_equals_the_first_wins():
    y, dx = pooled("max_pool2d", numpy.zeros((1, 1, 4, 4)), 2)
    numpy.testing.assert_array_equal(dx[0, 0], [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    assert not y.any()


def test_a_pixel_that_wins_several_windows_gets_the_sum():
    _, dx = pooled("max_pool2d", -abs(X - 12), 3, 1)
    assert dx[0, 0, 2, 2] == 9
    assert dx.sum() == 9


def test_nan_wins_and_takes_the_gradient():
    y, dx = pooled("max_pool1d", line(1, numpy.nan, 3, 4, 5, 6), 2)
    numpy.testing.assert_array_equal(y, line(numpy.nan, 4, 6))
    numpy.testing.assert_array_equal(dx, line(0, 1, 0, 1, 0, 1))


def test_infinities_do_not_reach_other_windows():
    x = line(numpy.inf, 1, 2, 3, -numpy.inf, -numpy.inf)
    numpy.testing.assert_array_equal(ops.max_pool1d(x, 2)[0], line(numpy.inf, 3, -numpy.inf))
    numpy.testing.assert_array_equal(ops.avg_pool1d(x, 2)[0], line(numpy.inf, 2.5, -numpy.inf))
    numpy.testing.assert_array_equal(ops.adaptive_avg_pool1d(x, 4)[0], line(numpy.inf, 1.5, -numpy.inf, -numpy.inf))


def test_minus_infinity_can_win():
    _, dx = pooled("max_pool1d", numpy.full((1, 1, 3), -numpy.inf), 3, 1, 1)
    numpy.testing.assert_array_equal(dx, line(2, 1, 0))  # the padding before never wins


def test_a_window_that_meets_nothing():
    x = numpy.ones((1, 1, 5, 2))
    y, cache = ops.max_pool2d(x, 2, padding=(0, 1), dilation=(1, 3))
    numpy.testing.assert_array_equal(y, numpy.full((1, 1, 2, 1), -numpy.inf))
    assert (cache[0] == 4).all()
    assert not ops.max_pool2d_backward(numpy.ones_like(y), cache).any()


@pytest.mark.parametrize(
    ("n", "kernel", "stride", "padding", "expected"),
    [
        (5, 2, 2, 0, [1, 3, 4]),
        (5, 3, 3, 1, [1, 4]),
        (6, 3, 2, 1, [1, 3, 5, 5]),
        (4, 2, 3, 1, [0, 3]),
        (2, 3, 2, 0, [1]),
    ],
)
def test_rounded_up_a_window_may_end_beyond_the_image_but_not_begin_there(n, kernel, stride, padding, expected):
    y, _ = ops.max_pool1d(line(*range(n)), kernel, stride, padding, ceil_mode=True)
    numpy.testing.assert_array_equal(y, line(*expected))


def test_what_counts_in_a_mean():
    ones = numpy.ones((1, 1, 4))
    options = {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    numpy.testing.assert_array_equal(ops.avg_pool1d(ones, **options)[0], line(2 / 3, 1, 0.5))
    numpy.testing.assert_array_equal(ops.avg_pool1d(ones, **options, count_include_pad=False)[0], line(1, 1, 1))


def test_adaptive_windows_share_what_they_cut_through():
    y, dx = pooled("adaptive_avg_pool1d", line(0, 3, 6, 9, 12), 3)
    numpy.testing.assert_array_equal(y, line(1.5, 6, 10.5))
    numpy.testing.assert_allclose(dx, line(1 / 2, 1 / 2 + 1 / 3, 1 / 3, 1 / 3 + 1 / 2, 1 / 2))


def test_the_mean_of_the_whole_image():
    y, dx = pooled("adaptive_avg_pool2d", X, 1)
    assert y.item() == 12
    numpy.testing.assert_allclose(dx, numpy.full_like(X, 1 / 25))
    numpy.testing.assert_array_equal(ops.adaptive_avg_pool2d(X, (None, None))[0], X)


def test_half_precision_is_summed_in_single():
    x = numpy.full((1, 1, 64, 64), 100.0, dtype="float16")  # the sum is 409600
    for y, _ in (ops.avg_pool2d(x, 64), ops.adaptive_avg_pool2d(x, 1), ops.max_pool2d(x, 64)):
        assert y.dtype == "float16"
        assert y.item() == 100


@pytest.mark.parametrize(("kernel", "dtype"), [((15, 17), "uint8"), ((16, 16), "int32")])
def test_large_kernels_count_in_larger_integers(kernel, dtype):
    x = numpy.zeros((1, 2, *kernel))
    x[0, 0, -1, -1] = 1
    _, cache = ops.max_pool2d(x, kernel)
    assert cache[0].dtype == dtype
    dx = ops.max_pool2d_backward(numpy.ones((1, 2, 1, 1)), cache)
    assert dx[0, 0, -1, -1] == dx[0, 1, 0, 0] == 1
    assert dx.sum() == 2


@pytest.mark.parametrize("axes", [1, 2])
def test_one_axis_is_two_with_one_row(axes):
    x = numpy.random.default_rng(0).normal(size=(2, 3, 9))
    for name in ("max_pool", "avg_pool"):
        one = pooled(f"{name}1d", x, 3, 2, 1)
        two = pooled(f"{name}2d", x[:, :, None], (1, 3), (1, 2), (0, 1))
        for first, second in zip(one, two, strict=True):
            numpy.testing.assert_array_equal(first, second[:, :, 0])


@pytest.mark.parametrize(
    ("op", "arguments", "error", "words"),
    [
        (
            "max_pool2d",
            {"x": (3, 8, 8)},
            ShapeError,
            r"must have shape \(N, C, H, W\), got .*add a batch axis: x\[None\]",
        ),
        ("avg_pool1d", {"x": (8,)}, ShapeError, r"must have shape \(N, C, L\), got \(8,\)$"),
        ("max_pool2d", {"x": (1, 3, 0, 8)}, ShapeError, "the images of x are empty"),
        ("adaptive_avg_pool2d", {"x": (1, 3, 8, 0), "output_size": 1}, ShapeError, "the images of x are empty"),
        ("avg_pool2d", {"x": (1, 28, 28, 1)}, ShapeError, r"only \(28, 1\); .*channels of x come last.*\(0, 3, 1, 2\)"),
        ("max_pool2d", {"dilation": 8}, ShapeError, r"the kernel spans \(9, 9\) but the padded image is only \(8, 8\)"),
        ("max_pool1d", {"x": (1, 8, 1)}, ShapeError, r"x.transpose\(0, 2, 1\)"),
        ("avg_pool2d", {"padding": 2}, ParameterError, r"at most half of the kernel, got padding \(2, 2\)"),
        ("max_pool2d", {"kernel_size": 0}, ParameterError, "kernel_size must be a whole number of at least 1"),
        ("max_pool2d", {"kernel_size": (2, 2, 2)}, ParameterError, "kernel_size must be"),
        ("avg_pool2d", {"stride": 0}, ParameterError, "stride must be"),
        ("max_pool2d", {"dilation": 0}, ParameterError, "dilation must be"),
        ("max_pool2d", {"padding": -1}, ParameterError, "padding must be"),
        ("adaptive_avg_pool2d", {"output_size": 0}, ParameterError, "output_size must be"),
        ("adaptive_avg_pool2d", {"output_size": (1, 1, None)}, ParameterError, "output_size must be"),
    ],
)
def test_bad_arguments_are_named(op, arguments, error, words):
    arguments = {"x": (1, 3, 8, 8), **({} if "adaptive" in op else {"kernel_size": 2}), **arguments}
    arguments["x"] = numpy.zeros(arguments["x"])
    with pytest.raises(error, match=f"{op}: .*{words}"):
        getattr(ops, op)(**arguments)


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"])
def test_dtypes_and_upstream_gradients_are_checked(op):
    with pytest.raises(DtypeError, match=r'uint8\), as images are stored; give x.astype\("float32"\) / 255'):
        getattr(ops, op)(X.astype("uint8"), 2)
    with pytest.raises(DtypeError, match="must be a floating-point array"):
        getattr(ops, op)(X.astype("int64"), 2)
    y, cache = getattr(ops, op)(X, 2)
    backward = getattr(ops, f"{op}_backward")
    with pytest.raises(ShapeError, match=r"dy must have the shape of y, \(1, 1, 2, 2\), got \(1, 1, 2\)"):
        backward(y[..., 0], cache)
    with pytest.raises(DtypeError, match="dy must have the dtype of x, float64, got float32"):
        backward(y.astype("float32"), cache)


# uneven padding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
def test_same_is_tensorflows(host_engine, pool):
    """Windows of two with stride two over three pixels: the last reaches one beyond the image, where nothing counts."""
    x = numpy.arange(9.0).reshape(1, 1, 3, 3)
    options = {"count_include_pad": False} if pool == "avg_pool2d" else {}
    y, cache = getattr(host_engine, pool)(x, 2, padding="same", **options)
    expected = [[4.0, 5.0], [7.0, 8.0]] if pool == "max_pool2d" else [[2.0, 3.5], [6.5, 8.0]]
    numpy.testing.assert_array_equal(y, [[expected]])
    dx = getattr(host_engine, f"{pool}_backward")(numpy.ones_like(y), cache)
    assert dx.sum() == 4
    other, _ = getattr(host_engine, pool)(x, 2, padding=((0, 1), (0, 1)), **options)
    numpy.testing.assert_array_equal(y, other)


def test_uneven_padding_that_counts(host_engine):
    x = numpy.ones((1, 1, 4))
    y, cache = host_engine.avg_pool1d(x, 3, stride=2, padding=((2, 1),))
    numpy.testing.assert_allclose(y, [[[1 / 3, 1, 2 / 3]]])
    dx = host_engine.avg_pool1d_backward(numpy.ones_like(y), cache)
    numpy.testing.assert_allclose(dx, [[[2 / 3, 1 / 3, 2 / 3, 1 / 3]]])


@pytest.mark.parametrize("padding", [((0, 3), (0, 0)), ((0, 0), (3, 0))])
def test_windows_that_would_see_nothing(host_engine, padding):
    with pytest.raises(ParameterError, match="max_pool2d: padding must be less than the kernel"):
        host_engine.max_pool2d(numpy.ones((1, 1, 9, 9)), 3, padding=padding)


# adaptive maxima ----------------------------------------------------------------------------------------------------


def test_adaptive_maxima_say_where_they_are(host_engine):
    x = numpy.array([[[[1.0, 3.0, 8.0], [4.0, 2.0, 5.0]]]])
    y, cache = host_engine.adaptive_max_pool2d(x, (1, 2))
    numpy.testing.assert_array_equal(y, [[[[4, 8]]]])
    numpy.testing.assert_array_equal(x.ravel()[cache[0]], y)
    dx = host_engine.adaptive_max_pool2d_backward(numpy.array([[[[10.0, 20.0]]]]), cache)
    numpy.testing.assert_array_equal(dx, [[[[0, 0, 20], [10, 0, 0]]]])


def test_a_pixel_may_win_several_windows(host_engine):
    y, cache = host_engine.adaptive_max_pool1d(numpy.array([[[1.0, 9.0, 2.0]]]), 2)
    numpy.testing.assert_array_equal(y, [[[9, 9]]])
    dx = host_engine.adaptive_max_pool1d_backward(numpy.array([[[1.0, 10.0]]]), cache)
    numpy.testing.assert_array_equal(dx, [[[0, 11, 0]]])


def test_adaptive_maxima_of_ties_and_nan(host_engine):
    y, cache = host_engine.adaptive_max_pool1d(numpy.array([[[2.0, 2.0, numpy.nan, 1.0]]]), 2)
    numpy.testing.assert_array_equal(y, [[[2, numpy.nan]]])
    assert cache[0].ravel().tolist() == [0, 2]
    with pytest.raises(ShapeError, match="the images of x are empty"):
        host_engine.adaptive_max_pool1d(numpy.ones((1, 1, 0)), 1)
    with pytest.raises(ParameterError, match="adaptive_max_pool1d: output_size must be"):
        host_engine.adaptive_max_pool1d(numpy.ones((1, 1, 4)), 0)


# indices and unpooling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 1},
        {"padding": 1, "stride": 2},
        {"padding": ((0, 1), (1, 0)), "ceil_mode": True},
        {"dilation": (2, 1), "stride": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kernel", [2, (3, 4), (16, 17)])
def test_indices_are_the_places_of_the_maxima(host_engine, kernel, options):
    x = numpy.random.default_rng(0).permutation(2 * 3 * 40 * 41).reshape(2, 3, 40, 41).astype("float32")
    y, cache = host_engine.max_pool2d(x, kernel, **options)
    (same, indices), same_cache = host_engine.max_pool2d(x, kernel, **options, return_indices=True)
    numpy.testing.assert_array_equal(same, y)
    assert indices.dtype == "int64"
    numpy.testing.assert_array_equal(
        numpy.take_along_axis(x.reshape(2, 3, -1), indices.reshape(2, 3, -1), axis=2).reshape(y.shape), y
    )
    dy = numpy.ones_like(y)
    dx = host_engine.max_pool2d_backward(dy, same_cache)
    numpy.testing.assert_array_equal(dx, host_engine.max_pool2d_backward(dy, cache))


def test_the_first_of_equal_maxima_has_the_index(host_engine):
    (_, indices), _ = host_engine.max_pool2d(numpy.zeros((1, 1, 4, 4)), 2, return_indices=True)
    numpy.testing.assert_array_equal(indices[0, 0], [[0, 2], [8, 10]])
    (_, indices), _ = host_engine.max_pool1d(line(7, 7, 1, 7), 3, 1, 1, return_indices=True)
    numpy.testing.assert_array_equal(indices[0, 0], [0, 0, 1, 3])
    (_, indices), _ = host_engine.adaptive_max_pool1d(line(7, 7, 1, 7), 2, return_indices=True)
    numpy.testing.assert_array_equal(indices[0, 0], [0, 3])
    (_, indices), _ = host_engine.max_pool1d(line(1, 2), 2, padding=1, dilation=3, return_indices=True)
    numpy.testing.assert_array_equal(indices[0, 0], [-1])  # both positions are in the padding


@pytest.mark.parametrize("engine_dtype", ["float16", "float32", "float64"])
def test_unpooling_what_was_pooled(host_engine, engine_dtype):
    x = numpy.random.default_rng(0).permutation(2 * 3 * 5 * 6).reshape(2, 3, 5, 6).astype(engine_dtype)
    (y, indices), _ = host_engine.max_pool2d(x, 2, return_indices=True)
    back, cache = host_engine.max_unpool2d(y, indices, 2, output_size=(5, 6))
    assert back.dtype == engine_dtype
    numpy.testing.assert_array_equal(back, numpy.where(numpy.isin(x, y), x, 0))
    numpy.testing.assert_array_equal(host_engine.max_unpool2d_backward(x, cache), y)
    whole, _ = host_engine.max_unpool2d(y, indices, 2, output_size=x.shape)
    numpy.testing.assert_array_equal(whole, back)


def test_of_two_elements_with_one_index_the_last_counts(host_engine):
    y, cache = host_engine.max_unpool1d(line(3, 5, 4), numpy.array([[[1, 1, 2]]]), 1)
    numpy.testing.assert_array_equal(y, line(0, 5, 4))
    numpy.testing.assert_array_equal(host_engine.max_unpool1d_backward(line(10, 20, 30), cache), line(0, 20, 30))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"indices": numpy.zeros((1, 1, 3), int)}, ShapeError, r"indices must have the shape of x, \(1, 1, 2\), got"),
        ({"indices": numpy.zeros((1, 1, 2))}, DtypeError, "indices must be an array of integers, .*got dtype float64"),
        ({"indices": [[[0, 1]]]}, DtypeError, "indices must be an array of integers, .*got list"),
        ({"indices": numpy.array([[[0, 4]]])}, ParameterError, "indices must be from 0 to 3, .*got 0 to 4; if the"),
        ({"indices": numpy.array([[[-1, 3]]])}, ParameterError, "indices must be from 0 to 3, .*got -1 to 3"),
        ({"output_size": (6,)}, ShapeError, r"output_size must be nearer than the stride \(2,\) to \(4,\), got \(6,\)"),
        ({"output_size": (4, 4)}, ParameterError, "output_size must be a whole number"),
        ({"padding": "same"}, ParameterError, "padding cannot be 'same', which many sizes share"),
        ({"x": numpy.ones((1, 2))}, ShapeError, r"max_unpool1d: x must have shape \(N, C, L\), got \(1, 2\)"),
    ],
)
def test_wrong_arguments_of_an_unpooling(host_engine, change, error, words):
    arguments = {"x": numpy.ones((1, 1, 2)), "indices": numpy.array([[[0, 3]]]), "kernel_size": 2} | change
    with pytest.raises(error, match=words):
        host_engine.max_unpool1d(**arguments)
