"""Every model of minidl can be written as plain data and made from that again, with the same answers."""

import json

import numpy
import pytest

import minidl as dl
from minidl import models

IDS = numpy.arange(6).reshape(2, 3)
IMAGES = numpy.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype("float32")
TOWER = models.clip.Tower(layers=1, heads=2, width=8, hidden=16)
DETR = {
    "num_classes": 3, "num_queries": 5, "width": 8, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 12,
    "depths": (1, 1), "channels": (8, 12), "stem": 4, "block": "bottleneck",
}  # fmt: skip
CLIP = {"image_size": 8, "patch_size": 4, "vocab_size": 10, "context": 6, "end": 9, "projection": 4}
VIT = {"image_size": 4, "patch_size": 2, "channels": 1, "layers": 1, "heads": 2, "width": 16, "classes": 4}
BERT = {"vocab_size": 11, "context": 8, "layers": 2, "heads": 2, "width": 4, "hidden": 6, "labels": 3}
MODELS = {
    "mlp": (lambda: models.mlp([4, 8, 3], "tanh", 0.1), (numpy.ones((2, 4), "float32"),)),
    "lenet": (lambda: models.lenet(), (numpy.ones((1, 1, 28, 28), "float32"),)),
    "small_vgg": (lambda: models.small_vgg(in_channels=3), (numpy.ones((1, 3, 32, 32), "float32"),)),
    "small_resnet": (lambda: models.small_resnet(widths=(4, 8), in_channels=3), (IMAGES,)),
    "mobilenet_v2": (lambda: models.mobilenet_v2(10, 0.1, "cifar"), (IMAGES,)),
    "unet": (lambda: models.unet(2, channels=3, width=2, depth=2), (IMAGES,)),
    "GPT2": (lambda: models.GPT2("nano", vocab_size=11, context=6), (IDS,)),
    "BERT": (lambda: models.BERT(models.BERTConfig(**BERT), head="token_classification"), (IDS,)),
    "ViT": (lambda: models.ViT(**VIT), (IMAGES[:, :1, :4, :4],)),
    "DETR": (lambda: models.DETR(**DETR), (IMAGES,)),
    "CLIP": (lambda: models.CLIP(vision=TOWER, text=TOWER, **CLIP), (IMAGES[:, :, :8, :8], numpy.array([[1, 2, 9], [3, 9, 0]]))),
    "Transformer": (lambda: models.Transformer(9, 9, 8, 2, 1, 1, 12, context=10), (IDS, IDS)),
    "CharRNN": (lambda: models.CharRNN(11, 4, 5, cell="gru"), (IDS,)),
    "TwoTower": (lambda: models.TwoTower(6, 6, 4), (numpy.array([0, 1]), IDS[:, :2])),
    "Ensemble": (lambda: models.Ensemble([dl.Sequential(dl.Linear(2, 2)), dl.Linear(2, 2)], "sigmoid"), (numpy.ones((3, 2), "float32"),)),
    "TabularNetwork": (lambda: models.TabularNetwork(3, {1: 4, 2: ("no", "yes")}, (6,)), (numpy.array([[0.5, 3, 1]], "float32"),)),
}  # fmt: skip


def flat(outputs):
    if isinstance(outputs, numpy.ndarray):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    return [array for part in parts for array in flat(part)]


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name, tmp_path):
    pytest.importorskip("safetensors")
    make, inputs = MODELS[name]
    dl.seed(0)
    model = make()
    model.save(tmp_path / "model.safetensors")
    twin = models.load_model(tmp_path / "model.safetensors")
    assert type(twin) is type(model)
    assert json.dumps(twin.to_config()) == json.dumps(model.to_config())
    with dl.inference(evaluate=True):
        for own, other in zip(flat(model.forward(*inputs)), flat(twin.forward(*inputs)), strict=True):
            numpy.testing.assert_array_equal(own, other)


def test_bert_without_its_pooler():
    """A file of weights may have none; then the model has none either."""
    model = models.BERT(models.BERTConfig(**BERT), head="features")
    model.head = None
    twin = models.from_config(json.dumps(model.to_config()))
    assert twin.head is None
    assert list(twin.state_dict()) == list(model.state_dict())


def test_there_is_one_for_every_public_model():
    """A model that is added must be added here."""
    known = {model for model in models.__all__ if isinstance(getattr(models, model), type)}
    layers = {model for model in known if issubclass(getattr(models, model), dl.Layer)}
    assert layers - {"Sequential", "BasicBlock"} == {name for name in MODELS if isinstance(getattr(models, name), type)}
