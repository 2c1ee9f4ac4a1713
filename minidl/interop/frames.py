"""Tables from data frames of pandas, polars, Arrow and whatever else narwhals reads: with categories, dates and missing values.

The extra ``frames`` installs narwhals. See docs/frames.md.
"""

from __future__ import annotations

import datetime
import decimal
import numbers
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy

from minidl.data import Table
from minidl.data.cells import BOOLEAN, DATE, NUMBER, TEXT, Missing, Notation
from minidl.data.columns import Column, Lines
from minidl.data.tabular import assemble, check_settings, dropped_note, position_of
from minidl.errors import DataError, DtypeError, MissingDependencyError

try:
    import narwhals
except ImportError as error:
    raise MissingDependencyError.needs("minidl.interop.frames", "narwhals>=1.30", "frames") from error

__all__ = ["from_frame"]

WHERE = "from_frame"
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def from_frame(
    frame: Any,
    target: str | int | None = None,
    *,
    target_type: str = "auto",
    missing: str = "error",
    categorical: Collection[str | int] | Mapping[str, Sequence[Any]] = (),
    text: str = "one-hot",
    ignore: Collection[str | int] = (),
    max_categories: int = 100,
    dtype: Any = None,
    parse_dates: Collection[str | int] = (),
) -> Table:
    """Make a table of features, and a target if one is named, of a data frame.

    The types of the columns decide: numbers stay numbers, booleans become 0 and 1, texts and categories one column of 0 and 1
    for each of their values. Dates are refused unless they are to be seconds. ``Table.report`` says what each column was taken
    for, as for :func:`minidl.data.read_csv`, whose arguments these are. An index is never looked at.

    Parameters
    ----------
    frame : data frame
        Of pandas, polars, pyarrow, or any other library that narwhals reads; not a lazy one.
    target : str or int, optional
        The target column, by name or by position.
    target_type : {"auto", "class", "number"}, default "auto"
        ``"auto"`` makes texts, categories and booleans classes and keeps numbers.
    missing : {"error", "drop", "fill"}, default "error"
        What to do about null and nan. ``"drop"`` leaves out the row. ``"fill"`` puts the mean of the column there, or its most
        frequent text, but never in the target. An empty text is a value.
    categorical : collection of str or int, or mapping of str to sequence, default ()
        Columns of numbers or dates that are categories. A mapping names all values of each column, whether they occur or not,
        so that other rows give the same features; another value is an error. The values that a frame's own type lists (Enum of
        polars, ordered categories of pandas) count in the same way.
    text : {"one-hot", "codes"}, default "one-hot"
        Whether a text becomes one column for each of its values, or a single column of their numbers from 0.
    ignore : collection of str or int, default ()
        Columns to leave out.
    max_categories : int, default 100
        The number of different texts above which a feature is refused.
    dtype : dtype, optional
        Of X and of a numeric y. By default float32, or float64 if a column would lose digits that matter.
    parse_dates : collection of str or int, default ()
        Columns of dates, to become seconds since 1970. Without a time zone UTC is assumed.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        If a value is missing, infinite, of another kind than the others, or not among the given categories. Names the row,
        counted from 0, and the column.
    DtypeError
        If it is no data frame, a lazy one, or a column holds neither numbers nor texts.
    ParameterError, UnknownNameError
        If an argument is not one of those above.

    Examples
    --------
    >>> import pandas
    >>> frame = pandas.DataFrame({"area": [50, 70, None], "city": ["Rome", "Oslo", "Rome"], "price": [200, 310, 90]})
    >>> table = from_frame(frame, target="price", missing="fill")
    >>> table.feature_names, table.X.tolist(), table.y.tolist()
    (('area', 'city=Oslo', 'city=Rome'), [[50.0, 0.0, 1.0], [70.0, 1.0, 0.0], [60.0, 0.0, 1.0]], [200.0, 310.0, 90.0])
    >>> print(table.report)
    column   taken for        because
    'area'   number           every value is a number; 1 missing, filled with the mean 60
    'city'   text, 2 columns  no value is a number
    'price'  target: number   every value is a number
    """
    check_settings(WHERE, target_type, missing, text, dtype)
    data = _eager(frame)
    columns = list(data.iter_columns())
    names = [str(column.name) for column in columns]
    at = None if target is None else position_of(names, target)
    as_text = {position_of(names, column) for column in categorical}
    given = (
        {position_of(names, name): tuple(map(_text_of, values)) for name, values in categorical.items()}
        if isinstance(categorical, Mapping)
        else {}
    )
    dates = {position_of(names, column) for column in parse_dates}
    left_out = {position_of(names, column): "asked for" for column in ignore}
    used = [index for index in range(len(names)) if index not in left_out or index == at]
    rows, without = numpy.arange(len(data)), dict[str, int]()
    if missing == "drop":
        empty = {names[index]: _empty(columns[index]) for index in used}
        without = {name: int(blank.sum()) for name, blank in empty.items()}
        rows = rows[~numpy.logical_or.reduce(list(empty.values()))]
        columns = list(data[rows.tolist()].iter_columns()) if len(rows) < len(data) else columns
    if not len(rows):
        raise DataError(f"{WHERE}: {'every row has a missing value' if len(data) else 'there are no rows'}")
    lines = Lines("row")
    lines.extend(rows.tolist())
    readings = {}
    for index in used:
        column = Column(
            WHERE,
            names[index],
            Notation(),
            Missing((), frozenset()),
            index in as_text if index != at else target_type == "class",
            index == at,
            limit=max_categories,
        )
        _take(column, columns[index], given.get(index), index in as_text, index in dates, lines)
        readings[index] = column.finish(lines, missing == "fill")
    notes = dropped_note(len(data) - len(rows), without)
    return assemble(WHERE, names, readings, left_out, at, target_type, dtype, lines, notes, text == "codes")


