"""VGG: 3x3 convolutions, with max pooling after every few of them."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Chain,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
)
from minidl.models.initial import start_convolutions, start_linear
from minidl.models.sequential import Sequential
from minidl.ops._scalars import scalars_checked

__all__ = ["CONFIGURATIONS", "small_vgg", "vgg"]

CONFIGURATIONS = {
    "A": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "B": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "D": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "E": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
"""The columns of table 1, with 11, 13, 16 and 19 layers that have weights. A number is a 3x3 convolution with so many
channels; M is max pooling, which halves the image."""


@scalars_checked
def vgg(
    configuration: str = "A",
    num_classes: int = 1000,
    in_channels: int = 3,
    batch_norm: bool = False,
    pooled: int = 7,
    hidden: int = 4096,
    dropout: float = 0.5,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Sequential:
    """Build a VGG network.

    Parameters have torchvision's names (``features.0.weight``, ``classifier.0.weight``), so its weights can be loaded:
    configurations A, B, D and E are its vgg11, vgg13, vgg16 and vgg19, and with ``batch_norm`` its vgg11_bn and so on.

    Parameters
    ----------
    configuration : str, default "A"
        A column of table 1 of the paper, or text of the same form, such as ``"32 32 M 64 64 M"``.
    num_classes : int, default 1000
    in_channels : int, default 3
    batch_norm : bool, default False
        Whether batch normalisation follows each convolution.
    pooled : int, default 7
        The size to which adaptive average pooling brings the image before the classifier.
    hidden : int, default 4096
        The width of the two hidden layers of the classifier.
    dropout : float, default 0.5
        The probability of dropout between the layers of the classifier.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights and the dropout masks; the generator of ``minidl.seed`` by default.

    Raises
    ------
    ParameterError
        If the configuration is invalid.

    Notes
    -----
    The initial weights are torchvision's: those of He et al. (2015) with fan_out for convolutions, normal with standard
    deviation 0.01 for the classifier, and 0 for biases.

    References
    ----------
    K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

    Examples
    --------
    >>> model = vgg("8 M 16 M", num_classes=10, pooled=2, hidden=32)
    >>> [name for name in model.state_dict() if "weight" in name]  # doctest: +NORMALIZE_WHITESPACE
    ['features.0.weight', 'features.3.weight', 'classifier.0.weight', 'classifier.3.weight', 'classifier.6.weight']
    """
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    features, channels = Chain(), in_channels
    for item in CONFIGURATIONS.get(configuration, configuration).split():
        if item == "M":
            features.append(MaxPool2d(2))  # (N, channels, H / 2, W / 2)
        elif item.isdecimal():
            features.append(Conv2d(channels, int(item), 3, padding=1, **how))  # (N, int(item), H, W)
            if batch_norm:
                features.append(BatchNorm2d(int(item), dtype=dtype))
            features.append(ReLU())
            channels = int(item)
        else:
            raise ParameterError(
                f"vgg: configuration must be one of {', '.join(CONFIGURATIONS)}, or numbers of channels and M's with spaces "
                f"between them, got {configuration!r}"
            )
    classifier = Chain(
        Linear(channels * pooled * pooled, hidden, **how),
        ReLU(),
        Dropout(dropout, generator=generator),
        Linear(hidden, hidden, **how),
        ReLU(),
        Dropout(dropout, generator=generator),
        Linear(hidden, num_classes, **how),
    )
    model = Sequential(
        {
            "features": features,
            "avgpool": AdaptiveAvgPool2d(pooled),
            "flatten": Flatten(),
            "classifier": classifier,
        }
    )
    start_convolutions(model, generator)
    start_linear(model, 0.01, generator)
    return model


@scalars_checked
def small_vgg(num_classes: int = 10, in_channels: int = 3, **how: Any) -> Sequential:
    """Build a VGG of six convolutions with batch normalisation, for images of 28x28 or 32x32; arguments of :func:`vgg`.

    >>> model = small_vgg(in_channels=1)
    >>> model.output_shape((1, 28, 28)), model.output_shape((1, 32, 32))
    ((10,), (10,))
    """
    settings: dict[str, Any] = {"batch_norm": True, "pooled": 2, "hidden": 256} | how
    return vgg("32 32 M 64 64 M 128 128 M", num_classes, in_channels, **settings)
