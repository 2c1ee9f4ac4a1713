"""Batches of token ids for ``fit``: windows of a long text, padded sequences, packed sequences.

Each class has a length and gives batch i as ``batches[i]``, so ``fit`` takes it as it is. What a batch holds depends only on
the seed, the epoch and i. So training can go on where it was stopped without reading what came before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

from minidl.errors import DataError, DtypeError, ParameterError, ShapeError

__all__ = ["Packed", "PaddedBatches", "Windows", "pack_sequences", "segment_mask"]

IGNORED = -100
"""The target that does not count, as in :class:`minidl.CrossEntropyLoss`."""
POOL = 50
"""Batches among whose sequences those of similar length are looked for."""


class Windows:
    """Batches of windows of a text: inputs (N, T), and as targets the tokens that follow, (N, T).

    Parameters
    ----------
    tokens : integer array
        The text, shape (T,), such as :func:`minidl.text.open_tokens` gives it.
    length : int
        T, the tokens of a window.
    batch_size : int
        N, the windows of a batch.
    seed : int or None, default 0
        Windows start at random places, drawn anew in each epoch. None gives all windows in order, one after another, the last
        batch being smaller; that is for validation.
    steps : int, optional
        Batches of an epoch; by default so many that they hold as many tokens as the text. In order: at most this many.

    Attributes
    ----------
    epoch : int
        The current epoch, counted from 0; ``fit`` moves it on.

    Raises
    ------
    DataError
        If the text is too short for one window and the token after it.
    DtypeError, ShapeError
        If the tokens are not integers in one dimension.
    ParameterError
        If a setting is out of range.

    Examples
    --------
    >>> windows = Windows(numpy.arange(10), length=3, batch_size=2, seed=None)
    >>> x, y = windows[0]
    >>> x
    array([[0, 1, 2],
           [3, 4, 5]])
    >>> y
    array([[1, 2, 3],
           [4, 5, 6]])
    >>> len(windows), windows[1][0]
    (2, array([[6, 7, 8]]))
    """

    def __init__(
        self, tokens: numpy.ndarray, length: int, batch_size: int, seed: int | None = 0, steps: int | None = None
    ) -> None:
        _check_tokens(tokens, "Windows")
        for name, value in (("length", length), ("batch_size", batch_size), ("steps", 1 if steps is None else steps)):
            _check_count(value, name, "Windows")
        if len(tokens) <= length:
            raise DataError(
                f"Windows: a window of {length} tokens and the one after it need a text of {length + 1} tokens, got "
                f"{len(tokens)}; use a shorter length or a longer text"
            )
        self.tokens, self.length, self.batch_size, self.seed = tokens, int(length), int(batch_size), seed
        self.epoch = 0
        self._whole = (len(tokens) - 1) // self.length  # windows that do not overlap
        steps_of_text = -(-self._whole // self.batch_size)
        self._steps = steps_of_text if steps is None else int(steps) if seed is not None else min(steps, steps_of_text)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        if not -self._steps <= index < self._steps:
            raise IndexError(f"Windows: batch {index} of {self._steps}")
        return self.batch(self.epoch * self._steps + index % self._steps)

    def batch(self, step: int) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return the batch of a step, counted over all epochs."""
        starts = self._starts(step)  # (N,)
        windows = numpy.lib.stride_tricks.sliding_window_view(self.tokens, self.length + 1)[starts]  # (N, T + 1)
        windows = windows.astype("int64")
        return windows[:, :-1], windows[:, 1:]

    def _starts(self, step: int) -> numpy.ndarray:
        if self.seed is None:
            first = step % self._steps * self.batch_size
            return numpy.arange(first, min(first + self.batch_size, self._whole)) * self.length
        generator = numpy.random.default_rng([self.seed, step])
        return generator.integers(0, len(self.tokens) - self.length, self.batch_size)

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        self.epoch += 1


