"""Pooling layers."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError
from minidl.layers import pool
from minidl.testing.layer_checks import check_layer, check_object

LAYERS = [
    dl.MaxPool2d(2),
    dl.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(1, 2), ceil_mode=True),
    dl.AvgPool2d(3, 2, 1),
    dl.AvgPool2d(3, 2, 1, True, False),
    dl.AdaptiveAvgPool2d(2),
    dl.AdaptiveAvgPool2d([None, 4]),
    dl.GlobalAvgPool2d(),
    dl.MaxPool1d(2, padding=1),
    dl.AvgPool1d(3, stride=1),
    dl.AdaptiveAvgPool1d(3),
]


def batch(layer, dtype="float64"):
    shape = (2, 3, 7, 6)[: layer.axes + 2]
    return numpy.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_every_layer_keeps_the_rules(layer, dtype):
    check_layer(layer, batch(layer, dtype))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_repr_says_how_to_make_it(layer):
    again = eval(repr(layer), vars(dl))
    assert repr(again) == repr(layer)
    numpy.testing.assert_array_equal(again.forward(batch(layer)), layer.forward(batch(layer)))


def test_arguments_stand_where_pytorch_has_them():
    assert repr(dl.MaxPool2d(3, 2, 1, 2)) == "MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=2)"
    assert repr(dl.AvgPool2d((3, 2), 1, (1, 0), True, False)) == (
        "AvgPool2d(kernel_size=(3, 2), stride=1, padding=(1, 0), ceil_mode=True, count_include_pad=False)"
    )
    assert repr(dl.MaxPool2d(3, 2, 1, 2, False, True)) == (
        "MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True)"
    )


def test_global_average_is_a_mean_of_each_channel():
    x = numpy.random.default_rng(0).normal(size=(2, 3, 5, 4))
    layer = dl.GlobalAvgPool2d()
    numpy.testing.assert_allclose(layer.forward(x), x.mean(axis=(2, 3)))
    dy = numpy.random.default_rng(1).normal(size=(2, 3))
    numpy.testing.assert_allclose(layer.backward(dy), numpy.broadcast_to(dy[:, :, None, None] / 20, x.shape))
    with pytest.raises(
        ShapeError, match=r"GlobalAvgPool2d\(\): dy must have the shape of y, \(2, 3\), got \(2, 3, 1, 1\)"
    ):
        layer.backward(dy[:, :, None, None])


def test_in_a_model():
    dl.seed(0)
    model = dl.Sequential(
        dl.Conv2d(1, 8, 3, padding=1), dl.ReLU(), dl.MaxPool2d(2), dl.Conv2d(8, 8, 3), dl.ReLU(), dl.AvgPool2d(2),
        dl.GlobalAvgPool2d(), dl.Linear(8, 2),
    )  # fmt: skip
    random = numpy.random.default_rng(0)
    x = random.normal(size=(64, 1, 12, 12)).astype("float32")
    x[::2] += 1
    y = numpy.arange(64) % 2
    model.compile(optimizer=dl.Adam(model.parameters(), lr=1e-2), loss=dl.CrossEntropyLoss(), metrics=["accuracy"])
    model.fit(x, y, epochs=10, batch_size=16, verbose=0)
    assert model.evaluate(x, y)[1] > 0.95
    table = str(model.summary((1, 12, 12)))
    assert "MaxPool2d(kernel_size=2)" in table
    assert "(N, 8, 6, 6)" in table
    assert "(N, 8, 2, 2)" in table


def test_flops_count_every_pixel_of_every_window():
    assert dl.MaxPool2d(2).flops((3, 8, 8)) == 3 * 8 * 8
    assert dl.AvgPool2d(3, 2, 1).flops((4, 8, 8)) == 4 * 9 * 16
    assert dl.AdaptiveAvgPool2d((1, 2)).flops((3, 4, 5)) == 3 * 4 * 6
    assert dl.GlobalAvgPool2d().flops((3, 4, 5)) == 60


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dl.MaxPool2d(0), "MaxPool2d: kernel_size must be a whole number of at least 1"),
        (lambda: dl.MaxPool1d((2, 2)), "MaxPool1d: kernel_size must be"),
        (lambda: dl.AvgPool2d(2, stride=0), "AvgPool2d: stride must be"),
        (
            lambda: dl.MaxPool2d(3, padding=2),
            r"MaxPool2d: padding must be at most half of the kernel, got padding \(2, 2\)",
        ),
        (lambda: dl.MaxPool2d(3, dilation=0), "MaxPool2d: dilation must be"),
        (lambda: dl.AdaptiveAvgPool2d(0), "AdaptiveAvgPool2d: output_size must be"),
        (lambda: dl.AdaptiveAvgPool1d((1, 2)), "AdaptiveAvgPool1d: output_size must be"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ParameterError, match=words):
        make()


def test_wrong_input_names_the_layer_and_the_cure():
    model = dl.Sequential(dl.Identity(), dl.MaxPool2d(2))
    with pytest.raises(ShapeError, match=r"(?s)layer 1 of Sequential, MaxPool2d.*x.transpose\(0, 3, 1, 2\)"):
        model.forward(numpy.zeros((5, 28, 28, 1)))
    with pytest.raises(ShapeError, match=r"layer 1 .*add a batch axis: x\[None\]"):
        model.forward(numpy.zeros((1, 28, 28)))
    with pytest.raises(DtypeError, match=r'bytes \(uint8\), as images are stored; give x.astype\("float32"\) / 255'):
        model.forward(numpy.zeros((5, 1, 28, 28), "uint8"))
    with pytest.raises(ShapeError, match="MaxPool2d: the kernel spans"):
        model.summary((8, 1, 4))
    with pytest.raises(ShapeError, match=r"expected examples of shape \(C, H, W\), got \(8, 4\)"):
        model.summary((8, 4))
    with pytest.raises(OrderError, match="backward was called before forward"):
        dl.MaxPool2d(2).backward(numpy.zeros((2, 4, 6, 6)))


@pytest.mark.parametrize("target", ["MaxPool2d(2)", "AvgPool1d(2)", "GlobalAvgPool2d", "AdaptiveAvgPool2d(3)"])
def test_the_public_checks_find_an_input(target):
    assert check_object(f"{pool.__file__}:{target}").ok


class AutoEncoder(dl.Layer):
    """Pool and unpool, as Zeiler and Fergus do."""

    def __init__(self):
        super().__init__()
        self.conv = dl.Conv2d(1, 2, 3, padding=1, dtype="float64")
        self.pool, self.unpool = dl.MaxPool2d(2, return_indices=True), dl.MaxUnpool2d(2)

    def forward(self, x):
        y, indices = self.pool.forward(self.conv.forward(x))
        return self.unpool.forward(y, indices, x.shape[2:])

    def backward(self, dy):
        dx, none = self.unpool.backward(dy)
        return self.conv.backward(self.pool.backward((dx, none)))


def test_pooling_with_indices_and_back():
    dl.seed(0)
    x = numpy.random.default_rng(0).normal(size=(2, 1, 5, 6))
    dl.gradcheck(AutoEncoder(), x)
    for pooling, unpooling in (
        (dl.MaxPool1d(2, return_indices=True), dl.MaxUnpool1d(2)),
        (dl.AdaptiveMaxPool1d(2, return_indices=True), dl.MaxUnpool1d(2)),
    ):
        y, indices = pooling.forward(x[:, 0, :, :4])
        back = unpooling.forward(y, indices)
        numpy.testing.assert_array_equal((back != 0).sum(axis=2), numpy.full((2, 5), 2))
        dx, _ = unpooling.backward(back)
        numpy.testing.assert_array_equal(dx, y)
        numpy.testing.assert_array_equal(pooling.backward(dx), back)
    assert dl.MaxUnpool2d(3, 2, 1).output_shape((4, 3, 5)) == (4, 5, 9)


@pytest.mark.parametrize(
    "layer",
    [
        dl.MaxPool2d(3, 2, 1, 1, True, True),
        dl.AdaptiveMaxPool2d((2, 3), return_indices=True),
        dl.MaxUnpool2d((2, 3), padding=1),
        dl.MaxUnpool1d(3, stride=2),
    ],
    ids=repr,
)
def test_repr_of_pooling_with_indices(layer):
    assert repr(eval(repr(layer), vars(dl))) == repr(layer)
    assert repr(dl.MaxPool2d(3, 2, 1, 1, True, True)).endswith("return_indices=True, ceil_mode=True)")
