"""Generation: with and without the cache, batches of different lengths, stops, streams, and beam search."""

import itertools

import numpy
import pytest
from language_models import Attention, Recurrent, Translator

import minidl as dl
from minidl.errors import DataError, NonFiniteError, ParameterError, ShapeError
from minidl.text import ByteTokenizer, CharTokenizer, beam_search, generate, stream

VOCABULARY = 11
PROMPTS = [numpy.array(ids) for ids in ([3, 1, 4, 1, 5], [9], [2, 6, 5], [3, 5, 8])]
MODELS = {
    "recurrent": lambda: Recurrent(VOCABULARY),
    "attention": lambda: Attention(VOCABULARY, context=64),
    "short context": lambda: Attention(VOCABULARY, context=7),
    "odd context": lambda: Attention(VOCABULARY, context=5),
    "context of one": lambda: Attention(VOCABULARY, context=1),
}
SETTINGS = [
    {"temperature": 0},
    {"temperature": 0.7, "seed": 3},
    {"top_k": 3, "seed": 1},
    {"top_p": 0.8, "repetition_penalty": 1.3, "seed": 2},
    {"temperature": 0, "repetition_penalty": 2.0},
    {"stop": [4, 7], "seed": 5},
]


def same(found, expected):
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", MODELS)
class TestEvery:
    def test_the_cache_changes_nothing(self, name, settings):
        cached, plain = MODELS[name](), MODELS[name]()
        found = generate(cached, PROMPTS, 20, **settings)
        same(found, generate(plain, PROMPTS, 20, use_cache=False, **settings))
        if name != "context of one":
            assert cached.seen < plain.seen

    def test_a_batch_changes_nothing(self, name, settings):
        """Each prompt gets what it gets alone, in its row: the others before it are cut to one token and stop at once."""
        together = generate(MODELS[name](), PROMPTS, 12, **settings)
        if settings.get("temperature") == 0:
            same(together, [generate(MODELS[name](), ids, 12, **settings) for ids in PROMPTS])
        for row in range(len(PROMPTS)):
            others = [ids if i == row else ids[:1] for i, ids in enumerate(PROMPTS)]
            same([generate(MODELS[name](), others, 12, **settings)[row]], [together[row]])

    def test_a_stream_gives_the_same_tokens(self, name, settings):
        found = [[] for _ in PROMPTS]
        for row, token in stream(MODELS[name](), PROMPTS, 9, **settings):
            found[row].append(token)
        assert found == [ids.tolist() for ids in generate(MODELS[name](), PROMPTS, 9, **settings)]


def greedy(model, prompt, count):
    """Return the likeliest tokens, each computed from the whole text."""
    ids = list(prompt)
    for _ in range(count):
        logits, _ = model.forward_with_state(numpy.array([ids]))
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", ["recurrent", "attention"])
def test_greedy_as_defined(name):
    for prompt, found in zip(PROMPTS, generate(MODELS[name](), PROMPTS, 15, temperature=0), strict=True):
        assert found.tolist() == greedy(MODELS[name](), prompt, 15)


def test_each_step_of_a_single_prompt_computes_one_token():
    model = Recurrent(VOCABULARY)
    generate(model, PROMPTS[0], 10, seed=0)
    assert model.seen == len(PROMPTS[0]) + 9


def test_rows_that_have_stopped_leave_the_batch():
    model = Recurrent(VOCABULARY)
    new = generate(model, PROMPTS, 30, temperature=0, stop=[int(greedy(Recurrent(VOCABULARY), PROMPTS[0], 1)[0])])
    assert len(new[0]) == 0
    assert model.seen < 4 * 34


def test_the_seed_decides():
    def write(seed):
        return generate(Recurrent(VOCABULARY), PROMPTS[0], 30, seed=seed).tolist()

    assert write(1) == write(1) == write(numpy.int64(1)) != write(2)
    assert write(numpy.random.default_rng(4)) == write(numpy.random.default_rng(4))
    dl.seed(9)
    first = write(None)
    second = write(None)
    dl.seed(9)
    assert write(None) == first != second


def test_one_likely_token_is_all_that_top_k_of_one_leaves():
    for settings in ({"top_k": 1}, {"top_p": 1e-9}):
        same(
            generate(Recurrent(VOCABULARY), PROMPTS, 9, seed=0, **settings),
            generate(Recurrent(VOCABULARY), PROMPTS, 9, 0),
        )


def test_a_repetition_penalty_gives_more_variety():
    plain, varied = (
        generate(Recurrent(VOCABULARY), PROMPTS[1], 60, temperature=0, repetition_penalty=p) for p in (1.0, 20.0)
    )
    assert len(set(varied.tolist())) > len(set(plain.tolist()))


def test_nothing_to_write():
    assert [len(ids) for ids in generate(Recurrent(VOCABULARY), PROMPTS, 0)] == [0, 0, 0, 0]
    assert generate(Recurrent(VOCABULARY), [], 5) == []


# text and stops ---------------------------------------------------------------------------------------------------


