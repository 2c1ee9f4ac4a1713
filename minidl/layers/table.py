"""Large tables of rows, such as embeddings, of which each step uses only a few."""

from __future__ import annotations

from typing import Any, ClassVar

from minidl.layers.parameter import Parameter
from minidl.ops import Array, namespace

__all__ = ["TableParameter"]


class TableParameter(Parameter):
    """A parameter whose gradient is added row by row, so that a step costs nothing for the rows that it does not use.

    Between steps the storage of its gradient holds zeros. A backward adds to the rows that it used and says which they
    are; ``zero_grad`` makes just these zero again. An optimiser that moves only what has a gradient, such as plain SGD,
    reads and writes just these rows. One with momentum moves every row, and so reads all of them.

    Parameters
    ----------
    value : array, shape (V, ...)
        The initial value, of any floating dtype; copied.
    name : str, default ""
        Shown in messages.

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
    _rows: list[Array] | None  # those that may differ from zero; None if any row may

    def __init__(self, value: Array, name: str = "") -> None:
        self._rows = []
        super().__init__(value, name)

    def add_rows(self, rows: Array, values: Array) -> None:
        """Add to rows of the gradient, unless the table is frozen; a row that occurs twice gets both.

        Parameters
        ----------
        rows : array of int, any shape
        values : array, shape rows.shape + value.shape[1:]
        """
        if self._trainable:
            namespace(values).add.at(self.row_storage(rows), rows, values)

    def row_storage(self, rows: Array) -> Array:
        """Return the storage of the gradient, which may be added to at the given rows and nowhere else.

        Parameters
        ----------
        rows : array of int, any shape
        """
        self._begin_at_zero()
        if self._rows is not None:
            self._rows.append(namespace(rows).unique(rows))
        return self._grad

    def touched_rows(self) -> Array | None:
        """Return the rows whose gradient may differ from zero, sorted, or None if any of them may."""
        if not self.has_grad:
            return namespace(self._value).arange(0)
        if not self._rows:
            return None if self._rows is None else namespace(self._value).arange(0)
        xp = namespace(self._rows[0])
        return self._rows[0] if len(self._rows) == 1 else xp.unique(xp.concatenate(self._rows))

    @property
    def grad(self) -> Array:
        """The gradient, a view into the buffer. Whoever reads it may write anywhere, so every row then counts as used."""
        self._begin_at_zero()
        self._rows = None
        return self._grad

    @grad.setter
    def grad(self, new: Array) -> None:
        Parameter.grad.fset(self, new)  # type: ignore[attr-defined]

    def grad_storage(self) -> tuple[Array, bool]:
        """Return where the whole gradient is kept, and whether it must be added to rather than overwritten."""
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

    def copied(self) -> TableParameter:
        """Return a copy of everything but the arrays."""
        own = super().copied()
        assert isinstance(own, TableParameter)
        own._rows = None if self._rows is None else list(self._rows)
        return own
