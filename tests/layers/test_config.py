"""Every layer of minidl can be written as plain data and made from that again."""

import json

import numpy
import pytest
from layer_samples import LAYERS, made

import minidl as dl
from minidl import models
from minidl.errors import FileFormatError, ParameterError, UnknownNameError


def rebuilt(model):
    """Return the model that a config makes, with the same weights."""
    twin = models.from_config(json.dumps(model.to_config()))
    twin.load_state_dict(model.state_dict())
    return twin


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_every_layer(kind):
    layer = made(kind)
    twin = models.from_config(json.dumps(layer.to_config()))
    assert type(twin) is kind
    assert repr(twin) == repr(layer)
    assert twin.to_config() == layer.to_config()
    if layer.built:
        twin.load_state_dict(layer.state_dict())


class TestChanges:
    """What became of a layer after it was made."""

    def test_settings_that_were_assigned_and_a_bias_that_was_removed(self):
        model = dl.Sequential(dl.Linear(4, 3), dl.Dropout(0.5))
        model[1].p = 0.25
        model[0].bias = None
        assert repr(rebuilt(model)) == "Sequential(Linear(4, 3, bias=False), Dropout(p=0.25))"

    def test_layers_that_were_added_named_and_replaced(self):
        model = dl.Sequential(
            {"first": dl.Linear(4, 4), "second": dl.Residual(dl.Linear(4, 4), shortcut=dl.Linear(4, 4))}
        )
        model.append(dl.Parallel({"left": dl.Identity(), "right": dl.Linear(4, 2)}))
        model["second"].replace("0", dl.Linear(4, 4, bias=False))
        twin = rebuilt(model)
        assert list(twin.state_dict()) == list(model.state_dict())
        x = numpy.ones((2, 4), "float32")
        numpy.testing.assert_array_equal(twin.predict(x), model.predict(x))

    def test_precision_ties_and_what_is_frozen(self):
        model = dl.Sequential(dl.Linear(4, 4), dl.Tanh(), dl.Linear(4, 4)).to(dtype="float64")
        model[2].weight = model[0].weight
        model.freeze("0.bias")
        twin = rebuilt(model)
        assert twin[2].weight is twin[0].weight
        assert [(p.dtype, p.trainable) for p in twin.parameters()] == [
            (p.dtype, p.trainable) for p in model.parameters()
        ]
        assert [p.trainable for p in twin.parameters()] == [True, False, True]

    @pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
    def test_stored_weights(self, dtype):
        model = dl.store_weights(
            dl.Sequential(dl.Dense(4, activation="relu", input_shape=(3,)), dl.Linear(4, 2)), dtype
        )
        x = numpy.ones((2, 3), "float32")
        numpy.testing.assert_array_equal(rebuilt(model).predict(x), model.predict(x))

    def test_adapters(self):
        model = models.GPT2("nano", vocab_size=11, context=6)
        dl.layers.add_lora(model, "*.attn.*", rank=2)
        twin = rebuilt(model)
        assert [p.trainable for p in twin.parameters()] == [p.trainable for p in model.parameters()]
        ids = numpy.arange(5)[None]
        numpy.testing.assert_array_equal(twin.predict(ids), model.predict(ids))

    def test_a_lazy_model_before_and_after_it_is_built(self):
        model = dl.Sequential(dl.Dense(3, kernel_initializer="he_normal", bias_initializer=dl.init.zeros), dl.Dense(2))
        assert not models.from_config(model.to_config()).built
        model.build((4,))
        assert rebuilt(model)[0].input_shape == (4,)


class Double:
    """A layer of one's own that is none of minidl's."""

    def __init__(self, by=2.0, inner=None):
        self.by, self.inner = by, inner

    def forward(self, x):
        return self.by * x

    def backward(self, dy):
        return self.by * dy

    def parameters(self):
        return []


