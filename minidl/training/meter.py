"""Metrics during training: fed several small batches at a time, to cost little per step."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

from minidl import engines, metrics
from minidl.errors import DataError, ParameterError
from minidl.layers import Activation
from minidl.layers.loss import ClassLoss
from minidl.metrics.on_device import sums_on_device
from minidl.ops import Array, namespace
from minidl.training.plain_state import object_state, pack, put_object_state, unpack

__all__ = ["Meter", "metrics_named"]

CHUNK = 1 << 18
"""How many bytes of outputs are collected before the metrics see them."""


class Meter:
    """Compute metrics over the outputs of many steps.

    A call of a metric takes about ten microseconds, which may be more than a step of a small model. So the outputs and
    targets of several steps are collected first. They are copied, because a layer may reuse the memory of its output. On a
    GPU the sums of metrics that are means are computed there. For other metrics the outputs travel to the host. Neither is waited
    for before somebody wants to see the metrics.

    Targets that a cross-entropy ignores are dropped, so that metrics count what the loss counts. With the classes on the
    last axis, outputs (N, ..., K) and targets (N, ...) are flattened to rows, (M, K) and (M,). With the classes on axis 1
    this happens only if something is ignored; otherwise metrics see the shapes as they are.

    Parameters
    ----------
    metrics : list of Metric
    activation : Activation, optional
        Turns outputs into predictions.
    loss : loss, optional
        Its class axis and ignored index, if it is a cross-entropy, are heeded.
    """

    def __init__(self, metrics: list[Any], activation: Activation | None = None, loss: Any = None) -> None:
        self.metrics, self.activation = metrics, activation
        self._loss = loss if isinstance(loss, ClassLoss) else None
        self._in_rows = False
        self._outputs: list[Array] = []
        self._targets: list[Array] = []
        self._held = 0
        self._travelling: deque[tuple[Any, Callable[[list[numpy.ndarray]], None]]] = deque()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Run a block in which nobody else feeds the metrics, from zero.

        If an epoch or an evaluation is feeding one of them already, whose callback or thread this is, a copy takes its place.

        Raises
        ------
        ParameterError
            If such a metric cannot be copied.
        """
        own = self.metrics
        with _lock:
            self.metrics = [_copied(metric) if id(metric) in _claimed else metric for metric in own]
            claims = {id(metric) for metric in self.metrics}
            _claimed.update(claims)
        try:
            self.reset()
            yield
        finally:
            with _lock:
                _claimed.difference_update(claims)
            self.metrics = own

    def reset(self) -> None:
        """Forget all steps."""
        self._clear()
        self._travelling.clear()
        self._in_rows = self._loss is not None and self._loss.class_axis == -1
        for metric in self.metrics:
            metric.reset()

    def add(self, output: Array, target: Array) -> None:
        """Add the outputs of a step."""
        if self._in_rows:
            output, target = _flatten(output, target)
        self._held += output.nbytes
        if self._held > CHUNK:  # this batch need not be copied any more
            self._outputs.append(output)
            self._targets.append(target)
            self._pass_on()
        else:
            self._outputs.append(output.copy())
            self._targets.append(target.copy())

    def results(self) -> dict[str, float]:
        """Return the current values of the metrics, by name."""
        if self._outputs:
            self._pass_on()
        self._take_in(wait=True)
        return {metric.name: float(metric.result()) for metric in self.metrics}

    def state(self, arrays: dict[str, numpy.ndarray]) -> dict[str, Any]:
        """Return the sums of the metrics, and the steps that they have not seen yet, as plain data; arrays go to ``arrays``."""
        to_host = engines.current().to_host
        pending = [list(map(to_host, pair)) for pair in zip(self._outputs, self._targets, strict=True)]
        return {
            "metrics": [object_state(m, arrays, f"metrics.{i}", strict=True) for i, m in enumerate(self.metrics)],
            "pending": pack(pending, arrays, "pending"),
            "held": self._held,
            "in_rows": self._in_rows,
        }

    def put(self, state: dict[str, Any], arrays: dict[str, numpy.ndarray]) -> None:
        """Go on from what :meth:`state` returned."""
        for metric, own in zip(self.metrics, state["metrics"], strict=True):
            put_object_state(metric, own, arrays)
        pending = [list(map(engines.current().asarray, pair)) for pair in unpack(state["pending"], arrays)]
        self._outputs, self._targets = [output for output, _ in pending], [target for _, target in pending]
        self._held, self._in_rows = state["held"], state["in_rows"]

    def _pass_on(self) -> None:
        engine = engines.current()
        held = _concatenate(self._outputs, self._targets)
        self._clear()
        for output, target in held:
            if self.activation is not None:
                output = getattr(engine, self.activation.op)(output, *self.activation.settings)[0]
            if namespace(output) is numpy:
                self._update(self.metrics, output, target)
            else:
                self._leave_on_device(engine, output, target)

    def _update(self, metrics: list[Any], output: numpy.ndarray, target: numpy.ndarray) -> None:
        prediction, target = self._drop_ignored(output, target)
        if len(prediction):
            for metric in metrics:
                metric.update(prediction, target)

    def _leave_on_device(self, engine: Any, output: Array, target: Array) -> None:
        """Compute the sums that means need on the GPU, and let them, and what other metrics need, travel to the host.

        Nobody waits for them until somebody wants to see the metrics.
        """
        ignored = None if self._loss is None else self._loss.settings["ignore_index"]
        others: list[Any] = []
        means: list[Any] = []
        sums: list[Array] = []
        for metric in self.metrics:
            found = sums_on_device(metric, output, target, ignored)
            if found is None:
                others.append(metric)
            else:
                means.append(metric)
                sums += found
        sent = [namespace(output).stack(sums)] if sums else []
        sent += [output, target] if others else []

        def take_in(arrived: list[numpy.ndarray]) -> None:
            if means:
                _add_sums(means, arrived[0].tolist())
            if others:
                self._update(others, *arrived[-2:])

        self._travelling.append((engine.read_later(*sent), take_in))
        self._take_in(wait=False)

    def _take_in(self, wait: bool) -> None:
        """Hand to the metrics what has arrived, or everything, waiting for it."""
        while self._travelling:
            reading, take_in = self._travelling[0]
            if not (wait or reading.ready):
                return
            self._travelling.popleft()
            take_in(reading.get())

    def _drop_ignored(self, prediction: numpy.ndarray, target: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Drop the targets that the loss ignores, and their predictions."""
        if self._loss is None or target.dtype.kind == "f":
            return prediction, target
        counts = target != self._loss.settings["ignore_index"]
        if counts.all():
            return prediction, target
        return numpy.moveaxis(prediction, 1, -1)[counts], target[counts]  # (M, K), (M,)

    def _clear(self) -> None:
        self._outputs, self._targets, self._held = [], [], 0


def _add_sums(metrics: list[Any], sums: list[float]) -> None:
    """Add what arrived from a GPU, three numbers for each, to metrics that are means."""
    for place, metric in enumerate(metrics):
        total, count, wrong = sums[3 * place : 3 * place + 3]
        if wrong:
            raise DataError(
                f"{metric.name}: {int(wrong)} predictions or targets are not what the metric takes: one is nan, a number is not "
                "finite, or the target of a yes or no is neither 0 nor 1"
            )
        metric.total += total
        metric.count += int(count)


_claimed: set[int] = set()
"""The identities of the metrics that are being fed."""
_lock = threading.Lock()


def _copied(metric: Any) -> Any:
    try:
        return copy.deepcopy(metric)
    except Exception as error:
        raise ParameterError(
            f"evaluate: the metric {metric.name!r} is being fed by fit, or by another evaluation, and cannot be copied: {error}"
        ) from error


def _flatten(output: Array, target: Array) -> tuple[Array, Array]:
    """Flatten outputs (N, ..., K) to (M, K), and targets likewise."""
    if output.ndim < 3:
        return output, target
    rows = output.reshape(-1, output.shape[-1])
    return rows, target.reshape(rows.shape if target.shape == output.shape else -1)


def _concatenate(outputs: list[Array], targets: list[Array]) -> list[tuple[Array, Array]]:
    """Concatenate the batches, or return them one by one if their examples differ in shape."""
    if (
        len(outputs) == 1
        or len({(o.shape[1:], t.shape[1:], t.dtype) for o, t in zip(outputs, targets, strict=True)}) > 1
    ):
        return list(zip(outputs, targets, strict=True))
    return [tuple(namespace(parts[0]).concatenate(parts) for parts in (outputs, targets))]  # type: ignore[list-item]


def metrics_named(wanted: Any, from_logits: bool, multilabel: bool = False) -> list[Any]:
    """Return metric objects for names and functions; anything with update, result and reset is taken as it is.

    What predictions are, logits or several labels, only metrics given by name are told.

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
    found = [metrics.get(metric, from_logits=from_logits, multilabel=multilabel) for metric in wanted]
    names = ["loss", *(metric.name for metric in found)]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"compile: two numbers are named {name!r}; give a metric another name, with name=...")
    return found
