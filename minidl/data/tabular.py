"""What a file or a data frame becomes: a table of numbers, and a report of what each column was taken for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy

from minidl.data.cells import BOOLEAN, TEXT
from minidl.data.columns import Lines, Reading
from minidl.data.duplicates import find_duplicates
from minidl.errors import DataError, DtypeError, ParameterError, UnknownNameError

__all__ = ["ColumnReport", "Table", "assemble", "check_settings", "dropped_note", "position_of"]


class ColumnReport(NamedTuple):
    """What ``read_csv`` took a column for.

    Attributes
    ----------
    name : str
    taken_for : str
        ``"number"``, ``"text, 3 columns"``, ``"target: 2 classes"``, ``"left out"`` and so on.
    reason : str
    """

    name: str
    taken_for: str
    reason: str


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
    categories : dict of int to tuple of str
        With ``text="codes"``: the columns of X that hold codes, and the text that each code stands for.
    columns : tuple of ColumnReport
        What each column of the file was taken for, and why.
    notes : tuple of str
        What was decided about the table as a whole: its header, its dtype, rows that were left out.
    """

    X: numpy.ndarray
    feature_names: tuple[str, ...]
    y: numpy.ndarray | None = None
    target_name: str | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[ColumnReport, ...] = ()
    notes: tuple[str, ...] = ()
    categories: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def report(self) -> str:
        """Describe all columns, as text to print, with the notes below."""
        rows = [("column", "taken for", "because"), *((repr(name), *rest) for name, *rest in self.columns)]
        widths = [max(len(row[k]) for row in rows) for k in (0, 1)]
        lines = [f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}".rstrip() for row in rows]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def without_duplicates(self) -> Table:
        """Return the table without the rows that repeat an earlier one, features and target; a note says how many.

        Rows with equal features but another target stay, and a note says how many: no model can tell them apart.

        Examples
        --------
        >>> table = Table(numpy.array([[1.0], [2.0], [1.0], [1.0]]), ("a",), numpy.array([5.0, 6.0, 5.0, 7.0]), "y")
        >>> clean = table.without_duplicates()
        >>> clean.X.ravel().tolist(), clean.y.tolist()
        ([1.0, 2.0, 1.0], [5.0, 6.0, 7.0])
        >>> clean.notes
        ('1 row that repeats an earlier one was left out', '1 row has the features of an earlier one, but another target')
        """
        first = find_duplicates(self.X) if self.y is None else find_duplicates(self.X, self.y)
        rows = numpy.flatnonzero(first == numpy.arange(len(first)))
        X, y = self.X[rows], None if self.y is None else self.y[rows]
        repeated = len(first) - len(rows)
        unlike = 0 if y is None else int((find_duplicates(X) != numpy.arange(len(X))).sum())
        notes = []
        if repeated:
            notes.append(
                f"{repeated} row{' that repeats' if repeated == 1 else 's that repeat'} an earlier one "
                f"{'was' if repeated == 1 else 'were'} left out"
            )
        if unlike:
            notes.append(
                f"{unlike} row{' has' if unlike == 1 else 's have'} the features of an earlier one, but another target"
            )
        return replace(self, X=X, y=y, notes=(*self.notes, *(note for note in notes if note not in self.notes)))

    def __repr__(self) -> str:
        target = f", target {self.target_name!r}" if self.target_name is not None else ""
        classes = f" of {len(self.classes)} classes" if self.classes is not None else ""
        return f"<Table: {self.X.shape[0]} examples, {self.X.shape[1]} features{target}{classes}>"


def check_settings(where: str, target_type: str, missing: str, text: str, dtype: Any) -> None:
    """Check the arguments that all ways to make a table have.

    Raises
    ------
    DtypeError, ParameterError
        If one is not among its choices.
    """
    if target_type not in ("auto", "class", "number"):
        raise ParameterError(f"{where}: target_type must be 'auto', 'class' or 'number', got {target_type!r}")
    if missing not in ("error", "drop", "fill"):
        raise ParameterError(f"{where}: missing must be 'error', 'drop' or 'fill', got {missing!r}")
    if text not in ("one-hot", "codes"):
        raise ParameterError(f"{where}: text must be 'one-hot' or 'codes', got {text!r}")
    try:
        kind = "f" if dtype is None else numpy.dtype(dtype).kind
    except TypeError as error:
        raise DtypeError(f"{where}: dtype must be floating: {error}") from error
    if kind != "f":
        raise DtypeError(f"{where}: dtype must be floating, got {numpy.dtype(dtype)}")


def dropped_note(rows: int, without: Mapping[str, int]) -> list[str]:
    """Return a note about rows that were left out, with the number of missing values in each column; none for no rows.

    >>> dropped_note(3, {"a": 2, "b": 2, "c": 0})
    ["3 rows with missing values were left out: 2 have no 'a', 2 have no 'b'"]
    """
    if not rows:
        return []
    counts = [f"{count} {'has' if count == 1 else 'have'} no {name!r}" for name, count in without.items() if count]
    return [
        f"{rows} row{' ' if rows == 1 else 's '}with missing values {'was' if rows == 1 else 'were'} left out: {', '.join(counts)}"
    ]


