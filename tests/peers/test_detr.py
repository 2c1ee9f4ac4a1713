"""DETR, its loss and boxes against Hugging Face's and PyTorch's, with the same weights."""

import functools
import json
import re

import numpy
import pytest

import minidl as dl
from minidl import weights
from minidl.layers import SetLoss
from minidl.models import from_pretrained
from minidl.ops import box_geometry

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

TOLERANCE = {"float64": {"rtol": 1e-9, "atol": 1e-12}, "float32": {"rtol": 1e-3, "atol": 5e-5}}
"""In float32 PyTorch's gradient of the queries, of size 2e-5, is itself off by 1e-5 from that in float64; here it is off by 1e-11."""


def make_folder(path, layer_type="basic"):
    """Save a small random DETR of Hugging Face's, and return it in float64."""
    torch.manual_seed(3)
    backbone = transformers.ResNetConfig(
        embedding_size=6, hidden_sizes=[8, 12, 16], depths=[1, 2, 1], layer_type=layer_type, out_features=["stage3"]
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, num_queries=7, d_model=16, encoder_layers=2, decoder_layers=3,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=20, decoder_ffn_dim=20, num_labels=4,
        attn_implementation="eager",
    )  # fmt: skip
    twin = transformers.DetrForObjectDetection(config).double().eval()
    for name, buffer in twin.named_buffers():  # statistics that are not 0 and 1, as those of a file are not
        if "running_var" in name or name.endswith("weight"):
            buffer.uniform_(0.5, 2.0)
        elif "backbone" in name and buffer.is_floating_point():
            buffer.normal_(0.0, 0.3)
    with torch.no_grad():
        for parameter in twin.parameters():  # biases, too
            parameter += 0.05 * torch.randn_like(parameter)
    twin.save_pretrained(path)
    return twin


@pytest.fixture
def pictures():
    """Two pictures, one of which is padded below and at the right, and their objects; the second picture has three."""
    random = numpy.random.default_rng(0)
    images, mask = random.normal(size=(2, 3, 80, 112)), numpy.ones((2, 80, 112), "int64")
    mask[0, 55:], mask[0, :, 70:] = 0, 0
    images *= mask[:, None]
    targets = [
        (random.integers(0, 4, count), numpy.concatenate([random.uniform(0.3, 0.7, (count, 2)), random.uniform(0.1, 0.5, (count, 2))], axis=1))
        for count in (1, 3)
    ]  # fmt: skip
    return images, mask, targets


def own_names(twin):
    from minidl.models.detr import _translate

    return {_translate(name): parameter for name, parameter in twin.named_parameters()}


