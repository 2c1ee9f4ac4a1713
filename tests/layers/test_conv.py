"""Convolution layers."""

import numpy
import pytest

import minidl as dl
from minidl.engines.compositions import FUSIBLE
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError

LAYERS = [
    (lambda **o: dl.Conv2d(4, 6, 3, stride=2, padding=1, **o), (2, 4, 7, 6)),
    (lambda **o: dl.Conv2d(4, 6, (3, 2), padding="same", groups=2, **o), (2, 4, 5, 6)),
    (lambda **o: dl.Conv1d(4, 6, 3, dilation=2, **o), (2, 4, 9)),
    (lambda **o: dl.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, **o), (2, 4, 3, 4)),
    (lambda **o: dl.ConvTranspose1d(4, 6, 3, stride=2, groups=2, **o), (2, 4, 5)),
]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_and_shapes(make, shape, bias):
    layer = make(bias=bias, dtype="float64")
    x = numpy.random.default_rng(0).normal(size=shape)
    dl.gradcheck(layer, x)
    assert layer.forward(x).shape[1:] == layer.output_shape(shape[1:])


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_without_the_input_gradient_the_parameters_get_the_same(make, shape):
    layer = make()
    x = numpy.random.default_rng(0).normal(size=shape).astype("float32")
    y = layer.forward(x)
    layer.backward(y)
    expected = layer.weight.grad.copy(), layer.bias.grad.copy()
    layer.zero_grad()
    assert layer.backward(y, input_gradient=False) is None
    numpy.testing.assert_array_equal(layer.weight.grad, expected[0])
    numpy.testing.assert_array_equal(layer.bias.grad, expected[1])
    layer.backward(y)
    numpy.testing.assert_allclose(layer.weight.grad, 2 * expected[0], rtol=1e-4)


def test_in_a_model():
    dl.seed(0)
    model = dl.Sequential(
        dl.Conv2d(1, 4, 3, padding=1),
        dl.ReLU(),
        dl.Conv2d(4, 8, 3, stride=2),
        dl.ReLU(),
        dl.Flatten(),
        dl.Linear(128, 2),
    )
    random = numpy.random.default_rng(0)
    x = random.normal(size=(64, 1, 9, 9)).astype("float32")
    y = (x[:, 0, :4].sum((1, 2)) > x[:, 0, 5:].sum((1, 2))).astype("int64")
    model.compile(optimizer=dl.Adam(model.parameters(), lr=1e-2), loss=dl.CrossEntropyLoss(), metrics=["accuracy"])
    model.fit(x, y, epochs=20, batch_size=16, verbose=0)
    assert model.evaluate(x, y)[1] > 0.95
    assert "(N, 4, 9, 9)" in str(model.summary((1, 9, 9)))
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias", "5.weight", "5.bias"]


def test_flops():
    assert dl.Conv2d(3, 8, 3, padding=1).flops((3, 10, 10)) == 2 * 8 * 3 * 9 * 100 + 800
    assert dl.ConvTranspose2d(8, 3, 2, stride=2, bias=False).flops((8, 5, 5)) == 2 * 8 * 3 * 4 * 25


def test_start_is_pytorchs():
    layer = dl.Conv2d(6, 64, 5, groups=2)
    bound = 1 / numpy.sqrt(3 * 25)
    for values in (layer.weight.value, layer.bias.value):
        assert 0.9 * bound < abs(values).max() <= bound
    assert layer.weight.shape == (64, 3, 5, 5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dl.Conv2d(4, 6, 3, groups=4), "groups must divide the channels on both sides"),
        (lambda: dl.Conv2d(0, 6, 3), "in_channels must be a positive integer"),
        (lambda: dl.Conv2d(4, 6, 0), "kernel_size must be a whole number of at least 1"),
        (lambda: dl.Conv2d(4, 6, (3, 3, 3)), "kernel_size must be"),
        (lambda: dl.Conv2d(4, 6, 3, stride=0), "stride must be"),
        (lambda: dl.ConvTranspose1d(4, 6, 3, padding=-1), "padding must be"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ParameterError, match=words):
        make()


def test_wrong_input_names_the_layer_and_the_cure():
    model = dl.Sequential(dl.Conv2d(3, 4, 3))
    with pytest.raises(ShapeError, match=r"(?s)layer 0 of Sequential, Conv2d.*x.transpose\(0, 3, 1, 2\)"):
        model.forward(numpy.zeros((2, 8, 8, 3), "float32"))
    with pytest.raises(
        DtypeError, match=r'Conv2d.*bytes \(uint8\), as images are stored; give x.astype\("float32"\) / 255'
    ):
        model.forward(numpy.zeros((2, 3, 8, 8), "uint8"))
    with pytest.raises(OrderError, match="backward was called before forward"):
        dl.Conv2d(3, 4, 3).backward(numpy.zeros((2, 4, 6, 6), "float32"))


def test_other_precisions_are_cast_to_the_layers():
    layer = dl.Conv2d(1, 2, 3)
    assert layer.forward(numpy.zeros((1, 1, 4, 4))).dtype == "float32"


def test_repr_shows_what_is_not_the_default():
    assert repr(dl.Conv2d(3, 6, (3, 1), padding="same", groups=3, bias=False)) == (
        "Conv2d(3, 6, kernel_size=(3, 1), padding='same', groups=3, bias=False)"
    )
    assert repr(dl.ConvTranspose2d(3, 6, 2, stride=2)) == "ConvTranspose2d(3, 6, kernel_size=2, stride=2)"


