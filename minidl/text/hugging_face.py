"""Tokenizers in Hugging Face's form, by their package ``tokenizers``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy

from minidl.errors import FileFormatError, MissingDependencyError
from minidl.text.tokenizers import Tokenizer

__all__ = ["HuggingFaceTokenizer"]


class HuggingFaceTokenizer(Tokenizer):
    """Any ``tokenizer.json`` of Hugging Face: WordPiece, Unigram, BPE and the rest.

    ``load_tokenizer`` makes one of such a file. Special tokens written in a text become their ids, as that package does it.

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

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode(self._check_ids(ids).tolist(), skip_special_tokens=False)

    def settings(self) -> dict[str, Any]:
        return {"tokenizer": json.loads(self._tokenizer.to_str())}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> HuggingFaceTokenizer:
        return cls(json.dumps(settings["tokenizer"]))
