"""Byte-pair encoding: frequent pairs of tokens become tokens.

The text is split into words, and each word into the bytes of its UTF-8. Training counts all pairs of neighbours, makes the
most frequent one a token, and repeats that until there are enough tokens. Encoding repeats the same merges, in the order
in which they were learnt::

    repeat: find the neighbours whose merge was learnt first; replace them by their token; until no two can be merged

R. Sennrich, B. Haddow, A. Birch, "Neural machine translation of rare words with subword units", ACL 2016, algorithm 1.
A. Radford et al., "Language models are unsupervised multitask learners" (2019), section 2.2, take bytes for characters.
"""

from __future__ import annotations

import heapq
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy

from minidl.data.files import read_text
from minidl.errors import FileFormatError, ParameterError
from minidl.text.tokenizers import Tokenizer, read_json, utf8
from minidl.text.words import split_words

__all__ = ["BytePairTokenizer"]

Pair = tuple[int, int]
LARGEST_CACHE = 1 << 17
"""Words whose ids are remembered."""
LONGEST_CACHED = 64
"""Bytes of a word that is remembered."""


class BytePairTokenizer(Tokenizer):
    """Byte-pair encoding on bytes: any text has ids, and frequent words have one.

    Parameters
    ----------
    merges : sequence of (left id, right id, id)
        In the order in which they were learnt.
    byte_ids : sequence of 256 int, optional
        The id of each byte; the byte itself by default.
    special_tokens : mapping of str to int, optional
        Tokens that stand for no text, such as the end of a document, with their ids.

    Raises
    ------
    ParameterError
        If a merge uses an id that no byte and no earlier merge has, or an id has two meanings.

    Examples
    --------
    >>> tokenizer = BytePairTokenizer.train("low low low lower lowest", vocab_size=258)
    >>> [tokenizer.tokens[i] for i in (256, 257)]
    [b'lo', b'low']
    >>> tokenizer.encode("slow")
    array([115, 257])
    >>> tokenizer.decode([115, 257])
    'slow'
    """

    kind = "bpe"

    def __init__(
        self,
        merges: Iterable[Sequence[int]],
        byte_ids: Sequence[int] | None = None,
        special_tokens: Mapping[str, int] | None = None,
    ) -> None:
        self.byte_ids = list(range(256)) if byte_ids is None else [int(i) for i in byte_ids]
        if len(set(self.byte_ids)) != 256:
            raise ParameterError("BytePairTokenizer: byte_ids must be 256 different ids")
        self.merges: list[tuple[int, int, int]] = [(int(a), int(b), int(c)) for a, b, c in merges]
        self.special_tokens = {str(text): int(i) for text, i in (special_tokens or {}).items()}
        self.tokens: dict[int, bytes] = {i: bytes([byte]) for byte, i in enumerate(self.byte_ids)}
        """The bytes of each id."""
        self._merged: dict[Pair, tuple[int, int]] = {}  # the rank and the id of each pair that is merged
        for rank, (left, right, new) in enumerate(self.merges):
            if left not in self.tokens or right not in self.tokens:
                raise ParameterError(f"BytePairTokenizer: merge {rank} uses an id that no token before it has")
            joined = self.tokens[left] + self.tokens[right]
            if self.tokens.setdefault(new, joined) != joined:
                raise ParameterError(f"BytePairTokenizer: two tokens have the id {new}")
            self._merged.setdefault((left, right), (rank, new))
        for text, i in self.special_tokens.items():
            if not text or i in self.tokens or list(self.special_tokens.values()).count(i) > 1:
                raise ParameterError(f"BytePairTokenizer: the special token {text!r} needs an id of its own, not {i}")
        self._vocab_size = max([*self.tokens, *self.special_tokens.values()]) + 1
        self._special = {i: text.encode("utf-8") for text, i in self.special_tokens.items()}
        self._cache: dict[str, list[int]] = {}

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @classmethod
    def train(
        cls, text: str, vocab_size: int, special_tokens: Sequence[str] = (), min_count: int = 2
    ) -> BytePairTokenizer:
        """Learn the merges from a text.

        Of pairs that are equally frequent the one with the smaller ids is merged first.

        Parameters
        ----------
        text : str
        vocab_size : int
            The number of tokens to reach, of which 256 are the bytes.
        special_tokens : sequence of str, optional
            They get the last ids.
        min_count : int, default 2
            Pairs that are rarer than this are not merged; the vocabulary may then stay smaller.

        Raises
        ------
        ParameterError
            If the vocabulary is smaller than the bytes and the special tokens.
        DataError
            If the text holds a surrogate, which is no character.
        """
        count = vocab_size - 256 - len(special_tokens)
        if count < 0:
            raise ParameterError(
                f"BytePairTokenizer: vocab_size must be at least {256 + len(special_tokens)}, for the 256 bytes and the "
                f"special tokens, got {vocab_size}"
            )
        words = Counter(split_words(text))
        sequences = [list(utf8(word, cls)) for word in words]
        merges = _learn(sequences, list(words.values()), count, min_count)
        first = 256 + len(merges)
        return cls(merges, special_tokens={token: first + i for i, token in enumerate(special_tokens)})

    @classmethod
    def from_gpt2(
        cls,
        encoder: str | os.PathLike[str],
        merges: str | os.PathLike[str],
        special_tokens: Sequence[str] | None = None,
    ) -> BytePairTokenizer:
        """Read the files of GPT-2.

        Parameters
        ----------
        encoder : path
            ``encoder.json`` or ``vocab.json``: the id of each token.
        merges : path
            ``vocab.bpe`` or ``merges.txt``: the pairs, one in a line.
        special_tokens : sequence of str, optional
            Tokens that stand for no text; by default those of the first file that no merge makes.

        Raises
        ------
        FileFormatError
            If the files do not fit together.
        FileNotFoundError
            If there is no such file.
        """
        ids = read_json(encoder)
        name = os.fspath(encoder)
        if not isinstance(ids, dict) or not all(type(i) is int and i >= 0 for i in ids.values()):
            raise FileFormatError(f"{name}: expected an object that gives each token its id")
        characters = gpt2_characters()
        try:
            byte_ids = [ids[character] for character in characters]
            triples = [(ids[a], ids[b], ids[a + b]) for a, b in _read_pairs(merges)]
        except KeyError as error:
            raise FileFormatError(
                f"{name}: lacks the token {error}, which {os.fspath(merges)} or a byte needs; the two files are of different models"
            ) from error
        made = {*byte_ids, *(new for _, _, new in triples)}
        if special_tokens is None:
            special_tokens = [token for token, i in ids.items() if i not in made]
        missing = [token for token in special_tokens if token not in ids]
        if missing:
            raise FileFormatError(f"{name}: lacks the special token {missing[0]!r}")
        try:
            return cls(triples, byte_ids, {token: ids[token] for token in special_tokens})
        except ParameterError as error:
            raise FileFormatError(f"{name}: {error.message}") from error

    def encode(self, text: str, special: bool = False) -> numpy.ndarray:
        """Return the token ids of a text.

        Parameters
        ----------
        text : str
        special : bool, default False
            Whether special tokens that are written in the text become their ids. Without it they are text like any other,
            so that what a user types cannot end a document.

        Raises
        ------
        DataError
            If the text holds a surrogate, which is no character.
        """
        if not special or not self.special_tokens:
            return self._encode_plain(text)
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
        ids = [
            numpy.array([self.special_tokens[part]]) if odd else self._encode_plain(part)
            for odd, part in zip(itertools.cycle((False, True)), parts, strict=False)
        ]
        return numpy.concatenate(ids).astype("int64")

    def _encode_plain(self, text: str) -> numpy.ndarray:
        utf8(text, self)  # so that the error names the place in the text, not in the word
        words = map(self._encode_word, split_words(text))
        return numpy.fromiter(itertools.chain.from_iterable(words), dtype="int64")

    def _encode_word(self, word: str) -> list[int]:
        found = self._cache.get(word)
        if found is None:
            content = word.encode("utf-8")
            found = merge([self.byte_ids[byte] for byte in content], self._merged)
            if len(content) <= LONGEST_CACHED:
                if len(self._cache) >= LARGEST_CACHE:
                    self._cache.clear()
                self._cache[word] = found
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; bytes that are no characters become U+FFFD."""
        special, tokens = self._special, self.tokens
        pieces = (tokens[i] if i in tokens else special.get(i, b"") for i in self._check_ids(ids).tolist())
        return b"".join(pieces).decode("utf-8", "replace")

    def settings(self) -> dict[str, Any]:
        return {
            "byte_ids": self.byte_ids,
            "merges": [list(merge) for merge in self.merges],
            "special_tokens": self.special_tokens,
        }

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> BytePairTokenizer:
        return cls(settings["merges"], settings["byte_ids"], settings["special_tokens"])


def merge(ids: list[int], merged: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Return the tokens of a word: always merge the pair that was learnt first, of equal ones the leftmost.

    The pairs wait in a heap by rank and place, and the tokens are a linked list. So a word of n bytes takes n log(n) steps.

    Parameters
    ----------
    ids : list of int
        The ids of its bytes.
    merged : mapping of (left id, right id) to (rank, id)

    Examples
    --------
    >>> merge([1, 2, 1, 2, 3], {(1, 2): (0, 4), (4, 3): (1, 5)})
    [4, 5]
    """
    gone = -1
    tokens, end = list(ids), len(ids)
    after, before = list(range(1, end + 1)), list(range(-1, end - 1))
    heap = [
        (merged[pair][0], place, *pair) for place, pair in enumerate(itertools.pairwise(ids)) if pair in merged
    ]  # (rank, place, left, right)
    heapq.heapify(heap)
    while heap:
        _, i, left, right = heapq.heappop(heap)
        j = after[i]
        if tokens[i] != left or j == end or tokens[j] != right:
            continue  # one of the two has been merged since
        tokens[i], tokens[j] = merged[left, right][1], gone
        after[i] = k = after[j]
        if k < end:
            before[k] = i
        for a, b in ((before[i], i), (i, k)):
            if a >= 0 and b < end and (pair := (tokens[a], tokens[b])) in merged:
                heapq.heappush(heap, (merged[pair][0], a, *pair))
    return [token for token in tokens if token != gone]


