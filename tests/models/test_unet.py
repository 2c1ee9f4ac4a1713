"""U-Net: gradients, and that it finds shapes."""

import numpy
import pytest
from directions import check_direction

import minidl as dl
from minidl.errors import ParameterError
from minidl.models import unet


def draw_shapes(random, count, size=16):
    """Return pictures with a bright square and a dark disc, and the class of each pixel: 0, 1 or 2."""
    y, x = numpy.mgrid[:size, :size]
    images, masks = 0.1 * random.normal(size=(count, 1, size, size)), numpy.zeros((count, size, size), "int64")
    for image, mask in zip(images, masks, strict=True):
        for kind in (1, 2):
            cy, cx = random.integers(3, size - 3, 2)
            inside = numpy.maximum(abs(y - cy), abs(x - cx)) <= 2 if kind == 1 else (y - cy) ** 2 + (x - cx) ** 2 <= 7
            mask[inside], image[0, inside] = kind, 3 - 2 * kind
    return images.astype("float32"), masks


def mean_overlap(found, masks):
    """Return the intersection over union, averaged over the classes."""
    return numpy.mean([((found == k) & (masks == k)).sum() / ((found == k) | (masks == k)).sum() for k in range(3)])


def test_gradients(host_engine):
    dl.seed(0)
    with dl.use(host_engine):
        check_direction(
            unet(2, channels=1, width=2, depth=2, dtype="float64"),
            numpy.random.default_rng(0).normal(size=(2, 1, 8, 4)),
        )


def test_it_finds_shapes():
    dl.seed(0)
    random = numpy.random.default_rng(0)
    images, masks = draw_shapes(random, 128)
    model, loss = unet(3, channels=1, width=8, depth=2), dl.CrossEntropyLoss()
    optimizer = dl.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        for at in range(0, 128, 16):
            loss.forward(model.forward(images[at : at + 16]), masks[at : at + 16])
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()
            optimizer.zero_grad()
    images, masks = draw_shapes(random, 32)
    with dl.inference(evaluate=True):
        found = model.forward(images).argmax(axis=1)
    assert mean_overlap(found, masks) > 0.9


def test_sizes_are_checked():
    with pytest.raises(ParameterError, match="classes must be 1 or more, got 0"):
        unet(0)
    assert unet(2, width=2, depth=0).output_shape((3, 5, 7)) == (2, 5, 7)