def position_of(names: list[str], column: str | int) -> int:
    """Return the position of a column that is given by name or by position.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    if isinstance(column, str):
        if column in names:
            return names.index(column)
    elif (
        isinstance(column, (int, numpy.integer)) and not isinstance(column, bool) and -len(names) <= column < len(names)
    ):
        return int(column) % len(names)
    raise UnknownNameError.among("column", column, names)


def assemble(
    path: str,
    names: list[str],
    readings: dict[int, Reading],
    left_out: dict[int, str],
    at: int | None,
    target_type: str,
    dtype: Any,
    lines: Lines,
    notes: list[str],
    coded: bool,
) -> Table:
    """Put the columns into X and y.

    Parameters
    ----------
    path : str
        For messages, as the names of the columns.
    names : list of str
        Of all columns.
    readings : dict of int to Reading
        What the columns that are used became, by position; it is emptied.
    left_out : dict of int to str
        Why the others are not used.
    at : int or None
        The target.
    target_type : {"auto", "class", "number"}
    dtype : dtype or None
        Of X and of a numeric y.
    lines : Lines
        Where each row comes from.
    notes : list of str
    coded : bool
        Whether texts become codes.

    Raises
    ------
    DataError
        If there is no feature, or a number is too large for the dtype.
    """
    features = {index: reading for index, reading in readings.items() if index != at}
    if not features:
        raise DataError(f"{path}: there is no column to use as a feature")
    if dtype is None:
        wide = {names[index]: reason for index, reading in features.items() if (reason := reading.wide()) is not None}
        kept = numpy.dtype("float64" if wide else "float32")
        notes += [f"X is float64, because column {name!r} holds {reason}" for name, reason in wide.items()]
    else:
        kept = numpy.dtype(dtype)
    labels: list[str] = []
    report = {
        index: ColumnReport(names[index], "left out", reason) for index, reason in left_out.items() if index != at
    }
    for index, reading in features.items():
        several = reading.kind == TEXT and not coded
        labels += [f"{names[index]}={label}" for label in reading.labels] if several else [names[index]]
        kind = reading.kind
        if kind == TEXT:
            kind = f"text, {len(reading.labels)} {'codes' if coded else 'columns'}"
        report[index] = ColumnReport(names[index], kind, reading.reason)
    X = numpy.zeros((lines.count, len(labels)), dtype=kept)  # (N, F)
    column, categories = 0, {}
    for index in list(features):
        reading = features.pop(index)
        del readings[index]
        if reading.kind == TEXT and coded:
            assert reading.codes is not None
            X[:, column] = reading.codes
            if len(reading.labels) > 2 ** (numpy.finfo(kept).nmant + 1):
                raise DataError(
                    f"{path}: column {names[index]!r} has more codes, {len(reading.labels)}, than {kept} can hold"
                )
            categories[column] = tuple(reading.labels)
            column += 1
        elif reading.kind == TEXT:
            assert reading.codes is not None
            X[numpy.arange(len(X)), column + reading.codes] = 1
            column += len(reading.labels)
        else:
            X[:, column] = _fitting(path, names[index], reading, kept, lines)
            column += 1
    y, classes = None, None
    if at is not None:
        y, classes = _target(path, names[at], readings[at], target_type, dtype, kept, lines)
        kind = "number" if classes is None else f"{len(classes)} classes"
        report[at] = ColumnReport(names[at], f"target: {kind}", readings[at].reason)
        if y.dtype.kind == "f" and y.dtype != kept:
            notes.append(f"y is {y.dtype}, because it holds {readings[at].wide()}")
    ordered = tuple(report[index] for index in sorted(report))
    return Table(X, tuple(labels), y, None if at is None else names[at], classes, ordered, tuple(notes), categories)


def _target(
    path: str, name: str, reading: Reading, target_type: str, dtype: Any, kept: numpy.dtype[Any], lines: Lines
) -> tuple[numpy.ndarray, tuple[str, ...] | None]:
    """Return y and, if it holds class indices, the classes."""
    if reading.codes is not None and (target_type != "number" or reading.kind != BOOLEAN):
        if target_type == "number":
            raise DataError(f"{path}: the target {name!r} is text, such as {reading.labels[reading.codes[0]]!r}")
        used, codes = numpy.unique(reading.codes, return_inverse=True)  # of True and False there may be only one
        return codes.astype(numpy.int64), tuple(reading.labels[code] for code in used)
    if dtype is None and reading.wide() is not None:
        kept = numpy.dtype("float64")
    return _fitting(path, name, reading, kept, lines), None


def _fitting(path: str, name: str, reading: Reading, dtype: numpy.dtype[Any], lines: Lines) -> numpy.ndarray:
    """Return numbers in a dtype; raise if it cannot hold them."""
    values = reading.values
    assert values is not None
    row = int(abs(values).argmax())
    largest = float(values[row])
    if abs(largest) > float(numpy.finfo(dtype).max):
        raise DataError(f"{path}, {lines.where(row)}: column {name!r} holds {largest}, too large for {dtype}")
    return values.astype(dtype)
