"""compile, fit, evaluate, predict: what turns layers into a model that trains itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from minidl import engines, metrics, optim, random
from minidl.errors import DataError, OrderError, ParameterError
from minidl.layers.parameter import Parameter
from minidl.training import checks, loop
from minidl.training.callbacks import Callback
from minidl.training.history import History
from minidl.training.losses import is_classification, loss_named, trunk_of
from minidl.training.progress import Progress, resolve_verbose, say, shown

__all__ = ["Trainable"]


class Trainable:
    """The training interface of a model, with Keras's names and habits; mixed into layers such as ``Sequential``.

    The model's own ``forward`` and ``backward`` do the work; ``fit`` is the loop that you would write by hand, with checks
    of the data before it, and numbers and callbacks around it.
    """

    stop_training: bool = False
    optimizer: Any = None
    loss: Any = None
    _compiled: loop.Compiled | None = None

    def compile(self, optimizer: Any = "adam", loss: Any = None, metrics: Sequence[Any] = ()) -> None:
        """Choose how the model is trained.

        Parameters
        ----------
        optimizer : str or Optimizer
            A name such as ``"sgd"`` (with Keras's default settings), or an optimiser made for this model's parameters.
        loss : str or loss
            A name such as ``"mean_squared_error"``, or an object with forward and backward. The cross-entropies take
            logits; by name they also take a model that ends in the softmax or sigmoid that goes with them.
        metrics : list of str or Metric
            Such as ``["accuracy"]``; see ``minidl.metrics``.

        Raises
        ------
        UnknownNameError
            If a name is not known; the message lists those that are.
        ParameterError
            If the optimiser holds other parameters than the model's, or the loss does not go with the last layer.
        """
        if loss is None:
            raise ParameterError("compile: give a loss, such as compile(optimizer='sgd', loss='mean_squared_error')")
        if isinstance(optimizer, str):
            optim.get(optimizer)  # an unknown name is an error here, not in fit
        elif not isinstance(optimizer, optim.Optimizer):
            raise ParameterError(f"compile: optimizer must be a name or an Optimizer object, got {optimizer!r}")
        else:
            self._check_optimizer(optimizer)
        self.loss = loss_named(loss)
        trunk, activation = trunk_of(self, self.loss, isinstance(loss, str))
        self._optimizer_wanted = optimizer
        self.optimizer = None if isinstance(optimizer, str) else optimizer
        measured = _metrics(metrics, from_logits=is_classification(self.loss) and activation is None)
        self._compiled = loop.Compiled(self, trunk, activation, self.loss, measured)

    def _check_optimizer(self, optimizer: Any) -> None:
        own = {id(p) for p in self.parameters()}  # type: ignore[attr-defined]
        if any(id(p) not in own for p in optimizer.parameters):
            raise ParameterError(
                "compile: the optimizer holds parameters of another model; make it with this model's parameters()"
            )

    def _ready(self, where: str) -> loop.Compiled:
        if self._compiled is None:
            raise OrderError(f"{where}: the model is not compiled; call compile(optimizer=..., loss=...) first")
        return self._compiled

    def _prepare(self, x: Any, where: str, name: str = "x") -> numpy.ndarray:
        """Return the examples in the model's dtype; build the model for their shape if it has none yet."""
        dtype = self._dtype()
        array = checks.as_inputs(x, dtype, where, name)
        if not self.built:  # type: ignore[attr-defined]
            self.build(array.shape[1:])  # type: ignore[attr-defined]
            if not self.built:  # type: ignore[attr-defined] # a user's layer hides the shapes: let one example through
                self.forward(engines.current().asarray(array[:1]))  # type: ignore[attr-defined]
        return array

    def _dtype(self) -> Any:
        parameters = self.parameters() if self.built else []  # type: ignore[attr-defined]
        found = [p.dtype for p in parameters if isinstance(p, Parameter)]
        return found[0] if found else numpy.dtype("float32")

    def _targets(self, y: Any, x: numpy.ndarray, where: str) -> numpy.ndarray:
        shape = self._outputs(x)
        targets = checks.as_targets(y, self.loss, self._dtype(), shape, where)
        checks.same_length(x, targets, where)
        return targets

    def _outputs(self, x: numpy.ndarray) -> tuple[int, ...] | None:
        """Return the shape of one example's output, if every layer tells."""
        try:
            return self.output_shape(x.shape[1:])  # type: ignore[attr-defined]
        except AttributeError:  # a user's layer
            return None

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Callback] = (),
        validation_split: float = 0.0,
        validation_data: tuple[Any, ...] | None = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        seed: int | None = None,
    ) -> History:
        """Train for a number of passes over the data.

        Parameters
        ----------
        x : array, shape (N, ...)
            Examples. Converted once to the model's dtype; integers too.
        y : array, shape (N, ...)
            Targets. (N,) and (N, 1) are aligned with the predictions, nothing is broadcast.
        batch_size, epochs : int
            The last batch of an epoch may be smaller.
        verbose : int or str
            0 silent, 1 a line that moves (on stderr), 2 a line an epoch (on stdout); ``"auto"`` is 1 on a terminal, else 0.
        callbacks : list of Callback
        validation_split : float
            The share of the data, taken from its end before any shuffling, that is validated on instead.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Evaluated after every epoch.
        shuffle : bool
            Take the examples in a new random order every epoch.
        class_weight : dict of int to float, optional
            What each class counts for.
        sample_weight : array, shape (N,), optional
            What each example counts for.
        initial_epoch : int
            Where to begin counting, to go on with an earlier training.
        seed : int, optional
            Of the orders; otherwise they come from ``minidl.seed``.

        Returns
        -------
        History

        Raises
        ------
        OrderError
            If the model is not compiled.
        DataError, DtypeError, TargetError
            If the data cannot be used; said before the first step.
        NonFiniteError
            If the loss becomes nan or inf; names the epoch, the step and the first layer whose output did.
        """
        compiled = self._ready("fit")
        if not isinstance(batch_size, (int, numpy.integer)) or batch_size < 1:
            raise ParameterError(f"fit: batch_size must be a positive integer, got {batch_size!r}")
        level = resolve_verbose(verbose)
        inputs = self._prepare(x, "fit")
        targets = self._targets(y, inputs, "fit")
        weights = checks.as_weights(sample_weight, class_weight, targets, inputs.dtype, "fit")
        (inputs, targets, weights), validation = self._split(
            (inputs, targets, weights), validation_split, validation_data
        )
        if self.optimizer is None:
            kind, settings = optim.get(self._optimizer_wanted)
            self.optimizer = kind(self.parameters(), **settings)  # type: ignore[attr-defined]
        generator = random.generator() if seed is None else numpy.random.default_rng(seed)
        data = loop.Data(inputs, targets, weights, int(batch_size), generator if shuffle else None)
        return self._epochs(compiled, data, validation, callbacks, level, initial_epoch, epochs)

    def _epochs(
        self,
        compiled: loop.Compiled,
        data: loop.Data,
        validation: loop.Data | None,
        callbacks: Sequence[Callback],
        verbose: int,
        first: int,
        epochs: int,
    ) -> History:
        history, hooks = History(), loop.Hooks(callbacks, self)
        self.stop_training = False
        self.train()  # type: ignore[attr-defined]
        hooks.call("on_train_begin")
        try:
            for epoch in range(first, epochs):
                hooks.call("on_epoch_begin", epoch)
                with Progress(verbose, epoch, epochs, data.steps) as progress:
                    logs = compiled.train_epoch(data, self.optimizer, hooks, progress, epoch)
                    if validation is not None:
                        logs.update({f"val_{name}": value for name, value in compiled.evaluate(validation).items()})
                    progress.finish(logs)
                history.append(epoch, logs)
                hooks.call("on_epoch_end", epoch, logs)
                if self.stop_training:
                    break
        finally:
            hooks.call("on_train_end")
            self.eval()  # type: ignore[attr-defined]
        return history

    def _split(
        self, arrays: tuple[Any, Any, Any], split: float, given: tuple[Any, ...] | None
    ) -> tuple[tuple[Any, Any, Any], loop.Data | None]:
        """Return the training arrays and what to validate on."""
        if given is not None:
            if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
                raise DataError("fit: validation_data must be (x, y) or (x, y, sample_weight)")
            return arrays, self._data(given[0], given[1], given[2] if len(given) == 3 else None, 256, "validation_data")
        if not split:
            return arrays, None
        if not 0.0 < split < 1.0:
            raise DataError(f"fit: validation_split must be between 0 and 1, got {split!r}")
        n = len(arrays[0])
        at = int(n * (1.0 - split))
        if at < 1 or at >= n:
            raise DataError(f"fit: validation_split={split} of {n} examples leaves nothing to train or to validate on")
        x, y, weights = arrays
        head = x[:at], y[:at], None if weights is None else weights[:at]
        tail = x[at:], y[at:], None if weights is None else weights[at:]
        return head, loop.Data(tail[0], tail[1], tail[2], 256, None)

    def _data(self, x: Any, y: Any, sample_weight: Any, batch_size: int, where: str) -> loop.Data:
        inputs = self._prepare(x, where)
        targets = self._targets(y, inputs, where)
        weights = checks.as_weights(sample_weight, None, targets, inputs.dtype, where)
        return loop.Data(inputs, targets, weights, batch_size, None)

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = 256,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Return the loss, and the metrics if there are any, over the given data.

        Parameters
        ----------
        x, y, batch_size, sample_weight
            As for :meth:`fit`.
        verbose : int or str
            1 and 2 print a line on stdout.
        return_dict : bool
            Return names and numbers; otherwise a float, or with metrics a list that begins with the loss.
        """
        compiled = self._ready("evaluate")
        level = resolve_verbose(verbose)
        data = self._data(x, y, sample_weight, batch_size, "evaluate")
        logs = compiled.evaluate(data)
        if level:
            say(f"{data.steps}/{data.steps} - {shown(logs)}")
        if return_dict:
            return logs
        return logs["loss"] if len(logs) == 1 else list(logs.values())

    def predict(self, x: Any, batch_size: int = 256) -> numpy.ndarray:
        """Return the model's outputs for all examples, batch by batch, in evaluation mode, on the host.

        Parameters
        ----------
        x : array, shape (N, ...)
        batch_size : int

        Returns
        -------
        y : numpy.ndarray, shape (N, ...)
        """
        inputs = self._prepare(x, "predict")
        engine = engines.current()
        with loop.evaluating(self):
            parts = [
                engine.to_host(self.forward(engine.asarray(inputs[at : at + batch_size])))  # type: ignore[attr-defined]
                for at in range(0, len(inputs), batch_size)
            ]
        return numpy.concatenate(parts)


def _metrics(wanted: Sequence[Any], from_logits: bool) -> list[Any]:
    """Return metric objects for names and functions; anything with update, result and reset is taken as it is."""
    if isinstance(wanted, str):
        wanted = [wanted]
    return [metrics.get(m, from_logits=from_logits) for m in wanted]
