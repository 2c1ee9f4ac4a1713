"""The loop: one epoch of steps, one pass of evaluation, as one would write them by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

from minidl import engines
from minidl.errors import NonFiniteError
from minidl.layers import Chain
from minidl.training.callbacks import Callback
from minidl.training.progress import Progress

__all__ = ["Compiled", "Data", "Hooks", "evaluating"]

GATHER_WHOLE = 1 << 27
"""Bytes up to which an epoch's new order is made in one go; beyond, batch by batch."""


class Data:
    """Examples, targets and weights, batch by batch, in a new order every epoch if there is a generator."""

    def __init__(
        self,
        x: numpy.ndarray,
        y: numpy.ndarray,
        weights: numpy.ndarray | None,
        batch_size: int,
        generator: numpy.random.Generator | None,
    ) -> None:
        self.x, self.y, self.weights, self.batch_size, self.generator = x, y, weights, batch_size, generator
        self.steps = -(-len(x) // batch_size)

    def batches(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield (x, y, weights or None) for each step, as arrays of the current engine."""
        engine = engines.current()
        on_host = engine.xp is numpy
        order = self.generator.permutation(len(self.x)) if self.generator is not None else None
        x, y, weights = self.x, self.y, self.weights
        whole = order is not None and x.nbytes <= GATHER_WHOLE
        if whole:
            x, y, weights = x[order], y[order], None if weights is None else weights[order]
        for start in range(0, len(x), self.batch_size):
            part: Any = slice(start, start + self.batch_size)
            if order is not None and not whole:
                part = order[part]
            batch = x[part], y[part], None if weights is None else weights[part]
            yield batch if on_host else tuple(None if a is None else engine.asarray(a) for a in batch)  # type: ignore[misc]


class Hooks:
    """The callbacks, with only those of their hooks that somebody wrote."""

    def __init__(self, callbacks: Sequence[Callback], model: Any) -> None:
        self._hooks: dict[str, list[Callable[..., None]]] = {}
        for callback in callbacks:
            callback.model = model
            for name in vars(Callback):
                hook = getattr(callback, name)
                if name.startswith("on_") and getattr(hook, "__func__", hook) is not vars(Callback)[name]:
                    self._hooks.setdefault(name, []).append(hook)
        self.on_batch_begin = self._hooks.get("on_batch_begin", [])
        self.on_batch_end = self._hooks.get("on_batch_end", [])

    def call(self, name: str, *args: Any) -> None:
        """Call a hook of all callbacks, in their order."""
        for hook in self._hooks.get(name, []):
            hook(*args)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch to evaluation for a block, then back to what was."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


class Compiled:
    """A model with its loss and metrics.

    Parameters
    ----------
    model : layer
        What predicts.
    trunk : layer
        What is trained: the model, or the model up to its last activation.
    activation : layer or None
        What turns the trunk's output into predictions.
    loss : loss
    metrics : list of Metric
    """

    def __init__(self, model: Any, trunk: Any, activation: Any, loss: Any, metrics: list[Any]) -> None:
        self.model, self.trunk, self.activation, self.loss, self.metrics = model, trunk, activation, loss, metrics

    def train_epoch(self, data: Data, optimizer: Any, hooks: Hooks, progress: Progress, epoch: int) -> dict[str, float]:
        """Run one epoch of steps; return the mean loss and the metrics over it."""
        forward, backward, loss = self.trunk.forward, self.trunk.backward, self.loss
        skip = {"input_gradient": False} if isinstance(self.trunk, Chain) else {}
        for metric in self.metrics:
            metric.reset()
        total, seen, step = 0.0, 0, 0
        for step, (x, y, weights) in enumerate(data.batches()):
            for hook in hooks.on_batch_begin:
                hook(step)
            output = forward(x)
            value = float(loss.forward(output, y) if weights is None else loss.forward(output, y, weights))
            if not math.isfinite(value):
                raise NonFiniteError(self._explained(x, value, epoch, step))
            backward(loss.backward(), **skip)
            optimizer.step()
            optimizer.zero_grad()
            total += value * len(x)
            seen += len(x)
            if self.metrics:
                self._measure(output, y)
            for hook in hooks.on_batch_end:
                hook(step, value)
            if progress.verbose == 1 and progress.due():
                progress.show(step + 1, {"loss": total / seen, **self._results()})
        return {"loss": total / max(seen, 1), **self._results()}

    def evaluate(self, data: Data) -> dict[str, float]:
        """Return the mean loss and the metrics over the data, in evaluation mode."""
        for metric in self.metrics:
            metric.reset()
        total, seen = 0.0, 0
        with evaluating(self.model):
            for x, y, weights in data.batches():
                output = self.trunk.forward(x)
                value = self.loss.forward(output, y) if weights is None else self.loss.forward(output, y, weights)
                total += float(value) * len(x)
                seen += len(x)
                self._measure(output, y)
        return {"loss": total / max(seen, 1), **self._results()}

    def _measure(self, output: Any, y: Any) -> None:
        if not self.metrics:
            return
        engine = engines.current()
        if self.activation is not None:
            output = getattr(engine, self.activation.op)(output, *self.activation.settings)[0]
        prediction, target = engine.to_host(output), engine.to_host(y)
        for metric in self.metrics:
            metric.update(prediction, target)

    def _results(self) -> dict[str, float]:
        return {metric.name: float(metric.result()) for metric in self.metrics}

    def _explained(self, x: Any, value: float, epoch: int, step: int) -> str:
        """Find the first layer whose output is not finite, by running the batch once more, layer by layer."""
        engine = engines.current()
        culprit = f"the loss {self.loss!r}, though all layers' outputs are finite"
        layers = self.trunk.layers if isinstance(self.trunk, Chain) else (self.trunk,)
        for index, layer in enumerate(layers):
            with numpy.errstate(all="ignore"):
                x = layer.forward(x)
            if not numpy.isfinite(engine.to_host(x)).all():
                culprit = f"layer {index}, {layer!r}"
                break
        return (
            f"fit: the loss became {value} in epoch {epoch + 1}, step {step + 1}; the first output that is not finite is "
            f"that of {culprit}. Try a smaller learning rate, standardise the inputs, or clip the gradients"
        )
