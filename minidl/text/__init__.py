"""Text: tokenizers, files of tokens, batches, and generation."""

from minidl.text.batches import Packed, PaddedBatches, Windows, pack_sequences, segment_mask
from minidl.text.bpe import BytePairTokenizer
from minidl.text.corpus import sonnets
from minidl.text.hugging_face import HuggingFaceTokenizer
from minidl.text.token_files import open_tokens, split_tokens, token_dtype, write_tokens
from minidl.text.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    from_dict,
    load_tokenizer,
    stream_text,
)
from minidl.text.words import split_words

__all__ = [
    "BytePairTokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "HuggingFaceTokenizer",
    "Packed",
    "PaddedBatches",
    "Tokenizer",
    "Windows",
    "from_dict",
    "load_tokenizer",
    "open_tokens",
    "pack_sequences",
    "segment_mask",
    "sonnets",
    "split_tokens",
    "split_words",
    "stream_text",
    "token_dtype",
    "write_tokens",
]