@pytest.mark.parametrize("activation", FUSIBLE)
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: dl.Conv2d(3, 5, 3, padding=1), (2, 3, 9, 8)),
        (lambda: dl.Conv2d(16, 16, 3), (2, 16, 9, 8)),
        (lambda: dl.Conv2d(4, 4, 3, stride=2, groups=4, bias=False), (2, 4, 9, 8)),
        (lambda: dl.Conv1d(3, 5, 3), (2, 3, 20)),
    ],
)
def test_with_its_activation_as_one_gives_the_same(make, shape, activation):
    dl.seed(1)
    model = dl.Sequential(make(), dl.layers.activation(activation))
    fused = dl.engines.current().applies("conv_activation", model[1].op)
    assert ("+" in str(model.summary(shape[1:]))) == fused
    x = numpy.random.default_rng(0).normal(size=shape).astype("float32")
    results = []
    for fuse in (True, False):
        model.fuse = fuse
        model.zero_grad()
        y = model.forward(x)
        results.append([y, model.backward(y), *(p.grad.copy() for p in model.parameters())])
    for one, other in zip(*results, strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * abs(other).max())


def test_gradients_with_the_activation_as_one():
    model = dl.Sequential(
        dl.Conv2d(2, 3, 3, padding=1, dtype="float64"), dl.Tanh(), dl.Conv2d(3, 2, 2, dtype="float64"), dl.GELU()
    )
    kernel = dl.engines.current().has_kernel("conv_activation")
    assert len(model.steps()) == (3 if kernel else 4)  # GELU is a pass of its own after a convolution
    dl.gradcheck(model, numpy.random.default_rng(0).normal(size=(2, 2, 5, 4)))


def normalised(activation=None, dtype="float32", **options):
    """Return a model in evaluation whose normalisation has seen some batches."""
    dl.seed(2)
    pairs = [
        [dl.Conv2d(i, o, 3, padding=1, dtype=dtype), dl.BatchNorm2d(o, dtype=dtype, **options)]
        for i, o in ((3, 16), (16, 16))
    ]
    follower = [[] if activation is None else [activation()] for _ in pairs]
    model = dl.Sequential([layer for pair, after in zip(pairs, follower, strict=True) for layer in (*pair, *after)])
    random = numpy.random.default_rng(0)
    for parameter in model.parameters():
        parameter.value = random.normal(size=parameter.shape)
    for _ in range(3):
        model.forward(random.normal(size=(8, 3, 7, 6)).astype(dtype))
    return model.eval()


@pytest.mark.parametrize("activation", [None, dl.ReLU, dl.ReLU6, dl.GELU])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"affine": False}], ids=str)
def test_normalisation_in_inference_as_one_gives_the_same(activation, options):
    model = normalised(activation, **options)
    x = numpy.random.default_rng(1).normal(size=(2, 3, 9, 8)).astype("float32")
    with dl.inference():
        together = model.forward(x)
    apart = model.forward(x)
    numpy.testing.assert_allclose(together, apart, rtol=1e-3, atol=1e-4 * abs(apart).max())
    if dl.engines.current().has_kernel("conv_affine"):
        passes = 1 if activation in (None, dl.ReLU, dl.ReLU6) else 2  # GELU is a pass of its own
        assert len(model.steps(keeping=False)) == 2 * passes


def test_gradients_in_evaluation_are_those_of_the_layers_one_by_one():
    model = normalised(dl.ReLU, dtype="float64")
    x = numpy.random.default_rng(0).normal(size=(2, 3, 5, 4))
    dl.gradcheck(model, x)
    model.forward(x)
    with dl.inference():
        model.forward(2 * x)  # leaves nothing behind
    dx = model.backward(numpy.ones((2, 16, 5, 4)))
    model.forward(x)
    numpy.testing.assert_array_equal(model.backward(numpy.ones((2, 16, 5, 4))), dx)


def test_in_training_the_statistics_are_the_batchs():
    model = dl.Sequential(dl.Conv2d(3, 4, 3), dl.BatchNorm2d(4), dl.ReLU())
    kernel = dl.engines.current().has_kernel("conv_affine")
    assert len(model.steps()) == 3
    assert len(model.steps(keeping=False)) == (1 if kernel else 3)
    x = numpy.random.default_rng(0).normal(5, 3, size=(8, 3, 9, 9)).astype("float32")
    y = model.forward(x)
    with dl.inference():
        numpy.testing.assert_allclose(model.forward(x), y, rtol=1e-5, atol=1e-6)
    assert model[1].num_batches_tracked == 2
    assert model.fused_into(inference=True) == ({1: 0, 2: 0} if kernel else {})
    model.fuse = False
    assert model.fused_into(inference=True) == {}


def test_layers_take_same_with_a_stride_and_uneven_padding():
    x = numpy.ones((2, 3, 7, 8), "float32")
    for layer, shape in [
        (dl.Conv2d(3, 4, 3, stride=2, padding="same"), (4, 4, 4)),
        (dl.Conv2d(3, 4, 3, padding=((0, 1), (2, 0))), (4, 6, 8)),
        (dl.ConvTranspose2d(3, 4, 3, padding=((0, 1), (2, 0))), (4, 8, 8)),
        (dl.MaxPool2d(3, 2, padding="same"), (3, 4, 4)),
        (dl.AvgPool2d(2, 2, padding=((1, 0), (0, 0))), (3, 4, 4)),
    ]:
        assert layer(x).shape == (2, *shape)
        assert layer.output_shape((3, 7, 8)) == shape
        assert layer.flops((3, 7, 8)) > 0
    assert repr(dl.Conv2d(1, 1, 3, padding=((0, 1), (0, 1)))) == "Conv2d(1, 1, kernel_size=3, padding=((0, 1), (0, 1)))"
    assert repr(dl.MaxPool2d(3, 2, "same")) == "MaxPool2d(kernel_size=3, stride=2, padding='same')"
