"""Tokenizers: text to ids and back, files, and what is refused."""

import collections
import itertools
import json
import sys
import unicodedata

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.errors import DataError, FileFormatError, MinidlError, MissingDependencyError, ParameterError
from minidl.text import (
    BytePairTokenizer,
    ByteTokenizer,
    CharTokenizer,
    HuggingFaceTokenizer,
    from_dict,
    load_tokenizer,
    split_words,
    stream_text,
)
from minidl.text.bpe import gpt2_characters, merge

TEXT = "It's 25 °C here, isn't it?  The cat, the hat;\n\n\tthe naïve café — 日本 😀 \u0301x ½ Ⅷ  "
BPE = BytePairTokenizer.train(TEXT * 2, 300, ["<|endoftext|>"])
ALL = [CharTokenizer(TEXT), ByteTokenizer(), BPE]
anything = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("tokenizer", ALL, ids=lambda t: t.kind)
class TestEvery:
    def test_there_and_back(self, tokenizer):
        ids = tokenizer.encode(TEXT)
        assert ids.dtype == "int64"
        assert ids.max() < tokenizer.vocab_size
        assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == TEXT
        assert tokenizer.encode("").shape == (0,)
        assert tokenizer.decode([]) == ""

    def test_saved_and_loaded(self, tokenizer, tmp_path):
        path = tmp_path / "tokenizer.json"
        tokenizer.save(path)
        assert path.read_bytes().isascii()
        again = load_tokenizer(path)
        assert type(again) is type(tokenizer)
        assert again.to_dict() == tokenizer.to_dict() == from_dict(json.loads(path.read_text())).to_dict()
        numpy.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))

    @pytest.mark.parametrize("ids", [[-1], [10**6], numpy.array([1.0]), numpy.array([[1]])])
    def test_ids_that_are_none(self, tokenizer, ids):
        with pytest.raises(DataError, match="ids"):
            tokenizer.decode(ids)

    def test_streams_whole_characters(self, tokenizer):
        pieces = list(stream_text(tokenizer, tokenizer.encode(TEXT)))
        assert "".join(pieces) == TEXT
        assert not any("\ufffd" in piece for piece in pieces)


@given(anything)
def test_any_text_survives_bytes_and_pairs(text):
    for tokenizer in ALL[1:]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(split_words(text)) == text


class TestCharacters:
    def test_one_that_is_unknown(self):
        with pytest.raises(DataError, match=r"'z' at index 2 is not in the vocabulary of 3 characters, 'abc'"):
            CharTokenizer("cab").encode("abz")

    @pytest.mark.parametrize("characters", ["", 5, None])
    def test_no_vocabulary(self, characters):
        with pytest.raises(ParameterError, match="characters as one text"):
            CharTokenizer(characters)


@pytest.mark.parametrize("tokenizer", ALL[1:], ids=lambda t: t.kind)
def test_half_of_a_pair_is_no_character(tokenizer):
    with pytest.raises(DataError, match=r"'\\ud83d' at index 1"):
        tokenizer.encode("a\ud83db")


def test_a_broken_character_at_the_end_of_a_stream_is_shown():
    assert list(stream_text(ByteTokenizer(), [97, 195])) == ["a", "\ufffd"]
    assert "".join(stream_text(ByteTokenizer(), [255] * 30)) == "\ufffd" * 30


# words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", ["Hello", ",", " world", "!"]),
        ("don't we'll they're I'd I'm I've he's DON'T", None),
        ("a  b\n\n c\t\td   ", ["a", " ", " b", "\n\n", " c", "\t", "\t", "d", "   "]),
        ("x=1 22a", ["x", "=", "1", " 22", "a"]),
        ("½ Ⅷ 一二 ²", ["½", " Ⅷ", " 一二", " ²"]),
        ("a\x1cb\x85c\u3000d", ["a", "\x1c", "b", "\x85", "c", "\u3000", "d"]),
        ("e\u0301 !!", ["e", "\u0301", " !!"]),
    ],
)
def test_words(text, words):
    found = list(split_words(text))
    if words is None:
        words = [
            "don",
            "'t",
            " we",
            "'ll",
            " they",
            "'re",
            " I",
            "'d",
            " I",
            "'m",
            " I",
            "'ve",
            " he",
            "'s",
            " DON",
            "'",
            "T",
        ]
    assert found == words


