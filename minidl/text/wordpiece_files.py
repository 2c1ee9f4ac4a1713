"""WordPiece in the files of Hugging Face: the settings that tokenizer.json and tokenizer_config.json have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minidl.errors import FileFormatError
from minidl.text.tokenizers import read_json

__all__ = ["read_tokenizer_config", "read_tokenizer_json"]

Json = dict[str, Any]


def read_tokenizer_json(found: Json) -> Json | None:
    """Return the settings of a WordPieceTokenizer that a tokenizer.json describes, or None unless it is one as BERT has it.

    Raises
    ------
    LookupError, TypeError, ValueError, AttributeError
        If it is one, but damaged.
    """
    parts = {name: found.get(name) for name in ("model", "normalizer", "pre_tokenizer", "post_processor", "decoder")}
    if not all(isinstance(part, dict) for part in parts.values()):
        return None
    model, normalizer, splitter, processor, decoder = (part for part in parts.values() if part is not None)
    kinds = [model.get("type", "WordPiece"), *(part.get("type") for part in (normalizer, splitter, decoder))]
    if kinds != ["WordPiece", "BertNormalizer", "BertPreTokenizer", "WordPiece"]:
        return None
    prefix, unknown = model.get("continuing_subword_prefix", "##"), model.get("unk_token", "[UNK]")
    around, added = _read_processor(processor), found.get("added_tokens") or []
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    plain = isinstance(added, list) and all(isinstance(token, dict) for token in added)
    if around is None or decoder.get("prefix") != prefix or not plain or any(t.get(f) for t in added for f in flags):
        return None
    vocab = model.get("vocab")
    ids = {token.get("content"): token.get("id") for token in added}
    if not isinstance(vocab, dict) or not all(type(i) is int for i in (*vocab.values(), *ids.values())):
        raise TypeError("expected a vocabulary that gives each piece its id")
    vocab = vocab | ids
    if any(vocab.get(token) != i for token, i in around.items()):
        return None
    names = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
    return {
        "vocab": vocab,
        "special_tokens": list(ids),
        "unknown": unknown,
        **dict(zip(("first", "last"), around, strict=True)),
        "padding": (found.get("padding") or {}).get("pad_token", "[PAD]"),
        "prefix": prefix,
        "max_input_chars_per_word": model.get("max_input_chars_per_word", 100),
        "cleanup": decoder.get("cleanup", True),
        **{name: normalizer[name] for name in names if name in normalizer},
    }


def _read_processor(processor: Json) -> dict[str, int] | None:
    """Return the tokens before and after a text, with their ids, or None if it is not [CLS] A [SEP] and [CLS] A [SEP] B [SEP]."""
    if processor.get("type") == "BertProcessing":
        return dict([processor["cls"], processor["sep"]])

    def read(piece: Json) -> tuple[Any, Any]:
        ((kind, about),) = piece.items()
        return about["id"] if kind == "SpecialToken" else (about["id"],), about["type_id"]

    if processor.get("type") != "TemplateProcessing":
        return None
    single, pair = ([read(piece) for piece in processor[name]] for name in ("single", "pair"))
    if len(single) != 3:
        return None
    (first, _), _, (last, _) = single
    both = [(first, 0), (("A",), 0), (last, 0), (("B",), 1), (last, 1)]
    if single != both[:3] or pair != both:
        return None
    ids = {token: processor["special_tokens"][token]["ids"] for token in (first, last)}
    return {token: own[0] for token, own in ids.items()} if all(len(own) == 1 for own in ids.values()) else None


def read_tokenizer_config(path: Path) -> Json:
    """Return the settings of a WordPieceTokenizer that a tokenizer_config.json has; none if there is no such file.

    Raises
    ------
    FileFormatError
        If it is not a JSON object.
    """
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise FileFormatError(f"{path}: expected an object of settings, got {type(found).__name__}")
    names = {
        "do_lower_case": "lowercase",
        "tokenize_chinese_chars": "handle_chinese_chars",
        "strip_accents": "strip_accents",
        "unk_token": "unknown",
        "cls_token": "first",
        "sep_token": "last",
        "pad_token": "padding",
    }
    values = {own: found[name] for name, own in names.items() if name in found}
    return {own: v["content"] if isinstance(v, dict) and "content" in v else v for own, v in values.items()}
