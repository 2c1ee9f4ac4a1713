"""Embeddings, search, gaps, classes and answers, with small models and a tokenizer of words.

A model of features whose every vector is that of its token would hide errors of order, so the models are random.
"""

import numpy
import pytest

import minidl as dl
from minidl import text
from minidl.errors import DataError, ParameterError, ShapeError
from minidl.models import BERT
from minidl.text.hugging_face import Encoded

WORDS = [
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "dog",
    "ran",
    "to",
    "who",
    "where",
    "in",
    "rome",
]
TEXTS = ["the cat sat", "dog", "the dog ran to the cat on the mat", "", "who sat"]


class Words:
    """Splits at spaces; what the functions need of a HuggingFaceTokenizer."""

    def id_of(self, token):
        return WORDS.index(token) if token in WORDS else None

    def token_of(self, id):
        return WORDS[id]

    def encode_with_offsets(self, first, pair=None):
        rows = [(1, 0, -1, (0, 0))]
        for part, whole in enumerate([first] if pair is None else [first, pair]):
            place = 0
            for word in whole.split():
                place = whole.index(word, place)
                rows.append((WORDS.index(word), part, part, (place, place + len(word))))
                place += len(word)
            rows.append((2, part, -1, (0, 0)))
        return Encoded(*(numpy.array(column) for column in zip(*rows, strict=True)))


def model_of(head, **changes):
    dl.seed(0)
    model = BERT(vocab_size=16, context=12, layers=1, heads=2, width=8, hidden=8, head=head, dtype="float64", **changes)
    for parameter in model.parameters():
        parameter.value[...] *= 20 if parameter.value.ndim == 2 else 1
    return model


def test_embeddings_are_the_same_in_any_batch_and_order():
    model = model_of("features")
    whole = text.embed(model, Words(), TEXTS, batch_size=2)
    for row, one in zip(whole, TEXTS, strict=True):
        ids = Words().encode_with_offsets(one).ids[None]
        mean = model.eval().forward(ids)[0].mean(axis=0)
        numpy.testing.assert_allclose(row, mean / numpy.linalg.norm(mean), rtol=1e-10)
        numpy.testing.assert_allclose(text.embed(model, Words(), [one], normalize=False)[0], mean, rtol=1e-10)
    assert text.embed(model, Words(), []).shape == (0, 8)


def test_a_long_text_is_cut_before_its_last_special_token():
    model = model_of("features")
    long = text.embed(model, Words(), ["the cat sat on the mat"], max_length=5)
    numpy.testing.assert_array_equal(long, text.embed(model, Words(), ["the cat sat"]))


def test_search():
    random = numpy.random.default_rng(0)
    queries, corpus = random.normal(size=(3, 5)), random.normal(size=(20, 5))
    scores, indices = text.search(queries, corpus, k=4)
    for q, row, own in zip(queries, indices, scores, strict=True):
        cosines = [q @ c / numpy.sqrt((q @ q) * (c @ c)) for c in corpus]
        assert row.tolist() == sorted(range(20), key=lambda i: -cosines[i])[:4]
        numpy.testing.assert_allclose(own, sorted(cosines)[:-5:-1])
    assert text.search(queries, corpus[:2])[1].shape == (3, 2)
    with pytest.raises(ShapeError, match=r"expected shapes \(Q, C\) and \(M, C\)"):
        text.search(queries, corpus[:, :4])


def test_fill_mask():
    model = model_of("masked_lm")
    found = text.fill_mask(model, Words(), "the [MASK] sat on [MASK]", k=16)
    logits = model.eval().forward(Words().encode_with_offsets("the [MASK] sat on [MASK]").ids[None])[0]
    assert len(found) == 2
    for gap, row in zip(found, logits[[2, 5]], strict=True):
        assert [f.id for f in gap] == numpy.argsort(-row, kind="stable").tolist()
        assert sum(f.probability for f in gap) == pytest.approx(1)
        assert gap[0].token == WORDS[row.argmax()]
    with pytest.raises(DataError, match=r"there is no \[MASK\] in the text"):
        text.fill_mask(model, Words(), "the cat")


def test_classify():
    model = model_of("sequence_classification", labels=3)
    model.label_names = ["a", "b", "c"]
    found = text.classify(model, Words(), TEXTS, batch_size=2)
    for (label, p), one in zip(found, TEXTS, strict=True):
        logits = model.eval().forward(Words().encode_with_offsets(one).ids[None])[0]
        assert label == "abc"[logits.argmax()]
        assert p == pytest.approx(1 / numpy.exp(logits - logits.max()).sum())


class Oracle:
    """Marks "in" as the first and "rome" as the last token of an answer, wherever they are in a window."""

    context = 10
    config = BERT(vocab_size=16, context=10, layers=1, heads=1, width=1, hidden=1, head="question_answering").config

    def __init__(self):
        self.shapes = []

    def forward(self, ids, mask, types=None):
        self.shapes.append(ids.shape)
        assert ids.shape[1] <= self.context
        return numpy.stack([ids == WORDS.index("in"), ids == WORDS.index("rome")], axis=-1) * 5.0


@pytest.mark.parametrize("before", [0, 3, 4, 5, 6, 20])
def test_an_answer_is_found_in_any_window(before):
    context = "cat  " * before + "in  rome" + " the mat" * 3
    found = text.answer(Oracle(), Words(), "where", context, stride=2)
    assert found == ("in  rome", before * 5, before * 5 + 8, 10.0)


def test_an_answer_has_an_order_and_a_length():
    assert text.answer(Oracle(), Words(), "where", "rome the in").score == 5.0
    assert text.answer(Oracle(), Words(), "where in", "in the rome", max_answer=2).score == 5.0
    with pytest.raises(DataError, match="the question is too long"):
        text.answer(Oracle(), Words(), "the " * 9, "rome")
    with pytest.raises(DataError, match="the context is empty"):
        text.answer(Oracle(), Words(), "where", "")


def test_another_head_and_one_text_are_refused():
    with pytest.raises(ParameterError, match="expected a model with the head 'features', got 'masked_lm' of BERT"):
        text.embed(model_of("masked_lm"), Words(), TEXTS)
    with pytest.raises(ParameterError, match="expected a list of texts"):
        text.embed(model_of("features"), Words(), "dog")
    with pytest.raises(ParameterError, match="max_length must be from 3 to the model's context, 12, got 13"):
        text.embed(model_of("features"), Words(), TEXTS, max_length=13)
