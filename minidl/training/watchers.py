"""Callbacks that monitor one of the logs: stop early, save the best weights, reduce the learning rate."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy

from minidl.errors import MissingDependencyError, ParameterError, UnknownNameError
from minidl.metrics import FunctionMetric
from minidl.training.callbacks import Callback, Logs
from minidl.training.checks import whole_number
from minidl.weights.files import check_writable

__all__ = ["EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau"]


class _Watcher(Callback):
    """The base of callbacks that compare a number with the best so far."""

    outlasts = False
    """Whether the best of one fit is still the best so far in the next."""
    _state: tuple[str, ...] = ("best",)
    """The attributes that change, which a checkpoint holds."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ParameterError(f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', got {mode!r}")
        if not 0 <= min_delta < math.inf:
            raise ParameterError(f"{type(self).__name__}: min_delta must not be negative, got {min_delta!r}")
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self._sign, self.best = 1.0, math.nan

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self.monitor not in self.numbers:
            raise UnknownNameError.among(f"number to monitor for {type(self).__name__}", self.monitor, self.numbers)
        self._sign = -1.0 if self._larger_is_better() else 1.0
        if not self.outlasts or math.isnan(self.best):
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
                f"{type(self).__name__}: it is not known whether a larger {name!r} is better; give mode='min' or 'max'"
            )
        return bool(larger)

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from epoch to epoch, for a checkpoint; settings are not part of it."""
        return {name: getattr(self, name) for name in self._state}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from the result of :meth:`state_dict`."""
        for name in self._state:
            setattr(self, name, state_dict[name])

    def improved(self, logs: Logs | None) -> bool:
        """Compare the newest number with the best so far, and remember it if it is better. nan never is."""
        value = (logs or {})[self.monitor]
        better = value * self._sign < self.best * self._sign - self.min_delta
        if better:
            self.best = value
        return better


class EarlyStopping(_Watcher):
    """Stop when a number has not improved for ``patience`` epochs.

    Every fit begins anew, as in Keras.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The name of the number in the logs.
    min_delta : float, default 0.0
        The smallest change that counts as an improvement.
    patience : int, default 0
        How many epochs to wait; 0 stops at the first epoch without improvement.
    mode : str, default "auto"
        ``"min"``, ``"max"``, or ``"auto"``, which is ``"min"`` for losses and depends on the metric otherwise.
    restore_best_weights : bool, default False
        Whether to go back to the weights of the best epoch at the end.

    Attributes
    ----------
    best : float
        The best number so far.
    best_epoch : int or None
        Its epoch, counted from 0.
    stopped_epoch : int or None
        The epoch after which training was stopped.

    Raises
    ------
    ParameterError
        If a setting is out of range.
    UnknownNameError
        Before the first epoch, if there is no number of that name.

    References
    ----------
    L. Prechelt, "Early stopping, but when?", in: Neural Networks: Tricks of the Trade (1998).
    """

    _state = ("best", "best_epoch", "stopped_epoch", "_best_weights", "_waited")

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

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin()
        self.best_epoch = self.stopped_epoch = self._best_weights = None
        self._waited = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.improved(logs):
            self._waited, self.best_epoch = 0, epoch
            if self.restore_best_weights:
                self._best_weights = self.model.state_dict()
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stopped_epoch, self.model.stop_training = epoch, True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._best_weights is not None:
            self.model.load_state_dict(self._best_weights)


class ModelCheckpoint(_Watcher):
    """Save the weights after every epoch, or only after the best so far. A file is replaced as a whole, or not at all.

    The best so far outlasts a fit, as in Keras: a second fit with the same object replaces the file only by something
    better. For another model, create another one.

    Parameters
    ----------
    filepath : path
        May contain ``{epoch}``, counted from 1, and the numbers of the logs, as in
        ``"model-{epoch:02d}-{val_loss:.3f}.safetensors"``.
    monitor : str, default "val_loss"
        The number that must improve with ``save_best_only``.
    save_best_only : bool, default False
    mode : str, default "auto"
        As in :class:`EarlyStopping`.

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
        self.outlasts = True
        self.filepath, self.save_best_only = os.fspath(filepath), save_best_only

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self.save_best_only:
            super().on_train_begin()
        if importlib.util.find_spec("safetensors") is None:
            raise MissingDependencyError.needs("ModelCheckpoint", "safetensors", "weights")
        path = self._path(0, dict.fromkeys(self.numbers, 0.0))
        if not path.parent.is_dir():
            raise FileNotFoundError(f"ModelCheckpoint: there is no folder {path.parent}; create it first")
        check_writable(path)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if not self.save_best_only or self.improved(logs):
            self.model.save(self._path(epoch, logs))

    def _path(self, epoch: int, logs: Logs | None) -> Path:
        try:
            return Path(self.filepath.format(epoch=epoch + 1, **(logs or {})))
        except KeyError as error:
            raise UnknownNameError.among(
                "number in the ModelCheckpoint path", error.args[0], ("epoch", *self.numbers)
            ) from None
        except (IndexError, ValueError, AttributeError, TypeError) as error:
            raise ParameterError(f"ModelCheckpoint: {self.filepath!r} is no pattern of a path: {error}") from error


class ReduceLROnPlateau(_Watcher):
    """Multiply the learning rate by ``factor`` when a number has not improved for ``patience`` epochs.

    As Keras's callback of this name; ``minidl.optim.ReduceLROnPlateau`` is PyTorch's. Every fit begins anew.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The name of the number in the logs.
    factor : float, default 0.1
        Between 0 and 1.
    patience : int, default 10
        How many epochs to wait.
    mode : str, default "auto"
        As for :class:`EarlyStopping`.
    min_delta : float, default 1e-4
        How much better a number must be to count.
    cooldown : int, default 0
        Epochs after a reduction in which nothing is counted, the last of them not included: it counts again, so that 1 is
        the same as 0.
    min_lr : float, default 0.0
        No rate falls below it.
    """

    _state = ("best", "_waited", "_cooling")

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
        self.cooldown, self.min_lr = whole_number(cooldown, "cooldown", "ReduceLROnPlateau", 0), min_lr
        self._waited = self._cooling = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin()
        self._waited = self._cooling = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self._cooling > 0:
            self._cooling -= 1
            self._waited = 0
        if self.improved(logs):
            self._waited = 0
        elif self._cooling == 0:
            self._waited += 1
            groups = self.model.optimizer.param_groups
            if self._waited >= self.patience and any(group["lr"] > self.min_lr for group in groups):
                for group in groups:
                    group["lr"] = min(group["lr"], max(group["lr"] * self.factor, self.min_lr))
                self._waited, self._cooling = 0, self.cooldown


def _patience(owner: Any, patience: int) -> int:
    return whole_number(patience, "patience", type(owner).__name__, 0)