class Script:
    """A model that writes a fixed text after any prompt of one token, whatever is drawn."""

    context = None

    def __init__(self, text):
        self.ids = [*text.encode(), *b"....................................."]

    def forward_with_state(self, ids, state=None):
        place = 0 if state is None else state[0][0]
        logits = numpy.full((*ids.shape, 256), -1e9)
        for t in range(ids.shape[1]):
            logits[:, t, self.ids[place + t]] = 0
        return logits, (numpy.full(len(ids), place + ids.shape[1]),)

    def select_state(self, state, rows):
        return (state[0][rows],)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", [" "], "one"),
        ("aabaabaac", ["abaac"], "aaba"),
        ("one tw", ["two", "."], "one tw"),
        ("né日本 no", ["日本"], "né"),
        ("two", ["two"], ""),
        ("one two", ["x", "e t", "two"], "on"),
        ("ab", ["zzzzzz"], "ab....."),
        ("one\ntwo", [10], "one"),
    ],
)
def test_stops(text, stop, expected):
    tokenizer = ByteTokenizer()
    count = 7 if "." in expected else 30
    assert generate(Script(text), "x", count, stop=stop, tokenizer=tokenizer) == expected
    streamed = [token for _, token in stream(Script(text), "x", count, stop=stop, tokenizer=tokenizer)]
    assert tokenizer.decode(streamed) == expected
    ids = generate(Script(text), numpy.array([120]), count, stop=stop, tokenizer=tokenizer)
    assert tokenizer.decode(ids) == expected


def test_a_stream_holds_back_only_what_may_be_a_stop():
    """After "on" of "one", nothing may be known; after "onx" all three letters are."""
    arrived = []

    class Watched(Script):
        def forward_with_state(self, ids, state=None):
            arrived.append("".join(shown))
            return super().forward_with_state(ids, state)

    shown = []
    for _, token in stream(Watched("aonxone"), "x", 30, stop=["one"], tokenizer=ByteTokenizer()):
        shown.append(chr(token))
    assert arrived == ["", "a", "a", "a", "aonx", "aonx", "aonx"]


def test_a_token_on_both_sides_of_a_stop():
    class Pairs(ByteTokenizer):
        """A token for each two letters."""

        kind = "test pairs"

        def decode(self, ids):
            return "".join(super(Pairs, self).decode([i]) * 2 for i in ids)

    found = generate(Script("abc"), numpy.array([120]), 9, stop=["bc"], tokenizer=Pairs())
    assert bytes(found.tolist()) == b"ab"  # aa, and the b before the stop
    Pairs.kinds.pop("test pairs")


def test_texts_in_texts_out():
    tokenizer = CharTokenizer("abcdefghijk")
    new = generate(Recurrent(VOCABULARY), ["bad", "k"], 6, seed=0, tokenizer=tokenizer)
    assert [len(text) for text in new] == [6, 6]
    ids = generate(Recurrent(VOCABULARY), [tokenizer.encode(text) for text in ("bad", "k")], 6, seed=0)
    assert [tokenizer.decode(row) for row in ids] == new


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((["bad"], 5), ParameterError, "prompts that are texts need a tokenizer"),
        ((numpy.zeros(0, int), 5), DataError, "prompt 0 is empty"),
        (([[1], [0.5]], 5), DataError, "prompt 1 must be token ids"),
        (([[[1]]], 5), DataError, "prompt 0 must be token ids in one dimension"),
        ((PROMPTS, -1), ParameterError, "max_new_tokens"),
        ((PROMPTS, 1.5), ParameterError, "max_new_tokens"),
        ((PROMPTS, 5, -1), ParameterError, "temperature"),
        ((PROMPTS, 5, 1, 0), ParameterError, "top_k"),
        ((PROMPTS, 5, 1, None, 0.0), ParameterError, "top_p"),
        ((PROMPTS, 5, 1, None, None, 0.0), ParameterError, "repetition_penalty"),
        ((PROMPTS, 5, 1, None, None, 1.0, "end"), ParameterError, "stop must be a sequence"),
        ((PROMPTS, 5, 1, None, None, 1.0, ["end"]), ParameterError, "a text in stop needs a tokenizer"),
        ((PROMPTS, 5, 1, None, None, 1.0, (), -3), ParameterError, "seed: expected a non-negative integer"),
    ],
)
def test_what_is_refused_before_anything_is_computed(arguments, error, message):
    for call in (generate, stream):
        model = Recurrent(VOCABULARY)
        with pytest.raises(error, match=message):
            call(model, *arguments)
        assert model.seen == 0


def test_a_model_that_gives_nan():
    model = Recurrent(VOCABULARY)
    model.head[0, 0] = numpy.nan
    with pytest.raises(NonFiniteError, match="the largest is nan in row 0"):
        generate(model, PROMPTS, 5)


