"""Seeded changes to batches of images that keep their classes.

Each is a function ``(images, generator) -> images`` on batches of shape (N, C, H, W). It draws for every image separately
and changes nothing in place; :class:`Compose` chains several. The same generator gives the same images.

``model.fit(x, y, augment=RandomCrop(28, padding=2))`` changes every training batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.ops._scalars import counts, plain, scalars_checked

__all__ = [
    "Compose",
    "Cutout",
    "Mixup",
    "Normalize",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomRotation",
]

Generator = numpy.random.Generator


def _check(images: numpy.ndarray, name: str) -> None:
    if getattr(images, "ndim", None) != 4:
        raise ShapeError(f"{name}: expected a batch of images (N, C, H, W), got shape {numpy.shape(images)}")
    if images.shape[3] in (1, 3) and min(images.shape[1:3]) > 4:
        raise ShapeError(
            f"{name}: expected a batch of images (N, C, H, W), got shape {images.shape}, whose channels seem to be last: "
            "give images.transpose(0, 3, 1, 2)"
        )


class Compose:
    """Apply one change after another.

    >>> flip = RandomHorizontalFlip(1.0)
    >>> Compose(flip, flip)(numpy.arange(4.0).reshape(1, 1, 1, 4), numpy.random.default_rng(0)).ravel()
    array([0., 1., 2., 3.])
    """

    @scalars_checked
    def __init__(self, *changes: Any) -> None:
        self.changes = changes

    def __call__(self, images: numpy.ndarray, generator: Generator) -> numpy.ndarray:
        """Return the changed images."""
        for change in self.changes:
            images = change(images, generator)
        return images


class RandomHorizontalFlip:
    """Mirror each image left to right with probability p."""

    @scalars_checked
    def __init__(self, p: float = 0.5) -> None:
        if not 0.0 <= p <= 1.0:
            raise ParameterError(f"RandomHorizontalFlip: p must be a probability, from 0 to 1, got {p!r}")
        self.p = p

    def __call__(self, images: numpy.ndarray, generator: Generator) -> numpy.ndarray:
        """Return the changed images."""
        _check(images, "RandomHorizontalFlip")
        mirrored = generator.random(len(images)) < self.p
        changed = images.copy()
        changed[mirrored] = images[mirrored, :, :, ::-1]
        return changed


class RandomCrop:
    """Crop each image at a random position, after padding it.

    Parameters
    ----------
    size : int or (int, int)
        Height and width of the crop.
    padding : int, default 0
        Rows and columns of ``fill`` to add on each side first.
    fill : float, default 0.0

    Examples
    --------
    >>> RandomCrop(2)(numpy.arange(9.0).reshape(1, 1, 3, 3), numpy.random.default_rng(0))
    array([[[[4., 5.],
             [7., 8.]]]])
    """

    @scalars_checked
    def __init__(self, size: int | tuple[int, int], padding: int = 0, fill: float = 0.0) -> None:
        self.size = counts((size, size) if isinstance(plain(size), int) else size, "RandomCrop", "size")
        if len(self.size) != 2 or min(self.size) < 1 or padding < 0:
            raise ParameterError(
                f"RandomCrop: size must be positive and padding not negative, got {size!r}, {padding!r}"
            )
        self.padding, self.fill = padding, fill

    def __call__(self, images: numpy.ndarray, generator: Generator) -> numpy.ndarray:
        """Return the changed images, (N, C, *size)."""
        _check(images, "RandomCrop")
        sides = ((0, 0), (0, 0), (self.padding,) * 2, (self.padding,) * 2)
        padded = numpy.pad(images, sides, constant_values=self.fill)
        rooms = [whole - part for whole, part in zip(padded.shape[2:], self.size, strict=True)]
        if min(rooms) < 0:
            raise ShapeError(f"RandomCrop: cannot cut {self.size} out of {padded.shape[2:]}, padding included")
        top, left = (generator.integers(0, room + 1, len(images)) for room in rooms)
        windows = numpy.lib.stride_tricks.sliding_window_view(
            padded, self.size, axis=(2, 3)
        )  # (N, C, tops, lefts, *size)
        return numpy.ascontiguousarray(windows[numpy.arange(len(images)), :, top, left])


class RandomRotation:
    """Rotate each image about its centre by a random angle from -degrees to degrees; pixels from outside are 0.

    Pixels are interpolated bilinearly. Positive angles rotate counterclockwise.
    """

    @scalars_checked
    def __init__(self, degrees: float) -> None:
        if not degrees >= 0:
            raise ParameterError(f"RandomRotation: degrees must not be negative, got {degrees!r}")
        self.degrees = degrees

    def __call__(self, images: numpy.ndarray, generator: Generator) -> numpy.ndarray:
        """Return the changed images."""
        _check(images, "RandomRotation")
        if images.dtype.kind != "f":
            raise DtypeError(
                f"RandomRotation: expected floating-point images, got {images.dtype}; give images.astype('float32')"
            )
        angles = numpy.deg2rad(generator.uniform(-self.degrees, self.degrees, len(images)))
        return rotated(images, angles)


def rotated(images: numpy.ndarray, angles: numpy.ndarray) -> numpy.ndarray:
    """Rotate image n counterclockwise by angles[n] radians about its centre.

    With (y, x) the position of a pixel relative to the centre, y downwards, its source is::

        (y cos(a) + x sin(a), x cos(a) - y sin(a))

    The source lies between four pixels, which are interpolated bilinearly.
    """
    n, channels, height, width = images.shape
    cos, sin = (f(angles)[:, None, None] for f in (numpy.cos, numpy.sin))
    y, x = numpy.mgrid[:height, :width].astype(float)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_y = y * cos + x * sin + (height - 1) / 2  # (N, H, W)
    from_x = x * cos - y * sin + (width - 1) / 2
    top, left = numpy.floor(from_y).astype(int), numpy.floor(from_x).astype(int)
    down, right = from_y - top, from_x - left
    framed = numpy.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 3, 1)  # (N, H + 2, W + 2, C)
    every = numpy.arange(n)[:, None, None]
    result = numpy.zeros((n, height, width, channels), images.dtype)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = numpy.clip(top + dy + 1, 0, height + 1), numpy.clip(left + dx + 1, 0, width + 1)
        share = (down if dy else 1 - down) * (right if dx else 1 - right)
        result += share[..., None].astype(images.dtype) * framed[every, row, column]
    return numpy.ascontiguousarray(result.transpose(0, 3, 1, 2))


class Cutout:
    """Fill a square at a random position of each image with ``fill``.

    T. DeVries, G. Taylor, "Improved regularization of convolutional neural networks with cutout", arXiv:1708.04552 (2017).
    """

    @scalars_checked
    def __init__(self, size: int, fill: float = 0.0) -> None:
        if size < 1:
            raise ParameterError(f"Cutout: size must be positive, got {size!r}")
        self.size, self.fill = size, fill

    def __call__(self, images: numpy.ndarray, generator: Generator) -> numpy.ndarray:
        """Return the changed images."""
        _check(images, "Cutout")
        inside = []
        for axis in (2, 3):
            length = images.shape[axis]
            first = generator.integers(0, length, len(images))[:, None] - self.size // 2
            inside.append((numpy.arange(length) >= first) & (numpy.arange(length) < first + self.size))
        square = inside[0][:, None, :, None] & inside[1][:, None, None, :]  # (N, 1, H, W)
        return numpy.where(square, numpy.asarray(self.fill, images.dtype), images)


class Normalize:
    """Subtract a mean and divide by a standard deviation, for each channel.

    Parameters
    ----------
    mean, std : sequence of float
        One for each channel.

    Examples
    --------
    >>> change = Normalize.from_data(numpy.array([[[[0.0, 4.0]]]]))
    >>> change.mean, change.std
    ([2.0], [2.0])
    >>> change(numpy.array([[[[6.0]]]]))
    array([[[[2.]]]])
    """

    @scalars_checked
    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = [float(m) for m in mean], [float(s) for s in std]
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ParameterError(
                f"Normalize: expected as many positive deviations as means, got {self.mean} and {self.std}"
            )

    @classmethod
    def from_data(cls, images: numpy.ndarray) -> Normalize:
        """Measure mean and deviation on images; those of bytes are in the range 0 to 255."""
        _check(images, "Normalize.from_data")
        axes = (0, 2, 3)
        return cls(images.mean(axis=axes, dtype=float), images.std(axis=axes, dtype=float))

    def __call__(self, images: numpy.ndarray, generator: Generator | None = None) -> numpy.ndarray:
        """Return the changed images; float32 if they were whole numbers."""
        _check(images, "Normalize")
        if images.shape[1] != len(self.mean):
            raise ShapeError(f"Normalize: expected {len(self.mean)} channels on axis 1, got shape {images.shape}")
        dtype = images.dtype if images.dtype.kind == "f" else numpy.dtype("float32")
        mean, std = (numpy.array(v)[:, None, None] for v in (self.mean, self.std))
        return images.astype(dtype) * (1 / std).astype(dtype) - (mean / std).astype(dtype)


class Mixup:
    """Blend each example with another, and the labels likewise.

    With a share l from Beta(alpha, alpha) for each example::

        x = l x + (1 - l) x'

    H. Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.

    Parameters
    ----------
    alpha : float
        Positive; small values leave most examples nearly unchanged.
    classes : int
        Number of classes; labels become probabilities over them, which ``CrossEntropyLoss`` takes.

    Examples
    --------
    In a training loop of your own, ``x, targets = mixup(images, labels, generator)`` comes before
    ``loss.forward(model.forward(x), targets)``. Blended from an image of zeros of class 0 and one of ones of class 1, a pixel
    equals the probability of class 1:

    >>> x, targets = Mixup(1.0, 2)(numpy.arange(2.0).reshape(2, 1, 1, 1), [0, 1], numpy.random.default_rng(0))
    >>> numpy.allclose(x.ravel(), targets[:, 1]), targets.sum(axis=1)
    (True, array([1., 1.]))
    """

    @scalars_checked
    def __init__(self, alpha: float, classes: int) -> None:
        if not (alpha > 0 and math.isfinite(alpha)) or classes < 1:
            raise ParameterError(f"Mixup: alpha and classes must be positive, got {alpha!r} and {classes!r}")
        self.alpha, self.classes = alpha, classes

    def __call__(
        self, images: numpy.ndarray, labels: numpy.ndarray, generator: Generator
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return blended images, and probabilities of shape (N, classes)."""
        _check(images, "Mixup")
        if images.dtype.kind != "f":
            raise DtypeError(
                f"Mixup: expected floating-point images, got {images.dtype}; give images.astype('float32')"
            )
        share = generator.beta(self.alpha, self.alpha, len(images)).astype(images.dtype)
        other = generator.permutation(len(images))
        targets = numpy.eye(self.classes, dtype=images.dtype)[labels]
        each = share[:, None, None, None]
        mixed = each * images + (1 - each) * images[other]
        return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[other]
