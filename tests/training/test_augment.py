"""fit on inputs that are changed batch by batch."""

import numpy
import pytest
from array_double import DoubleEngine

import minidl as dl
from minidl import engines
from minidl.data.augment import Compose, Mixup, RandomCrop, RandomHorizontalFlip
from minidl.errors import DataError, ParameterError
from minidl.training import feed
from minidl.training.feed import Feed

IMAGES = numpy.random.default_rng(0).normal(size=(12, 1, 4, 4)).astype("float32")
LABELS = numpy.arange(12) % 3


def network():
    dl.seed(1)
    model = dl.Sequential([dl.Flatten(), dl.Linear(16, 3)])
    model.compile("sgd", dl.CrossEntropyLoss())
    return model


def fitted(**settings):
    model = network()
    history = model.fit(IMAGES, LABELS, batch_size=5, epochs=2, **settings)
    return history.history, [p.value for p in model.parameters()]


def test_the_steps_are_those_on_the_changed_images():
    """One batch in the order of the data: the same as training on what the augmentation makes of it."""
    flip = RandomHorizontalFlip(0.5)
    model, same = network(), network()
    model.fit(IMAGES, LABELS, batch_size=12, shuffle=False, seed=3, augment=flip)
    same.fit(flip(IMAGES, numpy.random.default_rng(3)), LABELS, batch_size=12, shuffle=False)
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        numpy.testing.assert_array_equal(one.value, other.value)


def test_the_same_seed_gives_the_same_bits():
    changes = Compose(RandomHorizontalFlip(), RandomCrop(4, padding=1))
    (history, values), (again, others) = fitted(seed=5, augment=changes), fitted(seed=5, augment=changes)
    assert history == again
    for value, other in zip(values, others, strict=True):
        numpy.testing.assert_array_equal(value, other)
    assert fitted(seed=6, augment=changes)[0] != history
    assert fitted(seed=5)[0] != history


def test_validation_sees_the_images_as_they_are():
    seen = []
    model = network()
    history = model.fit(
        IMAGES[:8],
        LABELS[:8],
        batch_size=4,
        validation_data=(IMAGES[8:], LABELS[8:]),
        augment=lambda x, generator: seen.append(len(x)) or 0 * x,
    )
    assert seen == [4, 4]
    assert history.history["val_loss"] == [pytest.approx(model.evaluate(IMAGES[8:], LABELS[8:]))]
    numpy.testing.assert_array_equal(model.parameters()[0].value, network().parameters()[0].value)


@pytest.mark.parametrize("limit", [0, 1 << 30])
@pytest.mark.parametrize("engine", [engines.get("numpy"), DoubleEngine()], ids=["host", "device"])
def test_the_change_happens_on_the_host(engine, limit, monkeypatch):
    monkeypatch.setattr(feed, "REORDER_WHOLE", limit)
    monkeypatch.setattr(feed, "KEEP_ON_DEVICE", limit)

    def add_one(x):
        assert type(x) is numpy.ndarray
        return x + 1.0

    with engines.use(engine):
        source = Feed(IMAGES, LABELS, None, 5, numpy.random.default_rng(0), add_one)
        batches = [tuple(map(engine.to_host, batch[:2])) for batch in source]
    order = numpy.random.default_rng(0).permutation(12)
    for position, expected in enumerate((IMAGES[order] + 1, LABELS[order])):
        numpy.testing.assert_array_equal(numpy.concatenate([batch[position] for batch in batches]), expected)


def test_the_dtype_stays():
    source = Feed(IMAGES, LABELS, None, 12, None, lambda x: x.astype("float64"))
    assert next(iter(source))[0].dtype == IMAGES.dtype


def double_in_place(x, generator):
    x *= 2
    return x


@pytest.mark.parametrize(
    ("error", "words", "augment"),
    [
        (ParameterError, "augment must be a function", 0.5),
        (ParameterError, "Mixup changes the targets too", Mixup(0.2, 3)),
        (DataError, r"as many examples as it got, 12, got shape \(11, 1, 4, 4\)", lambda x, generator: x[1:]),
        (ValueError, "read-only", double_in_place),
    ],
)
def test_what_is_no_augmentation(error, words, augment):
    before = IMAGES.copy()
    with pytest.raises(error, match=words):
        network().fit(IMAGES, LABELS, augment=augment)
    numpy.testing.assert_array_equal(IMAGES, before)
