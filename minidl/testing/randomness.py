"""Make a random layer repeat itself, so that differences of its outputs are meaningful."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy

from minidl import random
from minidl.engines import Engine

__all__ = ["frozen", "generators_of"]


@contextlib.contextmanager
def frozen(subject: Any) -> Iterator[Callable[[], None]]:
    """Freeze the random generators that a layer can draw from; restore them at the end.

    These are every ``numpy.random.Generator`` and ``RandomState`` inside ``subject`` (in its attributes, and in the lists, dicts
    and objects that these hold), the generator of ``minidl.seed``, and NumPy's global one. A layer with another source of
    randomness cannot be frozen; the check then reports that it does not repeat itself.

    Yields
    ------
    rewind : callable
        Resets all generators to their state at the start.

    Examples
    --------
    >>> generator = numpy.random.default_rng(0)
    >>> with frozen([generator]) as rewind:
    ...     first = generator.random()
    ...     rewind()
    ...     again = generator.random()
    >>> first == again == generator.random()
    True
    """
    generators = [*generators_of(subject), random.generator()]
    states = [generator.bit_generator.state for generator in generators]
    legacy = list(_find(subject, numpy.random.RandomState))
    legacy_states = [source.get_state(legacy=False) for source in legacy]
    global_state = numpy.random.get_state(legacy=False)  # noqa: NPY002 - a user's layer may draw from it

    def rewind() -> None:
        for generator, state in zip(generators, states, strict=True):
            generator.bit_generator.state = state
        for source, state in zip(legacy, legacy_states, strict=True):
            source.set_state(state)
        numpy.random.set_state(global_state)  # noqa: NPY002

    try:
        yield rewind
    finally:
        rewind()


NOT_LOOKED_INTO = (str, bytes, int, float, type, numpy.ndarray, ModuleType, Engine)


def generators_of(subject: Any) -> Iterator[numpy.random.Generator]:
    """Yield each generator inside an object once."""
    return _find(subject, numpy.random.Generator)


def _find(subject: Any, kind: type[Any]) -> Iterator[Any]:
    """Yield each object of a kind once, searching through the attributes of an object."""
    seen: set[int] = set()
    pending = [subject]
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, NOT_LOOKED_INTO):
            continue
        seen.add(id(item))
        if isinstance(item, kind):
            yield item
        elif isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            pending.extend(item)
        elif not callable(item) or hasattr(item, "forward"):
            pending.extend(getattr(item, "__dict__", {}).values())
