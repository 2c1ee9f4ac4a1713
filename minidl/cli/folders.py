"""Folders of published models: their weights and their tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minidl import models, text
from minidl.errors import FileFormatError
from minidl.text.tokenizers import read_json

__all__ = ["open_folder", "read_max_length"]


def open_folder(folder: Path) -> tuple[Any, text.Tokenizer]:
    """Return the model and the tokenizer of a folder of Hugging Face.

    Raises
    ------
    FileFormatError
        If the folder has no tokenizer: tokenizer.json, vocab.txt, or vocab.json and merges.txt.
    MinidlError
        As :func:`minidl.models.from_pretrained` and :func:`minidl.text.load_tokenizer`.
    """
    if (folder / "tokenizer.json").is_file():
        tokenizer = text.load_tokenizer(folder / "tokenizer.json")
    elif (folder / "vocab.txt").is_file():
        tokenizer = text.load_tokenizer(folder / "vocab.txt")
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = text.BytePairTokenizer.from_gpt2(folder / "vocab.json", folder / "merges.txt")
    else:
        raise FileFormatError(
            f"there is no tokenizer in {folder}: neither tokenizer.json, vocab.txt, nor vocab.json and merges.txt"
        )
    return models.from_pretrained(folder), tokenizer


def read_max_length(folder: Path) -> int | None:
    """Return the most tokens of a text by the folder's sentence_bert_config.json, or None if it does not say."""
    path = folder / "sentence_bert_config.json"
    found = read_json(path) if path.is_file() else None
    length = found.get("max_seq_length") if isinstance(found, dict) else None
    return length if isinstance(length, int) else None
