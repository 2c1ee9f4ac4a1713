"""Positions as layers: added to the input, or turned into queries and keys."""

from __future__ import annotations

from typing import Any

import numpy

from minidl import init
from minidl.engines import current
from minidl.errors import ParameterError, ShapeError
from minidl.layers.base import Layer, Shape, cast_input
from minidl.layers.parameter import Parameter, place_of
from minidl.ops import Array, namespace, require_float
from minidl.ops.position_tables import rotary_tables, sinusoidal_table

__all__ = ["LearnedPositions", "RotaryPositions", "SinusoidalPositions"]


class SinusoidalPositions(Layer):
    """Add a vector of sines and cosines for each position: y_t = x_t + table_t.

    ``minidl.ops.position_tables.sinusoidal_table`` has the formula. The gradient passes through.

    Parameters
    ----------
    embedding_dim : int
        C.
    max_len : int, default 5000
        The longest sequence.

    Raises
    ------
    ParameterError
        If a size is not positive.
    ShapeError
        From ``forward``, if the sequence is longer, or has other features.

    Examples
    --------
    >>> SinusoidalPositions(4).forward(numpy.zeros((1, 2, 4), "float32")).round(2)
    array([[[0.  , 1.  , 0.  , 1.  ],
            [0.84, 0.54, 0.01, 1.  ]]], dtype=float32)
    """

    def __init__(self, embedding_dim: int, max_len: int = 5000) -> None:
        super().__init__()
        if embedding_dim < 1 or max_len < 1:
            raise ParameterError(
                f"SinusoidalPositions: embedding_dim and max_len must be positive, got {embedding_dim} and {max_len}"
            )
        self.embedding_dim, self.max_len = embedding_dim, max_len
        self._table = sinusoidal_table(max_len, embedding_dim, dtype="float64")  # (T, C)
        self._placed: tuple[Any, Any] = (None, None)  # the table where the last input was, in its dtype

    def forward(self, x: Array, offset: int = 0) -> Array:
        """Return x plus the vectors of the positions from ``offset`` on."""
        require_float(x, "x", repr(self))
        _check_length(self, x.shape, self.embedding_dim, self.max_len, offset)
        place = place_of(x), x.dtype
        if self._placed[0] != place:
            self._placed = place, namespace(x).asarray(self._table.astype(x.dtype))
        self._remember(())
        return x + self._placed[1][offset : offset + x.shape[-2]]  # (T, C)

    def backward(self, dy: Array) -> Array:
        """Return dy."""
        self._remembered()
        return dy

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.embedding_dim}, max_len={self.max_len}"


class LearnedPositions(Layer):
    """Add a trained vector for each position: y_t = x_t + w_t.

    The gradient of x passes through. w_t is added to every sequence of the batch, so its gradient is the sum of dy_t over
    them.

    Parameters
    ----------
    max_len : int
        The longest sequence.
    embedding_dim : int
        C.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight : Parameter, shape (max_len, C)
        Initially normal with mean 0 and variance 1, as those of ``Embedding``.

    Raises
    ------
    ShapeError
        From ``forward``, if the sequence is longer, or has other features.

    Examples
    --------
    >>> layer = LearnedPositions(8, 2)
    >>> x = numpy.ones((3, 5, 2), "float32")
    >>> layer.backward(layer.forward(x) * 0 + 1).shape, layer.weight.grad[[0, 4, 5], 0]
    ((3, 5, 2), array([3., 3., 0.], dtype=float32))
    """

    def __init__(
        self,
        max_len: int,
        embedding_dim: int,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if max_len < 1 or embedding_dim < 1:
            raise ParameterError(
                f"LearnedPositions: max_len and embedding_dim must be positive, got {max_len} and {embedding_dim}"
            )
        self.max_len, self.embedding_dim, self.dtype = max_len, embedding_dim, numpy.dtype(dtype)
        table = init.normal((max_len, embedding_dim), std=1.0, dtype=self.dtype, generator=generator)  # (T, C)
        self.weight = Parameter(current().asarray(table), name="weight")

    def forward(self, x: Array, offset: int = 0) -> Array:
        """Return x plus the vectors of the positions from ``offset`` on."""
        x = cast_input(self, x, self.weight.value)
        _check_length(self, x.shape, self.embedding_dim, self.max_len, offset)
        self._remember((offset, x.shape))
        return x + self.weight.value[offset : offset + x.shape[-2]]  # (..., T, C)

    def backward(self, dy: Array) -> Array:
        """Add the sums of dy over the batch to the gradients of the positions; return dy."""
        offset, shape = self._remembered()
        if self.weight.trainable:
            length = shape[-2]
            rows = dy.reshape((-1, length * shape[-1]))  # (N, T C)
            gradient = namespace(dy).zeros(self.weight.shape, dtype=self.weight.dtype)
            gradient[offset : offset + length] = rows.sum(axis=0).reshape(shape[-2:])
            self.weight.accumulate(gradient)
        return dy

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.max_len}, {self.embedding_dim}"