def _eager(frame: Any) -> Any:
    """Return a frame as narwhals shows it."""
    try:
        return narwhals.from_native(frame, eager_only=True)
    except TypeError as error:
        if hasattr(frame, "collect"):
            raise DtypeError(f"{WHERE}: {type(frame).__name__} holds no rows yet; call .collect() first") from error
        raise DtypeError(f"{WHERE}: expected a data frame, got a {type(frame).__name__}") from error
    except narwhals.exceptions.DuplicateError as error:
        raise DataError(f"{WHERE}: {' '.join(str(error).split())}; give the columns different names") from error


def _empty(series: Any) -> numpy.ndarray:
    """Return which elements are null or nan, shape (N,)."""
    empty = series.is_null().to_numpy().astype(bool)
    if series.dtype.is_float():
        empty |= series.is_nan().fill_null(False).to_numpy().astype(bool)
    return empty


def _take(
    column: Column, series: Any, values: tuple[str, ...] | None, as_text: bool, as_date: bool, lines: Lines
) -> None:
    """Hand a series to a column, by its type."""
    kind, dtype = _kind(series, column.name), series.dtype
    if isinstance(dtype, narwhals.Enum) and values is None:
        values = tuple(dtype.categories)
    if as_date:
        if kind != DATE:
            raise DtypeError(
                f"{WHERE}: column {column.name!r} holds {dtype}, not dates; convert it to dates in the frame"
            )
        seconds = _seconds(series)
        first = next((str(value) for value in series.to_list() if not _is_empty(value)), "")
        column.take_numbers(seconds, DATE, first)
    elif as_text or kind in (TEXT, BOOLEAN) or (column.target and column.categories):
        codes, texts = _codes(series, values, column.name, lines)
        own = kind == BOOLEAN or (column.target and kind == NUMBER)
        column.take_codes(codes, texts, kind if own and not as_text else TEXT)
    elif kind == DATE:
        raise DtypeError(
            f"{WHERE}: column {column.name!r} holds dates, {dtype}; pass parse_dates=[{column.name!r}] to have them as seconds "
            f"since 1970, categorical=[{column.name!r}] if each is a category, or ignore=[{column.name!r}]"
        )
    else:
        column.take_numbers(_numbers(series, column.name, lines))


