"""LoRA: what the layer computes, how a model gets it, and how A and B are merged, saved and loaded."""

import copy
import pickle

import numpy
import pytest

import minidl as dl
from minidl.errors import OrderError, ParameterError, ShapeError
from minidl.layers import Layer

RANDOM = numpy.random.default_rng(0)
X = RANDOM.normal(size=(6, 5))


def layer_of(dtype="float64", rank=2, alpha=3.0, dropout=0.0, bias=True):
    dl.seed(0)
    layer = dl.LoRALinear(dl.Linear(5, 4, bias, dtype=dtype), rank, alpha, dropout)
    layer.lora_B.value[...] = numpy.random.default_rng(1).normal(size=(4, rank))
    return layer


def model_of(dtype="float32"):
    dl.seed(0)
    return dl.Sequential(
        {"first": dl.Linear(5, 8, dtype=dtype), "relu": dl.ReLU(), "last": dl.Linear(8, 3, dtype=dtype)}
    )


def small_gpt(dropout=0.0):
    dl.seed(0)
    return dl.models.GPT2("nano", vocab_size=11, context=8, layers=2, heads=2, width=16, dropout=dropout)


def disturb(model, seed=2):
    """Give every B values, as if it had been trained."""
    random = numpy.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            parameter.value[...] = random.normal(size=parameter.shape) * 0.1


def trained(model):
    return [name for name, parameter in model.named_parameters() if parameter.trainable]


# the layer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (6, 5), (2, 3, 5), (0, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_linear_layer_of_the_merged_weight(shape, bias, host_engine):
    with dl.use(host_engine):
        layer = layer_of(bias=bias)
        x = numpy.random.default_rng(3).normal(size=shape)
        w, a, b = (p.value for p in (layer.weight, layer.lora_A, layer.lora_B))
        whole = dl.Linear(5, 4, bias, dtype="float64")
        whole.weight.value[...] = w + 1.5 * b @ a
        if bias:
            whole.bias.value[...] = layer.bias.value
        y = layer.forward(x)
        numpy.testing.assert_allclose(y, whole.forward(x), rtol=1e-12, atol=1e-14)
        dy = numpy.random.default_rng(4).normal(size=y.shape)
        numpy.testing.assert_allclose(layer.backward(dy), whole.backward(dy), rtol=1e-12, atol=1e-14)
        # dL/dA = s B^T dL/dW and dL/dB = s dL/dW A^T, where dL/dW is that of the merged weight
        dw = whole.weight.grad
        numpy.testing.assert_allclose(layer.lora_A.grad, 1.5 * b.T @ dw, rtol=1e-12, atol=1e-13)
        numpy.testing.assert_allclose(layer.lora_B.grad, 1.5 * dw @ a.T, rtol=1e-12, atol=1e-13)
        assert not layer.weight.has_grad


@pytest.mark.parametrize("part", ["", "weight", "lora_A", "lora_B"])
def test_gradients(part, host_engine):
    with dl.use(host_engine):
        layer = layer_of().unfreeze()
        assert dl.gradcheck(layer, X).ok
        if part:  # without one of them the others stay right
            dy = RANDOM.normal(size=(6, 4))
            layer.zero_grad()
            layer.forward(X)
            dx = layer.backward(dy)
            expected = {name: p.grad.copy() for name, p in layer.named_parameters()}
            layer.freeze(part)
            layer.zero_grad()
            numpy.testing.assert_array_equal(layer.backward(dy), dx)
            for name, p in layer.named_parameters():
                assert p.has_grad == (name != part)
                if name != part:
                    numpy.testing.assert_array_equal(p.grad, expected[name])


