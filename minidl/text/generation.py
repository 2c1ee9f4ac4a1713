"""Text from a language model, token by token.

A model is anything with these three, such as ``minidl.models.GPT2``:

- ``forward_with_state(ids, state=None) -> (logits, state)``, ids (N, T), logits (N, T, V). The state holds what the model
  knows of all tokens so far: keys and values of attention, or the state of a recurrent layer. With it, ids are only those
  that follow.
- ``select_state(state, rows) -> state``: the state of these rows of the batch.
- ``context``: the most tokens that the model can look back at, or None if there is no limit.

It may also have ``next_logits(ids, state=None) -> (logits, state)``, with logits (N, V) of the last position alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minidl import engines
from minidl.arrays import to_host
from minidl.errors import DataError, ParameterError
from minidl.layers import inference
from minidl.random import Source, as_generator
from minidl.text.sampling import (
    check_finite,
    draw_tokens,
    find_top_k,
    keep_top_p,
    penalize_repetition,
    scale_by_temperature,
)
from minidl.text.tokenizers import Tokenizer

__all__ = ["generate", "stream"]


@dataclass(frozen=True)
class _Choice:
    """How the next token is chosen from its logits."""

    temperature: float
    top_k: int | None
    top_p: float | None
    repetition_penalty: float

    def choose(
        self, logits: numpy.ndarray, seen: numpy.ndarray | None, generators: Sequence[numpy.random.Generator]
    ) -> numpy.ndarray:
        """Return a token for each row of logits, (N, V)."""
        if seen is not None:
            logits = penalize_repetition(logits, seen, self.repetition_penalty)
        if self.temperature == 0:
            return logits.argmax(axis=-1)
        logits = scale_by_temperature(logits, self.temperature)
        ids = None  # of the columns, if some are left out
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            ids = find_top_k(logits, self.top_k)  # (N, k)
            logits = numpy.take_along_axis(logits, ids, axis=-1)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        drawn = draw_tokens(logits, generators)  # (N,)
        return drawn if ids is None else numpy.take_along_axis(ids, drawn[:, None], axis=-1)[:, 0]


def generate(
    model: Any,
    prompts: Any,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Sequence[int | str] = (),
    seed: Source = None,
    tokenizer: Tokenizer | None = None,
    use_cache: bool = True,
) -> Any:
    """Return what a model writes after each prompt.

    The same seed gives the same tokens, whatever other prompts are in the batch, but for the rounding of the logits.

    Parameters
    ----------
    model : object
        See :mod:`minidl.text.generation`.
    prompts : str, integer array of shape (T,), or sequence of these
        Of any lengths, at least one token each. Texts need a tokenizer.
    max_new_tokens : int
        The most tokens to write after each prompt.
    temperature : float, default 1.0
        Divides the logits. 0 is greedy: the likeliest token.
    top_k : int, optional
        Draw only among the k likeliest tokens.
    top_p : float, optional
        Draw only among the likeliest tokens that have this probability together.
    repetition_penalty : float, default 1.0
        Above 1, tokens that are in the prompt or were written before become less likely.
    stop : sequence of int and str, optional
        Token ids and texts at which to stop. They are left out of what is returned, but for a token that holds both the
        beginning of such a text and what is before it. Texts need a tokenizer.
    seed : int, numpy.random.Generator or None, optional
        Where the random numbers come from; None is the generator of ``minidl.seed``.
    tokenizer : Tokenizer, optional
    use_cache : bool, default True
        Whether each step computes the new token only. Without it, each computes all tokens; that is slow and for checks.

    Returns
    -------
    new : str or int64 array, or a list of these
        What was written, without the prompt, in the form of the prompts.

    Raises
    ------
    ParameterError
        If a setting is out of range.
    DataError
        If a prompt is empty or holds no integers.
    NonFiniteError
        If the model gives nan.

    Examples
    --------
    >>> from minidl.text import ByteTokenizer
    >>> class NextLetter:  # the successor of the last token, whatever came before
    ...     context = None
    ...     def forward_with_state(self, ids, state=None):
    ...         return numpy.eye(256)[ids + 1], state
    ...     def select_state(self, state, rows):
    ...         return state
    >>> generate(NextLetter(), ["a", "hij"], 5, temperature=0, stop=["e"], tokenizer=ByteTokenizer())
    ['bcd', 'klmno']
    """
    rows, one, text = _read_prompts(prompts, tokenizer)
    found: list[list[int]] = [[] for _ in rows]
    settings = (max_new_tokens, temperature, top_k, top_p, repetition_penalty, stop, seed, tokenizer, use_cache)
    for row, token in stream(model, rows, *settings):
        found[row].append(token)
    new: list[Any] = [numpy.array(ids, dtype="int64") for ids in found]
    if text:
        assert tokenizer is not None
        new = [_cut(tokenizer.decode(ids), stop) for ids in new]
    return new[0] if one else new


def stream(
    model: Any,
    prompts: Any,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Sequence[int | str] = (),
    seed: Source = None,
    tokenizer: Tokenizer | None = None,
    use_cache: bool = True,
) -> Iterator[tuple[int, int]]:
    """Yield (row, token) as a model writes after each prompt; the arguments are those of :func:`generate`.

    Prompts of different lengths need no padding: all rows go through the positions together, beginning with the length of the
    shortest prompt. A row whose prompt goes on is fed the prompt's next token, and the others what they have written. A row
    that has stopped leaves the batch. Where the text outgrows the model's context, the older half of it is forgotten.

    Tokens that may turn out to belong to a text in ``stop`` are held back until that is decided.
    """
    rows, _, _ = _read_prompts(prompts, tokenizer)
    choice = _Choice(temperature, top_k, top_p, repetition_penalty)
    _check_settings(choice, max_new_tokens, stop, tokenizer)
    source = int(seed) if isinstance(seed, (int, numpy.integer)) else int(as_generator(seed, "seed").integers(2**63))
    as_generator(source, "seed")
    generators = [numpy.random.default_rng([source, row]) for row in range(len(rows))]
    return _stream(model, rows, int(max_new_tokens), choice, _Stops(stop, tokenizer), generators, use_cache)


def _stream(
    model: Any,
    prompts: list[numpy.ndarray],
    count: int,
    choice: _Choice,
    stops: _Stops,
    generators: list[numpy.random.Generator],
    use_cache: bool,
) -> Iterator[tuple[int, int]]:
    lengths = numpy.array([len(prompt) for prompt in prompts])
    position = int(lengths.min()) if len(lengths) else 1
    tokens = numpy.zeros((len(prompts), int(lengths.max(initial=1)) + count), dtype="int64")  # (N, positions)
    for line, prompt in zip(tokens, prompts, strict=True):
        line[: len(prompt)] = prompt
    held: list[list[int]] = [[] for _ in prompts]  # written and not yet yielded
    active = numpy.arange(len(prompts) if count else 0)
    window = _Window(model, use_cache)
    while len(active):
        logits = window.advance(tokens[active, :position])  # (rows, V)
        writing = numpy.flatnonzero(lengths[active] <= position)
        if len(writing):
            check_finite(logits[writing])
            chosen = active[writing]
            seen = None
            if choice.repetition_penalty != 1:
                seen = numpy.zeros((len(chosen), logits.shape[1]), dtype=bool)
                numpy.put_along_axis(seen, tokens[chosen, :position], True, axis=1)
            tokens[chosen, position] = choice.choose(logits[writing], seen, [generators[row] for row in chosen])
        position += 1
        done = numpy.zeros(len(active), dtype=bool)
        for place in writing.tolist():
            row = int(active[place])
            written = tokens[row, lengths[row] : position]
            stopped, ready = stops.look(written, len(held[row]) + 1)
            held[row].append(int(written[-1]))
            done[place] = stopped or len(written) == count
            if done[place] and not stopped:
                ready = len(held[row])
            for token in held[row][:ready]:
                yield row, token
            del held[row][:ready]
        if done.any():
            kept = numpy.flatnonzero(~done)
            active = active[kept]
            if len(kept):
                window.select(kept)


class _Window:
    """The tokens that the model looks at, and its state after all but the new ones.

    Where the text has more tokens than the context C, the window starts at a multiple of C / 2. So it is computed anew once in
    C / 2 steps.
    """

    def __init__(self, model: Any, use_cache: bool) -> None:
        self.model, self.use_cache = model, use_cache
        self.last_alone = getattr(model, "next_logits", None)
        self.start = self.known = 0  # the state is that of tokens start to known
        self.state: Any = None

    def advance(self, tokens: numpy.ndarray) -> numpy.ndarray:
        """Return the logits of the token after these, (N, V), on the host."""
        length, context = tokens.shape[1], self.model.context
        start = 0
        if context is not None and length > context:
            step = max(context // 2, 1)
            start = -(-(length - context) // step) * step
        if start != self.start or not self.use_cache:
            self.start = self.known = start
            self.state = None
        ids = engines.current().asarray(numpy.ascontiguousarray(tokens[:, self.known :]))  # (N, T)
        with inference(evaluate=True):
            if self.last_alone is not None:
                logits, self.state = self.last_alone(ids, self.state)  # (N, V)
            else:
                logits, self.state = self.model.forward_with_state(ids, self.state)  # (N, T, V)
                logits = logits[:, -1]
        self.known = length
        return to_host(logits)

    def select(self, rows: numpy.ndarray) -> None:
        """Keep these rows of the batch."""
        if self.use_cache:
            self.state = self.model.select_state(self.state, rows)


class _Stops:
    """The token ids and the texts at which a row stops."""

    def __init__(self, stop: Sequence[int | str], tokenizer: Tokenizer | None) -> None:
        self.ids = {int(item) for item in stop if not isinstance(item, str)}
        self.texts = [item for item in stop if isinstance(item, str)]
        self.tokenizer = tokenizer
        self.tail = 4 * max(map(len, self.texts), default=0)
        """Tokens in which a text that has just been completed lies: a character has at most four bytes."""

    def look(self, written: numpy.ndarray, held: int) -> tuple[bool, int]:
        """Return whether the row stops, and how many of the last ``held`` tokens are certain to be no part of a stop."""
        if int(written[-1]) in self.ids:
            return True, held - 1
        if not self.texts:
            return False, held
        assert self.tokenizer is not None
        ids = written[-max(self.tail, held) :]
        text = self.tokenizer.decode(ids)
        places = [text.find(stop) for stop in self.texts if stop in text]
        if places:
            return True, held - self._count_from(ids, lambda first, _: first >= min(places))
        broken = len(text) - len(text.rstrip("\ufffd"))  # a character of which bytes are missing may begin a stop, too
        whole = text[: len(text) - broken] if broken <= 3 else text
        begun = len(whole) - self._begun(whole)
        return False, held - min(self._count_from(ids, lambda _, end: end > begun), held)

    def _begun(self, text: str) -> int:
        """Return the length of the longest end of a text that is the beginning of a stop."""
        ends = (n for stop in self.texts for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n]))
        return max(ends, default=0)

    def _count_from(self, ids: numpy.ndarray, meant: Callable[[int, int], bool]) -> int:
        """Return the number of the last tokens that are meant, by where each begins and ends in the text."""
        assert self.tokenizer is not None
        count = len(ids)
        while count:
            before, after = (self.tokenizer.decode(ids[:n]) for n in (count - 1, count))
            if not meant(len(before.rstrip("\ufffd")), len(after)):
                break
            count -= 1
        return len(ids) - count


def _cut(text: str, stop: Sequence[int | str]) -> str:
    """Return the text before the first stop: a token may hold characters on both sides of its beginning."""
    places = [text.find(item) for item in stop if isinstance(item, str) and item in text]
    return text[: min(places)] if places else text


def _read_prompts(prompts: Any, tokenizer: Tokenizer | None) -> tuple[list[numpy.ndarray], bool, bool]:
    """Return the prompts as arrays of ids, whether there was only one, and whether they were texts."""
    one = isinstance(prompts, str) or getattr(prompts, "ndim", 0) == 1
    items = [prompts] if one else list(prompts)
    text = any(isinstance(item, str) for item in items)
    if text and tokenizer is None:
        raise ParameterError("generate: prompts that are texts need a tokenizer; pass tokenizer=..., or token ids")
    rows = []
    for i, item in enumerate(items):
        ids = tokenizer.encode(item) if isinstance(item, str) and tokenizer is not None else numpy.asarray(item)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise DataError(
                f"generate: prompt {i} must be token ids in one dimension, got dtype {ids.dtype} of shape {ids.shape}"
            )
        if not len(ids):
            raise DataError(f"generate: prompt {i} is empty; the model needs at least one token to begin with")
        rows.append(ids.astype("int64"))
    return rows, one, text


def _check_settings(
    choice: _Choice, max_new_tokens: Any, stop: Sequence[int | str], tokenizer: Tokenizer | None
) -> None:
    """Raise ParameterError if a setting is out of range, before anything is computed."""
    whole = isinstance(max_new_tokens, (int, numpy.integer)) and not isinstance(max_new_tokens, bool)
    if not whole or max_new_tokens < 0:
        raise ParameterError(f"generate: max_new_tokens must be an integer of at least 0, got {max_new_tokens!r}")
    if not choice.temperature >= 0:
        raise ParameterError(f"generate: temperature must not be negative, got {choice.temperature!r}")
    trial = numpy.zeros((1, 2))
    penalize_repetition(trial, trial > 0, choice.repetition_penalty)
    if choice.top_k is not None:
        find_top_k(trial, choice.top_k)
    if choice.top_p is not None:
        keep_top_p(trial, choice.top_p)
    if isinstance(stop, str) or "" in stop:
        raise ParameterError(
            f"generate: stop must be a sequence of token ids and of texts that are not empty, got {stop!r}"
        )
    if tokenizer is None and any(isinstance(item, str) for item in stop):
        raise ParameterError("generate: a text in stop needs a tokenizer; pass tokenizer=..., or stop at token ids")
