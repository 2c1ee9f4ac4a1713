"""WordPiece: words, pieces, places, special tokens and files; tests/peers/test_wordpiece.py has it beside the package tokenizers."""

import itertools
import json
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.errors import DataError, FileFormatError, MissingDependencyError, ParameterError
from minidl.text import WordPieceTokenizer, load_tokenizer
from minidl.text.bert_words import BertWords

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "un", "##aff", "##able", "want", "##ed", "##want", "runn", "##ing",
          ",", ".", "?", "a", "b", "##a", "##b", "##ab", "ab", "cafe", "茶", "道", "##s", "don", "'", "t"]  # fmt: skip
VOCAB = {piece: i for i, piece in enumerate(PIECES)}
JSON = {
    "version": "1.0",
    "added_tokens": [
        {"id": i, "content": PIECES[i], "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for i in range(5)
    ],
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {"type": "WordPiece", "vocab": VOCAB, "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
}  # fmt: skip


@pytest.fixture
def tokenizer():
    return WordPieceTokenizer(VOCAB)


def pieces(tokenizer, text):
    return [tokenizer.token_of(i) for i in tokenizer.encode(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("unaffable", ["un", "##aff", "##able"]),
        ("UNwantéd,running", ["un", "##want", "##ed", ",", "runn", "##ing"]),  # the example of the published code
        ("unaffablex", ["[UNK]"]),  # one piece that is missing makes all of the word unknown
        ("un aff", ["un", "[UNK]"]),  # a piece from inside does not begin a word
        ("Don't", ["don", "'", "t"]),
        (" \tthe\u00a0 the\r\n", ["the", "the"]),
        ("t\u200dh\u00ade\0 \ufffd", ["the"]),  # characters that are no text
        ("茶道s", ["茶", "道", "[UNK]"]),
        ("Cafe\u0301 CAFÉ ", ["cafe", "cafe"]),
        ("", []),
        ("a" * 100, ["a"] + ["##a"] * 99),
        ("a" * 101, ["[UNK]"]),
        ("the[MASK]the [CLS", ["the", "[MASK]", "the", "[UNK]", "[UNK]"]),
        ("[mask]", ["[UNK]", "[UNK]", "[UNK]"]),
    ],
)
def test_pieces(tokenizer, text, wanted):
    assert pieces(tokenizer, text) == wanted


def test_the_longest_piece_is_taken(tokenizer):
    """Of all ways to cut a word of a and b, the one whose pieces are the longest from the left, by trying them all."""
    for word in map("".join, itertools.product("ab", repeat=5)):
        ways = []
        for cuts in itertools.product((False, True), repeat=4):
            places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), 5]
            parts = [word[i:j] for i, j in itertools.pairwise(places)]
            named = parts[:1] + [f"##{part}" for part in parts[1:]]
            if all(part in VOCAB for part in named):
                ways.append(([len(part) for part in parts], named))
        assert pieces(tokenizer, word) == max(ways)[1]


def test_settings_of_words():
    assert BertWords(lowercase=False).split("Café, OK") == ["Café", ",", "OK"]
    assert BertWords(lowercase=False, strip_accents=True).split("Café") == ["Cafe"]
    assert BertWords(strip_accents=False).split("CAFÉ") == ["café"]
    assert BertWords(handle_chinese_chars=False).split("a茶b") == ["a茶b"]
    assert BertWords(clean_text=False).split("a\0b\x0bc\u3000d") == ["a\0b", "c", "d"]
    assert BertWords().split("a\0b\x0bc\u3000d") == ["abc", "d"]


TEXTS = st.text(
    st.sampled_from("aAbB ,.?é\u0301\u0323茶\t\0\u200d\u00a0İß'한") | st.characters(exclude_categories=["Cs", "Mc"]),
    max_size=30,
)


