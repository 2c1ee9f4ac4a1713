"""Recurrent layers: names, state, directions, dropout, truncated backpropagation through time, errors."""

import copy

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError, UnknownNameError

KINDS = ["RNN", "LSTM", "GRU"]
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


def make(kind, *sizes, **options):
    dl.seed(0)
    return getattr(dl, kind)(*sizes, **options)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("kind", KINDS)
class TestEach:
    def test_gradients(self, kind, rng):
        dl.gradcheck(make(kind, 2, 2, num_layers=2, bidirectional=True), rng.standard_normal((2, 3, 2)))

    def test_gradients_with_lengths_and_time_first(self, kind, rng):
        layer = make(kind, 2, 2, num_layers=2, bias=False, batch_first=False)
        dl.gradcheck(layer, rng.standard_normal((3, 2, 2)), numpy.array([3, 1]))

    def test_gradients_in_a_model(self, kind, rng):
        model = dl.Sequential(dl.Linear(3, 2), make(kind, 2, 3), dl.Tanh(), make(kind, 3, 2, bidirectional=True))
        dl.gradcheck(model, rng.standard_normal((2, 3, 3)))

    def test_names_and_shapes_are_pytorchs(self, kind):
        layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
        g = GATES[kind] * 4
        expected = {}
        for place, features in (("l0", 3), ("l0_reverse", 3), ("l1", 8), ("l1_reverse", 8)):
            expected |= {f"weight_ih_{place}": (g, features), f"weight_hh_{place}": (g, 4)}
            expected |= {f"bias_ih_{place}": (g,), f"bias_hh_{place}": (g,)}
        assert {name: value.shape for name, value in layer.state_dict().items()} == expected
        assert list(make(kind, 3, 4, bias=False).state_dict()) == ["weight_ih_l0", "weight_hh_l0"]
        assert abs(layer.weight_hh_l1.value).max() <= 0.5

    def test_windows_continue_one_another(self, kind, rng):
        layer = make(kind, 3, 4, num_layers=2)
        x = rng.standard_normal((2, 6, 3)).astype("float32")
        whole, final = layer.forward_with_state(x)
        state, pieces = None, []
        for window in (x[:, :1], x[:, 1:4], x[:, 4:]):
            y, state = layer.forward_with_state(window, state)
            pieces.append(y)
        numpy.testing.assert_allclose(numpy.concatenate(pieces, axis=1), whole, rtol=1e-5, atol=1e-6)
        for one, other in zip(parts(state), parts(final), strict=True):
            numpy.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        numpy.testing.assert_array_equal(layer.forward(x), whole)

    def test_gradients_flow_between_windows_or_are_cut(self, kind, rng):
        """Two windows, each by a layer of its own with the same weights, since one remembers one forward."""
        first = make(kind, 3, 4, dtype="float64")
        second, whole = copy.deepcopy(first), copy.deepcopy(first)
        x, dy = rng.standard_normal((2, 6, 3)), rng.standard_normal((2, 6, 4))
        whole.forward_with_state(x)
        dx = whole.backward(dy)
        _, state = first.forward_with_state(x[:, :3])
        second.forward_with_state(x[:, 3:], state)
        late, dstate = second.backward_with_state(dy[:, 3:])
        early, _ = first.backward_with_state(dy[:, :3], dstate)
        numpy.testing.assert_allclose(numpy.concatenate([early, late], axis=1), dx, rtol=1e-10, atol=1e-12)
        for one, two, both in zip(first.parameters(), second.parameters(), whole.parameters(), strict=True):
            numpy.testing.assert_allclose(one.grad + two.grad, both.grad, rtol=1e-10, atol=1e-12)
        cut, _ = first.backward_with_state(dy[:, :3])
        assert not numpy.allclose(cut, early)

    def test_lengths_give_the_state_at_the_length(self, kind, rng):
        layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
        x = rng.standard_normal((2, 5, 3)).astype("float32")
        y, state = layer.forward_with_state(x, None, numpy.array([2, 5]))
        alone, own = layer.forward_with_state(x[:1, :2])
        numpy.testing.assert_allclose(y[:1, :2], alone, rtol=1e-5, atol=1e-6)
        assert not y[0, 2:].any()
        for whole, part in zip(parts(state), parts(own), strict=True):
            numpy.testing.assert_allclose(whole[:, :1], part, rtol=1e-5, atol=1e-6)

    def test_with_lengths_backward_answers_for_both_inputs(self, kind, rng):
        layer = make(kind, 3, 4)
        x = rng.standard_normal((2, 5, 3)).astype("float32")
        dx, nothing = layer.backward(layer.forward(x, numpy.array([2, 5])))
        assert nothing is None
        assert not dx[0, 2:].any()

    def test_batch_first_is_only_an_order_of_axes(self, kind, rng):
        plain, turned = make(kind, 3, 4, bidirectional=True), make(kind, 3, 4, bidirectional=True, batch_first=False)
        x = rng.standard_normal((2, 5, 3)).astype("float32")
        y, state = plain.forward_with_state(x)
        other, same = turned.forward_with_state(x.swapaxes(0, 1))
        numpy.testing.assert_array_equal(other.swapaxes(0, 1), y)
        for one, two in zip(parts(state), parts(same), strict=True):
            numpy.testing.assert_array_equal(one, two)
        numpy.testing.assert_array_equal(turned.backward(other).swapaxes(0, 1), plain.backward(y))

    def test_rows_of_a_state_are_selected(self, kind, rng):
        layer = make(kind, 3, 4, num_layers=2)
        _, state = layer.forward_with_state(rng.standard_normal((3, 2, 3)).astype("float32"))
        chosen = layer.select_state(state, numpy.array([2, 0, 2]))
        for one, two in zip(parts(chosen), parts(state), strict=True):
            numpy.testing.assert_array_equal(one, two[:, [2, 0, 2]])

    def test_frozen_weights_and_no_input_gradient(self, kind, rng):
        layer = make(kind, 3, 4)
        layer.weight_hh_l0.trainable = False
        x = rng.standard_normal((2, 5, 3)).astype("float32")
        assert layer.backward(layer.forward(x), input_gradient=False) is None
        assert not layer.weight_hh_l0.has_grad
        assert layer.weight_ih_l0.has_grad

    def test_a_second_backward_adds(self, kind, rng):
        layer = make(kind, 3, 4, num_layers=2)
        y = layer.forward(rng.standard_normal((2, 5, 3)).astype("float32"))
        layer.backward(y)
        once = [parameter.grad.copy() for parameter in layer.parameters()]
        layer.backward(y)
        for parameter, before in zip(layer.parameters(), once, strict=True):
            numpy.testing.assert_allclose(parameter.grad, 2 * before, rtol=1e-5, atol=1e-6)

    def test_dropout_is_between_layers_in_training(self, kind, rng):
        layer = make(kind, 3, 40, num_layers=2, dropout=0.5)
        x = rng.standard_normal((2, 5, 3)).astype("float32")
        dl.seed(1)
        first = layer.forward(x)
        assert not numpy.array_equal(layer.forward(x), first)
        dl.seed(1)
        numpy.testing.assert_array_equal(layer.forward(x), first)
        layer.eval()
        numpy.testing.assert_array_equal(layer.forward(x), layer.forward(x))
        dl.gradcheck(make(kind, 2, 3, num_layers=2, dropout=0.3), rng.standard_normal((2, 3, 2)))

    def test_inference_keeps_nothing(self, kind):
        layer = make(kind, 3, 4)
        with dl.inference():
            layer.forward(numpy.ones((1, 2, 3), "float32"))
        with pytest.raises(OrderError, match="before forward"):
            layer.backward(numpy.ones((1, 2, 4), "float32"))

    def test_shapes_and_operations(self, kind):
        layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
        assert layer.output_shape((7, 3)) == (7, 8)
        assert layer.flops((7, 3)) == 2 * 7 * sum(p.size for p in layer.parameters() if p.value.ndim == 2)
        with pytest.raises(ShapeError, match="3 features on the last axis"):
            layer.output_shape((7, 4))
        assert repr(layer) == f"{kind}(3, 4, num_layers=2, bidirectional=True)"

    def test_errors(self, kind, rng):
        layer, x = make(kind, 3, 4), numpy.ones((2, 5, 3), "float32")
        with pytest.raises(
            ShapeError, match=rf"{kind}\(3, 4\): expected a batch of shape \(N, T, 3\), got shape \(5, 3\)"
        ):
            layer.forward(x[0])
        with pytest.raises(DtypeError, match="expected floating-point input"):
            layer.forward(x.astype(int))
        with pytest.raises(ParameterError, match=r"lengths\[1\] is 6, but a length must be from 1 to the 5 steps"):
            layer.forward(x, numpy.array([5, 6]))
        _, state = layer.forward_with_state(x)
        with pytest.raises(DtypeError, match="an initial state goes into an argument of its own"):
            layer.forward(x, parts(state)[0])
        with pytest.raises(ShapeError, match=r"the state must have shape \(1, 2, 4\), .*got \(1, 1, 4\)"):
            layer.forward_with_state(x, layer.select_state(state, numpy.array([0])))
        wrong = parts(state)[0] if kind == "LSTM" else (state, state)
        with pytest.raises(ShapeError, match="the state must be"):
            layer.forward_with_state(x, wrong)
        for arguments in ((0, 4), (3, 4.0), (3, True)):
            with pytest.raises(ParameterError, match="must be a (positive integer|whole number)"):
                getattr(dl, kind)(*arguments)
        with pytest.raises(ParameterError, match="dropout must be from 0 to 1"):
            getattr(dl, kind)(3, 4, num_layers=2, dropout=1.5)
        with pytest.warns(UserWarning, match="dropout acts between layers") as seen:
            getattr(dl, kind)(3, 4, dropout=0.5)
        assert seen[0].filename == __file__


def test_no_other_nonlinearity():
    with pytest.raises(UnknownNameError, match="unknown nonlinearity 'elu'"):
        dl.RNN(3, 4, nonlinearity="elu")
    assert repr(dl.RNN(3, 4, nonlinearity="relu")) == "RNN(3, 4, nonlinearity='relu')"
