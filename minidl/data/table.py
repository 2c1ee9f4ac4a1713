"""Tables from CSV files: numbers stay numbers, text becomes one-hot columns, and a report says what was taken for what."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, islice
from typing import Any, NamedTuple

import numpy

from minidl.data.blocks import split_block
from minidl.data.cells import NUMBER, Missing, Notation
from minidl.data.columns import Column, Lines, Reading
from minidl.data.files import LARGEST_TEXT, read_lines
from minidl.data.tabular import Table, assemble, check_settings, dropped_note, position_of
from minidl.errors import DataError, FileFormatError, ParameterError
from minidl.ops._scalars import scalars_checked

__all__ = ["read_csv"]

MISSING = frozenset({"", "?", "n/a", "na", "nan", "none", "null"})
"""The spellings of a missing value, in lower case."""
BLOCK = 1024
"""Rows that are converted at a time."""
CELLS = 16 * BLOCK
"""Cells that are converted at a time, so that many columns need no more memory."""
YEARS = range(1900, 2101)
"""Numbers that may be names of columns."""


@scalars_checked
def read_csv(
    path: str | os.PathLike[str],
    target: str | int | None = None,
    *,
    target_type: str = "auto",
    header: bool | None = None,
    delimiter: str = ",",
    missing: str = "error",
    categorical: Collection[str | int] = (),
    text: str = "one-hot",
    ignore: Collection[str | int] = (),
    max_categories: int = 100,
    dtype: Any = None,
    encoding: str | None = "utf-8-sig",
    decimal: str = ".",
    thousands: str | None = None,
    na_values: Any = (),
    keep_default_na: bool = True,
    missing_values: Any = None,
    parse_dates: Collection[str | int] = (),
    date_format: str | None = None,
    max_bytes: int | None = LARGEST_TEXT,
) -> Table:
    r"""Read a table of features, and a target column if one is named.

    A column is numeric if every value in it is a number. It is text if none is, and then becomes one column of 0 and 1 for each
    of its values, in alphabetical order. A mixed column is an error, because it is usually a mistake in the file. So is a column
    that can be read in two ways. ``Table.report`` says what each column was taken for. See docs/tables.md for all rules.

    The file is read in blocks, and memory is needed for the numbers, not for the text.

    Parameters
    ----------
    path : path
        A file of comma-separated values. One named ``*.gz``, ``*.bz2`` or ``*.xz`` (or ``*.GZ``), or that begins as such files
        do, is decompressed.
    target : str or int, optional
        The target column, by name or by position (from the end if negative).
    target_type : {"auto", "class", "number"}, default "auto"
        ``"auto"`` makes text and booleans classes and keeps numbers.
    header : bool, optional
        Whether the first row holds the names of the columns. By default it does if no cell in it is a number or missing. The
        first cell may be empty, as pandas writes it; that column is an index and is left out. Without a header the names are
        ``"0"``, ``"1"`` ...
    delimiter : str, default ","
        Blanks after it are left out.
    missing : {"error", "drop", "fill"}, default "error"
        What to do about missing values (empty, NA, N/A, NaN, None, null or ?, in upper or lower case). ``"drop"`` skips the row.
        ``"fill"`` inserts the mean of the column, or its most frequent text, but never in the target.
    categorical : collection of str or int, default ()
        Numeric columns to treat as text: codes, such as postal codes, whose magnitude means nothing.
    text : {"one-hot", "codes"}, default "one-hot"
        Whether a column of text becomes one column for each of its values, or a single column of their numbers from 0, which an
        embedding looks up.
    ignore : collection of str or int, default ()
        Columns to skip.
    max_categories : int, default 100
        The number of different texts above which a feature is refused, because it is probably a name or an identifier.
    dtype : dtype, optional
        Of X and of a numeric y. By default float32, or float64 if a column would lose digits that matter: whole numbers above
        2^24, or timestamps close to each other. ``Standardizer`` makes float64 small enough for float32.
    encoding : str or None, default "utf-8-sig"
        None is the encoding that the system prefers.
    decimal : str, default "."
        The sign before the fraction.
    thousands : str, optional
        The sign between groups of three digits.
    na_values : collection of str or number, or dict of column to such, default ()
        Further texts that mean missing, exactly as written; of a dict only in those columns.
    keep_default_na : bool, default True
        Whether the spellings listed under ``missing`` count. With False, NA may be Namibia.
    missing_values : collection of str, optional
        All texts that mean missing, in place of ``na_values`` and the default spellings.
    parse_dates : collection of str or int, default ()
        Columns of dates, to be read as seconds since 1970. Without a time zone UTC is assumed.
    date_format : str, optional
        Of these dates, as for ``strptime``; ISO 8601 unless given.
    max_bytes : int or None, default 268435456
        The most bytes that a compressed file may become; None is no limit.

    Raises
    ------
    FileFormatError
        If the file is not a table: damaged, not text, empty, or with a row too short or too long. Names the line. Also if a
        compressed file becomes more than ``max_bytes``.
    DataError
        If a value cannot be used: missing, infinite, text among numbers, or readable in two ways. Names the line and the column.
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
    >>> print(table.report)
    column   taken for        because
    'area'   number           every value is a number
    'city'   text, 2 columns  no value is a number
    'price'  target: number   every value is a number
    note: the first row is the header: no cell in it is a number
    """
    notation = Notation(decimal, thousands)
    check_settings("read_csv", target_type, missing, text, dtype)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ParameterError(f"read_csv: delimiter must be a single character, got {delimiter!r}")
    where = os.fspath(path)
    reader = _Reader(where, read_lines(path, encoding, max_bytes), delimiter)
    start = _start(where, reader.begin(), header, notation, delimiter)
    names = start.names
    dates = {position_of(names, column) for column in parse_dates}
    as_text = {position_of(names, column) for column in categorical}
    at = None if target is None else position_of(names, target)
    left_out = {position_of(names, column): "asked for" for column in ignore}
    for index, reason in start.useless.items():
        if index not in as_text | dates | {at}:
            left_out.setdefault(index, reason)
    is_missing = _missing(names, na_values, keep_default_na, missing_values)
    columns = {
        index: Column(
            where,
            name,
            notation,
            is_missing[index],
            index in as_text if index != at else target_type == "class",
            index == at,
            index in dates,
            date_format,
            max_categories,
        )
        for index, name in enumerate(names)
        if index not in left_out or index == at
    }
    lines, dropped, without = _fill_columns(columns, chain([_block_of(start.rows)], reader.blocks()), missing == "drop")
    if not lines.count:
        raise DataError(f"{where}: every row has a missing value")
    readings = {index: column.finish(lines, missing == "fill") for index, column in columns.items()}
    for index in [index for index in readings if index != at and index not in as_text]:
        if _is_written_index(names[index], readings[index]):
            left_out[index] = "an index, as pandas names it when it reads a file of its own again"
            del readings[index]
    notes = [start.note, *dropped_note(dropped, without)]
    return assemble(where, names, readings, left_out, at, target_type, dtype, lines, notes, text == "codes")


def _missing(names: list[str], na_values: Any, keep_default_na: bool, missing_values: Any) -> list[Missing]:
    """Return for each column which cells hold no value."""

    def listed(given: Any) -> tuple[Any, ...]:
        return (given,) if isinstance(given, (str, int, float)) else tuple(given)

    if missing_values is not None:
        return [Missing(listed(missing_values), frozenset())] * len(names)
    spellings = MISSING if keep_default_na else frozenset()
    if isinstance(na_values, Mapping):
        own = {position_of(names, column): listed(texts) for column, texts in na_values.items()}
        return [Missing(own.get(index, ()), spellings) for index in range(len(names))]
    return [Missing(listed(na_values), spellings)] * len(names)


# rows -----------------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    line: int
    cells: list[str]


class _Start(NamedTuple):
    """What is known before the first value is read."""

    names: list[str]
    rows: list[_Row]
    note: str
    useless: dict[int, str]  # columns to leave out, and why


class _Block(NamedTuple):
    """Some rows: the number of the first line of each, and the cells of each column."""

    lines: Sequence[int]
    columns: Sequence[Sequence[str]]


class _Reader:
    """Read rows block by block; all have as many cells as the first."""

    def __init__(self, path: str, text: Iterator[str], delimiter: str) -> None:
        self.path, self.text, self.delimiter = path, text, delimiter
        self.line = 1  # the next
        self.first: _Row | None = None

    def begin(self) -> list[_Row]:
        """Return the first rows, at least two if there are as many."""
        rows: list[_Row] = []
        while len(rows) < 2 and (lines := list(islice(self.text, BLOCK))):
            rows += self._rows(lines)
        return rows

    def blocks(self) -> Iterator[_Block]:
        """Yield the other rows: in bulk where that reads the same as the csv module."""
        assert self.first is not None
        columns = len(self.first.cells)
        size = min(BLOCK, max(CELLS // columns, 64))
        while lines := list(islice(self.text, size)):
            cells = split_block(lines, columns, self.delimiter)
            if cells is not None:
                yield _Block(range(self.line, self.line + len(lines)), cells)
                self.line += len(lines)
            elif rows := self._rows(lines):
                yield _block_of(rows)

    def _rows(self, lines: list[str]) -> list[_Row]:
        """Return the rows of some lines, and of those after them that belong to the last row."""
        text = chain(lines, self.text)
        skip = self.delimiter != " "
        reader = csv.reader(text, delimiter=self.delimiter, strict=True, skipinitialspace=skip)
        begin, found = self.line, []
        try:
            for cells in reader:
                first = self.first
                blank = not cells or (
                    first is not None and len(first.cells) > 1 and len(cells) == 1 and not cells[0].strip()
                )
                if not blank:
                    row = _Row(self.line, cells)
                    self.first = first = first or row
                    if len(cells) != len(first.cells):
                        raise FileFormatError(
                            f"{self.path}, line {self.line}: expected {len(first.cells)} values, as on line {first.line}, got "
                            f"{len(cells)}{_other_delimiter(first.cells, self.delimiter)}"
                        )
                    found.append(row)
                self.line = begin + reader.line_num
                if reader.line_num >= len(lines):
                    break
        except csv.Error as error:
            raise FileFormatError(f"{self.path}, line {self.line}: {error}") from error
        return found


def _block_of(rows: Sequence[_Row]) -> _Block:
    return _Block([row.line for row in rows], list(zip(*(row.cells for row in rows), strict=True)))


def _other_delimiter(first: list[str], delimiter: str) -> str:
    """Return advice if the first row suggests another delimiter."""
    found = [sign for sign in ";\t|" if sign != delimiter and len(first) <= sum(sign in cell for cell in first)]
    return (
        f"; the first line holds {found[0]!r}: if that is the delimiter, pass delimiter={found[0]!r}" if found else ""
    )


def _start(path: str, begin: list[_Row], header: bool | None, notation: Notation, delimiter: str) -> _Start:
    """Decide about the header, by the first rows."""
    if not begin:
        raise FileFormatError(f"{path}: the file is empty")
    first = [cell.strip() for cell in begin[0].cells]
    if len(first) == 1 and all(_other_delimiter(row.cells, delimiter) for row in begin):
        raise FileFormatError(f"{path}: there is a single column{_other_delimiter(first, delimiter)}")
    found, note = (header, "asked for") if header is not None else _find_header(path, first, begin[1:], notation)
    if not found:
        note = f"there is no header, and the columns are numbered: {note}"
        return _Start([str(index) for index in range(len(first))], begin, note, {})
    unnamed = [index for index, name in enumerate(first) if not name]
    useless = {}
    if unnamed == [0] and len(first) > 1:
        useless[0] = "it has no name: an index, as pandas writes it"
    elif len(first) - 1 in unnamed and not any(row.cells[-1].strip() for row in begin[1:]):
        useless[len(first) - 1] = "it has no name and no values: each line ends in the delimiter"
    twice = [name for name, count in Counter(first).items() if count > 1]
    if twice:
        raise FileFormatError(f"{path}, line {begin[0].line}: two columns are named {twice[0]!r}")
    if len(begin) == 1:
        raise DataError(f"{path}: there is a header but no row; pass header=False if the first line holds values")
    return _Start(first, begin[1:], f"the first row is the header: {note}", useless)


def _find_header(path: str, first: list[str], others: list[_Row], notation: Notation) -> tuple[bool, str]:
    """Return whether the first row holds the names, and why."""

    def is_empty(index: int) -> bool:
        return not any(row.cells[index].strip() for row in others)

    numbers = [notation.number(cell) if cell else None for cell in first]
    if not any(number is not None for number in numbers):
        blank = [index for index, cell in enumerate(first) if cell.lower() in MISSING]
        if not blank:
            return True, "no cell in it is a number"
        if (
            len(first) > 1
            and (blank == [0] or (blank == [len(first) - 1] and is_empty(blank[0])))
            and not first[blank[0]]
        ):
            return True, f"no cell in it is a number, and only the {'first' if blank == [0] else 'last'} is empty"
        return False, f"a cell in the first row, {first[blank[0]]!r}, means a missing value"
    if (
        others
        and _like_names(numbers)
        and not any(
            _like_names([notation.number(cell.strip()) if cell.strip() else None for cell in row.cells])
            for row in others
        )
    ):
        raise DataError(
            f"{path}: the first row, {', '.join(first[:8])}, may hold names or values; pass header=True or header=False"
        )
    value = next(cell for cell, number in zip(first, numbers, strict=True) if number is not None)
    return False, f"a cell in the first row, {value!r}, is a number"


def _like_names(numbers: Sequence[float | None]) -> bool:
    """Whether the numbers in a row look like names of columns: 0, 1, 2 ..., or years."""
    known = [number for number in numbers if number is not None]
    if not known or len(set(known)) < len(known):
        return False
    counted = len(known) > 1 and known == list(range(len(known)))
    return counted or all(number in YEARS for number in known)


def _fill_columns(columns: dict[int, Column], blocks: Iterable[_Block], drop: bool) -> tuple[Lines, int, Counter[str]]:
    """Hand the cells to the columns, block by block; return the lines of the rows, how many were left out, and for which."""
    lines, dropped, without = Lines(), 0, Counter[str]()
    for numbers, cells in blocks:
        if drop:
            found = {column.name: column.blanks(cells[index]) for index, column in columns.items()}
            blanks = {name: blank for name, blank in found.items() if blank is not None}
            if blanks:
                keep = [not any(row) for row in zip(*blanks.values(), strict=True)]
                dropped += keep.count(False)
                without.update({name: sum(blank) for name, blank in blanks.items()})
                numbers = list(compress(numbers, keep))
                cells = [tuple(compress(column, keep)) for column in cells]
        if numbers:
            lines.extend(numbers)
            for index, column in columns.items():
                column.take(cells[index], numbers)
    return lines, dropped, without


def _is_written_index(name: str, reading: Reading) -> bool:
    """Whether a column is an index that was written, read as "Unnamed: 0" and written again: whole numbers that rise."""
    if reading.kind != NUMBER or reading.values is None or re.fullmatch(r"Unnamed: \d+", name) is None:
        return False
    values = reading.values
    return bool((values == numpy.floor(values)).all() and (numpy.diff(values) > 0).all())
