"""Blocks of a CSV file in bulk: where its cells are, and the numbers in them, in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import numpy

__all__ = ["Cells", "split_block"]

WIDEST = 24
"""Characters of a cell beyond which it is no plain number."""
LONGEST = 1 << 17
"""Characters of a cell that the csv module refuses."""
EXACT = 1 << 53
"""Whole numbers up to this are float64, and so they are divided by a power of ten with one rounding, as ``float`` rounds."""
POWERS = 10.0 ** numpy.arange(19)
"""Exact up to 10^22."""
FEW = 8
"""One cell in so many may be a number in another form, such as 1e-5, which Python then reads."""


class _Texts:
    """The texts of all cells of a block, row by row; made once, when the first column asks."""

    def __init__(self, text: str, delimiter: str) -> None:
        self.text, self.delimiter = text, delimiter

    @cached_property
    def all(self) -> list[str]:
        return self.text.removesuffix("\n").replace("\n", self.delimiter).split(self.delimiter)


class Cells(Sequence[str]):
    """The cells of one column in a block; texts are made only when they are asked for.

    Attributes
    ----------
    values : float64 array, shape (N,), or None
        The numbers in the cells, exactly as ``float`` reads them, if each holds one.
    zeros : bool
        Whether some of the numbers may have leading zeros.
    """

    def __init__(self, texts: _Texts, column: slice, values: numpy.ndarray, zeros: bool) -> None:
        self._texts, self._column, self._count, self.zeros = texts, column, len(values), zeros
        self.values: numpy.ndarray | None = values

    @cached_property
    def _made(self) -> list[str]:
        return self._texts.all[self._column]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._made[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)


def split_block(lines: Sequence[str], columns: int, delimiter: str) -> list[Cells] | None:
    r"""Return the cells of a block of lines, column by column; None if the csv module must read it.

    That is so if there are quotes, blank lines, lines with another number of cells, or ends of lines in old manners.

    Examples
    --------
    >>> a, b = split_block(["1,x\n", "-2.5,y\n"], 2, ",")
    >>> a.values, b.values, list(b)
    (array([ 1. , -2.5]), None, ['x', 'y'])
    """
    joined = "".join(lines)
    if columns < 2 or not delimiter.isascii() or '"' in joined:
        return None
    if "\r" in joined:
        joined = joined.replace("\r\n", "\n")
        if "\r" in joined:
            return None
    text = (joined if joined.endswith("\n") else joined + "\n").encode()
    buffer = numpy.frombuffer(text + b"\n" * WIDEST, dtype=numpy.uint8)
    inside = buffer[: len(text)]
    found_ends = numpy.flatnonzero((inside == ord(delimiter)) | (inside == 10))
    if len(found_ends) != len(lines) * columns:
        return None
    ends = found_ends.reshape(len(lines), columns)
    if not (inside[ends[:, -1]] == 10).all():
        return None  # the number of cells is right on the whole, but not in each line
    starts = numpy.concatenate([[0], found_ends[:-1] + 1]).reshape(ends.shape)
    if int((ends - starts).max()) >= LONGEST:
        return None
    values, read, zeros = _numbers(buffer, starts.T.ravel(), (ends - starts).T.ravel())
    shape = (columns, len(lines))
    texts = _Texts(joined, delimiter)
    found = []
    for index, (own, fine, padded) in enumerate(
        zip(values.reshape(shape), read.reshape(shape), zeros.reshape(shape), strict=True)
    ):
        cells = Cells(texts, slice(index, None, columns), own, bool(padded.any()))
        if not fine.all() and not _read_others(text, starts[:, index], ends[:, index], own, ~fine):
            cells.values = None
        found.append(cells)
    return found


def _numbers(
    buffer: numpy.ndarray, starts: numpy.ndarray, lengths: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Read cells such as -12.5: return the values, which cells are of this form, and which begin with 0 and a digit."""
    width = int(min(lengths.max(), WIDEST))
    at = numpy.arange(width)[:, None]
    signs = buffer[starts]
    negative = (signs == ord("-")) & (lengths > 0)
    signed = negative | ((signs == ord("+")) & (lengths > 0))
    letters = buffer[starts + at]  # (characters, N)
    digits = letters - numpy.uint8(48)
    within = at < lengths
    is_digit = (digits < 10) & within
    is_point = (letters == ord(".")) & within
    count, points = is_digit.sum(axis=0, dtype=numpy.uint8), is_point.sum(axis=0, dtype=numpy.uint8)
    behind = numpy.zeros(len(starts), dtype=numpy.int64)  # digits behind the point, if there is one
    place, cell = numpy.nonzero(is_point)
    behind[cell] = lengths[cell] - place - 1
    read = (count + points + signed == lengths) & (count > 0) & (count < len(POWERS)) & (points < 2)
    digits *= is_digit
    factors = numpy.where(is_digit, numpy.int64(10), numpy.int64(1))
    whole = numpy.zeros(len(starts), dtype=numpy.int64)  # without the point
    for factor, digit in zip(factors, digits, strict=True):
        whole *= factor
        whole += digit
    powers = POWERS[numpy.minimum(behind, len(POWERS) - 1)]
    values = whole / powers
    long = numpy.flatnonzero(read & (whole > EXACT))
    if len(long):
        values[long], read[long] = _divide(whole[long], powers[long])
    first = starts + negative
    zeros = (buffer[first] == 48) & (lengths - negative > 1) & (buffer[first + 1] - numpy.uint8(48) < 10)
    return numpy.where(negative, -values, values), read, zeros


def _divide(whole: numpy.ndarray, power: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return whole / power, rounded once, and where that is certain.

    The first quotient q is corrected by the exact remainder, r = whole - q power, of Dekker's product (1971): q + r / power
    differs from the quotient by less than 2^-48 of the last place. So its rounding is right unless it lies that close to the
    middle between two numbers.
    """
    near = whole.astype(numpy.float64)
    rest = (whole - near.astype(numpy.int64)).astype(numpy.float64)  # exact
    q = near / power
    product = q * power
    (a, b), (c, d) = _halves(q), _halves(power)
    error = ((a * c - product) + a * d + b * c) + b * d  # of the product, exactly
    step = (((near - product) - error) + rest) / power
    found = q + step
    left = abs(step - (found - q))  # what the last addition rounded away
    place = numpy.spacing(found)
    certain = (0.5 * place - left > 2.0**-40 * place) & (numpy.frexp(found)[0] != 0.5)
    return found, certain | (left == 0)


def _halves(x: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Split numbers into two of 26 bits, by Veltkamp."""
    scaled = 134217729.0 * x  # 2^27 + 1
    high = scaled - (scaled - x)
    return high, x - high


def _read_others(
    text: bytes, starts: numpy.ndarray, ends: numpy.ndarray, values: numpy.ndarray, odd: numpy.ndarray
) -> bool:
    """Let Python read a few cells of another form; return whether all are numbers."""
    rows = numpy.flatnonzero(odd)
    if len(rows) * FEW > len(values):
        return False
    for row, start, end in zip(rows.tolist(), starts[rows].tolist(), ends[rows].tolist(), strict=True):
        cell = text[start:end].decode()
        if "_" in cell or cell != cell.strip():  # Python reads 1_000, and blanks may hide leading zeros
            return False
        try:
            values[row] = float(cell)
        except ValueError:
            return False
    return True
