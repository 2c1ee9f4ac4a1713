"""Images as a published model expects them: resized, cropped, scaled and standardised as preprocessor_config.json says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from minidl.data.augment import Normalize
from minidl.errors import DtypeError, FileFormatError, ParameterError, ShapeError
from minidl.ops._scalars import counts, is_count, plain, scalars_checked
from minidl.ops.resample import upsample_bicubic, upsample_bilinear
from minidl.weights.safetensors_file import parse_json

__all__ = ["Preprocessor"]

_RESAMPLE = {2: upsample_bilinear, 3: upsample_bicubic}
"""Pillow's numbers of filters."""

_KNOWN = {
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize"),
    *("image_mean", "image_std", "do_convert_rgb", "image_processor_type", "feature_extractor_type", "processor_class"),
}


class Preprocessor:
    """Resize, crop in the middle, scale and standardise images, in this order.

    Pixels are averaged where an image shrinks, with Pillow's filters, and rounded to bytes after each axis, as there.

    Parameters
    ----------
    shortest_edge : int, optional
        Resize so that the shorter side has this length, and keep the proportions.
    size : int or (int, int), optional
        Resize to this height and width; one number is a square. Give one of the two, or neither.
    resample : int, default 3
        2 for bilinear, 3 for bicubic, which are Pillow's numbers.
    crop : int or (int, int), optional
        Cut out this height and width, in the middle.
    rescale : float, default 1 / 255
        What bytes are multiplied by.
    mean, std : sequence of float, optional
        Subtracted and divided by, for each channel.

    Raises
    ------
    ParameterError
        If a setting is not one of these.

    Examples
    --------
    >>> prepare = Preprocessor(shortest_edge=2, crop=(2, 2), mean=[0.5], std=[0.5])
    >>> prepare(numpy.full((1, 4, 6), 255, "uint8"))
    array([[[[1., 1.],
             [1., 1.]]]], dtype=float32)
    """

    @scalars_checked
    def __init__(
        self,
        shortest_edge: int | None = None,
        size: int | tuple[int, int] | None = None,
        resample: int = 3,
        crop: int | tuple[int, int] | None = None,
        rescale: float = 1 / 255,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        if shortest_edge is not None and size is not None:
            raise ParameterError("Preprocessor: give shortest_edge or size, not both")
        if resample not in _RESAMPLE:
            raise ParameterError(f"Preprocessor: resample must be 2 (bilinear) or 3 (bicubic), got {resample!r}")
        if shortest_edge is not None and not (is_count(shortest_edge) and shortest_edge > 0):
            raise ParameterError(f"Preprocessor: shortest_edge must be a positive whole number, got {shortest_edge!r}")
        if (mean is None) != (std is None):
            raise ParameterError("Preprocessor: give mean and std together")
        self.shortest_edge, self.resample, self.rescale = shortest_edge, resample, rescale
        self.size = None if size is None else _pair(size, "size")
        self.crop = None if crop is None else _pair(crop, "crop")
        self.normalize = None if mean is None or std is None else Normalize(mean, std)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Preprocessor:
        """Read the preprocessor_config.json of a folder.

        Raises
        ------
        FileFormatError
            If there is no such file, or it is not a JSON object.
        ParameterError
            If it asks for something that is not done here.
        """
        path = Path(folder) / "preprocessor_config.json"
        try:
            settings = parse_json(path.read_bytes())
        except FileNotFoundError as error:
            raise FileFormatError(f"there is no {path}") from error
        except ValueError as error:
            raise FileFormatError(f"{path} is not JSON: {error}") from error
        if not isinstance(settings, dict):
            raise FileFormatError(f"{path}: expected an object of settings, got {type(settings).__name__}")
        return cls.from_settings(settings)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Preprocessor:
        """Make the preprocessor that the content of a preprocessor_config.json describes.

        Raises
        ------
        ParameterError
            If it asks for something that is not done here.
        """
        # what is switched off or not set is no setting
        asked = {name for name, value in settings.items() if value not in (None, False) and not name.startswith("_")}
        if unknown := sorted(asked - _KNOWN):
            raise ParameterError(
                f"Preprocessor: preprocessor_config.json has {unknown[0]} = {settings[unknown[0]]!r}, which is not done here"
            )
        options: dict[str, Any] = {}
        if settings.get("do_resize", True) and settings.get("size") is not None:
            options |= _read_size(settings)
            options["resample"] = settings.get("resample", 2)
        if settings.get("do_center_crop", False):
            crop = settings.get("crop_size")
            options["crop"] = _sides(crop, "crop_size")
        options["rescale"] = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
        if settings.get("do_normalize", True):
            options |= {"mean": settings.get("image_mean"), "std": settings.get("image_std")}
        return cls(**options)

    def __call__(self, images: Any) -> numpy.ndarray:
        """Return float32 images of shape (N, C, h, w).

        Parameters
        ----------
        images : uint8 array, shape (N, C, H, W) or (C, H, W)

        Raises
        ------
        DtypeError
            If the images are not bytes.
        ShapeError
            If they have another shape, or are smaller than the crop.
        """
        x = numpy.asarray(images)
        if x.dtype != numpy.uint8:
            raise DtypeError(f"Preprocessor: expected images of bytes (uint8), from 0 to 255, got dtype {x.dtype}")
        x = x[None] if x.ndim == 3 else x
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ShapeError(f"Preprocessor: expected images of shape (N, 1 or 3, H, W), got {numpy.shape(images)}")
        height, width = self.target(*x.shape[2:])
        y = x.astype("float32")
        for size in (
            (y.shape[2], width),
            (height, width),
        ):  # one axis after the other, because both are rounded to bytes
            if size != y.shape[2:]:
                y, _ = _RESAMPLE[self.resample](y, size, None, False, True)  # (N, C, H, w), then (N, C, h, w)
                y = numpy.rint(y).clip(0, 255)
        if self.crop is not None:
            top, left = ((n - m) // 2 for n, m in zip(y.shape[2:], self.crop, strict=True))
            if min(top, left) < 0:
                raise ShapeError(f"Preprocessor: cannot cut {self.crop} out of images of {y.shape[2:]} pixels")
            y = y[:, :, top : top + self.crop[0], left : left + self.crop[1]]
        y = y * numpy.float32(self.rescale)
        return y if self.normalize is None else self.normalize(y)

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to which an image is resized."""
        if self.size is not None:
            return self.size
        if self.shortest_edge is None:
            return height, width
        short = min(height, width)
        return self.shortest_edge * height // short, self.shortest_edge * width // short


def _pair(sides: Any, name: str) -> tuple[int, int]:
    """Return two sides, which may be given as one number."""
    found = counts((sides, sides) if isinstance(plain(sides), int) else sides, "Preprocessor", name)
    if len(found) != 2 or min(found) < 1:
        raise ParameterError(f"Preprocessor: {name} must be two positive whole numbers of pixels, got {sides!r}")
    return found[0], found[1]


def _sides(value: Any, name: str) -> tuple[int, int]:
    """Return height and width, which a file writes as one number or as a mapping of two."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    if isinstance(value, Mapping) and set(value) == {"height", "width"}:
        return value["height"], value["width"]
    raise ParameterError(f"Preprocessor: {name} must be a number, or height and width, got {value!r}")


def _read_size(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the setting for ``size``: a shorter side, or both."""
    size = settings["size"]
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return {"shortest_edge": size["shortest_edge"]}
    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type") or ""
    if isinstance(size, int) and kind.startswith(
        ("CLIP", "Bit")
    ):  # in old files a number is a square only for the others
        return {"shortest_edge": size}
    return {"size": _sides(size, "size")}
