"""Independent results for normalisation: loops over Python floats and the standard library's mean.

As in ``minidl.testing.oracles``, nothing here shares a line with the formulas.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]

Index = tuple[int, ...]


def _standardise(
    x: numpy.ndarray, member: Callable[[Index], Any], eps: float, centre: bool = True
) -> dict[Index, float]:
    """Return (x - mean) / sqrt(variance + eps) by index, with statistics over the elements of equal ``member(index)``."""
    sets: dict[Any, list[Index]] = {}
    for index in itertools.product(*map(range, x.shape)):
        sets.setdefault(member(index), []).append(index)
    found: dict[Index, float] = {}
    for indices in sets.values():
        values = [float(x[index]) for index in indices]
        mean = statistics.fmean(values) if centre else 0.0
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values) + eps)
        found |= {index: (value - mean) / deviation for index, value in zip(indices, values, strict=True)}
    return found


def _scale_and_shift(
    x_hat: dict[Index, float], shape: Sequence[int], weight: Any, bias: Any, place: Callable[[Index], Index]
) -> numpy.ndarray:
    y = numpy.empty(tuple(shape))
    for index, value in x_hat.items():
        w = 1.0 if weight is None else float(weight[place(index)])
        b = 0.0 if bias is None else float(bias[place(index)])
        y[index] = w * value + b
    return y


def _channel(index: Index) -> Index:
    return index[1:2]


def batch_norm(
    x: numpy.ndarray,
    weight: numpy.ndarray | None = None,
    bias: numpy.ndarray | None = None,
    running_mean: numpy.ndarray | None = None,
    running_var: numpy.ndarray | None = None,
    training: bool = True,
    eps: float = 1e-5,
) -> numpy.ndarray:
    """Standardise each channel by its own statistics or by the running ones."""
    if training:
        return _scale_and_shift(_standardise(x, _channel, eps), x.shape, weight, bias, _channel)
    assert running_mean is not None
    assert running_var is not None
    x_hat = {
        index: (float(x[index]) - float(running_mean[index[1]])) / math.sqrt(float(running_var[index[1]]) + eps)
        for index in itertools.product(*map(range, x.shape))
    }
    return _scale_and_shift(x_hat, x.shape, weight, bias, _channel)


def layer_norm(
    x: numpy.ndarray,
    normalized_shape: Sequence[int],
    weight: numpy.ndarray | None = None,
    bias: numpy.ndarray | None = None,
    eps: float = 1e-5,
) -> numpy.ndarray:
    """Standardise each example over its last axes."""
    before = x.ndim - len(normalized_shape)
    x_hat = _standardise(x, lambda index: index[:before], eps)
    return _scale_and_shift(x_hat, x.shape, weight, bias, lambda index: index[before:])


def group_norm(
    x: numpy.ndarray,
    num_groups: int,
    weight: numpy.ndarray | None = None,
    bias: numpy.ndarray | None = None,
    eps: float = 1e-5,
) -> numpy.ndarray:
    """Standardise each group of channels of each example."""
    size = x.shape[1] // num_groups
    x_hat = _standardise(x, lambda index: (index[0], index[1] // size), eps)
    return _scale_and_shift(x_hat, x.shape, weight, bias, _channel)


def rms_norm(
    x: numpy.ndarray,
    normalized_shape: Sequence[int],
    weight: numpy.ndarray | None = None,
    eps: float | None = None,
) -> numpy.ndarray:
    """Divide each example by its root mean square over its last axes."""
    before = x.ndim - len(normalized_shape)
    x_hat = _standardise(x, lambda index: index[:before], 2.0**-52 if eps is None else eps, centre=False)
    return _scale_and_shift(x_hat, x.shape, weight, None, lambda index: index[before:])
