"""Mean average precision on cases that are worked out by hand; tests/peers compares it with COCO's own tools."""

import math

import numpy
import pytest

from minidl.errors import DataError, DtypeError, ParameterError, ShapeError
from minidl.metrics import mean_average_precision

BOXES = numpy.array([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 60.0, 60.0]])


def test_precision_falls_with_a_wrong_detection_before_the_last_object():
    found = numpy.concatenate([BOXES[:1], BOXES[:1] + 100, BOXES[1:]])
    scores = mean_average_precision([(BOXES, [0, 0])], [(found, [0.9, 0.8, 0.7], [0, 0, 0])])
    assert scores["map"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)  # recalls 0 to 0.5, and 0.51 to 1
    assert scores["mar_1"] == 0.5
    assert scores["mar_10"] == scores["mar_100"] == 1.0


def test_a_second_detection_of_one_object_is_wrong():
    twice = numpy.concatenate([BOXES[:1], BOXES[:1], BOXES[1:]])
    scores = mean_average_precision([(BOXES, [0, 0])], [(twice, [0.9, 0.8, 0.7], [0, 0, 0])])
    assert scores["map"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_and_sizes_count_by_themselves():
    scores = mean_average_precision([(BOXES, [0, 1])], [(BOXES[:1], [0.9], [0])])
    assert [scores[name] for name in ("map", "map_small", "map_medium")] == pytest.approx([0.5, 1.0, 0.0])
    assert math.isnan(scores["map_large"])


def test_thresholds():
    shifted = BOXES[:1] + numpy.array([0.0, 0.0, 4.0, 0.0])  # an overlap of 10 / 14
    scores = mean_average_precision([(BOXES[:1], [0])], [(shifted, [0.9], [0])], thresholds=[0.5, 0.75])
    assert [scores[name] for name in ("map_50", "map_75", "map")] == pytest.approx([1.0, 0.0, 0.5])


def test_a_crowd_takes_any_number_of_detections_and_need_not_be_found():
    crowd = numpy.array([[100.0, 0.0, 200.0, 100.0]])
    inside = [[100.0, 0.0, 110.0, 10.0], [150.0, 50.0, 170.0, 60.0], [195.0, 0.0, 204.0, 10.0]]  # the last by 5 / 9
    true, found = (numpy.concatenate([BOXES, crowd]), [0, 0, 0]), numpy.concatenate([inside, BOXES])
    detections = [(found, [0.9, 0.8, 0.7, 0.6, 0.5], [0] * 5)]
    scores = mean_average_precision([true], detections, iscrowd=[[0, 0, 1]])
    assert scores["map_50"] == 1.0
    assert scores["map_75"] == pytest.approx((51 * 2 / 3 + 50 * 2 / 3) / 101)  # the third detection is wrong there
    assert mean_average_precision([true], detections)["map_50"] < 0.5
    alone = mean_average_precision([(crowd, [1])], [(crowd, [0.5], [1])], iscrowd=[[True]])
    assert math.isnan(alone["map"])


def test_an_object_that_is_no_crowd_is_preferred():
    """Even where the crowd overlaps more."""
    crowd = numpy.array([[0.0, 0.0, 50.0, 50.0]])
    true, found = numpy.concatenate([crowd, BOXES[:1]]), BOXES[:1] + numpy.array([0.0, 0.0, 0.0, 4.0])
    scores = mean_average_precision([(true, [0, 0])], [(found, [0.5], [0])], iscrowd=[numpy.array([1, 0])])
    assert scores["map_50"] == pytest.approx(1.0)
    assert scores["mar_100"] == 0.5


def test_areas_that_are_given():
    scores = mean_average_precision([(BOXES, [0, 0])], [(BOXES, [0.9, 0.8], [0, 0])], area=[[100.0, 99.0**2]])
    assert [scores[name] for name in ("map_small", "map_large")] == pytest.approx([1.0, 1.0])
    assert math.isnan(scores["map_medium"])


def test_nothing_found_and_nothing_there():
    nothing = (numpy.zeros((0, 4)), [], [])
    assert mean_average_precision([(BOXES, [0, 0])], [nothing])["map"] == 0.0
    assert math.isnan(mean_average_precision([nothing[:2]], [nothing])["map"])


@pytest.mark.parametrize(
    ("true", "found", "options", "error"),
    [
        ([], [], {}, DataError),
        ([(BOXES, [0, 0])], [], {}, ShapeError),
        ([(BOXES, [0])], [(BOXES, [1.0, 1.0], [0, 0])], {}, ShapeError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0])], {}, ShapeError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, numpy.nan], [0, 0])], {}, DataError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0], [0, 0])], {"thresholds": [1.5]}, ParameterError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0], [0, 0])], {"max_detections": (10, 1)}, ParameterError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0], [0, 0])], {"iscrowd": [[0, 0], [0, 0]]}, ShapeError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0], [0, 0])], {"iscrowd": [[0]]}, ShapeError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0], [0, 0])], {"iscrowd": [[0.0, 1.0]]}, DtypeError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0], [0, 0])], {"area": [3.0]}, ShapeError),
        ([(BOXES, [0, 0])], [(BOXES, [1.0, 1.0], [0, 0])], {"area": [["a", "b"]]}, DtypeError),
    ],
)
def test_what_does_not_fit_is_refused(true, found, options, error):
    with pytest.raises(error, match="mean_average_precision: "):
        mean_average_precision(true, found, **options)
