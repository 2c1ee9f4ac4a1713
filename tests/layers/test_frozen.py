"""Frozen parameters: no gradient, no work, no state of an optimiser; and they come back as if they had waited."""

import copy

import numpy
import pytest

import minidl as dl
from minidl.errors import ParameterError

RANDOM = numpy.random.default_rng(0)
X = RANDOM.normal(size=(16, 4)).astype("float32")
Y = numpy.arange(16) % 3


def model_of(dtype="float32"):
    dl.seed(0)
    return dl.Sequential(
        dl.Linear(4, 6, dtype=dtype), dl.Tanh(), dl.LayerNorm(6, dtype=dtype), dl.Linear(6, 3, dtype=dtype)
    )


def train(model, optimizer, steps=3):
    loss = dl.CrossEntropyLoss()
    for _ in range(steps):
        loss.forward(model.forward(X), Y)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()


def test_a_layer_and_a_parameter_freeze():
    model = model_of()
    assert model.trainable
    model[0].trainable = False
    model[2].weight.trainable = False
    assert [p.trainable for p in model.parameters()] == [False, False, False, True, True, True]
    assert not model[0].trainable
    assert model[2].trainable
    assert "frozen" in repr(model[0].weight)
    model.trainable = True
    assert all(p.trainable for p in model.parameters())


@pytest.mark.parametrize("make", [dl.SGD, lambda p: dl.SGD(p, momentum=0.9), dl.Adam, dl.Adagrad, dl.RMSprop])
@pytest.mark.parametrize("frozen", [(0,), (2,), (3,), (0, 3)])
def test_what_is_frozen_stays_and_the_rest_trains_as_if_alone(make, frozen, host_engine):
    with dl.use(host_engine):
        model = model_of()
        for index in frozen:
            model[index].trainable = False
        before = copy.deepcopy(model)
        train(model, make(model.parameters()))
        alone = model_of()
        train(alone, make([p for i in (0, 2, 3) if i not in frozen for p in alone[i].parameters()]))
        for index in (0, 2, 3):
            for own, old, expected in zip(
                model[index].parameters(), before[index].parameters(), alone[index].parameters(), strict=True
            ):
                if index in frozen:
                    numpy.testing.assert_array_equal(own.value, old.value)
                else:
                    assert (own.value != old.value).any()
                    numpy.testing.assert_allclose(own.value, expected.value, rtol=1e-5, atol=1e-6)


def test_an_optimiser_of_what_is_all_frozen_is_refused():
    model = model_of()
    model.trainable = False
    with pytest.raises(ParameterError, match="Adam: every parameter is frozen; set trainable = True"):
        dl.Adam(model.parameters())


def calls_of(engine, monkeypatch):
    """Record which gradients are asked of the engine."""
    seen = []

    def watch(name):
        whole = getattr(engine, name)

        def watched(dy, cache, *arguments):
            seen.append((name, arguments[-1]))
            return whole(dy, cache, *arguments)

        monkeypatch.setattr(engine, name, watched)

    for name in ("linear_backward", "layer_norm_backward"):
        watch(name)
    return seen


def test_frozen_layers_cost_no_work(monkeypatch):
    engine = dl.engines.get("numpy")
    seen = calls_of(engine, monkeypatch)
    with dl.use(engine):
        model = model_of()
        model.forward(X)
        dy = numpy.ones((16, 3), "float32")
        model[0].trainable = False
        model.backward(dy, input_gradient=False)
        assert seen == [("linear_backward", (True, True, True)), ("layer_norm_backward", (False, True, True))]
        del seen[:]
        model[3].bias.trainable = False
        model.backward(dy)  # dx is asked for, so the frozen layers are passed through
        assert seen[0] == ("linear_backward", (True, True, False))
        assert seen[-1] == ("linear_backward", (True, False, False))
        del seen[:]
        model.trainable = False
        assert model.backward(dy, input_gradient=False) is None
        assert seen == []