def test_every_character_has_the_kind_of_its_category():
    """Two of a kind stay together, and a letter, a number and any other sign are parted."""
    white = {c for c in map(chr, range(sys.maxunicode)) if c.isspace()} - set("\x1c\x1d\x1e\x1f")
    for code in [*range(0x3000), *range(0x3000, sys.maxunicode, 97)]:
        character = chr(code)
        category = unicodedata.category(character)[0]
        kind = "space" if character in white else {"L": "letter", "N": "number"}.get(category, "sign")
        together = {name: len(list(split_words(character + other))) == 1 for name, other in PARTNERS.items()}
        assert together[kind], (hex(code), kind)
        assert sum(together.values()) == 1 + (character == " ") * 3, hex(code)


PARTNERS = {"letter": "ж", "number": "7", "sign": "¬", "space": "\n"}


# pairs ------------------------------------------------------------------------------------------------------------


def naive_merge(ids, merged):
    """Return the tokens of a word as the papers write it: all occurrences of the best pair, again and again."""
    while pairs := [pair for pair in itertools.pairwise(ids) if pair in merged]:
        best = min(pairs, key=lambda pair: merged[pair][0])
        found = []
        for token in ids:
            if found and (found[-1], token) == best:
                found[-1] = ("new", merged[best][1])
            else:
                found.append(token)
        ids = [token[1] if isinstance(token, tuple) else token for token in found]
    return ids


def naive_train(text, count):
    """Return the merges by counting everything anew for each."""
    words = [list(word.encode()) for word in split_words(text)]
    merges = []
    for new in range(256, 256 + count):
        pairs = collections.Counter(pair for word in words for pair in itertools.pairwise(word))
        best, most = min(pairs.items(), key=lambda item: (-item[1], item[0]), default=(None, 0))
        if most < 2:
            break
        merges.append((*best, new))
        words = [naive_merge(word, {best: (0, new)}) for word in words]
    return merges


@pytest.mark.parametrize("text", [TEXT * 3, "aaaa aaa aaaaaaa aa", "abab ababab babab " * 3, "", "one"])
def test_training_as_defined(text):
    assert BytePairTokenizer.train(text, 256 + 60).merges == naive_train(text, 60)


@given(st.text("aab", max_size=40))
def test_merging_as_defined(text):
    tokenizer = BytePairTokenizer.train("aab abaab aaaa baab bbaa aabaab" * 2, 270)
    assert merge(list(text.encode()), tokenizer._merged) == naive_merge(list(text.encode()), tokenizer._merged)


def test_a_long_word_is_merged_in_time():
    """A hundred thousand letters without a space; quadratic time would be minutes."""
    word = "abcab" * 20_000
    ids = BytePairTokenizer.train("abcab " * 3, 260).encode(word)
    assert len(ids) == 20_000


def test_special_tokens():
    end = BPE.special_tokens["<|endoftext|>"]
    assert end == BPE.vocab_size - 1
    text = "a<|endoftext|>b"
    assert end not in BPE.encode(text)
    ids = BPE.encode(text, special=True)
    assert ids.tolist() == [97, end, 98]
    assert BPE.decode(ids) == text


def test_few_pairs_end_the_training():
    tokenizer = BytePairTokenizer.train("ab ab", 1000)
    assert tokenizer.vocab_size == 257
    assert BytePairTokenizer.train("ab ab cd", 1000, min_count=1).vocab_size > 257


