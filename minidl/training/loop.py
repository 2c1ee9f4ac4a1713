"""The training loop: one epoch of steps, or one pass of evaluation, as you would write it by hand."""

from __future__ import annotations

import copy
import functools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy

from minidl import engines
from minidl.errors import NonFiniteError
from minidl.layers import Activation, Layer, Loss, inference
from minidl.ops._later import Check, checks_later
from minidl.training.accumulation import Accumulation, LookAhead
from minidl.training.array_group import call_with, ungroup
from minidl.training.checkpoints import Run
from minidl.training.diagnosis import all_finite, first_not_finite, named_not_finite
from minidl.training.feed import Feed
from minidl.training.hooks import Hooks
from minidl.training.meter import Meter
from minidl.training.modes import Statistics
from minidl.training.progress import Progress
from minidl.training.recorder import Place
from minidl.training.stream import Stream
from minidl.training.totals import LateLogs, LateTotals, Totals, read_all

__all__ = ["Loop", "evaluating"]

ADVICE = "Try a smaller learning rate, standardise the inputs, or clip the gradients (minidl.training.GradientClipping)"


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Run a block in evaluation, with no caches kept and no layer's mode changed; several threads may do so at once.

    Only somebody's own layers that are no ``minidl.Layer``, but have a mode, are switched, by the first of the threads, and
    switched back by the last.
    """
    strange = [layer for _, layer in model.named_layers() if not isinstance(layer, Layer) and hasattr(layer, "train")]
    with _switching:
        for layer in strange:
            mode, users = _switched.get(id(layer), (getattr(layer, "training", True), 0))
            _switched[id(layer)] = mode, users + 1
            layer.train(False)
    try:
        with inference(evaluate=True):
            yield
    finally:
        with _switching:
            for layer in strange:
                mode, users = _switched.pop(id(layer))
                if users > 1:
                    _switched[id(layer)] = mode, users - 1
                else:
                    layer.train(mode)


_switched: dict[int, tuple[bool, int]] = {}
"""The mode that somebody's own layer had, by its identity, and how many evaluations use it now."""
_switching = threading.Lock()


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
    """

    def __init__(
        self,
        model: Any,
        trunk: Any,
        activation: Activation | None,
        loss: Any,
        metrics: list[Any],
        several: bool = False,
    ) -> None:
        self.model, self.trunk = model, trunk
        self.meter = Meter(metrics, activation, loss)
        self.is_sum = getattr(loss, "reduction", "mean") in ("sum", "half_sum")
        self.knows_divisor = isinstance(loss, Loss)
        self.parameters: list[Any] = model.parameters()
        self.forward: Callable[[Any], Any] = (lambda x: call_with(trunk.forward, x)) if several else trunk.forward
        self.several = several
        self.parallel: Any = None  # a DataParallel, if several processes train
        self.use(loss)

    def use(self, loss: Any) -> None:
        """Measure with this loss."""
        self.loss, self.measure = loss, loss.forward
        if self.several:
            self.measure = lambda output, y, *weights: loss.forward(output, ungroup(y), *weights)

    def train_epoch(
        self,
        feed: Feed | Stream,
        optimizer: Any,
        hooks: Hooks,
        progress: Progress,
        epoch: int,
        accumulation_steps: int = 1,
        run: Run | None = None,
        place: Place | None = None,
    ) -> dict[str, float]:
        """Run one epoch of steps, each over one batch or several; return the loss and the metrics over it.

        With ``run`` a checkpoint may be written after each step, and ``place`` says where the epoch goes on.

        On the host each loss is looked at before its step is taken, so that one that is not finite cannot spoil the weights. On
        a GPU the host waits for the first loss of the epoch, and then not again before its end, unless somebody wants to see a
        number; see :class:`minidl.training.totals.LateTotals`.
        """
        with self.meter.claimed(), checks_later() as checks:
            place = Place(epoch) if run is None or place is None else run.begin_epoch(place)
            complain = functools.partial(self._complain, epoch)
            on_host = engines.current().xp is numpy
            totals = Totals(self.is_sum, complain) if on_host else LateTotals(self.is_sum, complain, checks)
            totals.go_on(place.total, place.seen)
            return self._train_epoch(feed, optimizer, hooks, progress, epoch, accumulation_steps, totals, run, place)

    def _train_epoch(
        self,
        feed: Feed | Stream,
        optimizer: Any,
        hooks: Hooks,
        progress: Progress,
        epoch: int,
        accumulation_steps: int,
        totals: Totals,
        run: Run | None,
        place: Place,
    ) -> dict[str, float]:
        forward, backward, measure, loss, meter = self.forward, self.trunk.backward, self.measure, self.loss, self.meter
        skip = {"input_gradient": False} if getattr(self.trunk, "input_gradient_optional", False) else {}
        before, after = hooks.of("on_train_batch_begin"), hooks.of("on_train_batch_end")
        between = hooks.of("on_gradients")
        moving, measured = progress.bar is not None, bool(meter.metrics)
        logs = dict if type(totals) is Totals else LateLogs
        feed.epoch = epoch
        batches: Any = feed
        together = Accumulation(accumulation_steps, self.is_sum) if accumulation_steps > 1 else None
        if together is not None:
            batches = LookAhead(feed)
        saving = run if run is not None and run.writes else None
        value: Any = math.nan
        step = place.step - 1
        if place.step and self.model.stop_training:  # by a callback after the last of these steps
            batches = ()
        statistics = Statistics(self.model)
        parallel = self.parallel
        try:
            with numpy.errstate(over="ignore", invalid="ignore", divide="ignore"):  # the loss is looked at instead
                for step, (x, y, weights) in enumerate(batches, place.step):
                    for hook in before:
                        hook(step, {})
                    if parallel is not None:
                        value = self._shared_step(x, y, weights, step, hooks, totals, together, run)
                    else:
                        output = forward(x)
                        value = measure(output, y) if weights is None else measure(output, y, weights)
                        n = self._weight(y)
                        value = totals.add(step, value, n, x)
                        dy = loss.backward()
                        backward(dy if together is None else together.add(dy, n), **skip)
                        if measured:  # before any hook: a layer may reuse the memory of its output
                            meter.add(output, y)
                    taken = together is None or together.is_due(batches)
                    if taken:
                        if parallel is not None:
                            parallel.reduce("on_gradients" in hooks.on_root or bool(between))
                        if together is not None:
                            together.finish(optimizer)
                        for hook in between:
                            hook(step, logs(loss=value))
                        if parallel is None:
                            optimizer.step()
                        else:
                            self._take_shared_step(hooks)
                        optimizer.zero_grad()
                        statistics.note()
                    if moving and progress.due():
                        progress.show(step + 1, {"loss": totals.mean(), **meter.results()})
                    if after:
                        for hook in after:
                            hook(step, logs(loss=value))
                    if parallel is not None and "on_train_batch_end" in hooks.on_root:
                        parallel.settle()
                    if taken and saving is not None and saving.is_due():
                        saving.write(Place(epoch, step + 1, *totals.so_far()))
                    if (after or parallel is not None) and taken and self.model.stop_training:
                        break
                totals.finish()
        except BaseException:  # a step that is not taken, so the statistics of its forwards do not count
            statistics.put_back()
            raise
        progress.all_steps_done(step + 1)
        if not totals.seen:
            raise NonFiniteError(f"fit: the loss ignores every target of epoch {epoch + 1}, so its mean is undefined")
        if not all_finite(self.parameters):
            raise NonFiniteError(
                f"fit: the parameter {named_not_finite(self.model)!r} is not finite after epoch {epoch + 1}, step "
                f"{step + 1}, whose loss was still {float(value):.4g}. {ADVICE}"
            )
        return {"loss": totals.mean(), **(meter.results() if parallel is None else parallel.results(meter))}

    def _shared_step(
        self,
        x: Any,
        y: Any,
        weights: Any,
        step: int,
        hooks: Hooks,
        totals: Totals,
        together: Accumulation | None,
        run: Run | None,
    ) -> Any:
        """Compute the loss of a batch, and this rank's part of its gradient from this rank's rows, of which there may be none."""
        parallel = self.parallel
        if "on_train_batch_begin" in hooks.on_root:
            parallel.settle()
        parallel.seed_step()
        output, value, n = None, 0.0, 0
        if len(y):
            output = self.forward(x)
            value = self.measure(output, y) if weights is None else self.measure(output, y, weights)
            n = self._weight(y)
        value, count, weight = parallel.mean(value, n, self.is_sum, run is not None and run.is_interrupted)
        shown = totals.add(step, value, count, x if len(y) else None)
        if output is not None:
            dy = parallel.weigh(self.loss.backward(), weight)
            skip = {"input_gradient": False} if getattr(self.trunk, "input_gradient_optional", False) else {}
            self.trunk.backward(dy if together is None else together.add(dy, count), **skip)
        elif together is not None:
            together.add(None, count)
        if self.meter.metrics:
            parallel.measure(self.meter, output, y)
        return shown

    def _take_shared_step(self, hooks: Hooks) -> None:
        """Take the step that all ranks take, with the gradients as rank 0's callbacks left them."""
        if "on_gradients" in hooks.on_root:
            self.parallel.settle()
            self.parallel.copy_gradients()
        self.parallel.step()
        self.parallel.average_statistics()

    def _complain(self, epoch: int, value: float, step: int, now: int, x: Any) -> NoReturn:
        """Raise the error for a loss that is not finite, at the step itself or when a GPU's losses are read."""
        if now == step and x is not None:
            found = first_not_finite(self.trunk, x, self.loss)
        else:
            found = (
                f"a GPU's losses are read late, here after step {now + 1}, and the steps since have spoilt the weights: load a "
                "checkpoint. On the host, with minidl.use('native'), the error names the layer"
            )
        raise NonFiniteError(f"fit: the loss became {value} in epoch {epoch + 1}, step {step + 1}; {found}. {ADVICE}")

    def evaluate(
        self,
        feed: Feed | Stream,
        progress: Progress | None = None,
        epoch: int | None = None,
        hooks: Hooks | None = None,
    ) -> dict[str, float]:
        """Return the loss and the metrics over the data, in evaluation mode."""
        hooks = Hooks((), self.model, ()) if hooks is None else hooks
        feed.epoch = epoch
        hooks.call("on_test_begin", {})
        own = copy.copy(self)
        own.use(copy.copy(self.loss))  # its cache belongs to the step of another thread, or of this one
        with self.meter.claimed(), evaluating(self.model), checks_later() as checks:
            logs = own._evaluate(feed, progress, hooks, checks)
        hooks.call("on_test_end", logs)
        return logs

    def _evaluate(
        self, feed: Feed | Stream, progress: Progress | None, hooks: Hooks, checks: list[Check]
    ) -> dict[str, float]:
        before, after = hooks.of("on_test_batch_begin"), hooks.of("on_test_batch_end")
        values: list[Any] = []  # a GPU's stay there until somebody looks
        counts: list[Any] = []
        for step, (x, y, weights) in enumerate(feed):
            for hook in before:
                hook(step, {})
            if self.parallel is not None and not len(y):  # this rank has no rows of the batch
                if self.meter.metrics:
                    self.parallel.measure(self.meter, None, y)
                continue
            output = self.forward(x)
            values.append(self.measure(output, y) if weights is None else self.measure(output, y, weights))
            counts.append(self._weight(y))
            if self.meter.metrics and self.parallel is not None:
                self.parallel.measure(self.meter, output, y)
            elif self.meter.metrics:
                self.meter.add(output, y)
            for hook in after:
                hook(step, LateLogs(loss=values[-1]))
            if progress is not None and progress.due():
                progress.show(step + 1, self._measured(values, counts, checks))
        if progress is not None:
            progress.all_steps_done(step + 1)
        return self._measured(values, counts, checks, self.parallel)

    def _measured(
        self, values: list[Any], counts: list[Any], checks: list[Check], parallel: Any = None
    ) -> dict[str, float]:
        engine = engines.current()
        for (_, complain), wrong in zip(checks, read_all(engine, [flag for flag, _ in checks]), strict=True):
            if wrong:
                complain()
        checks.clear()
        each, weights = read_all(engine, values), read_all(engine, counts)
        each[weights == 0] = 0.0  # the mean of no targets is nan, and has no weight
        total, seen = float(each.sum() if self.is_sum else each @ weights), float(weights.sum())
        if parallel is not None:
            total, seen = parallel.add_up(numpy.array([total, seen])).tolist()
        mean = total if self.is_sum else total / seen if seen else math.nan
        measured = self.meter.results() if parallel is None else parallel.results(self.meter)
        return {"loss": mean if seen else math.nan, **measured}

    def _weight(self, y: Any) -> Any:
        """Return the weight of a batch, whose loss was just computed, in the mean over several: what its mean divided by.

        A user's own loss does not tell; its batches are weighted by their examples.
        """
        if self.is_sum or not self.knows_divisor or self.loss._cache is None:  # a forward of its own keeps no cache
            return len(y)
        return self.loss.divisor
