"""The UCI handwritten digits, which ship with the package (source and licence: digits-LICENSE.txt beside this file)."""

from __future__ import annotations

import functools
import io
import os
from pathlib import Path
from typing import Any

import numpy

from minidl.data.files import read_text
from minidl.errors import DtypeError, FileFormatError
from minidl.ops._scalars import scalars_checked

__all__ = ["digits"]

FILE = Path(__file__).with_name("digits.csv.gz")
ROWS, PIXELS, LARGEST = 1797, 64, 16


@scalars_checked
def digits(*, flat: bool = False, scaled: bool = True, dtype: Any = "float32") -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return 1797 images of handwritten digits and their labels.

    E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository (1998),
    https://doi.org/10.24432/C50P49, CC BY 4.0. Nothing is downloaded.

    Parameters
    ----------
    flat : bool, default False
        Whether an image is one row of 64 pixels instead of 8 rows of 8.
    scaled : bool, default True
        Whether pixels are from 0 to 1 instead of 0 to 16.
    dtype : dtype, default "float32"
        Of the images; any floating-point dtype.

    Returns
    -------
    images : array, shape (1797, 8, 8) or (1797, 64)
    labels : int64 array, shape (1797,)
        From 0 to 9.

    Raises
    ------
    FileFormatError
        If the file in the package is damaged.

    Examples
    --------
    >>> images, labels = digits()
    >>> images.shape, labels.shape, images.max()
    ((1797, 8, 8), (1797,), np.float32(1.0))
    >>> for row in images[0]:
    ...     print("".join(".:oO@"[round(4 * float(pixel))] for pixel in row))
    ..:Oo...
    ..O@o@:.
    .:@..Oo.
    .:O..oo.
    .:o..oo.
    .:O..Oo.
    ..@:oO..
    ..oOo...
    """
    dtype = numpy.dtype(dtype)
    if dtype.kind != "f":
        raise DtypeError(f"digits: expected a floating dtype for the images, got {dtype}")
    table = _load(FILE)
    images = table[:, :PIXELS].astype(dtype)
    if scaled:
        images /= LARGEST
    return images if flat else images.reshape(-1, 8, 8), table[:, PIXELS].astype(numpy.int64)


@functools.cache
def _load(path: str | os.PathLike[str]) -> numpy.ndarray:
    """Read and check the table of pixels and labels."""
    text = read_text(path, "ascii")
    if not text:
        raise FileFormatError(f"{os.fspath(path)}: the file is empty; install minidl again")
    try:
        table = numpy.loadtxt(io.StringIO(text), dtype=numpy.int16, delimiter=",", ndmin=2)
    except ValueError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}; install minidl again") from error
    fits = table.shape == (ROWS, PIXELS + 1)
    if not fits or table.min() < 0 or table[:, :PIXELS].max() > LARGEST or table[:, PIXELS].max() > 9:
        raise FileFormatError(
            f"{os.fspath(path)}: expected {ROWS} rows of {PIXELS} pixels from 0 to {LARGEST} and a digit, got a table "
            f"of shape {table.shape}; install minidl again"
        )
    table.flags.writeable = False
    return table