def test_gpt2_files(tmp_path):
    """The form of GPT-2's files: printable characters for bytes, merges as text, ids in another file."""
    characters = gpt2_characters()
    assert len(set(characters)) == 256
    assert not any(c.isspace() for c in characters)
    tokens = {c: i for i, c in enumerate(sorted(characters))} | {"th": 256, "Ġth": 257, "<|end|>": 258}
    (tmp_path / "encoder.json").write_text(json.dumps(tokens))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\nt h\nĠ th\n", encoding="utf-8")
    tokenizer = BytePairTokenizer.from_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")
    assert tokenizer.special_tokens == {"<|end|>": 258}
    assert tokenizer.encode(" that").tolist() == [257, tokens["a"], tokens["t"]]
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    again = from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    numpy.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))


@pytest.mark.parametrize(
    ("encoder", "merges", "message"),
    [
        ("[]", "", "an object that gives each token its id"),
        ('{"a": 0}', "", "lacks the token '"),
        (None, "t h\n", "lacks the token 'th', which .* needs"),
        (None, "t\n", "line 1: expected two tokens and a space, got 't'"),
        (None, "t h e\n", "line 1: expected two tokens"),
        ("{", "", "this is not JSON"),
    ],
)
def test_gpt2_files_that_do_not_fit(encoder, merges, message, tmp_path):
    text = json.dumps({c: i for i, c in enumerate(gpt2_characters())}) if encoder is None else encoder
    (tmp_path / "encoder.json").write_text(text)
    (tmp_path / "vocab.bpe").write_text(merges)
    with pytest.raises(FileFormatError, match=message):
        BytePairTokenizer.from_gpt2(tmp_path / "encoder.json", tmp_path / "vocab.bpe")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(300, 97, 256)],), "merge 0 uses an id that no token before it has"),
        (([(97, 98, 97)],), "two tokens have the id 97"),
        (([], [0] * 256), "256 different ids"),
        (([], None, {"<end>": 5}), "needs an id of its own"),
        (([], None, {"<a>": 256, "<b>": 256}), "needs an id of its own"),
    ],
)
def test_merges_that_cannot_be(arguments, message):
    with pytest.raises(ParameterError, match=message):
        BytePairTokenizer(*arguments)


def test_a_vocabulary_that_is_too_small():
    with pytest.raises(ParameterError, match="vocab_size must be at least 257"):
        BytePairTokenizer.train("abc", 256, ["<end>"])


# files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"format": "minidl tokenizer", "version": 2, "kind": "byte"}',
        b'{"format": "minidl tokenizer", "version": 1, "kind": "char"}',
        b'{"format": "minidl tokenizer", "version": 1, "kind": "char", "characters": 5}',
        b'{"format": "minidl tokenizer", "version": 1, "kind": "word"}',
        b'{"format": "minidl tokenizer", "version": 1, "kind": "bpe", "merges": 5, "byte_ids": [], "special_tokens": {}}',
        b'{"format": "minidl tokenizer", "version": 1, "kind": "bpe", "merges": [[1,2]], "byte_ids": null, "special_tokens": {}}',
        b'{"format": "minidl tokenizer", "version": 1, "kind": "hugging_face"}',
        b"[" * 100_000,
    ],
)
def test_damaged_files(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(MinidlError):
        load_tokenizer(path)


def test_hugging_face_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs the package tokenizers; install it with: pip install 'minidl\[text\]'"
    ):
        from_dict({"version": "1.0", "model": {"type": "BPE"}})


WORD_LEVEL = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "to": 1, "be": 2}, "unk_token": "[UNK]"},
}


def test_hugging_face(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(WORD_LEVEL))
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    assert tokenizer.vocab_size == 3
    assert tokenizer.encode("to be or to").tolist() == [1, 2, 0, 1]
    assert tokenizer.decode([1, 2]) == "to be"
    assert "".join(stream_text(tokenizer, [1, 2, 1])).replace(" ", "") == "tobeto"
    tokenizer.save(path)
    assert load_tokenizer(path).encode("be to").tolist() == [2, 1]
    with pytest.raises(FileFormatError, match="refuses the text"):
        HuggingFaceTokenizer("{}")
