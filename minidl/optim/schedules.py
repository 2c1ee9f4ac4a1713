r"""Learning-rate schedules, as functions of the number of epochs (or steps) done.

Each holds an optimiser, remembers its groups' initial rates :math:`\eta_0`, and sets the rates when ``step()`` is called,
which is once after every epoch (or batch, if the numbers are meant so). All are in closed form: the rate depends on the
count alone, not on the rates before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from minidl.errors import ParameterError
from minidl.optim.optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "ReduceLROnPlateau",
    "Schedule",
    "StepLR",
]


class Schedule:
    """Base: a factor for the initial rates as a function of the count.

    Parameters
    ----------
    optimizer : Optimizer
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.initial = [group.settings["lr"] for group in optimizer.groups]
        self.count = 0
        self._apply()

    def rate(self, initial: float, count: int) -> float:
        """Return the rate after ``count`` steps."""
        raise NotImplementedError

    def step(self) -> None:
        """Count one and set the rates."""
        self.count += 1
        self._apply()

    def _apply(self) -> None:
        for group, initial in zip(self.optimizer.groups, self.initial, strict=True):
            group.settings["lr"] = self.rate(initial, self.count)


class LambdaLR(Schedule):
    """The initial rate times ``lr_lambda(count)``."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """Return initial lr_lambda(count)."""
        return initial * self.lr_lambda(count)


class StepLR(Schedule):
    r"""Multiply by gamma every ``step_size`` counts: :math:`\eta_0 \gamma^{\lfloor t / s \rfloor}`.

    >>> import numpy, minidl as dl
    >>> optimizer = dl.SGD([dl.Parameter(numpy.zeros(1))], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2)
    >>> schedule.step(); schedule.step(); optimizer.lr
    0.1
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ParameterError(f"StepLR: step_size must be positive, got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """Return the rate after ``count`` steps."""
        return initial * self.gamma ** (count // self.step_size)


class MultiStepLR(Schedule):
    """Multiply by gamma at each of the milestones."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """Return the rate after ``count`` steps."""
        return initial * self.gamma ** sum(count >= milestone for milestone in self.milestones)


class ExponentialLR(Schedule):
    r"""Multiply by gamma each time: :math:`\eta_0 \gamma^t`."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """Return the rate after ``count`` steps."""
        return initial * self.gamma**count


class LinearLR(Schedule):
    """Move the factor from ``start_factor`` to ``end_factor`` over ``total_iters`` counts: a warm-up."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if total_iters < 1:
            raise ParameterError(f"LinearLR: total_iters must be positive, got {total_iters}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """Return the rate after ``count`` steps."""
        done = min(count, self.total_iters) / self.total_iters
        return initial * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(Schedule):
    r"""Half a cosine: :math:`\eta_{min} + \tfrac12 (\eta_0 - \eta_{min}) (1 + \cos(\pi t / T))`.

    I. Loshchilov, F. Hutter, "SGDR", ICLR 2017, equation 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ParameterError(f"CosineAnnealingLR: T_max must be positive, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """Return the rate after ``count`` steps."""
        return self.eta_min + (initial - self.eta_min) * (1 + math.cos(math.pi * count / self.T_max)) / 2


class ReduceLROnPlateau:
    """Multiply by ``factor`` when a number has not improved for more than ``patience`` counts.

    Parameters
    ----------
    optimizer : Optimizer
    mode : str
        ``"min"`` or ``"max"``: which way is better.
    factor, patience, threshold, cooldown, min_lr
        As in PyTorch; the threshold is relative.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ParameterError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if not 0 < factor < 1:
            raise ParameterError(f"ReduceLROnPlateau: factor must be between 0 and 1, got {factor!r}")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.cooldown, self.min_lr = threshold, cooldown, min_lr
        self.best = math.inf if mode == "min" else -math.inf
        self.bad = self.waiting = 0

    def step(self, metric: float) -> None:
        """Look at the newest number."""
        metric = float(metric)
        if self.mode == "min":
            better = metric < self.best * (1 - self.threshold)
        else:
            better = metric > self.best * (1 + self.threshold)
        if better:
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.waiting > 0:
            self.waiting -= 1
            self.bad = 0
        if self.bad > self.patience:
            for group in self.optimizer.groups:
                group.settings["lr"] = max(group.settings["lr"] * self.factor, self.min_lr)
            self.waiting, self.bad = self.cooldown, 0
