"""LeNet-5, a convolutional network of 1998 for handwritten digits."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.errors import ParameterError
from minidl.layers import AvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Tanh
from minidl.models.sequential import Sequential
from minidl.ops._scalars import scalars_checked

__all__ = ["lenet"]


@scalars_checked
def lenet(
    num_classes: int = 10,
    in_channels: int = 1,
    variant: str = "classic",
    *,
    dtype: Any = "float32",
    generator: numpy.random.Generator | None = None,
) -> Sequential:
    """Build LeNet-5 for images of 28x28.

    The layers, as in figure 2 of the paper::

        image    C1 5x5       S2 2x2       C3 5x5       S4 2x2     C5        F6    output
        1x28x28  6x28x28  ->  6x14x14  ->  16x10x10 ->  16x5x5 ->  120   ->  84 -> num_classes

    The first convolution pads by 2, which makes the paper's 32x32 of 28x28. Three things differ from the paper, as they
    usually do today: each feature map of C3 uses all of S2, the subsampling has no weights, and the outputs are logits for
    a cross-entropy.

    Parameters
    ----------
    num_classes : int, default 10
    in_channels : int, default 1
    variant : str, default "classic"
        ``"classic"`` has tanh and average pooling, as in the paper; ``"modern"`` has ReLU and max pooling.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Raises
    ------
    ParameterError
        If the variant is unknown.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", Proceedings of the
    IEEE 86 (1998).

    Examples
    --------
    >>> model = lenet()
    >>> model.output_shape((1, 28, 28)), model.summary().parameters
    ((10,), 61706)
    >>> list(model.state_dict())[:4]
    ['conv1.weight', 'conv1.bias', 'conv2.weight', 'conv2.bias']
    """
    if variant not in ("classic", "modern"):
        raise ParameterError(f"lenet: variant must be 'classic' or 'modern', got {variant!r}")
    act, pool = (Tanh, AvgPool2d) if variant == "classic" else (ReLU, MaxPool2d)
    how: dict[str, Any] = {"dtype": dtype, "generator": generator}
    return Sequential(
        {
            "conv1": Conv2d(in_channels, 6, 5, padding=2, **how),  # (N, 6, 28, 28)
            "act1": act(),
            "pool1": pool(2),  # (N, 6, 14, 14)
            "conv2": Conv2d(6, 16, 5, **how),  # (N, 16, 10, 10)
            "act2": act(),
            "pool2": pool(2),  # (N, 16, 5, 5)
            "flatten": Flatten(),  # (N, 400)
            "fc1": Linear(16 * 5 * 5, 120, **how),
            "act3": act(),
            "fc2": Linear(120, 84, **how),
            "act4": act(),
            "fc3": Linear(84, num_classes, **how),
        }
    )
