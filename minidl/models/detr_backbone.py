"""The backbone of DETR: a ResNet of basic or bottleneck blocks without its classifier, with frozen norms or trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.errors import ParameterError
from minidl.layers import BatchNorm2d, Chain, Conv2d, FrozenBatchNorm2d, MaxPool2d, ReLU, Residual
from minidl.models.initial import start_convolutions

__all__ = ["DEPTHS", "detr_backbone"]

DEPTHS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
}
"""The blocks of the published networks, and how many are in each stage: He et al. (2016), table 1."""

NORMS = {"frozen": FrozenBatchNorm2d, "batch": BatchNorm2d}


class Block(Residual):
    """Convolutions and a shortcut: relu(f(x) + x).

    A basic block has two convolutions of 3x3, the first with the stride. A bottleneck has three, 1x1, 3x3 with the stride, and 1x1;
    the first two have a quarter of the channels.
    """

    shortcut_name = "downsample"

    def __init__(self, kind: str, norm: Any, channels: int, out: int, stride: int, how: dict[str, Any]) -> None:
        inner = out // 4
        shapes = [(channels, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
        if kind == "basic":
            shapes = [(channels, out, 3, stride), (out, out, 3, 1)]
        branch: dict[str, Any] = {}
        for number, (before, after, size, step) in enumerate(shapes, start=1):
            if number > 1:
                branch[f"relu{number - 1}"] = ReLU()
            branch[f"conv{number}"] = Conv2d(before, after, size, stride=step, padding=size // 2, bias=False, **how)
            branch[f"bn{number}"] = norm(after, dtype=how["dtype"])
        shortcut = None
        if stride != 1 or channels != out:
            projection = Conv2d(channels, out, 1, stride=stride, bias=False, **how)
            shortcut = Chain(projection, norm(out, dtype=how["dtype"]))
        super().__init__(branch, shortcut=shortcut, activation="relu")


def detr_backbone(
    depths: Sequence[int],
    channels: Sequence[int],
    stem: int,
    block: str,
    norm: str,
    small_images: bool,
    *,
    dtype: Any = "float32",
    generator: Any = None,
) -> Chain:
    """Build the stem and the stages; each stage but the first halves the image. The names are torchvision's.

    Parameters
    ----------
    depths, channels : sequence of int
        The number of blocks in each stage, and the channels that it gives.
    stem : int
        The channels of the first convolution.
    block : {"bottleneck", "basic"}
    norm : {"frozen", "batch"}
    small_images : bool
        Whether the stem keeps the size, instead of reducing it to a quarter.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional

    Raises
    ------
    ParameterError
        If block or norm is unknown, or the stages' depths and channels do not fit.
    """
    if block not in ("bottleneck", "basic"):
        raise ParameterError(f"DETR: block must be 'bottleneck' or 'basic', got {block!r}")
    if norm not in NORMS:
        raise ParameterError(f"DETR: norm must be one of {', '.join(NORMS)}, got {norm!r}")
    sizes = [*depths, *channels, stem]
    if (
        len(depths) != len(channels)
        or not depths
        or min(sizes) < 1
        or (block == "bottleneck" and any(c % 4 for c in channels))
    ):
        raise ParameterError(
            f"DETR: each stage needs a number of blocks and of channels, which a bottleneck divides by 4; got depths="
            f"{list(depths)} and channels={list(channels)}"
        )
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    layers: dict[str, Any] = {}
    if small_images:
        layers["conv1"] = Conv2d(3, stem, 3, padding=1, bias=False, **how)
    else:
        layers["conv1"] = Conv2d(3, stem, 7, stride=2, padding=3, bias=False, **how)
    layers["bn1"] = NORMS[norm](stem, dtype=dtype)
    layers["relu"] = ReLU()
    if not small_images:
        layers["maxpool"] = MaxPool2d(3, stride=2, padding=1)
    before = stem
    for stage, (count, after) in enumerate(zip(depths, channels, strict=True), start=1):
        strides = [1 if stage == 1 else 2] + [1] * (count - 1)
        blocks = []
        for stride in strides:
            blocks.append(Block(block, NORMS[norm], before, after, stride, how))
            before = after
        layers[f"layer{stage}"] = Chain(*blocks)
    backbone = Chain(layers)
    start_convolutions(backbone, generator)
    return backbone
