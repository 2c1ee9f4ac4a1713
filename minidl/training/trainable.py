"""The training interface of a model: ``compile``, ``fit``, ``evaluate`` and ``predict``."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy

from minidl import engines, optim, random
from minidl.data.augment import Mixup
from minidl.data.passes import is_batches
from minidl.errors import DataError, OrderError, ParameterError
from minidl.layers import BCEWithLogitsLoss, Layer, Parameter
from minidl.training import checks, losses
from minidl.training.array_group import call_with
from minidl.training.callbacks import Callback
from minidl.training.checkpoints import Checkpoints, Run
from minidl.training.feed import Feed
from minidl.training.history import History
from minidl.training.hooks import Hooks
from minidl.training.loop import Loop, evaluating
from minidl.training.meter import metrics_named
from minidl.training.modes import switch_to_training
from minidl.training.parallel import guarded
from minidl.training.prediction import iterate_inputs, join_outputs, output_to_host
from minidl.training.preparation import Schedule, check_repeatable, prepare, split_at
from minidl.training.progress import Progress, resolve_verbose
from minidl.training.recorder import Place, Recorder, describe_arrays
from minidl.training.single_batches import SingleBatches, as_result
from minidl.training.stream import Stream

__all__ = ["Trainable"]


class _Default(int):
    """A default that differs from the same number given by the user, which is an error beside batches."""


TRAINING_BATCH, EVALUATION_BATCH = _Default(32), _Default(256)
Source = Feed | Stream

if TYPE_CHECKING:
    _Base = Layer  # what it is mixed into
else:
    _Base = object


class Trainable(SingleBatches, _Base):
    """The training interface of a model, with Keras's names and conventions; mixed into layers such as ``Sequential``.

    The model's own ``forward`` and ``backward`` do the work. ``fit`` is the loop that you would write by hand, with data
    checks before it, and metrics and callbacks around it.

    Attributes
    ----------
    optimizer, loss, metrics
        What ``compile`` was given, or made from the names. An optimiser given by name or class is made by the first
        ``fit``, when all parameters exist; until then it is None.
    history : History or None
        Of the last ``fit``, even if it ended with an error.
    stop_training : bool
        Set by a callback to end ``fit`` early.
    """

    _not_parts: tuple[str, ...] = ("_optimizer", "loss", "metrics", "history", "_optimized", "_compiled_for", "_stayed")
    _optimizer: Any = None
    loss: Any = None
    metrics: Sequence[Any] = ()
    history: History | None = None
    stop_training: bool = False
    _stayed: Sequence[Layer] = ()  # the layers that the last fit left in evaluation
    _make_optimizer: Callable[[list[Parameter]], Any] | None = None
    _compiled_for: Sequence[Parameter] = ()  # the parameters when an optimiser object was given
    _optimized: Sequence[Parameter] = ()  # what the optimiser was made of
    _loss_by_name: bool = False

    def compile(self, optimizer: Any = "adam", loss: Any = None, metrics: Any = ()) -> None:
        """Choose how the model is trained; may be called before the input shape is known.

        Parameters
        ----------
        optimizer : str, class, callable or Optimizer
            A name such as ``"sgd"`` (with Keras's default settings), a class such as ``minidl.Adam`` (with its own), a
            function that makes one of a list of parameters, or an optimiser made for this model's parameters.
        loss : str or loss
            A name such as ``"mean_squared_error"``, or an object with forward and backward. The cross-entropies take
            logits. Given by name, they also accept a model that ends in the matching softmax or sigmoid, and train on the
            logits before it: the same loss without the logarithm of a rounded zero.
        metrics : list of str, function or Metric
            Such as ``["accuracy"]``; see ``minidl.metrics``. A function takes (y_true, y_pred). With a binary cross-entropy
            and several outputs, names mean metrics of independent labels. They see several batches at a time, without targets that the
            loss ignores. For classes on the last axis they see rows, (M, K) and (M,).

        Raises
        ------
        UnknownNameError
            If a name is not known; the message lists those that are.
        ParameterError
            If the optimiser holds parameters of another model, the loss does not match the last layer, or two metrics have
            the same name.

        Examples
        --------
        >>> import minidl as dl
        >>> model = dl.Sequential([dl.Dense(1)])
        >>> model.compile(optimizer="sgd", loss="mean_squared_error", metrics=["mae"])
        """
        if loss is None:
            raise ParameterError("compile: give a loss, such as compile(optimizer='sgd', loss='mean_squared_error')")
        found = losses.loss_named(loss)
        absorbed = losses.absorbed_activation(self, found, isinstance(loss, str))
        from_logits = losses.takes_logits(found) and absorbed is None
        measured = metrics_named(metrics, from_logits, multilabel=isinstance(found, BCEWithLogitsLoss))
        made, make = self._optimizer_of(optimizer)
        self._optimizer, self._make_optimizer = made, make
        self._compiled_for = self.parameters() if made is not None else []
        self.loss, self._loss_by_name, self.metrics = found, isinstance(loss, str), measured

    def _optimizer_of(self, wanted: Any) -> tuple[Any, Callable[[list[Parameter]], Any] | None]:
        """Return the optimiser, or how to make it."""
        if isinstance(wanted, str):
            kind, settings = optim.get(wanted)
            return None, functools.partial(kind, **settings)
        if isinstance(wanted, optim.Optimizer):
            own = set(self.parameters())
            if any(parameter not in own for parameter in wanted.parameters):
                raise ParameterError(
                    "compile: the optimizer holds parameters of another model; make it with this model's parameters()"
                )
            return wanted, None
        if callable(wanted):
            return None, wanted
        raise ParameterError(f"compile: optimizer must be a name, a class or an Optimizer object, got {wanted!r}")

    @property
    def optimizer(self) -> Any:
        """The optimiser. If ``compile`` was given a name or a class, it is made once the parameters exist; else None."""
        if self._optimizer is None and self._make_optimizer is not None and self.built:
            parameters = self.parameters()
            made = self._make_optimizer(parameters)
            if not isinstance(made, optim.Optimizer):
                raise ParameterError(f"compile: optimizer must make an Optimizer of a list of parameters, got {made!r}")
            self._optimizer, self._optimized = made, parameters
        return self._optimizer

    @optimizer.setter
    def optimizer(self, new: Any) -> None:
        self._optimizer, self._make_optimizer = self._optimizer_of(new) if new is not None else (None, None)
        self._compiled_for = self.parameters() if self._optimizer is not None else []

    def _check_compiled(self, where: str) -> None:
        if self.loss is None:
            raise OrderError(f"{where}: the model is not compiled; call compile(optimizer=..., loss=...) first")

    # training --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = TRAINING_BATCH,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callback | Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        seed: random.Source = None,
        augment: Callable[[Any, numpy.random.Generator], Any] | None = None,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        gradient_accumulation_steps: int = 1,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int | None = None,
        keep: int = 2,
        resume: str | os.PathLike[str] | None = None,
        parallel: Any = None,
    ) -> History:
        """Train for a number of passes over the data.

        Afterwards the model is in evaluation mode. The same seed, engine and number of threads give the same bits. See
        docs/training_data.md for an example of each kind of data.

        Parameters
        ----------
        x : array of shape (N, ...), tuple or dict of such arrays, or batches
            Examples. A tuple means several inputs, for ``model.forward(*x)``, and a dict named ones, for
            ``model.forward(**x)``. A list is one array. One array is converted to the model's dtype, even if it holds
            integers, unless ``model.integer_inputs`` is true; of several inputs only floating-point ones are converted.
            Arrays on disk (memory maps and views of them, HDF5, Zarr) are read batch by batch, never as a whole.

            Batches come from any iterable, or any object with ``len`` and ``[i]``, that gives (x, y) or
            (x, y, sample_weight), with x as above.
        y : array, shape (N, ...)
            Targets: class indices, or numbers of the outputs' shape. (N,) and (N, 1) are equivalent; nothing else is
            broadcast. For a cross-entropy and outputs of shape (N, T, K) they are class indices of shape (N, T);
            ``CrossEntropyLoss`` tells where the classes are and which targets are ignored. A loss of your own may take a
            tuple or a dict. Omit it with batches.
        batch_size : int, default 32
            The last batch of an epoch may be smaller. Omit it with batches.
        epochs : int, default 1
        verbose : int or str, default "auto"
            0 silent, 1 a bar that moves (on stderr), 2 a line an epoch (on stdout); ``"auto"`` is 1 on a terminal and in a
            notebook, else 0.
        callbacks : list of Callback, optional
        validation_split : float, default 0.0
            The share of the data, taken from the end before any shuffling, that is held out for validation. Omit it with
            batches.
        validation_data : (x, y), (x, y, sample_weight) or batches, optional
            Evaluated after every epoch. Takes precedence over ``validation_split``.
        shuffle : bool, default True
            Take the examples in a new random order every epoch. Batches that are accessed by ``[i]`` are taken in a random
            order; other iterables keep theirs.
        class_weight : dict of int to float, optional
            The weight of each class; 1 unless given. In a map or a sequence of classes each position has the weight of its
            class. For training only.
        sample_weight : array, shape (N,) or (N, ...), optional
            The weight of each example, or of each position of a map or a sequence, in the loss, not in the metrics. A mean
            divides by the same number as without weights, as in Keras. Omit it with batches, which may contain it.
        initial_epoch : int, default 0
            The number of the first epoch, to continue an earlier training.
        seed : int or numpy.random.Generator, optional
            For shuffling and ``augment``. The generator of ``minidl.seed`` is used otherwise, as it always is for dropout.
        augment : callable, optional
            ``(x, generator) -> x``, such as those in ``minidl.data.augment``: changes the inputs of each training batch,
            but never those of validation. It gets a read-only array on the host, or a tuple or dict of them.
        steps_per_epoch : int, optional
            Batches per epoch; one pass over the data by default. The next epoch continues where this one ended, and data
            that can be iterated again start over when they end.
        validation_steps : int, optional
            How many batches to validate on, the same ones after each epoch; all of them by default.
        gradient_accumulation_steps : int, default 1
            Batches for each step of the optimiser, which then sees the gradient of all of them as one batch, in the memory of
            one. The last step of an epoch may have fewer. Gradient clipping and ``on_gradients`` are called once a step, the
            other hooks for every batch. Batch normalisation still sees one batch at a time.
        checkpoint : path, optional
            A folder for checkpoints, which hold everything that training depends on; see docs/checkpoints.md. Ctrl-C then
            waits for the end of the step and writes one; ``history`` holds the epochs that are done.
        every : int, optional
            Steps of the optimiser between two checkpoints. By default one is written after each epoch.
        keep : int, default 2
            How many checkpoints stay.
        resume : path, optional
            A folder of checkpoints, or one of them. Training goes on from the newest, as if it had never stopped. Give the
            other arguments as before; ``epochs`` may be larger. With ``checkpoint`` the same folder, which may be empty at
            first, the same call begins a training and goes on with it.
        parallel : DataParallel, optional
            Train in several processes started by ``mpiexec``, each with its rows of every batch; see
            :class:`minidl.training.DataParallel` and docs/scaling.md.

        Returns
        -------
        History
            The loss and metrics of each epoch. Those of training are means over its steps, while the weights change;
            those of validation are computed at its end.

        Raises
        ------
        OrderError
            If the model is not compiled.
        DataError, DtypeError, ShapeError, TargetError
            If the data cannot be used: lengths differ, there are no examples, something is nan, inf or no real number, or
            the model has no output for a class. Arrays in memory are checked before the first step. Batches and arrays on
            disk are checked as they are read: the message then names the epoch and step. So it does if the iterable
            itself raises an error or ends too early.
        ParameterError
            If a setting is out of range, cannot be combined with batches, or leaves the class axis undecided; or if nothing
            that the optimiser holds is trainable.
        NonFiniteError
            If the loss becomes nan or inf. The message names the epoch, the step and the first layer whose output is not
            finite. That step is not taken, so the weights are those before it. Also if a parameter is nan or inf after an
            epoch.
        FileFormatError, FileNotFoundError
            If there is no checkpoint to go on from, or it is damaged. If it is that of another training, a ParameterError
            names the first difference.

        Examples
        --------
        >>> import numpy, minidl as dl
        >>> x = numpy.linspace(-1, 1, 64).reshape(-1, 1)
        >>> model = dl.Sequential([dl.Linear(1, 1)])
        >>> model.compile(optimizer=dl.SGD(model.parameters(), lr=0.1), loss="mse")
        >>> history = model.fit(x, 2 * x[:, 0] + 1, epochs=100)
        >>> history.history["loss"][-1] < 1e-3
        True

        An endless generator of batches, with five batches per epoch:

        >>> def lines(generator=numpy.random.default_rng(0)):
        ...     while True:
        ...         x = generator.uniform(-1, 1, (16, 1))
        ...         yield x, 2 * x + 1
        >>> model.fit(lines(), epochs=2, steps_per_epoch=5).epoch
        [0, 1]
        """
        with guarded(parallel):
            self._check_compiled("fit")
            size = checks.whole_number(batch_size, "batch_size", "fit", 1)
            span = range(
                checks.whole_number(initial_epoch, "initial_epoch", "fit", 0),
                checks.whole_number(epochs, "epochs", "fit", 0),
            )
            steps = _check_steps(steps_per_epoch, "steps_per_epoch", "fit")
            together = checks.whole_number(gradient_accumulation_steps, "gradient_accumulation_steps", "fit", 1)
            plan = None
            if checkpoint is not None or resume is not None or every is not None:
                plan = Checkpoints(checkpoint, every, keep, resume)
            level = resolve_verbose(verbose, "fit")
            generator = given = random.as_generator(seed, "fit: seed") if shuffle or augment is not None else None
            share = None
            if parallel is not None:
                level, share = level if parallel.is_root else 0, parallel.share
                generator = parallel.common_generator(given)
                given = numpy.random.default_rng(0)  # for augmentation, which each rank draws for itself
            change = _bind_generator(augment, given)
            check_repeatable(x, span, steps, "x", "steps_per_epoch")
            noting = plan is not None
            order = generator if shuffle else None
            schedule = Schedule(size, steps, False, span.start, order, change, class_weight, noting, share)
            only_arrays = [
                *(["batch_size"] if batch_size is not TRAINING_BATCH else []),
                *(["validation_split"] if validation_split and validation_data is None else []),
            ]
            data = prepare(self, self._loss_by_name, x, y, sample_weight, schedule, "fit", only_arrays)
            rows, validation = None, None
            validation_schedule = Schedule(
                size,
                _check_steps(validation_steps, "validation_steps", "fit"),
                True,
                span.start,
                noting=noting,
                share=share,
            )
            if validation_data is not None:
                validation = self._validation(validation_data, validation_schedule, span)
            elif validation_split:
                assert data.count is not None
                at = split_at(data.count, validation_split)
                rows, validation = range(at), (data.loop, data.source(range(at, data.count), validation_schedule))
            elif validation_steps is not None:
                raise ParameterError("fit: validation_steps is given, but there are no data to validate on")
            feed = data.source(rows, schedule)
            self._ready_optimizer()
            params = {"epochs": span.stop, "steps": feed.steps, "verbose": level}
            params |= {"gradient_accumulation_steps": together} if together > 1 else {}
            params |= {"resumed": True} if plan is not None and plan.found is not None else {}
            callbacks = _as_list(callbacks)
            hooks = Hooks(callbacks, self, self._numbers(validation is not None), params, parallel=parallel)
            roots = {"fit": generator, "augment": augment}
            if parallel is not None:
                roots["parallel"] = parallel.draw_by_rank(self, {"augment": augment, "fit": given})
                for loop in (data.loop, *(() if validation is None else validation[:1])):
                    loop.parallel = parallel
            recorder = None
            if plan is not None:
                feeds = [feed] if validation is None else [feed, validation[1]]
                same = {
                    "batch_size": size,
                    "examples": feed.count if isinstance(feed, Feed) else None,
                    "steps_per_epoch": steps,
                    "gradient_accumulation_steps": together,
                    "validated": validation is not None,
                }
                recorder = Recorder(self, data.loop, feeds, callbacks, roots, same)
            if parallel is not None:
                lines = [
                    *describe_arrays(self.named_parameters()),
                    type(self.optimizer).__name__,
                    *(f"batch_size={size}", f"{feed.steps} steps", f"epochs={span}", f"{data.count} examples"),
                    *(f"{together} batches a step", f"validation: {validation is not None}"),
                    f"checkpoint={checkpoint}, every={every}, resume={resume}",
                ]
                parallel.check_alike(lines)
                parallel.start(self)
            history = History()
            with Run(plan, recorder, history, parallel) as run:
                return self._epochs(data.loop, feed, validation, hooks, level, span, together, run)

    def _validation(self, given: Any, schedule: Schedule, epochs: range) -> tuple[Loop, Source]:
        """Return the loop and the batches for validation."""
        where = "fit, validation_data"
        check_repeatable(given, epochs, schedule.steps, "validation_data", "validation_steps")
        if is_batches(given):
            x, y, weight = given, None, None
        elif isinstance(given, (tuple, list)) and len(given) in (2, 3):
            x, y, weight = given if len(given) == 3 else (*given, None)
        else:
            raise DataError("fit: validation_data must be (x, y), (x, y, sample_weight) or batches")
        data = prepare(self, self._loss_by_name, x, y, weight, schedule, where)
        return data.loop, data.source(None, schedule)

    def _numbers(self, validated: bool) -> list[str]:
        """Return the names of the loss and metrics of an epoch."""
        names = ["loss", *(metric.name for metric in self.metrics)]
        return [*names, *(f"val_{name}" for name in names)] if validated else names

    def _ready_optimizer(self) -> None:
        """Make the optimiser, once the parameters exist; raise unless it has something to train in this model."""
        self._check_optimizer(self.parameters())
        if not any(parameter.trainable for parameter in self.optimizer.parameters):
            raise ParameterError(
                "fit: every parameter that the optimizer holds is frozen; unfreeze something, or make an optimizer of what "
                "is trained"
            )

    def _check_optimizer(self, parameters: list[Parameter]) -> None:
        """Raise if the model has other parameters than when it was compiled."""
        if self._make_optimizer is not None:
            if self.optimizer.parameters != parameters and parameters != self._optimized:
                raise ParameterError(
                    "fit: the model has other parameters than when its optimizer was made; compile it again"
                )
            return
        held, known, now = set(self.optimizer.parameters), set(self._compiled_for), set(parameters)
        if held - now:
            raise ParameterError(
                "fit: the optimizer holds parameters that the model no longer has, because a layer was replaced after the "
                "optimizer was made; make one of the model's parameters() now, and compile the model with it"
            )
        if any(p.trainable for p in now - known - held):
            raise ParameterError(
                "fit: the model has parameters that it did not have when it was compiled, and the optimizer does not hold "
                "them; make one of the model's parameters() now, and compile the model with it, or freeze the new layers"
            )

    def _epochs(
        self,
        loop: Loop,
        feed: Source,
        validation: tuple[Loop, Source] | None,
        hooks: Hooks,
        verbose: int,
        epochs: range,
        accumulation_steps: int,
        run: Run,
    ) -> History:
        history, parallel = run.history, run.parallel
        self.history = history
        self.stop_training = False
        logs: dict[str, float] = {}
        self.zero_grad()  # what was left by a backward outside, or by a fit that was aborted
        self._stayed = switch_to_training(self, self._stayed)
        try:
            run.put_back(epochs.start, callbacks=False)  # for the hooks, and once more in case that they change it
            hooks.call("on_train_begin", {})
            place = run.put_back(epochs.start)
            if parallel is not None:
                parallel.begin_training()
            logs = {name: values[-1] for name, values in history.history.items()}
            for epoch in range(place.epoch, epochs.stop):
                if self.stop_training and not place.step:  # as it had been, before it goes on
                    break
                if not place.step:
                    hooks.call("on_epoch_begin", epoch, {})
                if parallel is not None and "on_epoch_begin" in hooks.on_root:
                    parallel.settle(everything=True)
                with Progress(verbose, f"epoch {epoch + 1}/{epochs.stop}", feed.steps) as progress:
                    logs = loop.train_epoch(
                        feed, self.optimizer, hooks, progress, epoch, accumulation_steps, run, place
                    )
                    if validation is not None:
                        judge, held_out = validation
                        found = judge.evaluate(held_out, epoch=epoch, hooks=hooks)
                        logs |= {f"val_{name}": value for name, value in found.items()}
                    progress.finish(logs)
                history.append(epoch, logs)
                hooks.call("on_epoch_end", epoch, logs)
                if parallel is not None and "on_epoch_end" in hooks.on_root:
                    parallel.settle(everything=True)
                    parallel.copy_weights()
                place = Place(epoch + 1)
                run.after_epoch(place, self.stop_training or epoch + 1 == epochs.stop)
                if self.stop_training:
                    break
        except BaseException as error:
            self.zero_grad()
            if parallel is not None:
                parallel.fail(error)  # which returns if all ranks failed
            raise
        finally:
            try:
                if parallel is not None:
                    parallel.end_training()
                hooks.call("on_train_end", logs)
                if parallel is not None and "on_train_end" in hooks.on_root:
                    parallel.copy_weights()
            finally:
                self.eval()
        return history

    # using -----------------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = EVALUATION_BATCH,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        return_dict: bool = False,
        steps: int | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
    ) -> Any:
        """Return the loss and the metrics over the data, in evaluation mode.

        Parameters
        ----------
        x : array of shape (N, ...), tuple or dict of such arrays, or batches
            As for :meth:`fit`.
        y : array, shape (N, ...)
            As for :meth:`fit`. Omit it with batches.
        batch_size : int, default 256
            Omit it with batches.
        verbose : int or str, default "auto"
            0 silent, 1 a bar (on stderr), 2 a line (on stdout); ``"auto"`` is 1 on a terminal and in a notebook, else 0.
        sample_weight : array, optional
            As for :meth:`fit`. Omit it with batches.
        return_dict : bool, default False
            Whether to return a dict by name.
        steps : int, optional
            How many batches to evaluate; all of them by default.
        callbacks : list of Callback, optional
            Their ``on_test_...`` hooks are called.

        Returns
        -------
        float, list of float or dict of str to float
            The loss; with metrics, a list of the loss and the metrics.

        Raises
        ------
        OrderError, DataError, DtypeError, ParameterError, ShapeError, TargetError
            As for :meth:`fit`. A loss that is nan or inf is returned as it is.
        """
        self._check_compiled("evaluate")
        size = checks.whole_number(batch_size, "batch_size", "evaluate", 1)
        level = resolve_verbose(verbose, "evaluate")
        schedule = Schedule(size, _check_steps(steps, "steps", "evaluate"), restart=True)
        only_arrays = ["batch_size"] if batch_size is not EVALUATION_BATCH else []
        data = prepare(self, self._loss_by_name, x, y, sample_weight, schedule, "evaluate", only_arrays)
        feed = data.source(None, schedule)
        with Progress(level, "", feed.steps) as progress:
            params = {"steps": feed.steps, "verbose": level}
            hooks = Hooks(_as_list(callbacks), self, self._numbers(False), params, "evaluate")
            logs = data.loop.evaluate(feed, progress, hooks=hooks)
            progress.finish(logs)
        return as_result(logs, return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int = EVALUATION_BATCH,
        steps: int | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
    ) -> Any:
        """Return the model's outputs for all examples, batch by batch, in evaluation mode, on the host.

        Parameters
        ----------
        x : array of shape (N, ...), tuple or dict of such arrays, or batches
            As for :meth:`fit`. Batches may be x alone; of (x, y) and (x, y, sample_weight) only x is used. So a batch of
            several inputs without targets is a dict, or ``((ids, mask),)``.
        batch_size : int, default 256
            Omit it with batches.
        steps : int, optional
            How many batches to predict; all of them by default.
        callbacks : list of Callback, optional
            Their ``on_predict_...`` hooks are called.

        Returns
        -------
        y : numpy.ndarray, shape (N, ...)
            A tuple or dict of them if the model returns one.

        Raises
        ------
        DataError, DtypeError, ParameterError, ShapeError
            As for :meth:`fit`.
        """
        size = checks.whole_number(batch_size, "batch_size", "predict", 1)
        count = _check_steps(steps, "steps", "predict")
        only_arrays = ["batch_size"] if batch_size is not EVALUATION_BATCH else []
        to_host = engines.current().to_host
        hooks = Hooks(_as_list(callbacks), self, (), {"steps": count}, "predict")
        parts = []
        hooks.call("on_predict_begin", {})
        with evaluating(self):
            for batch, inputs in enumerate(iterate_inputs(self, x, size, count, only_arrays)):
                hooks.call("on_predict_batch_begin", batch, {})
                parts.append(output_to_host(call_with(self.forward, inputs), to_host))
                hooks.call("on_predict_batch_end", batch, {"outputs": parts[-1]})
        hooks.call("on_predict_end", {})
        return join_outputs(parts)


def _check_steps(value: Any, name: str, where: str) -> int | None:
    return None if value is None else checks.whole_number(value, name, where, 1)


def _bind_generator(augment: Any, generator: numpy.random.Generator | None) -> Callable[[numpy.ndarray], Any] | None:
    """Return the augmentation as a function of the inputs alone."""
    if augment is None:
        return None
    if not callable(augment):
        raise ParameterError(f"fit: augment must be a function (x, generator) -> x, got {augment!r}")
    if isinstance(augment, Mixup):
        raise ParameterError(
            "fit: Mixup changes the targets too, which fit does not take; mix in a training loop of your own, as in its "
            "documentation"
        )
    return lambda x: augment(x, generator)


def _as_list(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    return [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
