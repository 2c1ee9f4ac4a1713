"""Callbacks: functions that ``fit`` calls around its steps and epochs, with Keras's names."""

from __future__ import annotations

import inspect
import io
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from minidl.errors import FileFormatError, ParameterError, UnknownNameError, warn
from minidl.ops._scalars import check_constructor
from minidl.optim import LRScheduler, clip_grad_value
from minidl.weights.files import open_in_place

__all__ = [
    "ALIASES",
    "HOOKS",
    "CSVLogger",
    "Callback",
    "GradientClipping",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
]

Logs = dict[str, float]


HOOKS = {
    "on_train_begin": 0,
    "on_train_end": 0,
    "on_epoch_begin": 1,
    "on_epoch_end": 1,
    "on_train_batch_begin": 1,
    "on_gradients": 1,
    "on_train_batch_end": 1,
    "on_test_begin": 0,
    "on_test_end": 0,
    "on_test_batch_begin": 1,
    "on_test_batch_end": 1,
    "on_predict_begin": 0,
    "on_predict_end": 0,
    "on_predict_batch_begin": 1,
    "on_predict_batch_end": 1,
}
"""All hooks, and how many arguments say where they are, before the logs."""

ALIASES = {"on_train_batch_begin": "on_batch_begin", "on_train_batch_end": "on_batch_end"}
"""Shorter names of two hooks, as in Keras."""


class Callback:
    """The base class of callbacks. Override the hooks you need; the others cost nothing.

    Names and arguments are Keras's, but for ``on_gradients``. A hook may leave out ``logs``. A method whose name begins with
    ``on_`` but is none of these hooks is an error when training begins.

    Set ``self.model.stop_training = True`` to stop training after the current step (in ``on_train_batch_end``) or epoch. A
    hook may call ``evaluate`` and ``predict``; what is being measured does not change.

    Attributes
    ----------
    model : layer
        The model being trained.
    numbers : tuple of str
        The keys of an epoch's logs: ``"loss"``, the metrics, and with validation ``"val_loss"`` and so on.
    params : dict
        ``"epochs"``, ``"steps"`` of an epoch (its batches; None if not known) and ``"verbose"``, of the call; and
        ``"gradient_accumulation_steps"`` unless it is 1, and ``"resumed"``, True if training goes on from a checkpoint. A
        checkpoint holds what the callback's ``state_dict`` returns, if it has one and ``load_state_dict``, or else its
        attributes that are numbers, texts, arrays, and lists, tuples, sets and dicts of them.
    every_rank : bool
        Whether the hooks run on every rank of a :class:`minidl.training.DataParallel`, rather than on rank 0 alone. Then they must
        do the same on each. False unless a class says otherwise.
    """

    every_rank: bool = False
    model: Any = None
    numbers: tuple[str, ...] = ()
    params: Mapping[str, Any] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the numbers, switches and names that minidl's own constructors are given."""
        super().__init_subclass__(**options)
        check_constructor(cls)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Run before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Run at the end of training, with the logs of the last epoch, even if it was stopped early or by an error."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Run before an epoch; counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Run after an epoch and its validation, with the numbers of both."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a step; counted from 0 in each epoch."""
        self.on_batch_begin(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a step: the short name of ``on_train_batch_begin``."""

    def on_gradients(self, batch: int, logs: Logs | None = None) -> None:
        """Run after the backward pass of a step, with its ``"loss"``, before the optimiser uses the gradients.

        With ``gradient_accumulation_steps`` it is the pass of the last batch of the step, and the gradients are those of all.
        """

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a step, with its ``"loss"``."""
        self.on_batch_end(batch, logs)

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a step: the short name of ``on_train_batch_end``."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Run before an evaluation, also before each validation of ``fit``."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Run after an evaluation, with its numbers."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Run after a batch of an evaluation, with its ``"loss"``."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Run before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Run after a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Run before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Run after a batch of a prediction, with its ``"outputs"`` on the host."""


