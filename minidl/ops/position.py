"""Rotary positions: pairs of features, turned by an angle that grows with the position."""

from __future__ import annotations

from typing import Any

from minidl.errors import ShapeError
from minidl.ops._attention import check_tables
from minidl.ops._checks import ieee, require_like, require_same_dtype, widen_float16
from minidl.ops._namespace import Array, require_float

__all__ = ["rotary_embedding", "rotary_embedding_backward"]


@ieee
def rotary_embedding(
    x: Array, cos: Array, sin: Array, interleaved: bool = False, out: Array | None = None
) -> tuple[Array, tuple[Any, ...]]:
    """Turn pairs of features.

    With a and b the two features of a pair, and c and s the cosine and sine of its angle::

        y_a = c x_a - s x_b,   y_b = s x_a + c x_b

    If the angle of pair i at position t is t theta_i, the product of a query at t and a key at u depends on t - u alone. There
    are R pairs; features beyond the first 2 R stay as they are. Pair i is features i and i + R, or with ``interleaved``
    features 2 i and 2 i + 1. Both are in use; weights trained with one are wrong with the other.

    Parameters
    ----------
    x : array, shape (..., T, D)
    cos, sin : array, shape (T, R)
        As ``minidl.ops.position_tables.rotary_tables`` makes them; or any shape that broadcasts to (..., T, R). Data, without
        gradient.
    interleaved : bool, default False
    out : array, shape (..., T, D), optional
        Where y goes. It may be x, which is then turned in place: backward does not read it.

    Returns
    -------
    y : array, shape (..., T, D)
    cache : (cos, sin, interleaved, shape of x)

    Raises
    ------
    ShapeError
        If cos and sin, or ``out``, do not fit.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.

    References
    ----------
    J. Su et al., "RoFormer: enhanced Transformer with rotary position embedding" (2021), equation 34.

    Examples
    --------
    >>> import numpy
    >>> quarter = numpy.array([[0.0, 1.0]]), numpy.array([[1.0, 0.0]])  # pair 0 by a quarter turn, pair 1 not at all
    >>> y, cache = rotary_embedding(numpy.array([[1.0, 2.0, 3.0, 4.0, 9.0]]), *quarter)
    >>> y
    array([[-3.,  2.,  1.,  4.,  9.]])
    >>> rotary_embedding_backward(y, cache)
    array([[1., 2., 3., 4., 9.]])
    """
    require_float(x, "x", "rotary_embedding")
    for name, table in (("cos", cos), ("sin", sin)):
        require_float(table, name, "rotary_embedding")
        require_same_dtype(table, x, name, "x", "rotary_embedding")
    check_tables(x.shape, cos.shape, sin.shape)
    return _turn("rotary_embedding", x, cos, sin, interleaved, out), (cos, sin, interleaved, x.shape)


@ieee
def rotary_embedding_backward(dy: Array, cache: tuple[Any, ...], out: Array | None = None) -> Array:
    """Return the gradient of x, in ``out`` if there is one, which may be dy.

    x_a enters y_a with the factor c and y_b with s; x_b enters y_a with -s and y_b with c. That is a turn back::

        dx_a = c dy_a + s dy_b,   dx_b = c dy_b - s dy_a
    """
    cos, sin, interleaved, shape = cache
    require_float(dy, "dy", "rotary_embedding_backward")
    require_same_dtype(dy, cos, "dy", "y", "rotary_embedding_backward")
    if dy.shape != shape:
        raise ShapeError(f"rotary_embedding_backward: dy must have the shape of y, {shape}, got {dy.shape}")
    return _turn("rotary_embedding_backward", dy, cos, -sin, interleaved, out)


def _turn(op: str, x: Array, cos: Array, sin: Array, interleaved: bool, out: Array | None) -> Array:
    if out is not None:
        require_like(out, x, "out", "x", op)
    pairs = cos.shape[-1]  # R
    first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    if interleaved:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    c, s = widen_float16(cos), widen_float16(sin)
    y = x.copy()  # (..., T, D)
    y[..., first] = c * x[..., first] - s * x[..., second]  # (..., T, R)
    y[..., second] = s * x[..., first] + c * x[..., second]  # (..., T, R)
    if out is None:
        return y
    out[...] = y
    return out
