"""Tables from CSV files: numbers stay numbers, text becomes one-hot columns."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy

from minidl.data.files import LARGEST_TEXT, read_lines
from minidl.errors import DataError, DtypeError, FileFormatError, ParameterError, UnknownNameError

__all__ = ["Table", "read_csv"]

MISSING = frozenset({"", "?", "n/a", "na", "nan", "none", "null"})
"""The spellings of a missing value, in lower case."""


@dataclass(frozen=True)
class Table:
    """A table that was read from a file.

    Attributes
    ----------
    X : floating-point array, shape (N, F)
        The features.
    feature_names : tuple of str
        F names; ``"city=Rome"`` for the one-hot column of a text.
    y : array, shape (N,), or None
        The target: class indices (int64) if ``classes`` is given, else floating-point numbers.
    target_name : str or None
    classes : tuple of str, or None
        The names of the classes.
    """

    X: numpy.ndarray
    feature_names: tuple[str, ...]
    y: numpy.ndarray | None = None
    target_name: str | None = None
    classes: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        target = f", target {self.target_name!r}" if self.target_name is not None else ""
        classes = f" of {len(self.classes)} classes" if self.classes is not None else ""
        return f"<Table: {self.X.shape[0]} examples, {self.X.shape[1]} features{target}{classes}>"


def read_csv(
    path: str | os.PathLike[str],
    target: str | int | None = None,
    *,
    target_type: str = "auto",
    header: bool | None = None,
    delimiter: str = ",",
    missing: str = "error",
    categorical: Collection[str | int] = (),
    ignore: Collection[str | int] = (),
    max_categories: int = 100,
    dtype: Any = "float32",
    encoding: str = "utf-8-sig",
    max_bytes: int | None = LARGEST_TEXT,
) -> Table:
    r"""Read a table of features, and a target column if one is named.

    A column is numeric if every value in it is a number. It is text if none is, and then becomes one column of 0 and 1 for each
    of its values, in alphabetical order. A mixed column is an error, because it is usually a mistake in the file.

    Parameters
    ----------
    path : path
        A file of comma-separated values; one named ``*.gz``, ``*.bz2`` or ``*.xz`` is decompressed.
    target : str or int, optional
        The target column, by name or by position (from the end if negative).
    target_type : {"auto", "class", "number"}, default "auto"
        ``"auto"`` makes text classes and keeps numbers.
    header : bool, optional
        Whether the first row holds the names of the columns. By default it does if no cell in it is a number or missing.
        Without a header the names are ``"0"``, ``"1"`` ...
    delimiter : str, default ","
    missing : {"error", "drop", "fill"}, default "error"
        What to do about missing values (empty, NA, N/A, NaN, None, null or ?, in upper or lower case). ``"drop"`` skips the row.
        ``"fill"`` inserts the mean of the column, or its most frequent text, but never in the target.
    categorical : collection of str or int, default ()
        Numeric columns to treat as text: codes, such as postal codes, whose magnitude means nothing.
    ignore : collection of str or int, default ()
        Columns to skip.
    max_categories : int, default 100
        The number of different texts above which a feature is refused, because it is probably a name or an identifier.
    dtype : dtype, default "float32"
        Of X and of a numeric y.
    encoding : str, default "utf-8-sig"
    max_bytes : int or None, default 268435456
        The most bytes that a compressed file may become; None is no limit.

    Raises
    ------
    FileFormatError
        If the file is not a table: damaged, not text, empty, or with a row too short or too long. Names the line. Also if a
        compressed file becomes more than ``max_bytes``.
    DataError
        If a value cannot be used: missing, infinite, or text among numbers. Names the line and the column.
    UnknownNameError
        If there is no column of that name; lists the columns.
    ParameterError
        If an argument is not one of those above.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "rooms.csv")
    >>> _ = path.write_text("area,city,price\n50,Rome,200\n70,Oslo,310\n")
    >>> table = read_csv(path, target="price")
    >>> table.feature_names, table.X.tolist(), table.y.tolist()
    (('area', 'city=Oslo', 'city=Rome'), [[50.0, 0.0, 1.0], [70.0, 1.0, 0.0]], [200.0, 310.0])
    """
    if target_type not in ("auto", "class", "number"):
        raise ParameterError(f"read_csv: target_type must be 'auto', 'class' or 'number', got {target_type!r}")
    if missing not in ("error", "drop", "fill"):
        raise ParameterError(f"read_csv: missing must be 'error', 'drop' or 'fill', got {missing!r}")
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise ParameterError(
            f"read_csv: delimiter must be a single character, not a quote or the end of a line, got {delimiter!r}"
        )
    try:
        dtype = numpy.dtype(dtype)
    except TypeError as error:
        raise DtypeError(f"read_csv: dtype must be floating: {error}") from error
    if dtype.kind != "f":
        raise DtypeError(f"read_csv: dtype must be floating, got {dtype}")
    names, rows = _rows(os.fspath(path), read_lines(path, encoding, max_bytes), delimiter, header)
    left_out = {_position(names, column) for column in ignore}
    as_text = {_position(names, column) for column in categorical}
    at = None if target is None else _position(names, target)
    used = [index for index in range(len(names)) if index not in left_out or index == at]
    if missing == "drop":
        rows = [row for row in rows if not any(_is_missing(row.cells[index]) for index in used)]
        if not rows:
            raise DataError(f"{os.fspath(path)}: every row has a missing value")
    reader = _Reader(os.fspath(path), rows, missing, max_categories, numpy.dtype(dtype))
    parts, labels = [], []
    for index in used:
        if index != at:
            made, titles = reader.feature(names[index], index, index in as_text)
            parts.append(made)
            labels.extend(titles)
    if not parts:
        raise DataError(f"{os.fspath(path)}: there is no column to use as a feature")
    X = numpy.concatenate(parts, axis=1)  # (N, F)
    if at is None:
        return Table(X, tuple(labels))
    y, classes = reader.target(names[at], at, target_type)
    return Table(X, tuple(labels), y, names[at], classes)


@dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]


def _rows(path: str, lines: Iterable[str], delimiter: str, header: bool | None) -> tuple[list[str], list[_Row]]:
    """Return the names of the columns and the rows, each with the number of its first line."""
    rows: list[_Row] = []
    for row in _records(path, lines, delimiter):
        if rows and len(row.cells) != len(rows[0].cells):
            raise FileFormatError(
                f"{path}, line {row.line}: expected {len(rows[0].cells)} values, as on line {rows[0].line}, got "
                f"{len(row.cells)}"
            )
        rows.append(row)
    if not rows:
        raise FileFormatError(f"{path}: the file is empty")
    first = rows[0].cells
    if header is None:
        header = not any(_is_missing(cell) or _number(cell) is not None for cell in first)
    if not header:
        return [str(index) for index in range(len(first))], rows
    twice = [name for name, count in Counter(first).items() if count > 1]
    if twice:
        raise FileFormatError(f"{path}, line {rows[0].line}: two columns are named {twice[0]!r}")
    if len(rows) == 1:
        raise DataError(f"{path}: there is a header but no row; pass header=False if the first line holds values")
    return first, rows[1:]


def _records(path: str, lines: Iterable[str], delimiter: str) -> Iterator[_Row]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:  # not a blank line
                yield _Row(line, [cell.strip() for cell in cells])
            line = reader.line_num + 1
    except csv.Error as error:
        raise FileFormatError(f"{path}, line {line}: {error}") from error


def _position(names: list[str], column: str | int) -> int:
    if isinstance(column, str):
        if column in names:
            return names.index(column)
    elif isinstance(column, int) and not isinstance(column, bool) and -len(names) <= column < len(names):
        return column % len(names)
    raise UnknownNameError.among("column", column, names)


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _number(cell: str) -> float | None:
    """Return the number in a cell, or None."""
    if "_" in cell:  # Python would read 1_000
        return None
    try:
        return float(cell)
    except ValueError:
        return None


class _Reader:
    """Convert columns of cells to arrays; errors name the line."""

    def __init__(self, path: str, rows: list[_Row], missing: str, max_categories: int, dtype: numpy.dtype[Any]) -> None:
        self.path, self.rows, self.missing, self.max_categories, self.dtype = path, rows, missing, max_categories, dtype

    def feature(self, name: str, index: int, as_text: bool) -> tuple[numpy.ndarray, list[str]]:
        """Return the columns of X that this column of the file becomes, (N, 1) or (N, K), and their names."""
        numbers = None if as_text else self._numbers(name, index)
        if numbers is not None:
            values = self._fill(name, index, numbers, lambda known: math.fsum(known) / len(known))
            return self._array(name, values)[:, None], [name]  # (N, 1)
        texts: list[Any] = [None if _is_missing(row.cells[index]) else row.cells[index] for row in self.rows]
        texts = self._fill(name, index, texts, lambda known: min(Counter(known).items(), key=_most_frequent)[0])
        kinds = sorted(set(texts))
        if len(kinds) > self.max_categories:
            raise DataError(
                f"{self.path}: column {name!r} has {len(kinds)} different texts, such as {kinds[0]!r}; leave it out "
                f"with ignore=[{name!r}], or raise max_categories (numbers with a decimal comma are text, too)"
            )
        found = {kind: k for k, kind in enumerate(kinds)}
        hot = numpy.zeros((len(texts), len(kinds)), dtype=self.dtype)  # (N, K)
        hot[numpy.arange(len(texts)), [found[text] for text in texts]] = 1
        return hot, [f"{name}={kind}" for kind in kinds]

    def target(self, name: str, index: int, kind: str) -> tuple[numpy.ndarray, tuple[str, ...] | None]:
        """Return y and, if it holds class indices, the classes."""
        for row in self.rows:
            if _is_missing(row.cells[index]):
                raise DataError(
                    f"{self.path}, line {row.line}: the target {name!r} is missing; pass missing='drop' to leave such "
                    "rows out"
                )
        numbers = self._numbers(name, index, classes=kind == "class")
        if numbers is not None and kind != "class":
            return self._array(name, numbers), None
        if kind == "number":
            raise DataError(f"{self.path}: the target {name!r} is text, such as {self.rows[0].cells[index]!r}")
        values: list[Any] = [row.cells[index] for row in self.rows] if numbers is None else list(numbers)
        kinds = sorted(set(values))
        found = {kind: k for k, kind in enumerate(kinds)}
        classes = tuple(kind if isinstance(kind, str) else f"{kind:.15g}" for kind in kinds)
        return numpy.array([found[value] for value in values], dtype=numpy.int64), classes

    def _numbers(self, name: str, index: int, classes: bool = False) -> list[float | None] | None:
        """Return the column as numbers, None for missing ones; or None for a column of text."""
        numbers: list[float | None] = []
        number_at = text_at = None
        for row in self.rows:
            cell = row.cells[index]
            value = None if _is_missing(cell) else _number(cell)
            if value is not None:
                number_at = number_at or row
                if not math.isfinite(value):
                    raise DataError(
                        f"{self.path}, line {row.line}: column {name!r} holds {cell!r}, not a finite number"
                    )
            elif not _is_missing(cell):
                text_at = text_at or row
            numbers.append(value)
        if text_at is None and number_at is None:
            raise DataError(f"{self.path}: column {name!r} is empty; leave it out with ignore=[{name!r}]")
        if text_at is not None and number_at is not None and not classes:
            raise DataError(
                f"{self.path}, line {text_at.line}: column {name!r} holds {text_at.cells[index]!r}, but a number on "
                f"line {number_at.line}; correct the file, or pass categorical=[{name!r}] if its numbers are codes"
            )
        return numbers if text_at is None else None

    def _array(self, name: str, numbers: list[Any]) -> numpy.ndarray:
        """Return numbers as an array; raise if its dtype cannot hold them."""
        largest = max(numbers, key=abs)
        if abs(largest) > float(numpy.finfo(self.dtype).max):
            line = self.rows[numbers.index(largest)].line
            raise DataError(f"{self.path}, line {line}: column {name!r} holds {largest}, too large for {self.dtype}")
        return numpy.array(numbers, dtype=self.dtype)

    def _fill(self, name: str, index: int, values: list[Any], fill: Any) -> list[Any]:
        """Return the values with the missing ones filled in, or raise if they may not be."""
        if None not in values:
            return values
        if self.missing != "fill":
            line = self.rows[values.index(None)].line
            raise DataError(
                f"{self.path}, line {line}: column {name!r} has no value; pass missing='drop' to leave such rows "
                "out, or missing='fill'"
            )
        known = [value for value in values if value is not None]
        if not known:
            raise DataError(f"{self.path}: column {name!r} is empty; leave it out with ignore=[{name!r}]")
        instead = fill(known)
        return [instead if value is None else value for value in values]


def _most_frequent(item: tuple[str, int]) -> tuple[int, str]:
    """Sort by falling frequency, then alphabetically."""
    return -item[1], item[0]
