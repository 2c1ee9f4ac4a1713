"""Layers with state, with several inputs and outputs, and with integers."""

import numpy
import pytest
from blocks import Embedding, Recurrent

import minidl as dl
from minidl.errors import ParameterError, ShapeError


class Masked(dl.Layer):
    """x where the mask says so."""

    def forward(self, x, mask):
        self._remember(mask)
        return x * mask

    def backward(self, dy):
        return dy * self._remembered(), None


class Split(dl.Layer):
    """The two halves of the last axis."""

    def forward(self, x):
        half = x.shape[-1] // 2
        return x[..., :half], x[..., half:]

    def backward(self, dy):
        return numpy.concatenate(dy, axis=-1)


class Multiply(dl.Layer):
    """The product of two arrays."""

    def forward(self, a, b):
        self._remember((a, b))
        return a * b

    def backward(self, dy):
        a, b = self._remembered()
        return dy * b, dy * a


def test_a_tuple_is_several_inputs_of_the_next_layer():
    model = dl.Sequential(dl.Linear(3, 4, dtype="float64"), Split(), Multiply(), dl.Linear(2, 1, dtype="float64"))
    dl.gradcheck(model, numpy.random.default_rng(0).normal(size=(5, 3)))


def test_the_first_layer_gets_all_inputs_by_place_or_by_name():
    model = dl.Sequential(Masked(), dl.Linear(3, 2))
    x = numpy.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    mask = (numpy.arange(12).reshape(4, 3) % 2).astype("float32")
    expected = model[1].forward(x * mask)
    numpy.testing.assert_array_equal(model.forward(x, mask), expected)
    numpy.testing.assert_array_equal(model(x, mask=mask), expected)
    numpy.testing.assert_array_equal(model.forward(x=x, mask=mask), expected)
    dx, dmask = model.backward(numpy.ones((4, 2), "float32"))
    assert dx.shape == x.shape
    assert dmask is None
    with pytest.raises(ShapeError, match="layer 1 of Sequential"):
        model.forward(x[:, :2], mask[:, :2])


def test_several_inputs_pass_gradcheck():
    random = numpy.random.default_rng(0)
    model = dl.Sequential(Multiply(), dl.Tanh(), dl.Linear(3, 2, dtype="float64"))
    dl.gradcheck(model, random.normal(size=(4, 3)), random.normal(size=(4, 3)))


def test_integers_stay_integers():
    model = dl.Sequential(Embedding(9, 4), dl.Linear(4, 2))
    assert model.integer_inputs
    assert not dl.Sequential(dl.Linear(4, 2)).integer_inputs
    ids = numpy.array([[1, 2, 1]])
    y = model.forward(ids)
    assert y.shape == (1, 3, 2)
    assert model.backward(numpy.ones_like(y), input_gradient=False) is None
    numpy.testing.assert_array_equal(model[0].weight.touched_rows(), [1, 2])


def test_state_goes_in_and_comes_out():
    random = numpy.random.default_rng(0)
    model = dl.Sequential({"in": dl.Linear(3, 4, dtype="float64"), "rnn": Recurrent(), "relu": dl.ReLU()})
    x = random.normal(size=(2, 6, 3))
    whole, end = model.forward_with_state(x)
    state, parts = None, []
    for t in range(6):  # as generation does: one step at a time
        y, state = model.forward_with_state(x[:, t : t + 1], state)
        parts.append(y)
    numpy.testing.assert_allclose(numpy.concatenate(parts, axis=1), whole, rtol=1e-12)
    numpy.testing.assert_allclose(state["rnn"], end["rnn"], rtol=1e-12)
    numpy.testing.assert_allclose(model.forward(x), whole, rtol=1e-12)
    assert list(end) == ["rnn"]


