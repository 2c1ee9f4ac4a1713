"""Learning-rate schedules: the rate as a function of the number t of steps (epochs or batches) done.

Names and arguments are those of ``torch.optim.lr_scheduler``. A schedule sets the rates of its optimiser at once, for
t = 0, and each ``step()`` adds one to t. Call it after every epoch, or after every batch if the settings count batches. All
but ``ReduceLROnPlateau`` are closed forms: the rate depends only on t and on the initial rate lr_0. So nothing accumulates,
and a rate set by hand lasts until the next ``step()``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minidl.errors import ParameterError
from minidl.ops._scalars import check_constructor, counts
from minidl.optim.checks import check_state, count, non_negative, setting
from minidl.optim.optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "SequentialLR",
    "StepLR",
]


class LRScheduler:
    """Base of the schedules: a subclass defines the rate as a function of lr_0 and t (:meth:`rate`).

    Parameters
    ----------
    optimizer : Optimizer

    Attributes
    ----------
    base_lrs : list of float
        The initial rate lr_0 of each group, when its first schedule was created.
    last_epoch : int
        The number t of steps.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the numbers, switches and names that minidl's own constructors are given."""
        super().__init_subclass__(**options)
        check_constructor(cls)

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ParameterError(f"{type(self).__name__}: expected a minidl optimizer, got {optimizer!r}")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            if group.initial_lr is None:
                group.initial_lr = group["lr"]
        self.base_lrs = [float(group.initial_lr or 0.0) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._apply(0)

    def rate(self, base: float, t: int) -> float:
        """Return the rate at step t of a group whose initial rate is ``base``."""
        raise NotImplementedError(f"{type(self).__name__} defines no rate")

    def step(self) -> None:
        """Count one step and set the rates."""
        self._apply(self.last_epoch + 1)
        self.last_epoch += 1

    def _rates(self, t: int) -> list[float]:
        """Return the rate of each group at step t."""
        return [self.rate(base, t) for base in self.base_lrs]

    def _apply(self, t: int) -> None:
        if len(self.optimizer.param_groups) != len(self.base_lrs):
            raise ParameterError(
                f"{type(self).__name__}: the optimizer has {len(self.optimizer.param_groups)} groups now, but had "
                f"{len(self.base_lrs)} when the schedule was made; make the schedule after add_param_group"
            )
        for group, rate in zip(self.optimizer.param_groups, self._rates(t), strict=True):
            group["lr"] = rate

    def get_last_lr(self) -> list[float]:
        """Return the current rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return t and the initial rates, as plain numbers."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict` and set the rates.

        Raises
        ------
        ParameterError
            If it is not the state of a schedule for as many groups.
        """
        check_state(self, state_dict, self.state_dict())
        rates = [non_negative(rate) for rate in state_dict["base_lrs"]]
        if len(rates) != len(self.base_lrs):
            raise ParameterError(
                f"{type(self).__name__}.load_state_dict: expected {len(self.base_lrs)} initial rates, one for each "
                f"group, got {len(rates)}"
            )
        self.base_lrs, self.last_epoch = rates, int(state_dict["last_epoch"])
        self._apply(self.last_epoch)


class LambdaLR(LRScheduler):
    """Multiply the initial rate by a function of t: lr = lr_0 lr_lambda(t).

    Parameters
    ----------
    optimizer : Optimizer
    lr_lambda : callable, or sequence of callable
        The function of t, or one for each group.

    Raises
    ------
    ParameterError
        If it is neither, or there are not as many functions as groups.

    Examples
    --------
    The body waits for two steps while the head is trained:

    >>> from minidl.layers import Linear
    >>> from minidl.optim import SGD
    >>> groups = [{"params": Linear(4, 4).parameters(), "lr": 0.01}, {"params": Linear(4, 2).parameters()}]
    >>> optimizer = SGD(groups, lr=0.1)
    >>> schedule = LambdaLR(optimizer, [lambda t: float(t >= 2), lambda t: 1.0])
    >>> schedule.get_last_lr()
    [0.0, 0.1]
    >>> schedule.step(); schedule.step(); schedule.get_last_lr()
    [0.01, 0.1]
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        self.lr_lambda = lr_lambda
        given: list[Any] = list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda]
        if not given or not all(map(callable, given)):
            raise ParameterError(f"LambdaLR: lr_lambda must be a function of the step, got {lr_lambda!r}")
        groups = len(getattr(optimizer, "param_groups", given))
        self.lr_lambdas = given if isinstance(lr_lambda, (list, tuple)) else given * groups
        if len(self.lr_lambdas) != groups:
            raise ParameterError(
                f"LambdaLR: expected one function for each of the {groups} groups, got {len(self.lr_lambdas)}"
            )
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return base lr_lambda(t), with the function of the first group."""
        return base * self.lr_lambdas[0](t)

    def _rates(self, t: int) -> list[float]:
        return [base * factor(t) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """Multiply the rate by gamma every s = ``step_size`` steps: lr = lr_0 gamma^floor(t / s).

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> from minidl.optim import SGD
    >>> optimizer = SGD([Parameter(numpy.zeros(1))], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2)
    >>> schedule.step(); schedule.step(); optimizer.lr
    0.1
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = count("StepLR", "step_size", step_size)
        self.gamma = setting("StepLR", "gamma", gamma)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return base gamma^(t // step_size)."""
        return base * self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """Multiply the rate by gamma at each milestone, twice if it is given twice."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(
            count("MultiStepLR", "a milestone", m, least=0) for m in counts(milestones, "MultiStepLR", "milestones")
        )
        self.gamma = setting("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return base gamma^(number of milestones reached)."""
        return base * self.gamma ** bisect_right(self.milestones, t)


class ExponentialLR(LRScheduler):
    """Multiply the rate by gamma at each step: lr = lr_0 gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = setting("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return base gamma^t."""
        return base * self.gamma**t


class LinearLR(LRScheduler):
    """Move the factor of the initial rate linearly over the first T steps, for a warm-up.

    With the factors f_0 and f_1 at the start and the end::

        lr = lr_0 (f_0 + (f_1 - f_0) min(t, T) / T)

    P. Goyal et al., "Accurate, large minibatch SGD", arXiv:1706.02677 (2017), section 2.2.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor : float, default 1/3
        The factor f_0, above 0 and at most 1.
    end_factor : float, default 1.0
        The factor f_1, from 0 to 1.
    total_iters : int, default 5
        The number T.
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3.0, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ParameterError(
                "LinearLR: start_factor must be above 0 and at most 1, end_factor from 0 to 1, got "
                f"{start_factor!r} and {end_factor!r}"
            )
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = count("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return base times the factor."""
        return base * (self.start_factor + (self.end_factor - self.start_factor) * min(t / self.total_iters, 1.0))


class CosineAnnealingLR(LRScheduler):
    """Lower the rate along half a cosine wave.

    With T = ``T_max``::

        lr = eta_min + (lr_0 - eta_min) (1 + cos(pi t / T)) / 2

    Beyond T it rises again, as in PyTorch. I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts",
    ICLR 2017, equation 5, without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = count("CosineAnnealingLR", "T_max", T_max)
        self.eta_min = setting("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return the value of the cosine at step t."""
        return self.eta_min + (base - self.eta_min) * (1.0 + math.cos(math.pi * t / self.T_max)) / 2.0


class CosineAnnealingWarmRestarts(LRScheduler):
    """Lower the rate along half a cosine wave, again and again from lr_0, each time T_mult times as slowly.

    With the step t since the last restart, and T = ``T_0 T_mult^i`` after i restarts::

        lr = eta_min + (lr_0 - eta_min) (1 + cos(pi t / T)) / 2

    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5.

    Parameters
    ----------
    optimizer : Optimizer
    T_0 : int
        Steps to the first restart.
    T_mult : int, default 1
        The factor of each following period.
    eta_min : float, default 0.0
        The smallest rate.

    Examples
    --------
    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> from minidl.optim import SGD
    >>> optimizer = SGD([Parameter(numpy.zeros(1))], lr=1.0)
    >>> schedule = CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2)
    >>> rates = []
    >>> for step in range(7):
    ...     rates.append(round(optimizer.lr, 3)); schedule.step()
    >>> rates
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.T_0 = count("CosineAnnealingWarmRestarts", "T_0", T_0)
        self.T_mult = count("CosineAnnealingWarmRestarts", "T_mult", T_mult)
        self.eta_min = setting("CosineAnnealingWarmRestarts", "eta_min", eta_min)
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return the value of the cosine since the last restart."""
        period = self.T_0
        if self.T_mult == 1:
            t %= period
        while t >= period:
            t -= period
            period *= self.T_mult
        return self.eta_min + (base - self.eta_min) * (1.0 + math.cos(math.pi * t / period)) / 2.0


class SequentialLR(LRScheduler):
    """Run one schedule after another: each takes over at its milestone and counts from 0 there.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : sequence of LRScheduler
        All for this optimiser. ``ReduceLROnPlateau`` is not allowed, because its rates are not a function of the step.
    milestones : sequence of int
        The starts of the second, the third ... schedule: one fewer than there are schedules.

    Examples
    --------
    A warm-up of 5 epochs, then half a cosine over 95:

    >>> import numpy
    >>> from minidl.layers import Parameter
    >>> from minidl.optim import Adam
    >>> optimizer = Adam([Parameter(numpy.zeros(1))], lr=0.01)
    >>> warmup, cosine = LinearLR(optimizer, 0.1, total_iters=5), CosineAnnealingLR(optimizer, 95)
    >>> schedule = SequentialLR(optimizer, [warmup, cosine], milestones=[5])
    >>> optimizer.lr
    0.001
    >>> for epoch in range(5):
    ...     schedule.step()
    >>> optimizer.lr
    0.01
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        self.schedulers = list(schedulers)
        self.milestones = [
            count("SequentialLR", "a milestone", m) for m in counts(milestones, "SequentialLR", "milestones")
        ]
        if not self.schedulers or len(self.milestones) != len(self.schedulers) - 1:
            raise ParameterError(
                f"SequentialLR: {len(self.schedulers)} schedules need one milestone fewer, got {len(self.milestones)}"
            )
        if self.milestones != sorted(self.milestones):
            raise ParameterError(f"SequentialLR: milestones must ascend, got {self.milestones}")
        for schedule in self.schedulers:
            if not isinstance(schedule, LRScheduler) or schedule.optimizer is not optimizer:
                raise ParameterError(f"SequentialLR: {schedule!r} is not a closed-form schedule of this optimizer")
        super().__init__(optimizer)

    def _apply(self, t: int) -> None:
        index = bisect_right(self.milestones, t)
        begin = self.milestones[index - 1] if index else 0
        self.schedulers[index]._apply(t - begin)

    def state_dict(self) -> dict[str, Any]:
        """Return t, the initial rates, and the states of the schedules."""
        return {**super().state_dict(), "schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict` and set the rates."""
        check_state(self, state_dict, self.state_dict())
        for schedule, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            schedule.load_state_dict(state)
        self.base_lrs, self.last_epoch = list(state_dict["base_lrs"]), int(state_dict["last_epoch"])
        self._apply(self.last_epoch)
