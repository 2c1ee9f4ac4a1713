"""Metrics while training: fed with several small batches at a time, so that a step hardly notices them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl import engines, metrics
from minidl.errors import ParameterError
from minidl.layers import Activation, CrossEntropyLoss
from minidl.ops import Array, namespace

__all__ = ["Meter", "metrics_named"]

CHUNK = 1 << 18
"""Bytes of outputs that are collected before the metrics see them."""


class Meter:
    """What metrics say about the outputs of many steps.

    A metric takes some ten microseconds a call, more than a step of a small model. So outputs and targets are copied (a
    layer may use its output's memory again) until there are enough of them. On a GPU this also saves waiting for every
    step's outputs.

    Metrics count what the loss counts: targets that a cross-entropy ignores are left out. With classes on the last axis,
    outputs (N, ..., K) and targets (N, ...) become rows, (M, K) and (M,); with classes on axis 1 they keep their shape
    unless something is ignored.

    Parameters
    ----------
    metrics : list of Metric
    activation : Activation, optional
        What makes predictions of the outputs.
    loss : loss, optional
        What tells where the classes are and which targets count.
    """

    def __init__(self, metrics: list[Any], activation: Activation | None = None, loss: Any = None) -> None:
        self.metrics, self.activation = metrics, activation
        self._loss = loss if isinstance(loss, CrossEntropyLoss) else None
        self._in_rows = False
        self._outputs: list[Array] = []
        self._targets: list[Array] = []
        self._held = 0

    def reset(self) -> None:
        """Forget everything."""
        self._clear()
        self._in_rows = self._loss is not None and self._loss.class_axis == -1
        for metric in self.metrics:
            metric.reset()

    def add(self, output: Array, target: Array) -> None:
        """Take in the outputs of a step."""
        if self._in_rows:
            output, target = _rows(output, target)
        self._held += output.nbytes
        if self._held > CHUNK:  # this batch need not be copied any more
            self._outputs.append(output)
            self._targets.append(target)
            self._pass_on()
        else:
            self._outputs.append(output.copy())
            self._targets.append(target.copy())

    def results(self) -> dict[str, float]:
        """Return what the metrics say now, by name."""
        if self._outputs:
            self._pass_on()
        return {metric.name: float(metric.result()) for metric in self.metrics}

    def _pass_on(self) -> None:
        engine = engines.current()
        held = _joined(self._outputs, self._targets)
        self._clear()
        for output, target in held:
            if self.activation is not None:
                output = getattr(engine, self.activation.op)(output, *self.activation.settings)[0]
            prediction, target = self._counted(engine.to_host(output), engine.to_host(target))
            if len(prediction):
                for metric in self.metrics:
                    metric.update(prediction, target)

    def _counted(self, prediction: numpy.ndarray, target: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Leave out what the loss ignores."""
        if self._loss is None or target.dtype.kind == "f":
            return prediction, target
        counts = target != self._loss.settings["ignore_index"]
        if counts.all():
            return prediction, target
        return numpy.moveaxis(prediction, 1, -1)[counts], target[counts]  # (M, K), (M,)

    def _clear(self) -> None:
        self._outputs, self._targets, self._held = [], [], 0


def _rows(output: Array, target: Array) -> tuple[Array, Array]:
    """Return outputs (N, ..., K) as (M, K), and targets likewise."""
    if output.ndim < 3:
        return output, target
    rows = output.reshape(-1, output.shape[-1])
    return rows, target.reshape(rows.shape if target.shape == output.shape else -1)


def _joined(outputs: list[Array], targets: list[Array]) -> list[tuple[Array, Array]]:
    """Return the batches as one, or as they are if their examples differ in shape."""
    if (
        len(outputs) == 1
        or len({(o.shape[1:], t.shape[1:], t.dtype) for o, t in zip(outputs, targets, strict=True)}) > 1
    ):
        return list(zip(outputs, targets, strict=True))
    return [tuple(namespace(parts[0]).concatenate(parts) for parts in (outputs, targets))]  # type: ignore[list-item]


def metrics_named(wanted: Any, from_logits: bool) -> list[Any]:
    """Return metric objects for names and functions; anything with update, result and reset is taken as it is.

    Raises
    ------
    UnknownNameError
        If there is no metric of that name.
    ParameterError
        If two have one name: a history could hold only one of them.
    """
    if wanted is None:
        return []
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        wanted = [wanted]
    found = [metrics.get(metric, from_logits=from_logits) for metric in wanted]
    names = ["loss", *(metric.name for metric in found)]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"compile: two numbers are named {name!r}; give a metric another name, with name=...")
    return found
