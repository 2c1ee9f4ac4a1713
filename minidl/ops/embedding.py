"""Rows of a table, chosen by integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minidl.errors import ShapeError
from minidl.ops._checks import ieee, require_same_dtype
from minidl.ops._gradients import check_storage, parameter_gradients
from minidl.ops._later import are_later
from minidl.ops._namespace import Array, namespace, require_float
from minidl.ops._rows import add_rows, check_ids, row_number

__all__ = ["embedding", "embedding_backward"]


@ieee
def embedding(ids: Array, weight: Array, padding_idx: int | None = None) -> tuple[Array, tuple[Any, ...]]:
    """Look up rows of a table.

    With i the id at each place::

        y_c = w_ic

    That is the product of a one-hot row with the table, without the zeros.

    Parameters
    ----------
    ids : integer array, of any shape (...)
        Row numbers, from 0 to V - 1.
    weight : array, shape (V, C)
    padding_idx : int, optional
        A row that gets no gradient, such as that of a token which fills up short sequences; -1 is the last.

    Returns
    -------
    y : array, shape (..., C)
    cache : (ids, weight, padding_idx)

    Raises
    ------
    DataError
        If an id is not a row of the table.
    DtypeError
        If the ids are not integers, or the weight is not floating-point.
    ShapeError
        If the weight is not a matrix.
    ParameterError
        If ``padding_idx`` is not a row of the table.

    Examples
    --------
    >>> import numpy
    >>> weight = numpy.array([[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]])
    >>> y, cache = embedding(numpy.array([2, 0, 2]), weight)
    >>> y
    array([[2. , 2.5],
           [0. , 0.5],
           [2. , 2.5]])
    >>> embedding_backward(numpy.array([[1.0, 0.0], [7.0, 7.0], [2.0, 3.0]]), cache)[1]
    array([[7., 7.],
           [0., 0.],
           [3., 3.]])
    """
    require_float(weight, "weight", "embedding")
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight must have shape (V, C), got {weight.shape}")
    vocabulary = weight.shape[0]
    if padding_idx is not None:
        row_number(padding_idx, vocabulary, "padding_idx", "embedding")
    rows = check_ids(ids, vocabulary, "embedding")
    kept = rows if are_later(ids) else ids  # rows are safe to write to, whatever the ids are
    return namespace(weight).take(weight, rows, axis=0), (kept, weight, padding_idx)  # (..., C)


@parameter_gradients("weight")
@ieee
def embedding_backward(
    dy: Array,
    cache: tuple[Any, ...],
    into: Sequence[Array | None] | None = None,
    add: bool = False,
    wanted: Sequence[bool] = (True, True),
) -> tuple[None, Array | None]:
    """Return None for the ids, which have no gradient, and the gradient of the weight.

    w_vc is copied to every place n whose id is v, so it collects the gradients of these places::

        dweight_vc = sum of dy_nc over the n with id_n = v, except for v = padding_idx

    Rows that no id chose are zero. With ``add`` they are not even touched, so the cost does not depend on V. The sum is taken
    in an order that depends on the ids alone; see ``minidl.ops._rows``.
    """
    ids, weight, padding_idx = cache
    vocabulary, width = weight.shape
    require_float(dy, "dy", "embedding_backward")
    require_same_dtype(dy, weight, "dy", "weight", "embedding_backward")
    if dy.shape != (*ids.shape, width):
        raise ShapeError(f"embedding_backward: dy must have the shape of y, {(*ids.shape, width)}, got {dy.shape}")
    if not wanted[1]:
        return None, None
    xp = namespace(dy)
    dweight = into[0] if into is not None else None
    if dweight is None:
        dweight = xp.zeros(weight.shape, dtype=weight.dtype)  # (V, C)
    else:
        check_storage("embedding_backward", 0, dweight, weight.shape, weight.dtype)
        if not add:
            dweight[...] = 0
    rows = ids.astype("int64", copy=False).reshape((ids.size,))  # (N,)
    values = dy.reshape((ids.size, width))  # (N, C)
    if padding_idx is not None:
        values = xp.where((rows == row_number(padding_idx, vocabulary, "padding_idx", "embedding"))[:, None], 0, values)
    add_rows(dweight, rows, values)
    return None, dweight
