"""The loss over the steps of an epoch: looked at after each step on the host, read late from a GPU.

A GPU computes while Python goes on. Whoever asks for a number waits until all that was handed over before is computed, and meanwhile
hands over nothing. So the losses of a GPU stay there, and are copied to the host by groups, beside the computation. They are looked
at when they have arrived.
"""

from __future__ import annotations

import math
from collections import UserDict, deque
from collections.abc import Callable
from typing import Any, NoReturn

import numpy

from minidl import engines
from minidl.ops import Array, namespace
from minidl.ops._later import Check

__all__ = ["GROUP", "LateLogs", "LateTotals", "Totals", "read_all"]

GROUP = 16
"""How many losses of a GPU travel together."""

Complain = Callable[[float, int, int, Any], NoReturn]
"""Raises the error for a loss that is not finite: its value, its step, the step at which this is noticed, and the batch if it is
still there."""


class Totals:
    """The losses of steps on the host, and the weight of each in the mean.

    Parameters
    ----------
    is_sum : bool
        Whether the loss of several batches is the sum of theirs.
    complain : callable
        Called with a loss that is not finite.
    """

    def __init__(self, is_sum: bool, complain: Complain) -> None:
        self.is_sum, self._complain = is_sum, complain
        self._total = self._seen = 0.0

    def go_on(self, total: float, seen: float) -> None:
        """Begin with what :meth:`so_far` returned for the steps before."""
        self._total, self._seen = total, seen

    def so_far(self) -> tuple[float, float]:
        """Return the sum of the losses and that of their weights, when all have been looked at."""
        self.finish()
        return self._total, self._seen

    def add(self, step: int, value: Any, n: Any, batch: Any) -> Any:
        """Take in the loss of a step, before the step is taken; return what hooks are shown."""
        value = float(value)
        self._count(value, n, step, step, batch)
        return value if n else 0.0

    def _count(self, value: float, n: float, step: int, now: int, batch: Any) -> None:
        if n == 0:  # the mean of no targets is nan, and has no weight
            return
        if not math.isfinite(value):
            self._complain(value, step, now, batch)
        self._total += value if self.is_sum else value * n
        self._seen += n

    def finish(self) -> None:
        """Wait until all losses were looked at."""

    @property
    def seen(self) -> float:
        """The total weight."""
        return self._seen

    def mean(self) -> float:
        """Return what the loss would be of all batches as one; nan if they have no weight."""
        if self._seen == 0:
            return math.nan
        return self._total if self.is_sum else self._total / self._seen


class LateTotals(Totals):
    """The losses of steps on a GPU.

    The first is waited for, before its step is taken, as most mistakes show in it. The others are read when they have arrived, so a
    loss that is not finite is noticed some steps later, when it has spoilt the weights.

    Parameters
    ----------
    is_sum : bool
    complain : callable
    checks : list of Check
        The checks of targets and ids that the steps have put off; see ``minidl.ops._later``.
    """

    def __init__(self, is_sum: bool, complain: Complain, checks: list[Check]) -> None:
        super().__init__(is_sum, complain)
        self._checks = checks
        self._engine = engines.current()
        self._held: list[tuple[int, Array, Any]] = []
        self._travelling: deque[Callable[[bool], bool]] = deque()
        self._step = -1  # the last one

    def add(self, step: int, value: Any, n: Any, batch: Any) -> Any:
        first, self._step = self._step < 0, step
        self._held.append((step, value, n))
        if first:
            self._send(batch)
            self.finish()
        elif len(self._held) >= GROUP:
            self._send(None)
            while self._travelling and self._travelling[0](False):
                self._travelling.popleft()
        return value

    def finish(self) -> None:
        if self._held or self._checks:
            self._send(None)
        while self._travelling:
            self._travelling.popleft()(True)

    @property
    def seen(self) -> float:
        self.finish()
        return self._seen

    def mean(self) -> float:
        self.finish()
        return super().mean()

    def _send(self, batch: Any) -> None:
        """Let the losses that are held, and the results of the checks, travel to the host."""
        held, self._held = self._held, []
        checks = self._checks[:]
        del self._checks[:]
        sent = ([flag for flag, _ in checks], [v for _, v, _ in held], [n for *_, n in held if hasattr(n, "dtype")])
        reading = self._engine.read_later(*(namespace(part[0]).stack(part) for part in sent if part))

        def look(wait: bool) -> bool:
            """Look at what has arrived, waiting for it if told to; return whether it has."""
            if not wait and not reading.ready:
                return False
            arrived = iter(reading.get())
            bad, values, weights = (next(arrived).astype(numpy.float64).tolist() if part else [] for part in sent)
            for (_, complain), wrong in zip(checks, bad, strict=True):
                if wrong:
                    complain()
            on_device = iter(weights)
            for (step, _, n), value in zip(held, values, strict=True):
                self._count(value, next(on_device) if hasattr(n, "dtype") else n, step, self._step, batch)
            return True

        self._travelling.append(look)


def read_all(engine: Any, numbers: list[Any]) -> numpy.ndarray:
    """Return numbers, of which some may be arrays without axes on a GPU, as float64 on the host; one transfer for all.

    >>> read_all(None, [1.0, 2])
    array([1., 2.])
    """
    elsewhere = [n for n in numbers if hasattr(n, "dtype") and namespace(n) is not numpy]
    found = iter(engine.to_host(namespace(elsewhere[0]).stack(elsewhere)).tolist() if elsewhere else ())
    each = [next(found) if hasattr(n, "dtype") and namespace(n) is not numpy else float(n) for n in numbers]
    return numpy.array(each, dtype=numpy.float64)


class LateLogs(UserDict[str, Any]):
    """The logs of a batch: a number that is on a GPU is waited for when somebody reads it, and not before."""

    def __getitem__(self, name: str) -> Any:
        value = self.data[name]
        if hasattr(value, "dtype"):
            value = self.data[name] = float(value)
        return value