def test_frozen_parameters_have_no_state_and_no_gradient():
    model = model_of()
    model[0].trainable = False
    optimizer = dl.Adam(model.parameters())
    train(model, optimizer)
    names = optimizer.state_dict()
    assert not any(name.startswith(("state.0.0.", "state.0.1.")) for name in names)
    assert any(name.startswith("state.0.2.") for name in names)
    assert sum(segment.values.size for segment in optimizer._segments) == sum(p.size for p in model.parameters()[2:])
    model.backward(numpy.ones((16, 3), "float32"))
    assert not model[0].weight.has_grad


def test_a_parameter_that_was_frozen_for_a_while_goes_on_where_it_was():
    """As in PyTorch, where each parameter counts its own steps."""
    model, other = model_of("float64"), model_of("float64")
    optimizer, twin = dl.Adam(model.parameters()), dl.Adam(other[0].parameters())
    train(model, optimizer, 3)
    for own, expected in zip(model.parameters(), other.parameters(), strict=True):
        expected.value = own.value
    state = optimizer.state_dict()
    model[0].trainable = False
    train(model, optimizer, 4)
    model[0].trainable = True
    for own, expected in zip(model.parameters()[2:], other.parameters()[2:], strict=True):
        expected.value = own.value
    wanted = {name: value for name, value in twin.state_dict().items() if name.startswith("groups")}
    wanted |= {name: value for name, value in state.items() if name.startswith(("state.0.0.", "state.0.1."))}
    twin.load_state_dict({**wanted, "step": state["step"]})
    train(other, twin, 1)
    train(model, optimizer, 1)
    numpy.testing.assert_allclose(model[0].weight.value, other[0].weight.value, rtol=1e-12)
    numpy.testing.assert_allclose(model[0].bias.value, other[0].bias.value, rtol=1e-12)


def test_the_state_of_an_optimiser_tells_who_was_frozen():
    model = model_of()
    optimizer = dl.Adam(model.parameters())
    train(model, optimizer, 2)
    model[0].trainable = False
    train(model, optimizer, 2)
    state = optimizer.state_dict()
    assert (state["step"], state["updates.0.0"]) == (4, 2)
    assert "updates.0.2" not in state
    twin_model = copy.deepcopy(model)
    twin = dl.Adam(twin_model.parameters())
    twin.load_state_dict(state)
    for each in (model, twin_model):
        each[0].trainable = True
    train(model, optimizer, 2)
    train(twin_model, twin, 2)
    for own, other in zip(model.parameters(), twin_model.parameters(), strict=True):
        numpy.testing.assert_array_equal(own.value, other.value)
    with pytest.raises(ParameterError, match=r"unexpected: updates\.0\.9"):
        twin.load_state_dict({**state, "updates.0.9": state["step"]})


def test_a_lazy_layer_that_was_frozen_stays_so_when_it_is_built():
    model = dl.Sequential([dl.Dense(4, activation="relu"), dl.Dense(3)])
    model[0].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    model.build((4,))
    before = model[0].weight.value.copy()
    model.fit(X, Y, epochs=2)
    numpy.testing.assert_array_equal(model[0].weight.value, before)


def test_gradients_of_a_partly_frozen_model():
    model = model_of("float64")
    model[0].bias.trainable = False
    model[2].trainable = False
    free = [p for p in model.parameters() if p.trainable]
    model.forward(X.astype("float64"))
    model.backward(numpy.ones((16, 3)))
    assert all(p.has_grad for p in free)
    expected = model_of("float64")
    expected.forward(X.astype("float64"))
    expected.backward(numpy.ones((16, 3)))
    for own, other in zip(model.parameters(), expected.parameters(), strict=True):
        if own.trainable:
            numpy.testing.assert_allclose(own.grad, other.grad, rtol=1e-12)
        else:
            assert not own.has_grad


