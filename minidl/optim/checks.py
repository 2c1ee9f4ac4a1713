"""Checks of settings: functions that return the checked value, or raise and say what it must be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy

from minidl.errors import ParameterError

__all__ = ["check_state", "count", "flag", "fraction", "fractions", "non_negative", "number", "setting"]


def number(value: Any) -> float:
    """Return a finite number as a float.

    >>> number(2)
    2.0
    """
    try:
        if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond every float
        pass
    raise ParameterError(f"must be a finite number, got {value!r}")


def non_negative(value: Any) -> float:
    """Return a finite number that is at least 0."""
    if number(value) < 0:
        raise ParameterError(f"must be at least 0, got {value!r}")
    return float(value)


def fraction(value: Any) -> float:
    """Return a number from 0 up to, but not including, 1."""
    if not 0 <= number(value) < 1:
        raise ParameterError(f"must be from 0 up to but not including 1, got {value!r}")
    return float(value)


def fractions(value: Any) -> tuple[float, float]:
    """Return a pair of fractions.

    >>> fractions([0.9, 0.999])
    (0.9, 0.999)
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ParameterError(f"must be a pair of numbers, got {value!r}")
    return fraction(value[0]), fraction(value[1])


def flag(value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, (bool, numpy.bool_)):
        raise ParameterError(f"must be True or False, got {value!r}")
    return bool(value)


def count(where: str, name: str, value: Any, least: int = 1) -> int:
    """Return an integer that is at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)) or value < least:
        raise ParameterError(f"{where}: {name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def setting(where: str, name: str, value: Any) -> float:
    """Return a finite number that is at least 0; an error names the owner and the setting."""
    try:
        return non_negative(value)
    except ParameterError as error:
        raise ParameterError(f"{where}: {name} {error}") from None


def check_state(owner: Any, given: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise unless a state has the same entries as the owner's."""
    if set(given) != set(own):
        raise ParameterError(
            f"{type(owner).__name__}.load_state_dict: expected the entries {', '.join(sorted(own))}, got "
            f"{', '.join(sorted(map(str, given))) or 'none'}"
        )