@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_outputs_loss_and_every_gradient(tmp_path, pictures, monkeypatch, dtype, layer_type, auxiliary):
    twin = make_folder(tmp_path, layer_type).to(getattr(torch, dtype))
    twin.requires_grad_(True)  # of the backbone, too
    images, mask, targets = pictures
    images = images.astype(dtype)
    tx = torch.tensor(images, requires_grad=True)
    given = []
    for layer in twin.model.decoder.layers:
        layer.register_forward_hook(lambda layer, inputs, output: given.append(output))
    out = twin(tx, pixel_mask=torch.tensor(mask))
    hidden = torch.stack(given)
    labels = [{"class_labels": torch.tensor(k), "boxes": torch.tensor(b.astype(dtype))} for k, b in targets]
    # With auxiliary_loss in its config, the twin feeds normed features to the next layer, unlike the paper; so the heads are applied here.
    normed = twin.model.decoder.layernorm(hidden)
    classes, boxes = twin.class_labels_classifier(normed), twin.bbox_predictor(normed).sigmoid()
    twin.config.auxiliary_loss = auxiliary
    monkeypatch.setattr(torch, "ones", functools.partial(torch.ones, dtype=getattr(torch, dtype)))  # its class weights
    their_loss, their_parts, _ = twin.loss_function(classes[-1], labels, "cpu", boxes[-1], twin.config, classes, boxes)
    their_loss.backward()

    model = from_pretrained(tmp_path, dtype=dtype)
    assert not model.backbone["conv1"].trainable
    assert not model.backbone["layer1"].trainable
    model.trainable = True
    logits, found = model.forward(images, mask, each_layer=auxiliary)
    loss = SetLoss()
    value = loss.forward((logits, found), targets)
    dx = model.backward(loss.backward())

    close = TOLERANCE[dtype]
    last = (logits[-1], found[-1]) if auxiliary else (logits, found)
    numpy.testing.assert_allclose(last[0], out.logits.detach(), **close)
    numpy.testing.assert_allclose(last[1], out.pred_boxes.detach(), **close)
    if auxiliary:
        numpy.testing.assert_allclose(logits, classes.detach(), **close)
        numpy.testing.assert_allclose(found, boxes.detach(), **close)
    numpy.testing.assert_allclose(value, their_loss.item(), rtol=close["rtol"])
    assert loss.parts["giou"] == pytest.approx(
        sum(v.item() for k, v in their_parts.items() if k.startswith("loss_giou")), rel=close["rtol"]
    )
    numpy.testing.assert_allclose(dx, tx.grad, **close)
    theirs = own_names(twin)
    own = dict(model.named_parameters())
    assert own.keys() == theirs.keys()
    for name, parameter in own.items():
        scale = float(abs(theirs[name].grad).max())
        numpy.testing.assert_allclose(
            parameter.grad, theirs[name].grad, rtol=close["rtol"], atol=close["atol"] * max(scale, 1), err_msg=name
        )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hidden_states(tmp_path, pictures, dtype):
    twin = make_folder(tmp_path).to(getattr(torch, dtype))
    images, mask, _ = pictures
    images = images.astype(dtype)
    out = twin.model(torch.tensor(images), pixel_mask=torch.tensor(mask), output_hidden_states=True)
    model = from_pretrained(tmp_path, dtype=dtype)
    seen = {}
    for part, layers in (("encoder", model.encoder.layers), ("decoder", model.decoder.layers)):
        for number, layer in enumerate(layers):
            watch(layer, seen, (part, number))
    model.forward(images, mask)
    for number, theirs in enumerate(out.encoder_hidden_states[-2:]):
        numpy.testing.assert_allclose(seen["encoder", number], theirs.detach(), **TOLERANCE[dtype])
    for number, theirs in enumerate(out.decoder_hidden_states[1:-1]):  # the last is normed
        numpy.testing.assert_allclose(seen["decoder", number], theirs.detach(), **TOLERANCE[dtype])


def watch(layer, seen, key):
    """Keep what the forward of a layer returns."""
    forward = layer.forward

    def watched(*inputs):
        seen[key] = forward(*inputs)
        return seen[key]

    object.__setattr__(layer, "forward", watched)


def test_without_a_mask_and_on_each_engine(tmp_path, pictures):
    twin, images = make_folder(tmp_path), pictures[0]
    out = twin(torch.tensor(images))
    for name in ("numpy", "native"):
        if not dl.engines()[name]:
            continue
        with dl.use(name):
            logits, boxes = from_pretrained(tmp_path, dtype="float64").forward(images)
        numpy.testing.assert_allclose(logits, out.logits.detach(), **TOLERANCE["float64"])
        numpy.testing.assert_allclose(boxes, out.pred_boxes.detach(), **TOLERANCE["float64"])


PUBLISHED = {
    "activation_dropout": 0.0, "activation_function": "relu", "architectures": ["DetrForObjectDetection"], "attention_dropout": 0.0,
    "auxiliary_loss": False, "backbone": "resnet18", "classifier_dropout": 0.0, "d_model": 16, "decoder_attention_heads": 2,
    "decoder_ffn_dim": 20, "decoder_layers": 1, "dilation": False, "dropout": 0.1, "encoder_attention_heads": 2, "encoder_ffn_dim": 20,
    "encoder_layers": 1, "id2label": {str(i): "N/A" for i in range(4)}, "is_encoder_decoder": True, "max_position_embeddings": 1024,
    "model_type": "detr", "num_hidden_layers": 1, "num_queries": 7, "position_embedding_type": "sine", "scale_embedding": False,
}  # fmt: skip
"""config.json as that of facebook/detr-resnet-50, with smaller numbers."""


