"""From an op to its kernels, or to its formula: the one place where that is decided, and what the wrappers share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from minidl.engines.cuda.source import DTYPES
from minidl.ops import FORMULAS, Array, namespace

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
    "storable",
    "team",
    "wide",
]

OVERRIDES: dict[str, Callable[..., Any]] = {}
"""Every op and composition with kernels; each function takes all cases, and hands some to the formula."""

NOT_TAKEN: Any = object()
"""What a wrapper returns where its kernels do not take the arguments."""


def override(
    name: str, formula: Callable[..., Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a wrapper of kernels for an op. Wherever it returns NOT_TAKEN, the formula gets the same arguments."""
    otherwise = formula or FORMULAS[name]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(otherwise)
        def run(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            return otherwise(*args, **kwargs) if result is NOT_TAKEN else result

        OVERRIDES[name] = run
        return run

    return decorate


def is_taken(*arrays: Any) -> bool:
    """Whether all are arrays of one kind, NumPy's or CuPy's, and of one dtype that kernels are compiled for."""
    first = arrays[0]
    return (
        type(first).__name__ == "ndarray"
        and all(type(x) is type(first) and x.dtype == first.dtype for x in arrays)
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
    made = namespace(x).empty(x.shape if shape is None else shape, dtype=dtype or x.dtype)
    spoil(made)
    return made


def spoil(made: Array) -> None:
    """Leave a new array as it is; tests fill it with nan here, so that no result is right by chance."""


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


def team(rows: int, columns: int) -> tuple[int, tuple[int, int]]:
    """Return the grid and the block for rows of a matrix: each row by one warp, by 256 threads, or by 512, as it is long."""
    threads = 32 if columns <= 1024 else 256 if columns <= 8192 else 512
    teams = 4 if threads == 32 else 1
    return blocks_for(rows, teams), (threads, teams)


def storable(
    into: Sequence[Array | None] | None,
    wanted: Sequence[bool] | None,
    shapes: Sequence[tuple[int, ...]],
    inputs: int,
    x: Array,
) -> bool:
    """Whether the gradients of parameters of these shapes can be written where the caller says, and are told apart rightly."""
    if wanted is not None and len(wanted) != inputs + len(shapes):
        return False
    if into is None:
        return True
    given = [(array, shape) for array, shape in zip(into, shapes, strict=False) if array is not None]
    return len(into) == len(shapes) and all(
        is_taken(x, array) and array.shape == shape and array.flags.c_contiguous for array, shape in given
    )


def number(value: Any) -> bool:
    """Whether it is a plain real number."""
    return isinstance(value, float | int) and not isinstance(value, bool)
