"""The schedule of "Attention is all you need": a linear warm-up, then the inverse square root."""

from __future__ import annotations

import math

from minidl.errors import ParameterError
from minidl.optim.optimizer import Optimizer
from minidl.optim.schedules import LRScheduler

__all__ = ["TransformerLR"]


class TransformerLR(LRScheduler):
    """Raise the rate linearly for some steps, and let it fall with the inverse square root of their number then.

    At step t, counted from 1::

        lr = lr_0 C^(-1/2) min(t^(-1/2), t warmup_steps^(-3/2))

    The paper has lr_0 = 1. Call ``step()`` after every batch; with ``fit``, ``LearningRateScheduler`` does so.

    Parameters
    ----------
    optimizer : Optimizer
    d_model : int
        C, the width of the model.
    warmup_steps : int, default 4000

    Raises
    ------
    ParameterError
        If a number is not positive.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, equation 3.

    Examples
    --------
    >>> from minidl.layers import Linear
    >>> from minidl.optim import Adam
    >>> optimizer = Adam(Linear(1, 1).parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    >>> schedule = TransformerLR(optimizer, d_model=4, warmup_steps=2)
    >>> rates = []
    >>> for step in range(4):
    ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
    ...     schedule.step()
    >>> rates
    [0.177, 0.354, 0.289, 0.25]
    """

    counts_batches = True

    def __init__(self, optimizer: Optimizer, d_model: int, warmup_steps: int = 4000) -> None:
        if d_model < 1 or warmup_steps < 1:
            raise ParameterError(
                f"TransformerLR: d_model and warmup_steps must be positive, got {d_model} and {warmup_steps}"
            )
        self.d_model, self.warmup_steps = d_model, warmup_steps
        super().__init__(optimizer)

    def rate(self, base: float, t: int) -> float:
        """Return the rate after t steps of a group whose initial rate is ``base``."""
        number = t + 1
        return base / math.sqrt(self.d_model) * min(number**-0.5, number * self.warmup_steps**-1.5)