def test_wherever_the_arrays_are(engine):
    """Forward, backward, merging and files on each engine, the double of CuPy's arrays too."""
    expected = layer_of()
    dy = RANDOM.normal(size=(6, 4))
    true_y = expected.forward(X)
    dx = expected.backward(dy)
    with dl.use(engine):
        model = dl.layers.Chain({"map": dl.LoRALinear(dl.Linear(5, 4, dtype="float64"), 2)})
        layer = model["map"]
        layer.linear.load_state_dict({name: getattr(expected, name).value for name in ("weight", "bias")})
        state = {f"map.{name}": value for name, value in expected.state_dict().items() if name.startswith("lora")}
        dl.load_lora(model, {**state, "map.lora_alpha": numpy.float32(3.0)})
        y = layer.forward(engine.asarray(X))
        numpy.testing.assert_allclose(engine.to_host(y), true_y, rtol=1e-12, atol=1e-14)
        numpy.testing.assert_allclose(engine.to_host(layer.backward(engine.asarray(dy))), dx, rtol=1e-12, atol=1e-14)
        for name in ("lora_A", "lora_B"):
            own, other = getattr(layer, name).grad, getattr(expected, name).grad
            numpy.testing.assert_allclose(engine.to_host(own), other, rtol=1e-12, atol=1e-13)
        layer.merge()
        merged = engine.to_host(layer.forward(engine.asarray(X)))
        numpy.testing.assert_allclose(merged, engine.to_host(y), rtol=1e-12, atol=1e-14)
        layer.unmerge()
        layer.dropout = 0.5
        assert (engine.to_host(layer.forward(engine.asarray(X))) != merged).any()
        assert layer.backward(engine.asarray(dy)).shape == (6, 5)
        made = dl.LoRALinear(layer.linear, 2)  # its A and B are made where the weight is
        assert type(made.lora_A.value) is type(layer.weight.value)


def test_gradients_through_an_activation():
    layer = dl.LoRALinear(dl.Dense(4, activation="tanh", input_shape=5, dtype="float64"), 2)
    layer.lora_B.value[...] = 0.3
    assert dl.gradcheck(layer.unfreeze(), X).ok


def test_dropout_drops_on_the_way_to_a_only():
    layer = layer_of(dropout=0.5)
    plain = layer.eval().forward(X)
    layer.train()
    dl.seed(7)
    y = layer.forward(X)
    assert (y != plain).any()
    dl.seed(7)
    dropped, (scale,) = dl.ops.dropout(X, 0.5, dl.random.generator())
    a, b, w = layer.lora_A.value, layer.lora_B.value, layer.weight.value
    expected = X @ w.T + layer.bias.value + 1.5 * dropped @ a.T @ b.T
    numpy.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
    dy = RANDOM.normal(size=(6, 4))
    numpy.testing.assert_allclose(layer.backward(dy), dy @ w + 1.5 * scale * (dy @ b @ a), rtol=1e-11, atol=1e-13)
    numpy.testing.assert_allclose(layer.lora_A.grad, 1.5 * (dy @ b).T @ dropped, rtol=1e-11, atol=1e-13)


def test_no_work_that_nobody_wants(monkeypatch):
    layer, engine, seen = layer_of(), dl.engines.get("numpy"), []
    whole = engine.linear_backward

    def watched(dy, cache, into, add, wanted):
        seen.append(wanted)
        return whole(dy, cache, into, add, wanted)

    monkeypatch.setattr(engine, "linear_backward", watched)
    with dl.use(engine):
        layer.forward(X)
        dy = numpy.ones((6, 4))
        assert layer.backward(dy, input_gradient=False) is None
        assert seen == [(True, True, False), (False, True, False)]
        del seen[:]
        layer.freeze("lora_A")
        assert layer.backward(dy, input_gradient=False) is None
        assert seen == [(False, True, False)]
        del seen[:]
        layer.freeze()
        assert layer.backward(dy, input_gradient=False) is None
        assert seen == []
        assert layer.backward(dy).shape == (6, 5)


def test_it_begins_as_the_linear_layer():
    linear = dl.Linear(400, 30)
    layer = dl.LoRALinear(linear, 8)
    x = RANDOM.normal(size=(3, 400)).astype("float32")
    numpy.testing.assert_array_equal(layer.forward(x), linear.forward(x))
    assert layer.lora_A.value.std() == pytest.approx(1 / 20, rel=0.1)
    assert not layer.lora_B.value.any()
    assert layer.scaling == 1.0
    assert layer.weight is linear.weight
    assert [p.trainable for p in layer.parameters()] == [False, False, True, True]
    assert list(layer.state_dict()) == ["weight", "bias", "lora_A", "lora_B"]
    assert (layer.input_shape, layer.output_shape((7, 400))) == ((400,), (7, 30))
    assert layer.flops((7, 400)) == linear.flops((7, 400)) + 2 * 7 * 8 * 430