class PaddedBatches:
    """Batches of sequences of similar length, padded to the longest in the batch.

    Parameters
    ----------
    sequences : sequence of integer arrays
        One for each example, shape (T,), T at least 1.
    targets : sequence of integer arrays, or integer array, optional
        A class for each position, a sequence as long as the inputs, or a class for each example, shape (N,). By default the
        next token: the inputs are then all but the last token, and the targets all but the first.
    batch_size : int, default 32
    pad_id : int, default 0
        What inputs are padded with. Targets of positions are padded with -100, which the cross-entropy ignores.
    mask : bool, default False
        Whether the inputs are the tuple (ids, mask), with the mask True for tokens and False for padding.
    seed : int or None, default 0
        The order is drawn anew in each epoch. None keeps the order of the sequences, and sorts nothing.

    Attributes
    ----------
    epoch : int
        The current epoch, counted from 0; ``fit`` moves it on.

    Raises
    ------
    DataError
        If there are no sequences, one is too short, or the targets do not fit.
    DtypeError, ShapeError
        If a sequence does not hold integers in one dimension.
    ParameterError
        If a setting is out of range.

    Examples
    --------
    >>> batches = PaddedBatches([numpy.array([5, 6, 7]), numpy.array([8, 9])], batch_size=2, seed=None)
    >>> batches[0]
    (array([[5, 6],
           [8, 0]]), array([[   6,    7],
           [   9, -100]]))
    """

    def __init__(
        self,
        sequences: Sequence[numpy.ndarray],
        targets: Any = None,
        batch_size: int = 32,
        pad_id: int = 0,
        mask: bool = False,
        seed: int | None = 0,
    ) -> None:
        _check_count(batch_size, "batch_size", "PaddedBatches")
        self._inputs, self._targets = _check_sequences(sequences, targets)
        self.batch_size, self.pad_id, self.mask, self.seed = int(batch_size), int(pad_id), mask, seed
        self.epoch = 0
        self._lengths = numpy.array([len(sequence) for sequence in self._inputs])
        self._order_of: tuple[int, list[numpy.ndarray]] | None = None

    def __len__(self) -> int:
        return -(-len(self._inputs) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, numpy.ndarray]:
        if self._order_of is None or self._order_of[0] != self.epoch:
            self._order_of = self.epoch, self._draw_order()
        chosen = self._order_of[1][index]
        ids = _pad([self._inputs[i] for i in chosen], self.pad_id)  # (N, T)
        inputs = (ids, numpy.arange(ids.shape[1]) < self._lengths[chosen][:, None]) if self.mask else ids
        if isinstance(self._targets, numpy.ndarray):
            return inputs, self._targets[chosen]
        return inputs, _pad([self._targets[i] for i in chosen], IGNORED)

    def _draw_order(self) -> list[numpy.ndarray]:
        """Return the examples of each batch: drawn, sorted by length within pools, cut, and the batches drawn again."""
        order = numpy.arange(len(self._inputs))
        if self.seed is None:
            return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        generator = numpy.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(order)
        size, pool = self.batch_size, POOL * self.batch_size
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        sorted_pools = [part[numpy.argsort(self._lengths[part], kind="stable")] for part in pools]
        batches = [part[i : i + size] for part in sorted_pools for i in range(0, len(part), size)]
        return [batches[i] for i in generator.permutation(len(batches))]

    def on_epoch_end(self) -> None:
        """Go on to the next epoch."""
        self.epoch += 1


class Packed(NamedTuple):
    """Several sequences in each row.

    Attributes
    ----------
    ids : array, shape (N, T)
    targets : array, shape (N, T)
        The next token of the same sequence, and -100 at its end and in the padding.
    segments : array, shape (N, T)
        The number of the sequence in its row, from 1; 0 is padding.
    positions : array, shape (N, T)
        The place in the sequence, from 0.
    """

    ids: numpy.ndarray
    targets: numpy.ndarray
    segments: numpy.ndarray
    positions: numpy.ndarray


