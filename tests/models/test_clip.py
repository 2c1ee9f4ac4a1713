"""CLIP: gradients, the contrastive loss, zero-shot classification, and what is refused."""

import json

import numpy
import pytest
from directions import check_direction

import minidl as dl
from minidl.errors import DataError, DtypeError, OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.models import CLIP, ContrastiveLoss, classify_zero_shot, from_pretrained
from minidl.models.clip import Tower

TOWER = Tower(layers=1, heads=2, width=4, hidden=6)
SMALL = {
    "vision": TOWER, "text": TOWER, "image_size": 8, "patch_size": 4, "channels": 1, "vocab_size": 8, "context": 5, "end": 7,
    "projection": 3, "logit_scale": 1.0,
}  # fmt: skip
IDS = numpy.array([[1, 2, 7, 0], [3, 7, 7, 5]])


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def build(random, **changes):
    """Build a small model in float64 whose weights are not small."""
    model = CLIP(dtype="float64", **(SMALL | changes))
    for parameter in model.parameters():
        if parameter.shape:
            parameter.value[...] = random.normal(size=parameter.shape) * 0.5
    return model


def test_gradients(random, host_engine):
    x = random.normal(size=(2, 1, 8, 8))
    with dl.use(host_engine):
        model = build(random)
        check_direction(model, x, IDS)
        dy, v = random.normal(size=(2, 2)), random.normal(size=x.shape)
        model.forward(x, IDS)
        dx, nothing = model.backward(dy)
        found = sum(sign * (model.forward(x + sign * 1e-5 * v, IDS) * dy).sum() for sign in (1, -1)) / 2e-5
    assert nothing is None
    assert found == pytest.approx((dx * v).sum(), rel=1e-6)


def test_what_comes_after_the_end_changes_nothing(random):
    model, other = build(random), IDS.copy()
    other[0, 3], other[1, 2:] = 4, 1
    numpy.testing.assert_allclose(model.encode_text(IDS), model.encode_text(other), rtol=1e-12)
    numpy.testing.assert_allclose((model.encode_text(IDS) ** 2).sum(axis=1), 1)


def test_without_an_end_it_is_the_largest_id(random):
    assert build(random, end=None).text.find_ends(IDS).tolist() == [2, 1]


def test_the_loss(random):
    logits, loss = random.normal(size=(5, 5)), ContrastiveLoss()
    with pytest.raises(OrderError, match="forward"):
        loss.backward()
    value = loss.forward(logits)
    rows, columns = (logits - numpy.log(numpy.exp(logits).sum(axis=axis, keepdims=True)) for axis in (1, 0))
    numpy.testing.assert_allclose(value, -(numpy.trace(rows) + numpy.trace(columns)) / 10)
    wanted = (numpy.exp(rows) + numpy.exp(columns) - 2 * numpy.eye(5)) / 10
    numpy.testing.assert_allclose(loss.backward(), wanted, atol=1e-15)
    with pytest.raises(ShapeError, match=r"\(N, N\)"):
        loss.forward(logits[:3])


def test_it_learns_captions_and_then_names_pictures(random):
    """Four kinds of pictures with a caption each; classes are then asked for by their captions."""
    dl.seed(0)
    tower = Tower(layers=1, heads=2, width=16, hidden=16)
    model = CLIP(**(SMALL | {"vision": tower, "text": tower, "projection": 8}))
    for parameter in model.parameters():
        if len(parameter.shape) > 1:
            parameter.value *= 10  # the usual small ones take longer to leave the plateau
    captions = numpy.array([[kind, 7] for kind in (1, 2, 3, 4)])
    kinds = random.normal(size=(4, 1, 8, 8))
    pictures = (kinds[:, None] + 0.1 * random.normal(size=(4, 6, 1, 8, 8))).astype("float32")
    loss, optimizer = ContrastiveLoss(), dl.Adam(model.parameters(), lr=0.01)
    for step in range(80):
        value = loss.forward(model.forward(pictures[:, step % 4], captions))
        model.backward(loss.backward(), input_gradient=False)
        optimizer.step()
        optimizer.zero_grad()
    assert value < 0.3
    unseen = pictures[:, 4:].reshape(8, 1, 8, 8)
    probabilities = classify_zero_shot(model, unseen, captions)
    assert probabilities.argmax(axis=1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    several = classify_zero_shot(model, unseen, numpy.stack([captions, captions], axis=1))
    numpy.testing.assert_allclose(several, probabilities, rtol=1e-5)


def test_inputs_are_checked(random):
    model, images = build(random), random.normal(size=(2, 1, 8, 8))
    with pytest.raises(DataError, match="text 1 has no end token, 7"):
        model.forward(images, numpy.array([[7, 1], [2, 3]]))
    with pytest.raises(ShapeError, match=r"ids of shape \(N, T\)"):
        model.forward(images, IDS[0])
    with pytest.raises(DtypeError, match="must be integers"):
        model.forward(images, IDS * 1.0)
    with pytest.raises(ShapeError, match="5 positions"):
        model.forward(images, numpy.full((1, 6), 7))
    with pytest.raises(ShapeError, match=r"\(K, T\) or \(K, P, T\)"):
        classify_zero_shot(model, images, IDS[0])


def test_settings_are_checked(tmp_path):
    with pytest.raises(ParameterError, match="there is no setting 'depth'; there are "):
        CLIP(depth=3)
    with pytest.raises(UnknownNameError, match="activation of CLIP 'x'"):
        CLIP(text=Tower(activation="x"))
    with pytest.raises(ParameterError, match="projection must be positive"):
        CLIP(projection=0)
    for changes, message in [
        ({"architectures": ["CLIPTextModel"]}, r"architectures = \['CLIPTextModel'\]"),
        ({"text_config": {"hidden_act": "x"}}, "hidden_act = 'x'"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"} | changes))
        with pytest.raises(ParameterError, match=message):
            from_pretrained(tmp_path)
