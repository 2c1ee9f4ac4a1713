"""Boxes: their two forms, areas and overlaps."""

import numpy
import pytest

from minidl.errors import DtypeError, ShapeError
from minidl.ops import generalized_box_iou_loss, generalized_box_iou_loss_backward
from minidl.ops.box_geometry import (
    box_area,
    box_iou,
    cxcywh_to_xyxy,
    cxcywh_to_xyxy_backward,
    generalized_box_iou,
    xyxy_to_cxcywh,
)


@pytest.fixture
def boxes():
    random = numpy.random.default_rng(0)
    first = random.uniform(0, 1, (2, 9, 2))
    return numpy.concatenate([first, first + random.uniform(0.1, 1, first.shape)], axis=-1)


def test_the_two_forms_are_inverses(boxes):
    numpy.testing.assert_allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes, rtol=1e-14)
    numpy.testing.assert_allclose(box_area(boxes), numpy.prod(xyxy_to_cxcywh(boxes)[..., 2:], axis=-1), rtol=1e-14)


def test_the_backward_is_the_transpose(boxes):
    dy = numpy.random.default_rng(1).normal(size=boxes.shape)
    numpy.testing.assert_allclose(
        (cxcywh_to_xyxy(boxes) * dy).sum(), (boxes * cxcywh_to_xyxy_backward(dy)).sum(), rtol=1e-12
    )


def test_overlaps_by_counting_cells():
    a, b = (
        numpy.array([[0, 0, 4, 2], [5, 5, 7, 7]], "float64"),
        numpy.array([[2, 1, 5, 4], [0, 0, 4, 2], [9, 9, 10, 10]], "float64"),
    )
    cells = numpy.zeros((5, 11, 11), bool)
    for cell, (x1, y1, x2, y2) in zip(cells, numpy.concatenate([a, b]).astype(int), strict=True):
        cell[y1:y2, x1:x2] = True
    for i, j in numpy.ndindex(2, 3):
        common, union = (cells[i] & cells[2 + j]).sum(), (cells[i] | cells[2 + j]).sum()
        ys, xs = numpy.nonzero(cells[i] | cells[2 + j])
        around = (numpy.ptp(ys) + 1) * (numpy.ptp(xs) + 1)
        assert box_iou(a, b)[i, j] == pytest.approx(common / union)
        assert generalized_box_iou(a, b)[i, j] == pytest.approx(common / union - (around - union) / around)


def test_the_loss_is_that_of_the_pairs(boxes):
    a, b = boxes
    loss, _ = generalized_box_iou_loss(a, b, "none")
    numpy.testing.assert_allclose(loss, 1 - numpy.diag(generalized_box_iou(a, b)), rtol=1e-12)
    for scale in (1e-30, 1e200):  # whose areas are beyond the range of float64
        large, cache = generalized_box_iou_loss(a * scale, b * scale, "none")
        numpy.testing.assert_allclose(large, loss, rtol=1e-12)
        assert numpy.isfinite(generalized_box_iou_loss_backward(numpy.ones(9), cache)).all()


def test_equal_boxes_have_no_loss_and_no_slope():
    box = numpy.array([[0.0, 0.0, 2.0, 1.0]])
    loss, cache = generalized_box_iou_loss(box, box)
    assert float(loss) == 0.0
    numpy.testing.assert_array_equal(generalized_box_iou_loss_backward(1.0, cache), numpy.zeros((1, 4)))


def test_a_box_without_area_moves_towards_the_other():
    loss, cache = generalized_box_iou_loss(numpy.array([[1.0, 1.0, 1.0, 1.0]]), numpy.array([[0.0, 0.0, 4.0, 4.0]]))
    gradient = generalized_box_iou_loss_backward(1.0, cache)
    assert float(loss) == 1.0
    assert numpy.isfinite(gradient).all()
    point = numpy.zeros((1, 4))
    assert numpy.isnan(box_iou(point, point)).all()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(numpy.zeros((2, 3)), ShapeError), (numpy.zeros((1, 4), int), DtypeError), (numpy.zeros(4), ShapeError)],
)
def test_what_is_no_list_of_boxes(wrong, error):
    with pytest.raises(error, match=r"box_iou: boxes1"):
        box_iou(wrong, numpy.zeros((1, 4)))
    if wrong.shape != (4,):
        with pytest.raises(error, match="generalized_box_iou_loss: prediction"):
            generalized_box_iou_loss(wrong, wrong)


def test_equal_corners_share_the_gradient():
    """Central differences at a kink are the mean of the slopes on its sides, and so is the gradient."""
    prediction, target = numpy.array([[0.0, 0.0, 2.0, 2.0]]), numpy.array([[0.0, 1.0, 2.0, 3.0]])
    gradient = generalized_box_iou_loss_backward(1.0, generalized_box_iou_loss(prediction, target)[1])
    for place in range(4):
        moved = [prediction.copy(), prediction.copy()]
        moved[0][0, place] += 1e-6
        moved[1][0, place] -= 1e-6
        ends = [generalized_box_iou_loss(boxes, target)[0] for boxes in moved]
        assert gradient[0, place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)
