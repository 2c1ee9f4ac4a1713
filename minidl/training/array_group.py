"""Several arrays that a model takes together, such as token ids and a mask."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

from minidl.errors import DataError

__all__ = ["ArrayGroup", "call_with", "group_arrays", "move", "ungroup"]


class ArrayGroup:
    """A tuple or dict of arrays, sliced and moved as one.

    Tuples and dicts of inputs, and of targets, become such groups.

    Parameters
    ----------
    arrays : sequence of array
        All with the same number of examples.
    names : sequence of str, optional
        The keys of the dict: the names of the model's arguments. None for a tuple.

    Examples
    --------
    >>> import numpy
    >>> inputs = ArrayGroup([numpy.arange(6).reshape(3, 2), numpy.ones(3)], ["ids", "mask"])
    >>> len(inputs), inputs[:1].ungroup()
    (3, {'ids': array([[0, 1]]), 'mask': array([1.])})
    """

    def __init__(self, arrays: Any, names: Any = None) -> None:
        self.arrays: tuple[Any, ...] = tuple(arrays)
        self.names: tuple[str, ...] | None = None if names is None else tuple(names)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, rows: Any) -> ArrayGroup:
        return ArrayGroup([array[rows] for array in self.arrays], self.names)

    @property
    def nbytes(self) -> int:
        """The size of all arrays in bytes."""
        return sum(array.nbytes for array in self.arrays)

    def map(self, function: Callable[[Any], Any]) -> ArrayGroup:
        """Apply a function to each array."""
        return ArrayGroup(map(function, self.arrays), self.names)

    def labels(self, name: str) -> list[str]:
        """Return the names of the arrays for messages: ``x[0]`` or ``x['mask']``."""
        return [f"{name}[{key!r}]" for key in self.names or range(len(self.arrays))]

    def ungroup(self) -> tuple[Any, ...] | dict[str, Any]:
        """Return the original tuple or dict."""
        return self.arrays if self.names is None else dict(zip(self.names, self.arrays, strict=True))


def group_arrays(given: Any, where: str, name: str) -> Any:
    """Turn a tuple or dict of arrays into an :class:`ArrayGroup`; return anything else unchanged.

    A tuple of plain numbers counts as one array.

    Raises
    ------
    DataError
        If the tuple or dict is empty, or a key is not a string.
    """
    if isinstance(given, Mapping):
        named = dict(given)
        for key in named:
            if not isinstance(key, str):
                raise DataError(f"{where}: the keys of {name} must be the names of the model's inputs, got {key!r}")
    elif isinstance(given, tuple) and not (given and all(isinstance(item, numbers.Real) for item in given)):
        named = None
    else:
        return given
    if not given:
        raise DataError(f"{where}: {name} is an empty {type(given).__name__}; give at least one array")
    return ArrayGroup(given) if named is None else ArrayGroup(named.values(), named)


def ungroup(data: Any) -> Any:
    """Return the original tuple or dict of a group; return a single array unchanged."""
    return data.ungroup() if isinstance(data, ArrayGroup) else data


def call_with(function: Callable[..., Any], data: Any) -> Any:
    """Call a function, such as a model's forward, with one array or with those of a group.

    The arrays of a tuple are passed by position, those of a dict by name.

    >>> call_with(lambda a, b: a - b, ArrayGroup([3, 1])), call_with(lambda a, b: a - b, ArrayGroup([3, 1], ["b", "a"]))
    (2, -2)
    """
    if not isinstance(data, ArrayGroup):
        return function(data)
    arrays = data.ungroup()
    return function(**arrays) if isinstance(arrays, dict) else function(*arrays)


def move(data: Any, place: Callable[[Any], Any]) -> Any:
    """Move one array or a group to an engine's device."""
    return data.map(place) if isinstance(data, ArrayGroup) else place(data)
