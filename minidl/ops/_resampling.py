"""The arguments of padding and upsampling, checked and expanded to every axis."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from minidl.errors import ParameterError, ShapeError
from minidl.ops._namespace import Array
from minidl.ops._scalars import is_count, plain, shown
from minidl.ops._windows import Shape, require_addressable, require_images

__all__ = ["MODES", "Scale", "require_pixels", "scales", "widths"]

MODES = ("constant", "reflect", "replicate", "circular")
_VERBS = {"reflect": "reflect", "circular": "repeat"}


class Scale(NamedTuple):
    """The resampling of one axis."""

    before: int
    """Its length in x."""
    after: int
    """Its length in y."""
    step: float
    """The distance between pixels of y, in pixels of x."""


def require_pixels(x: Array, op: str) -> None:
    """Raise unless x is a batch of images or of sequences that are not empty."""
    require_images(x, "x", op)
    if x.ndim not in (3, 4):
        raise ShapeError(f"{op}: x must have shape (N, C, H, W) or (N, C, L), got {x.shape}")
    if 0 in x.shape[2:]:
        raise ShapeError(f"{op}: the images of x are empty, got shape {x.shape}")


def scales(op: str, image: Shape, size: Any, scale_factor: Any, unchanged: bool = True) -> tuple[Scale, ...]:
    """Return the resampling of each axis; with ``unchanged`` an axis whose length stays the same has step 1 whatever its factor.

    >>> scales("upsample_nearest", (4, 5), None, (2, 1.5))
    (Scale(before=4, after=8, step=0.5), Scale(before=5, after=7, step=0.6666666666666666))
    """
    axes = len(image)
    if (size is None) == (scale_factor is None):
        raise ParameterError(f"{op}: give either size or scale_factor; got {shown(size)} and {shown(scale_factor)}")
    given = size if scale_factor is None else scale_factor
    values = tuple(given) if isinstance(given, (tuple, list)) else (given,) * axes
    if scale_factor is None:
        if len(values) != axes or not all(is_count(m, 1) for m in values):
            raise ParameterError(
                f"{op}: size must be a whole number of at least 1, or {axes} of them, got {shown(size)}"
            )
        require_addressable(values, op)
        return tuple(Scale(n, int(m), n / m) for n, m in zip(image, values, strict=True))
    values = tuple(map(plain, values))
    if len(values) != axes or not all(isinstance(f, (int, float)) and 0 < f < 2**62 for f in values):
        raise ParameterError(
            f"{op}: scale_factor must be a positive number, or {axes} of them, got {shown(scale_factor)}"
        )
    after = [math.floor(n * f) for n, f in zip(image, values, strict=True)]
    if min(after) < 1:
        raise ParameterError(f"{op}: scale_factor {scale_factor!r} reduces images of {image} to nothing")
    require_addressable(tuple(after), op)
    return tuple(
        Scale(n, m, 1.0 if unchanged and n == m else 1 / f) for n, m, f in zip(image, after, values, strict=True)
    )


def widths(op: str, shape: Shape, padding: Any, mode: str) -> tuple[tuple[int, int], ...]:
    """Return the padding (before, after) of every axis of an array.

    >>> widths("pad", (2, 3, 4), (1, 2), "constant")
    ((0, 0), (0, 0), (1, 2))
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise ParameterError(f"{op}: mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
    flat = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * 4
    if len(flat) % 2 or not all(map(is_count, flat)):
        raise ParameterError(
            f"{op}: padding must be a whole number from 0 on, or pairs of them, (before, after) of the last axis first; "
            f"got {shown(padding)}"
        )
    flat = tuple(n.__index__() for n in flat)
    if len(flat) // 2 > len(shape):
        raise ShapeError(f"{op}: padding is for the last {len(flat) // 2} axes, but x has shape {shape}")
    pairs = tuple(zip(flat[::2], flat[1::2], strict=True))[::-1]
    pairs = ((0, 0),) * (len(shape) - len(pairs)) + pairs
    least = {"reflect": 1, "circular": 0}
    for n, pair in zip(shape, pairs, strict=True):
        if mode in least and max(pair) > max(n - least[mode], 0):
            raise ShapeError(f"{op}: an axis of length {n} is too short to {_VERBS[mode]} {max(pair)} elements of")
        if mode == "replicate" and max(pair) and n == 0:
            raise ShapeError(f"{op}: an empty axis has no edge to repeat, got shape {shape}")
    require_addressable(tuple(n + sum(pair) for n, pair in zip(shape, pairs, strict=True)), op)
    return pairs
