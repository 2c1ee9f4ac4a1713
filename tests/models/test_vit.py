"""Vision Transformers: gradients, other picture sizes, attention maps, and what is refused."""

import json

import numpy
import pytest
from directions import check_direction

import minidl as dl
from minidl.errors import OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.models import ViT, ViTConfig, from_pretrained


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


SMALL = {"image_size": 6, "patch_size": 2, "channels": 1, "layers": 1, "heads": 2, "width": 4, "hidden": 6}
KINDS = {
    "tokens": {},
    "classes": {"classes": 3},
    "dinov2": {"classes": 2, "mean_head": True, "layer_scale": 0.5, "gated": True, "registers": 2, "antialias": True},
}
SETTINGS = {
    "vit": {"model_type": "vit", "image_size": 12, "patch_size": 4, "hidden_size": 8, "intermediate_size": 12},
    "dinov2": {"model_type": "dinov2", "image_size": 12, "patch_size": 4, "hidden_size": 8, "mlp_ratio": 2},
}  # fmt: skip
for _settings in SETTINGS.values():
    _settings |= {"num_hidden_layers": 1, "num_attention_heads": 2}


def build(random, **changes):
    """Build a small model in float64 whose weights are not small."""
    model = ViT(ViTConfig(**SMALL), dtype="float64", **changes)
    for parameter in model.parameters():
        parameter.value[...] = random.normal(size=parameter.shape) * 0.5
    return model


@pytest.mark.parametrize("size", [(6, 6), (4, 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind, size, random, host_engine):
    x = random.normal(size=(2, 1, *size))
    with dl.use(host_engine):
        model = build(random, **KINDS[kind])
        check_direction(model, x)
        dy, v = random.normal(size=model.forward(x).shape), random.normal(size=x.shape)
        expected = (model.backward(dy) * v).sum()
        found = sum(sign * (model.forward(x + sign * 1e-5 * v) * dy).sum() for sign in (1, -1)) / 2e-5
    assert found == pytest.approx(expected, rel=1e-6)


def test_positions_that_are_all_one_stay_so_on_another_grid(random):
    embeddings = build(random).embeddings
    embeddings.positions.value[:, 1:] = embeddings.positions.value[:, 1:2]
    small, large = (embeddings.forward(numpy.full((1, 1, n, n), 0.3)) for n in (6, 10))
    numpy.testing.assert_allclose(large[:, :10], small, rtol=1e-12)


def test_hidden_states_end_in_the_output(random):
    model, x = build(random), random.normal(size=(2, 1, 6, 6))
    states = model.hidden_states(x)
    assert [state.shape for state in states] == [(2, 10, 4)] * 2
    numpy.testing.assert_array_equal(model.norm.forward(states[-1]), model.forward(x))


def test_attention_maps(random):
    model = build(random, registers=2)
    with pytest.raises(OrderError, match="call forward"):
        model.class_attention()
    model.forward(random.normal(size=(3, 1, 4, 6)))
    [weights] = model.attention_maps()
    numpy.testing.assert_allclose(weights.sum(axis=-1), 1)
    numpy.testing.assert_array_equal(model.class_attention(0)[1, 1].ravel(), weights[1, 1, 0, 3:])
    assert model.class_attention().shape == (3, 2, 2, 3)
    with pytest.raises(ParameterError, match="no layer 1; it has 1"):
        model.class_attention(1)


def test_maps_over_the_pictures(random, tmp_path):
    pytest.importorskip("matplotlib")
    model, images = build(random), random.normal(size=(2, 1, 6, 6))
    model.forward(images)
    dl.inspection.save_images(tmp_path / "a.png", images, over=model.class_attention().mean(axis=1))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_it_learns_where_a_bright_patch_is(random):
    dl.seed(0)
    model = ViT(image_size=4, patch_size=2, channels=1, layers=1, heads=2, width=16, classes=4)
    labels = random.integers(0, 4, 64)
    images = numpy.zeros((64, 1, 2, 2, 2, 2), "float32")
    images[numpy.arange(64), 0, labels // 2, :, labels % 2] = 1
    images = images.reshape(64, 1, 4, 4)
    model.compile(dl.Adam(model.parameters(), lr=0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, epochs=40, verbose=0, seed=0)
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] == 1


def test_pictures_that_are_no_patches_are_refused(random):
    model = build(random)
    for shape in [(1, 1, 6, 5), (1, 3, 6, 6), (1, 6, 6), (1, 1, 0, 6)]:
        with pytest.raises(ShapeError, match=r"images of shape \(N, 1, H, W\) with H and W multiples of 2"):
            model.forward(numpy.zeros(shape))


def test_settings_are_checked():
    with pytest.raises(ParameterError, match="there is no setting 'depth'; there are "):
        ViT("S/16", depth=3)
    with pytest.raises(UnknownNameError, match="S/16"):
        ViT("XS/16")
    with pytest.raises(UnknownNameError, match="activation of ViT 'swish'"):
        ViT(ViTConfig(**SMALL), activation="swish")
    with pytest.raises(ParameterError, match="patch_size must divide image_size"):
        ViT("Ti/16", image_size=40)
    with pytest.raises(ParameterError, match="classes must be 0 or more"):
        ViT(ViTConfig(**SMALL), classes=-1)
    with pytest.raises(ParameterError, match="expected a ViTConfig or a name"):
        ViT(3)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("vit", {"qkv_bias": False}, "qkv_bias = False; minidl has True"),
        ("vit", {"pooler_act": "relu"}, "pooler_act = 'relu'; minidl has 'tanh'"),
        ("vit", {"hidden_act": "gelu_fast"}, "hidden_act = 'gelu_fast'"),
        ("vit", {"architectures": ["ViTForMaskedImageModeling"]}, "architectures = .*; minidl has None, .*'ViTModel'"),
        ("vit", {"image_size": [12, 16]}, r"image_size = \[12, 16\]; minidl has squares"),
        ("vit", {"patch_size": "4"}, "patch_size = '4'"),
        ("dinov2", {"drop_path_rate": 0.1}, "drop_path_rate = 0.1"),
        ("dinov2", {"hidden_dropout_prob": 0.1}, "hidden_dropout_prob = 0.1"),
    ],
)
def test_what_a_config_cannot_have(kind, changes, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS[kind] | changes))
    with pytest.raises(ParameterError, match=message):
        from_pretrained(tmp_path)


def test_a_pooler(random):
    model = build(random, pooler=True)
    y = random.normal(size=(2, 5, model.config.width))
    dense = model.pooler["dense"]
    numpy.testing.assert_allclose(model.pooled(y), numpy.tanh(y[:, 0] @ dense.weight.value.T + dense.bias.value))
    assert ViT.from_settings(SETTINGS["vit"]).pooler is not None
    for kind, classes in [("vit", "ViTForImageClassification"), ("dinov2", "Dinov2Model")]:
        without = ViT.from_settings(SETTINGS[kind] | {"architectures": [classes]})
        with pytest.raises(OrderError, match="ViT: there is no pooler"):
            without.pooled(y)


def test_a_config_gives_the_sizes():
    model = ViT.from_settings(
        SETTINGS["dinov2"]
        | {"architectures": ["Dinov2ForImageClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}
    )
    assert model.head.weight.shape == (3, 16)
    assert model.output_shape((3, 12, 12)) == (3,)
    assert ViT.from_settings(SETTINGS["vit"] | {"patch_size": [4, 4]}).output_shape((3, 16, 12)) == (13, 8)
