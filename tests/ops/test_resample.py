"""Padding and upsampling: worked by hand, the edges, and what is refused."""

import numpy
import pytest

from minidl import ops
from minidl.errors import DtypeError, ParameterError, ShapeError

X = numpy.arange(1.0, 7.0).reshape(1, 1, 2, 3)


def there_and_back(op, x, *args, **kwargs):
    y, cache = getattr(ops, op)(x, *args, **kwargs)
    return y, getattr(ops, f"{op}_backward")(numpy.ones_like(y), cache)


def test_padding_of_images_is_left_right_top_bottom():
    y, dx = there_and_back("pad", X, (1, 0, 0, 2), value=9.0)
    numpy.testing.assert_array_equal(y[0, 0], [[9, 1, 2, 3], [9, 4, 5, 6], [9, 9, 9, 9], [9, 9, 9, 9]])
    numpy.testing.assert_array_equal(dx, numpy.ones_like(X))
    numpy.testing.assert_array_equal(ops.pad(X, 1)[0], ops.pad(X, (1, 1, 1, 1))[0])


@pytest.mark.parametrize(
    ("mode", "row", "gradient"),
    [
        ("reflect", [3, 2, 1, 2, 3, 2], [1, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 3], [3, 1, 2]),
        ("circular", [2, 3, 1, 2, 3, 1], [2, 2, 2]),
    ],
)
def test_what_stands_outside(mode, row, gradient):
    y, dx = there_and_back("pad", numpy.array([1.0, 2.0, 3.0]), (2, 1), mode)
    numpy.testing.assert_array_equal(y, row)
    numpy.testing.assert_array_equal(dx, gradient)


def test_no_padding_gives_the_same_numbers():
    y, dx = there_and_back("pad", X, (0, 0))
    numpy.testing.assert_array_equal(y, X)
    numpy.testing.assert_array_equal(dx, numpy.ones_like(X))


def test_nearest_repeats_and_leaves_out():
    y, dx = there_and_back("upsample_nearest", X, scale_factor=(1, 2))
    numpy.testing.assert_array_equal(y[0, 0], [[1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6]])
    numpy.testing.assert_array_equal(dx, numpy.full_like(X, 2))
    y, dx = there_and_back("upsample_nearest", X, (1, 2))
    numpy.testing.assert_array_equal(y[0, 0], [[1, 2]])
    numpy.testing.assert_array_equal(dx[0, 0], [[1, 1, 0], [0, 0, 0]])


def test_bilinear_of_a_plane_is_a_plane_inside():
    i, j = numpy.mgrid[0:4.0, 0:5.0]
    y, _ = ops.upsample_bilinear((2 * i - j)[None, None], scale_factor=2)
    i, j = (numpy.mgrid[0:8.0, 0:10.0] + 0.5) / 2 - 0.5
    numpy.testing.assert_allclose(y[0, 0, 1:-1, 1:-1], (2 * i - j)[1:-1, 1:-1])
    y, _ = ops.upsample_bilinear(X, size=(3, 5), align_corners=True)
    numpy.testing.assert_allclose(y[0, 0], [[1, 1.5, 2, 2.5, 3], [2.5, 3, 3.5, 4, 4.5], [4, 4.5, 5, 5.5, 6]])


@pytest.mark.parametrize("op", ["upsample_nearest", "upsample_bilinear"])
def test_half_precision_is_summed_in_single(op):
    y, cache = getattr(ops, op)(numpy.ones((1, 1, 1, 1), dtype="float16"), size=256)
    dx = getattr(ops, f"{op}_backward")(numpy.full_like(y, 0.5), cache)
    assert y.dtype == dx.dtype == "float16"
    assert dx.item() == 32768


@pytest.mark.parametrize(
    ("op", "arguments", "error", "words"),
    [
        ("pad", {"padding": (1, 2, 3)}, ParameterError, "padding must be a whole number from 0 on, or pairs of them"),
        ("pad", {"padding": -1}, ParameterError, "padding must be"),
        ("pad", {"padding": (1.5, 1)}, ParameterError, "padding must be"),
        ("pad", {"padding": 1, "mode": "mirror"}, ParameterError, "mode must be one of 'constant', .*got 'mirror'"),
        ("pad", {"padding": (0,) * 10}, ShapeError, "the last 5 axes, but x has shape"),
        ("pad", {"padding": (3, 0), "mode": "reflect"}, ShapeError, "length 3 is too short to reflect 3 elements"),
        ("pad", {"padding": (0, 4), "mode": "circular"}, ShapeError, "length 3 is too short to repeat 4 elements"),
        ("upsample_nearest", {}, ParameterError, "give either size or scale_factor; got None and None"),
        (
            "upsample_bilinear",
            {"size": 2, "scale_factor": 2},
            ParameterError,
            "give either size or scale_factor; got 2 and 2",
        ),
        ("upsample_nearest", {"size": 0}, ParameterError, "size must be a whole number of at least 1"),
        ("upsample_nearest", {"size": (1, 2, 3)}, ParameterError, "size must be"),
        ("upsample_bilinear", {"scale_factor": -1.0}, ParameterError, "scale_factor must be a positive number"),
        ("upsample_bilinear", {"scale_factor": 0.2}, ParameterError, r"reduces images of \(2, 3\) to nothing"),
        (
            "upsample_nearest",
            {"x": X[0, 0], "size": 2},
            ShapeError,
            r"must have shape \(N, C, H, W\) or \(N, C, L\), got",
        ),
        ("upsample_bilinear", {"x": X[:, :, :0], "size": 2}, ShapeError, "the images of x are empty"),
        ("upsample_bilinear", {"x": X.astype("uint8"), "size": 2}, DtypeError, r"give x.astype\(\"float32\"\) / 255"),
        ("pad", {"x": X.astype("int64"), "padding": 1}, DtypeError, "must be a floating-point array"),
    ],
)
def test_bad_arguments_are_named(op, arguments, error, words):
    with pytest.raises(error, match=f"{op}: .*{words}"):
        getattr(ops, op)(**{"x": X, **arguments})


def test_replicating_nothing():
    with pytest.raises(ShapeError, match="an empty axis has no edge to repeat"):
        ops.pad(numpy.zeros((2, 0)), (1, 0), "replicate")


@pytest.mark.parametrize(("op", "argument"), [("pad", 1), ("upsample_nearest", 4), ("upsample_bilinear", 4)])
def test_upstream_gradients_are_checked(op, argument):
    y, cache = getattr(ops, op)(X, argument)
    with pytest.raises(ShapeError, match="dy must have the shape of y"):
        getattr(ops, f"{op}_backward")(y[..., 1:], cache)
    with pytest.raises(DtypeError, match="dy must have the dtype of x"):
        getattr(ops, f"{op}_backward")(y.astype("float32"), cache)


def test_nearest_exact_takes_the_pixel_that_holds_the_centre(host_engine):
    x = numpy.array([[[1.0, 2.0, 3.0]]])
    for size, expected in [(4, [1, 2, 2, 3]), (2, [1, 3]), (3, [1, 2, 3]), (1, [2])]:
        y, cache = host_engine.upsample_nearest_exact(x, size)
        numpy.testing.assert_array_equal(y, [[expected]])
        dx = host_engine.upsample_nearest_exact_backward(numpy.ones_like(y), cache)
        numpy.testing.assert_array_equal(dx, [[[expected.count(value) for value in (1, 2, 3)]]])
