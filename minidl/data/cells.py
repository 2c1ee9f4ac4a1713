"""What the text in one cell of a table may mean."""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy

from minidl.data.blocks import Cells
from minidl.errors import ParameterError

__all__ = ["BOOLEAN", "DATE", "ELSEWISE", "NUMBER", "PER_CENT", "TEXT", "Missing", "Notation"]

NUMBER, PER_CENT, BOOLEAN, DATE, TEXT = "number", "per cent", "boolean", "date", "text"
ELSEWISE = "number in another notation"

DATES = re.compile(
    r"""\d{4}-\d{1,2}-\d{1,2}([T ]+\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?)?
    | \d{4}/\d{1,2}/\d{1,2}(\ +\d{1,2}:\d{2}(:\d{2})?)?
    | \d{1,2}(?P<sign>[./-])\d{1,2}(?P=sign)\d{4}(\ +\d{1,2}:\d{2}(:\d{2})?)?
    | \d{1,2}/\d{1,2}/\d{2}
    | \d{1,2}[ -][A-Z][a-z]{2,8}\.?[ -]\d{4}
    | [A-Z][a-z]{2,8}\.?\ \d{1,2},?\ \d{4}""",
    re.VERBOSE,
)
SAME = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}
"""Signs between thousands that are written in several ways."""
INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)


