"""Pictures of shapes: what is drawn is where the boxes, classes and masks say."""

import numpy
import pytest

from minidl.data import make_shapes
from minidl.data.shapes import SHAPES
from minidl.errors import ParameterError, UnknownNameError


def test_boxes_and_classes_agree_with_the_masks():
    images, boxes, classes, masks = make_shapes(20, 32, shapes=SHAPES, max_objects=4, random_state=1)
    assert (images.shape, images.dtype) == ((20, 3, 32, 32), "float32")
    assert 0 <= images.min() < images.max() <= 1
    for image_boxes, kinds, mask in zip(boxes, classes, masks, strict=True):
        assert 1 <= len(image_boxes) == len(kinds) <= 4
        inside = numpy.zeros((32, 32), bool)
        for (cx, cy, w, h), kind in zip(image_boxes.astype("float64") * 32, kinds, strict=True):
            left, top, right, bottom = (round(v) for v in (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
            part = mask[top:bottom, left:right] == kind + 1
            assert all(edge.any() for edge in (part[0], part[-1], part[:, 0], part[:, -1]))  # the box is tight
            assert not inside[top:bottom, left:right].any()  # no two boxes overlap
            inside[top:bottom, left:right] = True
        assert not mask[~inside].any()


def test_shapes_differ_from_their_background():
    images, _, _, masks = make_shapes(5, noise=0.0, random_state=0)
    for image, mask in zip(images, masks, strict=True):
        background = image[:, mask == 0]
        assert (background == background[0, 0]).all()
        assert (abs(image[:, mask > 0] - background[0, 0]).max(axis=0) > 0.1).all()


@pytest.mark.parametrize(("shape", "share"), [("circle", numpy.pi / 4), ("square", 1), ("triangle", 1 / 2), ("cross", 0.5775), ("diamond", 1 / 2)])  # fmt: skip
def test_a_shape_fills_its_share_of_the_box(shape, share):
    _, boxes, _, masks = make_shapes(8, 256, shapes=[shape], max_objects=1, random_state=2)
    for mask, ((_, _, w, h),) in zip(masks, boxes, strict=True):
        assert (mask == 1).sum() / (w * h * 256**2) == pytest.approx(share, abs=0.04)


def test_a_seed_draws_the_same_pictures():
    first, second, other = (make_shapes(3, random_state=seed) for seed in (5, 5, 6))
    for name in ("images", "masks"):
        numpy.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (first.images != other.images).any()


@pytest.mark.parametrize("wrong", [{"n_samples": 0}, {"size": 8}, {"max_objects": 0}, {"noise": -1.0}, {"shapes": []}, {"shapes": ["circle", "circle"]}])  # fmt: skip
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ParameterError, match="make_shapes: "):
        make_shapes(**wrong)


def test_an_unknown_shape():
    with pytest.raises(UnknownNameError, match="'star'; known: .*circle"):
        make_shapes(shapes=["star"])
