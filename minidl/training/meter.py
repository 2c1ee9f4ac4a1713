"""Metrics while training: fed with several small batches at a time, so that a step hardly notices them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl import engines, metrics
from minidl.errors import ParameterError
from minidl.layers import Activation
from minidl.ops import Array, namespace

__all__ = ["Meter", "metrics_named"]

CHUNK = 1 << 18
"""Bytes of outputs that are collected before the metrics see them."""


class Meter:
    """What metrics say about the outputs of many steps.

    A metric takes some ten microseconds a call, more than a step of a small model. So outputs and targets are copied (a
    layer may use its output's memory again) until there are enough of them. On a GPU this also saves waiting for every
    step's outputs.

    Parameters
    ----------
    metrics : list of Metric
    activation : Activation, optional
        What makes predictions of the outputs.
    """

    def __init__(self, metrics: list[Any], activation: Activation | None = None) -> None:
        self.metrics, self.activation = metrics, activation
        self._outputs: list[Array] = []
        self._targets: list[Array] = []
        self._held = 0

    def reset(self) -> None:
        """Forget everything."""
        self._clear()
        for metric in self.metrics:
            metric.reset()

    def add(self, output: Array, target: Array) -> None:
        """Take in the outputs of a step."""
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
        output, target = _joined(self._outputs), _joined(self._targets)
        self._clear()
        if self.activation is not None:
            output = getattr(engine, self.activation.op)(output, *self.activation.settings)[0]
        prediction, target = engine.to_host(output), engine.to_host(target)
        for metric in self.metrics:
            metric.update(prediction, target)

    def _clear(self) -> None:
        self._outputs, self._targets, self._held = [], [], 0


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concatenate(parts)


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
