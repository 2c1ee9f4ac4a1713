"""Callbacks that monitor one of the logs: stop early, save the best weights, reduce the learning rate."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import Any

import numpy

from minidl.errors import MissingDependencyError, ParameterError, UnknownNameError
from minidl.metrics import FunctionMetric
from minidl.training.callbacks import Callback, Logs
from minidl.weights.files import check_writable

__all__ = ["EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau"]


class _Watcher(Callback):
    """Base: whether the monitored number is better than the best so far."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ParameterError(f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', got {mode!r}")
        if not 0 <= min_delta < math.inf:
            raise ParameterError(f"{type(self).__name__}: min_delta must not be negative, got {min_delta!r}")
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self._sign, self.best = 1.0, math.nan

    def on_train_begin(self) -> None:
        if self.monitor not in self.numbers:
            raise UnknownNameError.among(f"number to monitor for {type(self).__name__}", self.monitor, self.numbers)
        self._sign = -1.0 if self._larger_is_better() else 1.0
        self.best = math.inf * self._sign

    def _larger_is_better(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return False
        metric = next(metric for metric in self.model.metrics if metric.name == name)
        larger = getattr(metric, "larger_is_better", None)
        if larger is None or isinstance(metric, FunctionMetric):
            raise ParameterError(
                f"{type(self).__name__}: whether a larger {name!r} is better cannot be told; give mode='min' or 'max'"
            )
        return bool(larger)

    def improved(self, logs: Logs) -> bool:
        """Compare the newest number with the best so far, and remember it if it is better. nan never is."""
        value = logs[self.monitor]
        better = value * self._sign < self.best * self._sign - self.min_delta
        if better:
            self.best = value
        return better


class EarlyStopping(_Watcher):
    """Stop when a number has not improved for ``patience`` epochs.

    L. Prechelt, "Early stopping, but when?", in: Neural Networks: Tricks of the Trade (1998).

    Parameters
    ----------
    monitor : str
        Such as ``"val_loss"``.
    min_delta : float
        The smallest change that counts as an improvement.
    patience : int
        Epochs to wait; 0 stops at the first epoch without improvement.
    mode : str
        ``"min"``, ``"max"``, or ``"auto"``: ``"min"`` for losses, and for metrics as each declares.
    restore_best_weights : bool
        Return to the weights of the best epoch at the end.

    Attributes
    ----------
    best, best_epoch
        The best number so far, and its epoch.
    stopped_epoch : int or None
        The epoch after which training was stopped, if it was.
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
        self.patience, self.restore_best_weights = _patience(self, patience), restore_best_weights
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_weights: dict[str, numpy.ndarray] | None = None
        self._waited = 0

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self.best_epoch = self.stopped_epoch = self._best_weights = None
        self._waited = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.improved(logs):
            self._waited, self.best_epoch = 0, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.state_dict()
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self) -> None:
        if self._best_weights is not None:
            self.model.load_state_dict(self._best_weights)


class ModelCheckpoint(_Watcher):
    """Save the weights after every epoch, or after the best so far; a file is replaced whole or not at all.

    Parameters
    ----------
    filepath : path
        May hold ``{epoch}`` (from 1) and the numbers, as in ``"model-{epoch:02d}-{val_loss:.3f}.safetensors"``.
    monitor, mode
        As for :class:`EarlyStopping`; used with ``save_best_only``.
    save_best_only : bool
        Save only when the number has improved.

    Raises
    ------
    MissingDependencyError, FileNotFoundError, UnknownNameError, ParameterError
        Before the first epoch: if the package safetensors is not installed, the folder does not exist, the path names a
        number that there is not, or it cannot be a path.
    IsADirectoryError, PermissionError, FileFormatError
        Before the first epoch: if the path is a folder, a file that may not be written, or something that is no file.
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

    def on_train_begin(self) -> None:
        if self.save_best_only:
            super().on_train_begin()
        if importlib.util.find_spec("safetensors") is None:
            raise MissingDependencyError.needs("ModelCheckpoint", "safetensors", "weights")
        path = self._path(0, dict.fromkeys(self.numbers, 0.0))
        if not path.parent.is_dir():
            raise FileNotFoundError(f"ModelCheckpoint: there is no folder {path.parent}; create it first")
        check_writable(path)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self.save_best_only or self.improved(logs):
            self.model.save(self._path(epoch, logs))

    def _path(self, epoch: int, logs: Logs) -> Path:
        try:
            return Path(self.filepath.format(epoch=epoch + 1, **logs))
        except KeyError as error:
            raise UnknownNameError.among(
                "number in the ModelCheckpoint path", error.args[0], ("epoch", *self.numbers)
            ) from None
        except (IndexError, ValueError, AttributeError, TypeError) as error:
            raise ParameterError(f"ModelCheckpoint: {self.filepath!r} is no pattern of a path: {error}") from error


class ReduceLROnPlateau(_Watcher):
    """Multiply the learning rate by ``factor`` when a number has not improved for ``patience`` epochs.

    Parameters
    ----------
    monitor, mode, min_delta
        As for :class:`EarlyStopping`.
    factor : float
        Between 0 and 1.
    patience : int
        Epochs to wait.
    cooldown : int
        Epochs after a reduction in which nothing is counted.
    min_lr : float
        No rate falls below it.
    """

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
        self.factor, self.patience = factor, _patience(self, patience)
        self.cooldown, self.min_lr = cooldown, min_lr
        self._waited = self._cooling = 0

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self._waited = self._cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        better = self.improved(logs)
        if self._cooling > 0:
            self._cooling -= 1
        elif better:
            self._waited = 0
        else:
            self._waited += 1
            if self._waited >= self.patience:
                for group in self.model.optimizer.param_groups:
                    group["lr"] = min(group["lr"], max(group["lr"] * self.factor, self.min_lr))
                self._waited, self._cooling = 0, self.cooldown


def _patience(owner: Any, patience: int) -> int:
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 0:
        raise ParameterError(f"{type(owner).__name__}: patience must be a whole number from 0 on, got {patience!r}")
    return patience
