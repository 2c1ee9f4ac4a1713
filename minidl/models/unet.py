"""U-Net: a class for each pixel."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers import BatchNorm2d, Conv2d, ConvTranspose2d, Identity, MaxPool2d, Parallel, ReLU
from minidl.models.initial import start_convolutions
from minidl.models.sequential import Sequential
from minidl.ops._scalars import scalars_checked, shown

__all__ = ["unet"]


@scalars_checked
def unet(
    classes: int,
    channels: int = 3,
    width: int = 64,
    depth: int = 4,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Sequential:
    r"""Build a U-Net, which names the class of each pixel.

    Figure 1 of the paper, one level after another, each half as large as the one above and with twice the channels::

        x -- convs ------------- skip ------------- concatenate -- convs -- 1x1 -- logits
                \                                    /
              max pool                           up-conv 2x2
                  \                                /
                   `- convs -- ... lower ... -----'

    Convolutions of 3x3 are padded, so that the logits have the size of the image, and followed by batch normalisation, which the
    paper does not have.

    Parameters
    ----------
    classes : int
        K.
    channels : int, default 3
        Of the image.
    width : int, default 64
        The channels of the first level.
    depth : int, default 4
        How often the image is halved; its sides must be multiples of 2^depth.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Returns
    -------
    Sequential
        From images (N, channels, H, W) to logits (N, K, H, W); ``CrossEntropyLoss`` takes them with classes (N, H, W).

    Raises
    ------
    ParameterError
        If a size is not positive, or the depth is more than 16.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.

    Examples
    --------
    >>> model = unet(4, width=8, depth=2)
    >>> model.forward(numpy.zeros((1, 3, 16, 24), "float32")).shape
    (1, 4, 16, 24)
    """
    for name, size, least in (
        ("classes", classes, 1),
        ("channels", channels, 1),
        ("width", width, 1),
        ("depth", depth, 0),
    ):
        if size < least:
            raise ParameterError(f"unet: {name} must be {least} or more, got {size!r}")
    if depth > 16:  # the channels double each time, and would fill any memory
        raise ParameterError(f"unet: depth must be 16 or less, got {shown(depth)}")
    options: dict[str, Any] = {"dtype": dtype, "generator": generator}

    def convolve(inside: int, outside: int) -> list[Any]:
        layers: list[Any] = []
        for before in (inside, outside):
            layers += [
                Conv2d(before, outside, 3, padding=1, bias=False, **options),
                BatchNorm2d(outside, dtype=dtype),
                ReLU(),
            ]
        return layers

    def level(inside: int, width: int, below: int) -> list[Any]:
        layers = convolve(inside, width)
        if not below:
            return layers
        up = ConvTranspose2d(2 * width, width, 2, stride=2, **options)
        lower = [MaxPool2d(2), *level(width, 2 * width, below - 1), up]
        return [*layers, Parallel({"skip": Identity(), "below": lower}), *convolve(2 * width, width)]

    model = Sequential([*level(channels, width, depth), Conv2d(width, classes, 1, **options)])
    start_convolutions(model, generator)
    return model