def test_layers_keep_no_cache_and_drop_nothing():
    class Checked(Recurrent):
        def forward_with_state(self, ids, state=None):
            layer = dl.Dropout(0.9)
            assert (layer.forward(numpy.ones(100)) == 1).all()
            return super().forward_with_state(ids, state)

    for _ in stream(Checked(VOCABULARY), PROMPTS[0], 2, seed=0):
        layer = dl.ReLU()  # the caller's own layers are not touched
        layer.forward(numpy.ones(3))
        layer.backward(numpy.ones(3))


# beam search ------------------------------------------------------------------------------------------------------

BOS, EOS = 0, 1
SOURCES = numpy.array([[2, 3, 3], [1, 0, 2], [3, 2, 1]])


def log_probability(model, source, target):
    """Return log P of the tokens of a target, computed from the whole of it."""
    ids = numpy.array([[BOS, *target]])
    logits, _ = model.decode_with_state(ids[:, :-1], model.encode(source[None]))
    log_p = logits[0] - numpy.log(numpy.exp(logits[0]).sum(axis=-1, keepdims=True))
    return float(sum(log_p[t, token] for t, token in enumerate(target)))


def best_of_all(model, source, vocabulary, max_length, alpha):
    """Return all targets by score: those that end, and those of full length that do not."""
    words = [token for token in range(vocabulary) if token != EOS]
    found = []
    for length in range(1, max_length + 1):
        for body in itertools.product(words, repeat=length - 1):
            found.append((*body, EOS))
        if length == max_length:
            found += itertools.product(words, repeat=length)
    scored = [(log_probability(model, source, t) / ((5 + len(t)) / 6) ** alpha, t) for t in found]
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all(alpha):
    model = Translator(4)
    settings = {"bos_id": BOS, "eos_id": EOS, "max_length": 4, "length_penalty": alpha}
    found = beam_search(model, SOURCES, beam_size=30, **settings)
    for source, hypotheses in zip(SOURCES, found, strict=True):
        best = best_of_all(model, source, 4, 4, alpha)
        numpy.testing.assert_allclose([h.score for h in hypotheses], [score for score, _ in best[:30]])
        assert [h.ids.tolist() for h in hypotheses[:5]] == [[t for t in ids if t != EOS] for _, ids in best[:5]]


def test_a_beam_of_one_is_greedy():
    model = Translator(9, seed=4)
    for source, (hypothesis,) in zip(
        SOURCES, beam_search(model, SOURCES, bos_id=BOS, eos_id=EOS, max_length=6, beam_size=1), strict=True
    ):
        ids = []
        for _ in range(6):
            logits, _ = model.decode_with_state(numpy.array([[BOS, *ids]]), model.encode(source[None]))
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] == EOS:
                break
        assert hypothesis.ids.tolist() == [token for token in ids if token != EOS]


def test_a_wider_beam_is_no_worse_and_a_batch_changes_nothing():
    model = Translator(30, seed=1)
    settings = {"bos_id": BOS, "eos_id": EOS, "max_length": 8}
    narrow, wide = (beam_search(model, SOURCES, beam_size=b, length_penalty=0.0, **settings) for b in (1, 8))
    for one, other in zip(narrow, wide, strict=True):
        assert other[0].score >= one[0].score - 1e-12
        assert len(other) == 8
    alone = [beam_search(model, SOURCES[i : i + 1], beam_size=8, length_penalty=0.0, **settings)[0] for i in range(3)]
    for one, other in zip(alone, wide, strict=True):
        assert [h.ids.tolist() for h in one] == [h.ids.tolist() for h in other]


def test_a_mask_goes_to_the_encoder():
    model, settings = Translator(9), {"bos_id": BOS, "eos_id": EOS, "max_length": 5}
    mask = numpy.array([[1, 1, 0]] * 3)
    changed = SOURCES.copy()
    changed[:, 2] = 8
    one, other = (beam_search(model, source, mask, **settings) for source in (SOURCES, changed))
    assert [h.ids.tolist() for h in one[0]] == [h.ids.tolist() for h in other[0]]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"beam_size": 0}, ParameterError, "beam_size"),
        ({"max_length": 2.5}, ParameterError, "max_length"),
        ({"length_penalty": -1}, ParameterError, "length_penalty"),
        ({"source_ids": SOURCES[0]}, ShapeError, r"source_ids must have shape \(N, S\)"),
    ],
)
def test_beam_searches_that_cannot_be(settings, error, message):
    arguments = {"source_ids": SOURCES, "bos_id": BOS, "eos_id": EOS, "max_length": 5, **settings}
    with pytest.raises(error, match=message):
        beam_search(Translator(9), **arguments)


def test_no_sources():
    assert beam_search(Translator(9), SOURCES[:0], bos_id=BOS, eos_id=EOS, max_length=5) == []


def test_a_prompt_is_read_at_once():
    lengths = []

    class Counting:
        context = None

        def forward_with_state(self, ids, state=None):
            lengths.append(ids.shape)
            return numpy.eye(16)[ids % 16], state

        def select_state(self, state, rows):
            return state

    generate(Counting(), [[1, 2, 3, 4, 5], [1, 2, 3]], 3, temperature=0)
    assert lengths == [(2, 3), (2, 1), (2, 1), (1, 1), (1, 1)]
