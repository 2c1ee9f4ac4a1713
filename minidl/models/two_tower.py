"""TwoTower: a vector for each user and one for each item, whose product says how well they go together.

user -- U --+
            +-- dot product + bias of the item -- score
item -- V --+
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from minidl import random
from minidl.arrays import to_host
from minidl.errors import DataError, ParameterError, ShapeError
from minidl.layers import Embedding, Layer
from minidl.ops import Array
from minidl.training import Trainable

__all__ = ["NegativeSampling", "TwoTower"]


class TwoTower(Trainable, Layer):
    """Recommend items to users by the product of two learned vectors.

    For user u and item i::

        s(u, i) = U_u . V_i + b_i

    ``forward(users, items)`` scores a few items for each user. In training these are one that the user chose and some that
    he did not, as :class:`NegativeSampling` draws them, and the loss is the cross-entropy of the first one::

        L = -log( exp s(u, i_0) / sum_m exp s(u, i_m) )          ds_m = p_m - [m = 0]
        dU_u = sum_m ds_m V_{i_m}      dV_{i_m} = ds_m U_u      db_{i_m} = ds_m

    Parameters
    ----------
    users, items : int
        How many there are.
    width : int, default 32
        The length C of the vectors.
    dtype : dtype, default float32
    generator : numpy.random.Generator, optional
        Draws the initial vectors; the generator of ``minidl.seed`` by default.

    Attributes
    ----------
    user, item : Embedding
        The tables U, (users, C), and V, (items, C); initially normal with standard deviation C^(-1/2).
    bias : Embedding
        The table b, (items, 1); initially 0. It learns how popular an item is.

    Raises
    ------
    ShapeError
        From ``forward``, if users are not (N,) or items not (N, M).
    DataError
        From ``forward``, if there is no such user or item.

    References
    ----------
    Y. Koren, R. Bell, C. Volinsky, "Matrix factorization techniques for recommender systems", Computer 42 (2009), equation 4.
    P. Covington, J. Adams, E. Sargin, "Deep neural networks for YouTube recommendations", RecSys 2016, section 3.1, for the loss.

    Examples
    --------
    >>> model = TwoTower(users=4, items=9, width=2)
    >>> model.forward(numpy.array([0, 3]), numpy.array([[5, 1, 2], [0, 8, 5]])).shape
    (2, 3)
    >>> model.recommend(numpy.array([3]), k=2).shape
    (1, 2)
    """

    integer_inputs = True
    _live = ()

    def __init__(
        self,
        users: int,
        items: int,
        width: int = 32,
        *,
        dtype: Any = "float32",
        generator: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        how: dict[str, Any] = {"dtype": dtype, "generator": generator}
        self.user, self.item, self.bias = (
            Embedding(users, width, **how),
            Embedding(items, width, **how),
            Embedding(items, 1, **how),
        )
        self.user.weight.value[...] *= width**-0.5
        self.item.weight.value[...] *= width**-0.5
        self.bias.weight.value[...] = 0

    def forward(self, users: Array, items: Array) -> Array:  # type: ignore[override]
        """Return the scores, (N, M), of items, (N, M), for users, (N,)."""
        if users.ndim != 1 or items.ndim != 2 or len(users) != len(items):
            raise ShapeError(
                f"TwoTower: expected users (N,) and items (N, M), got shapes {users.shape} and {items.shape}"
            )
        u, v = self.user.forward(users), self.item.forward(items)  # (N, C), (N, M, C)
        self._remember((u, v))
        return (v @ u[:, :, None] + self.bias.forward(items))[:, :, 0]  # (N, M)

    def backward(self, dy: Array, input_gradient: bool = True) -> tuple[None, None]:
        """Add to the gradients of the three tables; users and items have none."""
        u, v = self._remembered()
        d = dy[:, :, None]  # (N, M, 1)
        self.user.backward((d * v).sum(axis=1))
        self.item.backward(d * u[:, None, :])
        self.bias.backward(d)
        return None, None

    def score_all(self, users: Any) -> Array:
        """Return the scores of all items, (N, items), for users, (N,)."""
        u = self.user.weight.value[users]  # (N, C)
        return u @ self.item.weight.value.T + self.bias.weight.value[:, 0]

    def recommend(self, users: Any, k: int = 10, known: Any = None) -> numpy.ndarray:
        """Return the k items with the highest scores for each user, the best first, shape (N, k).

        Parameters
        ----------
        users : int array, shape (N,)
        k : int, default 10
        known : bool array, shape (N, items), optional
            What not to recommend.

        Raises
        ------
        ParameterError
            If some user has fewer than k items left.
        """
        scores = to_host(self.score_all(users)).copy()
        left = scores.shape[1]
        if known is not None:
            scores[numpy.asarray(known, dtype=bool)] = -numpy.inf
            left -= int(numpy.asarray(known, dtype=bool).sum(axis=1).max(initial=0))
        if not 1 <= k <= left:
            raise ParameterError(f"recommend: k must be from 1 to the number of items that are left, {left}, got {k}")
        return numpy.argsort(-scores, axis=1, kind="stable")[:, :k]


class NegativeSampling:
    """Batches of a choice and some items that the same user did not choose, for ``fit`` of a :class:`TwoTower`.

    Each pass takes the choices in a new order and draws new items, uniformly among those that the user never chose.

    Parameters
    ----------
    users, items : int array, shape (P,)
        The choices: pairs of a user and an item.
    item_count : int
        How many items there are.
    negatives : int, default 16
        M - 1, how many items are drawn for each choice.
    batch_size : int, default 256
    seed : int or numpy.random.Generator, optional
        Of the order and of what is drawn; the generator of ``minidl.seed`` by default.

    Raises
    ------
    DataError
        If there are no choices, or a user chose every item.
    ShapeError
        If there are not as many users as items.

    Examples
    --------
    >>> batches = NegativeSampling([0, 0, 1], [2, 0, 1], item_count=4, negatives=2, batch_size=3, seed=0)
    >>> (users, items), target = next(iter(batches))
    >>> users.shape, items.shape, target
    ((3,), (3, 3), array([0, 0, 0]))
    """

    def __init__(
        self,
        users: Any,
        items: Any,
        item_count: int,
        negatives: int = 16,
        batch_size: int = 256,
        seed: random.Source = None,
    ) -> None:
        self.users, self.items = numpy.asarray(users), numpy.asarray(items)
        if self.users.ndim != 1 or self.users.shape != self.items.shape:
            raise ShapeError(
                f"NegativeSampling: expected users and items (P,), got {self.users.shape} and {self.items.shape}"
            )
        if not self.users.size:
            raise DataError("NegativeSampling: there are no choices")
        if self.items.min() < 0 or self.items.max() >= item_count or self.users.min() < 0:
            raise DataError(f"NegativeSampling: users must be from 0, and items from 0 to {item_count - 1}")
        if negatives < 1 or batch_size < 1:
            raise ParameterError(
                f"NegativeSampling: negatives and batch_size must be positive, got {negatives} and {batch_size}"
            )
        self.item_count, self.negatives, self.batch_size = item_count, negatives, batch_size
        self.generator = random.as_generator(seed, "seed")
        self._chosen = numpy.unique(self.users.astype(numpy.int64) * item_count + self.items)  # sorted
        full = numpy.bincount(self._chosen // item_count).max()
        if full >= item_count:
            raise DataError("NegativeSampling: a user chose every item, so there is none to draw; leave that user out")

    def __len__(self) -> int:
        return -(-len(self.users) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[tuple[numpy.ndarray, numpy.ndarray], numpy.ndarray]]:
        order = self.generator.permutation(len(self.users))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]  # (N,)
            users = self.users[rows]
            items = numpy.concatenate([self.items[rows][:, None], self._draw(users)], axis=1)  # (N, M)
            yield (users, items), numpy.zeros(len(rows), dtype=numpy.int64)

    def _draw(self, users: numpy.ndarray) -> numpy.ndarray:
        """Draw items, (N, M - 1); those that the user chose are drawn again."""
        drawn = self.generator.integers(0, self.item_count, (len(users), self.negatives))
        while True:
            pairs = users[:, None].astype(numpy.int64) * self.item_count + drawn
            places = numpy.searchsorted(self._chosen, pairs).clip(max=len(self._chosen) - 1)
            again = self._chosen[places] == pairs
            if not again.any():
                return drawn
            drawn[again] = self.generator.integers(0, self.item_count, int(again.sum()))
