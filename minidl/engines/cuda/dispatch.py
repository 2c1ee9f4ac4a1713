"""From an op to its kernels, or to its formula: the one place where that is decided, and what the wrappers share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from minidl.engines.cuda.source import DTYPES
from minidl.ops import Array, namespace
from minidl.ops._gradients import check_storage

__all__ = [
    "NOT_TAKEN",
    "OVERRIDES",
    "alike",
    "blocks_for",
    "dense",
    "is_taken",
    "new",
    "number",
    "override",
    "storage",
    "wide",
]

OVERRIDES: dict[str, Callable[..., Any]] = {}
"""Every op and composition with kernels; each function takes all cases, and hands some to the formula."""

NOT_TAKEN: Any = object()
"""What a wrapper returns where its kernels do not take the arguments."""


def override(formula: Callable[..., Any], name: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a wrapper of kernels for a formula, which gets the same arguments wherever the wrapper returns NOT_TAKEN."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(formula)
        def run(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            return formula(*args, **kwargs) if result is NOT_TAKEN else result

        OVERRIDES[name or function.__name__] = run
        return run

    return decorate


def is_taken(*arrays: Any) -> bool:
    """Whether all are arrays of one kind, NumPy's or CuPy's, and of one dtype that kernels are compiled for."""
    first = arrays[0]
    return (
        all(type(x) is type(first) and x.dtype == first.dtype for x in arrays)
        and hasattr(first, "dtype")
        and type(first).__name__ == "ndarray"
        and first.dtype.name in DTYPES
        and first.dtype.isnative
    )


def alike(x: Any, *others: Any) -> bool:
    """Whether all are taken and have the shape of the first."""
    return is_taken(x, *others) and all(y.shape == x.shape for y in others)


def dense(x: Array) -> Array:
    """Return x, or a copy of it in C order without gaps."""
    return x if x.flags.c_contiguous else namespace(x).ascontiguousarray(x)


def new(x: Array, shape: tuple[int, ...] | None = None, dtype: Any = None) -> Array:
    """Return an array beside x with arbitrary content, of its shape and dtype unless others are given."""
    return namespace(x).empty(x.shape if shape is None else shape, dtype=dtype or x.dtype)


def wide(x: Array) -> Any:
    """Return the dtype that kernels compute with: float32 for float16."""
    return numpy.dtype("float32") if x.dtype == numpy.float16 else x.dtype


most_blocks = 4096
"""Of a grid whose blocks go round until everything is done; enough to fill any device."""


def blocks_for(n: int, of_a_block: int) -> int:
    """Return how many blocks share n things; the rest is done in further rounds.

    The kernels' results do not depend on it, and it does not depend on the device.
    """
    return max(1, min(-(-n // of_a_block), most_blocks))


def storage(
    op: str, into: Sequence[Array | None] | None, position: int, x: Array, shape: tuple[int, ...]
) -> tuple[Array, bool]:
    """Return the array for a parameter's gradient, and whether it is one that was handed in, which may be added to."""
    given = None if into is None else into[position]
    if given is None:
        return new(x, shape), False
    check_storage(op, position, given, shape, x.dtype)
    return given, True


def number(value: Any) -> bool:
    """Whether it is a plain real number."""
    return isinstance(value, float | int) and not isinstance(value, bool)
