"""Errors that a kernel finds: kept on the device, and raised when the host waits for results anyway."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy

from minidl.ops import Array

__all__ = ["check", "expect"]

MOST = 64
"""How many are kept; then the oldest are looked at, which by then are computed."""

Expectation = tuple[Array, int, Callable[[int], Exception]]

_expected: list[Expectation] = []
_lock = threading.Lock()


def expect(found: Array, right: int, describe: Callable[[int], Exception]) -> None:
    """Raise ``describe(value)`` unless the only element of ``found`` is ``right``: at once on the host, else at a later check.

    Parameters
    ----------
    found : array of int64, shape ()
    right : int
    describe : callable
    """
    if type(found) is numpy.ndarray:
        _require((found, right, describe))
        return
    with _lock:
        _expected.append((found, right, describe))
        oldest = _expected.pop(0) if len(_expected) > MOST else None
    if oldest is not None:
        _require(oldest)


def check() -> None:
    """Raise the first error that a kernel has found since the last check. It waits for the device."""
    with _lock:
        waiting = list(_expected)
        _expected.clear()
    for expectation in waiting:
        _require(expectation)


def _require(expectation: Expectation) -> None:
    found, right, describe = expectation
    value = int(found)
    if value != right:
        raise describe(value)
