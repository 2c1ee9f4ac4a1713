"""Gradient accumulation: the gradients of several batches become one step of the optimiser."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from minidl.layers.loss import inverse
from minidl.optim import Optimizer
from minidl.optim.clip import rescale
from minidl.optim.segments import segments
from minidl.training.feed import Batch

__all__ = ["Accumulation", "LookAhead", "multiply"]


class Accumulation:
    """The batches of one step. Together they give the gradient that they would give as one batch.

    A mean loss divides by a number d_i in batch i: its examples, its targets that count, or their weights. The gradient of the
    mean over all of them is that of each batch, g_i, with its share of the sum::

        g = sum_i d_i g_i / sum_i d_i

    Backward adds up (d_i / d_1) g_i, whose factor is 1 for batches of one size, and :meth:`finish` multiplies the sum by
    d_1 / sum_i d_i. So a last group of fewer or smaller batches is a mean, too. The gradients of a sum are added as they are.

    Parameters
    ----------
    steps : int
        Batches in a step of the optimiser; the last step of an epoch may have fewer.
    is_sum : bool
        Whether the loss is a sum.
    """

    def __init__(self, steps: int, is_sum: bool) -> None:
        self.steps, self.is_sum = steps, is_sum
        self.batches = 0
        self._first: Any = 0.0
        self._sum: Any = 0.0

    def add(self, dy: Any, divisor: Any) -> Any:
        """Count a batch; return its upstream gradient with the weight that it has in the sum.

        The divisor may be an array without axes on a GPU. Then nobody looks at it: every batch has the weight d_i itself.
        """
        self.batches += 1
        self._sum = self._sum + divisor
        if hasattr(divisor, "dtype"):
            return dy if self.is_sum else multiply(dy, divisor)
        self._first = self._first or divisor
        if self.is_sum or divisor == self._first:
            return dy
        return multiply(dy, divisor / self._first)

    def is_due(self, batches: LookAhead) -> bool:
        """Whether it is time for a step: after so many batches, or after the last of the epoch."""
        return self.batches == self.steps or batches.at_end()

    def finish(self, optimizer: Optimizer) -> None:
        """Turn the sum of the gradients into the gradient of the mean, and begin anew."""
        on_device = hasattr(self._sum, "dtype")
        if not self.is_sum and (on_device or self._first != self._sum):
            trained = [parameter for parameter in optimizer.parameters if parameter.trainable]
            rescale(segments(trained), inverse(self._sum) if on_device else self._first / self._sum)
        self.batches = 0
        self._first = self._sum = 0.0


class LookAhead:
    """Batches, and whether there are more of them.

    >>> batches = LookAhead([1, 2, 3])
    >>> next(batches), batches.at_end(), next(batches), next(batches), batches.at_end()
    (1, False, 2, 3, True)
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)
        self._ahead: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self._ahead.pop() if self._ahead else next(self._batches)

    def at_end(self) -> bool:
        """Whether the last batch was taken; reads the next one to find out."""
        if not self._ahead:
            self._ahead.extend(itertools.islice(self._batches, 1))
        return not self._ahead


def multiply(dy: Any, factor: Any) -> Any:
    """Return a gradient, or the gradients of several outputs, times a number, which may be on a GPU."""
    if dy is None:
        return None
    if isinstance(dy, dict):
        return {name: multiply(part, factor) for name, part in dy.items()}
    if isinstance(dy, (tuple, list)):
        return type(dy)(multiply(part, factor) for part in dy)
    return dy * (factor.astype(dy.dtype) if hasattr(factor, "dtype") else factor)