@given(TEXTS, st.booleans())
def test_words_and_their_places_agree(text, lowercase):
    """The two ways to find the words give the same, and each character's place is that of what it was made of."""
    words = BertWords(lowercase=lowercase)
    found = list(words.locate(text))
    assert [word for word, _ in found] == words.split(text)
    places = [place for _, some in found for place in some]
    assert places == sorted(places)
    for word, some in found:
        for character, place in zip(word, some, strict=True):
            assert character in "".join(words.split(text[place]))


@given(TEXTS)
def test_offsets(text):
    tokenizer = WordPieceTokenizer(VOCAB)
    found = tokenizer.encode_with_offsets(text)
    numpy.testing.assert_array_equal(found.ids, tokenizer.encode(text, special=True))
    assert found.parts.tolist() == [-1] + [0] * (len(found.ids) - 2) + [-1]
    for i, (start, end) in zip(found.ids[1:-1], found.offsets[1:-1], strict=True):
        piece = tokenizer.token_of(i).removeprefix("##")
        assert piece == "[UNK]" or "".join(BertWords().split(text[start:end])) == piece


def test_a_pair(tokenizer):
    found = tokenizer.encode_with_offsets("the", "unwanted [SEP]")
    assert [tokenizer.token_of(i) for i in found.ids] == [
        "[CLS]",
        "the",
        "[SEP]",
        "un",
        "##want",
        "##ed",
        "[SEP]",
        "[SEP]",
    ]
    assert found.types.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert found.parts.tolist() == [-1, 0, -1, 1, 1, 1, 1, -1]
    assert found.offsets.tolist() == [[0, 0], [0, 3], [0, 0], [0, 2], [2, 6], [6, 8], [9, 14], [0, 0]]


def test_a_batch(tokenizer):
    batch = tokenizer.encode_batch(["the", "", "unwanted a b"])
    assert batch.ids.tolist() == [[2, 5, 3, 0, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0], [2, 6, 11, 10, 17, 18, 3]]
    assert batch.mask.sum(axis=1).tolist() == [3, 2, 7]
    assert not batch.types.any()
    batch = tokenizer.encode_batch(["the", "a b a b a b"], ["a b a b", "the the"], max_length=7)
    assert batch.ids.tolist() == [[2, 5, 3, 17, 18, 17, 3], [2, 17, 18, 3, 5, 5, 3]]
    assert batch.types.tolist() == [[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]]
    assert batch.mask.all()
    assert tokenizer.encode_batch(["a b a"], max_length=3).ids.tolist() == [[2, 17, 3]]
    assert tokenizer.encode_batch([]).ids.shape == (0, 0)
    for arguments, message in [
        (("the",), "expected a list of texts"),
        ((["the"], ["a", "b"]), "a pair for each text, got 2 for 1"),
        ((["the"], ["a"], 2), "max_length must be at least 3, got 2"),
    ]:
        with pytest.raises(ParameterError, match=message):
            tokenizer.encode_batch(*arguments[:2], max_length=(*arguments, None, None)[2])


def test_decode(tokenizer):
    assert (
        tokenizer.decode(tokenizer.encode("Unwanted, the cafés. unaffable?", special=True))
        == "[CLS] unwanted, the cafes. unaffable? [SEP]"
    )
    plain = WordPieceTokenizer(VOCAB, cleanup=False)
    assert plain.decode(plain.encode("the, a")) == "the , a"
    with pytest.raises(DataError, match="the ids are 0 to 29, got 30"):
        tokenizer.decode([30])
    holes = WordPieceTokenizer({**VOCAB, "z": 40})
    assert (holes.vocab_size, holes.decode([5, 35, 40])) == (41, "the z")


def test_errors(tokenizer):
    with pytest.raises(DataError, match=r"'\\ud800' at index 2, half of a pair"):
        tokenizer.encode("ab\ud800")
    for vocab, settings, message in [
        ({"a": 0}, {}, r"lacks the special token '\[UNK\]'"),
        (VOCAB, {"last": "</s>"}, "lacks the special token '</s>'"),
        ({**VOCAB, "z": 3}, {}, "an id of its own"),
        ({**VOCAB, "z": -3}, {}, "an id of its own"),
        (VOCAB, {"max_input_chars_per_word": 0}, "must be positive, got 0"),
        (VOCAB, {"lower": True}, "'lower'"),
    ]:
        with pytest.raises(ParameterError, match=message):
            WordPieceTokenizer(vocab, **settings)


