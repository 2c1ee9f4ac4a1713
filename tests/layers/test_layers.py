"""Activations, dropout, shapes and losses as objects."""

import numpy
import pytest

import minidl as dl
from minidl import layers
from minidl.engines.compositions import FUSIBLE
from minidl.errors import OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.testing.layer_checks import check_layer

ACTIVATIONS = [
    *(layer() for layer in layers.Activation.__subclasses__() if layer.__module__ == layers.Activation.__module__),
    *(dl.ELU(0.7), dl.GELU("tanh"), dl.LeakyReLU(0.1), dl.Softmax(dim=0), dl.Softplus(2.0)),
]


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activation_is_its_op(layer, random):
    x, dy = random.normal(size=(2, 4, 3))
    y, cache = getattr(dl.ops, layer.op)(x, *layer.settings)
    numpy.testing.assert_array_equal(layer.forward(x), y)
    numpy.testing.assert_array_equal(layer.backward(dy), getattr(dl.ops, f"{layer.op}_backward")(dy, cache))


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activation_gradient(layer, random):
    dl.gradcheck(layer, random.normal(size=(4, 3)))


@pytest.mark.parametrize("layer", [dl.Tanh(), dl.Dropout(0.5), dl.Flatten()], ids=repr)
def test_backward_before_forward(layer):
    with pytest.raises(OrderError, match=r"before forward|not"):
        type(layer)().backward(numpy.ones((2, 2)))


def test_activation_names():
    assert isinstance(layers.activation("swish"), dl.SiLU)
    assert layers.activation(None) is None
    for op in (*FUSIBLE, "softmax", "log_softmax"):
        assert layers.activation(op).op == op
    with pytest.raises(UnknownNameError, match=r"unknown activation 'rellu'; known: .*elu, .*linear, .*relu.*swish"):
        layers.activation("rellu")


def test_every_fusible_op_is_an_activation_layer():
    assert {layer.op for layer in ACTIVATIONS} == {*FUSIBLE, "softmax", "log_softmax"}
    assert {type(layer).__name__ for layer in ACTIVATIONS} <= set(layers.__all__)


def test_gelu_approximation_is_checked():
    with pytest.raises(ParameterError, match="'none' or 'tanh'"):
        dl.GELU("fast")


class TestGLU:
    @pytest.mark.parametrize(("dim", "shape"), [(-1, (4, 6)), (1, (3, 4, 5)), (-2, (2, 3, 4, 5))])
    def test_keeps_the_rules(self, dim, shape, random):
        check_layer(dl.GLU(dim), random.normal(size=shape))

    def test_halves_the_features_in_a_model(self, random):
        model = dl.Sequential(dl.Linear(3, 8), dl.GLU(), dl.Linear(4, 2))
        dl.gradcheck(model.to(dtype="float64"), random.normal(size=(5, 3)))
        assert "(N, 4)" in str(model.summary((3,)))

    def test_axes_that_cannot_be_halved(self):
        for wrong in ({"dim": 0}, {"axis": 0}, {"axis": 1.5}):
            with pytest.raises(ParameterError, match="GLU: dim must be an axis behind that of the batch, got"):
                dl.GLU(**wrong)
        for wrong in (1.5, None):
            with pytest.raises(ParameterError, match=f"GLU: dim must be a whole number, got {wrong}"):
                dl.GLU(wrong)
        with pytest.raises(ShapeError, match="axis -1 of x must have an even length, to be halved, got shape"):
            dl.GLU().forward(numpy.ones((4, 3)))
        with pytest.raises(ShapeError, match=r"x of shape \(4, 2\) has no axis 2"):
            dl.GLU(2).forward(numpy.ones((4, 2)))
        with pytest.raises(ShapeError, match=r"GLU\(dim=-1\): axis -1 must have an even length, got examples of shape"):
            dl.GLU().output_shape((3,))


class TestPReLU:
    @pytest.mark.parametrize(("slopes", "shape"), [(1, (5,)), (1, (4, 3)), (3, (4, 3)), (3, (2, 3, 4, 2))])
    def test_gradients_of_input_and_slopes(self, slopes, shape, random):
        dl.gradcheck(dl.PReLU(slopes, 0.3, dtype="float64"), random.normal(size=shape))

    def test_is_pytorchs(self):
        layer = dl.PReLU(3)
        assert {name: value.tolist() for name, value in layer.state_dict().items()} == {"weight": [0.25] * 3}
        assert [repr(dl.PReLU()), repr(dl.PReLU(3, 0.5))] == ["PReLU(1)", "PReLU(3, init=0.5)"]

    def test_a_frozen_slope_gets_no_gradient(self, random):
        layer = dl.PReLU(3)
        layer.trainable = False
        x = random.normal(size=(4, 3)).astype("float32")
        dx = layer.backward(layer.forward(x))
        numpy.testing.assert_allclose(dx, numpy.where(x > 0, x, x / 16))
        assert not layer.weight.has_grad

    def test_channels_that_do_not_fit(self):
        with pytest.raises(
            ShapeError, match=r"PReLU\(3\): expected a batch of shape \(N, 3, ...\), .*got shape \(2, 4\)"
        ):
            dl.PReLU(3).forward(numpy.ones((2, 4), "float32"))
        with pytest.raises(
            ShapeError, match=r"prelu: weight must have shape \(1,\), or .*got \(2,\) for x of shape \(2, 3\)"
        ):
            dl.ops.prelu(numpy.ones((2, 3)), numpy.ones(2))
        with pytest.raises(ParameterError, match="num_parameters must be a positive integer, got 0"):
            dl.PReLU(0)

    def test_follows_a_layer_in_a_model_and_in_a_dense(self, random):
        x = random.normal(size=(5, 4))
        model = dl.Sequential(dl.Linear(4, 3), dl.PReLU(3), dl.Dense(2, activation=dl.PReLU(2), input_shape=(3,)))
        dl.gradcheck(model.to(dtype="float64"), x)


