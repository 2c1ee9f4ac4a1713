"""From text to token ids and back: the base of the tokenizers, and those of characters and of bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy

from minidl.errors import DataError, FileFormatError, ParameterError, UnknownNameError
from minidl.weights.files import open_binary, write_atomically
from minidl.weights.safetensors_file import parse_json

__all__ = ["ByteTokenizer", "CharTokenizer", "Tokenizer", "from_dict", "load_tokenizer", "stream_text"]

FORMAT = "minidl tokenizer"
LARGEST_FILE = 1 << 28
"""Bytes of a tokenizer's file. That of a vocabulary of 256,000 has about 30 million."""


class Tokenizer:
    """The base of all tokenizers: ``encode`` and ``decode``, and a form in which they are saved.

    A subclass defines ``kind``, ``vocab_size``, ``encode``, ``decode``, ``settings`` and ``from_settings``.
    """

    kind: ClassVar[str]
    """The name of the class in files."""
    kinds: ClassVar[dict[str, type[Tokenizer]]] = {}
    """All kinds, by name."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Register the kind."""
        super().__init_subclass__(**options)
        Tokenizer.kinds[cls.kind] = cls

    @property
    def vocab_size(self) -> int:
        """The number of token ids, V: they are 0 to V - 1."""
        raise NotImplementedError

    def encode(self, text: str) -> numpy.ndarray:
        """Return the token ids of a text, int64 of shape (T,)."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids.

        Raises
        ------
        DataError
            If an id is none of the vocabulary.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Return what :meth:`from_settings` needs, as values that JSON has."""
        raise NotImplementedError

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Tokenizer:
        """Create the tokenizer again."""
        raise NotImplementedError

    @classmethod
    def from_vocab(cls, path: str | os.PathLike[str], **settings: Any) -> Tokenizer:
        """Read the tokenizer from a file that lists its vocabulary, if there are such files of this kind."""
        raise NotImplementedError

    @classmethod
    def from_tokenizer_json(cls, found: dict[str, Any]) -> Tokenizer | None:
        """Return the tokenizer of a ``tokenizer.json`` of Hugging Face, or None if this class is not for it."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the tokenizer as a dict that JSON can hold; see :func:`from_dict`."""
        return {"format": FORMAT, "version": 1, "kind": self.kind, **self.settings()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer to a JSON file, as a whole or not at all; see :func:`load_tokenizer`.

        Raises
        ------
        FileFormatError, ParameterError, OSError
            If the file cannot be written.
        """
        text = json.dumps(self.to_dict(), ensure_ascii=True, separators=(",", ":"))
        write_atomically(path, text.encode("ascii") + b"\n")

    def _check_ids(self, ids: Iterable[int]) -> numpy.ndarray:
        """Return token ids as an array; raise DataError unless all are in the vocabulary."""
        array = ids if isinstance(ids, numpy.ndarray) else numpy.array(list(ids))
        if not array.size:
            return numpy.zeros(0, dtype="int64")
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(
                f"{self!r}: expected token ids as integers in one dimension, got dtype {array.dtype} and shape {array.shape}"
            )
        bad = (array < 0) | (array >= self.vocab_size)
        if bad.any():
            place = int(bad.argmax())
            raise DataError(
                f"{self!r}: the ids are 0 to {self.vocab_size - 1}, got {int(array[place])} at index {place}"
            )
        return array.astype("int64")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"


class CharTokenizer(Tokenizer):
    """One token for each character.

    Parameters
    ----------
    characters : str
        The vocabulary; it is sorted, and repetitions are left out.

    Raises
    ------
    ParameterError
        If there are no characters.

    Examples
    --------
    >>> tokenizer = CharTokenizer.train("to be or not to be")
    >>> tokenizer.characters
    ' benort'
    >>> tokenizer.encode("robe")
    array([5, 4, 1, 2])
    >>> tokenizer.decode([5, 4, 1, 2])
    'robe'
    """

    kind = "char"

    def __init__(self, characters: str) -> None:
        if not isinstance(characters, str) or not characters:
            raise ParameterError(f"CharTokenizer: expected the characters as one text, got {characters!r}")
        self.characters = "".join(sorted(set(characters)))
        self._codes = _code_points(self.characters)  # (V,)

    @classmethod
    def train(cls, text: str) -> CharTokenizer:
        """Return the tokenizer of all characters of a text."""
        return cls(text)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> numpy.ndarray:
        """Return the token ids of a text.

        Raises
        ------
        DataError
            If a character is not in the vocabulary.
        """
        codes = _code_points(text)  # (T,)
        ids = numpy.searchsorted(self._codes, codes).clip(max=self.vocab_size - 1)
        unknown = self._codes[ids] != codes
        if unknown.any():
            place = int(unknown.argmax())
            shown = self.characters if self.vocab_size <= 100 else f"{self.characters[:100]}..."
            raise DataError(
                f"CharTokenizer: {text[place]!r} at index {place} is not in the vocabulary of {self.vocab_size} characters, "
                f"{shown!r}; leave it out, or train on a text that has it"
            )
        return ids.astype("int64")

    def decode(self, ids: Iterable[int]) -> str:
        return self._codes[self._check_ids(ids)].tobytes().decode("utf-32-le", "surrogatepass")

    def settings(self) -> dict[str, Any]:
        return {"characters": self.characters}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> CharTokenizer:
        return cls(settings["characters"])


def _code_points(text: str) -> numpy.ndarray:
    return numpy.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


class ByteTokenizer(Tokenizer):
    """One token for each byte of the text in UTF-8: 256 tokens for all texts.

    Examples
    --------
    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("né")
    array([110, 195, 169])
    >>> tokenizer.decode([110, 195, 169])
    'né'
    >>> tokenizer.decode([110, 195])  # half a character
    'n\ufffd'
    """

    kind = "byte"

    @property
    def vocab_size(self) -> int:
        return 256

    def encode(self, text: str) -> numpy.ndarray:
        """Return the token ids of a text.

        Raises
        ------
        DataError
            If the text holds a surrogate, which is no character.
        """
        return numpy.frombuffer(utf8(text, self), dtype="uint8").astype("int64")

    def decode(self, ids: Iterable[int]) -> str:
        return self._check_ids(ids).astype("uint8").tobytes().decode("utf-8", "replace")

    def settings(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> ByteTokenizer:
        return cls()


def utf8(text: str, owner: Any) -> bytes:
    """Return a text in UTF-8; raise DataError if it holds a surrogate."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{owner!r}: the text holds {text[error.start]!r} at index {error.start}, half of a pair of UTF-16 and no character; "
            "decode the text anew, for example with encoding='utf-16' or errors='replace'"
        ) from error