def test_clipping_sees_only_what_is_trained():
    model = model_of()
    model[0].trainable = False
    optimizer = dl.SGD(model.parameters(), lr=0.0)
    model.forward(X)
    model.backward(numpy.ones((16, 3), "float32"))
    expected = numpy.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters() if p.trainable))
    assert optimizer.clip_grad_norm(1e9) == pytest.approx(expected, rel=1e-5)


def test_none_zeroes_a_gradient_and_is_no_value():
    model = model_of()
    model.forward(X)
    model.backward(numpy.ones((16, 3), "float32"))
    for parameter in model.parameters():
        parameter.grad = None
        assert not parameter.grad.any()
        with pytest.raises(ParameterError, match="got None"):
            parameter.value = None


def test_an_error_takes_back_what_backward_promised():
    model = dl.Sequential(dl.LayerNorm(4), dl.Conv1d(2, 2, 1))
    model[0].forward(X)
    with pytest.raises(dl.MinidlError):
        model[0].backward(X[:3])
    assert not model[0].weight.has_grad
    assert not model[0].weight.grad.any()


# by name -------------------------------------------------------------------------------------------------------------


def trained(model):
    return [name for name, parameter in model.named_parameters() if parameter.trainable]


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (("0",), ["2.weight", "2.bias", "3.weight", "3.bias"]),
        (("*.bias",), ["0.weight", "2.weight", "3.weight"]),
        (("0", "2.*", "3.weight"), ["3.bias"]),
        ((), []),
    ],
)
def test_names_freeze_and_unfreeze(names, left):
    model = model_of()
    assert model.freeze(*names) is model
    assert trained(model) == left
    assert model.unfreeze(*names) is model
    assert len(trained(model)) == 6


def test_all_but_the_head(monkeypatch):
    engine = dl.engines.get("numpy")
    seen = calls_of(engine, monkeypatch)
    with dl.use(engine):
        model = model_of()
        model.freeze().unfreeze("3")
        before = copy.deepcopy(model)
        optimizer = dl.Adam(model.parameters())
        train(model, optimizer, 2)
        assert seen == [("linear_backward", (False, True, True))] * 2
        assert sum(array.size for name, array in optimizer.state_dict().items() if name.endswith(".m")) == 21
        for own, old in zip(model.parameters()[:4], before.parameters(), strict=False):
            numpy.testing.assert_array_equal(own.value, old.value)


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: dl.models.GPT2("nano", vocab_size=9, context=8, layers=2, width=16), numpy.ones((2, 5), "int64")),
        (lambda: dl.TransformerEncoderLayer(8, 2, 16), RANDOM.normal(size=(2, 3, 8)).astype("float32")),
        (lambda: dl.LSTM(4, 3), RANDOM.normal(size=(2, 5, 4)).astype("float32")),
        (lambda: dl.Conv2d(2, 3, 3), RANDOM.normal(size=(2, 2, 5, 5)).astype("float32")),
        (lambda: dl.GroupNorm(2, 4), RANDOM.normal(size=(2, 4, 5)).astype("float32")),
        (lambda: dl.PReLU(4), RANDOM.normal(size=(2, 4)).astype("float32")),
    ],
)
def test_nobody_computes_a_gradient_of_what_is_frozen(make, x):
    model = make()
    model.freeze(*[name for name, _ in model.named_parameters()][::2])
    y = model.forward(x)
    y = y[0] if isinstance(y, tuple) else y
    model.backward(numpy.ones_like(y))
    assert [parameter.has_grad for parameter in model.parameters()] == [p.trainable for p in model.parameters()]


def test_frozen_statistics_stay_when_all_of_the_norm_is_frozen():
    model = dl.Sequential({"norm": dl.BatchNorm1d(4), "head": dl.Linear(4, 2)})
    model.freeze("norm.weight")
    model.forward(X)
    moved = model["norm"].running_mean.copy()
    assert moved.any()
    model.freeze("norm.bias")
    model.forward(X + 1)
    numpy.testing.assert_array_equal(model["norm"].running_mean, moved)
    model.unfreeze("norm.bias")
    model.forward(X + 1)
    assert (model["norm"].running_mean != moved).all()


