"""Tensors that are read in blocks, and conversion to and from half precision."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.errors import NonFiniteError

__all__ = ["BLOCK", "MemoryTensor", "Tensor", "from_bfloat16", "to_bfloat16"]

BLOCK = 1 << 18
"""The number of elements in a block: 1 MiB of float32, which fits the second-level cache."""


def from_bfloat16(bits: numpy.ndarray) -> numpy.ndarray:
    """Convert bfloat16, given as its bits, to float32. This is exact: bfloat16 is the upper half of float32.

    >>> from_bfloat16(numpy.array([0x3F80, 0xC040], dtype="uint16"))
    array([ 1., -3.], dtype=float32)
    """
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


def to_bfloat16(values: numpy.ndarray) -> numpy.ndarray:
    """Round to bfloat16, to nearest with ties to even, and return the bits.

    Adding 0x7FFF to the 32 bits, and 1 more if bit 16 is set, carries into bit 16 exactly if the number must be rounded
    up. NaN is not rounded, because the carry could turn it into infinity. It is truncated, and its quiet bit is set.

    >>> [hex(bits) for bits in to_bfloat16(numpy.array([1.0, 1.00390625, 1.01171875, numpy.nan], dtype="float32"))]
    ['0x3f80', '0x3f80', '0x3f82', '0x7fc0']
    """
    bits = numpy.asarray(values, dtype=numpy.float32).view(numpy.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return numpy.where(numpy.isnan(values), (bits >> 16) | 0x40, rounded).astype(numpy.uint16)


def narrow(values: numpy.ndarray, dtype: numpy.dtype[Any], bfloat16: bool, name: str) -> numpy.ndarray:
    """Convert values to a dtype in which they are stored.

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
    """A tensor that can be loaded, from a file or from memory.

    Attributes
    ----------
    name : str
    shape : tuple of int
    kind : str
        NumPy's letter for the kind of its values, such as ``"f"``, ``"i"`` or ``"u"``.
    dtype : str
        The dtype, for messages.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    dtype: str

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def read(self, start: int, stop: int) -> numpy.ndarray:
        """Return the elements from start to stop, in C order, as a flat array."""
        raise NotImplementedError

    def read_into(self, destination: numpy.ndarray) -> None:
        """Fill an array of this shape in blocks; it may have any strides."""
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
    """A tensor in memory."""

    def __init__(self, name: str, array: numpy.ndarray) -> None:
        self.name, self.shape = name, array.shape
        self.kind, self.dtype = array.dtype.kind, str(array.dtype)
        self._array = array

    def read(self, start: int, stop: int) -> numpy.ndarray:
        return self._array.flat[start:stop]

    def read_into(self, destination: numpy.ndarray) -> None:
        destination[...] = self._array
