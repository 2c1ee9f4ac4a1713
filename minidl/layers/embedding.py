"""Tables of vectors, one for each token."""

from __future__ import annotations

from typing import Any

import numpy

from minidl import init
from minidl.engines import current
from minidl.errors import DataError, DtypeError, ParameterError
from minidl.layers.base import Layer, Shape, check_same_place
from minidl.layers.table import TableParameter
from minidl.ops import Array

__all__ = ["Embedding"]


class Embedding(Layer):
    """Look up the vector of each id in a table; see ``minidl.ops.embedding``.

    The gradient of the table is written row by row, so rows that a batch does not use cost nothing, whatever their number.

    Parameters
    ----------
    num_embeddings : int
        V, the number of rows. Ids are from 0 to V - 1.
    embedding_dim : int
        C, the length of a row.
    padding_idx : int, optional
        A row that begins at zero and is not trained, such as that of a token which fills up short sequences; -1 is the last.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial weights; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    weight : Parameter, shape (V, C)

    Raises
    ------
    ParameterError
        If a size is not positive, or ``padding_idx`` is not a row.
    DataError
        From ``forward``, if an id is not a row.
    DtypeError
        From ``forward``, if the ids are not an array of integers.

    Notes
    -----
    The initial weights are normal with mean 0 and variance 1, as in PyTorch.

    Examples
    --------
    >>> layer = Embedding(10, 3)
    >>> layer.forward(numpy.array([[4, 2], [0, 0]])).shape
    (2, 2, 3)
    >>> layer.forward(numpy.array([4, 10]))
    Traceback (most recent call last):
    ...
    minidl.errors.DataError: Embedding(10, 3): ids[1] is 10, but the table has 10 rows; ids must be from 0 to 9
    """

    input_gradient_optional = True
    integer_inputs = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if num_embeddings < 1 or embedding_dim < 1:
            raise ParameterError(
                f"Embedding: num_embeddings and embedding_dim must be positive, got {num_embeddings} and {embedding_dim}"
            )
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ParameterError(
                f"Embedding: padding_idx must be a row of the table of {num_embeddings}, got {padding_idx}"
            )
        self.num_embeddings, self.embedding_dim = int(num_embeddings), int(embedding_dim)
        self.padding_idx = None if padding_idx is None else int(padding_idx) % self.num_embeddings
        self.dtype = numpy.dtype(dtype)
        shape = (self.num_embeddings, self.embedding_dim)
        table = init.normal(shape, std=1.0, dtype=self.dtype, generator=generator)  # (V, C)
        self.weight = TableParameter(current().asarray(table), name="weight")
        if self.padding_idx is not None:
            self.weight.value[self.padding_idx] = 0

    def forward(self, x: Array) -> Array:
        """Return the rows of the ids x: (..., C)."""
        self._check_kind(x)
        try:
            y, cache = current().embedding(x, self.weight.value, self.padding_idx)
        except DataError as error:
            raise DataError(error.message.replace("embedding", repr(self), 1)) from None
        self._remember(cache)
        return y

    def backward(self, dy: Array, input_gradient: bool = True) -> None:
        """Add dy to the gradients of the rows that were looked up. The ids have no gradient, so None is returned."""
        cache = self._remembered()
        if not self.weight.trainable:
            return
        storage = self.weight.row_storage(cache[0])
        current().embedding_backward(dy, cache, (storage,), True, (False, True))

    def _check_kind(self, ids: Any) -> None:
        """Raise unless the ids are integers, where the table is."""
        kind = getattr(getattr(ids, "dtype", None), "kind", None)
        if kind is None:
            raise DtypeError(
                f"{self!r}: expected an array of ids, got {type(ids).__name__}; convert it with numpy.asarray(...)"
            )
        if kind not in "iu":
            raise DtypeError(
                f'{self!r}: expected ids, which are integers, got dtype {ids.dtype}; convert them with x.astype("int64")'
            )
        check_same_place(self, ids, self.weight.value, "array of ids")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (..., C)."""
        return (*input_shape, self.embedding_dim)

    def extra_repr(self) -> str:
        """Return the sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
