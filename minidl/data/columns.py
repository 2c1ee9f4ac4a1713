"""One column of a table: it takes in cells, block by block, and becomes numbers or categories."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from minidl.data.blocks import Cells
from minidl.data.cells import BOOLEAN, DATE, ELSEWISE, NUMBER, TEXT, Missing, Notation
from minidl.errors import DataError

__all__ = ["Column", "Lines", "Reading"]

MANY = 10_000
"""Different texts beyond which a feature is refused at once, without waiting for the end of the file."""
LEADING_ZERO = re.compile(r"\n\s*-?(0\d+)")
EXACT = 1 << 24
"""Whole numbers up to this are exact in float32."""


class Lines:
    """The number of the line in the file of each row: runs of consecutive lines, which take no memory.

    Parameters
    ----------
    unit : str, default "line"
        What is counted, for messages.
    """

    def __init__(self, unit: str = "line") -> None:
        self.unit, self.count = unit, 0
        self._starts: list[int] = []  # rows at which a run begins
        self._lines: list[int] = []  # and their lines

    def extend(self, lines: Sequence[int]) -> None:
        """Append the lines of the next rows."""
        if isinstance(lines, range) and lines.step == 1 and len(lines):
            self._append(lines[0])
            self.count += len(lines)
            return
        for line in lines:
            self._append(line)
            self.count += 1

    def _append(self, line: int) -> None:
        if not self._starts or line != self._lines[-1] + self.count - self._starts[-1]:
            self._starts.append(self.count)
            self._lines.append(line)

    def __getitem__(self, row: int) -> int:
        run = bisect.bisect_right(self._starts, row) - 1
        return self._lines[run] + row - self._starts[run]

    def where(self, row: int) -> str:
        """Return the place of a row, as messages name it."""
        return f"{self.unit} {self[row]}"


@dataclass
class Reading:
    """What a column became.

    Attributes
    ----------
    kind : str
    reason : str
    values : float64 or float32 array, shape (N,), or None
        Numbers.
    codes : int64 array, shape (N,), or None
        Indices into ``labels``.
    labels : list of str
        In their order.
    """

    kind: str
    reason: str
    values: numpy.ndarray | None = None
    codes: numpy.ndarray | None = None
    labels: tuple[str, ...] = ()

    def wide(self) -> str | None:
        """Return why float32 would lose digits, or None."""
        if self.values is None or self.values.dtype == numpy.float32:
            return None
        if abs(self.values).max() > float(numpy.finfo("float32").max):
            return None  # it does not fit at all, and float64 must be asked for
        short = self.values.astype(numpy.float32)
        rounded = short != self.values
        size = abs(self.values)
        if (rounded & (size > EXACT) & (size < 2.0**53) & (self.values == numpy.floor(self.values))).any():
            return "whole numbers above 2^24, which float32 would round"
        steps = float(numpy.ptp(self.values)) / float(numpy.spacing(numpy.float32(size.max())))
        if 0 < steps < MANY:
            return f"so narrow a range that float32 has only {steps:.0f} steps in it"
        return None


class Column:
    """Cells of one column.

    Parameters
    ----------
    path, name : str
        For messages.
    notation : Notation
    is_missing : Missing
    categories : bool
        Whether all values are to be categories, even numbers.
    target : bool
    dates : bool, default False
        Whether all values are dates, to be read as seconds.
    date_format : str, optional
        The format of ``strptime``; ISO 8601 unless given.
    limit : int, optional
        The number of different texts of a feature above which it is refused.
    """

    def __init__(
        self,
        path: str,
        name: str,
        notation: Notation,
        is_missing: Missing,
        categories: bool = False,
        target: bool = False,
        dates: bool = False,
        date_format: str | None = None,
        limit: int = 100,
    ) -> None:
        self.path, self.name, self.notation, self.is_missing = path, name, notation, is_missing
        self.categories, self.target, self.dates, self.date_format, self.limit = (
            categories,
            target,
            dates,
            date_format,
            limit,
        )
        self.count = 0
        self.zeros: str | None = None  # a cell with a leading zero
        self.missing_at: int | None = None  # the row
        self._numbers: list[numpy.ndarray] = []
        self._codes: list[numpy.ndarray] = []
        self._found: dict[str, int] = {}  # codes of the different texts
        self._first: dict[str, tuple[int, str]] = {}  # line and cell of the first of each kind

    def blanks(self, cells: Sequence[str]) -> list[bool] | None:
        """Return which cells have no value; None if all have one."""
        if not self.categories and not self.dates and not self.is_missing.values:
            values = self.notation.numbers(cells)
            if values is not None and not numpy.isnan(values).any():
                return None
        blank = self.is_missing.find(cells, self.notation)
        return blank if any(blank) else None

    def take(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Take in the next cells."""
        if not self._in_bulk(cells, lines):
            self._one_by_one([cell.strip() for cell in cells], lines)
        self.count += len(cells)

    def _in_bulk(self, cells: Sequence[str], lines: Sequence[int]) -> bool:
        """Take in plain numbers, some perhaps missing; return False if there is something else."""
        if self.categories or self.dates or self._codes:
            return False
        kind = next(iter(self._first), NUMBER)
        if self.zeros is None and not (isinstance(cells, Cells) and cells.values is not None and not cells.zeros):
            found = LEADING_ZERO.search("\n" + "\n".join(cells))
            self.zeros = found and found[1]
        values = self.notation.numbers(cells, kind)
        blank = None
        if values is None or not numpy.isfinite(values).all() or self.is_missing.values:
            blank = numpy.array(self.is_missing.find(cells, self.notation))
            filled = ["nan" if empty else cell for cell, empty in zip(cells, blank.tolist(), strict=True)]
            values = self.notation.numbers(filled, kind)
            if values is None or not numpy.array_equal(~numpy.isfinite(values), blank):
                return False
            if blank.all():
                self._note_missing(int(blank.argmax()))
                self._store(values)
                return True
        at = 0 if blank is None else int((~blank).argmax())
        if blank is not None and blank.any():
            self._note_missing(int(blank.argmax()))
        if kind not in self._first:
            self._first[kind] = lines[at], cells[at].strip()
        self._store(values)
        return True

    def _one_by_one(self, cells: list[str], lines: Sequence[int]) -> None:
        if self.categories or self._codes:
            self._take_texts(cells, lines)
            return
        values = numpy.full(len(cells), numpy.nan)
        for row, (cell, blank) in enumerate(zip(cells, self.is_missing.find(cells, self.notation), strict=True)):
            if blank:
                self._note_missing(row)
                continue
            kind, value = self._read(cell, lines[row])
            if kind not in self._first:
                if value is None or kind == BOOLEAN:
                    if self._first:
                        raise self._mixed(kind, cell, lines[row])
                    self._codes.append(numpy.full(self.count, -1, dtype=numpy.int32))  # so far everything is missing
                    self._numbers.clear()
                    self._take_texts(cells, lines)
                    return
                if self._first:
                    raise self._mixed(kind, cell, lines[row])
                self._first[kind] = lines[row], cell
            values[row] = value
        self._store(values)

    def _read(self, cell: str, line: int) -> tuple[str, float | None]:
        if self.dates:
            found = self.notation.timestamp(cell, self.date_format)
            if found is None:
                what = (
                    f"of the format {self.date_format!r}"
                    if self.date_format
                    else "as ISO 8601 writes it; pass date_format"
                )
                raise DataError(f"{self.path}, line {line}: column {self.name!r} holds {cell!r}, not a date {what}")
            return found
        kind, value = self.notation.read(cell)
        if value is not None and not math.isfinite(value):
            raise DataError(f"{self.path}, line {line}: column {self.name!r} holds {cell!r}, not a finite number")
        return kind, value

    def _take_texts(self, cells: list[str], lines: Sequence[int]) -> None:
        codes = numpy.full(len(cells), -1, dtype=numpy.int32)
        for row, cell in enumerate(cells):
            code = self._found.get(cell)
            if code is None:
                if self.is_missing.find([cell], self.notation)[0]:
                    self._note_missing(row)
                    continue
                self._check_text(cell, lines[row])
                code = self._found[cell] = len(self._found)
            codes[row] = code
        self._codes.append(codes)

    def _check_text(self, cell: str, line: int) -> None:
        kind, value = (TEXT, None) if self.categories and not self.target else self._read(cell, line)
        if kind not in self._first:
            if not self.categories and value is not None and kind != BOOLEAN:
                raise self._mixed(kind, cell, line)
            self._first[kind] = line, cell
        if not self.target and len(self._found) >= max(self.limit, MANY):
            raise self._too_many(f"more than {len(self._found)}")

    def _mixed(self, kind: str, cell: str, line: int) -> DataError:
        other, (at, held) = next(iter(self._first.items()))
        if kind == NUMBER:  # name the text first
            kind, cell, line, other, held, at = other, held, at, kind, cell, line
        number = "a number" if other == NUMBER else f"{held!r} ({other})"
        advice = f"correct the file, or pass categorical=[{self.name!r}] if its numbers are codes"
        if self.target:
            advice = "correct the file, or pass target_type='class'"
        hint = f" (perhaps with {self._asked(cell)})" if kind == ELSEWISE else ""
        return DataError(
            f"{self.path}, line {line}: column {self.name!r} holds {cell!r}{hint}, but {number} on line {at}; {advice}"
        )

    def _asked(self, cell: str) -> str:
        return " or ".join(notation.arguments() for notation in self.notation.others(cell))

    def _note_missing(self, row: int) -> None:
        if self.missing_at is None:
            self.missing_at = self.count + row

    def _store(self, values: numpy.ndarray) -> None:
        with numpy.errstate(over="ignore"):
            short = values.astype(numpy.float32)
        self._numbers.append(short if numpy.array_equal(short, values, equal_nan=True) else values)

    def take_numbers(self, values: numpy.ndarray, kind: str = NUMBER, example: str = "") -> None:
        """Take in the whole column as numbers that were no text, nan where there is none; ``example`` is the first."""
        empty = numpy.isnan(values)
        if empty.any():
            self._note_missing(int(empty.argmax()))
        if not empty.all():
            self._first[kind] = int((~empty).argmax()), example
        self.count += len(values)
        self._store(values)

    def take_codes(self, codes: numpy.ndarray, texts: Sequence[str], kind: str = TEXT) -> None:
        """Take in the whole column as positions in different texts, -1 where there is none."""
        empty = codes < 0
        if empty.any():
            self._note_missing(int(empty.argmax()))
        if not empty.all():
            row = int((~empty).argmax())
            self._first[kind] = row, texts[codes[row]]
        self._found = {text: code for code, text in enumerate(texts)}
        self.count += len(codes)
        self._codes.append(codes)

    # the end of the file ----------------------------------------------------------------------------------------------

    def finish(self, lines: Lines, fill: bool) -> Reading:
        """Return what the column became.

        Raises
        ------
        DataError
            If values are missing and may not be filled in, there are too many categories, or the cells can be read in
            several ways.
        """
        if not self._first:
            raise DataError(f"{self.path}: column {self.name!r} is empty; leave it out with ignore=[{self.name!r}]")
        if self.missing_at is not None:
            where = f"{self.path}, {lines.where(self.missing_at)}"
            if self.target:
                raise DataError(
                    f"{where}: the target {self.name!r} is missing; pass missing='drop' to leave such rows out"
                )
            if not fill:
                raise DataError(
                    f"{where}: column {self.name!r} has no value; pass missing='drop' to leave such rows out, or "
                    "missing='fill'"
                )
        return self._of_texts() if self._codes else self._of_numbers()

    def _of_numbers(self) -> Reading:
        values = numpy.concatenate(self._numbers)
        self._numbers.clear()
        (kind, (line, cell)), *_ = self._first.items()
        first = float(values[~numpy.isnan(values)][0])
        filled = ""
        if self.missing_at is not None:
            empty = numpy.isnan(values)
            mean = math.fsum(values[~empty]) / int((~empty).sum())
            values = values.astype(numpy.float64)
            values[empty] = mean
            filled = f"; {int(empty.sum())} missing, filled with the mean {mean:.6g}"
        if kind == NUMBER:
            reason = "every value is a number"
            if self.zeros:
                reason += f"; some have leading zeros, such as {self.zeros}: are they codes, for categorical?"
            if abs(values).max() > 2.0**53:
                reason += "; whole numbers above 2^53 are rounded to 53 bits"
        elif kind.startswith(DATE):
            reason = f"asked for; {cell} is {first:.15g} seconds after 1970 (UTC)"
        else:
            reason = f"every value is like {cell} on line {line}, which is {self.notation.read(cell)[1]:.15g}"
        return Reading(kind, reason + filled, values=values)

    def _of_texts(self) -> Reading:
        codes = numpy.concatenate(self._codes)
        self._codes.clear()
        kinds = set(self._first)
        if not self.categories:
            self._refuse_doubtful()
        labels = list(self._found)
        if kinds == {BOOLEAN} and not (self.categories and not self.target):
            truth = numpy.array([text.lower() == "true" for text in labels])
            codes = numpy.where(codes < 0, -1, truth[codes]).astype(numpy.int32)
            codes, filled = self._filled(codes, ["False", "True"])
            reason = f"every value is true or false{filled}"
            return Reading(BOOLEAN, reason, values=codes.astype(numpy.float32), codes=codes, labels=("False", "True"))
        if self.target and kinds == {NUMBER}:  # 10 and 10.0 are one class
            numbers = numpy.array([self.notation.number(text) for text in labels], dtype=numpy.float64)
            values, which = numpy.unique(numbers, return_inverse=True)
            return Reading(NUMBER, "asked for", codes=which[codes], labels=tuple(f"{value:.15g}" for value in values))
        order = sorted(range(len(labels)), key=labels.__getitem__)
        place = numpy.empty(len(labels), dtype=numpy.int64)
        place[order] = numpy.arange(len(labels))
        codes = numpy.where(codes < 0, -1, place[codes])
        ordered = [labels[k] for k in order]
        if not self.target and len(ordered) > self.limit:
            raise self._too_many(str(len(ordered)))
        codes, filled = self._filled(codes, ordered)
        reason = "asked for" if self.categories else "no value is a number"
        return Reading(TEXT, reason + filled, codes=codes, labels=tuple(ordered))

    def _filled(self, codes: numpy.ndarray, labels: Sequence[str]) -> tuple[numpy.ndarray, str]:
        """Put the most frequent text, of several the first, where there is none."""
        if self.missing_at is None:
            return codes, ""
        best = int(numpy.bincount(codes[codes >= 0], minlength=len(labels)).argmax())
        return numpy.where(codes < 0, best, codes), f"; {int((codes < 0).sum())} missing, filled with {labels[best]!r}"

    def _refuse_doubtful(self) -> None:
        """Raise DataError if every cell is a date, or a number in another notation: text is only one way to read them."""
        kinds = set(self._first)
        line, cell = next(iter(self._first.values()))
        start = f"{self.path}, line {line}: column {self.name!r} holds "
        if kinds == {DATE}:
            raise DataError(
                f"{start}dates, such as {cell!r}; leave it out with ignore=[{self.name!r}], pass parse_dates=[{self.name!r}] to "
                f"have them as seconds since 1970, or {self._as_text()} if each is to be a category"
            )
        if kinds == {ELSEWISE}:
            choices = " or ".join(notation.arguments() for notation in self._common())
            raise DataError(
                f"{start}{cell!r}, which may be a number in another notation or text; pass {choices} for a number, or "
                f"{self._as_text()} for text"
            )

    def _as_text(self) -> str:
        return "target_type='class'" if self.target else f"categorical=[{self.name!r}]"

    def _common(self) -> list[Notation]:
        """Return the notations in which every text of the column is a number; if there is none, those of the first."""
        first, *rest = list(self._found)[:1000]
        found = self.notation.others(first)
        return [each for each in found if all(each.number(text) is not None for text in rest)] or found

    def _too_many(self, number: str) -> DataError:
        self._refuse_doubtful()
        return DataError(
            f"{self.path}: column {self.name!r} has {number} different texts, such as {min(self._found)!r}; leave it out "
            f"with ignore=[{self.name!r}], or raise max_categories"
        )