def _learn(sequences: list[list[int]], counts: list[int], count: int, min_count: int) -> list[tuple[int, int, int]]:
    """Return the merges of words, given as lists of bytes with their counts. Only words with the merged pair are visited."""
    frequency: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = defaultdict(set)  # the words that hold a pair
    for w, sequence in enumerate(sequences):
        for pair in itertools.pairwise(sequence):
            frequency[pair] += counts[w]
            places[pair].add(w)
    heap = [(-n, pair) for pair, n in frequency.items()]  # may be out of date; an entry is compared when it is taken
    heapq.heapify(heap)
    merges: list[tuple[int, int, int]] = []
    while heap and len(merges) < count:
        n, pair = heapq.heappop(heap)
        if -n != frequency[pair]:
            continue
        if -n < min_count:
            break
        new = 256 + len(merges)
        merges.append((*pair, new))
        changed: set[Pair] = set()
        for w in places.pop(pair):
            for old, sign in ((sequences[w], -1), (_replace(sequences[w], pair, new), 1)):
                for neighbours in itertools.pairwise(old):
                    frequency[neighbours] += sign * counts[w]
                    changed.add(neighbours)
                    if sign > 0:
                        places[neighbours].add(w)
                sequences[w] = old
        for other in changed - {pair}:
            if frequency[other] > 0:
                heapq.heappush(heap, (-frequency[other], other))
    return merges


def _replace(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Return the ids with each occurrence of the pair, from the left, replaced."""
    found, i = [], 0
    while i < len(ids):
        both = i + 1 < len(ids) and ids[i] == pair[0] and ids[i + 1] == pair[1]
        found.append(new if both else ids[i])
        i += 2 if both else 1
    return found


def gpt2_characters() -> list[str]:
    r"""Return the character that stands for each byte in GPT-2's files.

    A printable byte stands for itself. The others, such as the space, take the characters from U+0100 on.

    >>> "".join(gpt2_characters()[byte] for byte in b" a\n")
    'ĠaĊ'
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = itertools.count(256)
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _read_pairs(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a file of merges."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, found, right = line.partition(" ")
        if not found or not left or not right or " " in right:
            raise FileFormatError(f"{os.fspath(path)}, line {number}: expected two tokens and a space, got {line!r}")
        yield left, right