def test_float32_and_integers():
    layer = layer_of("float32")
    assert layer.forward(X).dtype == numpy.float32
    with pytest.raises(dl.errors.DtypeError, match="LoRALinear"):
        layer.forward(numpy.ones((2, 5), int))
    with pytest.raises(ShapeError):
        layer.forward(numpy.ones((2, 4), "float32"))


def test_numbers_of_numpy_and_no_numbers():
    model = model_of()
    dl.add_lora(model, "first", numpy.int64(2), numpy.float32(4))
    assert (type(model["first"].rank), model["first"].scaling) == (int, 2.0)
    assert dl.LoRALinear(dl.Linear(3, 2), numpy.int32(1)).lora_A.shape == (1, 3)
    for rank in (1.5, "2", True, None):
        with pytest.raises(ParameterError, match="rank"):
            dl.LoRALinear(dl.Linear(3, 2), rank)
        with pytest.raises(ParameterError, match="rank"):
            dl.add_lora(model, "last", rank)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((dl.ReLU(), 2), "expected a Linear or a Dense, got ReLU"),
        ((dl.Dense(3), 2), "it has no weight to adapt yet"),
        ((dl.Dense(3, activation="softmax", input_shape=2), 2), "its activation is part of the loss"),
        ((dl.Linear(3, 2), 0), "rank must be at least 1, got 0"),
        ((dl.Linear(3, 2), 1, 0.0), "alpha must be positive, got 0.0"),
        ((dl.Linear(3, 2), 1, 1.0, 1.0), "dropout must be from 0"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(ParameterError, match=message):
        dl.LoRALinear(*arguments)


# merging -------------------------------------------------------------------------------------------------------------


def test_merging_and_back():
    layer = layer_of(rank=3)
    before, weight = layer.forward(X), layer.weight.value.copy()
    layer.merge()
    assert layer.merged
    assert "merged" in repr(layer)
    numpy.testing.assert_allclose(layer.forward(X), before, rtol=1e-12, atol=1e-14)
    assert list(layer.state_dict()) == ["weight", "bias"]  # a linear layer, so nothing is counted twice
    with pytest.raises(OrderError, match="merged already"):
        layer.merge()
    with pytest.raises(OrderError, match="call unmerge"):
        layer.backward(before)
    layer.alpha = 100.0  # what was added is subtracted
    layer.unmerge()
    layer.alpha = 3.0
    numpy.testing.assert_allclose(layer.weight.value, weight, rtol=1e-12, atol=1e-14)
    numpy.testing.assert_allclose(layer.forward(X), before, rtol=1e-12, atol=1e-14)
    with pytest.raises(OrderError, match="it is not merged"):
        layer.unmerge()


def test_a_model_that_is_converted_while_merged():
    layer = layer_of()
    y = layer.forward(X)
    layer.merge()
    layer.to(dtype="float32")
    layer.unmerge()
    assert {p.dtype for p in layer.parameters()} == {numpy.dtype("float32")}
    numpy.testing.assert_allclose(layer.forward(X), y, rtol=1e-4, atol=1e-5)


def test_a_merged_model_is_the_plain_one():
    model = model_of()
    x = X.astype("float32")
    dl.add_lora(model, ["first", "last"], rank=2, alpha=4)
    disturb(model)
    y = model.forward(x)
    with pytest.raises(ParameterError, match=r"store_weights: first is a LoRALinear; call merge_lora\(model\) first"):
        dl.store_weights(model)
    model["first"].merge()  # one was merged by hand
    dl.merge_lora(model)
    numpy.testing.assert_allclose(model.forward(x), y, rtol=1e-5, atol=1e-6)
    assert list(model.state_dict()) == list(model_of().state_dict())
    assert [type(layer) for layer in model.layers] == [dl.Linear, dl.ReLU, dl.Linear]
    with pytest.raises(ParameterError, match="there is no LoRALinear in Sequential"):
        dl.merge_lora(model)


# a model -------------------------------------------------------------------------------------------------------------


def test_a_model_gets_it_by_names_and_computes_the_same():
    model, x = model_of(), X.astype("float32")
    y = model.forward(x)
    assert dl.add_lora(model, "*", rank=2) == ["first", "last"]
    numpy.testing.assert_allclose(model.forward(x), y, rtol=1e-6, atol=1e-7)
    assert trained(model) == ["first.lora_A", "first.lora_B", "last.lora_A", "last.lora_B"]
    optimizer = dl.AdamW(model.parameters())
    [segment] = optimizer.param_groups[0].segments  # one pass, over A and B alone
    assert segment.values.size == segment.buffer.values.size == 2 * (5 + 8 + 8 + 3)


def test_training_moves_nothing_else(host_engine):
    with dl.use(host_engine):
        model = model_of()
        dl.add_lora(model, "first", rank=2)
        model.unfreeze("last")
        before = model.state_dict()
        model.compile(dl.Adam(model.parameters(), lr=0.05), "sparse_categorical_crossentropy")
        x, y = X.astype("float32"), numpy.arange(6) % 3
        history = model.fit(x, y, epochs=15, seed=0).history["loss"]
        assert history[-1] < 0.7 * history[0]
        moved = [name for name, value in model.state_dict().items() if (value != before[name]).any()]
        assert moved == ["first.lora_A", "first.lora_B", "last.weight", "last.bias"]


def test_in_the_blocks_of_gpt_and_of_the_transformer():
    """Whatever refers to a layer finds the new one: attributes, and the chain inside a block that runs two of them."""
    ids = numpy.arange(6).reshape(2, 3)
    gpt = small_gpt().eval()
    block = dl.layers.TransformerEncoder(dl.TransformerEncoderLayer(8, 2, 16, dropout=0.0), 2)
    x = RANDOM.normal(size=(2, 3, 8)).astype("float32")
    cases = [
        (gpt, ids, "transformer.h.*", 8),
        (block, x, ["layers.*.linear*", "layers.0.self_attn.out_proj"], 5),
    ]
    for model, inputs, names, count in cases:
        y = model.forward(inputs)
        assert len(dl.add_lora(model, names, rank=2)) == count
        numpy.testing.assert_allclose(model.forward(inputs), y, rtol=1e-5, atol=1e-6)
        disturb(model)
        changed = model.forward(inputs)
        model.backward(numpy.ones_like(changed))
        assert [name for name, p in model.named_parameters() if p.has_grad] == trained(model)
        assert len(trained(model)) == 2 * count
        assert all(p.grad.any() for p in model.parameters() if p.trainable)
        dl.merge_lora(model)
        assert abs(changed - y).max() > 1e-3
        numpy.testing.assert_allclose(model.forward(inputs), changed, rtol=1e-4, atol=1e-5)


def test_a_tied_weight_is_refused():
    with pytest.raises(ParameterError, match=r"lm_head\.weight is also transformer\.wte\.weight, which merging"):
        dl.add_lora(small_gpt(), "*")


def test_a_model_is_unchanged_where_it_is_refused():
    model = model_of()
    for arguments, message in (
        (("relu",), "'relu' matches no linear layer of this model"),
        ((["first", "frist"],), "'frist' matches no linear layer"),
        (("first", 0), "add_lora: rank must be at least 1"),
    ):
        with pytest.raises(ParameterError, match=message):
            dl.add_lora(model, *arguments)
    assert len(trained(model)) == 4
    with pytest.raises(ParameterError, match="expected a model, got list"):
        dl.add_lora([dl.Linear(2, 2)], "0")


def test_layers_in_lists_dicts_and_subclasses():
    class Model(Layer):
        def __init__(self):
            super().__init__()
            self.branches = {"left": [dl.Linear(2, 2)], "right": (dl.Linear(2, 2),)}

    class Net(dl.Sequential):
        def __init__(self):
            super().__init__(dl.Linear(2, 2))
            self.extra = dl.Linear(2, 2)

    for model in (Model(), Net()):
        paths = dl.add_lora(model, "*", rank=1)
        assert len(paths) == 2
        found = [path for path, layer in model.named_layers() if isinstance(layer, dl.LoRALinear)]
        assert found == paths


def test_adding_more_keeps_what_is_there():
    model = model_of()
    dl.add_lora(model, "first", rank=2)
    disturb(model)
    kept = model["first"].lora_B.value.copy()
    assert dl.add_lora(model, "*", rank=1) == ["last"]
    numpy.testing.assert_array_equal(model["first"].lora_B.value, kept)
    assert len(trained(model)) == 4


def test_copies_and_pickles_share_nothing():
    model, x = model_of(), X.astype("float32")
    dl.add_lora(model, "*", rank=2)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        disturb(twin)
        assert (twin.forward(x) != model.forward(x)).any()
        assert twin["first"].weight is twin["first"].linear.weight


# files ---------------------------------------------------------------------------------------------------------------


def test_only_a_and_b_are_saved(tmp_path):
    pytest.importorskip("safetensors")
    model, other, x = model_of(), model_of(), X.astype("float32")
    dl.add_lora(model, "*", rank=2, alpha=8)
    dl.add_lora(other, "*", rank=2)
    disturb(model)
    dl.save_lora(model, tmp_path / "lora.safetensors")
    dl.load_lora(other, tmp_path / "lora.safetensors")
    numpy.testing.assert_array_equal(other.forward(x), model.forward(x))
    assert other["first"].alpha == 8.0
    assert list(dl.weights.load_file(tmp_path / "lora.safetensors")) == list(dl.lora_state_dict(model))


def test_the_weights_load_before_and_after():
    """The names of a model's own weights stay, so its files fit with LoRA and without it."""
    plain, model = model_of(), model_of()
    dl.add_lora(model, "first")
    found = model.load_state_dict(plain.state_dict(), strict=False)
    assert found.missing_keys == ["first.lora_A", "first.lora_B"]
    assert not found.unexpected_keys


def test_files_of_others_by_their_names():
    model, other = model_of(), model_of()
    dl.add_lora(model, "*", rank=2)
    dl.add_lora(other, "*", rank=2, alpha=6)
    disturb(model)
    state = {
        f"base_model.model.{name}.weight": value
        for name, value in dl.lora_state_dict(model).items()
        if not name.endswith("alpha")
    }
    names = {f"base_model.model.*.lora_{which}.weight": f"*.lora_{which}" for which in "AB"}
    dl.load_lora(other, state, names=names)
    numpy.testing.assert_array_equal(other["last"].lora_B.value, model["last"].lora_B.value)
    assert other["last"].alpha == 6.0


def test_what_does_not_fit_changes_nothing():
    model, narrow = model_of(), model_of()
    dl.add_lora(model, "*", rank=2)
    dl.add_lora(narrow, "first", rank=1)
    disturb(narrow)
    before = dl.lora_state_dict(model)
    with pytest.raises(ParameterError, match=r"missing: last\.lora_A, last\.lora_B"):
        dl.load_lora(model, dl.lora_state_dict(narrow))
    wide = {**before, "first.lora_A": numpy.zeros((3, 5), "float32")}
    with pytest.raises(ShapeError, match=r"first\.lora_A has shape \(2, 5\), got \(3, 5\)"):
        dl.load_lora(model, wide)
    for name, value in dl.lora_state_dict(model).items():
        numpy.testing.assert_array_equal(value, before[name])
    model["first"].merge()
    with pytest.raises(ParameterError, match="first is merged"):
        dl.load_lora(model, before)
    for function in (dl.lora_state_dict, dl.merge_lora, lambda m: dl.load_lora(m, before)):
        with pytest.raises(ParameterError, match="put some there with add_lora first"):
            function(model_of())