class LambdaCallback(Callback):
    """Hooks given as functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: print(logs))``.

    Parameters
    ----------
    **hooks : callable
        By the names of the methods of :class:`Callback`.

    Raises
    ------
    UnknownNameError
        If there is no hook of that name.
    """

    def __init__(self, **hooks: Callable[..., None]) -> None:
        known = (*HOOKS, *ALIASES.values())
        for name, hook in hooks.items():
            if name not in known:
                raise UnknownNameError.among("hook", name, known)
            if not callable(hook):
                raise ParameterError(f"LambdaCallback: {name} must be a function, got {hook!r}")
            setattr(self, name, hook)


class GradientClipping(Callback):
    """Clip the gradients of every step, as ``Optimizer.clip_grad_norm`` and ``minidl.optim.clip_grad_value`` do.

    Parameters
    ----------
    max_norm : float, optional
        The largest norm of all gradients together. The step scales them; callbacks after this one see them unscaled.
    clip_value : float, optional
        The largest absolute value of each gradient; applied first if both are given.

    Raises
    ------
    ParameterError
        If neither is given, or one is not positive.
    """

    every_rank = True

    def __init__(self, max_norm: float | None = None, clip_value: float | None = None) -> None:
        if max_norm is None and clip_value is None:
            raise ParameterError("GradientClipping: give max_norm or clip_value")
        for name, value in (("max_norm", max_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise ParameterError(f"GradientClipping: {name} must be positive, got {value!r}")
        self.max_norm, self.clip_value = max_norm, clip_value

    def on_gradients(self, batch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if self.clip_value is not None:
            clip_grad_value(optimizer.parameters, self.clip_value)
        if self.max_norm is not None:
            optimizer.clip_grad_norm(self.max_norm)


class LearningRateScheduler(Callback):
    """Set the learning rate, epoch by epoch or batch by batch.

    Parameters
    ----------
    schedule : callable or minidl.optim.LRScheduler
        A function of (epoch, rate), or of the epoch alone, called before each epoch for its rate, as in Keras; or a schedule
        made for the model's optimiser, which counts one step after each epoch or batch. With several groups of parameters a
        function of (epoch, rate) is called for each, and one of the epoch alone gives the rate of the first; the others keep
        their proportion to it.
    interval : {"epoch", "batch"}, optional
        What a schedule counts. By default batches for a ``TransformerLR`` and for a ``OneCycleLR`` made with
        ``steps_per_epoch``, else epochs. With ``gradient_accumulation_steps``, ``"batch"`` counts the steps of the optimiser.

    Raises
    ------
    ParameterError
        If the schedule or the interval is none of these, or the schedule was made for another optimiser. Also, when training
        begins, if the rate of the first group is 0 and the others have no proportion to it.

    Warns
    -----
    UserWarning
        If a ``OneCycleLR`` counts epochs, because ``interval`` was not given, but seems to be made for batches: it then ends
        long before its rate comes down.
    """

    def __init__(
        self,
        schedule: Callable[[int, float], float] | Callable[[int], float] | LRScheduler,
        interval: str | None = None,
    ) -> None:
        own = isinstance(schedule, LRScheduler)
        if not callable(schedule) and not own:
            raise ParameterError(
                "LearningRateScheduler: schedule must be a function of (epoch, rate) or of the epoch, or an LRScheduler, "
                f"got {schedule!r}"
            )
        if interval not in (None, "epoch", "batch") or (interval == "batch" and not own):
            raise ParameterError(
                "LearningRateScheduler: interval must be 'epoch' or, for an LRScheduler, 'batch'; "
                f"got {interval!r} for {schedule!r}"
            )
        self.schedule: Any = schedule
        self.interval = interval
        self._proportions: list[float] = []
        self._steps_seen = 0
        self._takes_rate = not own and _takes(schedule, 2)
        if callable(schedule) and not own and not self._takes_rate and not _takes(schedule, 1):
            raise ParameterError(
                f"LearningRateScheduler: schedule must take (epoch, rate) or (epoch), got {inspect.signature(schedule)}"
            )

    @property
    def _counts_batches(self) -> bool:
        return self.interval == "batch" or (self.interval is None and getattr(self.schedule, "counts_batches", False))

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._steps_seen = self.model.optimizer.step_count
        if not isinstance(self.schedule, LRScheduler):
            self._note_proportions()
            return
        if self.schedule.optimizer is not self.model.optimizer:
            raise ParameterError(
                "LearningRateScheduler: the schedule was made for another optimizer than the model is compiled with"
            )
        total, epochs = getattr(self.schedule, "total_steps", None), self.params.get("epochs", 0)
        if total is None or self.interval is not None or self._counts_batches:
            return
        batches, together = self.params.get("steps") or 1, self.params.get("gradient_accumulation_steps", 1)
        if total > epochs and total >= epochs * -(-batches // together):
            warn(
                f"LearningRateScheduler: {type(self.schedule).__name__} has {total} steps, but is stepped once an epoch, "
                f"{epochs} times; if it counts batches, pass interval='batch' (or make it with epochs and "
                "steps_per_epoch), else interval='epoch'"
            )

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        if isinstance(self.schedule, LRScheduler):
            return
        groups = self.model.optimizer.param_groups
        if self._takes_rate:
            rates = [float(self.schedule(epoch, group["lr"])) for group in groups]
        else:
            first = float(self.schedule(epoch))
            rates = [first * proportion for proportion in self._proportions]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def _note_proportions(self) -> None:
        """Note how the rates of the groups compare with the first; keep what is known where the first is 0 now."""
        rates = [group["lr"] for group in self.model.optimizer.param_groups]
        if len(set(rates)) == 1:
            self._proportions = [1.0] * len(rates)
        elif rates[0] > 0:
            self._proportions = [rate / rates[0] for rate in rates]
        elif len(self._proportions) != len(rates) and not self._takes_rate:
            raise ParameterError(
                "LearningRateScheduler: the rate of the first group is 0, so the others have no proportion to it; give a "
                "function of (epoch, rate), which is called for each group"
            )

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        steps = self.model.optimizer.step_count
        if self._counts_batches and steps > self._steps_seen:  # not after a batch whose gradients wait for others
            self.schedule.step()
        self._steps_seen = steps

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if isinstance(self.schedule, LRScheduler) and not self._counts_batches:
            self.schedule.step()


def _takes(function: Any, count: int) -> bool:
    """Whether a function takes so many arguments; True if it cannot be told."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


class CSVLogger(Callback):
    """Write the loss and metrics of every epoch to a CSV file, one line at the end of each epoch.

    Parameters
    ----------
    filename : path
    separator : str, default ","
    append : bool, default False
        Whether to append to an existing file with the same columns, instead of replacing it.

    Raises
    ------
    FileFormatError
        Before the first epoch: if the file to append to has other columns, or is neither a file, a device nor a pipe that
        somebody reads.
    OSError
        Before the first epoch: if the file cannot be opened.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._file: IO[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        head = self.separator.join(("epoch", *self.numbers)) + "\n"
        append = self.append or bool(self.params.get("resumed"))
        going_on = append and self.filename.is_file() and self.filename.stat().st_size > 0
        start = self._check_columns(head) if going_on else head
        self._file = io.TextIOWrapper(open_in_place(self.filename, append=going_on), encoding="utf-8", newline="\n")
        self._file.write(start)
        self._file.flush()

    def _check_columns(self, head: str) -> str:
        """Raise if the file has other columns; return what must be written first: the end of a line that was cut short."""
        with self.filename.open("rb") as file:
            found = file.readline(4 * len(head)).decode(errors="replace")
            file.seek(-1, os.SEEK_END)
            last = file.read()
        if found != head:
            raise FileFormatError(
                f"CSVLogger: {self.filename} begins with {found.strip()!r}, not with {head.strip()!r}; give another "
                "filename, or append=False"
            )
        return "" if last == b"\n" else "\n"

    def state_dict(self) -> dict[str, int]:
        """Return how long the file is, for a checkpoint."""
        return {"size": 0 if self._file is None else self._file.tell()}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Cut off the lines that were written after the checkpoint."""
        if self._file is not None and self._file.seekable():
            self._file.seek(0, os.SEEK_END)
            self._file.truncate(min(self._file.tell(), state_dict["size"]))
            self._file.seek(0, os.SEEK_END)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self._file is not None and logs is not None:
            self._file.write(self.separator.join([str(epoch), *(repr(logs[name]) for name in self.numbers)]) + "\n")
            self._file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                file.flush()
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    os.fsync(file.fileno())
