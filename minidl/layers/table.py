"""Parameters that are large tables, such as embeddings, of which each step uses a few rows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy

from minidl.layers.parameter import Parameter, ParameterBuffer
from minidl.ops import Array, namespace
from minidl.ops._rows import add_rows

__all__ = ["TableParameter"]


class TableParameter(Parameter):
    """A parameter whose gradient is added row by row, so that rows which a step does not use cost nothing.

    The storage of the gradient holds zeros wherever no row was added since ``zero_grad``. A backward adds to the rows that
    it uses, and these are the only rows that are zeroed again. Plain SGD reads and writes only them. An optimiser with
    momentum moves every row, so it reads the whole table. On a GPU every row counts as used: to find out which are, the host
    would have to wait.

    Parameters
    ----------
    value : array, shape (V, ...)
        The initial value, of any floating-point dtype; copied.
    name : str, default ""
        For messages.

    Examples
    --------
    >>> import numpy
    >>> table = TableParameter(numpy.zeros((4, 2)), name="weight")
    >>> table.add_rows(numpy.array([3, 1, 3]), numpy.ones((3, 2)))
    >>> table.touched_rows()
    array([1, 3])
    >>> table.grad
    array([[0., 0.],
           [1., 1.],
           [0., 0.],
           [2., 2.]])
    """

    __slots__ = ("_rows",)
    starts_at_zero: ClassVar[bool] = True
    _rows: list[Array] | None  # the rows that may differ from zero; None if any row may

    def __init__(self, value: Array, name: str = "") -> None:
        self._rows = []
        super().__init__(value, name)

    def add_rows(self, rows: Array, values: Array) -> None:
        """Add to rows of the gradient; values of a row that occurs twice are added. Do nothing if the table is frozen.

        Parameters
        ----------
        rows : array of int, any shape
        values : array, shape rows.shape + value.shape[1:]
        """
        if not self._trainable:
            return
        storage = self.row_storage(rows)
        if namespace(values) is numpy:
            numpy.add.at(storage, rows, values)
        else:  # where additions at equal rows come in any order
            flat = values.reshape((rows.size, -1))
            add_rows(storage.reshape((len(storage), -1)), rows.reshape(-1), flat)

    def row_storage(self, rows: Array) -> Array:
        """Return the storage of the gradient, to which the caller may add at these rows and nowhere else.

        Parameters
        ----------
        rows : array of int, any shape
        """
        self._begin_at_zero()
        if namespace(rows) is not numpy:
            self._rows = None  # finding the rows would make the host wait
        elif self._rows is not None:
            self._rows.append(numpy.unique(rows))
        return self._grad

    def touched_rows(self) -> Array | None:
        """Return the rows whose gradient may differ from zero, sorted, or None if every row may."""
        if not self.has_grad:
            return namespace(self._value).arange(0)
        if not self._rows:
            return None if self._rows is None else namespace(self._value).arange(0)
        xp = namespace(self._rows[0])
        return self._rows[0] if len(self._rows) == 1 else xp.unique(xp.concatenate(self._rows))

    @property
    def grad(self) -> Array:
        """The gradient, a view into the buffer. Reading it makes every row count as used, since the reader may write to it."""
        self._begin_at_zero()
        self._rows = None
        return self._grad

    @grad.setter
    def grad(self, new: Array) -> None:
        Parameter.grad.fset(self, new)  # type: ignore[attr-defined]

    def grad_storage(self) -> tuple[Array, bool]:
        """Return the storage of the whole gradient, and whether to add to it; see :meth:`Parameter.grad_storage`."""
        self._rows = None
        return super().grad_storage()

    def _begin_at_zero(self) -> None:
        storage, written = super().grad_storage()
        if written:
            return
        for rows in self._rows if self._rows is not None else [slice(None)]:
            storage[rows] = 0
        self._rows = []

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "_rows": self._rows}

    def copy_for(self, buffer: ParameterBuffer) -> TableParameter:
        """Return a copy whose arrays are views into the copy of a buffer."""
        own = super().copy_for(buffer)
        assert isinstance(own, TableParameter)
        own._rows = None if self._rows is None else list(self._rows)
        return own
