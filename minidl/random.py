"""The one source of chance: a seeded ``numpy.random.Generator`` for each context."""

from __future__ import annotations

from contextvars import ContextVar

import numpy

from minidl.errors import ParameterError

__all__ = ["Source", "as_generator", "generator", "seed"]

Source = int | numpy.random.Generator | None
"""What functions that draw random numbers take: a seed, a generator, or None for the context's generator."""

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
    _generator.set(_seeded(n, "seed"))


def generator() -> numpy.random.Generator:
    """Return the generator of this context."""
    found = _generator.get()
    if found is None:
        found = numpy.random.default_rng()
        _generator.set(found)
    return found


def as_generator(source: Source, where: str = "random_state") -> numpy.random.Generator:
    """Return the generator that a seed, a generator or None stands for.

    Parameters
    ----------
    source : int, numpy.random.Generator or None
        A seed starts a new generator, a generator is returned as it is, and None is :func:`generator`.
    where : str
        The argument's name, for the message.

    Raises
    ------
    ParameterError
        If it is anything else.

    Examples
    --------
    >>> as_generator(3).normal() == as_generator(3).normal()
    True
    >>> as_generator(None) is generator()
    True
    """
    if source is None:
        return generator()
    if isinstance(source, numpy.random.Generator):
        return source
    if isinstance(source, numpy.random.RandomState):
        raise ParameterError(
            f"{where}: expected an integer or a numpy.random.Generator, got a RandomState of old NumPy"
        )
    return _seeded(source, where)


def _seeded(n: int, where: str) -> numpy.random.Generator:
    if isinstance(n, bool) or not isinstance(n, (int, numpy.integer)) or n < 0:
        raise ParameterError(f"{where}: expected a non-negative integer, got {n!r}")
    return numpy.random.default_rng(int(n))
