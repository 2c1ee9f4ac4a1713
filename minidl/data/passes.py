"""Passes over data that are read in batches: iterables, objects with ``len`` and ``[i]``, arrays on disk."""

from __future__ import annotations

import array
import itertools
import mmap
from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy

__all__ = [
    "ArrayPasses",
    "IterablePasses",
    "Passes",
    "SequencePasses",
    "is_batches",
    "is_stored",
    "make_passes",
    "read_rows",
    "share_of",
]

_ONE_ARRAY = (str, bytes, bytearray, memoryview, array.array, range, list, tuple, deque, Mapping, Set)


def is_batches(data: Any) -> bool:
    """Whether an object yields batches, rather than being an array or array-like.

    Lists, tuples and dicts do not count, nor does anything that has a shape or can be converted to an array.

    Examples
    --------
    >>> is_batches(iter([])), is_batches([[1.0], [2.0]]), is_batches(numpy.ones(3))
    (True, False, False)
    """
    if isinstance(data, _ONE_ARRAY) or any(
        hasattr(data, name) for name in ("shape", "__array__", "__array_interface__", "__dlpack__")
    ):
        return False
    return hasattr(data, "__iter__") or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))


def is_stored(data: Any) -> bool:
    """Whether an array is on disk: a memory map, a view of one, or something like an HDF5 or Zarr array.

    Anything with ``shape``, ``dtype`` and ``[rows]`` counts, unless it exposes its memory to other packages or is a column
    of a table: those are in memory already.
    """
    if isinstance(data, numpy.ndarray):
        owner: Any = data
        while owner is not None and not isinstance(owner, mmap.mmap):
            owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
        return owner is not None
    in_memory = ("__array_interface__", "__dlpack__", "get", "to_numpy", "toarray")
    return all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")) and not any(
        hasattr(data, name) for name in in_memory
    )


class Passes:
    """Base: ``iter`` starts a pass over the data and yields its batches.

    Attributes
    ----------
    once : bool
        Whether there is only one pass, because the data are an iterator.
    """

    once = False

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} defines no __iter__")

    def after(self, count: int) -> Iterator[Any]:
        """Start a pass and return an iterator over what comes after so many batches.

        Random numbers for the order are drawn now. Batches that need not be read to be left out are not read.
        """
        batches = iter(self)
        for _ in itertools.islice(batches, count):
            pass
        return batches

    def length(self) -> int | None:
        """Return the number of batches per pass, or None if it is unknown."""
        return None


class IterablePasses(Passes):
    """An iterable of batches, in its own order.

    >>> list(IterablePasses([3, 1, 2]))
    [3, 1, 2]
    """

    def __init__(self, data: Any) -> None:
        self.data, self.once = data, hasattr(data, "__next__")

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def length(self) -> int | None:
        try:
            return len(self.data)
        except TypeError:  # it has no len, or one that raises, as for streams in PyTorch
            return None


class SequencePasses(Passes):
    """An object with ``len`` and ``[i]``; with a generator, in a new random order for each pass.

    Its ``on_epoch_end``, if there is one, is called at the end of each pass.

    >>> list(SequencePasses("abcd", numpy.random.default_rng(0)))
    ['c', 'a', 'b', 'd']
    """

    def __init__(self, data: Any, generator: numpy.random.Generator | None = None) -> None:
        self.data, self.generator = data, generator

    def __iter__(self) -> Iterator[Any]:
        return self.after(0)

    def after(self, count: int) -> Iterator[Any]:
        batches = len(self.data)
        order = range(batches) if self.generator is None else self.generator.permutation(batches).tolist()
        return self._read(order[count:])

    def _read(self, order: Any) -> Iterator[Any]:
        for index in order:
            yield self.data[index]
        if hasattr(self.data, "on_epoch_end"):
            self.data.on_epoch_end()

    def length(self) -> int | None:
        return len(self.data)


def share_of(count: int, rank: int, size: int) -> slice:
    """Return the rows of a batch that are a rank's.

    >>> [share_of(10, rank, 4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(rank * count // size, (rank + 1) * count // size)


def make_passes(data: Any, generator: numpy.random.Generator | None = None) -> Passes:
    """Return the passes over batches: by index if the data have ``len`` and ``[i]``, otherwise by iteration.

    >>> type(make_passes([1, 2])).__name__, type(make_passes(iter([1, 2]))).__name__
    ('SequencePasses', 'IterablePasses')
    """
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return SequencePasses(data, generator)
    return IterablePasses(data)


class ArrayPasses(Passes):
    """Arrays, some of them perhaps on disk, cut into batches: tuples of the same rows of each.

    Parameters
    ----------
    arrays : tuple of array, tuple or dict of arrays, or None
        All with the same number of examples.
    rows : range
        Which examples; its step must be 1.
    batch_size : int
        The last batch of a pass may be smaller.
    generator : numpy.random.Generator, optional
        Source of a random order for each pass; without it the data keep theirs.
    share : (int, int), optional
        Rank and number of ranks, if each reads its rows of every batch only. A share without rows is None.

    Examples
    --------
    >>> passes = ArrayPasses((numpy.arange(10), {"mask": numpy.ones(10)}), range(2, 7), 3)
    >>> [x.tolist() for x, _ in passes]
    [[2, 3, 4], [5, 6]]
    """

    def __init__(
        self,
        arrays: tuple[Any, ...],
        rows: range,
        batch_size: int,
        generator: numpy.random.Generator | None = None,
        share: tuple[int, int] | None = None,
    ) -> None:
        self.share = share
        self.arrays, self.rows, self.batch_size, self.generator = arrays, rows, batch_size, generator

    def __iter__(self) -> Iterator[Any]:
        return self.after(0)

    def after(self, count: int) -> Iterator[Any]:
        order = None if self.generator is None else self.generator.permutation(len(self.rows))
        return self._read(order, count)

    def _read(self, order: Any, batches: int) -> Iterator[Any]:
        first, count, size = self.rows.start, len(self.rows), self.batch_size
        for start in range(batches * size, count, size):
            stop = min(start + size, count)
            if self.share is not None:
                own = share_of(stop - start, *self.share)
                start, stop = start + own.start, start + own.stop
                if start == stop:
                    yield None
                    continue
            rows = slice(first + start, first + stop) if order is None else order[start:stop] + first
            yield tuple(_rows_of(array, rows) for array in self.arrays)

    def length(self) -> int:
        return -(-len(self.rows) // self.batch_size)


def _rows_of(data: Any, rows: Any) -> Any:
    if data is None:
        return None
    if isinstance(data, tuple):
        return tuple(read_rows(array, rows) for array in data)
    if isinstance(data, Mapping):
        return {name: read_rows(array, rows) for name, array in data.items()}
    return read_rows(data, rows)


def read_rows(stored: Any, rows: Any) -> Any:
    """Read rows of an array that may be on disk; HDF5 takes row numbers only in ascending order."""
    if isinstance(stored, numpy.ndarray) or isinstance(rows, slice):
        return stored[rows]
    ascending = numpy.argsort(rows)
    return numpy.asarray(stored[rows[ascending]])[numpy.argsort(ascending)]
