"""Callbacks: functions that ``fit`` calls around its steps and epochs, with Keras's names."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from minidl.errors import FileFormatError, ParameterError, UnknownNameError
from minidl.optim import LRScheduler, clip_grad_value
from minidl.weights.files import open_in_place

__all__ = ["CSVLogger", "Callback", "GradientClipping", "LambdaCallback", "LearningRateScheduler", "Logs"]

Logs = dict[str, float]


class Callback:
    """Base: override the hooks you need; the others cost nothing.

    Set ``self.model.stop_training = True`` to stop training after the current step (in ``on_batch_end``) or epoch.

    Attributes
    ----------
    model : layer
        The model being trained.
    numbers : tuple of str
        The keys of an epoch's logs: ``"loss"``, the metrics, and with validation ``"val_loss"`` and so on.
    """

    model: Any = None
    numbers: tuple[str, ...] = ()

    def on_train_begin(self) -> None:
        """Run before the first epoch."""

    def on_train_end(self) -> None:
        """Run at the end of training, even if it was stopped early or by an error."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before an epoch; counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after an epoch and its validation, with the numbers of both."""

    def on_batch_begin(self, step: int) -> None:
        """Run before a step; counted from 0 in each epoch."""

    def on_gradients(self, step: int) -> None:
        """Run after the backward pass of a step, before the optimiser uses the gradients."""

    def on_batch_end(self, step: int, logs: Logs) -> None:
        """Run after a step, with its ``"loss"``."""


class LambdaCallback(Callback):
    """Hooks given as functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: print(logs))``.

    Raises
    ------
    UnknownNameError
        If there is no hook of that name.
    """

    def __init__(self, **hooks: Callable[..., None]) -> None:
        known = [name for name in vars(Callback) if name.startswith("on_")]
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
    """

    def __init__(self, max_norm: float | None = None, clip_value: float | None = None) -> None:
        if max_norm is None and clip_value is None:
            raise ParameterError("GradientClipping: give max_norm or clip_value")
        for name, value in (("max_norm", max_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise ParameterError(f"GradientClipping: {name} must be positive, got {value!r}")
        self.max_norm, self.clip_value = max_norm, clip_value

    def on_gradients(self, step: int) -> None:
        optimizer = self.model.optimizer
        if self.clip_value is not None:
            clip_grad_value(optimizer.parameters, self.clip_value)
        if self.max_norm is not None:
            optimizer.clip_grad_norm(self.max_norm)


class LearningRateScheduler(Callback):
    """Set the learning rate, epoch by epoch.

    Parameters
    ----------
    schedule : callable or minidl.optim.LRScheduler
        A function of (epoch, rate), called before each epoch for its rate; or a schedule made for the model's
        optimiser, which counts one step after each epoch.
    """

    def __init__(self, schedule: Callable[[int, float], float] | LRScheduler) -> None:
        if not callable(schedule) and not isinstance(schedule, LRScheduler):
            raise ParameterError(
                f"LearningRateScheduler: schedule must be a function of (epoch, rate) or an LRScheduler, got {schedule!r}"
            )
        self.schedule = schedule

    def on_train_begin(self) -> None:
        if isinstance(self.schedule, LRScheduler) and self.schedule.optimizer is not self.model.optimizer:
            raise ParameterError(
                "LearningRateScheduler: the schedule was made for another optimizer than the model is compiled with"
            )

    def on_epoch_begin(self, epoch: int) -> None:
        if not isinstance(self.schedule, LRScheduler):
            self.model.optimizer.lr = float(self.schedule(epoch, self.model.optimizer.lr))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if isinstance(self.schedule, LRScheduler):
            self.schedule.step()


class CSVLogger(Callback):
    """Write the loss and metrics of every epoch to a CSV file, one line at the end of each epoch.

    Parameters
    ----------
    filename : path
    separator : str
    append : bool
        Append to an existing file with the same columns instead of replacing it.

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

    def on_train_begin(self) -> None:
        head = self.separator.join(("epoch", *self.numbers)) + "\n"
        going_on = self.append and self.filename.is_file() and self.filename.stat().st_size > 0
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

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._file is not None:
            self._file.write(self.separator.join([str(epoch), *(repr(logs[name]) for name in self.numbers)]) + "\n")
            self._file.flush()

    def on_train_end(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                file.flush()
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    os.fsync(file.fileno())
