"""Checks of numbers on a device: at once, or later by whoever runs many steps.

A formula that must not compute with a class that does not exist looks at the numbers. On a GPU the host then waits for all that was
computed before. In a training step nobody should wait, so ``fit`` collects the checks of its steps and reads their results when
they have arrived. A formula must be safe to run with any numbers: what it returns for wrong ones is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

import numpy

from minidl.ops._namespace import Array, namespace

__all__ = ["Check", "are_later", "checks_later", "refuse_any"]

Check = tuple[Array, Callable[[], NoReturn]]
"""Whether something is wrong, a boolean without axes on a device, and what raises the error."""

_waiting: ContextVar[list[Check] | None] = ContextVar("minidl_checks", default=None)


@contextmanager
def checks_later() -> Iterator[list[Check]]:
    """Run a block in which checks of arrays on a device are put on a list, for the caller to read."""
    found: list[Check] = []
    token = _waiting.set(found)
    try:
        yield found
    finally:
        _waiting.reset(token)


def are_later(array: Array) -> bool:
    """Whether checks of this array are made later: it is on a device, inside ``checks_later``.

    >>> with checks_later():
    ...     are_later(numpy.ones(3))
    False
    """
    return _waiting.get() is not None and namespace(array) is not numpy


def refuse_any(bad: Array, complain: Callable[[], NoReturn]) -> None:
    """Call ``complain``, which raises an error, if any element is true: now, or later on a device inside ``checks_later``.

    >>> refuse_any(numpy.array([False, False]), lambda: 1 / 0)
    """
    waiting = _waiting.get()
    if waiting is not None and namespace(bad) is not numpy:
        waiting.append((bad.any(), complain))
    elif bad.any().tolist():  # the only time that a device is waited for
        complain()