@dataclass(frozen=True)
class Notation:
    """How numbers are written.

    Attributes
    ----------
    decimal : str
    thousands : str or None
        The sign between groups of three digits.

    Examples
    --------
    >>> notation = Notation()
    >>> notation.read("-1.5"), notation.read("12%"), notation.read("$3"), notation.read("TRUE")
    (('number', -1.5), ('per cent', 0.12), ('currency $', 3.0), ('boolean', 1.0))
    >>> notation.read("1,5"), Notation(decimal=",").read("1,5")
    (('number in another notation', None), ('number', 1.5))
    """

    decimal: str = "."
    thousands: str | None = None

    def __post_init__(self) -> None:
        for name, sign in (("decimal", self.decimal), ("thousands", self.thousands)):
            if name == "thousands" and sign is None:
                continue
            if not isinstance(sign, str) or len(sign) != 1 or sign.isalnum() or sign in '+-%"':
                raise ParameterError(f"read_csv: {name} must be a single sign such as '.' or ',', got {sign!r}")
        if self.decimal == self.thousands:
            raise ParameterError(f"read_csv: decimal and thousands are both {self.decimal!r}")

    @property
    def _between(self) -> str:
        """The signs that may stand between thousands."""
        return SAME.get(self.thousands, self.thousands) if self.thousands is not None else ""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        point = re.escape(self.decimal)
        whole = r"\d+"
        if self.thousands is not None:
            group = f"[{re.escape(self._between)}]"
            whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)"
        return re.compile(rf"[+\-−]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?")

    def number(self, cell: str) -> float | None:
        """Return the number in a cell, or None."""
        if self._pattern.fullmatch(cell) is None:
            return math.copysign(math.inf, -1 if cell[0] == "-" else 1) if INFINITE.fullmatch(cell) else None
        if self.thousands is not None:
            for sign in self._between:
                cell = cell.replace(sign, "")
        return float(cell.replace(self.decimal, ".").replace("−", "-"))

    def numbers(self, cells: Sequence[str], kind: str = NUMBER) -> numpy.ndarray | None:
        """Return a column of numbers of one kind, in bulk, "nan" being one; None if a cell may be something else."""
        if kind == PER_CENT:
            cells = [cell.strip() for cell in cells]
            if not all(cell.endswith("%") or cell == "nan" for cell in cells):
                return None
            values = self.numbers([cell.removesuffix("%") for cell in cells])
            return None if values is None else values / 100
        if kind != NUMBER:
            symbol = kind[-1]
            bare = [cell.strip().removeprefix(symbol).removesuffix(symbol) for cell in cells]
            if not all(cell.count(symbol) == 1 or cell.strip() == "nan" for cell in cells) or symbol in "".join(bare):
                return None
            return self.numbers(bare)
        if isinstance(cells, Cells) and cells.values is not None and self == PLAIN:
            return cells.values
        joined = "".join(cells)
        if "_" in joined:  # Python reads 1_000
            return None
        if self.thousands is not None:
            found = [math.nan if cell == "nan" else self.number(cell.strip()) for cell in cells]
            return None if None in found else numpy.array(found, dtype=numpy.float64)
        if self.decimal != ".":
            if "." in joined:
                return None
            cells = [cell.replace(self.decimal, ".") for cell in cells]
        try:
            return numpy.fromiter(map(float, cells), dtype=numpy.float64, count=len(cells))
        except ValueError:
            return None

    def read(self, cell: str) -> tuple[str, float | None]:
        """Return what a cell without blanks around it holds, and its value if that is a number."""
        kind, value = self._quantity(cell)
        if kind is not None:
            return kind, value
        if cell.lower() in ("true", "false"):
            return BOOLEAN, float(cell.lower() == "true")
        if DATES.fullmatch(cell):
            return DATE, None
        return (ELSEWISE, None) if self.others(cell) else (TEXT, None)

    def _quantity(self, cell: str) -> tuple[str | None, float | None]:
        if not cell:
            return None, None
        value = self.number(cell)
        if value is not None:
            return NUMBER, value
        if cell.endswith("%"):
            value = self.number(cell[:-1].rstrip()) if cell[:-1].strip() else None
            return (None, None) if value is None else (PER_CENT, value / 100)
        symbol = next((sign for sign in cell if unicodedata.category(sign) == "Sc"), None)
        if symbol is None:
            return None, None
        sign = "-" if cell[0] in "-−" else ""
        rest = cell.lstrip("-−+").strip()
        rest = rest.removeprefix(symbol) if rest.startswith(symbol) else rest.removesuffix(symbol)
        if rest == cell.lstrip("-−+").strip() or not rest.strip():
            return None, None
        value = self.number(sign + rest.strip())
        return (None, None) if value is None else (f"currency {symbol}", value)

    def others(self, cell: str) -> list[Notation]:
        """Return the other notations in which a cell is a number."""
        if not any(sign in cell for sign in ",.' \u00a0\u202f\u2019"):
            return []
        return [
            notation
            for notation in _NOTATIONS
            if (notation.decimal, notation.thousands) != (self.decimal, self.thousands)
            and (notation.thousands is None or any(sign in cell for sign in notation._between))
            and notation._quantity(cell)[0] is not None
        ]

    def arguments(self) -> str:
        """Return how to ask ``read_csv`` for this notation."""
        asked = [f"decimal={self.decimal!r}"] if self.decimal != "." else []
        asked += [f"thousands={self.thousands!r}"] if self.thousands is not None else []
        return ", ".join(asked) or "decimal='.'"

    def timestamp(self, cell: str, format: str | None) -> tuple[str, float] | None:
        """Return the seconds since 1970 of a date, and whether it says its time zone; None if it is no date."""
        try:
            if format is None:
                moment = datetime.datetime.fromisoformat(re.sub(r"\s*(Z|UTC)$", "+00:00", cell))
            else:
                moment = datetime.datetime.strptime(cell, format)
        except ValueError:
            return None
        kind = DATE if moment.tzinfo is None else f"{DATE} with its time zone"
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return kind, (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()


PLAIN = Notation()
_NOTATIONS = [
    Notation(*signs)
    for signs in ((".", None), (",", None), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"))
]


class Missing:
    """Which cells hold no value.

    Parameters
    ----------
    texts : collection of str or number
        Exactly these; numbers in any notation.
    spellings : collection of str
        These, in upper or lower case.
    """

    def __init__(self, texts: Any, spellings: frozenset[str]) -> None:
        self.texts = frozenset(map(str, texts))
        self.spellings = spellings
        self.values = [value for value in map(Notation().number, filter(None, self.texts)) if value is not None]
        self._longest = max(map(len, spellings), default=0)

    def find(self, cells: Sequence[str], notation: Notation) -> list[bool]:
        """Return for each cell whether it holds no value."""
        texts, spellings, longest = self.texts, self.spellings, self._longest
        stripped = [cell.strip() for cell in cells]
        if not self.values:
            return [cell in texts or (len(cell) <= longest and cell.lower() in spellings) for cell in stripped]
        return [
            cell in texts
            or (len(cell) <= longest and cell.lower() in spellings)
            or (cell != "" and notation.number(cell) in self.values)
            for cell in stripped
        ]
