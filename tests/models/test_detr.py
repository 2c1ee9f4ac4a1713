"""DETR: shapes, gradients, padding, what is refused, and that it learns."""

import json

import numpy
import pytest

import minidl as dl
from minidl.data import make_shapes
from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.layers import SetLoss
from minidl.models import DETR, from_pretrained
from minidl.models.detr import _read_backbone
from minidl.optim import AdamW

SMALL = {
    "num_classes": 3, "num_queries": 5, "width": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 2, "feed_forward": 12,
    "depths": (1, 1), "channels": (8, 12), "stem": 4, "block": "bottleneck", "dropout": 0.0,
}  # fmt: skip


def make(dtype="float64", seed=0, **changes):
    return DETR(dtype=dtype, generator=numpy.random.default_rng(seed), **(SMALL | changes))


@pytest.mark.parametrize(("each_layer", "norm"), [(False, "batch"), (True, "frozen")])
def test_every_gradient_by_differences(each_layer, norm):
    model, random = make(norm=norm), numpy.random.default_rng(1)
    images, mask = random.normal(size=(2, 3, 24, 16)), numpy.ones((2, 24, 16), bool)
    mask[0, :, 9:] = False
    outputs = model.forward(images, mask, each_layer)
    dy = tuple(random.normal(size=y.shape) for y in outputs)
    dx = model.backward(dy)
    step = 1e-7
    for name, value, gradient in [
        ("images", images, dx),
        *((n, p.value, p.grad.copy()) for n, p in model.named_parameters()),
    ]:
        direction = random.normal(size=value.shape)
        ends, before = [], value.copy()
        for sign in (1, -1):
            value[...] = before + sign * step * direction
            ends.append(
                sum(float((y * d).sum()) for y, d in zip(model.forward(images, mask, each_layer), dy, strict=True))
            )
        value[...] = before
        numeric, analytic = (ends[0] - ends[1]) / (2 * step), float((gradient * direction).sum())
        assert numeric == pytest.approx(analytic, rel=1e-5, abs=1e-5), name


def test_padding_changes_nothing():
    model, random = make(), numpy.random.default_rng(1)
    images = random.normal(size=(1, 3, 32, 32))
    alone = model.forward(images)
    wide = numpy.concatenate([images, numpy.zeros((1, 3, 32, 32))], axis=3)
    mask = numpy.zeros((1, 32, 64), "int64")
    mask[..., :32] = 1
    real = wide.copy()
    real[..., 56:] = 1.0  # where no convolution of the real part looks
    padded, other = model.forward(wide, mask), model.forward(real, mask)
    for one, same, third in zip(alone, padded, other, strict=True):
        numpy.testing.assert_allclose(one, same, rtol=0, atol=0.2)  # but for the convolutions' own borders
        numpy.testing.assert_allclose(same, third, rtol=1e-9)


def test_a_few_steps_learn_one_batch():
    pytest.importorskip("scipy")
    model, loss = make("float32", norm="batch", width=16), SetLoss()
    images, boxes, classes, _ = make_shapes(4, 32, random_state=0)
    optimizer = AdamW(model.parameters(), lr=3e-3)
    values = []
    for _ in range(40):
        values.append(
            float(loss.forward(model.forward(images, each_layer=True), list(zip(classes, boxes, strict=True))))
        )
        optimizer.zero_grad()
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
    assert numpy.mean(values[-5:]) < 0.6 * values[0]


def test_detections_are_in_order_and_leave_no_object_out():
    model = make().eval()
    images = numpy.random.default_rng(2).normal(size=(2, 3, 16, 16))
    logits, boxes = model.forward(images)
    for found, own, own_boxes in zip(model.detect(images), dl.ops.softmax(logits)[0], boxes, strict=True):
        assert (numpy.diff(found.scores) <= 0).all()
        assert found.classes.max() < 3
        best = own[:, :-1].max(axis=1).argmax()
        assert found.scores[0] == own[best, :-1].max()
        numpy.testing.assert_allclose(found.boxes[0, 2:] - found.boxes[0, :2], own_boxes[best, 2:], rtol=1e-12)


