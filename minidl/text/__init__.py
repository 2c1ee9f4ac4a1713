"""Text: tokenizers, files of tokens, batches, and generation."""

from minidl.text.batches import Packed, PaddedBatches, Windows, pack_sequences, segment_mask
from minidl.text.beam import Hypothesis, beam_search
from minidl.text.bpe import BytePairTokenizer
from minidl.text.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from minidl.text.corpus import sonnets
from minidl.text.encoders import Answer, Filled, answer, classify, embed, fill_mask, search
from minidl.text.generation import generate, stream
from minidl.text.hugging_face import Encoded, HuggingFaceTokenizer
from minidl.text.sampling import (
    draw_tokens,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    scale_by_temperature,
)
from minidl.text.token_files import open_tokens, split_tokens, token_dtype, write_tokens
from minidl.text.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    from_dict,
    load_tokenizer,
    stream_text,
)
from minidl.text.trainer import Trainer
from minidl.text.wordpiece import EncodedBatch, WordPieceTokenizer
from minidl.text.words import split_words

__all__ = [
    "Answer",
    "BytePairTokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Checkpoint",
    "Encoded",
    "EncodedBatch",
    "Filled",
    "HuggingFaceTokenizer",
    "Hypothesis",
    "Packed",
    "PaddedBatches",
    "Tokenizer",
    "Trainer",
    "Windows",
    "WordPieceTokenizer",
    "answer",
    "beam_search",
    "classify",
    "draw_tokens",
    "embed",
    "fill_mask",
    "from_dict",
    "generate",
    "keep_top_k",
    "keep_top_p",
    "load_checkpoint",
    "load_tokenizer",
    "open_tokens",
    "pack_sequences",
    "penalize_repetition",
    "save_checkpoint",
    "scale_by_temperature",
    "search",
    "segment_mask",
    "sonnets",
    "split_tokens",
    "split_words",
    "stream",
    "stream_text",
    "token_dtype",
    "write_tokens",
]
