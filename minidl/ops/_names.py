"""One argument with two names: ``axis`` in NumPy and Keras, ``dim`` in PyTorch."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

from minidl.errors import ParameterError

__all__ = ["axis_or_dim"]

Result = TypeVar("Result")


def axis_or_dim(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let a function, or a constructor, that has an argument ``axis`` or ``dim`` take it by either name.

    Raises
    ------
    ParameterError
        From the function, if both names are given.

    Examples
    --------
    >>> @axis_or_dim
    ... def longest(shape, axis=-1):
    ...     return shape[axis]
    >>> longest((2, 3), dim=0), longest((2, 3), axis=0), longest((2, 3))
    (2, 2, 3)
    >>> longest((2, 3), 1, dim=0)
    Traceback (most recent call last):
    ...
    minidl.errors.ParameterError: longest: axis and dim are two names of one argument; give only one of them
    """
    parameters = inspect.signature(function).parameters
    own, other = ("axis", "dim") if "axis" in parameters else ("dim", "axis")
    by_name = parameters[own].kind is inspect.Parameter.KEYWORD_ONLY
    position = math.inf if by_name else list(parameters).index(own)
    where = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Result:
        if other in named:
            if own in named or len(arguments) > position:
                raise ParameterError(f"{where}: axis and dim are two names of one argument; give only one of them")
            named[own] = named.pop(other)
        return function(*arguments, **named)

    called.other_name = other  # type: ignore[attr-defined]
    return called
