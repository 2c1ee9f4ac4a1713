"""Tokenizers in Hugging Face's form, by their package ``tokenizers``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy

from minidl.errors import FileFormatError, MissingDependencyError
from minidl.text.tokenizers import Tokenizer

__all__ = ["Encoded", "HuggingFaceTokenizer"]


class Encoded(NamedTuple):
    """A text, or a pair of texts, with the special tokens of the model.

    Attributes
    ----------
    ids : int64 array, shape (T,)
    types : int64 array, shape (T,)
        The ``token_type_ids``.
    parts : int64 array, shape (T,)
        0 for tokens of the first text, 1 for those of the second, -1 for special tokens.
    offsets : int64 array, shape (T, 2)
        The characters of its text that each token stands for: the first, and the one after the last.
    """

    ids: numpy.ndarray
    types: numpy.ndarray
    parts: numpy.ndarray
    offsets: numpy.ndarray


class HuggingFaceTokenizer(Tokenizer):
    """Any ``tokenizer.json`` of Hugging Face: WordPiece, Unigram, BPE and the rest.

    ``load_tokenizer`` makes one of such a file, unless it is a WordPiece that minidl has itself. Special tokens written in a text become their ids, as that package does it. Texts
    are neither cut nor filled up, even if the file says so.

    Parameters
    ----------
    text : str
        The content of a ``tokenizer.json``.

    Raises
    ------
    MissingDependencyError
        If the package tokenizers is not installed.
    FileFormatError
        If that package does not accept the text.
    """

    kind = "hugging_face"

    def __init__(self, text: str) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise MissingDependencyError.needs("A tokenizer of Hugging Face", "tokenizers", "text") from error
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the package raises plain Exception
            raise FileFormatError(f"HuggingFaceTokenizer: the package tokenizers refuses the text: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def vocab_size(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str, special: bool = False) -> numpy.ndarray:
        """Return the token ids of a text.

        Parameters
        ----------
        text : str
        special : bool, default False
            Whether to add the special tokens of the model, such as [CLS] and [SEP].
        """
        return numpy.array(self._tokenizer.encode(text, add_special_tokens=special).ids, dtype="int64")

    def encode_with_offsets(self, text: str, pair: str | None = None) -> Encoded:
        """Return a text, or a pair such as question and context, with the special tokens of the model.

        Parameters
        ----------
        text : str
        pair : str, optional
        """
        found = self._tokenizer.encode(text, pair)
        places = [-1 if part is None else part for part in found.sequence_ids]
        offsets = numpy.array(found.offsets, dtype="int64").reshape(-1, 2)
        ids, types, parts = (numpy.array(a, dtype="int64") for a in (found.ids, found.type_ids, places))
        return Encoded(ids, types, parts, offsets)

    def id_of(self, token: str) -> int | None:
        """Return the id of a token, or None if it is not in the vocabulary."""
        return self._tokenizer.token_to_id(token)

    def token_of(self, id: int) -> str:
        """Return the token of an id, as the vocabulary spells it."""
        return str(self._tokenizer.id_to_token(int(self._check_ids([id])[0])))

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode(self._check_ids(ids).tolist(), skip_special_tokens=False)

    def settings(self) -> dict[str, Any]:
        return {"tokenizer": json.loads(self._tokenizer.to_str())}

    @classmethod
    def from_tokenizer_json(cls, found: dict[str, Any]) -> HuggingFaceTokenizer:
        return cls.from_settings({"tokenizer": found})

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> HuggingFaceTokenizer:
        return cls(json.dumps(settings["tokenizer"]))
