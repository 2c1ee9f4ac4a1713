"""Tensors that can be read piece by piece, and the half-precision formats."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.errors import NonFiniteError

__all__ = ["BLOCK", "MemoryTensor", "Tensor", "from_bfloat16", "to_bfloat16"]

BLOCK = 1 << 18
"""Elements that are converted at a time: 1 MiB of float32, which second-level caches hold."""


def from_bfloat16(bits: numpy.ndarray) -> numpy.ndarray:
    """Return the float32 numbers whose upper 16 bits are given: exact, because bfloat16 is float32 cut short.

    >>> from_bfloat16(numpy.array([0x3F80, 0xC040], dtype="uint16"))
    array([ 1., -3.], dtype=float32)
    """
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


def to_bfloat16(values: numpy.ndarray) -> numpy.ndarray:
    """Return the bits of the bfloat16 numbers nearest to the values, of two equally near ones the even one.

    Adding 0x7FFF to the 32 bits, and 1 more where bit 16 is set, carries into bit 16 exactly where the number is to be
    rounded up. NaN must not be rounded, since the carry could turn it into infinity; it is cut and its quiet bit set.

    >>> [hex(bits) for bits in to_bfloat16(numpy.array([1.0, 1.00390625, 1.01171875, numpy.nan], dtype="float32"))]
    ['0x3f80', '0x3f80', '0x3f82', '0x7fc0']
    """
    bits = numpy.asarray(values, dtype=numpy.float32).view(numpy.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return numpy.where(numpy.isnan(values), (bits >> 16) | 0x40, rounded).astype(numpy.uint16)


def narrowed(values: numpy.ndarray, dtype: numpy.dtype[Any], bfloat16: bool, name: str) -> numpy.ndarray:
    """Return the values as they are stored.

    Raises
    ------
    NonFiniteError
        If a finite number would become infinite.
    """
    if not bfloat16 and (values.dtype.kind != "f" or dtype.itemsize >= values.dtype.itemsize):
        return values.astype(dtype, copy=False)
    with numpy.errstate(over="ignore"):
        stored = to_bfloat16(values) if bfloat16 else values.astype(dtype)
        finite = numpy.isfinite(from_bfloat16(stored) if bfloat16 else stored)
    if (numpy.isfinite(values) & ~finite).any():
        kind = "bfloat16" if bfloat16 else dtype.name
        raise NonFiniteError(f"{name} has numbers too large for {kind}; save it in a dtype with a larger range")
    return stored


class Tensor:
    """A tensor that is to be loaded, wherever it is.

    Attributes
    ----------
    name : str
        Its name there.
    shape : tuple of int
        Its shape there.
    kind : str
        NumPy's letter for the kind of its values: ``"f"``, ``"i"``, ``"u"``, or another.
    dtype : str
        What messages call its dtype.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: str

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def read(self, start: int, stop: int) -> numpy.ndarray:
        """Return the elements from start to stop, in C order, as a flat array."""
        raise NotImplementedError

    def read_into(self, destination: numpy.ndarray) -> None:
        """Fill an array of this shape, of any strides, in blocks."""
        self._fill(destination, 0)

    def _fill(self, destination: numpy.ndarray, start: int) -> None:
        size = destination.size
        if not size:
            return
        if size <= BLOCK:
            destination[...] = self.read(start, start + size).reshape(destination.shape)
            return
        row = size // len(destination)
        rows = max(1, BLOCK // row)
        for at in range(0, len(destination), rows):
            self._fill(destination[at : at + rows] if rows > 1 else destination[at], start + at * row)


class MemoryTensor(Tensor):
    """A tensor that is an array."""

    def __init__(self, name: str, array: numpy.ndarray) -> None:
        self.name, self.shape = name, array.shape
        self.kind, self.dtype = array.dtype.kind, str(array.dtype)
        self._array = array

    def read(self, start: int, stop: int) -> numpy.ndarray:
        return self._array.flat[start:stop]

    def read_into(self, destination: numpy.ndarray) -> None:
        destination[...] = self._array
