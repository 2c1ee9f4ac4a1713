"""Pictures of a classifier's results as PNG files: the confusion matrix, and the worst mistakes.

They need matplotlib, from the extra ``plot``; it is imported only when a picture is drawn.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import MissingDependencyError, ParameterError, ShapeError, TargetError
from minidl.metrics.classification import confusion_matrix
from minidl.metrics.inputs import labels_pair, labels_with_scores, on_host, scores
from minidl.weights import write_atomically

__all__ = ["draw_confusion_matrix", "draw_worst_mistakes", "worst_mistakes"]


def draw_confusion_matrix(path: str | os.PathLike[str], y_true: Any, y_pred: Any, classes: Sequence[str]) -> None:
    """Write the confusion matrix as a PNG file: a row for each true class, coloured by its shares, with the counts.

    Parameters
    ----------
    path : path
        An existing file is replaced.
    y_true, y_pred : integer array, shape (N,)
        Class indices, positions in ``classes``. Scores of shape (N, K) stand for the class of the largest.
    classes : sequence of str
        The names of the K classes.

    Raises
    ------
    TargetError
        If a class index has no name.
    MissingDependencyError
        If matplotlib is not installed.
    """
    where = "draw_confusion_matrix"
    names = _check_classes(classes, where)
    true, pred = labels_pair(y_true, y_pred, where)
    for name, found in (("y_true", true), ("y_pred", pred)):
        _check_numbers(found, len(names), name, where)
    counts = confusion_matrix(true, pred, labels=range(len(names)))  # (K, K)
    shares = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure(where, 0.6 * len(names) + 2.5, 0.6 * len(names) + 2)
    panel = figure.add_subplot()
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in numpy.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            panel.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
    panel.set_yticks(range(len(names)), names)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    panel.set_title(f"accuracy {numpy.trace(counts) / len(true):.2%} on {len(true):,} examples")
    _write(figure, path)


def worst_mistakes(y_true: Any, y_score: Any, count: int | None = None) -> numpy.ndarray:
    """Return the positions of the misclassified examples, the most confident mistakes first.

    The confidence of a mistake is the score of the predicted class minus that of the true class.

    Parameters
    ----------
    y_true : integer array, shape (N,)
    y_score : array, shape (N, K)
        Probabilities or logits.
    count : int, optional
        The largest number of positions; all by default.

    Returns
    -------
    int64 array, shape (at most count,)

    Examples
    --------
    >>> worst_mistakes([0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [1.0, 0.0]])
    array([2, 1])
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, (int, numpy.integer)) or count < 1):
        raise ParameterError(f"worst_mistakes: count must be a positive integer, got {count!r}")
    found = scores(y_score, "worst_mistakes")
    if found.ndim != 2:
        raise ShapeError(f"worst_mistakes: y_score must be of shape (N, K), got {found.shape}")
    true, found = labels_with_scores(y_true, found, "worst_mistakes")
    _check_numbers(true, found.shape[1], "y_true", "worst_mistakes")
    every = numpy.arange(len(true))
    excess = found.max(axis=1).astype(numpy.float64) - found[every, true]  # (N,)
    wrong = every[found.argmax(axis=1) != true]
    return wrong[numpy.argsort(-excess[wrong], kind="stable")][:count]


def draw_worst_mistakes(
    path: str | os.PathLike[str], images: Any, y_true: Any, y_score: Any, classes: Sequence[str], count: int = 25
) -> None:
    """Write a grid of the images with the most confident mistakes as a PNG file.

    Above each image is the predicted class, and below that the true one. Bytes are shown unchanged; other images are scaled, each
    from its own minimum to its own maximum.

    Parameters
    ----------
    path : path
        An existing file is replaced.
    images : array, shape (N, C, H, W) or (N, H, W)
        C is 1 (grey) or 3 (red, green, blue).
    y_true : integer array, shape (N,)
    y_score : array, shape (N, K)
        Probabilities or logits; see :func:`worst_mistakes`.
    classes : sequence of str
        The names of the K classes.
    count : int, default 25
        The largest number of images.

    Raises
    ------
    ShapeError
        If the images are not images, or their number differs from the labels', or the number of scores from the classes'.
    MissingDependencyError
        If matplotlib is not installed.
    """
    where = "draw_worst_mistakes"
    names, found, pictures = _check_classes(classes, where), on_host(y_score), on_host(images)
    chosen = worst_mistakes(y_true, found, count)
    if found.shape[1] != len(names):
        raise ShapeError(f"{where}: y_score has {found.shape[1]} columns, but there are {len(names)} classes")
    if pictures.ndim == 3:
        pictures = pictures[:, None]  # (N, 1, H, W)
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or len(pictures) != len(found):
        advice = "; move the channels to axis 1 with images.transpose(0, 3, 1, 2)" if _channels_last(pictures) else ""
        raise ShapeError(
            f"{where}: images must be of shape ({len(found)}, 1 or 3, H, W), got {on_host(images).shape}{advice}"
        )
    true, _ = labels_with_scores(y_true, found, where)
    side = max(1, math.ceil(math.sqrt(len(chosen))))
    rows = max(1, math.ceil(len(chosen) / side))
    figure = _figure(where, 1.6 * side, 1.9 * rows)
    for place, index in enumerate(chosen):
        panel = figure.add_subplot(rows, side, place + 1)
        panel.imshow(_to_picture(pictures[index]), cmap="gray", vmin=0, vmax=1)
        panel.set_title(f"{names[found[index].argmax()]}?\n{names[true[index]]}", fontsize=8)
        panel.set_axis_off()
    if not len(chosen):
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center")
    _write(figure, path)


def _check_classes(classes: Sequence[str], where: str) -> list[str]:
    names = [str(name) for name in classes]
    if not names:
        raise ParameterError(f"{where}: classes must name at least one class")
    return names


def _check_numbers(labels: numpy.ndarray, classes: int, name: str, where: str) -> None:
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise TargetError(
            f"{where}: {name} must hold class numbers from 0 to {classes - 1}, got {labels.min()!s} to {labels.max()!s}"
        )


def _channels_last(images: numpy.ndarray) -> bool:
    return images.ndim == 4 and images.shape[3] in (1, 3)


def _to_picture(image: numpy.ndarray) -> numpy.ndarray:
    """Convert an image (C, H, W) for matplotlib: (H, W) or (H, W, 3), from 0 to 1."""
    shown = image.astype(numpy.float64)
    if image.dtype == numpy.uint8:
        shown /= 255
    else:
        low, high = shown.min(), shown.max()
        shown = (shown - low) / (high - low) if high > low else numpy.zeros_like(shown)
    return shown[0] if len(shown) == 1 else shown.transpose(1, 2, 0)


def _figure(where: str, width: float, height: float) -> Any:
    """Return an empty figure without a window."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError.needs(where, "matplotlib", "plot") from error
    return Figure(figsize=(width, height), layout="constrained")


def _write(figure: Any, path: str | os.PathLike[str]) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomically(path, content.getvalue())