def from_dict(found: Any, where: str = "from_dict") -> Tokenizer:
    """Return the tokenizer of a dict that :meth:`Tokenizer.to_dict` made, or of one in Hugging Face's form.

    Raises
    ------
    FileFormatError
        If it is neither.
    MissingDependencyError
        If it is in Hugging Face's form, no WordPiece of BERT's, and the package tokenizers is not installed.

    Examples
    --------
    >>> from_dict(CharTokenizer("abc").to_dict())
    CharTokenizer(vocab_size=3)
    """
    if not isinstance(found, dict):
        raise FileFormatError(f"{where}: expected an object, got {type(found).__name__}")
    if "model" in found and "format" not in found:
        made = (Tokenizer.kinds[kind].from_tokenizer_json(found) for kind in ("wordpiece", "hugging_face"))
        return next(tokenizer for tokenizer in made if tokenizer is not None)
    if found.get("format") != FORMAT or found.get("version") != 1:
        raise FileFormatError(
            f"{where}: expected a tokenizer of minidl, version 1, or Hugging Face's tokenizer.json; found the names "
            f"{', '.join(map(str, list(found)[:8]))}"
        )
    if found.get("kind") not in Tokenizer.kinds:
        raise UnknownNameError.among("kind of tokenizer", found.get("kind"), Tokenizer.kinds)
    try:
        return Tokenizer.kinds[found["kind"]].from_settings(found)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise FileFormatError(f"{where}: the tokenizer of kind {found['kind']!r} is damaged: {what}") from error


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a tokenizer from the file that :meth:`Tokenizer.save` wrote, or from one of Hugging Face.

    Parameters
    ----------
    path : path
        Such a file; a ``tokenizer.json``; or BERT's ``vocab.txt``, with what the ``tokenizer_config.json`` beside it says.

    Raises
    ------
    FileFormatError
        If the file is no such file.
    MissingDependencyError
        For a ``tokenizer.json`` that is no WordPiece of BERT's, if the package tokenizers is not installed.
    FileNotFoundError, PermissionError, IsADirectoryError, ParameterError
        If the file cannot be read.
    """
    name = os.fspath(path)
    if name.endswith(".txt"):
        return Tokenizer.kinds["wordpiece"].from_vocab(path)
    return from_dict(read_json(path), name)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return what a JSON file holds; raise FileFormatError if it is none, or too large."""
    name = os.fspath(path)
    with open_binary(path) as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise FileFormatError(f"{name}: has more than {LARGEST_FILE} bytes; this is no tokenizer")
    try:
        return parse_json(content)
    except ValueError as error:
        raise FileFormatError(f"{name}: this is not JSON, or it is damaged: {error}") from error


def stream_text(tokenizer: Tokenizer, ids: Iterable[int]) -> Iterator[str]:
    r"""Yield the text of token ids as they come, no character before all its bytes are there.

    Parameters
    ----------
    tokenizer : Tokenizer
    ids : iterable of int

    Examples
    --------
    >>> list(stream_text(ByteTokenizer(), [110, 195, 169, 33]))
    ['n', 'é', '!']
    """
    kept: list[int] = []  # ids whose text is not complete
    shown = 0  # characters of their text that were yielded
    for i in ids:
        kept.append(int(i))
        text = tokenizer.decode(kept)
        if not text.endswith("\ufffd") or len(kept) > 8:
            if text[shown:]:
                yield text[shown:]
            kept, shown = _keep_one(tokenizer, kept)
    rest = tokenizer.decode(kept)[shown:]
    if rest:
        yield rest


def _keep_one(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[list[int], int]:
    """Return the last id and the length of its text: some tokenizers drop the space at the beginning of a text."""
    last = list(ids[-1:])
    return last, len(tokenizer.decode(last))
