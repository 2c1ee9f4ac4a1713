"""Cross-entropy of logits with the classes on the last axis."""

import numpy
import pytest

import minidl as dl
from minidl import engines
from minidl.errors import ParameterError, ShapeError

RANDOM = numpy.random.default_rng(0)
SETTINGS = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"label_smoothing": 0.1, "ignore_index": 2},
    {"weight": numpy.array([1.0, 0.5, 2.0, 0.25]), "label_smoothing": 0.2, "reduction": "none"},
    {"weight": numpy.array([1.0, 0.5, 2.0, 0.25])},
]


def drawn(shape, probabilities=False, ignore_index=-100, **_):
    """Return logits (N, ..., K) and targets, some of them ignored."""
    logits, target = RANDOM.normal(size=shape), RANDOM.integers(0, shape[-1], shape[:-1])
    if probabilities:
        target = RANDOM.random(shape)
        return logits, target / target.sum(axis=-1, keepdims=True)
    target.flat[0] = ignore_index
    return logits, target


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 4, 4), (2, 3, 2, 4)])
def test_it_is_the_loss_of_the_moved_axis(shape, settings, probabilities, weighted, host_engine):
    logits, target = drawn(shape, probabilities, **settings)
    settings = dict(settings)
    if probabilities:
        settings.pop("ignore_index", None)
    sample_weight = RANDOM.uniform(size=shape[0]) if weighted else None
    moved = numpy.moveaxis(target, -1, 1) if probabilities else target
    with dl.use(host_engine):
        last, first = dl.CrossEntropyLoss(class_axis=-1, **settings), dl.CrossEntropyLoss(**settings)
        value = last.forward(logits, target, sample_weight)
        expected = first.forward(numpy.moveaxis(logits, -1, 1), moved, sample_weight)
        numpy.testing.assert_allclose(value, expected, rtol=1e-12)
        upstream = RANDOM.normal(size=numpy.shape(value)) if settings.get("reduction") == "none" else 1.7
        for dloss in (None, upstream):
            numpy.testing.assert_allclose(
                last.backward(dloss), numpy.moveaxis(first.backward(dloss), 1, -1), rtol=1e-12, atol=1e-15
            )


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_gradient(settings):
    dl.gradcheck(dl.CrossEntropyLoss(class_axis=-1, **settings), *drawn((2, 3, 4), **settings))


def test_the_logits_are_taken_apart_without_a_copy(monkeypatch):
    logits, target = drawn((2, 3, 4))
    seen = []
    formula = engines.get("numpy").cross_entropy

    def spy(rows, *args, **options):
        seen.append(rows)
        return formula(rows, *args, **options)

    with dl.use("numpy"):
        monkeypatch.setattr(engines.current(), "cross_entropy", spy)
        dl.CrossEntropyLoss(class_axis=-1).forward(logits, target)
    assert numpy.shares_memory(seen[0], logits)


def test_a_single_example_and_rows_have_one_class_axis():
    loss = dl.CrossEntropyLoss(class_axis=-1)
    assert loss.forward(numpy.array([0.0, 0.0]), numpy.array(1)) == pytest.approx(numpy.log(2))
    assert loss.backward().tolist() == [0.5, -0.5]


def test_no_examples_have_a_sum():
    loss = dl.CrossEntropyLoss(reduction="sum", class_axis=-1)
    assert loss.forward(numpy.zeros((0, 3, 4)), numpy.zeros((0, 3), dtype=int), numpy.zeros(0)) == 0
    assert loss.backward().shape == (0, 3, 4)


def test_what_does_not_fit():
    logits, target = drawn((2, 3, 4))
    loss = dl.CrossEntropyLoss(class_axis=-1, reduction="none")
    with pytest.raises(ShapeError, match=r"logits of shape \(2, 3, 4\).*last axis.*shape \(2, 3\).*got \(2, 4\)"):
        loss.forward(logits, numpy.zeros((2, 4), dtype=int))
    with pytest.raises(ShapeError, match=r"sample_weight of shape \(2,\)"):
        loss.forward(logits, target, numpy.ones(6))
    loss.forward(logits, target)
    with pytest.raises(ShapeError, match=r"dloss of shape \(2, 3\), got \(6,\)"):
        loss.backward(numpy.ones(6))
    with pytest.raises(ShapeError, match=r"must have shape \(2, 4\), got \(2, 3\); if.*class_axis=-1"):
        dl.CrossEntropyLoss().forward(logits, target)
    for wrong in (0, 2):
        with pytest.raises(ParameterError, match=f"CrossEntropyLoss: class_axis must be 1 or -1, got {wrong}"):
            dl.CrossEntropyLoss(class_axis=wrong)
    for wrong in (None, "last"):
        with pytest.raises(ParameterError, match=f"CrossEntropyLoss: class_axis must be a whole number, got {wrong!r}"):
            dl.CrossEntropyLoss(class_axis=wrong)


def test_how_it_is_shown():
    assert "class_axis" not in repr(dl.CrossEntropyLoss())
    assert repr(dl.CrossEntropyLoss(class_axis=-1)).endswith("reduction='mean', class_axis=-1)")
