"""The namespace of an array and a check of its dtype, which every formula needs."""

from __future__ import annotations

import sys
from typing import Any

import numpy

from minidl.errors import DtypeError

Array = Any
"""A ``numpy.ndarray`` or a ``cupy.ndarray``."""


def namespace(*arrays: Array) -> Any:
    """Return the module whose functions work on these arrays: ``numpy``, ``cupy``, or the one that the array names.

    >>> namespace(numpy.zeros(3)).__name__
    'numpy'
    """
    for array in arrays:
        if type(array) is numpy.ndarray:
            return numpy
        if hasattr(array, "__array_namespace__"):
            return array.__array_namespace__()
        if type(array).__module__ == "cupy":  # CuPy's arrays (14.2) do not name their namespace
            return sys.modules["cupy"]
    return numpy


def require_float(array: Array, name: str, op: str) -> None:
    """Raise :class:`DtypeError` unless ``array`` is a real floating-point array.

    >>> require_float(numpy.arange(3), "x", "relu")
    Traceback (most recent call last):
    ...
    minidl.errors.DtypeError: relu: x must be a floating-point array, got dtype int64; convert it with x.astype(...)
    """
    dtype = getattr(array, "dtype", None)
    if dtype is None or not hasattr(dtype, "kind"):
        convert = "minidl.arrays.from_dlpack" if hasattr(array, "__dlpack__") else "numpy.asarray"
        raise DtypeError(f"{op}: {name} must be an array, got {type(array).__name__}; convert it with {convert}(...)")
    if isinstance(array, numpy.matrix):
        raise DtypeError(
            f"{op}: {name} is a numpy.matrix, for which * is the product of matrices; give numpy.asarray({name})"
        )
    if dtype.kind != "f":
        raise DtypeError(
            f"{op}: {name} must be a floating-point array, got dtype {dtype}; convert it with {name}.astype(...)"
        )