def _kind(series: Any, name: str) -> str:
    """Return what a series holds, by its type, or by its values if these are Python's objects."""
    dtype = series.dtype
    if dtype.is_numeric():
        return NUMBER
    if dtype == narwhals.Boolean:
        return BOOLEAN
    if isinstance(dtype, (narwhals.String, narwhals.Categorical, narwhals.Enum)):
        return TEXT
    if isinstance(dtype, (narwhals.Date, narwhals.Datetime)):
        return DATE
    if isinstance(dtype, narwhals.Object):
        held = [value for value in series.to_list() if not _is_empty(value)]
        for kind, types in _OBJECTS.items():
            if all(isinstance(value, types) for value in held):
                return kind
        odd = next((value for value in held if type(value) is not type(held[0])), held[0])
        raise DtypeError(f"{WHERE}: column {name!r} holds objects of several kinds, such as {held[0]!r} and {odd!r}")
    advice = "convert it to numbers, such as with .dt.total_seconds(), or" if dtype == narwhals.Duration else "please"
    raise DtypeError(
        f"{WHERE}: column {name!r} holds {dtype}, neither numbers nor texts; {advice} pass ignore=[{name!r}]"
    )


_OBJECTS: dict[str, Any] = {
    BOOLEAN: (bool, numpy.bool_),
    TEXT: str,
    NUMBER: (numbers.Real, decimal.Decimal),
    DATE: (datetime.date, datetime.datetime),
}
"""Kinds of Python's objects, which pandas stores; a boolean is a number, too, so it comes first."""


def _is_empty(value: Any) -> bool:
    """Whether an element is null, nan, or one of the marks that pandas has for it."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (numbers.Real, decimal.Decimal)) and bool(value != value)


def _numbers(series: Any, name: str, lines: Lines) -> numpy.ndarray:
    """Return finite float64, nan where there is none, shape (N,)."""
    if isinstance(series.dtype, narwhals.Object):
        found = numpy.array([numpy.nan if _is_empty(value) else float(value) for value in series.to_list()])
    else:
        found = series.cast(narwhals.Float64).to_numpy().astype(numpy.float64)
    endless = numpy.isinf(found)
    if endless.any():
        row = int(endless.argmax())
        raise DataError(f"{WHERE}, {lines.where(row)}: column {name!r} holds {found[row]}, not a finite number")
    return found


def _seconds(series: Any) -> numpy.ndarray:
    """Return the seconds since 1970 of dates, nan where there is none, shape (N,)."""
    if not isinstance(series.dtype, narwhals.Object):
        return series.dt.timestamp("us").cast(narwhals.Float64).to_numpy().astype(numpy.float64) / 1e6
    return numpy.array([numpy.nan if _is_empty(value) else _since_epoch(value) for value in series.to_list()])


def _since_epoch(moment: Any) -> float:
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime.combine(moment, datetime.time())
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    return float((moment - EPOCH).total_seconds())


def _codes(series: Any, values: tuple[str, ...] | None, name: str, lines: Lines) -> tuple[numpy.ndarray, list[str]]:
    """Return the positions in the different texts, -1 where there is none, shape (N,), and the texts."""
    found = {text: code for code, text in enumerate(values or ())}
    known: dict[Any, int] = {}
    codes = numpy.full(len(series), -1, dtype=numpy.int32)
    for row, value in enumerate(series.to_list()):
        code = known.get(value)
        if code is None:
            if _is_empty(value):
                continue
            text = _text_of(value)
            if values is not None and text not in found:
                raise DataError(
                    f"{WHERE}, {lines.where(row)}: column {name!r} holds {text!r}, which is none of its {len(values)} categories"
                )
            code = known[value] = found.setdefault(text, len(found))
        codes[row] = code
    return codes, list(found)


def _text_of(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)
