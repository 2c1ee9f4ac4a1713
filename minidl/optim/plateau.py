"""A schedule that reduces the learning rate when a metric stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from minidl.errors import ParameterError
from minidl.ops._scalars import scalars_checked
from minidl.optim.checks import check_state, count, setting
from minidl.optim.optimizer import Optimizer

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau:
    """Multiply the rates by ``factor`` once a metric has not improved for more than ``patience`` steps.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}, default "min"
        Whether smaller or larger is better.
    factor : float, default 0.1
        From 0 up to but not including 1.
    patience : int, default 10
        Steps without improvement to tolerate.
    threshold : float, default 1e-4
        The smallest change that counts as an improvement.
    threshold_mode : {"rel", "abs"}, default "rel"
        Whether the threshold is relative to the absolute value of the best so far. (PyTorch takes the best with its sign, so a
        repeated negative number counts as an improvement.)
    cooldown : int, default 0
        Steps after a reduction in which nothing is counted.
    min_lr : float or sequence of float, default 0.0
        The smallest rate, of all groups or of each.
    eps : float, default 1e-8
        Smaller reductions are skipped.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> from minidl.optim import SGD
    >>> optimizer = SGD([Parameter(numpy.zeros(1))], lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (5.0, 5.0, 5.0):
    ...     schedule.step(loss)
    >>> optimizer.lr
    0.1
    """

    @scalars_checked
    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise ParameterError(f"{name}: expected a minidl optimizer, got {optimizer!r}")
        if mode not in ("min", "max"):
            raise ParameterError(f"{name}: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ParameterError(f"{name}: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        if not 0 <= factor < 1:
            raise ParameterError(f"{name}: factor must be from 0 up to but not including 1, got {factor!r}")
        self.optimizer, self.mode, self.factor = optimizer, mode, factor
        self.threshold, self.threshold_mode = setting(name, "threshold", threshold), threshold_mode
        self.patience, self.cooldown = count(name, "patience", patience, 0), count(name, "cooldown", cooldown, 0)
        self.eps = setting(name, "eps", eps)
        self.min_lr: float | list[float] = (
            [setting(name, "min_lr", least) for least in min_lr]
            if isinstance(min_lr, (list, tuple))
            else setting(name, "min_lr", min_lr)
        )
        self._least()
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_steps = self.cooldown_left = self.last_epoch = 0

    def _is_better(self, metric: float) -> bool:
        margin = self.threshold
        if self.threshold_mode == "rel" and math.isfinite(self.best):
            margin *= abs(self.best)
        return metric < self.best - margin if self.mode == "min" else metric > self.best + margin

    def step(self, metrics: float) -> None:
        """Take in the newest metric, and reduce the rates if it is time."""
        self.last_epoch += 1
        metric = float(metrics)
        if self._is_better(metric):
            self.best, self.bad_steps = metric, 0
        else:
            self.bad_steps += 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad_steps = 0
        if self.bad_steps > self.patience:
            self._reduce()
            self.cooldown_left, self.bad_steps = self.cooldown, 0

    def _least(self) -> list[float]:
        """Return the smallest rate of each group; raise unless there is one for each."""
        groups = self.optimizer.param_groups
        least = self.min_lr if isinstance(self.min_lr, list) else [self.min_lr] * len(groups)
        if len(least) != len(groups):
            raise ParameterError(
                f"{type(self).__name__}: expected one min_lr for each of the {len(groups)} groups, got {len(least)}"
            )
        return least

    def _reduce(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self._least(), strict=True):
            new = max(group["lr"] * self.factor, least)
            if group["lr"] - new > self.eps:
                group["lr"] = new

    def get_last_lr(self) -> list[float]:
        """Return the current rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the counters and the best metric, as plain numbers."""
        return {name: getattr(self, name) for name in ("best", "bad_steps", "cooldown_left", "last_epoch")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`; the rates themselves are in the optimiser's state.

        Raises
        ------
        ParameterError
            If it is not the state of such a schedule.
        """
        check_state(self, state_dict, self.state_dict())
        for name, value in state_dict.items():
            setattr(self, name, float(value) if name == "best" else int(value))
