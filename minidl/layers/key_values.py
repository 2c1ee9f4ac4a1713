"""The key-value cache of attention: what generation hands from one token to the next."""

from __future__ import annotations

from typing import Any

from minidl.arrays import take_rows
from minidl.errors import ShapeError
from minidl.ops import Array, namespace

__all__ = ["KeyValues"]


class _Store:
    """Arrays with room for more positions than are in use."""

    __slots__ = ("keys", "used", "values")

    def __init__(self, keys: Array, values: Array) -> None:
        self.keys, self.values = keys, values  # (N, H, room, D)
        self.used = 0


class KeyValues:
    """The keys and values of the positions so far, as a state of attention.

    A state never changes: :meth:`append` returns a new one, and the old one may be continued in another way. States that
    follow one another share memory, so a new position costs no copy of the others, except when the room is doubled.

    Attributes
    ----------
    length : int
        S, the number of positions.
    keys, values : array, shape (N, H, S, D)

    Examples
    --------
    >>> import numpy
    >>> one = KeyValues().append(numpy.zeros((1, 2, 3, 4)), numpy.zeros((1, 2, 3, 4)))
    >>> two = one.append(numpy.ones((1, 2, 1, 4)), numpy.ones((1, 2, 1, 4)))
    >>> one.length, two.length, two.keys.shape
    (3, 4, (1, 2, 4, 4))
    """

    __slots__ = ("_store", "length")

    def __init__(self) -> None:
        self._store: _Store | None = None
        self.length = 0

    @property
    def keys(self) -> Array:
        """The keys, a view."""
        return self._filled().keys[:, :, : self.length]

    @property
    def values(self) -> Array:
        """The values, a view."""
        return self._filled().values[:, :, : self.length]

    def _filled(self) -> _Store:
        if self._store is None:
            raise ShapeError("KeyValues: there are no keys and values yet; append some first")
        return self._store

    @property
    def batch(self) -> int | None:
        """The number of sequences, N, or None if nothing was appended yet."""
        return None if self._store is None else self._store.keys.shape[0]

    def check(self, batch: int, heads: int, size: int, where: Any) -> None:
        """Raise ShapeError unless keys of this batch, these heads and this size can be appended; ``where`` is for the message."""
        store = self._store
        if store is None:
            return
        own = store.keys.shape
        if own[0] != batch or own[1] != heads or own[3] != size:
            raise ShapeError(
                f"{where}: the state has {own[1]} heads of size {own[3]} for a batch of {own[0]}, the new positions have {heads} of "
                f"size {size} for {batch}; a state can only be continued by the model and the batch that made it"
            )

    def append(self, keys: Array, values: Array) -> KeyValues:
        """Return the state with more positions.

        Parameters
        ----------
        keys, values : array, shape (N, H, T, D)

        Raises
        ------
        ShapeError
            If batch, heads or sizes are not those of the state.
        """
        batch, heads, length, size = keys.shape
        self.check(batch, heads, size, "KeyValues")
        after = self._with_room(keys, values, self.length + length)
        store = after._filled()
        store.keys[:, :, self.length : after.length] = keys
        store.values[:, :, self.length : after.length] = values
        return after

    def extended(self, x: Array, heads: int, length: int) -> KeyValues:
        """Return the state with more positions, whose keys and values are arbitrary and yet to be written: see :meth:`place`.

        Parameters
        ----------
        x : array, shape (N, T, C)
            The arrays are of its kind.
        heads : int
            H; the size of a head is C / H.
        length : int
            How many positions.
        """
        store, end = self._store, self.length + length
        if store is not None and store.used == self.length and end <= store.keys.shape[2]:
            store.used = end
            return self._of(store, end)
        like = x.reshape((x.shape[0], x.shape[1], heads, x.shape[2] // heads)).transpose((0, 2, 1, 3))  # (N, H, T, D)
        return self._with_room(like, like, end)

    def place(self, length: int) -> tuple[Array, Array, int]:
        """Return the arrays of keys and values with all their room, (N, H, room, D), and the length that is given."""
        store = self._filled()
        return store.keys, store.values, length

    def _with_room(self, keys: Array, values: Array, end: int) -> KeyValues:
        """Return the state of ``end`` positions, of which those after this state are arbitrary."""
        store = self._store
        if store is None or store.used != self.length or end > store.keys.shape[2]:
            store = self._grown(keys, values, end)
        store.used = end
        return self._of(store, end)

    def _grown(self, keys: Array, values: Array, end: int) -> _Store:
        """Return a copy with room for twice as many positions as are needed."""
        xp, room = namespace(keys), max(2 * end, 64)
        new = _Store(*(xp.empty((*a.shape[:2], room, a.shape[3]), dtype=a.dtype) for a in (keys, values)))
        if self.length:
            new.keys[:, :, : self.length] = self.keys
            new.values[:, :, : self.length] = self.values
        return new

    def select(self, rows: Any) -> KeyValues:
        """Return the state of some sequences of the batch, in the given order; one may occur several times.

        Parameters
        ----------
        rows : array of int, list of int, or slice
        """
        if self._store is None:
            return self
        new = _Store(take_rows(self.keys, rows), take_rows(self.values, rows))
        new.used = self.length
        return self._of(new, self.length)

    @staticmethod
    def _of(store: _Store, length: int) -> KeyValues:
        state = KeyValues()
        state._store, state.length = store, length
        return state

    def __repr__(self) -> str:
        return "KeyValues()" if self._store is None else f"KeyValues of shape {self.keys.shape}"
