"""The source of all random numbers: a seeded ``numpy.random.Generator`` for each context."""

from __future__ import annotations

from contextvars import ContextVar

import numpy

from minidl.errors import ParameterError

__all__ = ["Source", "as_generator", "generator", "seed"]

Source = int | numpy.random.Generator | None
"""A source of random numbers: a seed, a generator, or None for the generator of the context."""

_generator: ContextVar[numpy.random.Generator | None] = ContextVar("minidl_generator", default=None)


def seed(n: int) -> None:
    """Restart the generator of this context from ``n``.

    Initial weights, shuffles and dropout masks all come from it unless they are given a generator of their own. So the same
    seed, engine and number of threads give the same bits. Each thread has its own generator, seeded by the system until the
    thread calls ``seed``.

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
    _generator.set(_create_generator(n, "seed"))


def generator() -> numpy.random.Generator:
    """Return the generator of this context."""
    found = _generator.get()
    if found is None:
        found = numpy.random.default_rng()
        _generator.set(found)
    return found


def as_generator(source: Source, where: str = "random_state") -> numpy.random.Generator:
    """Return the generator for a seed, a generator or None.

    Parameters
    ----------
    source : int, numpy.random.Generator or None
        A seed creates a new generator, a generator is returned unchanged, and None stands for :func:`generator`.
    where : str, default "random_state"
        The name of the argument, for the message.

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
            f"{where}: expected an integer or a numpy.random.Generator, got a RandomState of NumPy's old interface"
        )
    return _create_generator(source, where)


def _create_generator(n: int, where: str) -> numpy.random.Generator:
    if isinstance(n, bool) or not isinstance(n, (int, numpy.integer)) or n < 0:
        raise ParameterError(f"{where}: expected a non-negative integer, got {n!r}")
    return numpy.random.default_rng(int(n))
