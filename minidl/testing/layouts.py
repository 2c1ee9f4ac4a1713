"""The same elements in other memory layouts, which a kernel that assumes contiguous arrays gets wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy

from minidl.ops import Array, namespace

__all__ = ["HOST_LAYOUTS", "LAYOUTS"]


def _transposed(x: Array) -> Array:
    return x.T.copy().T


def _every_other(x: Array) -> Array:
    """Spread the elements out, with other values between them."""
    if x.ndim == 0:
        return x
    wide = namespace(x).zeros(tuple(2 * size for size in x.shape), dtype=x.dtype)
    wide[...] = 77
    view = wide[(slice(None, None, 2),) * x.ndim]
    view[...] = x
    return view


def _backwards(x: Array) -> Array:
    if x.ndim == 0:
        return x
    flip = (slice(None, None, -1),) * x.ndim
    return x[flip].copy()[flip]


def _last_axis_apart(x: Array) -> Array:
    """Place rows one after another, with gaps between their elements."""
    if x.ndim == 0:
        return x
    wide = namespace(x).zeros((*x.shape, 3), dtype=x.dtype)
    wide[..., 1] = x
    return wide[..., 1]


def _read_only(x: numpy.ndarray) -> numpy.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x: numpy.ndarray) -> numpy.ndarray:
    """Place the array one byte off its natural alignment, as in a packed file."""
    buffer = numpy.zeros(x.nbytes + 1, dtype="uint8")
    view = buffer[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _swapped(x: numpy.ndarray) -> numpy.ndarray:
    """Store the array in the other byte order, as in an old file."""
    return x.astype(x.dtype.newbyteorder())


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "transposed": _transposed,
    "every other": _every_other,
    "backwards": _backwards,
    "last axis apart": _last_axis_apart,
}
"""Layouts that any array may have."""

HOST_LAYOUTS: dict[str, Callable[[numpy.ndarray], numpy.ndarray]] = {
    "read-only": _read_only,
    "unaligned": _unaligned,
    "swapped bytes": _swapped,
}
"""Layouts that only arrays on the host may have."""
