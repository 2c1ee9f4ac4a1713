"""Rows that occur twice: within a table, and in training and test data alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy

from minidl.arrays import to_host
from minidl.errors import DataError

__all__ = ["find_duplicates", "find_shared_rows"]


def find_duplicates(*arrays: Any) -> numpy.ndarray:
    """Return for each row the first row that is equal to it; itself if there is none before.

    Rows are equal if all their values are; 0 and -0 are equal, and so are nan and nan. They are compared by a hash of 128 bits
    (BLAKE2b), so memory is needed for 16 bytes of each different row.

    Parameters
    ----------
    *arrays : array-like, shape (N, ...)
        Such as x, or x and y, of numbers or texts; a row is what all of them have at one position.

    Returns
    -------
    int64 array, shape (N,)

    Raises
    ------
    DataError
        If there is no array, or the arrays differ in length.

    Examples
    --------
    >>> find_duplicates([[1, 2], [3, 4], [1, 2]])
    array([0, 1, 0])
    >>> find_duplicates([[1, 2], [3, 4], [1, 2]], ["a", "b", "c"])
    array([0, 1, 2])
    """
    found = [to_host(array, "find_duplicates") for array in arrays]
    if not found:
        raise DataError("find_duplicates: there is no array")
    for array in found:
        if not array.ndim or len(array) != len(found[0]):
            raise DataError(
                f"find_duplicates: expected arrays of as many rows, got shapes {', '.join(str(a.shape) for a in found)}"
            )
    first: dict[bytes, int] = {}
    return numpy.array([first.setdefault(key, row) for row, key in enumerate(_hashes(found))], dtype=numpy.int64)


def find_shared_rows(train: Any, test: Any) -> numpy.ndarray:
    """Return which rows of the test data occur in the training data, too: what a model may know by heart.

    Numbers of two floating dtypes are compared in the one with fewer digits.

    Parameters
    ----------
    train, test : array-like, shapes (N, ...) and (M, ...)
        Features, or texts.

    Returns
    -------
    int64 array
        Positions in ``test``, ascending.

    Raises
    ------
    DataError
        If the rows differ in shape.

    Examples
    --------
    >>> find_shared_rows([[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [3.0, 4.0]])
    array([1])
    """
    a, b = to_host(train, "find_shared_rows", "train"), to_host(test, "find_shared_rows", "test")
    if not a.ndim or a.shape[1:] != b.shape[1:] or not b.ndim:
        raise DataError(f"find_shared_rows: expected rows of one shape, got train {a.shape} and test {b.shape}")
    if a.dtype != b.dtype:
        floating = [array.dtype for array in (a, b) if array.dtype.kind == "f"]
        common = min(floating, key=lambda dtype: dtype.itemsize) if floating else numpy.result_type(a, b)
        a, b = a.astype(common), b.astype(common)
    known = set(_hashes([a]))
    return numpy.array([row for row, key in enumerate(_hashes([b])) if key in known], dtype=numpy.int64)


def _hashes(arrays: list[numpy.ndarray]) -> Iterator[bytes]:
    """Yield a hash of each row."""
    parts = [
        map(str.encode, array.tolist()) if array.dtype.kind == "U" and array.ndim == 1 else _bytes(array)
        for array in arrays
    ]
    for row in zip(*parts, strict=True):
        mark = hashlib.blake2b(digest_size=16)
        for part in row:
            mark.update(len(part).to_bytes(8, "little"))
            mark.update(part)
        yield mark.digest()


def _bytes(array: numpy.ndarray) -> Iterator[bytes]:
    """Yield the bytes of each row; equal numbers have equal ones."""
    for at in range(0, len(array), 1024):
        part = array[at : at + 1024]
        if part.dtype.kind in "fc":
            part = numpy.where(numpy.isnan(part), part.dtype.type(numpy.nan), part + part.dtype.type(0))  # -0 + 0 is 0
        for row in part:
            yield numpy.ascontiguousarray(row).tobytes()