def test_settings_of_a_config():
    settings = {
        "model_type": "detr", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "num_queries": 3,
        "backbone_config": {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [8, 8], "embedding_size": 4}, "id2label": {"0": "a", "1": "b"}, "dilation": False,
    }  # fmt: skip
    model = DETR.from_settings(settings)
    assert (model.config.depths, model.config.channels, model.config.block) == ((1, 1), (8, 8), "bottleneck")
    assert model.config.num_classes == 2
    assert not model.backbone["layer1"].trainable
    assert model.backbone["layer2"].trainable
    for wrong in (
        {"dilation": True},
        {"backbone_config": None, "backbone": "swin_tiny"},
        {"decoder_attention_heads": 4},
        {"position_embedding_type": "learned"},
    ):
        with pytest.raises(ParameterError, match="DETR: config.json has"):
            DETR.from_settings(settings | wrong)


@pytest.mark.parametrize(
    "given",
    [
        {"backbone": "resnet18", "backbone_config": None},
        {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet18"}},
    ],
)
def test_a_backbone_of_timm_by_its_name(given):
    assert _read_backbone(given) == {"depths": (2, 2, 2, 2), "channels": (64, 128, 256, 512), "block": "basic"}
    assert _read_backbone({})["channels"] == (256, 512, 1024, 2048)  # a ResNet-50, if nothing is said


@pytest.mark.parametrize("timm", [False, True])
def test_a_folder_with_either_backbone(tmp_path, timm):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    model = make(block="basic", seed=3).eval()
    own = {
        "model_type": "resnet",
        "depths": [1, 1],
        "hidden_sizes": [8, 12],
        "embedding_size": 4,
        "layer_type": "basic",
    }
    settings = {
        "model_type": "detr", "d_model": 8, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "num_queries": 5, "num_labels": 3,
        "backbone_config": own,
    }  # fmt: skip
    tensors = {}
    for name, value in model.state_dict().items():
        if name.startswith("backbone."):
            name = "backbone.conv_encoder.model." + name.removeprefix("backbone.")
            if not timm:
                for ours, theirs in (
                    ("model.conv1.", "model.embedder.embedder.convolution."), ("model.bn1.", "model.embedder.embedder.normalization."),
                    ("layer1.0.", "encoder.stages.0.layers.0."), ("layer2.0.", "encoder.stages.1.layers.0."),
                    (".downsample.0.", ".shortcut.convolution."), (".downsample.1.", ".shortcut.normalization."),
                    (".conv1.", ".layer.0.convolution."), (".bn1.", ".layer.0.normalization."),
                    (".conv2.", ".layer.1.convolution."), (".bn2.", ".layer.1.normalization."),
                ):  # fmt: skip
                    name = name.replace(ours, theirs)
        head = name.startswith(("class_labels", "bbox"))
        tensors[name if head else f"model.{name}"] = numpy.ascontiguousarray(value)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    images = numpy.random.default_rng(2).normal(size=(1, 3, 32, 32))
    for one, other in zip(
        from_pretrained(tmp_path, dtype="float64").forward(images), model.forward(images), strict=True
    ):
        numpy.testing.assert_array_equal(one, other)


def test_errors():
    model = make()
    for wrong in (
        {"width": 6},
        {"heads": 3},
        {"num_queries": 0},
        {"sizes": 3},
        {"block": "x"},
        {"norm": "x"},
        {"channels": (8,)},
    ):
        with pytest.raises(ParameterError, match="DETR"):
            make(**wrong)
    with pytest.raises(ShapeError, match=r"expected images of shape \(N, 3, H, W\), got \(1, 1, 16, 16\)"):
        model.forward(numpy.zeros((1, 1, 16, 16)))
    with pytest.raises(ShapeError, match="pixel_mask must have shape"):
        model.forward(numpy.zeros((1, 3, 16, 16)), numpy.ones((1, 8, 8), bool))
    with pytest.raises(DtypeError, match="pixel_mask must hold booleans"):
        model.forward(numpy.zeros((1, 3, 16, 16)), numpy.ones((1, 16, 16)))