def pack_sequences(sequences: Sequence[numpy.ndarray], length: int, pad_id: int = 0) -> Packed:
    """Pack short sequences into rows of one length, the longest first, each into the first row that has room.

    That wastes less than padding each to the length. :func:`segment_mask` keeps them from seeing each other.

    Parameters
    ----------
    sequences : sequence of integer arrays
        Each at most ``length`` long.
    length : int
        T of the rows.
    pad_id : int, default 0

    Raises
    ------
    DataError
        If there are no sequences, or one is empty or too long.
    DtypeError, ShapeError
        If a sequence does not hold integers in one dimension.
    ParameterError
        If the length is not positive.

    Examples
    --------
    >>> packed = pack_sequences([numpy.array([1, 2]), numpy.array([3, 4, 5])], length=6)
    >>> packed.ids, packed.targets[0], packed.segments[0], packed.positions[0]
    (array([[3, 4, 5, 1, 2, 0]]), array([   4,    5, -100,    2, -100, -100]), array([1, 1, 1, 2, 2, 0]), array([0, 1, 2, 0, 1, 0]))
    """
    _check_count(length, "length", "pack_sequences")
    inputs, _ = _check_sequences(sequences, list(sequences), "pack_sequences")
    order = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
    if len(inputs[order[0]]) > length:
        raise DataError(
            f"pack_sequences: sequence {order[0]} has {len(inputs[order[0]])} tokens, but a row only {length}; cut it"
        )
    rows: list[list[numpy.ndarray]] = []
    room: list[int] = []
    for i in order:
        row = next((r for r, left in enumerate(room) if left >= len(inputs[i])), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
        rows[row].append(inputs[i])
        room[row] -= len(inputs[i])
    shape = len(rows), length
    packed = Packed(
        numpy.full(shape, pad_id), numpy.full(shape, IGNORED), numpy.zeros(shape, int), numpy.zeros(shape, int)
    )
    for r, parts in enumerate(rows):
        start = 0
        for number, part in enumerate(parts, 1):
            place = slice(start, start + len(part))
            packed.ids[r, place], packed.segments[r, place] = part, number
            packed.targets[r, start : place.stop - 1] = part[1:]
            packed.positions[r, place] = numpy.arange(len(part))
            start = place.stop
    return packed


def segment_mask(segments: numpy.ndarray, causal: bool = True) -> numpy.ndarray:
    """Return which positions each position may attend to: those of its own sequence, shape (N, 1, T, T).

    Parameters
    ----------
    segments : integer array, shape (N, T)
        As :func:`pack_sequences` returns them.
    causal : bool, default True
        Whether later positions are left out too.

    Examples
    --------
    >>> segment_mask(numpy.array([[1, 2, 2, 0]]))[0, 0].astype(int)
    array([[1, 0, 0, 0],
           [0, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] != 0)  # (N, T, T)
    return (numpy.tril(same) if causal else same)[:, None]  # (N, 1, T, T)


def _pad(sequences: Sequence[numpy.ndarray], filling: int) -> numpy.ndarray:
    """Return sequences as rows, (N, T)."""
    rows = numpy.full((len(sequences), max(map(len, sequences))), filling)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


def _check_count(value: Any, name: str, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)) or value < 1:
        raise ParameterError(f"{where}: {name} must be an integer of at least 1, got {value!r}")


def _check_tokens(tokens: Any, where: str) -> None:
    if getattr(getattr(tokens, "dtype", None), "kind", "") not in ("i", "u"):
        raise DtypeError(
            f"{where}: expected an array of integers, got {getattr(tokens, 'dtype', type(tokens).__name__)}"
        )
    if tokens.ndim != 1:
        raise ShapeError(f"{where}: expected token ids in one dimension, got shape {tokens.shape}")


def _check_sequences(
    sequences: Sequence[numpy.ndarray], targets: Any, where: str = "PaddedBatches"
) -> tuple[list[numpy.ndarray], Any]:
    """Return inputs and targets, each a list of arrays; targets of whole examples stay one array."""
    inputs = list(sequences)
    if not inputs:
        raise DataError(f"{where}: there are no sequences")
    shortest = 2 if targets is None else 1
    for i, sequence in enumerate(inputs):
        _check_tokens(sequence, f"{where}: sequence {i}")
        if len(sequence) < shortest:
            raise DataError(f"{where}: sequence {i} has {len(sequence)} tokens, but {shortest} are needed")
    if targets is None:
        return [sequence[:-1] for sequence in inputs], [sequence[1:] for sequence in inputs]
    if len(targets) != len(inputs):
        raise DataError(f"{where}: there are {len(inputs)} sequences but {len(targets)} targets")
    if isinstance(targets, numpy.ndarray) and targets.ndim == 1 and targets.dtype.kind in "iu":
        return inputs, targets
    wanted = [numpy.asarray(target) for target in targets]
    for i, (sequence, target) in enumerate(zip(inputs, wanted, strict=True)):
        _check_tokens(target, f"{where}: target {i}")
        if len(target) != len(sequence):
            raise DataError(f"{where}: sequence {i} has {len(sequence)} tokens but its target has {len(target)}")
    return inputs, wanted
