"""Rows of tables: checks of their numbers, and sums over equal ones in an order that never changes."""

from __future__ import annotations

from typing import NoReturn

import numpy

from minidl.errors import DataError, DtypeError, ParameterError
from minidl.ops._checks import widen_float16
from minidl.ops._later import are_later, refuse_any
from minidl.ops._namespace import Array, namespace

__all__ = ["add_rows", "check_ids", "row_number"]


def add_rows(storage: Array, rows: Array, values: Array) -> None:
    """Add values to rows of an array; values of a row that occurs several times are summed first.

    In elements::

        storage_vc += sum of values_nc over the n with rows_n = v

    Rows that do not occur are neither read nor written. The order of the sum depends on ``rows`` alone, so the result has the
    same bits every time, on a GPU too, where atomic additions would come in any order. The values are sorted by row. A step
    of length s adds to each value the one s places before it, if that is of the same row. After steps of 1, 2, 4, ... the
    last value of each row holds its sum. Every value then writes this sum, so equal rows write the same twice.

    Parameters
    ----------
    storage : array, shape (V, C)
    rows : integer array, shape (N,)
        From 0 to V - 1.
    values : array, shape (N, C)
        Of the dtype of ``storage``; float16 is summed in float32.

    Examples
    --------
    >>> import numpy
    >>> storage = numpy.zeros((3, 1))
    >>> add_rows(storage, numpy.array([2, 0, 2]), numpy.array([[1.0], [10.0], [4.0]]))
    >>> storage.ravel()
    array([10.,  0.,  5.])
    """
    xp = namespace(storage)
    order = xp.argsort(rows, kind="stable")
    rows = rows[order]
    sums = widen_float16(values)[order]  # (N, C)
    step = 1
    while step < len(rows):
        same = (rows[step:] == rows[:-step])[:, None]
        sums[step:] += xp.where(same, sums[:-step], 0)
        step *= 2
    last = xp.searchsorted(rows, rows, side="right") - 1  # (N,), the last place of each value's row
    storage[rows] = storage[rows] + sums[last].astype(storage.dtype, copy=False)


def row_number(row: int, count: int, name: str, op: str) -> int:
    """Return the number of a row counted from the front, where -1 is the last.

    >>> row_number(-1, 5, "padding_idx", "embedding")
    4

    Raises
    ------
    ParameterError
        If there is no such row.
    """
    if not -count <= row < count:
        raise ParameterError(f"{op}: {name} must be a row of the table, from {-count} to {count - 1}, got {row!r}")
    return row % count


def check_ids(ids: Array, count: int, op: str) -> Array:
    """Return ids as int64.

    >>> check_ids(numpy.array([[0, 3], [1, 7]]), 5, "embedding")
    Traceback (most recent call last):
    ...
    minidl.errors.DataError: embedding: ids[1, 1] is 7, but the table has 5 rows; ids must be from 0 to 4

    Raises
    ------
    DataError
        If one of them is not a row of a table of ``count`` rows.
    DtypeError
        If they are not integers.
    """
    kind = getattr(getattr(ids, "dtype", None), "kind", None)
    if kind is None or kind not in "iu":
        came = type(ids).__name__ if kind is None else f"dtype {ids.dtype}"
        raise DtypeError(f"{op}: ids must be an array of integers, got {came}")
    rows = ids.astype("int64", copy=False)
    bad = (rows < 0) | (rows >= count)

    def complain() -> NoReturn:
        first = int(bad.ravel().argmax())
        index = ", ".join(str(int(i)) for i in numpy.unravel_index(first, ids.shape))
        raise DataError(
            f"{op}: ids[{index}] is {int(ids.ravel()[first])}, but the table has {count} rows; ids must be from 0 to "
            f"{count - 1}"
        )

    refuse_any(bad, complain)
    return namespace(rows).clip(rows, 0, count - 1) if are_later(rows) else rows
