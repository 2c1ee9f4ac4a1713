"""Augmentation: what it changes, what it keeps, and that the seed decides."""

import numpy
import pytest

import minidl as dl
from minidl.data.augment import (
    Compose,
    Cutout,
    Mixup,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    rotated,
)
from minidl.errors import DtypeError, ParameterError, ShapeError

CHANGES = [
    RandomHorizontalFlip(),
    RandomCrop(6, padding=2),
    RandomRotation(30),
    Cutout(3),
    Normalize([0.5, 0.1], [2, 3]),
]


@pytest.fixture
def images():
    return numpy.random.default_rng(1).normal(size=(40, 2, 6, 7)).astype("float32")


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: type(c).__name__)
def test_the_seed_decides_and_the_batch_is_left_alone(images, change):
    before = images.copy()
    first, second, other = (change(images, numpy.random.default_rng(seed)) for seed in (0, 0, 1))
    numpy.testing.assert_array_equal(first, second)
    assert first.dtype == images.dtype
    assert isinstance(change, Normalize) or not numpy.array_equal(first, other)
    numpy.testing.assert_array_equal(images, before)


def test_flips_half_of_the_images(images):
    changed = RandomHorizontalFlip()(images, numpy.random.default_rng(0))
    flipped = [numpy.array_equal(a, b[:, :, ::-1]) for a, b in zip(changed, images, strict=True)]
    same = [numpy.array_equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert all(f != s for f, s in zip(flipped, same, strict=True))
    assert 10 < sum(flipped) < 30
    numpy.testing.assert_array_equal(RandomHorizontalFlip(0)(images, numpy.random.default_rng(0)), images)


def test_crops_lie_in_the_padded_image(images):
    changed = RandomCrop((4, 5), padding=1, fill=-9)(images, numpy.random.default_rng(0))
    assert changed.shape == (40, 2, 4, 5)
    padded = numpy.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-9)
    places = set()
    for crop, whole in zip(changed, padded, strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if numpy.array_equal(crop, whole[:, y : y + 4, x : x + 5])]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 15


def test_rotation_by_quarter_turns_is_exact():
    image = numpy.random.default_rng(0).normal(size=(3, 2, 5, 5))
    turned = rotated(image, numpy.array([0, numpy.pi / 2, numpy.pi]))
    numpy.testing.assert_allclose(turned[0], image[0], atol=1e-12)
    numpy.testing.assert_allclose(turned[1], numpy.rot90(image[1], axes=(1, 2)), atol=1e-12)
    numpy.testing.assert_allclose(turned[2], image[2, :, ::-1, ::-1], atol=1e-12)


def test_rotation_between_pixels_is_the_four_neighbours():
    image = numpy.zeros((1, 1, 9, 9))
    image[0, 0, 4, 7] = 1.0
    turned = rotated(image, numpy.array([numpy.pi / 6]))[0, 0]  # 3 to the right becomes 2.6 to the right and 1.5 up
    middle = (numpy.argwhere(turned > 0) * turned[turned > 0][:, None]).sum(axis=0) / turned.sum()
    numpy.testing.assert_allclose(middle, [4 - 1.5, 4 + 2.6], atol=0.15)
    assert numpy.count_nonzero(turned) <= 6


def test_cutout_clears_one_square(images):
    changed = Cutout(3, fill=5)(images, numpy.random.default_rng(0))
    for before, after in zip(images, changed, strict=True):
        where = numpy.argwhere((after == 5).all(axis=0))
        high, wide = numpy.ptp(where, axis=0) + 1
        assert len(where) == high * wide
        assert 1 <= min(high, wide) <= max(high, wide) <= 3
        numpy.testing.assert_array_equal(after[after != 5], before[after != 5])


def test_normalize_measures_and_applies():
    images = numpy.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), dtype="uint8")
    changed = Normalize.from_data(images)(images)
    assert changed.dtype == numpy.float32
    numpy.testing.assert_allclose(changed.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    numpy.testing.assert_allclose(changed.std(axis=(0, 2, 3)), 1, rtol=1e-5)


def test_mixup_blends_images_and_labels_alike(images):
    labels = numpy.arange(40) % 4
    mixed, targets = Mixup(0.5, 4)(images, labels, numpy.random.default_rng(0))
    numpy.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert mixed.dtype == targets.dtype == images.dtype
    numpy.testing.assert_allclose(mixed.mean(axis=0), images.mean(axis=0), atol=0.4)
    assert (targets.max(axis=1) < 1).mean() > 0.4
    loss = dl.CrossEntropyLoss()
    assert numpy.isfinite(loss.forward(numpy.zeros((40, 4), "float32"), targets))


def test_bytes_stay_bytes_where_pixels_only_move():
    images = numpy.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype="uint8")
    change = Compose(RandomHorizontalFlip(), RandomCrop(8, padding=2), Cutout(2))
    assert change(images, numpy.random.default_rng(0)).dtype == numpy.uint8
    for other in (RandomRotation(5), lambda x, g: Mixup(1, 2)(x, numpy.zeros(5, int), g)):
        with pytest.raises(DtypeError, match="astype"):
            other(images, numpy.random.default_rng(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomHorizontalFlip(1.5),
        lambda: RandomCrop(0),
        lambda: RandomCrop(3, padding=-1),
        lambda: RandomRotation(-1),
        lambda: Cutout(0),
        lambda: Mixup(0, 10),
        lambda: Normalize([0.0], [0.0]),
    ],
)
def test_settings_that_make_no_sense(make):
    with pytest.raises(ParameterError):
        make()


def test_shapes_that_do_not_fit(images):
    with pytest.raises(ShapeError, match=r"expected a batch of images \(N, C, H, W\), got shape \(2, 6, 7\)"):
        RandomHorizontalFlip()(images[0], numpy.random.default_rng(0))
    with pytest.raises(ShapeError, match=r"cannot cut \(9, 9\) out of \(8, 9\)"):
        RandomCrop(9, padding=1)(images, numpy.random.default_rng(0))
    with pytest.raises(ShapeError, match="expected 1 channels"):
        Normalize([0], [1])(images)


@pytest.mark.parametrize("change", [*CHANGES, lambda x, generator: Normalize.from_data(x)])
def test_channels_that_come_last_are_noticed(change):
    with pytest.raises(ShapeError, match=r"\(2, 8, 9, 3\), whose channels seem to be last: give .*transpose"):
        change(numpy.zeros((2, 8, 9, 3)), numpy.random.default_rng(0))
