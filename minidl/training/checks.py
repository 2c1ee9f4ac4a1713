"""Checks and conversions of settings and inputs."""

from __future__ import annotations

from typing import Any

import numpy

from minidl.arrays import check_real, to_host
from minidl.errors import DataError, ParameterError

__all__ = ["as_host", "as_inputs", "cast_to", "check_finite", "check_kind", "whole_number"]


def whole_number(value: Any, name: str, where: str, least: int) -> int:
    """Return a setting that must be a whole number.

    Raises
    ------
    ParameterError
        If it is not a whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)) or value < least:
        raise ParameterError(f"{where}: {name} must be a whole number from {least} on, got {value!r}")
    return int(value)


def as_host(array: Any, where: str, name: str) -> numpy.ndarray:
    """Convert anything array-like, such as a DataFrame or a tensor, to a host array with at least one example.

    Raises
    ------
    DataError
        If its rows differ in length, some values are masked, or it has no examples.
    DtypeError
        If it is no array; see ``minidl.arrays.to_host``.
    """
    host = to_host(array, where, name)
    if host.ndim == 0 and host.dtype.kind in "fiub":
        raise DataError(f"{where}: {name} must have one row for each example, got a single number")
    if host.ndim and host.shape[0] == 0:
        raise DataError(f"{where}: {name} holds no examples (shape {host.shape})")
    return host


def check_kind(array: numpy.ndarray, where: str, name: str, advice: str) -> None:
    """Raise DtypeError unless the array holds real numbers or booleans."""
    check_real(array, where, name, advice)


def check_finite(array: numpy.ndarray, where: str, name: str) -> None:
    """Raise DataError if there is nan or inf, naming the first such example."""
    if array.dtype.kind != "f":
        return
    with numpy.errstate(over="ignore", invalid="ignore"):
        if numpy.isfinite(array.sum()):  # one pass without allocation; look closer only if the sum overflows
            return
    rows = ~numpy.isfinite(array.reshape(len(array), -1)).all(axis=1)  # (N,)
    if rows.any():
        raise DataError(
            f"{where}: {name} holds nan or inf in {int(rows.sum())} of {len(array)} examples, the first in "
            f"{name}[{int(rows.argmax())}]; fill in or drop them"
        )


def cast_to(array: numpy.ndarray, dtype: numpy.dtype[Any], where: str, name: str) -> numpy.ndarray:
    """Convert finite numbers to a contiguous array of a dtype; an array that is one already is returned as it is.

    Raises
    ------
    DataError
        If a number is too large for the dtype.
    """
    with numpy.errstate(over="ignore"):
        result = numpy.ascontiguousarray(array, dtype=dtype)
    if result is not array and numpy.finfo(dtype).max < numpy.finfo("float64").max:
        lost = ~numpy.isfinite(result)
        if lost.any():
            place = tuple(map(int, numpy.argwhere(lost)[0]))
            raise DataError(
                f"{where}: {name}[{place[0]}] holds {array[place]}, too large for the model's {dtype}; scale the data, "
                "or make the model with dtype='float64'"
            )
    return result


def as_inputs(
    x: numpy.ndarray, dtype: numpy.dtype[Any], where: str, name: str, keep_integers: bool = False
) -> numpy.ndarray:
    """Convert the examples to the model's dtype.

    Integers and booleans are converted too, as in Keras, unless ``keep_integers`` is true; ``model.forward`` itself is
    strict. An array that has the dtype already is checked but not copied.

    Raises
    ------
    DataError
        If an example contains nan, inf or a number too large for the dtype; the message names the first.
    DtypeError
        If the array does not hold real numbers.
    """
    check_kind(x, where, name, f"convert it to {dtype}, for example with numpy.asarray({name}, dtype='{dtype}')")
    if keep_integers and x.dtype.kind in "iub":
        return numpy.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))
    check_finite(x, where, name)
    return cast_to(x, dtype, where, name)