class TestDropout:
    def test_keeps_the_mean_and_zeroes_p_of_the_elements(self):
        dl.seed(0)
        y = dl.Dropout(0.3).forward(numpy.ones((1000, 100), dtype="float32"))
        assert abs(float((y == 0).mean()) - 0.3) < 0.01
        assert abs(float(y.mean()) - 1.0) < 0.02

    def test_backward_uses_the_same_mask(self):
        layer = dl.Dropout(0.5)
        x = numpy.ones((50, 50))
        numpy.testing.assert_array_equal(layer.forward(x), layer.backward(x))

    def test_is_the_identity_in_evaluation(self):
        layer = dl.Dropout(0.5).eval()
        x = numpy.ones((5, 5))
        assert layer.forward(x) is x
        assert layer.backward(x) is x

    def test_the_seed_decides_the_mask(self):
        layer, x = dl.Dropout(0.5), numpy.ones((20, 20))
        dl.seed(1)
        first = layer.forward(x)
        dl.seed(1)
        numpy.testing.assert_array_equal(layer.forward(x), first)

    @pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
    def test_p_is_a_probability(self, p):
        with pytest.raises(ParameterError, match="Dropout: p must be from 0 to 1, got"):
            dl.Dropout(p)


def test_flatten_and_back(random):
    layer, x = dl.Flatten(), random.normal(size=(5, 2, 3))
    assert layer.forward(x).shape == (5, 6)
    numpy.testing.assert_array_equal(layer.backward(layer.forward(x)), x)
    assert layer.forward(numpy.zeros((0, 2, 3))).shape == (0, 6)


class TestLoss:
    @pytest.mark.parametrize(
        ("loss", "target"),
        [
            (dl.MSELoss(), numpy.ones((4, 3))),
            (dl.MSELoss("half_sum"), numpy.ones((4, 3))),
            (dl.L1Loss("sum"), numpy.ones((4, 3))),
            (dl.HuberLoss(delta=0.5), numpy.ones((4, 3))),
            (dl.BCEWithLogitsLoss(), numpy.ones((4, 3))),
            (dl.CrossEntropyLoss(), numpy.array([0, 2, 1, 1])),
            (dl.CrossEntropyLoss(label_smoothing=0.1, weight=numpy.array([1.0, 2.0, 3.0])), numpy.array([0, 2, 1, 1])),
        ],
        ids=repr,
    )
    def test_gradient(self, loss, target, random):
        dl.gradcheck(loss, random.normal(size=(4, 3)), target)

    def test_half_sum_is_the_textbooks(self):
        loss = dl.MSELoss("half_sum")
        assert loss.forward(numpy.array([2.5]), numpy.array([3.0])) == 0.125
        assert loss.backward() == [-0.5]

    def test_targets_without_the_last_axis_are_aligned(self):
        prediction, target = numpy.array([[1.0], [2.0], [3.0]]), numpy.array([1.0, 2.0, 4.0])
        loss = dl.MSELoss()
        assert loss.forward(prediction, target) == pytest.approx(1 / 3)
        assert loss.backward().shape == (3, 1)

    def test_sample_weights_multiply_each_examples_loss(self, random):
        prediction, target, weight = random.normal(size=(4, 3)), random.normal(size=(4, 3)), random.uniform(size=4)
        loss = dl.MSELoss()
        value = loss.forward(prediction, target, weight)
        expected = (weight[:, None] * (prediction - target) ** 2).mean()
        assert value == pytest.approx(expected)
        numpy.testing.assert_allclose(loss.backward(), weight[:, None] * 2 * (prediction - target) / 12)

    def test_equal_weights_change_nothing(self, random):
        prediction, target = random.normal(size=(4, 3)), numpy.array([0, 1, 2, 0])
        loss = dl.CrossEntropyLoss()
        value, gradient = loss.forward(prediction, target), loss.backward()
        assert loss.forward(prediction, target, numpy.ones(4)) == pytest.approx(value)
        numpy.testing.assert_allclose(loss.backward(), gradient)

    def test_sample_weights_of_a_wrong_length(self):
        with pytest.raises(ShapeError, match="sample_weight"):
            dl.MSELoss().forward(numpy.zeros((4, 3)), numpy.zeros((4, 3)), numpy.ones(3))

    def test_unknown_reduction(self):
        with pytest.raises(ParameterError, match="mean, sum, none"):
            dl.L1Loss("average")

    def test_backward_before_forward(self):
        with pytest.raises(OrderError, match="before forward"):
            dl.MSELoss().backward()
