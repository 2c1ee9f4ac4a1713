"""Numbers, switches and names from the caller, checked by what the formula's signature says they are."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from minidl.errors import MinidlError, ParameterError

__all__ = ["check_constructor", "counts", "depth", "is_count", "plain", "scalars_checked", "shown"]

SAFE = 2**31
MOST_LAYERS = 100_000
Check = Callable[[Any, str, str, str], Any]
F = TypeVar("F", bound=Callable[..., Any])


def plain(value: Any) -> Any:
    """Return a NumPy scalar or an array without axes as Python's number: one of float64 would promote float32 arrays.

    Anything else is handed back, also a layer, which has a dtype but no axes.
    """
    kind = str(getattr(getattr(value, "dtype", None), "kind", ""))
    return value.item() if kind in ("f", "i", "u", "b") and getattr(value, "ndim", None) == 0 else value


def is_scalar_elsewhere(value: Any) -> bool:
    """Whether a value is a floating-point number that stays on a device, as the factor of clipped gradients does."""
    return getattr(value, "ndim", None) == 0 and getattr(value, "device", "cpu") != "cpu" and value.dtype.kind == "f"


def is_count(value: Any, least: int = 0) -> bool:
    """Whether a value is a whole number from ``least`` on, of which a few may be added without leaving 64 bits.

    >>> import numpy
    >>> is_count(2), is_count(numpy.int64(2)), is_count(2.0), is_count(True), is_count(-1), is_count(2**63)
    (True, True, False, False, False, False)
    """
    value = plain(value)
    if isinstance(value, bool) or not hasattr(value, "__index__") or hasattr(value, "dtype"):
        return False
    return bool(least <= value.__index__() <= 2**62)


def counts(values: Any, op: str, name: str, least: int = 0) -> tuple[int, ...]:
    """Return a sequence of whole numbers as a tuple, or raise.

    >>> import numpy
    >>> counts([2, numpy.int64(3)], "mlp", "sizes")
    (2, 3)
    >>> counts(4, "mlp", "sizes")
    Traceback (most recent call last):
    ...
    minidl.errors.ParameterError: mlp: sizes must be a sequence of whole numbers from 0 on, got 4
    """
    found = list(values) if isinstance(values, (list, tuple, range)) or getattr(values, "ndim", 0) == 1 else [None]
    if not all(is_count(value, least) for value in found):
        raise ParameterError(f"{op}: {name} must be a sequence of whole numbers from {least} on, got {shown(values)}")
    return tuple(plain(value).__index__() for value in found)


def depth(value: Any, owner: str, name: str) -> int:
    """Return how many layers lie one above the other, or raise: more than 100,000 would fill any memory with empty layers.

    >>> depth(2, "LSTM", "num_layers")
    2
    >>> depth(0, "LSTM", "num_layers")
    Traceback (most recent call last):
    ...
    minidl.errors.ParameterError: LSTM: num_layers must be a whole number from 1 to 100000, got 0
    """
    if not is_count(value, 1) or value > MOST_LAYERS:
        raise ParameterError(f"{owner}: {name} must be a whole number from 1 to {MOST_LAYERS}, got {shown(value)}")
    return int(value)


def shown(value: Any) -> str:
    """Return what an error says of a value, also of integers that Python refuses to print.

    >>> shown((2, 10**5000)), shown([1.5])
    ('an integer of thousands of digits', '[1.5]')
    """
    try:
        text = repr(value)
    except ValueError:
        return "an integer of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def _real(value: Any, op: str, name: str, or_none: str) -> Any:
    if is_scalar_elsewhere(value):
        return value
    value = plain(value)
    try:
        if isinstance(value, (int, float)):
            float(value)
            return value
    except OverflowError:
        pass
    raise ParameterError(f"{op}: {name} must be a number that float64 can hold{or_none}, got {shown(value)}")


def _whole(value: Any, op: str, name: str, or_none: str) -> Any:
    value = plain(value)
    if isinstance(value, bool) or not hasattr(value, "__index__") or hasattr(value, "dtype"):
        raise ParameterError(f"{op}: {name} must be a whole number{or_none}, got {shown(value)}")
    if not -(2**63) <= value.__index__() < 2**63:
        raise ParameterError(f"{op}: {name} must be a whole number that 64 bits can hold{or_none}, got {shown(value)}")
    return value.__index__()


def _switch(value: Any, op: str, name: str, or_none: str) -> Any:
    value = plain(value)
    if not isinstance(value, int) or value not in (0, 1):
        raise ParameterError(f"{op}: {name} must be True or False{or_none}, got {shown(value)}")
    return bool(value)


def _name(value: Any, op: str, name: str, or_none: str) -> Any:
    if not isinstance(value, str):
        raise ParameterError(f"{op}: {name} must be a string{or_none}, got {shown(value)}")
    return value


CHECKS: dict[str, tuple[type, Check]] = {
    "float": (float, _real),
    "int": (int, _whole),
    "bool": (bool, _switch),
    "str": (str, _name),
}
"""The type that passes at a glance, and the check of anything else, for each annotation."""


def _is_large(value: Any) -> bool:
    """Whether a value is a whole number, or holds one, of a size that arrays and C do not take everywhere."""
    if isinstance(value, (tuple, list)):
        return any(map(_is_large, value))
    value = plain(value)
    return isinstance(value, int) and abs(value) >= SAFE


def check_constructor(cls: type) -> None:
    """Check the arguments of a class's own constructor likewise, if the class is minidl's."""
    if cls.__module__.startswith("minidl.") and "__init__" in vars(cls):
        cls.__init__ = scalars_checked(cls.__init__)  # type: ignore[misc]


def scalars_checked(function: F) -> F:
    """Decorate a function to check its arguments that are annotated as float, int, bool or str, or as one of these or None.

    What passes is handed on as Python's own type, so a number computed with NumPy is as good as any.

    >>> @scalars_checked
    ... def scale(x, by: float):
    ...     return x * by
    >>> scale(2.0, by=3)
    6.0
    >>> scale(2.0, "three")
    Traceback (most recent call last):
    ...
    minidl.errors.ParameterError: scale: by must be a number that float64 can hold, got 'three'
    """
    found: list[tuple[int, str, bool, type, Check]] = []
    signature = inspect.signature(function)
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        annotation = str(parameter.annotation)
        place = sys.maxsize if parameter.kind is parameter.KEYWORD_ONLY else index
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if annotation.removesuffix(" | None") in CHECKS:
            found.append((place, name, annotation.endswith(" | None"), *CHECKS[annotation.removesuffix(" | None")]))
    if not found and not any(str(p.annotation).startswith("Any") for p in signature.parameters.values()):
        return function
    constructor = function.__name__ == "__init__"

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        op = type(args[0]).__name__ if constructor else function.__name__
        for place, name, optional, glance, check in found:
            if place < len(args):
                value = args[place]
            elif name in kwargs:
                value = kwargs[name]
            else:
                continue
            if (type(value) is glance and (type(value) is not int or -SAFE < value < SAFE)) or (
                optional and value is None
            ):
                continue
            try:
                value = check(value, op, name, ", or None" if optional else "")
            except ParameterError:
                signature.bind(*args, **kwargs)  # raises first if there are too many arguments, or too few
                raise
            if place < len(args):
                args = (*args[:place], value, *args[place + 1 :])
            else:
                kwargs[name] = value
        try:
            return function(*args, **kwargs)
        except (ValueError, OverflowError) as error:
            if isinstance(error, MinidlError):
                raise
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                if _is_large(value):
                    raise ParameterError(f"{op}: {name} is too large, {shown(value)}: {error}") from error
            raise

    return checked  # type: ignore[return-value]
