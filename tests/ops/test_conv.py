"""Convolutions: the three ways to see them, and what is refused."""

import numpy
import pytest

from minidl import ops
from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops import conv
from minidl.testing import oracles_conv

SETTINGS = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": "same", "dilation": 2},
    {"stride": (1, 3), "padding": (2, 0), "groups": 2},
    {"groups": 4, "padding": 1},
]


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def drawn(random, settings):
    x = random.normal(size=(2, 4, 7, 6))
    return x, random.normal(size=(8, 4 // settings.get("groups", 1), 3, 2))


@pytest.mark.parametrize("settings", SETTINGS)
def test_loops_and_columns_give_the_same(random, settings):
    x, weight = drawn(random, settings)
    y, (_, _, _, w) = conv.conv2d(x, weight, None, **settings)
    numpy.testing.assert_allclose(y, oracles_conv.conv(x, weight, **settings), rtol=1e-12, atol=1e-12)
    columns = conv._im2col(x, w)
    kernels = weight.reshape(w.groups, -1, columns.shape[2])
    product = numpy.stack([[kernel @ c for kernel, c in zip(kernels, image, strict=True)] for image in columns])
    numpy.testing.assert_allclose(y, product.reshape(y.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_gradients_are_the_adjoints(random, settings):
    x, weight = drawn(random, settings)
    y, cache = conv.conv2d(x, weight, None, **settings)
    g = random.normal(size=y.shape)
    dx, dweight, dbias = conv.conv2d_backward(g, cache)
    assert dbias is None
    product = numpy.vdot(y, g)
    assert numpy.vdot(x, dx) == pytest.approx(product, rel=1e-12)
    assert numpy.vdot(weight, dweight) == pytest.approx(product, rel=1e-12)
    other = random.normal(size=x.shape)  # for every x, not only the one that was convolved
    assert numpy.vdot(conv.conv2d(other, weight, None, **settings)[0], g) == pytest.approx(
        numpy.vdot(other, dx), rel=1e-12
    )


def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(random):
    x, weight = random.normal(size=(2, 4, 7, 6)), random.normal(size=(8, 4, 3, 2))
    g, cache = conv.conv2d(x, weight, stride=2, padding=1)
    back, _ = conv.conv_transpose2d(g, weight, stride=2, padding=1, output_padding=(0, 1))
    numpy.testing.assert_allclose(back[:, :, :7, :6], conv.conv2d_backward(g, cache)[0][:, :, : back.shape[2], :6])


def test_one_axis_is_two_with_one_row(random):
    x, weight, bias = random.normal(size=(2, 3, 9)), random.normal(size=(4, 3, 3)), random.normal(size=4)
    one, cache = conv.conv1d(x, weight, bias, stride=2, padding=1)
    two, cache_2 = conv.conv2d(x[:, :, None], weight[:, :, None], bias, stride=(1, 2), padding=(0, 1))
    numpy.testing.assert_array_equal(one, two[:, :, 0])
    for first, second in zip(conv.conv1d_backward(one, cache), conv.conv2d_backward(two, cache_2), strict=True):
        numpy.testing.assert_array_equal(first, second.reshape(first.shape))


def test_pixels_that_no_window_sees_have_no_gradient(random):
    x = random.normal(size=(1, 1, 8, 8))
    y, cache = conv.conv2d(x, random.normal(size=(1, 1, 2, 2)), stride=3)
    dx = conv.conv2d_backward(numpy.ones_like(y), cache)[0][0, 0]
    assert not dx[2::3].any()
    assert not dx[:, 2::3].any()
    assert dx[::3, ::3].all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": (5, 8, 8, 3)}, ShapeError, r"channels seem to come last: give x.transpose\(0, 3, 1, 2\)"),
        ({"x": (5, 4, 8, 8)}, ShapeError, "expected 3 channels on axis 1 of x, got shape"),
        ({"x": (3, 8, 8)}, ShapeError, r"add a batch axis: x\[None\]"),
        ({"x": (1, 3, 2, 8)}, ShapeError, r"kernel spans \(3, 3\) but the padded image is only \(2, 8\)"),
        ({"dilation": 5}, ShapeError, r"kernel spans \(11, 11\)"),
        ({"weight": (4, 3, 3)}, ShapeError, r"weight must have shape \(out, in / groups, \*kernel\)"),
        ({"weight": (4, 3, 0, 3)}, ShapeError, "no axis empty"),
        ({"bias": (3,)}, ShapeError, r"bias must have shape \(4,\)"),
        ({"groups": 3}, ParameterError, "groups must divide the 4 output channels, got 3"),
        ({"groups": 0}, ParameterError, "groups must divide"),
        ({"stride": 0}, ParameterError, "stride must be a whole number of at least 1"),
        ({"stride": (1, 1, 1)}, ParameterError, "stride must be"),
        ({"padding": -1}, ParameterError, "padding must be a whole number of at least 0"),
        ({"padding": "full"}, ParameterError, '"same", "valid"; got \'full\''),
        ({"padding": (0, 1, 0, 1)}, ParameterError, r"\(\(top, bottom\), \(left, right\)\), .*; got \(0, 1, 0, 1\)"),
        ({"padding": ((0, 1), 1)}, ParameterError, "padding must be a whole number"),
        ({"padding": ((0, -1), (0, 1))}, ParameterError, "padding must be a whole number"),
        ({"dilation": 1.5}, ParameterError, "dilation must be"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    arguments = {"x": (1, 3, 8, 8), "weight": (4, 3, 3, 3), **arguments}
    for name in ("x", "weight", "bias"):
        if name in arguments:
            arguments[name] = numpy.zeros(arguments[name])
    with pytest.raises(error, match="conv2d: .*" + words):
        ops.conv2d(**arguments)


def test_bytes_are_told_to_become_numbers():
    with pytest.raises(DtypeError, match=r'uint8\), as images are stored; give x.astype\("float32"\) / 255'):
        ops.conv2d(numpy.zeros((1, 1, 3, 3), "uint8"), numpy.zeros((1, 1, 3, 3), "float32"))


def test_what_the_transposed_one_refuses():
    x, weight = numpy.zeros((1, 4, 3, 3)), numpy.zeros((4, 2, 3, 3))
    with pytest.raises(ParameterError, match="output_padding must be less than the stride"):
        ops.conv_transpose2d(x, weight, stride=2, output_padding=2)
    with pytest.raises(ShapeError, match="the output would be empty"):
        ops.conv_transpose2d(x, weight, padding=3)
    with pytest.raises(ParameterError, match="or \"valid\"; got 'same'"):
        ops.conv_transpose2d(x, weight, padding="same")
    with pytest.raises(ShapeError, match="expected 4 channels"):
        ops.conv_transpose2d(x[:, :3], weight)
    with pytest.raises(ParameterError, match="groups must divide the 4 input channels"):
        ops.conv_transpose2d(x, weight, groups=3)


def test_backward_wants_the_shape_of_y():
    y, cache = ops.conv2d(numpy.zeros((2, 1, 5, 5)), numpy.zeros((3, 1, 3, 3)))
    with pytest.raises(ShapeError, match=r"dy must have the shape of y, \(2, 3, 3, 3\), got \(2, 3, 3, 2\)"):
        ops.conv2d_backward(y[..., 1:], cache)
    with pytest.raises(DtypeError, match="dtype of x"):
        ops.conv2d_backward(y.astype("float32"), cache)


# uneven padding -----------------------------------------------------------------------------------------------------


def test_same_with_a_stride_is_tensorflows_and_onnxs(host_engine):
    """ONNX's example of auto_pad=SAME_UPPER: with an even size and stride 2 the only zero comes after the image."""
    x, ones = numpy.arange(16.0).reshape(1, 1, 4, 4), numpy.ones((1, 1, 3, 3))
    expected = [[[[45.0, 39.0], [66.0, 50.0]]]]
    for padding in ("same", ((0, 1), (0, 1)), [[0, 1], [0, 1]], numpy.array([[0, 1], [0, 1]])):
        y, _ = host_engine.conv2d(x, ones, stride=2, padding=padding)
        numpy.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (2, 1), (3, 1), (3, 2), (5, 1)])
def test_same_gives_an_output_for_each_stride(host_engine, size, stride, kernel, dilation):
    """Beside the even padding by hand, with the rule of TensorFlow's documentation."""
    random = numpy.random.default_rng(0)
    x, weight = random.normal(size=(2, 3, size)), random.normal(size=(4, 3, kernel))
    output = -(-size // stride)
    total = max((output - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    padded = numpy.pad(x, ((0, 0), (0, 0), (total // 2, total - total // 2)))
    y, cache = host_engine.conv1d(x, weight, stride=stride, padding="same", dilation=dilation)
    expected, other = host_engine.conv1d(padded, weight, stride=stride, dilation=dilation)
    assert y.shape == (2, 4, output)
    numpy.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
    dy = random.normal(size=y.shape)
    dx, dweight, _ = host_engine.conv1d_backward(dy, cache)
    dpadded, dweight_expected, _ = host_engine.conv1d_backward(dy, other)
    numpy.testing.assert_allclose(dx, dpadded[..., total // 2 : total // 2 + size], rtol=1e-12, atol=1e-13)
    numpy.testing.assert_allclose(dweight, dweight_expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("padding", [((2, 0), (1, 3)), ((0, 0), (0, 1))])
def test_a_transposed_convolution_crops_unevenly(host_engine, padding):
    random = numpy.random.default_rng(0)
    x, weight = random.normal(size=(2, 3, 4, 5)), random.normal(size=(3, 2, 3, 4))
    whole, _ = host_engine.conv_transpose2d(x, weight, stride=2)
    (top, bottom), (left, right) = padding
    expected = whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]
    y, _ = host_engine.conv_transpose2d(x, weight, stride=2, padding=padding)
    numpy.testing.assert_allclose(y, expected, atol=1e-13)