def name_as_published(name):
    """Return the name that a tensor has in the file of facebook/detr-resnet-50, whose backbone is timm's."""
    for pattern, there in (
        (r"embedder\.embedder\.convolution", "conv1"),
        (r"embedder\.embedder\.normalization", "bn1"),
        (r"encoder\.stages\.(\d)\.layers", lambda found: f"layer{int(found[1]) + 1}"),
        (r"\.shortcut\.convolution", ".downsample.0"),
        (r"\.shortcut\.normalization", ".downsample.1"),
        (r"\.layer\.(\d)\.convolution", lambda found: f".conv{int(found[1]) + 1}"),
        (r"\.layer\.(\d)\.normalization", lambda found: f".bn{int(found[1]) + 1}"),
    ):
        name = re.sub(pattern, there, name)
    return name


def test_a_file_with_the_names_that_were_published(tmp_path, pictures):
    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2] * 4, layer_type="basic", out_features=["stage4"]
    )
    sizes = {
        name: PUBLISHED[name] for name in PUBLISHED if name.endswith(("layers", "heads", "dim", "queries", "model"))
    }
    config = transformers.DetrConfig(use_timm_backbone=False, backbone_config=backbone, num_labels=4, **sizes)
    twin = transformers.DetrForObjectDetection(config).eval()
    twin.save_pretrained(tmp_path)
    with weights.open_weights(tmp_path) as tensors:
        named = {name_as_published(name): tensor.read_all() for name, tensor in tensors.items()}
    assert "model.backbone.conv_encoder.model.layer4.0.downsample.1.running_var" in named
    named["model.backbone.conv_encoder.model.bn1.num_batches_tracked"] = numpy.int64([0])
    weights.save_file(named, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED))
    model, images = from_pretrained(tmp_path), pictures[0].astype("float32")
    out = twin(torch.tensor(images))
    logits, boxes = model.forward(images)
    numpy.testing.assert_allclose(logits, out.logits.detach(), **TOLERANCE["float32"])
    numpy.testing.assert_allclose(boxes, out.pred_boxes.detach(), **TOLERANCE["float32"])


def test_detections(tmp_path, pictures):
    twin, images = make_folder(tmp_path), pictures[0]
    out = twin(torch.tensor(images))
    theirs = transformers.DetrImageProcessor().post_process_object_detection(out, threshold=0.0)
    for own, other in zip(from_pretrained(tmp_path, dtype="float64").detect(images), theirs, strict=True):
        order = torch.argsort(-other["scores"], stable=True)
        numpy.testing.assert_allclose(own.scores, other["scores"][order].detach(), rtol=1e-9)
        numpy.testing.assert_array_equal(own.classes, other["labels"][order])
        numpy.testing.assert_allclose(own.boxes, other["boxes"][order].detach(), rtol=1e-9, atol=1e-12)


def test_overlaps_and_their_loss():
    from transformers.loss.loss_for_object_detection import box_iou, generalized_box_iou

    random = numpy.random.default_rng(1)
    a, b = (
        numpy.concatenate([first, first + random.uniform(0.1, 1, first.shape)], axis=1)
        for first in random.uniform(0, 1, (2, 40, 2))
    )
    ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b)
    numpy.testing.assert_allclose(box_geometry.box_iou(a, b), box_iou(ta, tb)[0].detach(), rtol=1e-12)
    giou = generalized_box_iou(ta, tb)
    numpy.testing.assert_allclose(box_geometry.generalized_box_iou(a, b), giou.detach(), rtol=1e-12, atol=1e-14)
    torch.sum(1 - torch.diag(giou)).backward()
    loss, cache = dl.ops.generalized_box_iou_loss(a, b, "sum")
    numpy.testing.assert_allclose(loss, 40 - torch.diag(giou).sum().item(), rtol=1e-12)
    numpy.testing.assert_allclose(dl.ops.generalized_box_iou_loss_backward(1.0, cache), ta.grad, rtol=1e-9, atol=1e-12)
