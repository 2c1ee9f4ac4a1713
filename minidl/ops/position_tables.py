"""Tables of positions, which have no gradients: sines and cosines, and the slopes of ALiBi."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minidl.errors import ParameterError

__all__ = ["alibi_bias", "alibi_slopes", "image_positions", "rotary_tables", "sinusoidal_table"]


def sinusoidal_table(length: int, dim: int, base: float = 10000.0, dtype: Any = "float32") -> numpy.ndarray:
    """Return a vector for each position, of sines and cosines of many wavelengths.

    In elements::

        table_{t, 2i} = sin(t / base^(2i / C)),   table_{t, 2i+1} = cos(t / base^(2i / C))

    Parameters
    ----------
    length : int
        T, the number of positions.
    dim : int
        C, the length of a vector; if it is odd, the last cosine is left out.
    base : float, default 10000.0
    dtype : dtype, default float32

    Returns
    -------
    numpy.ndarray
        Of shape (T, C).

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.5.

    Examples
    --------
    >>> sinusoidal_table(2, 4).round(3)
    array([[0.   , 1.   , 0.   , 1.   ],
           [0.841, 0.54 , 0.01 , 1.   ]], dtype=float32)
    """
    angles = _angles(length, dim + dim % 2, base)  # (T, C / 2)
    table = numpy.stack([numpy.sin(angles), numpy.cos(angles)], axis=-1).reshape(length, -1)  # (T, C)
    return table[:, :dim].astype(dtype)


def image_positions(mask: numpy.ndarray, dim: int, base: float = 10000.0, dtype: Any = "float32") -> numpy.ndarray:
    """Return a vector for each place of images: half of it tells the row, and half the column.

    Rows and columns are counted among the real places alone, from 1, and scaled so that the last is 2 pi. With p such a row, and
    half = C / 2, in elements::

        table_{2i} = sin(p / base^(2i / half)),   table_{2i+1} = cos(p / base^(2i / half))

    and the same for the column in the second half.

    Parameters
    ----------
    mask : numpy.ndarray, shape (N, H, W)
        True for real places, False for padding.
    dim : int
        C, the length of a vector; divisible by 4.
    base : float, default 10000.0
    dtype : dtype, default float32

    Returns
    -------
    numpy.ndarray
        Of shape (N, H, W, C).

    Raises
    ------
    ParameterError
        If 4 does not divide C.

    References
    ----------
    N. Carion et al., "End-to-end object detection with transformers", ECCV 2020, section A.4.

    Examples
    --------
    >>> image_positions(numpy.ones((1, 1, 2), bool), 4).round(3)  # column 1 is pi, and sin(pi) = 0
    array([[[[-0.,  1.,  0., -1.],
             [-0.,  1., -0.,  1.]]]], dtype=float32)
    """
    if dim < 4 or dim % 4:
        raise ParameterError(f"image_positions: the vectors' length must be divisible by 4, got {dim}")
    half = dim // 2
    frequency = base ** (-2 * (numpy.arange(half) // 2) / half)  # (C / 2,)
    parts = []
    for axis in (1, 2):
        count = mask.cumsum(axis, dtype="float64")  # (N, H, W)
        last = count.take([-1], axis=axis)
        angles = (2 * math.pi * count / (last + 1e-6))[..., None] * frequency  # (N, H, W, C / 2)
        parts.append(numpy.where(numpy.arange(half) % 2, numpy.cos(angles), numpy.sin(angles)))
    return numpy.concatenate(parts, axis=-1).astype(dtype)


def rotary_tables(
    length: int, dim: int, base: float = 10000.0, dtype: Any = "float32"
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the cosines and sines with which ``minidl.ops.rotary_embedding`` turns pairs of features.

    Pair i at position t is turned by the angle::

        t base^(-2i / D)

    Parameters
    ----------
    length : int
        T, the number of positions.
    dim : int
        D, how many features are turned; even.
    base : float, default 10000.0
    dtype : dtype, default float32

    Returns
    -------
    cos, sin : numpy.ndarray
        Of shape (T, D / 2).

    Examples
    --------
    >>> cos, sin = rotary_tables(2, 2)
    >>> cos.round(3), sin.round(3)
    (array([[1.  ],
           [0.54]], dtype=float32), array([[0.   ],
           [0.841]], dtype=float32))
    """
    if dim % 2:
        raise ParameterError(f"rotary_tables: dim must be even, because features are turned in pairs, got {dim}")
    angles = _angles(length, dim, base)  # (T, D / 2)
    return numpy.cos(angles).astype(dtype), numpy.sin(angles).astype(dtype)


def alibi_slopes(num_heads: int) -> numpy.ndarray:
    """Return the slope of each head: a geometric series that ends at 2^-8, as ALiBi has it.

    For a number of heads that is no power of two, it is that of the next lower power, followed by every second slope of the
    next higher one.

    Examples
    --------
    >>> alibi_slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625])
    >>> alibi_slopes(3)
    array([0.0625    , 0.00390625, 0.25      ])
    """
    lower = 2 ** math.floor(math.log2(num_heads))
    series = 2.0 ** (-8.0 / lower * numpy.arange(1, lower + 1))
    between = 2.0 ** (-4.0 / lower * numpy.arange(1, 2 * lower + 1, 2))
    return numpy.concatenate([series, between])[:num_heads]


def alibi_bias(num_heads: int, queries: int, keys: int, offset: int = 0, dtype: Any = "float32") -> numpy.ndarray:
    """Return what ALiBi adds to the scores: the farther a key is away, the less.

    For head h, query t and key s::

        bias_hts = -slope_h abs(t + offset - s)

    Parameters
    ----------
    num_heads, queries, keys : int
        H, T and S.
    offset : int, default 0
        The position of the first query.
    dtype : dtype, default float32

    Returns
    -------
    numpy.ndarray
        Of shape (H, T, S), for ``attn_mask``.

    References
    ----------
    O. Press, N. A. Smith, M. Lewis, "Train short, test long: attention with linear biases enables input length
    extrapolation", ICLR 2022.

    Examples
    --------
    >>> alibi_bias(8, 2, 3)[0]
    array([[-0. , -0.5, -1. ],
           [-0.5, -0. , -0.5]], dtype=float32)
    """
    distance = numpy.abs(numpy.arange(queries)[:, None] + offset - numpy.arange(keys))  # (T, S)
    return (-alibi_slopes(num_heads)[:, None, None] * distance).astype(dtype)  # (H, T, S)


def _angles(length: int, dim: int, base: float) -> numpy.ndarray:
    return numpy.arange(length)[:, None] * base ** (-numpy.arange(0, dim, 2) / max(dim, 1))
