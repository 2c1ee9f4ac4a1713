"""From arrays to what a training step takes: one-hot targets, and batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from minidl.arrays import is_elsewhere, library_of, take_rows, to_host
from minidl.data.passes import is_batches, is_stored, read_rows
from minidl.errors import DataError, DtypeError, ParameterError, ShapeError, TargetError
from minidl.ops import Array
from minidl.ops._scalars import scalars_checked
from minidl.random import Source, as_generator

__all__ = ["as_rows", "batches", "one_hot", "same_length", "select"]


@scalars_checked
def one_hot(labels: Any, num_classes: int | None = None, dtype: Any = "float32") -> numpy.ndarray:
    """Return one row for each label, 1 at the label's place and 0 elsewhere.

    Parameters
    ----------
    labels : integer array, any shape
        From 0 on.
    num_classes : int, optional
        K; one more than the largest label unless given.
    dtype : dtype
        Of the result.

    Returns
    -------
    array, shape (*labels.shape, K)

    Raises
    ------
    DtypeError
        If the labels are not integers.
    TargetError
        If a label is negative or not below ``num_classes``.

    Examples
    --------
    >>> one_hot([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    labels = to_host(labels, "one_hot", "labels")
    if labels.dtype.kind not in "iub" and labels.size:
        raise DtypeError(f"one_hot: labels must be integers, got dtype {labels.dtype}; convert with labels.astype(int)")
    labels = labels.astype(numpy.int64)
    if num_classes is None:
        num_classes = int(labels.max()) + 1 if labels.size else 0
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        raise TargetError(
            f"one_hot: labels must be from 0 to {num_classes - 1}, got {int(labels[outside].flat[0])} at position "
            f"{tuple(map(int, numpy.argwhere(outside)[0]))}"
        )
    return (labels[..., None] == numpy.arange(num_classes)).astype(dtype)


@scalars_checked
def batches(
    *arrays: Any,
    batch_size: int = 32,
    shuffle: bool = False,
    generator: Source = None,
    drop_last: bool = False,
) -> Iterator[Any]:
    """Go through arrays of N examples in batches.

    Parameters
    ----------
    *arrays : array, shape (N, ...)
        Such as ``X, y``; all of the same length. Tables, columns, tensors and lists become arrays; rows are taken by
        position, whatever the index of a DataFrame is.
    batch_size : int
    shuffle : bool
        Draw a new order for this pass; without it batches are views.
    generator : numpy.random.Generator, int or None
        Where the order comes from, or a seed; the generator of ``minidl.seed`` unless given.
    drop_last : bool
        Leave out the last batch if it is not full.

    Yields
    ------
    tuple of array, or the array if there is just one

    Raises
    ------
    DataError
        At the call: if there is no example or the lengths differ.
    ParameterError
        At the call: if ``batch_size`` is not a positive integer.

    Examples
    --------
    >>> X, y = numpy.arange(10).reshape(5, 2), numpy.arange(5)
    >>> for x, target in batches(X, y, batch_size=2):
    ...     print(x.tolist(), target.tolist())
    [[0, 1], [2, 3]] [0, 1]
    [[4, 5], [6, 7]] [2, 3]
    [[8, 9]] [4]
    """
    arrays = tuple(
        array if is_elsewhere(array) else as_rows(array, "batches", index) for index, array in enumerate(arrays)
    )
    n = same_length(arrays, "batches")
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, numpy.integer)) or batch_size < 1:
        raise ParameterError(f"batches: batch_size must be a positive integer, got {batch_size!r}")
    source = as_generator(generator, "generator") if shuffle else None
    return _batches(arrays, n, int(batch_size), source, drop_last)


def _batches(
    arrays: tuple[Array, ...], n: int, size: int, source: numpy.random.Generator | None, drop_last: bool
) -> Iterator[Any]:
    order = None if source is None else source.permutation(n)
    for start in range(0, n - size + 1 if drop_last else n, size):
        if order is None:
            found = tuple(array[start : start + size] for array in arrays)
        else:
            chosen = order[start : start + size]
            found = tuple(select(array, chosen) for array in arrays)
        yield found if len(found) > 1 else found[0]


def as_rows(data: Any, where: str, index: int) -> Any:
    """Return an array on the host, or one on disk as it is.

    Raises
    ------
    ShapeError
        If it has no first axis.
    """
    found = data
    if is_batches(data) or not is_stored(data):
        found = to_host(data, where, f"argument {index}")
    if not found.shape:
        raise ShapeError(
            f"{where}: argument {index} must be an array with one row for each example, got {type(data).__name__} of no axes"
        )
    return found


def select(data: Any, rows: Any) -> Any:
    """Return rows by position, in the same kind of container: of an array, a table, or an array on disk."""
    if is_elsewhere(data) or library_of(data) is not None or not is_stored(data):
        return take_rows(data, rows)
    return read_rows(data, rows)


def same_length(arrays: tuple[Array, ...], where: str) -> int:
    """Return the common length of the arrays' first axes.

    Raises
    ------
    DataError
        If there are no arrays, they are empty, or their lengths differ.
    """
    if not arrays:
        raise DataError(f"{where}: got no arrays")
    lengths = [array.shape[0] if hasattr(array, "shape") else len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise DataError(f"{where}: the arrays have different numbers of examples: {', '.join(map(str, lengths))}")
    if lengths[0] == 0:
        raise DataError(f"{where}: the arrays have no examples")
    return lengths[0]