class TestOwnLayers:
    def test_a_class_that_nobody_registered(self):
        model = dl.Sequential(dl.Linear(2, 2), dl.Residual(Double()))
        with pytest.raises(
            ParameterError, match=r"Double, is not a class that files know. Put @minidl\.models\.register_layer"
        ):
            model.to_config()

    def test_registered_classes_of_both_kinds(self):
        @models.register_layer(name="Twice")
        class Twice(Double):
            pass

        @models.register_layer
        class OwnNorm(dl.LayerNorm):
            def __init__(self, size, inner):
                super().__init__(size)
                self.inner = inner

        model = dl.Sequential(Twice(3.0), OwnNorm(4, dl.Linear(4, 2)))
        config = model.to_config()
        twin = models.from_config(config)
        assert (twin[0].by, twin[1].inner.out_features) == (3.0, 2)
        assert twin.to_config() == config
        from minidl.layers import configuration

        del configuration._registered["Twice"]
        with pytest.raises(UnknownNameError, match=r"'Twice'.*must be registered first"):
            models.from_config(config)

    def test_what_cannot_be_registered_or_written(self):
        with pytest.raises(ParameterError, match="minidl has a Linear"):
            models.register_layer(type("Linear", (dl.Layer,), {}))
        with pytest.raises(ParameterError, match="expected a class with forward and backward"):
            models.register_layer(int)
        model = dl.Sequential(dl.Dense(2, kernel_initializer=lambda shape, dtype: numpy.zeros(shape, dtype)))
        with pytest.raises(
            ParameterError, match=r"the model\.0, kernel_initializer is a function, which a config cannot hold"
        ):
            model.to_config()


class TestFiles:
    def test_one_file_is_a_whole_model(self, tmp_path):
        pytest.importorskip("safetensors")
        model = dl.Sequential(dl.Conv2d(1, 2, 3), dl.ReLU(), dl.Flatten(), dl.Dense(3))
        x = numpy.random.default_rng(0).normal(size=(2, 1, 5, 5)).astype("float32")
        expected = model.predict(x)
        model.save(tmp_path / "model.safetensors")
        numpy.testing.assert_array_equal(models.load_model(tmp_path / "model.safetensors").predict(x), expected)
        numpy.testing.assert_array_equal(models.load_model(tmp_path).predict(x), expected)

    def test_shards(self, tmp_path):
        pytest.importorskip("safetensors")
        model = dl.Sequential(dl.Linear(8, 8), dl.Linear(8, 8))
        model.save(tmp_path / "m.safetensors", max_shard_size=300)
        assert repr(models.load_model(tmp_path / "m.safetensors")) == repr(model)

    def test_a_file_says_why_it_holds_no_config(self, tmp_path):
        pytest.importorskip("safetensors")
        dl.Sequential(dl.Linear(2, 2), Double()).save(tmp_path / "m.safetensors")
        with pytest.raises(FileFormatError, match=r"how the model was made: to_config: the model\.1, a Double"):
            models.load_model(tmp_path / "m.safetensors")

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"format": "x"}, FileFormatError, "no config of a model"),
            ({"version": 2}, FileFormatError, "has version 2"),
            ({"model": {"class": "os.system", "arguments": {}}}, UnknownNameError, "class of layers"),
            (
                {"model": {"class": "Linear", "arguments": {"in_features": -1, "out_features": 1}}},
                ParameterError,
                "in_features",
            ),
            ({"model": {"class": "Linear", "arguments": {"wrong": 1}}}, FileFormatError, "damaged"),
            ({"model": 3}, FileFormatError, "damaged"),
            (
                {"parameters": [["0.weight", [9, 9], "float32"]]},
                ParameterError,
                r"had the parameter 0\.weight of shape \(9, 9\)",
            ),
            ({"parameters": [["0.weight", [3, 4], "float32"]]}, ParameterError, "had 1 parameters"),
        ],
    )
    def test_damaged_and_foreign_configs(self, change, error, message):
        config = dl.Sequential(dl.Linear(4, 3)).to_config() | change
        with pytest.raises(error, match=message):
            models.from_config(config)

    def test_text_that_is_no_json(self):
        for text in ("{", "[" * 100_000, "null"):
            with pytest.raises(FileFormatError):
                models.from_config(text)
