"""The multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from minidl.errors import ParameterError
from minidl.layers import Dropout, Linear, activation
from minidl.models.sequential import Sequential
from minidl.ops._scalars import counts, scalars_checked

__all__ = ["mlp"]


@scalars_checked
def mlp(
    sizes: Sequence[int], activation_name: str = "relu", dropout: float = 0.0, *, dtype: Any = "float32"
) -> Sequential:
    """Build a multilayer perceptron: linear layers with activations between them.

    Parameters
    ----------
    sizes : sequence of int
        The number of inputs, of units in each hidden layer, and of outputs.
    activation_name : str, default "relu"
    dropout : float, default 0.0
        The probability of dropout after each activation; 0 leaves the layer out.
    dtype : dtype, default float32

    Raises
    ------
    ParameterError
        If there are fewer than two sizes.

    References
    ----------
    D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating errors", Nature 323 (1986).

    Examples
    --------
    >>> mlp([64, 32, 10])
    Sequential(Linear(64, 32), ReLU(), Linear(32, 10))
    """
    sizes = counts(sizes, "mlp", "sizes")
    if len(sizes) < 2:
        raise ParameterError(f"mlp: sizes must have at least the numbers of inputs and outputs, got {list(sizes)}")
    layers: list[Any] = []
    for position, (features_in, features_out) in enumerate(itertools.pairwise(sizes)):
        layers.append(Linear(features_in, features_out, dtype=dtype))
        if position < len(sizes) - 2:
            hidden = activation(activation_name)
            layers += [hidden] if hidden is not None else []
            layers += [Dropout(dropout)] if dropout else []
    return Sequential(layers)
