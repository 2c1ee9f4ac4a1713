"""What can happen around the steps of ``fit``: callbacks, with Keras's names and hooks."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from minidl import weights
from minidl.errors import ParameterError, UnknownNameError

__all__ = ["CSVLogger", "Callback", "EarlyStopping", "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint",
           "ReduceLROnPlateau"]  # fmt: skip

Logs = dict[str, float]


class Callback:
    """Base: override the hooks that are wanted. ``self.model`` is the model being trained.

    A hook that is not overridden costs nothing.
    """

    model: Any = None

    def on_train_begin(self) -> None:
        """Run before the first epoch."""

    def on_train_end(self) -> None:
        """Run after the last epoch, also one that was the last because training was stopped."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Run before an epoch; counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Run after an epoch and its validation, with the numbers of both."""

    def on_batch_begin(self, step: int) -> None:
        """Run before a step; counted from 0 in each epoch."""

    def on_batch_end(self, step: int, loss: float) -> None:
        """Run after a step, with its loss."""


class LambdaCallback(Callback):
    """Hooks given as functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    def __init__(self, **hooks: Callable[..., None]) -> None:
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, hook in hooks.items():
            if name not in known:
                raise UnknownNameError.among("hook", name, known)
            setattr(self, name, hook)


class _Watcher(Callback):
    """What callbacks share that watch one number get better or worse."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ParameterError(f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', got {mode!r}")
        larger = ("accuracy", "acc", "precision", "recall", "f1", "auc", "r2")
        if mode == "auto":
            mode = "max" if any(monitor.removeprefix("val_").endswith(name) for name in larger) else "min"
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best = math.inf if mode == "min" else -math.inf

    def on_train_begin(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf

    def improved(self, logs: Logs) -> bool:
        """Look at the newest number; remember it if it is the best."""
        if self.monitor not in logs:
            raise UnknownNameError.among(f"number to monitor for {type(self).__name__}", self.monitor, logs)
        value = logs[self.monitor]
        better = value < self.best - self.min_delta if self.mode == "min" else value > self.best + self.min_delta
        if better:
            self.best = value
        return better


class EarlyStopping(_Watcher):
    """Stop when a number has not improved for ``patience`` epochs.

    Parameters
    ----------
    monitor : str
        Such as ``"val_loss"``.
    min_delta : float
        What counts as an improvement.
    patience : int
        Epochs to wait.
    mode : str
        ``"min"``, ``"max"``, or ``"auto"``, by the name.
    restore_best_weights : bool
        End with the weights of the best epoch.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best_weights = patience, restore_best_weights

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self.waited, self.best_weights = 0, None
        self.stopped_epoch: int | None = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.improved(logs):
            self.waited = 0
            if self.restore_best_weights:
                self.best_weights = self.model.state_dict()
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self) -> None:
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)


class ModelCheckpoint(_Watcher):
    """Save the weights after every epoch, or after the best so far; a file is replaced whole or not at all.

    Parameters
    ----------
    filepath : path
        May hold ``{epoch}`` (from 1) and the numbers, as in ``"model-{epoch:02d}-{val_loss:.3f}.safetensors"``.
    monitor, mode
        As for :class:`EarlyStopping`.
    save_best_only : bool
        Save only when the number has improved.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath, self.save_best_only = os.fspath(filepath), save_best_only

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self.save_best_only or self.improved(logs):
            self.model.save(Path(self.filepath.format(epoch=epoch + 1, **logs)))


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch to ``schedule(epoch, rate)``."""

    def __init__(self, schedule: Callable[[int, float], float]) -> None:
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int) -> None:
        self.model.optimizer.lr = float(self.schedule(epoch, self.model.optimizer.lr))


class ReduceLROnPlateau(_Watcher):
    """Multiply the learning rate by ``factor`` when a number has not improved for ``patience`` epochs."""

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise ParameterError(f"ReduceLROnPlateau: factor must be between 0 and 1, got {factor!r}")
        self.factor, self.patience, self.cooldown, self.min_lr = factor, patience, cooldown, min_lr
        self.waited = self.cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.improved(logs):
            self.waited = 0
        elif self.cooling > 0:
            self.cooling -= 1
        else:
            self.waited += 1
            if self.waited >= self.patience:
                self.model.optimizer.lr = max(self.model.optimizer.lr * self.factor, self.min_lr)
                self.waited, self.cooling = 0, self.cooldown


class CSVLogger(Callback):
    """Write the numbers of every epoch to a CSV file, which is whole after each epoch."""

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",") -> None:
        self.filename, self.separator = filename, separator

    def on_train_begin(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self.rows.append({"epoch": epoch, **{name: numpy.format_float_positional(v) for name, v in logs.items()}})
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), delimiter=self.separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        weights.write_atomically(self.filename, text.getvalue().encode())
