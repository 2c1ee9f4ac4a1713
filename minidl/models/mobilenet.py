"""MobileNets: each convolution is split into one that sees space and one that sees channels."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers import BatchNorm2d, Chain, Conv2d, Dropout, GlobalAvgPool2d, Linear, ReLU6, Residual
from minidl.models.initial import start_convolutions, start_linear
from minidl.models.sequential import Sequential

__all__ = ["depthwise_separable", "inverted_residual", "mobilenet_v2"]

STAGES = (  # expansion t, channels c, blocks n, stride s of the first: table 2
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn_relu6(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int, how: dict[str, Any]
) -> Chain:
    """Return a convolution that keeps the image's size but for its stride, batch normalisation and ReLU6."""
    padding = kernel_size // 2
    return Chain(
        Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=False, **how
        ),
        BatchNorm2d(out_channels, dtype=how["dtype"]),
        ReLU6(),
    )


def depthwise_separable(
    in_channels: int,
    out_channels: int,
    stride: int = 1,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Chain:
    """Return the block of the first MobileNet: a 3x3 convolution of each channel by itself, then a 1x1 across channels.

    A. Howard et al., "MobileNets: Efficient convolutional neural networks for mobile vision applications" (2017), figure 3.
    With C channels in and out it takes 9 C + C^2 multiplications a pixel, where a convolution of 3x3 takes 9 C^2. (Rectified by
    ReLU6, as in the authors' code; the figure says ReLU.)

    >>> depthwise_separable(8, 16, stride=2).output_shape((8, 32, 32))
    (16, 16, 16)
    """
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    return Chain(
        _conv_bn_relu6(in_channels, in_channels, 3, stride, in_channels, how),
        _conv_bn_relu6(in_channels, out_channels, 1, 1, 1, how),
    )


def inverted_residual(
    in_channels: int,
    out_channels: int,
    stride: int,
    expand_ratio: int,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Residual | Chain:
    """Return the block of MobileNetV2: widen, filter each channel, narrow without an activation; and a shortcut.

    Sandler et al. (2018), figure 4d and table 1::

        x ---- 1x1 to t C, ReLU6 -- 3x3 on each channel, stride s, ReLU6 -- 1x1 to C' ----(+)---- y
          `------------------------ where s = 1 and C = C' ------------------------------'

    It is called inverted because the shortcut joins the narrow ends. With t = 1 the first convolution is left out.
    """
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    wide = in_channels * expand_ratio
    conv = Chain()
    if expand_ratio != 1:
        conv.append(_conv_bn_relu6(in_channels, wide, 1, 1, 1, how))
    conv.append(_conv_bn_relu6(wide, wide, 3, stride, wide, how))
    conv.append(Conv2d(wide, out_channels, 1, bias=False, **how))
    conv.append(BatchNorm2d(out_channels, dtype=dtype))
    kind = Residual if stride == 1 and in_channels == out_channels else Chain
    return kind({"conv": conv})


def mobilenet_v2(
    num_classes: int = 1000,
    width_mult: float = 1.0,
    stem: str = "imagenet",
    in_channels: int = 3,
    dropout: float = 0.2,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Sequential:
    """Build MobileNetV2.

    M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, "MobileNetV2: Inverted residuals and linear bottlenecks", CVPR
    2018, table 2. Parameters and running statistics have torchvision's names (``features.1.conv.0.0.weight``), so its weights
    load.

    Parameters
    ----------
    num_classes : int
    width_mult : float
        Multiplies all widths; they are rounded to multiples of 8.
    stem : "imagenet" or "cifar"
        The paper's, which halves the image five times; or one that leaves out the first two halvings, for images of 32x32.
    in_channels : int
    dropout : float
        Before the last layer.
    dtype : dtype
        Of the parameters.
    generator : numpy.random.Generator, optional
        Where initial weights and dropout masks come from; the one of ``minidl.seed`` otherwise.

    Raises
    ------
    ParameterError
        If there is no such stem.

    Notes
    -----
    Convolutions start as He et al. (2015) propose, with fan_out, the last layer normal with standard deviation 0.01, as in
    torchvision.

    Examples
    --------
    >>> model = mobilenet_v2(10, width_mult=0.25, stem="cifar")
    >>> model.output_shape((3, 32, 32))
    (10,)
    """
    if stem not in ("imagenet", "cifar"):
        raise ParameterError(f"mobilenet_v2: stem must be 'imagenet' or 'cifar', got {stem!r}")
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    small = stem == "cifar"
    channels = _multiple_of_8(32 * width_mult)
    features = Chain(_conv_bn_relu6(in_channels, channels, 3, 1 if small else 2, 1, how))  # 224 -> 112
    for t, c, n, s in STAGES:  # 112 -> 56 -> 28 -> 14 -> 7
        width = _multiple_of_8(c * width_mult)
        for block in range(n):
            stride = s if block == 0 and not (small and c == 24) else 1
            features.append(inverted_residual(channels, width, stride, t, **how))
            channels = width
    last = _multiple_of_8(1280 * max(1.0, width_mult))
    features.append(_conv_bn_relu6(channels, last, 1, 1, 1, how))
    model = Sequential(
        {
            "features": features,
            "avgpool": GlobalAvgPool2d(),  # (N, last)
            "classifier": Chain(Dropout(dropout, generator=generator), Linear(last, num_classes, **how)),
        }
    )
    start_convolutions(model, generator)
    start_linear(model, 0.01, generator)
    return model


def _multiple_of_8(channels: float) -> int:
    """Return the nearest multiple of 8 that is not more than a tenth below.

    >>> [_multiple_of_8(c) for c in (4, 24.0, 33.6, 11.9)]
    [8, 24, 32, 16]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
