"""Linear and Dense."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, NotBuiltError, OrderError, ParameterError, ShapeError


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (0,)])
def test_forward_is_the_affine_map_for_any_leading_axes(random, leading):
    layer = dl.Linear(4, 3, dtype="float64")
    x = random.normal(size=(*leading, 4))
    y = layer.forward(x)
    assert y.shape == (*leading, 3)
    numpy.testing.assert_allclose(y, x @ layer.weight.value.T + layer.bias.value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients(random, bias):
    dl.gradcheck(dl.Linear(4, 3, bias=bias), random.normal(size=(5, 4)))


def test_backward_adds_to_the_gradient_until_zero_grad(random):
    layer = dl.Linear(4, 3)
    x, dy = random.normal(size=(5, 4)).astype("float32"), random.normal(size=(5, 3)).astype("float32")
    layer.forward(x)
    layer.backward(dy)
    once = layer.weight.grad.copy(), layer.bias.grad.copy()
    layer.backward(dy)
    numpy.testing.assert_allclose(layer.weight.grad, 2 * once[0], rtol=1e-5)
    numpy.testing.assert_allclose(layer.bias.grad, 2 * once[1], rtol=1e-5)
    layer.zero_grad()
    layer.backward(dy)
    numpy.testing.assert_array_equal(layer.weight.grad, once[0])
    numpy.testing.assert_array_equal(layer.bias.grad, once[1])


@pytest.mark.parametrize("touched", ["weight", "bias"])
def test_reading_one_gradient_after_zero_grad_does_not_disturb_the_other(random, touched):
    layer = dl.Linear(4, 3)
    x, dy = random.normal(size=(5, 4)).astype("float32"), random.normal(size=(5, 3)).astype("float32")
    layer.forward(x)
    layer.backward(dy)
    expected = layer.weight.grad.copy(), layer.bias.grad.copy()
    layer.zero_grad()
    assert not getattr(layer, touched).grad.any()
    layer.backward(dy)
    numpy.testing.assert_array_equal(layer.weight.grad, expected[0])
    numpy.testing.assert_array_equal(layer.bias.grad, expected[1])


def test_without_the_input_gradient_the_parameters_get_the_same(random):
    layer = dl.Linear(4, 3)
    x, dy = random.normal(size=(5, 4)).astype("float32"), random.normal(size=(5, 3)).astype("float32")
    layer.forward(x)
    layer.backward(dy)
    expected = layer.weight.grad.copy()
    layer.zero_grad()
    assert layer.backward(dy, input_gradient=False) is None
    numpy.testing.assert_array_equal(layer.weight.grad, expected)


def test_another_precision_is_cast_to_the_layers(random):
    assert dl.Linear(4, 3).forward(random.normal(size=(2, 4))).dtype == numpy.float32
    assert dl.Linear(4, 3, dtype="float64").forward(numpy.ones((2, 4), dtype="float32")).dtype == numpy.float64


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex128", "object"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(DtypeError, match=r"Linear\(4, 3\).*floating"):
        dl.Linear(4, 3).forward(numpy.ones((2, 4), dtype=dtype))


def test_a_list_is_refused():
    with pytest.raises(DtypeError, match="expected an array, got list"):
        dl.Linear(2, 3).forward([[1.0, 2.0]])


def test_wrong_feature_count_is_named():
    with pytest.raises(ShapeError, match=r"4.*5|5.*4"):
        dl.Linear(4, 3).forward(numpy.ones((2, 5), dtype="float32"))


def test_backward_before_forward():
    with pytest.raises(OrderError, match="backward was called before forward"):
        dl.Linear(4, 3).backward(numpy.ones((2, 3), dtype="float32"))


def test_sizes_must_be_positive():
    with pytest.raises(ParameterError, match="positive"):
        dl.Linear(0, 3)
    with pytest.raises(ParameterError, match="positive"):
        dl.Dense(0)


def test_the_seed_decides_the_weights():
    dl.seed(3)
    first = dl.Linear(4, 3).weight.value.copy()
    dl.seed(3)
    numpy.testing.assert_array_equal(dl.Linear(4, 3).weight.value, first)


class TestDense:
    def test_takes_its_size_from_the_first_input(self, random):
        layer = dl.Dense(3)
        with pytest.raises(NotBuiltError, match="input_shape"):
            layer.parameters()
        layer.forward(random.normal(size=(5, 4)).astype("float32"))
        assert [p.shape for p in layer.parameters()] == [(3, 4), (3,)]

    def test_is_built_at_once_by_input_shape(self):
        assert dl.Dense(3, input_shape=(4,)).weight.shape == (3, 4)

    @pytest.mark.parametrize("activation", [None, "linear", "tanh", "sigmoid", "gelu", dl.SiLU()])
    def test_gradients(self, random, activation):
        dl.gradcheck(dl.Dense(3, activation=activation, input_shape=(4,)), random.normal(size=(5, 4)))

    def test_equals_linear_and_activation(self, random):
        dense = dl.Dense(3, activation="tanh", input_shape=(4,))
        pair = dl.Sequential(dl.Linear(4, 3), dl.Tanh())
        pair.load_state_dict({"0.weight": dense.weight.value, "0.bias": dense.bias.value})
        x = random.normal(size=(5, 4)).astype("float32")
        numpy.testing.assert_allclose(dense.forward(x), pair.forward(x), rtol=1e-6)

    def test_unknown_names_list_the_known(self):
        with pytest.raises(ValueError, match="known: .*relu"):
            dl.Dense(3, activation="rellu")
        with pytest.raises(ValueError, match="known: .*glorot_uniform"):
            dl.Dense(3, kernel_initializer="glorot")

    def test_no_bias(self, random):
        layer = dl.Dense(3, use_bias=False, input_shape=(4,))
        assert len(layer.parameters()) == 1
        dl.gradcheck(layer, random.normal(size=(5, 4)))
