"""Padding, upsampling and dropout of channels as layers."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError
from minidl.testing.layer_checks import check_layer

LAYERS = [
    (dl.ZeroPad2d(1), (2, 3, 4, 5)),
    (dl.ZeroPad2d((0, 1, 2, 0)), (2, 3, 4, 5)),
    (dl.ReflectionPad2d((3, 0, 1, 2)), (2, 3, 4, 5)),
    (dl.ReplicationPad2d(2), (2, 3, 1, 2)),
    (dl.Upsample(scale_factor=2), (2, 3, 4, 5)),
    (dl.Upsample(scale_factor=(1.5, 2)), (2, 3, 4, 5)),
    (dl.Upsample(size=(7, 3)), (2, 3, 4, 5)),
    (dl.Upsample(9), (2, 3, 4)),
    (dl.Upsample(scale_factor=3, mode="bilinear"), (2, 3, 4, 5)),
    (dl.Upsample((7, 9), mode="bilinear", align_corners=True), (2, 3, 4, 5)),
    (dl.Upsample(scale_factor=2.5, mode="linear"), (2, 3, 4)),
    (dl.Upsample(scale_factor=(1.7, 0.6), mode="bicubic"), (2, 3, 4, 5)),
    (dl.Upsample((7, 3), mode="bicubic", align_corners=True), (2, 3, 4, 5)),
    (dl.Upsample((3, 2), mode="bicubic", antialias=True), (2, 3, 7, 8)),
    (dl.Upsample(scale_factor=0.4, mode="bilinear", antialias=True), (2, 3, 7, 8)),
    (dl.Dropout2d(0.4), (5, 6, 2, 3)),
    (dl.Dropout2d(0.4).eval(), (5, 6, 2, 3)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=repr)
def test_every_layer_keeps_the_rules(layer, shape, dtype):
    check_layer(layer, numpy.random.default_rng(0).normal(size=shape).astype(dtype))


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=repr)
def test_repr_says_how_to_make_it(layer, shape):
    again = eval(repr(layer), vars(dl))
    assert repr(again) == repr(layer)
    assert again.output_shape(shape[1:]) == layer.output_shape(shape[1:])


def test_an_autoencoder_trains():
    dl.seed(0)
    model = dl.Sequential(
        dl.ReflectionPad2d(1), dl.Conv2d(1, 6, 3), dl.Tanh(), dl.MaxPool2d(2), dl.Dropout2d(0.1), dl.Upsample(scale_factor=2),
        dl.ZeroPad2d(1), dl.Conv2d(6, 1, 3),
    )  # fmt: skip
    x = numpy.random.default_rng(0).normal(size=(64, 1, 4, 4)).repeat(2, axis=2).repeat(2, axis=3).astype("float32")
    model.compile(optimizer=dl.Adam(model.parameters(), lr=2e-2), loss=dl.MSELoss())
    history = model.fit(x, x, epochs=30, batch_size=16, verbose=0)
    assert history.history["loss"][-1] < 0.3 * history.history["loss"][0]
    assert "(N, 6, 8, 8)" in str(model.summary((1, 8, 8)))


def test_flops():
    assert dl.Upsample(scale_factor=2).flops((3, 4, 4)) == 0
    assert dl.Upsample(scale_factor=2, mode="bilinear").flops((3, 4, 4)) == 3 * 3 * (8 * 4 + 8 * 8)
    assert dl.Upsample(scale_factor=2, mode="bicubic").flops((3, 4, 4)) == 3 * 7 * (8 * 4 + 8 * 8)
    assert dl.Upsample(2, mode="bilinear", antialias=True).flops((3, 4, 4)) == 3 * 7 * (2 * 4 + 2 * 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dl.ZeroPad2d(-1), "ZeroPad2d: padding must be a whole number from 0 on, or four of them"),
        (lambda: dl.ReflectionPad2d((1, 2)), "ReflectionPad2d: padding must be"),
        (lambda: dl.Upsample(), "Upsample: give either size or scale_factor"),
        (lambda: dl.Upsample(2, 2), "Upsample: give either size or scale_factor"),
        (lambda: dl.Upsample(0), "Upsample: size must be"),
        (lambda: dl.Upsample(scale_factor=0), "Upsample: scale_factor must be a positive number"),
        (
            lambda: dl.Upsample(2, mode="cubic"),
            "mode must be one of 'nearest', 'linear', 'bilinear', 'bicubic', 'nearest-exact', got 'cubic'",
        ),
        (lambda: dl.Upsample(2, align_corners=True), "align_corners is for the modes"),
        (
            lambda: dl.Upsample(2, antialias=True),
            "antialias is for the modes 'bilinear' and 'bicubic', got mode 'nearest'",
        ),
        (lambda: dl.Upsample((2,), mode="bicubic"), r"mode 'bicubic' is not for 1 axes, got \(2,\)"),
        (lambda: dl.Upsample((2, 2), mode="linear"), r"mode 'linear' is not for 2 axes, got \(2, 2\)"),
        (lambda: dl.Dropout2d(1.2), "Dropout2d: p must be from 0 to 1, got 1.2"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ParameterError, match=words):
        make()


def test_wrong_input_names_the_layer_and_the_cure():
    x = numpy.zeros((2, 3, 4, 5))
    with pytest.raises(ShapeError, match=r"ReflectionPad2d\(4\).*length 4 is too short to reflect 4"):
        dl.Sequential(dl.ReflectionPad2d(4)).forward(x)
    with pytest.raises(ShapeError, match=r"ZeroPad2d\(1\): x must have shape \(N, C, H, W\), got \(3, 4, 5\)"):
        dl.ZeroPad2d(1).forward(x[0])
    with pytest.raises(ShapeError, match=r"expected x of shape \(N, C, L\), got \(2, 3, 4, 5\)"):
        dl.Upsample(2, mode="linear").forward(x)
    with pytest.raises(ShapeError, match=r"expected examples of shape \(C, H, W\) or \(C, L\), got \(3,\)"):
        dl.Sequential(dl.Upsample(2)).summary((3,))
    with pytest.raises(DtypeError, match=r'give x.astype\("float32"\) / 255'):
        dl.Upsample(2).forward(x.astype("uint8"))
    with pytest.raises(DtypeError, match=r'give x.astype\("float32"\) / 255'):
        dl.ZeroPad2d(2).forward(x.astype("uint8"))
    with pytest.raises(OrderError, match="backward was called before forward"):
        dl.Upsample(2).backward(x)
