"""Several arrays side by side, which a model takes at once: ids and a mask, say."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any

from minidl.errors import DataError

__all__ = ["Several", "as_given", "call_on", "parts_of", "placed"]


class Several:
    """Arrays that are cut, moved and handed to a model together; what a tuple or a dict of inputs becomes.

    Parameters
    ----------
    arrays : sequence of array
        All with the same number of examples.
    names : sequence of str, optional
        What a dict called them: the names of the model's arguments.

    Examples
    --------
    >>> import numpy
    >>> inputs = Several([numpy.arange(6).reshape(3, 2), numpy.ones(3)], ["ids", "mask"])
    >>> len(inputs), inputs[:1].as_given()
    (3, {'ids': array([[0, 1]]), 'mask': array([1.])})
    """

    def __init__(self, arrays: Any, names: Any = None) -> None:
        self.arrays: tuple[Any, ...] = tuple(arrays)
        self.names: tuple[str, ...] | None = None if names is None else tuple(names)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, rows: Any) -> Several:
        return Several([array[rows] for array in self.arrays], self.names)

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return sum(array.nbytes for array in self.arrays)

    def map(self, function: Callable[[Any], Any]) -> Several:
        """Return what a function makes of each of them."""
        return Several(map(function, self.arrays), self.names)

    def labels(self, name: str) -> list[str]:
        """Return what messages call them: ``x[0]`` or ``x['mask']``."""
        return [f"{name}[{key!r}]" for key in self.names or range(len(self.arrays))]

    def as_given(self) -> tuple[Any, ...] | dict[str, Any]:
        """Return the tuple or dict that they came as."""
        return self.arrays if self.names is None else dict(zip(self.names, self.arrays, strict=True))


def parts_of(given: Any, where: str, name: str) -> Any:
    """Return a tuple or dict of arrays as :class:`Several`, and anything else, which is one array, as it is.

    A tuple of single numbers is one array, too.

    Raises
    ------
    DataError
        If there is nothing in it, or a dict has keys that are no names.
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
    return Several(given) if named is None else Several(named.values(), named)


def as_given(data: Any) -> Any:
    """Return one array as it is, several as the tuple or dict that they came as."""
    return data.as_given() if isinstance(data, Several) else data


def call_on(function: Callable[..., Any], data: Any) -> Any:
    """Call a function, such as a model's forward, on one array, on each of a tuple's, or on a dict's by name.

    >>> call_on(lambda a, b: a - b, Several([3, 1])), call_on(lambda a, b: a - b, Several([3, 1], ["b", "a"]))
    (2, -2)
    """
    if not isinstance(data, Several):
        return function(data)
    if data.names is None:
        return function(*data.arrays)
    return function(**dict(zip(data.names, data.arrays, strict=True)))


def placed(data: Any, place: Callable[[Any], Any]) -> Any:
    """Return the data, one array or several, where an engine computes."""
    return data.map(place) if isinstance(data, Several) else place(data)
