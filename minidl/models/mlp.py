"""The multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from minidl.errors import ParameterError
from minidl.layers import Dropout, Linear, activation
from minidl.models.sequential import Sequential

__all__ = ["mlp"]


def mlp(
    sizes: Sequence[int], activation_name: str = "relu", dropout: float = 0.0, *, dtype: Any = "float32"
) -> Sequential:
    """Build a multilayer perceptron: affine maps with an activation between each two.

    Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323 (1986).

    Parameters
    ----------
    sizes : sequence of int
        Features in, of each hidden layer, and out.
    activation_name : str
        Between the affine maps, such as ``"relu"`` or ``"tanh"``.
    dropout : float
        Probability of dropping after each activation; 0 leaves it out.
    dtype : dtype
        Of the parameters.

    Examples
    --------
    >>> mlp([64, 32, 10])
    Sequential(Linear(64, 32), ReLU(), Linear(32, 10))
    """
    if len(sizes) < 2:
        raise ParameterError(f"mlp: sizes needs at least the features in and out, got {list(sizes)}")
    layers: list[Any] = []
    for position, (features_in, features_out) in enumerate(itertools.pairwise(sizes)):
        layers.append(Linear(features_in, features_out, dtype=dtype))
        if position < len(sizes) - 2:
            hidden = activation(activation_name)
            layers += [hidden] if hidden is not None else []
            layers += [Dropout(dropout)] if dropout else []
    return Sequential(layers)
