"""Beam search for encoder-decoder models.

A model is anything with these three, such as ``minidl.models.Transformer``:

- ``encode(source_ids, source_mask) -> memory``: one array, or a tuple, list or dict of arrays, batch first.
- ``decode_with_state(target_ids, memory, state) -> (logits, state)``: the ids (N, T) that follow what the state knows.
- ``select_state(state, rows) -> state``: the state of these rows, which may repeat.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy

from minidl import engines
from minidl.arrays import to_host
from minidl.errors import ParameterError, ShapeError
from minidl.layers import inference
from minidl.text.sampling import check_finite

__all__ = ["Hypothesis", "beam_search"]


class Hypothesis(NamedTuple):
    """A target that a beam search found.

    Attributes
    ----------
    ids : array, shape (T,)
        Without the ids of beginning and end.
    score : float
        The logarithm of its probability, divided by the length penalty.
    """

    ids: numpy.ndarray
    score: float


def beam_search(
    model: Any,
    source_ids: numpy.ndarray,
    source_mask: numpy.ndarray | None = None,
    *,
    bos_id: int,
    eos_id: int,
    max_length: int,
    beam_size: int = 4,
    length_penalty: float = 0.6,
) -> list[list[Hypothesis]]:
    """Return the best targets of each source, at most ``beam_size``, the best first.

    Each step extends the B likeliest unfinished targets by each token, and keeps the B likeliest of these. Those that end are
    finished, with the score::

        score = log(P) / ((5 + length) / 6)^alpha

    where the length counts the end, and alpha is ``length_penalty``. Targets that reach ``max_length`` without an end count as
    finished, too. The search of a source ends when no unfinished target can still become one of its B best.

    Parameters
    ----------
    model : object
        See :mod:`minidl.text.beam`.
    source_ids : integer array, shape (N, S)
    source_mask : array, optional
        Handed to ``model.encode``.
    bos_id : int
        The token that begins every target.
    eos_id : int
        The token that ends it.
    max_length : int
        The most tokens of a target, with the end.
    beam_size : int, default 4
        B. With 1 the search is greedy.
    length_penalty : float, default 0.6
        Above 0, longer targets are favoured. 0 compares log(P).

    Returns
    -------
    hypotheses : list of lists of Hypothesis
        One list for each source.

    Raises
    ------
    ParameterError
        If a setting is out of range.
    ShapeError
        If the sources have another shape.
    NonFiniteError
        If the model gives nan.

    References
    ----------
    Y. Wu et al., "Google's neural machine translation system" (2016), equation 14.
    """
    for name, value in (("beam_size", beam_size), ("max_length", max_length)):
        if isinstance(value, bool) or not isinstance(value, (int, numpy.integer)) or value < 1:
            raise ParameterError(f"beam_search: {name} must be an integer of at least 1, got {value!r}")
    if not length_penalty >= 0:
        raise ParameterError(f"beam_search: length_penalty must not be negative, got {length_penalty!r}")
    if source_ids.ndim != 2:
        raise ShapeError(f"beam_search: source_ids must have shape (N, S), got {source_ids.shape}")
    n, b = len(source_ids), int(beam_size)
    beams = [_Beam(b, eos_id, int(max_length), float(length_penalty)) for _ in range(n)]
    if not n:
        return []
    place = engines.current().asarray
    with inference(evaluate=True):
        mask = None if source_mask is None else place(source_mask)
        memory = _repeat(model.encode(place(source_ids), mask), numpy.repeat(numpy.arange(n), b))
        state, last = None, numpy.full((n * b, 1), bos_id, dtype="int64")  # (N B, 1)
        for _ in range(int(max_length)):
            logits, state = model.decode_with_state(place(last), memory, state)  # (N B, 1, V)
            log_p = _log_softmax(to_host(logits[:, -1])).reshape(n, b, -1)  # (N, B, V)
            moves = [beam.extend(log_p[i]) for i, beam in enumerate(beams)]
            if all(beam.done for beam in beams):
                break
            rows = numpy.concatenate([i * b + origins for i, (origins, _) in enumerate(moves)])
            last = numpy.concatenate([tokens for _, tokens in moves])[:, None]
            state = model.select_state(state, rows)
    return [beam.results() for beam in beams]


class _Beam:
    """The search of one source."""

    def __init__(self, size: int, eos_id: int, max_length: int, alpha: float) -> None:
        self.size, self.eos_id, self.max_length, self.alpha = size, eos_id, max_length, alpha
        self.log_p = numpy.full(size, -numpy.inf)  # (B,) of the unfinished targets
        self.log_p[0] = 0.0  # at first they are all the same one
        self.ids = numpy.zeros((size, 0), dtype="int64")  # (B, length so far)
        self.finished: list[Hypothesis] = []
        self.done = False

    def extend(self, log_p: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Take the next token's log-probabilities, (B, V); return the origin and the last token of each unfinished target."""
        nothing = numpy.arange(self.size), numpy.zeros(self.size, dtype="int64")
        if self.done:
            return nothing
        length = self.ids.shape[1] + 1
        total = self.log_p[:, None] + log_p  # (B, V)
        for k in numpy.flatnonzero(numpy.isfinite(total[:, self.eos_id])):
            self._finish(self.ids[k], total[k, self.eos_id], length)
        total[:, self.eos_id] = -numpy.inf
        best = numpy.argsort(-total, axis=None, kind="stable")[: self.size]  # of all B V, the likeliest
        origins, tokens = numpy.unravel_index(best, total.shape)
        self.log_p = total[origins, tokens]
        self.ids = numpy.concatenate([self.ids[origins], tokens[:, None]], axis=1)
        if len(best) < self.size:  # a vocabulary smaller than the beam
            missing = self.size - len(best)
            origins, tokens = numpy.pad(origins, (0, missing)), numpy.pad(tokens, (0, missing))
            self.log_p = numpy.pad(self.log_p, (0, missing), constant_values=-numpy.inf)
            self.ids = numpy.pad(self.ids, ((0, missing), (0, 0)))
        if length == self.max_length:
            for k in numpy.flatnonzero(numpy.isfinite(self.log_p)):
                self._finish(self.ids[k], self.log_p[k], length)
        self.done = length == self.max_length or not self._can_improve()
        return origins, tokens

    def _finish(self, ids: numpy.ndarray, log_p: float, length: int) -> None:
        self.finished.append(Hypothesis(ids, self._score(log_p, length)))

    def _score(self, log_p: float, length: int) -> float:
        return float(log_p / ((5 + length) / 6) ** self.alpha)

    def _can_improve(self) -> bool:
        """Whether an unfinished target may still be among the best: at most, all its further tokens are certain."""
        possible = self._score(self.log_p.max(), self.max_length)
        scores = sorted((hypothesis.score for hypothesis in self.finished), reverse=True)
        return bool(possible > -numpy.inf and (len(scores) < self.size or possible > scores[self.size - 1]))

    def results(self) -> list[Hypothesis]:
        """Return the best finished targets."""
        return sorted(self.finished, key=lambda hypothesis: -hypothesis.score)[: self.size]


def _repeat(memory: Any, rows: numpy.ndarray) -> Any:
    """Return these rows of all arrays."""
    if isinstance(memory, dict):
        return {name: _repeat(part, rows) for name, part in memory.items()}
    if isinstance(memory, (tuple, list)):
        parts = [_repeat(part, rows) for part in memory]
        return type(memory)(*parts) if hasattr(memory, "_fields") else type(memory)(parts)
    return memory[engines.current().asarray(rows)] if getattr(memory, "ndim", 0) else memory


def _log_softmax(logits: numpy.ndarray) -> numpy.ndarray:
    check_finite(logits)
    shifted = logits.astype("float64") - logits.max(axis=-1, keepdims=True)
    return shifted - numpy.log(numpy.exp(shifted).sum(axis=-1, keepdims=True))
