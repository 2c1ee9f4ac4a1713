"""Draw pictures of shapes, with their boxes, classes and masks: data for detection and segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy

from minidl.errors import ParameterError, UnknownNameError
from minidl.ops._scalars import scalars_checked
from minidl.random import Source, as_generator

__all__ = ["SHAPES", "ShapePictures", "make_shapes"]

SHAPES = ("circle", "square", "triangle", "cross", "diamond")
"""The shapes that there are."""

COLORS = {
    "red": (0.9, 0.15, 0.15),
    "green": (0.1, 0.75, 0.2),
    "blue": (0.15, 0.25, 0.9),
    "yellow": (0.95, 0.85, 0.1),
    "magenta": (0.85, 0.2, 0.8),
    "cyan": (0.1, 0.8, 0.85),
}
"""Red, green and blue of each colour, from 0 to 1."""

_TRIES = 50
"""How often a place for a shape is drawn before the picture stays without it."""


class ShapePictures(NamedTuple):
    """Pictures and what is on them.

    Attributes
    ----------
    images : float32 array, shape (N, 3, size, size)
        Red, green and blue, from 0 to 1.
    boxes : list of float32 array, shape (M, 4)
        For each picture, the smallest box around each of its M shapes: the centre's x and y, width and height, as shares of the
        picture's width and height.
    classes : list of int64 array, shape (M,)
        The shape in each box, an index into the names that were asked for.
    masks : int64 array, shape (N, size, size)
        For each pixel 0 for the background, or the class of its shape plus 1.
    """

    images: numpy.ndarray
    boxes: list[numpy.ndarray]
    classes: list[numpy.ndarray]
    masks: numpy.ndarray


@scalars_checked
def make_shapes(
    n_samples: int = 100,
    size: int = 64,
    *,
    shapes: Sequence[str] = ("circle", "square", "triangle"),
    max_objects: int = 3,
    noise: float = 0.05,
    random_state: Source = None,
) -> ShapePictures:
    """Draw pictures of coloured shapes whose boxes do not overlap.

    Each picture has a grey background of its own brightness, and from 1 to ``max_objects`` shapes. Their kind, colour, size (from
    a sixth to two fifths of the picture) and place are drawn independently of one another. Normal noise lies over all of it.

    Parameters
    ----------
    n_samples : int, default 100
    size : int, default 64
        Of a picture, in pixels; at least 16.
    shapes : sequence of str, default ("circle", "square", "triangle")
        Some of circle, square, triangle, cross and diamond; the classes are the positions in it.
    max_objects : int, default 3
        From 1 to 10. A picture has fewer where no place was found for one more.
    noise : float, default 0.05
        The standard deviation.
    random_state : int, numpy.random.Generator or None, default None
        A seed, or a generator; None is the generator of ``minidl.seed``.

    Returns
    -------
    ShapePictures
        The tuple (images, boxes, classes, masks).

    Raises
    ------
    ParameterError
        If a number is out of its range, or a shape is asked for twice or not at all.
    UnknownNameError
        If there is no such shape.

    Examples
    --------
    >>> images, boxes, classes, masks = make_shapes(4, random_state=0)
    >>> images.shape, masks.shape
    ((4, 3, 64, 64), (4, 64, 64))
    >>> boxes[0].shape, classes[0]  # two circles
    ((2, 4), array([0, 0]))
    """
    _check(n_samples, size, shapes, max_objects, noise)
    generator = as_generator(random_state)
    images = numpy.empty((n_samples, 3, size, size), "float32")
    masks = numpy.zeros((n_samples, size, size), "int64")
    boxes, classes = [], []
    for image, mask in zip(images, masks, strict=True):
        found, kinds = _draw_picture(image, mask, shapes, max_objects, generator)
        boxes.append(found)
        classes.append(kinds)
    for image in images:
        image += noise * generator.standard_normal(image.shape, dtype="float32")
    return ShapePictures(images.clip(0, 1, out=images), boxes, classes, masks)


def _draw_picture(
    image: numpy.ndarray, mask: numpy.ndarray, shapes: Sequence[str], most: int, generator: numpy.random.Generator
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Fill an image, (3, size, size), and its mask; return the boxes, (M, 4), and classes, (M,)."""
    size = mask.shape[0]
    image[...] = generator.uniform(0.3, 0.6)
    palette = numpy.array(list(COLORS.values()), "float32")
    boxes, classes = [], []
    taken = numpy.zeros(mask.shape, bool)
    for _ in range(generator.integers(1, most + 1)):
        kind, color = int(generator.integers(len(shapes))), palette[generator.integers(len(palette))]
        covered = _find_place(taken, shapes[kind], generator)
        if covered is None:
            continue
        image[:, covered] = color[:, None]
        mask[covered] = kind + 1
        boxes.append(_box_around(covered) / size)
        classes.append(kind)
    return numpy.array(boxes, "float32").reshape(-1, 4), numpy.array(classes, "int64")


def _find_place(taken: numpy.ndarray, shape: str, generator: numpy.random.Generator) -> numpy.ndarray | None:
    """Return which pixels, (size, size), a shape of random size and place covers, and take its square; None if none is free."""
    size = taken.shape[0]
    y, x = numpy.mgrid[:size, :size] + 0.5  # the pixels' centres
    for _ in range(_TRIES):
        half = size * generator.uniform(1 / 12, 1 / 5)
        cx, cy = generator.uniform(half, size - half, 2)
        dx, dy = (x - cx) / half, (y - cy) / half
        square = numpy.maximum(abs(dx), abs(dy)) <= 1
        if not taken[square].any():
            taken |= square
            return square & _inside(shape, dx, dy)
    return None


def _inside(shape: str, dx: numpy.ndarray, dy: numpy.ndarray) -> numpy.ndarray:
    """Return which points of the square from -1 to 1 are in a shape; y grows downwards."""
    if shape == "circle":
        return dx**2 + dy**2 <= 1
    if shape == "triangle":
        return 2 * abs(dx) <= 1 + dy  # the apex above, the base below
    if shape == "cross":
        return numpy.minimum(abs(dx), abs(dy)) <= 0.35
    if shape == "diamond":
        return abs(dx) + abs(dy) <= 1
    return numpy.ones(dx.shape, bool)


def _box_around(covered: numpy.ndarray) -> numpy.ndarray:
    """Return the centre, width and height, in pixels, of the smallest box around the pixels."""
    rows, columns = (numpy.flatnonzero(covered.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    return numpy.array([(left + right + 1) / 2, (top + bottom + 1) / 2, right + 1 - left, bottom + 1 - top])


def _check(n_samples: int, size: int, shapes: Sequence[str], max_objects: int, noise: float) -> None:
    ranges = {"n_samples": (n_samples, 1, 10**7), "size": (size, 16, 4096), "max_objects": (max_objects, 1, 10)}
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise ParameterError(f"make_shapes: {name} must be from {least} to {most}, got {value!r}")
    if not 0.0 <= noise < numpy.inf:
        raise ParameterError(f"make_shapes: noise must be a standard deviation, got {noise!r}")
    for shape in shapes:
        if shape not in SHAPES:
            raise UnknownNameError.among("shape", shape, SHAPES)
    if not shapes or len(set(shapes)) < len(shapes):
        raise ParameterError(f"make_shapes: shapes must be different names of shapes, got {shapes!r}")
