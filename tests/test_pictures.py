"""Pictures of a classifier's results."""

import sys

import numpy
import pytest

from minidl.errors import DataError, MissingDependencyError, ParameterError, ShapeError, TargetError
from minidl.metrics import draw_confusion_matrix, draw_worst_mistakes, pictures, worst_mistakes

CLASSES = ("cat", "dog", "owl")
TRUE = numpy.array([0, 1, 2, 0])
SCORES = numpy.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.0, 0.55, 0.45], [0.2, 0.2, 0.6]])
IMAGES = numpy.arange(4 * 25, dtype="uint8").reshape(4, 1, 5, 5)


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures that are written."""
    pytest.importorskip("matplotlib")
    figures = []
    write = pictures._write
    monkeypatch.setattr(pictures, "_write", lambda figure, path: (figures.append(figure), write(figure, path)))
    return figures


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_confusion_matrix(tmp_path, drawn):
    draw_confusion_matrix(tmp_path / "a.png", TRUE, SCORES, CLASSES)
    assert is_png(tmp_path / "a.png")
    [panel] = drawn[0].axes
    shares = numpy.array([[0.5, 0, 0.5], [1, 0, 0], [0, 1, 0]])
    numpy.testing.assert_array_equal(panel.images[0].get_array(), shares)
    assert {text.get_position(): text.get_text() for text in panel.texts} == {
        (0, 0): "1",
        (2, 0): "1",
        (0, 1): "1",
        (1, 2): "1",
    }
    assert [label.get_text() for label in panel.get_yticklabels()] == list(CLASSES)
    assert panel.get_title() == "accuracy 25.00% on 4 examples"


def test_the_most_decided_mistakes_come_first():
    assert worst_mistakes(TRUE, SCORES).tolist() == [1, 3, 2]
    assert worst_mistakes(TRUE, SCORES, 1).tolist() == [1]
    assert worst_mistakes(SCORES.argmax(axis=1), SCORES).tolist() == []


def test_bytes_have_no_negative_excess():
    assert worst_mistakes([0, 1], numpy.array([[0, 9], [255, 0]], dtype="uint8")).tolist() == [1, 0]


def test_the_worst_mistakes(tmp_path, drawn):
    draw_worst_mistakes(tmp_path / "a.png", IMAGES, TRUE, SCORES, CLASSES, count=2)
    assert is_png(tmp_path / "a.png")
    assert [panel.get_title() for panel in drawn[0].axes] == ["cat?\ndog", "owl?\ncat"]
    numpy.testing.assert_array_equal(drawn[0].axes[0].images[0].get_array(), IMAGES[1, 0] / 255)


def test_floats_are_stretched_and_colours_kept(tmp_path, drawn):
    images = numpy.linspace(-3, 5, 4 * 3 * 4).reshape(4, 3, 2, 2)
    draw_worst_mistakes(tmp_path / "a.png", images, TRUE, SCORES, CLASSES)
    shown = drawn[0].axes[0].images[0].get_array()
    numpy.testing.assert_allclose(shown, numpy.linspace(0, 1, 12).reshape(3, 2, 2).transpose(1, 2, 0), atol=1e-12)


def test_images_without_a_channel_and_without_contrast(tmp_path, drawn):
    draw_worst_mistakes(tmp_path / "a.png", numpy.ones((4, 5, 5)), TRUE, SCORES, CLASSES)
    assert not drawn[0].axes[0].images[0].get_array().any()


def test_no_mistakes(tmp_path, drawn):
    draw_worst_mistakes(tmp_path / "a.png", IMAGES, SCORES.argmax(axis=1), SCORES, CLASSES)
    assert [text.get_text() for text in drawn[0].texts] == ["no mistakes"]


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ShapeError, r"\(4, 1 or 3, H, W\), got \(4, 5, 5, 1\); .*transpose", {"images": IMAGES.transpose(0, 2, 3, 1)}),
        (ShapeError, r"got \(3, 1, 5, 5\)$", {"images": IMAGES[:3]}),
        (ShapeError, "3 columns, but there are 2 classes", {"classes": ("cat", "dog")}),
        (ShapeError, r"must be of shape \(N, K\)", {"y_score": numpy.ones(4)}),
        (TargetError, "class numbers from 0 to 2, got 0 to 3", {"y_true": numpy.array([0, 1, 3, 0])}),
        (ParameterError, "count must be a positive integer, got 0", {"count": 0}),
        (ParameterError, "at least one class", {"classes": ()}),
        (DataError, "NaN", {"y_score": SCORES * numpy.nan}),
    ],
)
def test_what_cannot_be_drawn(tmp_path, error, words, change):
    given = {"images": IMAGES, "y_true": TRUE, "y_score": SCORES, "classes": CLASSES} | change
    with pytest.raises(error, match=words):
        draw_worst_mistakes(tmp_path / "a.png", **given)
    assert not list(tmp_path.iterdir())


def test_classes_without_a_name(tmp_path):
    with pytest.raises(TargetError, match="y_pred must hold class numbers from 0 to 1, got 0 to 2"):
        draw_confusion_matrix(tmp_path / "a.png", [0, 1], [0, 2], ("cat", "dog"))


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"minidl\[plot\]"):
        draw_confusion_matrix(tmp_path / "a.png", TRUE, SCORES, CLASSES)
