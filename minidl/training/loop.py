"""The training loop: one epoch of steps, or one pass of evaluation, as you would write it by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

from minidl import engines
from minidl.errors import NonFiniteError, ParameterError
from minidl.layers import Activation, CrossEntropyLoss, Layer, inference
from minidl.ops import namespace
from minidl.training.array_group import call_with, ungroup
from minidl.training.callbacks import Callback
from minidl.training.diagnosis import all_finite, first_not_finite, named_not_finite
from minidl.training.feed import Feed
from minidl.training.meter import Meter
from minidl.training.modes import Statistics
from minidl.training.progress import Progress
from minidl.training.stream import Stream

__all__ = ["Hooks", "Loop", "evaluating"]

ADVICE = "Try a smaller learning rate, standardise the inputs, or clip the gradients (minidl.training.GradientClipping)"


class Hooks:
    """The callbacks' hooks, without those that nobody has overridden."""

    def __init__(self, callbacks: Sequence[Callback], model: Any, numbers: Sequence[str]) -> None:
        self._hooks: dict[str, list[Callable[..., None]]] = {}
        names = [name for name in vars(Callback) if name.startswith("on_")]
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ParameterError(f"fit: callbacks must be minidl.training.Callback objects, got {callback!r}")
            callback.model, callback.numbers = model, tuple(numbers)
            for name in names:
                hook = getattr(callback, name)
                if getattr(hook, "__func__", hook) is not vars(Callback)[name]:
                    self._hooks.setdefault(name, []).append(hook)

    def of(self, name: str) -> list[Callable[..., None]]:
        """Return the hooks of that name, in the callbacks' order."""
        return self._hooks.get(name, [])

    def call(self, name: str, *args: Any) -> None:
        """Call the hook of all callbacks."""
        for hook in self.of(name):
            hook(*args)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run a block in evaluation, with no caches kept and no layer's mode changed; several threads may do so at once.

    Only somebody's own layers that are no ``minidl.Layer``, but have a mode, are switched and switched back.
    """
    strange = [layer for _, layer in model.named_layers() if not isinstance(layer, Layer) and hasattr(layer, "train")]
    modes = [getattr(layer, "training", True) for layer in strange]
    for layer in strange:
        layer.train(False)
    try:
        with inference(evaluate=True):
            yield
    finally:
        for layer, mode in zip(strange, modes, strict=True):
            layer.train(mode)


class Loop:
    """A model with its loss and metrics, ready to train and to evaluate.

    Parameters
    ----------
    model : layer
    trunk : layer
        What is trained: the model, or the model without its last activation.
    activation : Activation or None
        That last activation, which turns the output of the trunk into predictions.
    loss : loss
    metrics : list of Metric
    several : bool, default False
        Whether inputs or targets may be an ``ArrayGroup``.
    ignoring : bool, default False
        Whether the loss may ignore some targets. The mean over an epoch then weights each batch by the targets that count.
    """

    def __init__(
        self,
        model: Any,
        trunk: Any,
        activation: Activation | None,
        loss: Any,
        metrics: list[Any],
        several: bool = False,
        ignoring: bool = False,
    ) -> None:
        self.model, self.trunk, self.loss = model, trunk, loss
        self.meter = Meter(metrics, activation, loss)
        self.is_sum = getattr(loss, "reduction", "mean") in ("sum", "half_sum")
        self.parameters: list[Any] = model.parameters()
        self.forward: Callable[[Any], Any] = trunk.forward
        self.measure: Callable[..., Any] = loss.forward
        if several:
            self.forward = lambda x: call_with(trunk.forward, x)
            self.measure = lambda output, y, *weights: loss.forward(output, ungroup(y), *weights)
        self.count = self._count if ignoring and not self.is_sum else None

    def train_epoch(
        self, feed: Feed | Stream, optimizer: Any, hooks: Hooks, progress: Progress, epoch: int
    ) -> dict[str, float]:
        """Run one epoch of steps; return the loss and the metrics over it.

        The host checks the loss of each step, so that a loss that is not finite cannot spoil the weights. On a GPU this is
        the only time in a step that the host waits.
        """
        forward, backward, measure, loss, meter = self.forward, self.trunk.backward, self.measure, self.loss, self.meter
        skip = {"input_gradient": False} if getattr(self.trunk, "input_gradient_optional", False) else {}
        count = self.count
        before, between, after = hooks.of("on_batch_begin"), hooks.of("on_gradients"), hooks.of("on_batch_end")
        moving, measured = progress.bar is not None, bool(meter.metrics)
        meter.reset()
        feed.epoch = epoch
        total, seen = 0.0, 0
        statistics = Statistics(self.model)
        with numpy.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the loss is looked at instead
            for step, (x, y, weights) in enumerate(feed):
                for hook in before:
                    hook(step)
                try:
                    output = forward(x)
                    value = float(measure(output, y) if weights is None else measure(output, y, weights))
                    if not math.isfinite(value):
                        raise NonFiniteError(
                            f"fit: the loss became {value} in epoch {epoch + 1}, step {step + 1}; "
                            f"{first_not_finite(self.trunk, x, loss, y)}. {ADVICE}"
                        )
                    backward(loss.backward(), **skip)
                    for hook in between:
                        hook(step)
                except BaseException:  # the step is not taken, so the statistics of its forward do not count
                    statistics.put_back()
                    raise
                optimizer.step()
                optimizer.zero_grad()
                statistics.note()
                n = len(y) if count is None else count(y, weights)
                total += value if self.is_sum else value * n
                seen += n
                if measured:
                    meter.add(output, y)
                if moving and progress.due():
                    progress.show(step + 1, {"loss": self._over(total, seen), **meter.results()})
                if after:
                    for hook in after:
                        hook(step, {"loss": value})
                    if self.model.stop_training:
                        break
        progress.all_steps_done(step + 1)
        if not all_finite(self.parameters):
            raise NonFiniteError(
                f"fit: the parameter {named_not_finite(self.model)!r} is not finite after epoch {epoch + 1}, step "
                f"{step + 1}, whose loss was still {value:.4g}. {ADVICE}"
            )
        return {"loss": self._over(total, seen), **meter.results()}

    def evaluate(
        self, feed: Feed | Stream, progress: Progress | None = None, epoch: int | None = None
    ) -> dict[str, float]:
        """Return the loss and the metrics over the data, in evaluation mode."""
        self.meter.reset()
        feed.epoch = epoch
        values: list[Any] = []  # a GPU's stay there until somebody looks
        counts: list[int] = []
        with evaluating(self.model):
            for step, (x, y, weights) in enumerate(feed):
                output = self.forward(x)
                values.append(self.measure(output, y) if weights is None else self.measure(output, y, weights))
                counts.append(len(y) if self.count is None else self.count(y, weights))
                if self.meter.metrics:
                    self.meter.add(output, y)
                if progress is not None and progress.due():
                    progress.show(step + 1, self._measured(values, counts))
            if progress is not None:
                progress.all_steps_done(step + 1)
            return self._measured(values, counts)

    def _measured(self, values: list[Any], counts: list[int]) -> dict[str, float]:
        each = engines.current().to_host(namespace(values[0]).stack(values)).astype(numpy.float64)
        if self.count is not None:
            each[numpy.equal(counts, 0)] = 0.0  # the mean of no targets is nan, and has no weight
        total = float(each.sum() if self.is_sum else each @ counts)
        return {"loss": self._over(total, sum(counts)), **self.meter.results()}

    def _over(self, total: float, seen: int) -> float:
        """Return the loss over several batches: what the loss would be of all of them as one."""
        if seen == 0:
            return math.nan
        return total if self.is_sum else total / seen

    def _count(self, y: Any, weights: Any) -> int:
        """Return the number of targets that the loss of a batch is the mean of."""
        loss: CrossEntropyLoss = self.loss
        if y.dtype.kind == "f":  # probabilities
            return y.size // y.shape[loss.class_axis or 1]
        return y.size if weights is not None else int((y != loss.settings["ignore_index"]).sum())