class RotaryPositions(Layer):
    """Turn pairs of features of queries and keys by angles that grow with the position; see ``minidl.ops.rotary_embedding``.

    Attention turns queries and keys with two layers, or with two calls of :meth:`turn`, because a layer remembers one forward.

    Parameters
    ----------
    dim : int
        How many features of each head are turned; even.
    base : float, default 10000.0
        The longest wavelength is 2 pi times this.
    interleaved : bool, default False
        Whether neighbouring features are a pair, as in RoFormer and GPT-J, instead of features i and i + dim / 2, as in
        GPT-NeoX and Llama.

    Raises
    ------
    ParameterError
        If ``dim`` is not a positive even number.

    Examples
    --------
    >>> layer = RotaryPositions(2)
    >>> layer.forward(numpy.array([[[1.0, 0.0], [1.0, 0.0]]])).round(3)
    array([[[1.   , 0.   ],
            [0.54 , 0.841]]])
    """

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ParameterError(f"RotaryPositions: dim must be a positive even number, got {dim}")
        self.dim, self.base, self.interleaved = dim, base, interleaved
        self._tables: dict[Any, tuple[Array, Array]] = {}

    def turn(self, x: Array, offset: int = 0, out: Array | None = None) -> tuple[Array, Any]:
        """Return x, (..., T, D), turned from position ``offset`` on, and the cache for :meth:`turn_back`.

        The result goes into ``out`` if there is one, which may be x.
        """
        end = offset + x.shape[-2]
        place = place_of(x), x.dtype
        cos, sin = self._tables.get(place, (None, None))
        if cos is None or len(cos) < end:
            cos, sin = (current().asarray(t) for t in rotary_tables(max(2 * end, 64), self.dim, self.base, x.dtype))
            self._tables = {place: (cos, sin)}
        return current().rotary_embedding(x, cos[offset:end], sin[offset:end], self.interleaved, out)

    def turn_back(self, dy: Array, cache: Any, out: Array | None = None) -> Array:
        """Return the gradient of what :meth:`turn` was given, in ``out`` if there is one, which may be dy."""
        return current().rotary_embedding_backward(dy, cache, out)

    def forward(self, x: Array, offset: int = 0) -> Array:
        """Return x, (..., T, D), turned from position ``offset`` on."""
        require_float(x, "x", repr(self))
        y, cache = self.turn(x, offset)
        self._remember(cache)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dx."""
        return self.turn_back(dy, self._remembered())

    def extra_repr(self) -> str:
        """Return the settings."""
        base = "" if self.base == 10000.0 else f", base={self.base:g}"
        return f"{self.dim}{base}{', interleaved=True' if self.interleaved else ''}"


def _check_length(layer: Layer, shape: Shape, features: int, longest: int, offset: int) -> None:
    """Raise unless a sequence of this shape, from a position on, has these features and is not too long."""
    if len(shape) < 2 or shape[-1] != features:
        raise ShapeError(f"{layer!r}: expected shape (N, T, {features}), got {shape}")
    if offset < 0 or offset + shape[-2] > longest:
        raise ShapeError(
            f"{layer!r}: there are {longest} positions, but the sequence has {shape[-2]} from position {offset} on; give "
            "shorter sequences, or make the layer longer"
        )
