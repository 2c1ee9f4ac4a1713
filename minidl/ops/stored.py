"""Weights of linear layers stored in 16 or 8 bits, for inference: how they are rounded, and what products they give.

==========  =========================  ==========================================  ==================================
stored as   array                      the weight that it stands for               error of a weight, at most
==========  =========================  ==========================================  ==================================
bfloat16    uint16, the upper halves   exactly the bfloat16                        2^-9 of it (8 digits)
float16     float16                    exactly the float16                         2^-12 of it (11 digits), or 2^-25
int8        int8, and a float32 scale  scale_o q_oi                                1/254 of the row's largest weight
            for each output
==========  =========================  ==========================================  ==================================

With 16 bits the sums are those of float32: y = x W^T + b with the W that is stored. With 8 bits the rows of x are rounded to
integers too, and the sums are exact.
"""

from __future__ import annotations

import numpy

from minidl.errors import DtypeError, NonFiniteError, ShapeError
from minidl.ops._checks import ieee
from minidl.ops._namespace import Array, namespace
from minidl.ops.precision import round_to_bfloat16

__all__ = ["STORAGE", "int8_linear", "restore_weight", "round_rows_to_int8", "store_weight"]

STORAGE = ("bfloat16", "float16", "int8")
"""The names that :func:`store_weight` takes."""


def store_weight(weight: Array, dtype: str) -> tuple[Array, Array | None]:
    """Round a matrix of weights to fewer bits.

    bfloat16 and float16 are rounded to nearest even. int8 has a scale for each row, an output of the layer::

        scale_o = max_i |w_oi| / 127
        q_oi = nearest(w_oi / scale_o)

    Parameters
    ----------
    weight : array of float32, shape (out, in)
    dtype : {"bfloat16", "float16", "int8"}

    Returns
    -------
    stored : array of uint16 (the bits of bfloat16), float16 or int8, shape (out, in)
    scale : array of float32, shape (out,), or None
        Of int8.

    Raises
    ------
    NonFiniteError
        If a weight is not finite, or too large for the dtype.

    Examples
    --------
    >>> weight = numpy.array([[1.0, -0.5, 0.003]], dtype="float32")
    >>> store_weight(weight, "int8")
    (array([[127, -64,   0]], dtype=int8), array([0.00787402], dtype=float32))
    >>> stored, scale = store_weight(weight, "bfloat16")
    >>> [hex(bits) for bits in stored[0]]
    ['0x3f80', '0xbf00', '0x3b45']
    """
    xp = namespace(weight)
    with numpy.errstate(over="ignore"):
        if dtype == "int8":
            q, scale = round_rows_to_int8(weight)
            return _require_finite(q, scale, dtype), scale
        if dtype == "float16":
            stored = weight.astype("float16")
            return _require_finite(stored, stored, dtype), None
        rounded = round_to_bfloat16(weight)
    bits = (rounded.view("uint32") >> 16).astype("uint16")
    return xp.ascontiguousarray(_require_finite(bits, rounded, dtype)), None


def _require_finite(stored: Array, values: Array, dtype: str) -> Array:
    if not bool(namespace(values).isfinite(values).all()):
        raise NonFiniteError(f"store_weight: a weight is infinite or nan, or too large for {dtype}")
    return stored


def restore_weight(stored: Array, scale: Array | None = None) -> Array:
    """Return the weights that are stored, as float32.

    Parameters
    ----------
    stored : array of uint16, float16 or int8, shape (out, in)
    scale : array of float32, shape (out,), optional
        Of int8.

    Raises
    ------
    DtypeError
        If the array is none that :func:`store_weight` returns.

    Examples
    --------
    >>> restore_weight(numpy.array([[0x3F80, 0xBF00]], dtype="uint16"))
    array([[ 1. , -0.5]], dtype=float32)
    """
    if stored.dtype == "uint16":
        return (stored.astype("uint32") << 16).view("float32")
    if stored.dtype == "float16":
        return stored.astype("float32")
    if stored.dtype != "int8" or scale is None:
        raise DtypeError(f"restore_weight: expected uint16, float16, or int8 with a scale, got {stored.dtype}")
    return stored.astype("float32") * scale[:, None]


def round_rows_to_int8(x: Array) -> tuple[Array, Array]:
    """Round each row to integers from -127 to 127, in steps of its own scale.

    The largest element of a row becomes 127::

        scale_n = max_i |x_ni| / 127
        q_ni = nearest(x_ni / scale_n)

    Parameters
    ----------
    x : array of float32, shape (N, in)

    Returns
    -------
    q : array of int8, shape (N, in)
    scale : array of float32, shape (N,)
        1 for a row of zeros, nan for one with a number that is not finite, whose q is 0.
    """
    xp = namespace(x)
    largest = xp.max(xp.abs(x), axis=-1) if x.shape[-1] else xp.zeros(x.shape[:-1], dtype=x.dtype)  # (N,)
    finite = xp.isfinite(largest)
    scale = xp.where(finite, largest, xp.float32(0)) / xp.float32(127)
    scale = xp.where(scale == 0, xp.float32(1), scale)  # (N,)
    rounded = xp.clip(xp.rint(xp.where(finite[:, None], x, xp.float32(0)) / scale[:, None]), -127, 127)
    return rounded.astype("int8"), xp.where(finite, scale, xp.float32(numpy.nan))


@ieee
def int8_linear(x: Array, weight: Array, scale: Array, bias: Array | None = None) -> Array:
    """Apply an affine map whose weights are int8, by exact sums of integers.

    With p_ni and s_n from :func:`round_rows_to_int8` of x::

        y_no = (sum_i p_ni q_oi) (s_n scale_o) + b_o

    Each p is within 1/2 of x / s, and each q within 1/2 of w / scale. So for largest magnitudes X_n and W_o in a row, the result
    differs from that of the float32 weights by at most (sum_i |x_ni|) W_o / 254 + (sum_i |w_oi|) X_n / 254 + I X_n W_o / 254^2
    for I inputs. Errors of terms are as often positive as negative, so that it is about sqrt(I) of this, not I, in practice.

    Parameters
    ----------
    x : array of float32, shape (..., in)
    weight : array of int8, shape (out, in)
    scale : array of float32, shape (out,)
    bias : array of float32, shape (out,), optional

    Returns
    -------
    y : array of float32, shape (..., out)

    Raises
    ------
    ShapeError
        If the sizes do not fit.

    Examples
    --------
    >>> q, scale = store_weight(numpy.array([[1.0, -0.5], [0.0, 2.0]], dtype="float32"), "int8")
    >>> int8_linear(numpy.array([[1.0, 2.0]], dtype="float32"), q, scale)
    array([[0., 4.]], dtype=float32)
    """
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1] or scale.shape != weight.shape[:1]:
        raise ShapeError(
            f"int8_linear: expected weight (out, in), scale (out,) and x (..., in), got {weight.shape}, {scale.shape} and "
            f"{x.shape}"
        )
    p, row_scale = round_rows_to_int8(x.reshape((-1, x.shape[-1])))  # (N, in), (N,)
    sums = namespace(x).matmul(p.astype("float64"), weight.astype("float64").T)  # (N, out): exact, being below 2^53
    y = sums.astype("float32") * (row_scale[:, None] * scale)
    y = y if bias is None else y + bias
    return y.reshape((*x.shape[:-1], weight.shape[0]))  # (..., out)
