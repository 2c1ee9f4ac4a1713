"""Tables larger than memory: Parquet files, and folders of them, read by row groups into ``fit``.

The extra ``frames`` installs pyarrow. See docs/frames.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from minidl import random
from minidl.errors import (
    DataError,
    DtypeError,
    FileFormatError,
    MissingDependencyError,
    ParameterError,
    UnknownNameError,
)

try:
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet
    from pyarrow import types
except ImportError as error:
    raise MissingDependencyError.needs("minidl.interop.arrow", "pyarrow>=14", "frames") from error

__all__ = ["ParquetBatches"]

DECODED = 8192
"""Rows that are decoded at a time: a row group may be larger than memory."""

Arrays = tuple[numpy.ndarray, ...]


class ParquetBatches:
    """Batches (x, y) or (x, y, weights) of Parquet files, for ``fit``, ``evaluate`` and ``predict``; never more than a window.

    Each iteration is one pass over all rows. With ``shuffle`` the row groups come in a new random order, and a batch is drawn at
    random from a window of rows that is filled up with the rows that follow. A window as large as the table is a whole shuffle.
    The order depends on the seed and the number of the pass alone, and a checkpoint holds both: ``fit(..., resume=...)`` goes on
    with the batch that would have come next.

    Memory is needed for the window, ``window * (features + targets + weights)`` numbers, and for 8,192 decoded rows.

    Parameters
    ----------
    path : path or sequence of path
        A file, a folder whose files ``*.parquet`` are read in the order of their names, those of its folders too, or several.
        Columns written as names of folders (``year=2024``) are not read.
    target : str or sequence of str, optional
        The column of y, shape (N,), or the columns, shape (N, targets). Whole numbers, booleans and categories become int64,
        other numbers ``dtype``. Without one a batch is x alone, for ``predict``.
    features : sequence of str, optional
        The columns of x, in this order. All that are neither target nor weights unless given.
    weights : str, optional
        The column of sample weights.
    batch_size : int, default 32
        The last batch of a pass may be smaller.
    shuffle : bool, default True
        Whether to mix the rows. Without it they keep their order, as ``predict`` and ``evaluate`` want it.
    window : int, default 100000
        Rows to draw from; rounded to whole batches.
    seed : int, optional
        Of the order. Drawn from the generator of ``minidl.seed`` unless given.
    dtype : {"float32", "float64"}, default "float32"
        Of x. Whole numbers that float32 would round are an error.
    categories : mapping of str to sequence, optional
        Columns that hold categories, and all values in order. A feature becomes one column of 0 and 1 for each value, a target
        class indices. A value that is not listed is an error.
    fill : number, or mapping of str to value, optional
        What to put for missing values (null and nan) of features, or of some features. They are an error unless given.
    transform : callable, optional
        Applied to each x, such as ``Standardizer.transform``.

    Attributes
    ----------
    feature_names : tuple of str
        Of the columns of x; ``"city=Rome"`` for a category.
    rows : int
        Of all files, from their metadata.

    Raises
    ------
    DataError
        If a value is missing or cannot be used, when it is read. Names the file, the row group and the row, counted from 0.
    DtypeError
        If a column is text, a date or something else that is no number. Names the column.
    FileFormatError
        If a file is no Parquet file, or has not the columns of the first.
    ParameterError, UnknownNameError
        If an argument is not one of those above, or there is no such column.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "rooms.parquet")
    >>> table = pyarrow.table({"area": [50, 70, 30], "city": ["Rome", "Oslo", "Rome"], "price": [200.0, 310.0, 90.0]})
    >>> pyarrow.parquet.write_table(table, path)
    >>> batches = ParquetBatches(
    ...     path, target="price", categories={"city": ["Oslo", "Rome"]}, batch_size=2, shuffle=False
    ... )
    >>> batches
    <ParquetBatches: 3 rows, 3 features, 2 batches of 2>
    >>> [(x.tolist(), y.tolist()) for x, y in batches]
    [([[50.0, 0.0, 1.0], [70.0, 1.0, 0.0]], [200.0, 310.0]), ([[30.0, 0.0, 1.0]], [90.0])]
    """

    def __init__(
        self,
        path: Any,
        *,
        target: str | Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        weights: str | None = None,
        batch_size: int = 32,
        shuffle: bool = True,
        window: int = 100_000,
        seed: int | None = None,
        dtype: Any = "float32",
        categories: Mapping[str, Sequence[Any]] | None = None,
        fill: Any = None,
        transform: Callable[[numpy.ndarray], Any] | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("window", window)):
            if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)) or value < 1:
                raise ParameterError(f"ParquetBatches: {name} must be an integer of at least 1, got {value!r}")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, numpy.integer)) or seed < 0):
            raise ParameterError(f"ParquetBatches: seed must be an integer of at least 0, got {seed!r}")
        if dtype not in ("float32", "float64", numpy.float32, numpy.float64):
            raise DtypeError(f"ParquetBatches: dtype must be 'float32' or 'float64', got {dtype!r}")
        self.batch_size, self.shuffle, self.window = int(batch_size), bool(shuffle), int(window)
        self.dtype, self.transform = numpy.dtype(dtype), transform
        self._files = _files(path)
        self._metadata = [_metadata(file) for file in self._files]
        self._groups = [
            _Group(file, group, data.row_group(group).num_rows)
            for file, data in enumerate(self._metadata)
            for group in range(data.num_row_groups)
        ]
        self.rows = sum(group.rows for group in self._groups)
        if not self.rows:
            raise DataError(f"ParquetBatches: {self._files[0]}: there are no rows")
        self._plan(target, features, weights, categories or {}, fill)
        self.seed = int(random.generator().integers(2**32)) if seed is None else int(seed)
        self.passes = 0  # that have begun

    def __len__(self) -> int:
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        generator = numpy.random.default_rng([self.seed, self.passes]) if self.shuffle else None
        self.passes += 1
        return self._batches(generator)

    def __repr__(self) -> str:
        return (
            f"<ParquetBatches: {self.rows} rows, {len(self.feature_names)} features, {len(self)} batches of "
            f"{self.batch_size}>"
        )

    def state_dict(self) -> dict[str, int]:
        """Return the seed and the number of passes that have begun, on which the order of the next one depends."""
        return {"seed": self.seed, "passes": self.passes}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on with the pass after those of a :meth:`state_dict`.

        Raises
        ------
        ParameterError
            If it is none.
        """
        if set(state) != {"seed", "passes"}:
            raise ParameterError(f"ParquetBatches: expected a state of seed and passes, got {', '.join(state)}")
        self.seed, self.passes = int(state["seed"]), int(state["passes"])

    # columns ----------------------------------------------------------------------------------------------------------

    def _plan(self, target: Any, features: Any, weights: Any, categories: Mapping[str, Any], fill: Any) -> None:
        """Decide what each column becomes, from the schema, before any row is read."""
        schema = self._metadata[0].schema.to_arrow_schema()
        targets = [target] if isinstance(target, str) else list(target or ())
        others = {*targets, weights}
        given = [name for name in schema.names if name not in others] if features is None else list(features)
        named = [*given, *targets, *([] if weights is None else [weights])]
        for name in [*named, *categories, *(fill if isinstance(fill, Mapping) else ())]:
            if name not in schema.names:
                raise UnknownNameError.among("column", name, schema.names)
        twice = [name for name in named if named.count(name) > 1]
        if twice:
            raise ParameterError(
                f"ParquetBatches: column {twice[0]!r} is asked for twice, as {twice.count(twice[0])} things"
            )
        if not given:
            raise ParameterError("ParquetBatches: there is no column to use as a feature")
        if weights is not None and not targets:
            raise ParameterError("ParquetBatches: weights belong to targets; name a target, or leave out the weights")
        for file, data in zip(self._files, self._metadata, strict=True):
            _check_schema(file, data.schema.to_arrow_schema(), schema, named)
        fills = dict(fill) if isinstance(fill, Mapping) else {}
        columns = {}
        for name in named:
            values = None if name not in categories else tuple(categories[name])
            default = None if isinstance(fill, Mapping) or values is not None else fill
            own = fills.get(name, default) if name in given else None
            columns[name] = _Column(self._files[0], schema.field(name), values, own, self.dtype, name in given)
        self._features = [columns[name] for name in given]
        self._targets = [columns[name] for name in targets]
        self._weights = None if weights is None else columns[weights]
        self._names = named
        self._flat = isinstance(target, str)
        self.feature_names = tuple(label for column in self._features for label in column.labels)

    # rows -------------------------------------------------------------------------------------------------------------

    def _batches(self, generator: numpy.random.Generator | None) -> Iterator[Any]:
        pieces = _cut(self._blocks(generator), self.batch_size)
        if generator is not None:
            window = max(self.window // self.batch_size, 1) * self.batch_size
            pieces = _mixed(pieces, self.batch_size, min(window, len(self) * self.batch_size), generator)
        for x, *rest in pieces:
            inputs = x if self.transform is None else self.transform(x)
            yield (inputs, *rest) if rest else inputs

    def _blocks(self, generator: numpy.random.Generator | None) -> Iterator[Arrays]:
        """Go through the row groups and yield their rows as arrays, a few thousand at a time."""
        order = range(len(self._groups)) if generator is None else generator.permutation(len(self._groups))
        for group in (self._groups[index] for index in order):
            path, at = self._files[group.file], 0
            try:
                with pyarrow.parquet.ParquetFile(
                    path, metadata=self._metadata[group.file], buffer_size=1 << 16, pre_buffer=False
                ) as file:
                    for batch in file.iter_batches(DECODED, [group.number], self._names, use_threads=False):
                        yield self._arrays(batch, f"{path}, row group {group.number}", at)
                        at += batch.num_rows
            except (pyarrow.ArrowException, OSError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                raise FileFormatError(f"{path}, row group {group.number}: cannot be read: {error}") from error

    def _arrays(self, batch: Any, place: str, at: int) -> Arrays:
        """Return x, y and weights of rows as Arrow has them."""
        x = numpy.empty((batch.num_rows, len(self.feature_names)), dtype=self.dtype)  # (N, F)
        first = 0
        for column in self._features:
            values = column.read_exactly(batch.column(column.name), place, at)
            last = first + len(column.labels)
            if column.values is None:
                x[:, first] = values
            else:
                x[:, first:last] = values[:, None] == numpy.arange(len(column.labels))
            first = last
        found = [x]
        if self._targets:
            y = [self._target(column, batch, place, at) for column in self._targets]
            found.append(y[0] if self._flat else numpy.stack(y, axis=1))  # (N,) or (N, targets)
        if self._weights is not None:
            found.append(self._weights.read(batch.column(self._weights.name), place, at).astype(self.dtype))
        return tuple(found)

    def _target(self, column: _Column, batch: Any, place: str, at: int) -> numpy.ndarray:
        values = column.read(batch.column(column.name), place, at)
        return values.astype(self.dtype if values.dtype.kind == "f" else numpy.int64)


class _Group(NamedTuple):
    file: int
    number: int
    rows: int


class _Column:
    """How a column becomes numbers."""

    def __init__(
        self,
        path: str,
        field: Any,
        values: tuple[Any, ...] | None,
        fill: Any,
        dtype: numpy.dtype[Any],
        fillable: bool,
    ) -> None:
        self.name, self.values, self.fill, self.dtype, self.fillable = field.name, values, fill, dtype, fillable
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        self.labels: tuple[str, ...] = (self.name,)
        if values is not None:
            self.labels = tuple(f"{self.name}={value}" for value in values)
            try:
                self._set = pyarrow.array(values, type=kind)
            except (pyarrow.ArrowException, TypeError, ValueError) as error:
                raise ParameterError(
                    f"ParquetBatches: the categories of {self.name!r} are no values of its type, {kind}: {error}"
                ) from error
            if fill is not None and fill not in values:
                raise ParameterError(f"ParquetBatches: fill={fill!r} of {self.name!r} is none of its categories")
            return
        self.whole = types.is_integer(kind) or types.is_boolean(kind)
        if not (self.whole or types.is_floating(kind) or types.is_decimal(kind)):
            raise DtypeError(f"{path}: column {self.name!r} holds {kind}, no numbers; {_advice(self.name, kind)}")
        if fill is not None and (isinstance(fill, (str, bool)) or not numpy.isfinite(fill)):
            raise ParameterError(f"ParquetBatches: fill of {self.name!r} must be a finite number, got {fill!r}")

    def read(self, array: Any, place: str, at: int) -> numpy.ndarray:
        """Return whole numbers, codes of categories (int64) or floating numbers, shape (N,), as they are in the file."""
        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if self.values is not None:
            return self._codes(array, place, at)
        if types.is_boolean(array.type):
            array = array.cast(pyarrow.uint8())
        elif types.is_decimal(array.type):
            array = array.cast(pyarrow.float64())
        values: numpy.ndarray = array.to_numpy(zero_copy_only=False)  # floating, and nan for null, if there are nulls
        if values.dtype.kind != "f":
            return values
        finite = numpy.isfinite(values)
        if finite.all():
            return values
        empty = numpy.isnan(values)
        if self.fill is None and empty.any():
            raise self._missing(empty, place, at)
        if not (finite | empty).all():
            row = int((finite | empty).argmin())
            raise DataError(f"{place}, row {at + row}: column {self.name!r} holds {values[row]}, not a finite number")
        return numpy.where(empty, self.fill, values)

    def read_exactly(self, array: Any, place: str, at: int) -> numpy.ndarray:
        """Return what :meth:`read` returns in the dtype of the features, if it holds that."""
        values = self.read(array, place, at)
        if self.values is not None or values.dtype == self.dtype:
            return values
        with numpy.errstate(over="ignore"):
            found = values.astype(self.dtype)
        wrong = found != values if self.whole else ~numpy.isfinite(found)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{place}, row {at + row}: column {self.name!r} holds {values[row]}, which {self.dtype} "
                f"{'rounds' if self.whole else 'cannot hold'}; {self._wider()}"
            )
        return found

    def _wider(self) -> str:
        if self.dtype == numpy.float32:
            return "pass dtype='float64', with a transform that standardises, or leave the column out"
        return "leave the column out"

    def _codes(self, array: Any, place: str, at: int) -> numpy.ndarray:
        if array.null_count:
            if self.fill is None:
                raise self._missing(array.is_null().to_numpy(zero_copy_only=False), place, at)
            array = array.fill_null(pyarrow.scalar(self.fill, type=array.type))
        found = pyarrow.compute.index_in(array, value_set=self._set.cast(array.type))
        if found.null_count:
            row = int(found.is_null().to_numpy(zero_copy_only=False).argmax())
            raise DataError(
                f"{place}, row {at + row}: column {self.name!r} holds {array[row].as_py()!r}, which is none of its "
                f"{len(self.labels)} categories"
            )
        return found.to_numpy().astype(numpy.int64)

    def _missing(self, empty: numpy.ndarray, place: str, at: int) -> DataError:
        advice = f"; pass fill={{{self.name!r}: ...}} to put a value there" if self.fillable else ""
        return DataError(f"{place}, row {at + int(empty.argmax())}: column {self.name!r} has no value{advice}")


def _advice(name: str, kind: Any) -> str:
    """Return what to do about a column that is no number."""
    if types.is_temporal(kind):
        return "subtract a first date, divide by a unit and write numbers, or leave the column out"
    return f"leave the column out, or pass categories={{{name!r}: [...]}} with all its values"


# files ----------------------------------------------------------------------------------------------------------------


def _files(path: Any) -> list[str]:
    """Return the files of a path, a folder or several, in the order of their names."""
    found: list[str] = []
    for part in [path] if isinstance(path, (str, os.PathLike)) else list(path):
        if Path(part).is_dir():
            inside = sorted(Path(part).rglob("*.parquet"))
            if not inside:
                raise DataError(f"ParquetBatches: {os.fspath(part)}: there is no file *.parquet in the folder")
            found += map(str, inside)
        else:
            found.append(os.fspath(part))
    if not found:
        raise DataError("ParquetBatches: path names no file")
    return found


def _metadata(file: str) -> Any:
    try:
        return pyarrow.parquet.read_metadata(file)
    except FileNotFoundError:
        raise
    except (pyarrow.ArrowException, OSError) as error:
        raise FileFormatError(f"{file}: this is no Parquet file, or a damaged one: {error}") from error


def _check_schema(file: str, schema: Any, first: Any, names: Iterable[str]) -> None:
    """Raise FileFormatError unless a file has the columns that are used, of the types of the first file."""
    for name in names:
        if name not in schema.names:
            raise FileFormatError(f"{file}: there is no column {name!r}, which the first file has")
        if schema.field(name).type != first.field(name).type:
            raise FileFormatError(
                f"{file}: column {name!r} is {schema.field(name).type}, but {first.field(name).type} in the first file"
            )


# order ----------------------------------------------------------------------------------------------------------------


def _cut(blocks: Iterator[Arrays], size: int) -> Iterator[Arrays]:
    """Yield the rows of blocks in pieces of one size; the last one may be smaller."""
    rest: Arrays = ()
    for block in blocks:
        if rest and len(rest[0]):
            block = tuple(numpy.concatenate(pair) for pair in zip(rest, block, strict=True))
        whole = len(block[0]) // size * size
        for at in range(0, whole, size):
            yield tuple(array[at : at + size] for array in block)
        rest = tuple(array[whole:] for array in block)
    if rest and len(rest[0]):
        yield rest


def _mixed(pieces: Iterator[Arrays], size: int, window: int, generator: numpy.random.Generator) -> Iterator[Arrays]:
    """Yield pieces of random rows out of a window; the next piece takes the place of those that left it."""
    held: Arrays = ()
    count = 0
    for piece in pieces:
        rows = len(piece[0])
        if not held:
            held = tuple(numpy.empty((window + size, *array.shape[1:]), array.dtype) for array in piece)
        if count < window or rows < size:  # fill the window; a last, short piece goes behind it
            for array, new in zip(held, piece, strict=True):
                array[count : count + rows] = new
            count += rows
            continue
        chosen = generator.choice(window, size, replace=False)
        yield tuple(array[chosen] for array in held)
        for array, new in zip(held, piece, strict=True):
            array[chosen] = new
    order = generator.permutation(count)
    for at in range(0, count, size):
        yield tuple(array[order[at : at + size]] for array in held)
