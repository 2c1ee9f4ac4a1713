"""WordPiece: the words of a text, cut into the longest pieces that a vocabulary has; the tokenizer of BERT.

minidl/text/bert_words.py splits a text into words. A word is then cut from its start::

    while the word is not at its end:
        take the longest piece from here that is in the vocabulary; after the first, with "##" before it
    if there is none, or the word is too long, all of it is [UNK]

M. Schuster, K. Nakajima, "Japanese and Korean voice search", ICASSP 2012; J. Devlin et al., "BERT: Pre-training of deep bidirectional
Transformers for language understanding", NAACL 2019, section 3.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from minidl.data.files import read_text
from minidl.errors import FileFormatError, ParameterError
from minidl.text.bert_words import BertWords
from minidl.text.hugging_face import Encoded
from minidl.text.tokenizers import Tokenizer, utf8
from minidl.text.wordpiece_files import read_tokenizer_config, read_tokenizer_json

__all__ = ["EncodedBatch", "WordPieceTokenizer"]

LARGEST_CACHE = 1 << 17
"""Words whose pieces are remembered."""
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class EncodedBatch(NamedTuple):
    """Texts or pairs of texts as arrays, filled up to one length; the arguments of ``BERT.forward``.

    Attributes
    ----------
    ids : int64 array, shape (N, T)
    mask : bool array, shape (N, T)
        False for padding.
    types : int64 array, shape (N, T)
    """

    ids: numpy.ndarray
    mask: numpy.ndarray
    types: numpy.ndarray


class WordPieceTokenizer(Tokenizer):
    """WordPiece as BERT has it: any text has ids, and frequent words have one.

    Special tokens that are written in a text become their ids.

    Parameters
    ----------
    vocab : mapping of str to int
        The id of each piece; those inside a word begin with ``prefix``.
    special_tokens : sequence of str, optional
        Those of the vocabulary that are never cut; by default ``[PAD]``, ``[UNK]``, ``[CLS]``, ``[SEP]`` and ``[MASK]`` where they
        are in it.
    unknown, first, last, padding : str, default "[UNK]", "[CLS]", "[SEP]", "[PAD]"
        The tokens for words without pieces, before a text, after each text, and behind a short one.
    prefix : str, default "##"
    max_input_chars_per_word : int, default 100
        Longer words are unknown.
    cleanup : bool, default True
        Whether ``decode`` leaves out the space before ``.``, ``,``, ``?`` and ``!``.
    **words
        Settings of ``minidl.text.bert_words.BertWords``: clean_text, handle_chinese_chars, strip_accents and lowercase.

    Raises
    ------
    ParameterError
        If the vocabulary lacks one of these tokens, or a setting is invalid.

    Examples
    --------
    >>> pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##want", "##ed", "runn", "##ing", ","]
    >>> tokenizer = WordPieceTokenizer({piece: i for i, piece in enumerate(pieces)})
    >>> tokenizer.encode("UNwantéd, running ran")
    array([4, 5, 6, 9, 7, 8, 1])
    >>> tokenizer.decode([4, 5, 6, 9, 7, 8])
    'unwanted, running'
    >>> batch = tokenizer.encode_batch(["unwanted", "running"], ["ran", "wanted un"], max_length=6)
    >>> batch.ids
    array([[2, 4, 5, 3, 1, 3],
           [2, 7, 3, 1, 4, 3]])
    """

    kind = "wordpiece"

    def __init__(
        self,
        vocab: Mapping[str, int],
        special_tokens: Sequence[str] | None = None,
        *,
        unknown: str = "[UNK]",
        first: str = "[CLS]",
        last: str = "[SEP]",
        padding: str = "[PAD]",
        prefix: str = "##",
        max_input_chars_per_word: int = 100,
        cleanup: bool = True,
        **words: Any,
    ) -> None:
        self.vocab = {str(piece): int(i) for piece, i in vocab.items()}
        if len(set(self.vocab.values())) < len(self.vocab) or min(self.vocab.values(), default=0) < 0:
            raise ParameterError("WordPieceTokenizer: each piece needs an id of its own, from 0 on")
        known = [token for token in _SPECIAL if token in self.vocab] if special_tokens is None else special_tokens
        self.special_tokens = list(dict.fromkeys(known))
        for token in (unknown, first, last, padding, *self.special_tokens):
            if not token or token not in self.vocab:
                raise ParameterError(f"WordPieceTokenizer: the vocabulary lacks the special token {token!r}")
        if max_input_chars_per_word < 1:
            raise ParameterError(
                f"WordPieceTokenizer: max_input_chars_per_word must be positive, got {max_input_chars_per_word}"
            )
        self.unknown, self.first, self.last, self.padding = unknown, first, last, padding
        self.prefix, self.max_input_chars_per_word, self.cleanup = prefix, max_input_chars_per_word, cleanup
        try:
            self.words = BertWords(**words)
        except TypeError as error:
            raise ParameterError(f"WordPieceTokenizer: {error}") from error
        self._pieces = {i: piece for piece, i in self.vocab.items()}
        self._vocab_size = max(self._pieces) + 1
        self._inner = {p[len(prefix) :]: i for p, i in self.vocab.items() if p.startswith(prefix)}
        self._longest = max(map(len, self.vocab))
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"\b\B")  # or what nothing matches
        self._cache: dict[str, tuple[list[int], list[int]]] = {}

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @classmethod
    def from_vocab(cls, path: str | os.PathLike[str], **settings: Any) -> WordPieceTokenizer:
        """Read a ``vocab.txt``, which has one piece in each line; its id is the number of the line, from 0 on.

        Parameters
        ----------
        path : path
        **settings
            As for the class, such as ``lowercase=False`` for a model that tells "us" from "US". What is not given is as the
            ``tokenizer_config.json`` beside the file says, if there is one.

        Raises
        ------
        FileFormatError
            If a piece is there twice, or a special token is not.
        FileNotFoundError
            If there is no such file.
        """
        lines = read_text(path).split("\n")
        if lines[-1] == "":
            lines.pop()
        vocab = {line.removesuffix("\r"): i for i, line in enumerate(lines)}
        if len(vocab) < len(lines):
            raise FileFormatError(
                f"{os.fspath(path)}: a piece is there twice; expected a vocabulary with one in each line"
            )
        try:
            return cls(vocab, **{**read_tokenizer_config(Path(path).with_name("tokenizer_config.json")), **settings})
        except ParameterError as error:
            raise FileFormatError(f"{os.fspath(path)}: {error.message}") from error

    # encoding --------------------------------------------------------------------------------------------------------

    def encode(self, text: str, special: bool = False) -> numpy.ndarray:
        """Return the token ids of a text.

        Parameters
        ----------
        text : str
        special : bool, default False
            Whether to put [CLS] before the text and [SEP] after it.

        Raises
        ------
        DataError
            If the text holds a surrogate, which is no character.
        """
        ids = self._encode(text)
        if special:
            ids = [self.vocab[self.first], *ids, self.vocab[self.last]]
        return numpy.array(ids, dtype="int64")

    def encode_with_offsets(self, text: str, pair: str | None = None) -> Encoded:
        """Return a text, or a pair such as question and context, with [CLS] before it and [SEP] after each.

        Parameters
        ----------
        text : str
        pair : str, optional

        Raises
        ------
        DataError
            If a text holds a surrogate, which is no character.
        """
        outside = (-1, 0, 0)
        rows = [(self.vocab[self.first], 0, *outside)]
        for part, whole in enumerate([text] if pair is None else [text, pair]):
            rows += [(i, part, part, start, end) for i, start, end in self._locate(whole)]
            rows.append((self.vocab[self.last], part, *outside))
        table = numpy.array(rows, dtype="int64")  # (T, 5)
        return Encoded(table[:, 0], table[:, 1], table[:, 2], table[:, 3:])

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int | None = None
    ) -> EncodedBatch:
        """Return texts, or pairs of texts, as arrays: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP].

        The types are 0 up to the first [SEP], and 1 after it.

        Parameters
        ----------
        texts : sequence of str
        pairs : sequence of str, optional
            One for each text.
        max_length : int, optional
            The most tokens of a row. Of a pair the longer text is cut, and both when they are equally long.

        Raises
        ------
        ParameterError
            If there are not as many pairs as texts, ``texts`` is one text, or there is no room between the special tokens.
        DataError
            If a text holds a surrogate, which is no character.
        """
        if isinstance(texts, str) or isinstance(pairs, str):
            raise ParameterError("encode_batch: expected a list of texts, got one; give [text]")
        if pairs is not None and len(pairs) != len(texts):
            raise ParameterError(f"encode_batch: expected a pair for each text, got {len(pairs)} for {len(texts)}")
        special = 2 if pairs is None else 3
        if max_length is not None and max_length < special:
            raise ParameterError(f"encode_batch: max_length must be at least {special}, got {max_length}")
        rows = []
        for i, text in enumerate(texts):
            parts = [self._encode(text)] if pairs is None else [self._encode(text), self._encode(pairs[i])]
            if max_length is not None:
                kept = _share([len(part) for part in parts], max_length - special)
                parts = [part[:count] for part, count in zip(parts, kept, strict=True)]
            rows.append(parts)
        lengths = [special + sum(map(len, parts)) for parts in rows]
        ids = numpy.full((len(rows), max(lengths, default=0)), self.vocab[self.padding], dtype="int64")  # (N, T)
        types = numpy.zeros(ids.shape, dtype="int64")
        for row, kinds, parts, length in zip(ids, types, rows, lengths, strict=True):
            end = self.vocab[self.last]
            row[:length] = [self.vocab[self.first], *(i for part in parts for i in (*part, end))]
            kinds[2 + len(parts[0]) : length] = 1
        return EncodedBatch(ids, numpy.arange(ids.shape[1]) < numpy.array(lengths, dtype="int64")[:, None], types)

    def _encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        utf8(text, self)
        ids: list[int] = []
        for special, start, end in self._split(text):
            if special:
                ids.append(self.vocab[text[start:end]])
            else:
                for word in self.words.split(text[start:end]):
                    ids += self._cut(word)[0]
        return ids

    def _locate(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Yield the id of each token, and the characters of the text that it stands for."""
        utf8(text, self)
        for special, start, end in self._split(text):
            if special:
                yield self.vocab[text[start:end]], start, end
                continue
            for word, places in self.words.locate(text[start:end]):
                at = 0
                for i, size in zip(*self._cut(word), strict=True):
                    yield i, start + places[at], start + places[at + size - 1] + 1
                    at += size

    def _split(self, text: str) -> Iterator[tuple[bool, int, int]]:
        """Yield whether a part of a text is a special token, and where it begins and ends."""
        start = 0
        for match in self._special.finditer(text):
            if match.start() > start:
                yield False, start, match.start()
            yield True, match.start(), match.end()
            start = match.end()
        if start < len(text):
            yield False, start, len(text)

    def _cut(self, word: str) -> tuple[list[int], list[int]]:
        """Return the ids of a word's pieces, and how many of its characters each stands for."""
        found = self._cache.get(word)
        if found is None:
            if len(self._cache) >= LARGEST_CACHE:
                self._cache.clear()
            found = self._cache[word] = self._cut_anew(word)
        return found

    def _cut_anew(self, word: str) -> tuple[list[int], list[int]]:
        unknown = [self.vocab[self.unknown]], [len(word)]
        if len(word) > self.max_input_chars_per_word:
            return unknown
        ids: list[int] = []
        sizes: list[int] = []
        start, pieces = 0, self.vocab
        while start < len(word):
            end = min(len(word), start + self._longest)
            while end > start and word[start:end] not in pieces:
                end -= 1
            if end == start:
                return unknown
            ids.append(pieces[word[start:end]])
            sizes.append(end - start)
            start, pieces = end, self._inner
        return ids, sizes

    # decoding --------------------------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, with a space before each word. Capitals and accents are lost, if the tokenizer loses them."""
        written: list[str] = []
        for i in self._check_ids(ids).tolist():
            piece = self._pieces.get(i)
            if piece is None:
                continue
            if written:
                piece = piece[len(self.prefix) :] if piece.startswith(self.prefix) else f" {piece}"
            written.append(_clean_up(piece) if self.cleanup else piece)
        return "".join(written)

    def id_of(self, token: str) -> int | None:
        """Return the id of a token, or None if it is not in the vocabulary."""
        return self.vocab.get(token)

    def token_of(self, id: int) -> str:
        """Return the token of an id, as the vocabulary spells it; empty for an id without one."""
        return self._pieces.get(int(self._check_ids([id])[0]), "")

    # files -----------------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        words = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
        own = ("special_tokens", "unknown", "first", "last", "padding", "prefix", "max_input_chars_per_word", "cleanup")
        return {
            "vocab": self.vocab,
            **{name: getattr(self, name) for name in own},
            **{name: getattr(self.words, name) for name in words},
        }

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> WordPieceTokenizer:
        return cls(**{name: value for name, value in settings.items() if name not in ("format", "version", "kind")})

    @classmethod
    def from_tokenizer_json(cls, found: dict[str, Any]) -> WordPieceTokenizer | None:
        """Return the tokenizer of a ``tokenizer.json`` of Hugging Face, or None unless it is a WordPiece as BERT has it.

        Raises
        ------
        FileFormatError
            If it is one, but damaged.
        """
        try:
            settings = read_tokenizer_json(found)
            return None if settings is None else cls(**settings)
        except (ParameterError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"tokenizer.json: it describes a WordPiece, but is damaged: {error}") from error


def _share(lengths: list[int], room: int) -> list[int]:
    """Return how many tokens of each text are kept: the longer one is cut, down to half the room for each.

    >>> _share([3, 9], 8), _share([9, 3], 8), _share([7, 9], 9)
    ([3, 5], [5, 3], [4, 5])
    """
    if len(lengths) == 1 or sum(lengths) <= room:
        return [min(length, room) for length in lengths]
    short = min(min(lengths), room // 2)
    long = room - short
    return [short, long] if lengths[0] <= lengths[1] else [long, short]


_CLEANED = [(f" {mark}", mark) for mark in ".?!,"] + [
    (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
]  # fmt: skip


def _clean_up(piece: str) -> str:
    """Leave out the spaces of English tokenisation in a piece, as the package tokenizers does it: in each piece by itself."""
    for old, new in _CLEANED:
        piece = piece.replace(old, new)
    return piece