def test_saved_and_read(tmp_path):
    made = WordPieceTokenizer(
        VOCAB, ["[UNK]", "the"], lowercase=False, strip_accents=True, max_input_chars_per_word=5, cleanup=False
    )
    made.save(tmp_path / "own.json")
    again = load_tokenizer(tmp_path / "own.json")
    assert isinstance(again, WordPieceTokenizer)
    assert again.settings() == made.settings()
    text = "[MASK] The the, cafés unaffable"
    numpy.testing.assert_array_equal(again.encode(text), made.encode(text))


def test_vocab_txt(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", "utf-8")
    assert pieces(load_tokenizer(tmp_path / "vocab.txt"), "The") == ["the"]
    config = {
        "do_lower_case": False,
        "strip_accents": True,
        "unk_token": {"content": "[MASK]"},
        "model_max_length": 512,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert pieces(load_tokenizer(tmp_path / "vocab.txt"), "The café") == ["[MASK]", "cafe"]
    assert pieces(WordPieceTokenizer.from_vocab(tmp_path / "vocab.txt", lowercase=True), "The") == ["the"]
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(FileFormatError, match="expected an object of settings, got list"):
        load_tokenizer(tmp_path / "vocab.txt")
    (tmp_path / "tokenizer_config.json").unlink()
    for lines, message in [
        (PIECES[1:], "vocab.txt: .*lacks the special token"),
        ([*PIECES, "a"], "a piece is there twice"),
    ]:
        (tmp_path / "vocab.txt").write_text("\n".join(lines), "utf-8")
        with pytest.raises(FileFormatError, match=message):
            load_tokenizer(tmp_path / "vocab.txt")


def changed(**parts):
    return {
        **JSON,
        **{name: {**JSON[name], **part} if isinstance(part, dict) else part for name, part in parts.items()},
    }


def test_tokenizer_json_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    def read(found):
        (tmp_path / "tokenizer.json").write_text(json.dumps(found))
        return load_tokenizer(tmp_path / "tokenizer.json")

    assert pieces(read(JSON), "The café [MASK]") == ["the", "cafe", "[MASK]"]
    assert pieces(read(changed(normalizer={"lowercase": False})), "The café") == ["[UNK]", "[UNK]"]
    assert pieces(read(changed(model={"max_input_chars_per_word": 3})), "cafe the") == ["[UNK]", "the"]
    sequence, special = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, sequence, special],
        "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, sequence, special,
                 {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [VOCAB[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")},
    }  # fmt: skip
    assert read({**JSON, "post_processor": template}).encode("the", special=True).tolist() == [2, 5, 3]
    others = [
        changed(model={"type": "Unigram"}),
        changed(normalizer={"type": "Lowercase"}),
        changed(pre_tokenizer={"type": "Whitespace"}),
        changed(post_processor=None),
        changed(post_processor={"type": "RobertaProcessing"}),
        {**JSON, "post_processor": {**template, "pair": template["single"]}},
        {**JSON, "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 4], "cls": ["[CLS]", 2]}},
        changed(decoder={"prefix": "@@"}),
        changed(added_tokens=[{**JSON["added_tokens"][0], "lstrip": True}]),
    ]
    for found in others:  # what minidl has not is for the package, which is not there
        with pytest.raises(MissingDependencyError, match="needs the package tokenizers"):
            read(found)
    damaged = [
        changed(model={"vocab": [["a", 1.0]]}),
        changed(model={"vocab": {**VOCAB, "the": "5"}}),
        changed(model={"vocab": {"the": 1}}),
        changed(model={"max_input_chars_per_word": "many"}),
        changed(post_processor={"sep": None}),
        {**JSON, "post_processor": {**template, "single": [{}]}},
    ]
    for found in damaged:
        with pytest.raises(FileFormatError, match="it describes a WordPiece, but is damaged"):
            read(found)
