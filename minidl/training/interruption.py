"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["noted_interrupt"]


@contextmanager
def noted_interrupt() -> Iterator[list[int]]:
    """Let the first Ctrl-C only be noted, so that a step is finished and saved; a second one stops at once."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, which alone gets the signal
        yield noted
        return
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
