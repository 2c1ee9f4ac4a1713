"""Errors that a kernel finds: kept on the device, and read as the checks of formulas are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from minidl.ops import Array
from minidl.ops._later import refuse_any

__all__ = ["expect"]


def expect(found: Array, right: int, describe: Callable[[int], Exception]) -> None:
    """Raise ``describe(value)`` unless the only element of ``found`` is ``right``: now, or later inside ``checks_later``.

    Parameters
    ----------
    found : array of int64, shape ()
    right : int
    describe : callable
    """

    def complain() -> NoReturn:
        raise describe(int(found))

    refuse_any(found != right, complain)
