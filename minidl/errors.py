"""Every error that minidl raises deliberately, and the call with which it warns.

Each one derives from :class:`MinidlError` and also from the built-in error that a caller would expect, so both
``except minidl.MinidlError`` and ``except ValueError`` work. A message says where (which layer or argument), what was
expected, what was given, and what to do. This module imports no other module of minidl; every other module may import it.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = [
    "DataError",
    "DtypeError",
    "EngineError",
    "FileFormatError",
    "GradcheckError",
    "MinidlError",
    "MissingDependencyError",
    "NonFiniteError",
    "NotBuiltError",
    "OrderError",
    "ParameterError",
    "ShapeError",
    "TargetError",
    "UnknownNameError",
]


class MinidlError(Exception):
    """Base of all errors raised by minidl.

    Containers call :meth:`at` while the error propagates through them, so the message ends up with the whole path
    (``in layer 2 of Sequential, Linear(512, 10): ...``) at no cost when nothing fails.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.places: list[str] = []

    def at(self, place: str) -> MinidlError:
        """Prefix the message with a place, the outermost last, and return the error itself."""
        self.places.insert(0, place)
        self.args = (f"in {', '.join(self.places)}: {self.message}",)
        return self


class ShapeError(MinidlError, ValueError):
    """An array has the wrong shape, or is empty where at least one element is needed."""


class DtypeError(MinidlError, TypeError):
    """An array has a dtype that the operation does not take (object, complex, or integer where floating-point is needed)."""


class TargetError(MinidlError, ValueError):
    """A loss target or label is out of range or of the wrong kind."""


class DataError(MinidlError, ValueError):
    """Data passed to ``fit``, a loader or a metric cannot be used: empty, with NaN or inf, or of different lengths."""


class OrderError(MinidlError, RuntimeError):
    """A call came out of order, such as ``backward`` before ``forward``."""


class NotBuiltError(OrderError):
    """A lazily built layer has no parameters yet because it has not seen its input shape."""


class ParameterError(MinidlError, ValueError):
    """A setting is outside its range, or parameters are missing, unexpected, or of another model."""


class UnknownNameError(MinidlError, ValueError):
    """A name (of an optimiser, loss, metric, activation, engine ...) is unknown; the message lists the known names."""

    @classmethod
    def among(cls, kind: str, name: Any, known: Any) -> UnknownNameError:
        """Build the error that lists the known names.

        >>> print(UnknownNameError.among("optimizer", "sdg", ["adam", "sgd"]))
        unknown optimizer 'sdg'; known: adam, sgd
        """
        return cls(f"unknown {kind} {name!r}; known: {', '.join(sorted(map(str, known)))}")


class EngineError(MinidlError, RuntimeError):
    """An engine cannot be used here, or was given arrays of another engine."""


class MissingDependencyError(MinidlError, ImportError):
    """An optional package is not installed; the message names the extra that installs it."""

    @classmethod
    def needs(cls, feature: str, package: str, extra: str) -> MissingDependencyError:
        """Build the error for a missing optional package.

        >>> print(MissingDependencyError.needs("History.plot", "matplotlib", "plot"))
        History.plot needs the package matplotlib; install it with: pip install 'minidl[plot]'
        """
        return cls(f"{feature} needs the package {package}; install it with: pip install 'minidl[{extra}]'")


class FileFormatError(MinidlError, ValueError, OSError):
    """A file has the wrong format, is truncated or too long, or is damaged."""


class NonFiniteError(MinidlError, ArithmeticError):
    """A computation gave NaN or inf where a finite number is needed."""


class GradcheckError(MinidlError, AssertionError):
    """An analytic gradient disagrees with the numeric one; ``report`` holds the whole comparison."""

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the line outside minidl that led here, however many calls lie between."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "minidl":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
