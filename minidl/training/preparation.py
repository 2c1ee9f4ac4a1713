"""From what a user hands to fit, evaluate or predict to arrays that fit together, and to the loop that runs on them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy

from minidl import engines
from minidl.errors import DataError, ShapeError
from minidl.layers import Parameter
from minidl.training import checks, losses, targets
from minidl.training.feed import Feed
from minidl.training.loop import Loop, evaluating

__all__ = ["Prepared", "examples", "prepare", "split_at"]


class Prepared(NamedTuple):
    """Data that fit together, and the loop of the model that they fit."""

    loop: Loop
    x: numpy.ndarray
    y: numpy.ndarray
    weights: numpy.ndarray | None
    outputs: tuple[int, ...]

    def part(self, which: slice, weights: numpy.ndarray | None, *how: Any) -> Feed:
        """Return some of the examples as a feed."""
        return Feed(self.x[which], self.y[which], None if weights is None else weights[which], *how)

    def with_classes(self, class_weight: Any, where: str) -> numpy.ndarray:
        """Return the examples' weights times those of their classes."""
        targets.check_takes_weights(self.loop.loss, where)
        found = targets.as_class_weights(class_weight, self.y, self.loop.loss, self.x.dtype, self.outputs, where)
        return found if self.weights is None else self.weights * found


def examples(model: Any, x: Any, where: str) -> numpy.ndarray:
    """Return the examples in the model's dtype; build the model for their shape if it has none yet.

    Raises
    ------
    DataError, DtypeError
        If they cannot be used; see ``minidl.training.checks``.
    ShapeError
        If they do not fit the model.
    """
    array = checks.as_host(x, where, "x")
    if array.ndim == 1 and model.input_shape:
        raise ShapeError(
            f"{where}: x has shape {array.shape}, a single number for each example, but the model expects examples of shape "
            f"{model.input_shape}; for one feature use x.reshape(-1, 1)"
        )
    if not model.built:
        model.build(array.shape[1:])
    dtype = _dtype(model)
    inputs = checks.as_inputs(array, dtype, where, "x")
    if not model.built:  # somebody's own layer hides the shapes: they show when an example passes through
        with evaluating(model):
            model.forward(engines.current().asarray(inputs[:1]))
        if _dtype(model) != dtype:
            inputs = checks.as_inputs(array, _dtype(model), where, "x")
    return inputs


def _dtype(model: Any) -> numpy.dtype[Any]:
    parameters = model.parameters() if model.built else []
    return next((p.dtype for p in parameters if isinstance(p, Parameter)), numpy.dtype("float32"))


def prepare(model: Any, loss_by_name: bool, x: Any, y: Any, sample_weight: Any, where: str) -> Prepared:
    """Check data against each other and against a compiled model, which is built for them if need be.

    One example is run through the model: only that tells the shape of the output for every layer that somebody may have
    written.
    """
    inputs = examples(model, x, where)
    activation = losses.absorbed(model, model.loss, loss_by_name)
    trunk = losses.trunk_of(model, activation)
    with evaluating(model), numpy.errstate(all="ignore"):
        outputs = tuple(trunk.forward(engines.current().asarray(inputs[:1])).shape[1:])
    losses.check_axis(activation, outputs)
    found = targets.as_targets(y, model.loss, inputs.dtype, outputs, where)
    if len(inputs) != len(found):
        raise DataError(f"{where}: x holds {len(inputs)} examples but y holds {len(found)} targets")
    weights = None
    if sample_weight is not None:
        targets.check_takes_weights(model.loss, where)
        weights = targets.as_sample_weights(sample_weight, len(found), inputs.dtype, where)
    return Prepared(Loop(model, trunk, activation, model.loss, list(model.metrics)), inputs, found, weights, outputs)


def split_at(n: int, share: float) -> int:
    """Return where the last share of n examples begins, rounded in favour of validation, as in Keras.

    Raises
    ------
    DataError
        If it is no share, or leaves nothing on either side.

    Examples
    --------
    >>> split_at(10, 0.2), split_at(64, 0.2), split_at(100, 0.07)
    (8, 51, 93)
    """
    if isinstance(share, bool) or not isinstance(share, (int, float, numpy.floating)) or not 0.0 < share < 1.0:
        raise DataError(f"fit: validation_split must be from 0 to below 1, got {share!r}")
    at = n - math.ceil(n * share - 1e-9)  # 100 * 0.07 is 7.000000000000001
    if not 0 < at < n:
        raise DataError(f"fit: validation_split={share} of {n} examples leaves nothing to train or to validate on")
    return at
