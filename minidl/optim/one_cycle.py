"""The one-cycle policy: a schedule of the learning rate and, in the opposite direction, of the momentum."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minidl.errors import OrderError, ParameterError
from minidl.optim.checks import count, number
from minidl.optim.optimizer import Optimizer
from minidl.optim.schedules import LRScheduler

__all__ = ["OneCycleLR"]


class OneCycleLR(LRScheduler):
    """Raise the rate to ``max_lr`` and lower it to almost nothing in one cycle; move the momentum the opposite way.

    The rate starts at ``max_lr / div_factor`` and ends at that over ``final_div_factor``, after ``total_steps - 1`` steps. A loop
    over ``total_steps`` batches takes one more step, which leaves the rate there. (PyTorch's continues along the curve, below
    zero if that is a line.)

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float or sequence of float
        The largest rate, of all groups or of each.
    total_steps : int, optional
        Steps of the whole cycle. Alternatively give ``epochs`` and ``steps_per_epoch``.
    epochs, steps_per_epoch : int, optional
    pct_start : float, default 0.3
        The share of the steps in which the rate rises.
    anneal_strategy : {"cos", "linear"}, default "cos"
    cycle_momentum : bool, default True
        Whether to move ``momentum`` (or the first of ``betas``) between ``base_momentum`` and ``max_momentum``.
    base_momentum : float, default 0.85
    max_momentum : float, default 0.95
    div_factor : float, default 25.0
    final_div_factor : float, default 1e4
    three_phase : bool, default False
        Whether the rate falls in two phases: the first mirrors the rise, the second leads to the final rate.

    Attributes
    ----------
    counts_batches : bool
        Whether it was made with ``steps_per_epoch``, hence is to be stepped after every batch. The callback
        ``minidl.training.LearningRateScheduler`` does that.

    Raises
    ------
    ParameterError
        If a setting is outside its range, or there is no momentum to cycle.
    OrderError
        From ``step()``, beyond the last step.

    References
    ----------
    L. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    arXiv:1708.07120 (2017).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        self.counts_batches = total_steps is None
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ParameterError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
            total_steps = count("OneCycleLR", "epochs", epochs) * count(
                "OneCycleLR", "steps_per_epoch", steps_per_epoch
            )
        self.total_steps = count("OneCycleLR", "total_steps", total_steps)
        if not 0 <= pct_start <= 1:
            raise ParameterError(f"OneCycleLR: pct_start must be from 0 to 1, got {pct_start!r}")
        if anneal_strategy not in ("cos", "linear"):
            raise ParameterError(f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        if not (div_factor > 0 and final_div_factor > 0):
            raise ParameterError(
                "OneCycleLR: div_factor and final_div_factor must be positive, got "
                f"{div_factor!r} and {final_div_factor!r}"
            )
        groups = getattr(optimizer, "param_groups", [])
        self.max_lrs = (
            [number(rate) for rate in max_lr] if isinstance(max_lr, Sequence) else [number(max_lr)] * len(groups)
        )
        if len(self.max_lrs) != len(groups):
            raise ParameterError(f"OneCycleLR: expected {len(groups)} values of max_lr, got {len(self.max_lrs)}")
        if cycle_momentum and any("momentum" not in group and "betas" not in group for group in groups):
            raise ParameterError(
                f"OneCycleLR: {type(optimizer).__name__} has no momentum to cycle; pass cycle_momentum=False"
            )
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        self.phases = self._phases(pct_start, three_phase)
        for group, rate in zip(groups, self.max_lrs, strict=True):
            group.initial_lr = rate / div_factor
        super().__init__(optimizer)

    def _phases(self, pct_start: float, three_phase: bool) -> list[tuple[float, str, str]]:
        """Return, for each phase, the step at which it ends and the names of its first and last rate."""
        top, end = pct_start * self.total_steps - 1, self.total_steps - 1
        if three_phase:
            return [(top, "initial", "max"), (2 * top, "max", "initial"), (end, "initial", "min")]
        return [(top, "initial", "max"), (end, "max", "min")]

    def _where(self, t: int) -> tuple[str, str, float]:
        """Return the names of the two rates around step t, and the fraction of the way between them."""
        if t > self.total_steps:
            raise OrderError(f"OneCycleLR: step {t} is beyond the last of {self.total_steps}; create a new schedule")
        start = 0.0
        for index, (stop, first, last) in enumerate(self.phases):
            if t <= stop or index == len(self.phases) - 1:
                return first, last, 1.0 if t >= stop else (t - start) / (stop - start)
            start = stop
        raise AssertionError("a phase is always found")

    def _between(self, first: float, last: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return first + (last - first) * share
        return last + (first - last) * (1.0 + math.cos(math.pi * share)) / 2.0

    def rate(self, base: float, t: int) -> float:
        """Return the rate at step t; ``base`` is the initial rate, ``max_lr / div_factor``."""
        rates = {"initial": base, "max": base * self.div_factor, "min": base / self.final_div_factor}
        first, last, share = self._where(t)
        return self._between(rates[first], rates[last], share)

    def _apply(self, t: int) -> None:
        super()._apply(t)
        if not self.cycle_momentum:
            return
        first, last, share = self._where(t)
        momenta = {"initial": self.max_momentum, "max": self.base_momentum, "min": self.max_momentum}
        momentum = self._between(momenta[first], momenta[last], share)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