def test_gradients_of_states_in_both_directions():
    """d(sum(y c) + sum(h_end d)) for x, a and the state that went in, against differences."""
    random = numpy.random.default_rng(0)
    layer, chain = Recurrent(), dl.Sequential(dl.Tanh(), Recurrent())
    for each in (layer, chain):
        x, start, c, d = (random.normal(size=s) for s in ((2, 5, 3), (2, 3), (2, 5, 3), (2, 3)))
        wrap = (lambda s: {"1": s}) if each is chain else (lambda s: s)
        unwrap = (lambda s: s["1"]) if each is chain else (lambda s: s)

        def value(x, start, each=each, wrap=wrap, unwrap=unwrap, c=c, d=d):
            y, end = each.forward_with_state(x, wrap(start))
            return float((y * c).sum() + (unwrap(end) * d).sum())

        value(x, start)
        dx, dstart = each.backward_with_state(c, wrap(d))
        step = 1e-6
        for array, gradient in ((x, dx), (start, unwrap(dstart))):
            for index in [(0,) * array.ndim, tuple(n - 1 for n in array.shape)]:
                moved = array.copy()
                moved[index] += step
                plus = value(moved, start) if array is x else value(x, moved)
                moved[index] -= 2 * step
                minus = value(moved, start) if array is x else value(x, moved)
                assert gradient[index] == pytest.approx((plus - minus) / (2 * step), rel=1e-6)


def test_truncated_backpropagation_carries_states_and_not_their_gradients():
    random = numpy.random.default_rng(0)
    model = dl.Sequential(Recurrent())
    x, state = random.normal(size=(2, 8, 3)), None
    for start in (0, 4):
        y, state = model.forward_with_state(x[:, start : start + 4], state)
        dx, dstate = model.backward_with_state(numpy.ones_like(y))
        assert dx.shape == y.shape
        assert dstate["0"].shape == (2, 3)


def test_inference_with_state_keeps_no_cache():
    model = dl.Sequential(Recurrent(), dl.ReLU())
    with dl.inference():
        _, state = model.forward_with_state(numpy.ones((1, 2, 3)))
        model.forward_with_state(numpy.ones((1, 1, 3)), state)
    assert [layer._cache for layer in model.layers] == [None, None]


def test_on_the_numpy_engine_every_layer_runs_by_itself(monkeypatch):
    """A print or a breakpoint in a layer's forward or backward fires at every step."""
    seen = []
    for kind in (dl.Linear, dl.ReLU, dl.Dense, dl.Conv2d):
        for name in ("forward", "backward"):
            whole = getattr(kind, name)

            def watched(self, *args, whole=whole, name=name, **kwargs):
                seen.append(f"{type(self).__name__}.{name}")
                return whole(self, *args, **kwargs)

            monkeypatch.setattr(kind, name, watched)
    model = dl.Sequential(
        dl.Conv2d(1, 2, 3), dl.ReLU(), dl.Flatten(), dl.Linear(8, 5), dl.ReLU(), dl.Dense(3, activation="relu")
    )
    with dl.use("numpy"):
        y = model.forward(numpy.ones((2, 1, 4, 4), "float32"))
        model.backward(numpy.ones_like(y))
        assert model.fused_into() == {}
        assert model.stacks() == []
        assert not any(row.fused or row.fused_in_inference for row in model.summary((1, 4, 4)).rows)
    forward = ["Conv2d.forward", "ReLU.forward", "Linear.forward", "ReLU.forward", "Dense.forward", "ReLU.forward"]
    backward = [
        "Dense.backward",
        "ReLU.backward",
        "ReLU.backward",
        "Linear.backward",
        "ReLU.backward",
        "Conv2d.backward",
    ]
    assert [s for s in seen if s.endswith("forward")] == forward
    assert [s for s in seen if s.endswith("backward")] == backward


def test_each_engine_has_its_own_plan():
    model = dl.Sequential(dl.Linear(4, 3), dl.ReLU(), dl.Linear(3, 2))
    x, dy = numpy.ones((2, 4), "float32"), numpy.ones((2, 2), "float32")
    results = []
    for name in ("numpy", dl.engines.current().name, "numpy"):
        with dl.use(name) as engine:
            assert bool(model.fused_into()) == engine.has_kernel("linear_activation")
            model.zero_grad()
            y = model.forward(x)
            results.append([y, model.backward(dy), *(p.grad.copy() for p in model.parameters())])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            numpy.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    with dl.use("numpy"):
        model.forward(x)
    numpy.testing.assert_allclose(model.backward(dy), results[0][1], rtol=1e-5)  # the engine changed in between


def test_inputs_that_the_first_layer_does_not_take_are_named():
    model = dl.Sequential(dl.Linear(3, 2))
    x = numpy.ones((4, 3), "float32")
    with pytest.raises(
        ParameterError, match=r"layer 0 of Sequential, Linear\(3, 2\): forward takes \(x.*got inputs 2 by"
    ):
        model.forward(x, x)
    with pytest.raises(ParameterError, match="'mask' by name"):
        model.forward(x, mask=x)
