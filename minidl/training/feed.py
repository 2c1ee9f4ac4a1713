"""Batches of data in memory, in the order of an epoch, as arrays of the current engine."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

from minidl import engines
from minidl.data.passes import share_of
from minidl.engines.copies import Arrival
from minidl.errors import DataError
from minidl.ops import Array
from minidl.training.array_group import ArrayGroup, group_arrays, move, ungroup

__all__ = ["Batch", "Feed", "augment_inputs", "sent_ahead"]

Batch = tuple["Array | ArrayGroup", "Array | ArrayGroup", "Array | None"]

REORDER_WHOLE = 1 << 27
"""Largest size of the inputs, in bytes, that is reordered at once at the start of an epoch, so that batches are views."""
KEEP_ON_DEVICE = 1 << 30
"""Largest size of the data, in bytes, that is copied to a GPU once and stays there."""


class Feed:
    """Iterate over examples, targets and weights in batches, in a new order every epoch if there is a generator.

    Parameters
    ----------
    x, y : numpy.ndarray, shape (N, ...), or an ArrayGroup
    weights : numpy.ndarray, shape (N,), or None
    batch_size : int
    generator : numpy.random.Generator, optional
        Source of the orders; without it the data keep theirs.
    change : callable, optional
        Augmentation: called with the inputs of each batch, as read-only arrays on the host; returns those to use instead.
    noting : bool, default False
        Whether checkpoints note how far the data are.
    share : (int, int), optional
        Rank and number of ranks, if each takes its rows of every batch.

    Attributes
    ----------
    steps : int
        Batches in an epoch; the last may be smaller.
    epoch : int or None
        The current epoch, set by the loop. Only the messages of a ``Stream`` use it.
    """

    steps: int | None
    epoch: int | None = None

    def __init__(
        self,
        x: numpy.ndarray | ArrayGroup,
        y: numpy.ndarray | ArrayGroup,
        weights: numpy.ndarray | None,
        batch_size: int,
        generator: numpy.random.Generator | None = None,
        change: Callable[[numpy.ndarray], Any] | None = None,
        noting: bool = False,
        share: tuple[int, int] | None = None,
    ) -> None:
        self.batch_size, self.generator, self.change, self.noting = batch_size, generator, change, noting
        self.share = share
        self.count = len(x)
        self.steps = -(-len(x) // batch_size)
        self._engine = engines.current()
        self._arrays: tuple[Any, Any, Any] = (x, y, weights)
        self._began: Any = None  # the generator's state before the order of this epoch was drawn
        self._going_on: tuple[Any, int] | None = None
        self._elsewhere = self._engine.xp is not numpy  # the data are on the host, the engine is not
        small = sum(a.nbytes for a in self._arrays if a is not None) <= KEEP_ON_DEVICE
        if self._elsewhere and small and change is None:
            self._arrays = self._move_to_device(self._arrays)
            self._elsewhere = False

    def __iter__(self) -> Iterator[Batch]:
        """Yield (x, y, weights or None) for each step."""
        batches = self._batches()
        # A batch that is read ahead has drawn its augmentation already, so a checkpoint would note the generator too late.
        ahead = not (self.noting and self.change is not None)
        return sent_ahead(batches, self._engine, ahead) if self._elsewhere else batches

    def _batches(self) -> Iterator[Batch]:
        order, step = self._draw_order()
        if order is not None and (self._elsewhere or self.share or self._arrays[0].nbytes > REORDER_WHOLE):
            return self._yield_batch_by_batch(order, step)
        return self._yield_views(order, step)

    def position(self) -> dict[str, Any]:
        """Return what :meth:`go_on` needs beside the number of steps: the generator as it was when the epoch began."""
        return {"began": self._began}

    def go_on(self, position: dict[str, Any], step: int) -> None:
        """Let the next epoch be the rest of the one that has this position, after so many steps."""
        self._going_on = (position["began"], step) if step else None

    def _draw_order(self) -> tuple[numpy.ndarray | None, int]:
        """Return the order of an epoch, and the step that it begins with."""
        (began, step), self._going_on = self._going_on or (None, 0), None
        if self.generator is None:
            return None, step
        bits, now = self.generator.bit_generator, None
        if began is not None:
            now, bits.state = bits.state, began
        self._began = bits.state
        order = self.generator.permutation(self.count)
        if now is not None:
            bits.state = now
        return order, step

    def _yield_views(self, order: numpy.ndarray | None, step: int) -> Iterator[Batch]:
        x, y, weights = self._arrays
        if order is not None:
            chosen = order if self._elsewhere else self._engine.asarray(order)
            x, y, weights = x[chosen], y[chosen], None if weights is None else weights[chosen]
        size = self.batch_size
        for start in range(step * size, self.count, size):
            part = self._rows(start)
            yield self._prepare((x[part], y[part], None if weights is None else weights[part]))

    def _yield_batch_by_batch(self, order: numpy.ndarray, step: int) -> Iterator[Batch]:
        x, y, weights = self._arrays
        for start in range(step * self.batch_size, self.count, self.batch_size):
            chosen: Any = order[self._rows(start)]
            if not self._elsewhere:
                chosen = self._engine.asarray(chosen)
            yield self._prepare((x[chosen], y[chosen], None if weights is None else weights[chosen]))

    def _rows(self, start: int) -> slice:
        """Return which places of the order are in the batch that starts there, or in this rank's share of it."""
        stop = start + self.batch_size
        if self.share is None:
            return slice(start, stop)
        own = share_of(min(stop, self.count) - start, *self.share)
        return slice(start + own.start, start + own.stop)

    def _prepare(self, batch: Any) -> Batch:
        if self.change is not None and len(batch[1]):
            x, y, weights = batch
            batch = augment_inputs(x, self.change), y, weights
        return batch

    def _move_to_device(self, arrays: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        x, y, weights = arrays
        place = self._engine.asarray
        return move(x, place), move(y, place), None if weights is None else place(weights)


def sent_ahead(batches: Iterable[Batch], engine: Any, ahead: bool = True) -> Iterator[Batch]:
    """Yield batches of the host as arrays of a GPU, each sent before the step on the one before it.

    So the copy of a batch runs beside that step, and nobody waits for it but the GPU. An array that
    is on the GPU already is not copied.

    Parameters
    ----------
    batches : iterable of Batch
    engine : Engine
    ahead : bool, default True
        Whether to read a batch ahead. If not, each is sent when it is needed.
    """
    waiting: deque[Any] = deque()
    for batch in batches:
        waiting.append(tuple(None if part is None else move(part, functools.partial(_send, engine)) for part in batch))
        if len(waiting) > ahead:
            yield _taken(waiting.popleft())
    while waiting:
        yield _taken(waiting.popleft())


def _taken(batch: Any) -> Batch:
    return tuple(None if part is None else move(part, _take) for part in batch)  # type: ignore[return-value]


def _send(engine: Any, array: Array) -> Any:
    return engine.send(array) if isinstance(array, numpy.ndarray) else engine.asarray(array)


def _take(sent: Any) -> Array:
    return sent.take() if isinstance(sent, Arrival) else sent


def augment_inputs(x: Any, change: Callable[[Any], Any]) -> Any:
    """Apply an augmentation to a batch of inputs, keeping their dtypes.

    Raises
    ------
    DataError
        If the augmentation returns other inputs than it got, or another number of examples.
    """
    if not isinstance(x, ArrayGroup):
        return _like(x, change(_read_only(x)))
    result = change(ungroup(x.map(_read_only)))
    found = group_arrays(result, "fit", "what augment returned")
    same = isinstance(found, ArrayGroup) and set(found.labels("x")) == set(x.labels("x"))
    if not same:
        got = f"{type(result).__name__} of {', '.join(found.labels('x')) if isinstance(found, ArrayGroup) else 'one array'}"
        raise DataError(f"fit: augment must return the inputs that it got, {', '.join(x.labels('x'))}; got a {got}")
    new = dict(zip(found.labels("x"), found.arrays, strict=True))
    return ArrayGroup([_like(old, new[label]) for label, old in zip(x.labels("x"), x.arrays, strict=True)], x.names)


def _read_only(x: numpy.ndarray) -> numpy.ndarray:
    view = x.view()
    view.flags.writeable = False  # it may be the user's own array
    return view


def _like(x: numpy.ndarray, changed: Any) -> numpy.ndarray:
    result = numpy.ascontiguousarray(changed, dtype=x.dtype)
    if result.ndim == 0 or len(result) != len(x):
        raise DataError(f"fit: augment must return as many examples as it got, {len(x)}, got shape {result.shape}")
    return result