def test_a_lazy_layer_is_frozen_by_its_name():
    model = dl.Sequential({"body": dl.Dense(4), "head": dl.Dense(3)})
    model.freeze("body")
    model.build((4,))
    assert trained(model) == ["head.weight", "head.bias"]


def test_a_name_that_fits_nothing_is_refused():
    model = model_of()
    with pytest.raises(ParameterError, match=r"Sequential\.freeze: 'head' matches no name of this model"):
        model.freeze("0", "head")
    assert len(trained(model)) == 6
    with pytest.raises(ParameterError, match=r"Sequential\.unfreeze: expected names"):
        model.unfreeze(0)


def test_somebodys_own_layer_is_frozen_by_its_name():
    class Own:
        def __init__(self):
            self.gain = dl.layers.Parameter(numpy.ones(3), name="gain")

        def parameters(self):
            return [self.gain]

        def forward(self, x):
            return self.gain.value * x

        def backward(self, dy):
            return self.gain.value * dy

    model = dl.Sequential({"own": Own(), "head": dl.Linear(3, 2)})
    model.freeze("own")
    assert trained(model) == ["head.weight", "head.bias"]


# how far backward goes -----------------------------------------------------------------------------------------------


def count_backwards(layers, monkeypatch):
    """Record the positions of the layers whose backward runs."""
    seen = []
    for index, layer in enumerate(layers):
        whole = layer.backward
        monkeypatch.setattr(
            layer, "backward", lambda dy, *a, i=index, run=whole, **k: (seen.append(i), run(dy, *a, **k))[1]
        )
    return seen


@pytest.mark.parametrize(
    ("trained", "reached"),
    [
        (["transformer.ln_f"], [3]),
        (["transformer.h.2"], [3, 2]),
        (["transformer.h.1", "transformer.ln_f"], [3, 2, 1]),
        (["transformer.wpe"], [3, 2, 1, 0]),
        (["transformer.wte"], [3, 2, 1, 0]),
        (["lm_head"], []),
    ],
)
def test_gpt_goes_back_no_further_than_to_what_is_trained(trained, reached, monkeypatch):
    ids = RANDOM.integers(0, 9, (2, 5))
    sizes = {"vocab_size": 9, "context": 8, "layers": 3, "width": 16, "dropout": 0.0, "tied": False}
    dl.seed(0)
    model = dl.models.GPT2("nano", **sizes)
    model.backward(numpy.ones_like(model.forward(ids)))
    expected = {name: p.grad.copy() for name, p in model.named_parameters()}
    seen = count_backwards([*model.transformer.h, model.transformer.ln_f], monkeypatch)
    model.zero_grad()
    model.freeze().unfreeze(*trained)
    model.backward(numpy.ones_like(model.forward(ids)))
    assert seen == reached
    for name, p in model.named_parameters():
        assert p.has_grad == p.trainable
        if p.trainable:
            numpy.testing.assert_allclose(p.grad, expected[name], rtol=1e-6, atol=1e-7)


def test_an_encoder_goes_back_no_further_either(monkeypatch):
    encoder = dl.layers.TransformerEncoder(dl.TransformerEncoderLayer(8, 2, 16, dropout=0.0), 3, dl.LayerNorm(8))
    model = dl.Sequential({"encoder": encoder, "head": dl.Linear(8, 2)})
    x, dy = RANDOM.normal(size=(2, 3, 8)).astype("float32"), numpy.ones((2, 3, 2), "float32")
    model.forward(x)
    seen = count_backwards([*encoder.layers, encoder.norm], monkeypatch)
    assert model.backward(dy).shape == x.shape
    assert seen == [3, 2, 1, 0]
    for trained, reached in ((["encoder.layers.2"], [3, 2]), (["encoder.norm"], [3]), (["head"], [])):
        del seen[:]
        model.freeze().unfreeze(*trained)
        assert model.backward(dy, input_gradient=False) is None
        assert seen == reached
