"""The set loss: who answers for what, and the gradient; and the frozen norm of detectors."""

import builtins
import itertools

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, MissingDependencyError, OrderError, ParameterError, ShapeError, TargetError
from minidl.layers import BatchNorm2d, FrozenBatchNorm2d, SetLoss
from minidl.layers.detection import match_boxes
from minidl.ops.box_geometry import cxcywh_to_xyxy, generalized_box_iou


@pytest.fixture
def batch():
    """Predictions of two layers for three pictures, of which the last has no object."""
    pytest.importorskip("scipy")
    random = numpy.random.default_rng(0)
    boxes = random.uniform(0.2, 0.6, (2, 3, 5, 4))
    targets = [(random.integers(0, 3, count), random.uniform(0.2, 0.6, (count, 4))) for count in (2, 4, 0)]
    return random.normal(size=(2, 3, 5, 4)), boxes, targets


def test_the_matching_is_the_cheapest_of_all(batch):
    logits, boxes, targets = batch
    for p, b, (classes, wanted) in zip(dl.ops.softmax(logits[0])[0], boxes[0], targets, strict=True):
        if len(classes):
            giou = generalized_box_iou(cxcywh_to_xyxy(b), cxcywh_to_xyxy(wanted))
            cost = 5 * abs(b[:, None] - wanted).sum(axis=-1) - p[:, classes] - 2 * giou
            objects = range(len(classes))
            every = {rows: cost[list(rows), objects].sum() for rows in itertools.permutations(range(5), len(classes))}
            rows, found = match_boxes(p, b, (classes, wanted))
            assert cost[rows, found].sum() == pytest.approx(min(every.values()))


def test_the_loss_is_the_sum_of_its_parts_over_layers(batch):
    logits, boxes, targets = batch
    loss = SetLoss()
    whole = loss.forward((logits, boxes), targets)
    parts = loss.parts
    assert whole == pytest.approx(parts["cross_entropy"] + 5 * parts["bbox"] + 2 * parts["giou"])
    assert whole == pytest.approx(sum(float(loss.forward((logits[i], boxes[i]), targets)) for i in range(2)))


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_by_differences(batch, layers):
    logits, boxes, targets = batch
    logits, boxes = (logits, boxes) if layers == 2 else (logits[0], boxes[0])
    loss = SetLoss(no_object_weight=0.3, bbox_weight=2.0, giou_weight=3.0)
    loss.forward((logits, boxes), targets)
    gradients = loss.backward(0.5)
    random = numpy.random.default_rng(1)
    directions = [random.normal(size=x.shape) for x in (logits, boxes)]
    step = 1e-6
    ends = [
        float(
            loss.forward(tuple(x + sign * step * d for x, d in zip((logits, boxes), directions, strict=True)), targets)
        )
        for sign in (1, -1)
    ]
    numeric = 0.5 * (ends[0] - ends[1]) / (2 * step)
    assert numeric == pytest.approx(
        sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True)), rel=1e-6
    )


def test_boxes_of_free_queries_have_no_gradient(batch):
    logits, boxes, targets = batch
    loss = SetLoss()
    loss.forward((logits[0], boxes[0]), targets)
    _, dboxes = loss.backward()
    assert (abs(dboxes).sum(axis=-1) > 0).sum(axis=-1).tolist() == [2, 4, 0]


def test_pictures_without_objects(batch):
    logits, boxes, targets = batch
    loss = SetLoss()
    value = loss.forward((logits[:1, 2:], boxes[:1, 2:]), targets[2:])
    assert value == pytest.approx(float(dl.ops.cross_entropy(logits[0, 2], numpy.full(5, 3))[0]))
    assert not loss.backward()[1].any()


def test_errors(batch):
    logits, boxes, targets = batch
    loss = SetLoss()
    with pytest.raises(OrderError, match="SetLoss: backward was called before forward"):
        loss.backward()
    with pytest.raises(ShapeError, match="SetLoss: expected logits"):
        loss.forward((logits, boxes), targets[:2])
    for classes, found, error in (
        ([3, 0], targets[0][1], TargetError),
        ([0.5, 1], targets[0][1], TargetError),
        ([0], targets[0][1], ShapeError),
        ([0, 1], -targets[0][1], TargetError),
    ):
        with pytest.raises(error, match="SetLoss: .*target 0"):
            loss.forward((logits, boxes), [(numpy.array(classes), found), *targets[1:]])
    boxes[0, 0, 0, 0] = numpy.nan
    with pytest.raises(DataError, match="a prediction is not finite"):
        loss.forward((logits, boxes), targets)
    with pytest.raises(ParameterError, match="giou_weight must not be negative"):
        SetLoss(giou_weight=-1.0)


def test_without_scipy(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install .*minidl\[detection\]"):
        SetLoss().forward(
            (numpy.zeros((1, 2, 3)), numpy.full((1, 2, 4), 0.5)), [(numpy.array([0]), numpy.full((1, 4), 0.5))]
        )


def test_a_frozen_norm_is_a_batch_norm_in_evaluation(host_engine):
    random = numpy.random.default_rng(0)
    with dl.use(host_engine.name):
        frozen, usual = FrozenBatchNorm2d(3, dtype="float64"), BatchNorm2d(3, dtype="float64").eval()
        for name in ("weight", "bias", "running_mean", "running_var"):
            value = random.uniform(0.5, 2.0, 3)
            getattr(frozen, name)[...] = value
            other = getattr(usual, name)
            (other if isinstance(other, numpy.ndarray) else other.value)[...] = value
        x, dy = random.normal(size=(2, 2, 3, 4, 5))
        assert frozen.training
        numpy.testing.assert_allclose(frozen.forward(x), usual.forward(x), rtol=1e-12)
        numpy.testing.assert_allclose(frozen.backward(dy), usual.backward(dy), rtol=1e-12)
    assert frozen.parameters() == []
    assert sorted(frozen.state_dict()) == ["bias", "running_mean", "running_var", "weight"]
    with pytest.raises(ShapeError, match=r"expected a batch of shape \(N, 3, H, W\)"):
        frozen.forward(numpy.zeros((2, 4, 3, 3)))
