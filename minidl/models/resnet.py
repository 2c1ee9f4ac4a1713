"""Residual networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers import BatchNorm2d, Chain, Conv2d, GlobalAvgPool2d, Linear, MaxPool2d, ReLU, Residual
from minidl.models.initial import start_convolutions
from minidl.models.sequential import Sequential
from minidl.ops._scalars import counts, scalars_checked

__all__ = ["BasicBlock", "resnet", "resnet18", "small_resnet"]


class BasicBlock(Residual):
    r"""Two convolutions of 3x3 and a shortcut: relu(f(x) + x).

    As in figure 5, left, of the paper::

        x ---- conv1 3x3 -- bn1 -- relu -- conv2 3x3 -- bn2 ----(+)---- relu ---- y
          \                                                     /
           `--- identity, or convolution 1x1 -- bn: downsample -'

    If the block changes the number of channels or halves the image, the shortcut is a convolution of 1x1 (option B of the
    paper).

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int, default 1
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
    """

    shortcut_name = "downsample"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        how: dict[str, Any] = {"bias": False, "dtype": dtype, "generator": generator}
        shortcut = None
        if stride != 1 or in_channels != out_channels:
            shortcut = Chain(
                Conv2d(in_channels, out_channels, 1, stride=stride, **how),
                BatchNorm2d(out_channels, dtype=dtype),
            )
        super().__init__(
            {
                "conv1": Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, **how),
                "bn1": BatchNorm2d(out_channels, dtype=dtype),
                "relu": ReLU(),
                "conv2": Conv2d(out_channels, out_channels, 3, padding=1, **how),
                "bn2": BatchNorm2d(out_channels, dtype=dtype),
            },
            shortcut=shortcut,
            activation="relu",
        )


@scalars_checked
def resnet(
    blocks: Sequence[int],
    widths: Sequence[int],
    num_classes: int,
    stem: str = "imagenet",
    in_channels: int = 3,
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Sequential:
    """Build a residual network: a stem, stages of basic blocks, global average pooling, and a linear layer.

    Parameters
    ----------
    blocks, widths : sequence of int
        The numbers of blocks and of channels in each stage. Each stage but the first halves the image.
    num_classes : int
    stem : str, default "imagenet"
        ``"imagenet"`` is a 7x7 convolution and max pooling, which reduce 224x224 to 56x56. ``"cifar"`` is a 3x3
        convolution that keeps the size, for small images.
    in_channels : int, default 3
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Raises
    ------
    ParameterError
        If the stem is unknown, or blocks and widths differ in length.

    Notes
    -----
    The initial weights of convolutions are those of He et al. (2015) with fan_out, as in torchvision.
    """
    if stem not in ("imagenet", "cifar"):
        raise ParameterError(f"resnet: stem must be 'imagenet' or 'cifar', got {stem!r}")
    blocks, widths = counts(blocks, "resnet", "blocks"), counts(widths, "resnet", "widths")
    if len(blocks) != len(widths) or not blocks or min(blocks) < 1 or sum(blocks) > 10_000:
        raise ParameterError(
            f"resnet: every stage needs a number of blocks, 10000 together at most, and a width, got blocks={list(blocks)} and widths={list(widths)}"
        )
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    layers: dict[str, Any] = {}
    if stem == "imagenet":
        layers["conv1"] = Conv2d(in_channels, widths[0], 7, stride=2, padding=3, bias=False, **how)  # 224 -> 112
    else:
        layers["conv1"] = Conv2d(in_channels, widths[0], 3, padding=1, bias=False, **how)
    layers["bn1"] = BatchNorm2d(widths[0], dtype=dtype)
    layers["relu"] = ReLU()
    if stem == "imagenet":
        layers["maxpool"] = MaxPool2d(3, stride=2, padding=1)  # 112 -> 56
    channels = widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
        first = BasicBlock(channels, width, 1 if stage == 1 else 2, **how)  # 56 -> 56 -> 28 -> 14 -> 7
        layers[f"layer{stage}"] = Chain(first, *(BasicBlock(width, width, **how) for _ in range(count - 1)))
        channels = width
    layers["avgpool"] = GlobalAvgPool2d()  # (N, channels)
    layers["fc"] = Linear(channels, num_classes, **how)
    model = Sequential(layers)
    start_convolutions(model, generator)
    return model


@scalars_checked
def resnet18(num_classes: int = 1000, stem: str = "imagenet", in_channels: int = 3, **how: Any) -> Sequential:
    """Build ResNet-18: four stages of two blocks, with 64, 128, 256 and 512 channels.

    The arguments are those of :func:`resnet`. The network is that of He et al. (2016), table 1. Parameters and running
    statistics have torchvision's names (``layer2.0.downsample.0.weight``), so its weights can be loaded.

    >>> model = resnet18(num_classes=10, stem="cifar")
    >>> model.output_shape((3, 32, 32))
    (10,)
    """
    return resnet((2, 2, 2, 2), (64, 128, 256, 512), num_classes, stem, in_channels, **how)


@scalars_checked
def small_resnet(
    num_classes: int = 10, in_channels: int = 1, widths: Sequence[int] = (32, 64, 128), blocks: int = 1, **how: Any
) -> Sequential:
    """Build a residual network for images of 28x28 or 32x32: three stages, at full, half and a quarter of the size.

    Other arguments are those of :func:`resnet`. He et al. (2016), section 4.2, use such networks on CIFAR-10, with widths
    (16, 32, 64) and 3 to 18 blocks in each stage.

    >>> small_resnet().summary().parameters
    308074
    """
    widths = counts(widths, "small_resnet", "widths")
    return resnet((blocks,) * len(widths), widths, num_classes, "cifar", in_channels, **how)
