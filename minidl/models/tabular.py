"""A network for tables: an embedding for each column of categories, beside the numbers, and fully connected layers.

x --+-- numbers --------------------------+
    +-- codes --- an embedding a column --+-- joined -- Linear -> ReLU -> Dropout, repeated -- Linear -- y
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy

from minidl.attribution import integrated_gradients
from minidl.errors import DataError, ParameterError, ShapeError
from minidl.layers import Embedding, Layer
from minidl.layers.base import Shape, cast_input
from minidl.models.mlp import mlp
from minidl.models.sequential import Sequential
from minidl.ops import Array, namespace
from minidl.ops._later import refuse_any
from minidl.ops._scalars import counts, is_count, shown

__all__ = ["ColumnFeatures", "TabularNetwork"]


class ColumnFeatures(Layer):
    """Replace each column of codes by the vector of its code, and put the other columns before them.

    Parameters
    ----------
    columns : int
        F, the number of columns of the table.
    categories : mapping of int to int
        For each column of codes, by its position, how many codes there are.
    widths : mapping of int to int
        The length of the vectors of each such column.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial vectors; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    tables : dict of str to Embedding
        By the position of the column.
    spans : list of slice
        The other columns.
    numbers : int
        How many these are.
    width : int
        The number of features that come out.

    Raises
    ------
    DataError
        From ``forward``, if a code is not from 0 to the number of codes less one.

    Examples
    --------
    >>> layer = ColumnFeatures(3, {1: 4}, {1: 2})
    >>> layer.forward(numpy.array([[0.5, 3, -1.0]], dtype="float32")).shape
    (1, 4)
    """

    _live = ()

    def __init__(
        self,
        columns: int,
        categories: Mapping[int, int],
        widths: Mapping[int, int],
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.columns, self.dtype = columns, numpy.dtype(dtype)
        ends = sorted(categories)  # between these are runs of numbers
        runs = map(slice, [0, *(column + 1 for column in ends)], [*ends, columns])
        self.spans = [run for run in runs if run.start < run.stop]
        self.numbers = columns - len(categories)
        how = {"dtype": dtype, "generator": generator}
        self.tables = {
            str(column): Embedding(categories[column], widths[column], **how) for column in sorted(categories)
        }
        self.width = self.numbers + sum(widths[column] for column in categories)

    def forward(self, x: Array) -> Array:
        """Return the features, (N, width), of rows x, (N, F)."""
        if x.ndim != 2 or x.shape[1] != self.columns:
            raise ShapeError(f"{self!r}: expected rows of shape (N, {self.columns}), got {x.shape}")
        parts = [cast_input(self, self._numbers(x), namespace(x).empty(0, dtype=self.dtype))]
        for column, table in self.tables.items():
            parts.append(table.forward(self._codes(x, int(column), table.num_embeddings)))  # (N, widths[column])
        return namespace(x).concatenate(parts, axis=1)  # (N, width)

    def backward(self, dy: Array) -> Array:
        """Add to the gradients of the tables; return dx, in which codes have 0."""
        xp = namespace(dy)
        dx = xp.zeros((len(dy), self.columns), dtype=dy.dtype)  # (N, F)
        self._put_numbers(dx, dy[:, : self.numbers])
        for table, part in zip(self.tables.values(), self._parts(dy)[1:], strict=True):
            table.backward(xp.ascontiguousarray(part))
        return dx

    def by_column(self, values: Array) -> Array:
        """Add up values of the features, (N, width), to one for each column of the table, (N, F)."""
        total = namespace(values).zeros((len(values), self.columns), dtype=values.dtype)
        numbers, *others = self._parts(values)
        self._put_numbers(total, numbers)
        for column, part in zip(self.tables, others, strict=True):
            total[:, int(column)] = part.sum(axis=1)
        return total

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (width,)."""
        return (self.width,)

    def extra_repr(self) -> str:
        """Return the numbers of columns."""
        return f"{self.numbers} numbers, {len(self.tables)} of codes"

    def _numbers(self, x: Array) -> Array:
        """Return the columns of numbers, (N, numbers); by slices, as an array of indices would have to go to a GPU each time."""
        runs = [x[:, run] for run in self.spans]
        return namespace(x).concatenate(runs, axis=1) if runs else x[:, :0]

    def _put_numbers(self, table: Array, numbers: Array) -> None:
        """Write the columns of numbers into their places in a table, (N, F)."""
        at = 0
        for run in self.spans:
            table[:, run] = numbers[:, at : at + run.stop - run.start]
            at += run.stop - run.start

    def _parts(self, features: Array) -> list[Array]:
        """Cut features into the numbers, and the vectors of each column of codes."""
        ends = numpy.cumsum([self.numbers, *(table.embedding_dim for table in self.tables.values())])
        return [features[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _codes(self, x: Array, column: int, count: int) -> Array:
        given = x[:, column]
        wrong = (given < 0) | (given >= count) | (given != namespace(x).floor(given))

        def complain() -> NoReturn:
            row = int(wrong.argmax())
            raise DataError(
                f"{self!r}: column {column} holds codes from 0 to {count - 1}, but row {row} has {float(given[row]):g}"
            )

        refuse_any(wrong, complain)
        return given.astype("int64")


class TabularNetwork(Sequential):
    """Predict from the columns of a table, of which some hold numbers and some the codes of categories.

    Parameters
    ----------
    columns : int
        F, the number of columns.
    categories : mapping of int to int or sequence
        The columns of codes by their position: how many codes there are, or their names, as in ``Table.categories``.
    hidden : sequence of int, default (64, 32)
        The sizes of the hidden layers.
    outputs : int, default 1
        One logit for a decision between two, or one for each class.
    dropout : float, default 0.0
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial vectors; the generator of ``minidl.seed`` by default.

    Raises
    ------
    ParameterError
        If a column of codes is not in the table, or has no codes.

    Notes
    -----
    A column of V codes gets vectors of length min(50, (V + 1) // 2). Give the numbers standardised, or those of large
    magnitude drown the others.

    References
    ----------
    C. Guo, F. Berkhahn, "Entity embeddings of categorical variables" (2016), figure 1.

    Examples
    --------
    >>> model = TabularNetwork(3, {1: ("Oslo", "Rome", "Wien", "Zug")}, hidden=(8,))
    >>> model.forward(numpy.array([[0.5, 3, -1.0]], dtype="float32")).shape
    (1, 1)
    """

    def __init__(
        self,
        columns: int,
        categories: Mapping[int, int | Sequence[str]],
        hidden: Sequence[int] = (64, 32),
        outputs: int = 1,
        dropout: float = 0.0,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        codes = _count_codes(columns, categories)
        widths = {column: min(50, (count + 1) // 2) for column, count in codes.items()}
        features = ColumnFeatures(columns, codes, widths, dtype=dtype, generator=generator)
        body = mlp([features.width, *counts(hidden, "TabularNetwork", "hidden"), outputs], dropout=dropout, dtype=dtype)
        super().__init__({"features": features, "body": body})

    def explain(self, x: Array, baseline: Array, target: int = 0, steps: int = 32) -> numpy.ndarray:
        """Return how much each column adds to an output, beside the output for a baseline row, by integrated gradients.

        The vector of a code counts as a whole, so every column has one number. They add up to
        ``forward(x)[:, target] - forward(baseline)[target]``.

        Parameters
        ----------
        x : array, shape (N, F)
        baseline : array, shape (F,)
            A row to compare with, such as a typical customer.
        target : int, default 0
            Which output.
        steps : int, default 32
            Points on the way from the baseline to x.

        Returns
        -------
        numpy.ndarray, shape (N, F)
        """
        features = self[0]
        start = features.forward(namespace(x).asarray(baseline)[None])[0]
        added = integrated_gradients(self[1], features.forward(x), start, target=target, steps=steps)
        return features.by_column(added)


def _count_codes(columns: int, categories: Any) -> dict[int, int]:
    """Return how many codes each column of codes has, or raise."""
    if not isinstance(categories, Mapping):
        raise ParameterError(f"TabularNetwork: categories must be a dict of columns, got {shown(categories)}")
    if not is_count(columns, 1):
        raise ParameterError(f"TabularNetwork: columns must be at least 1, got {shown(columns)}")
    found = {}
    for column, codes in categories.items():
        count = len(codes) if isinstance(codes, Sequence) else codes
        if not (is_count(column) and column < columns and is_count(count, 1)):
            raise ParameterError(
                f"TabularNetwork: a column of codes must be from 0 to {columns - 1} and have at least one code, got "
                f"column {shown(column)} with {shown(count)}"
            )
        found[int(column)] = int(count)
    return found
