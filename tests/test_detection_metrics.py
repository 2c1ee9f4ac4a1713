"""Mean average precision on cases that are worked out by hand; tests/peers compares it with COCO's own tools."""

import math

import numpy
import pytest

from minidl.errors import DataError, ParameterError, ShapeError
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
    ],
)
def test_what_does_not_fit_is_refused(true, found, options, error):
    with pytest.raises(error, match="mean_average_precision: "):
        mean_average_precision(true, found, **options)
