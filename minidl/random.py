"""The one source of chance: a seeded ``numpy.random.Generator`` for each context."""

from __future__ import annotations

from contextvars import ContextVar

import numpy

from minidl.errors import ParameterError

__all__ = ["generator", "seed"]

_generator: ContextVar[numpy.random.Generator | None] = ContextVar("minidl_generator", default=None)


def seed(n: int) -> None:
    """Start the generator of this context anew from ``n``.

    Initial weights, shuffles and dropout masks all come from it unless they are given a generator of their own, so the
    same seed, engine and number of threads give the same bits. Another thread has a generator of its own, seeded from
    the system until it calls ``seed``.

    Raises
    ------
    ParameterError
        Unless ``n`` is a non-negative integer.

    Examples
    --------
    >>> seed(7); first = generator().normal()
    >>> seed(7); generator().normal() == first
    True
    """
    if isinstance(n, bool) or not isinstance(n, (int, numpy.integer)) or n < 0:
        raise ParameterError(f"seed: expected a non-negative integer, got {n!r}")
    _generator.set(numpy.random.default_rng(int(n)))


def generator() -> numpy.random.Generator:
    """Return the generator of this context."""
    found = _generator.get()
    if found is None:
        found = numpy.random.default_rng()
        _generator.set(found)
    return found
