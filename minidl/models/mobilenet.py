"""MobileNets: convolutions split into one over space and one over channels."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers import BatchNorm2d, Chain, Conv2d, Dropout, GlobalAvgPool2d, Linear, ReLU6, Residual
from minidl.models.initial import start_convolutions, start_linear
from minidl.models.sequential import Sequential
from minidl.ops._scalars import scalars_checked

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
    """Return a padded convolution, batch normalisation and ReLU6."""
    padding = kernel_size // 2
    return Chain(
        Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=False, **how
        ),
        BatchNorm2d(out_channels, dtype=how["dtype"]),
        ReLU6(),
    )


@scalars_checked
def depthwise_separable(
    in_channels: int,
    out_channels: int,
    stride: int = 1,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Chain:
    """Build the block of the first MobileNet: a 3x3 convolution of each channel, then a 1x1 convolution across channels.

    For C channels in and out it takes 9 C + C^2 multiplications per pixel, instead of 9 C^2 for a 3x3 convolution. The
    activations are ReLU6, as in the authors' code.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int, default 1
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    References
    ----------
    A. Howard et al., "MobileNets: Efficient convolutional neural networks for mobile vision applications" (2017), figure 3.

    Examples
    --------
    >>> depthwise_separable(8, 16, stride=2).output_shape((8, 32, 32))
    (16, 16, 16)
    """
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    return Chain(
        _conv_bn_relu6(in_channels, in_channels, 3, stride, in_channels, how),
        _conv_bn_relu6(in_channels, out_channels, 1, 1, 1, how),
    )


@scalars_checked
def inverted_residual(
    in_channels: int,
    out_channels: int,
    stride: int,
    expand_ratio: int,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Residual | Chain:
    """Build the block of MobileNetV2: widen, filter each channel, narrow without an activation; and a shortcut.

    With expansion t, stride s, and C and C' channels in and out::

        x ---- 1x1 to t C, ReLU6 -- 3x3 on each channel, stride s, ReLU6 -- 1x1 to C' ----(+)---- y
          `-------------------------- if s = 1 and C = C' -------------------------------'

    It is called inverted because the shortcut connects the narrow ends. With t = 1 the first convolution is left out.

    Parameters
    ----------
    in_channels, out_channels, stride : int
    expand_ratio : int
        The expansion t.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    References
    ----------
    M. Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", CVPR 2018, figure 4d and table 1.
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


@scalars_checked
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

    Parameters and running statistics have torchvision's names (``features.1.conv.0.0.weight``), so its weights can be
    loaded.

    Parameters
    ----------
    num_classes : int, default 1000
    width_mult : float, default 1.0
        A factor for all widths, which are rounded to multiples of 8.
    stem : str, default "imagenet"
        With ``"imagenet"`` the image is halved five times, as in the paper. ``"cifar"`` leaves out the first two
        halvings, for images of 32x32.
    in_channels : int, default 3
    dropout : float, default 0.2
        The probability of dropout before the last layer.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights and the dropout masks; the generator of ``minidl.seed`` by default.

    Raises
    ------
    ParameterError
        If the stem is unknown.

    Notes
    -----
    The initial weights are torchvision's: those of He et al. (2015) with fan_out for convolutions, and normal with standard
    deviation 0.01 for the last layer.

    References
    ----------
    M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, "MobileNetV2: Inverted residuals and linear bottlenecks", CVPR
    2018, table 2.

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
    if not 0 < width_mult <= 1000:
        raise ParameterError(f"mobilenet_v2: width_mult must be positive, up to 1000, got {width_mult!r}")
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
    """Return the nearest multiple of 8, or the next one if that is more than a tenth smaller.

    >>> [_multiple_of_8(c) for c in (4, 24.0, 33.6, 11.9)]
    [8, 24, 32, 16]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
