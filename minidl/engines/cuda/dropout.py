"""Dropout: the mask is made again in the backward, from the state that the generator had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy

from minidl.engines.cuda.dispatch import NOT_TAKEN, blocks_for, dense, is_taken, new, number, override
from minidl.engines.cuda.source import launch
from minidl.ops import FORMULAS, Array, namespace

__all__ = ["Mask", "take", "words"]

THREADS = 256
WORDS = 8
"""Of the generator, for each thread at least: the first costs more than the others."""

FACTOR = 2549297995355413924 << 64 | 4865540595714422341
_BITS = (1 << 64) - 1


@dataclass(frozen=True)
class Mask:
    """The factors s of a dropout, without the array: what the cache holds in its place.

    Attributes
    ----------
    state, increment : int
        Of the PCG64, 128 bits each.
    waiting : bool
        Whether half a word is left over from before.
    half : int
        That half.
    p : float
    shape : tuple of int
    dtype : dtype
    """

    state: int
    increment: int
    waiting: bool
    half: int
    p: float
    shape: tuple[int, ...]
    dtype: Any

    def apply(self, x: Array) -> Array:
        """Return x times the factors."""
        y = new(x)
        if x.size:
            factor = 1 / (1 - self.p) if self.p < 1 else 0.0
            settings = (self.waiting, numpy.uint32(self.half), numpy.float32(self.p), float(factor))
            grid, of = blocks_for(x.size, 2 * WORDS * THREADS), words(self.state, self.increment)
            launch("elementwise/dropout.cu", "dropout_scale", x.dtype, grid, THREADS, x, y, x.size, *of, *settings)
        return y

    def array(self, like: Array) -> Array:
        """Return the factors as an array beside another."""
        xp = namespace(like)
        return self.apply(xp.ones(self.shape, dtype=self.dtype))


def take(random: Any, count: int) -> tuple[int, int, bool, int] | None:
    """Return where a generator is: state, increment, whether half a word waits, and which; None if it is no PCG64.

    It is left as if so many float32 numbers were drawn.
    """
    if not isinstance(random, numpy.random.Generator) or type(random.bit_generator) is not numpy.random.PCG64:
        return None
    generator: Any = random.bit_generator
    with generator.lock:
        seen = generator.state
        state, increment = seen["state"]["state"], seen["state"]["inc"]
        waiting, half = bool(seen["has_uint32"]), int(seen["uinteger"])
        drawn = count - waiting
        if count and drawn > 0:
            after = _leap(state, increment, (drawn + 1) // 2)
            left = {"has_uint32": drawn % 2, "uinteger": _word(after) >> 32}
        else:
            after, left = state, {"has_uint32": int(waiting and not count), "uinteger": half}
        generator.state = {**seen, "state": {"state": after, "inc": increment}, **left}
    return state, increment, waiting, half


def words(*numbers: int) -> list[Any]:
    """Return numbers of 128 bits as the kernels take them: the upper half of each, then the lower."""
    return [numpy.uint64(half) for number in numbers for half in (number >> 64, number & _BITS)]


def _leap(state: int, increment: int, steps: int) -> int:
    """Return the state after some steps s <- a s + c modulo 2^128, by repeated squaring."""
    factor, term, modulus = FACTOR, increment, 1 << 128
    while steps:
        if steps & 1:
            state = (factor * state + term) % modulus
        term = (factor * term + term) % modulus
        factor = factor * factor % modulus
        steps >>= 1
    return state


def _word(state: int) -> int:
    """Return the 64 bits that the generator gives in a state."""
    mixed, turn = (state >> 64) ^ (state & _BITS), state >> 122
    return (mixed >> turn | mixed << (-turn & 63)) & _BITS


@override("dropout")
def dropout(x: Any, p: Any = 0.5, random: Any = None) -> Any:
    """See ``minidl.ops.dropout.dropout``. With a generator of PCG64; the cache holds a :class:`Mask` in the place of s."""
    if not is_taken(x) or not number(p) or not 0 <= p <= 1:
        return NOT_TAKEN
    x = dense(x)
    drawn = take(random, x.size)
    if drawn is None:
        return NOT_TAKEN
    mask = Mask(*drawn, float(p), x.shape, x.dtype)
    return mask.apply(x), (mask,)


@override("dropout_backward", lambda dy, cache: FORMULAS["dropout_backward"](dy, _with_array(dy, cache)))
def dropout_backward(dy: Any, cache: tuple[Any, ...]) -> Any:
    """See ``minidl.ops.dropout.dropout_backward``."""
    (mask,) = cache
    if not isinstance(mask, Mask) or not is_taken(dy) or dy.shape != mask.shape or dy.dtype != mask.dtype:
        return NOT_TAKEN
    return mask.apply(dense(dy))


def _with_array(dy: Any, cache: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the cache as the formula has it."""
    return tuple(kept.array(dy) if isinstance(kept, Mask) else kept for kept in cache)
