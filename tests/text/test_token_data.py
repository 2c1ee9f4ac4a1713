"""Token files, windows, padded and packed batches, and the sonnets."""

import itertools

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, DtypeError, FileFormatError, ParameterError, ShapeError
from minidl.layers import Layer, Parameter
from minidl.text import (
    CharTokenizer,
    PaddedBatches,
    Windows,
    corpus,
    open_tokens,
    pack_sequences,
    segment_mask,
    sonnets,
    split_tokens,
    token_dtype,
    write_tokens,
)
from minidl.training import Trainable

TOKENS = numpy.arange(1000) % 300


# files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")]
)
def test_ids_come_back_from_a_file_in_the_smallest_dtype(vocab_size, dtype, tmp_path):
    path = tmp_path / "tokens.npy"
    tokens = TOKENS % vocab_size
    assert write_tokens(path, tokens, vocab_size) == 1000
    found = open_tokens(path)
    assert isinstance(found, numpy.memmap)
    assert found.dtype == dtype == token_dtype(vocab_size)
    numpy.testing.assert_array_equal(found, tokens)
    assert not found.flags.writeable
    numpy.testing.assert_array_equal(numpy.load(path), tokens)
    assert path.stat().st_size < 200 + 1000 * found.dtype.itemsize


def test_pieces_are_joined(tmp_path):
    path = tmp_path / "tokens.npy"
    assert write_tokens(path, (TOKENS[i : i + 7] for i in range(0, 1000, 7)), 300) == 1000
    numpy.testing.assert_array_equal(open_tokens(path), TOKENS)
    assert write_tokens(path, iter([]), 300) == 0
    assert open_tokens(path).shape == (0,)


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([TOKENS, TOKENS + 1], DataError, "0 to 299, got 300 at index 1299"),
        ([TOKENS - 1], DataError, "got -1 at index 0"),
        ([TOKENS.astype(float)], DtypeError, "arrays of integers, got float64"),
        ([TOKENS[None]], ShapeError, r"one dimension, got shape \(1, 1000\)"),
    ],
)
def test_a_write_that_fails_leaves_the_old_file(tokens, error, message, tmp_path):
    path = tmp_path / "tokens.npy"
    write_tokens(path, TOKENS, 300)
    with pytest.raises(error, match=message):
        write_tokens(path, tokens, 300)
    numpy.testing.assert_array_equal(open_tokens(path), TOKENS)
    assert [p.name for p in tmp_path.iterdir()] == ["tokens.npy"]


@pytest.mark.parametrize("vocab_size", [0, -1, 2**32 + 1])
def test_a_vocabulary_that_cannot_be(vocab_size, tmp_path):
    with pytest.raises(ParameterError, match="vocab_size"):
        write_tokens(tmp_path / "tokens.npy", TOKENS, vocab_size)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "tokens.npy"
    write_tokens(path, TOKENS, 300)
    whole = path.read_bytes()
    numpy.save(tmp_path / "floats.npy", numpy.ones(3))
    numpy.save(tmp_path / "table.npy", numpy.ones((3, 3), "uint8"))
    numpy.savez(tmp_path / "several.npz", a=TOKENS)
    damaged = {"cut.npy": whole[:-1], "half.npy": whole[:50], "empty.npy": b"", "text.npy": b"to be or not to be" * 9}
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    for name in ("floats.npy", "table.npy", "several.npz", *damaged):
        with pytest.raises(FileFormatError, match=name):
            open_tokens(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        open_tokens(tmp_path / "none.npy")
    with pytest.raises(ParameterError, match="cannot be a path"):
        open_tokens("a\0b")


def test_the_split_is_by_position():
    training, validation = split_tokens(TOKENS, 0.15)
    numpy.testing.assert_array_equal(numpy.concatenate([training, validation]), TOKENS)
    assert len(validation) == 150
    assert numpy.shares_memory(training, TOKENS)
    assert len(split_tokens(TOKENS, 0.0)[1]) == 0
    with pytest.raises(ParameterError, match="validation"):
        split_tokens(TOKENS, 1.0)


# windows ----------------------------------------------------------------------------------------------------------


def test_windows_are_followed_by_their_targets():
    windows = Windows(numpy.arange(1000, dtype="uint16"), 16, 4, seed=3)
    assert len(windows) == -(-62 // 4)
    for i in range(len(windows)):
        x, y = windows[i]
        assert x.shape == y.shape == (4, 16)
        assert x.dtype == y.dtype == "int64"
        numpy.testing.assert_array_equal(y, x + 1)
        numpy.testing.assert_array_equal(x - x[:, :1], numpy.tile(numpy.arange(16), (4, 1)))


def test_batches_depend_on_seed_and_step_alone():
    one, other = (Windows(TOKENS, 8, 3, seed=5, steps=4) for _ in range(2))
    other.epoch = 2
    later = [other[i][0] for i in (3, 0)]
    for _ in range(2):
        [one[i] for i in range(4)]
        one.on_epoch_end()
    numpy.testing.assert_array_equal([one[3][0], one[0][0]], later)
    numpy.testing.assert_array_equal(one.batch(8)[0], one[0][0])
    assert (Windows(TOKENS, 8, 3, seed=6, steps=4)[0][0] != Windows(TOKENS, 8, 3, seed=5, steps=4)[0][0]).any()


def test_every_place_is_drawn():
    windows = Windows(numpy.arange(12), 10, 64, seed=0, steps=1)
    assert set(windows[0][0][:, 0].tolist()) == {0, 1}


def test_windows_in_order_cover_the_text_once():
    windows = Windows(numpy.arange(100), 9, 4, seed=None)
    read = numpy.concatenate([windows[i][1].ravel() for i in range(len(windows))])
    numpy.testing.assert_array_equal(read, numpy.arange(1, 100))
    assert len(Windows(numpy.arange(100), 9, 4, seed=None, steps=2)) == 2
    assert len(Windows(numpy.arange(100), 9, 4, seed=None, steps=50)) == 3
    with pytest.raises(IndexError):
        windows[3]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((TOKENS[:8], 8, 1), DataError, "need a text of 9 tokens, got 8"),
        ((TOKENS, 0, 1), ParameterError, "length must be an integer of at least 1"),
        ((TOKENS, 8, 1.5), ParameterError, "batch_size"),
        ((TOKENS.astype(float), 8, 1), DtypeError, "array of integers"),
        ((TOKENS[None], 8, 1), ShapeError, "one dimension"),
    ],
)
def test_windows_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        Windows(*arguments)


# padded batches ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sequences():
    random = numpy.random.default_rng(0)
    return [random.integers(1, 50, length) for length in random.integers(2, 40, 203)]


def test_every_sequence_comes_once_in_an_epoch(sequences):
    batches = PaddedBatches(sequences, batch_size=16, mask=True, seed=1)
    found = []
    for i in range(len(batches)):
        (ids, mask), y = batches[i]
        assert ids.shape == mask.shape == y.shape
        assert mask.any(axis=0).all()  # no longer than the longest
        numpy.testing.assert_array_equal(mask, y != -100)
        assert not ids[~mask].any()
        found += [(*row[m].tolist(), int(t[m][-1])) for row, m, t in zip(ids, mask, y, strict=True)]
    assert sorted(found) == sorted(tuple(s.tolist()) for s in sequences)


def test_sequences_of_similar_length_meet(sequences):
    def padding(seed):
        batches = PaddedBatches(sequences, batch_size=8, seed=seed)
        return numpy.mean(numpy.concatenate([(batches[i][1] == -100).ravel() for i in range(len(batches))]))

    assert padding(0) < 0.1 < 0.3 < padding(None)


def test_the_order_is_drawn_anew_and_can_be_drawn_again(sequences):
    one, other = (PaddedBatches(sequences, batch_size=16, seed=4) for _ in range(2))
    first = [one[i][0] for i in range(3)]
    one.on_epoch_end()
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(first, [one[i][0] for i in range(3)], strict=True))
    for i in (2, 0, 1):
        numpy.testing.assert_array_equal(other[i][0], first[i])


def test_targets_of_positions_and_of_examples(sequences):
    labels = numpy.arange(len(sequences))
    x, y = PaddedBatches(sequences, labels, batch_size=5, seed=None)[1]
    assert y.tolist() == [5, 6, 7, 8, 9]
    numpy.testing.assert_array_equal(x[0, : len(sequences[5])], sequences[5])
    doubled = [2 * s for s in sequences]
    x, y = PaddedBatches(sequences, doubled, batch_size=5, pad_id=77)[0]
    numpy.testing.assert_array_equal(y[y != -100], 2 * x[y != -100])
    assert (x[y == -100] == 77).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), DataError, "no sequences"),
        (([TOKENS[:1]],), DataError, "sequence 0 has 1 tokens, but 2 are needed"),
        (([TOKENS[:2].astype(float)],), DtypeError, "sequence 0: expected an array of integers"),
        (([TOKENS[:2]], [TOKENS[:3]]), DataError, "sequence 0 has 2 tokens but its target has 3"),
        (([TOKENS[:2]], [1, 2]), DataError, "1 sequences but 2 targets"),
        (([TOKENS[:2]], None, 0), ParameterError, "batch_size"),
    ],
)
def test_padded_batches_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        PaddedBatches(*arguments)


# packed sequences -------------------------------------------------------------------------------------------------


def test_packing_keeps_every_sequence(sequences):
    packed = pack_sequences(sequences, 64)
    found = []
    for ids, targets, segments, positions in zip(*packed, strict=True):
        for number in range(1, segments.max() + 1):
            place = segments == number
            found.append(tuple(ids[place].tolist()))
            assert targets[place].tolist() == [*found[-1][1:], -100]
            assert positions[place].tolist() == list(range(place.sum()))
        assert (targets[segments == 0] == -100).all()
    assert sorted(found) == sorted(tuple(s.tolist()) for s in sequences)
    assert (packed.segments == 0).mean() < 0.05


def test_packed_sequences_do_not_see_each_other():
    segments = numpy.array([[1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1]])
    for causal in (True, False):
        mask = segment_mask(segments, causal)
        assert mask.shape == (2, 1, 6, 6)
        for n, i, j in itertools.product(range(2), range(6), range(6)):
            expected = segments[n, i] == segments[n, j] != 0 and (j <= i or not causal)
            assert mask[n, 0, i, j] == expected


def test_a_sequence_longer_than_a_row():
    with pytest.raises(DataError, match="sequence 1 has 7 tokens, but a row only 5; cut it"):
        pack_sequences([TOKENS[:3], TOKENS[:7]], 5)


# in fit -----------------------------------------------------------------------------------------------------------


class Bigrams(Trainable, Layer):
    """The scores of the next token, given the last one: a table."""

    integer_inputs = True

    def __init__(self, vocabulary):
        super().__init__()
        self.table = Parameter(numpy.zeros((vocabulary, vocabulary), "float32"), name="table")

    def forward(self, ids, mask=None):
        self._remember(ids)
        return self.table.value[ids]  # (N, T, V)

    def backward(self, dy):
        grad = numpy.zeros_like(self.table.value)
        numpy.add.at(grad, self._remembered(), dy)
        self.table.accumulate(grad)


@pytest.mark.parametrize("mask", [None, False, True])
def test_a_model_trains_on_them(mask):
    text = "abcabdabc" * 40
    tokens = CharTokenizer("abcd").encode(text)
    if mask is None:
        batches, validation = Windows(tokens, 16, 4, seed=0), Windows(tokens, 16, 4, seed=None)
    else:
        parts = [tokens[i : i + 5 + i % 7] for i in range(0, 300, 3)]
        batches, validation = (PaddedBatches(parts, batch_size=16, mask=mask, seed=s) for s in (0, None))
    model = Bigrams(4)
    model.compile(dl.Adam(model.parameters(), lr=0.1), dl.CrossEntropyLoss(class_axis=-1))
    history = model.fit(batches, epochs=8, verbose=0, validation_data=validation)
    # after "b" comes c or d, twice and once in three; the rest is certain
    entropy = -(2 * numpy.log(2 / 3) + numpy.log(1 / 3)) / 3 / 3
    assert abs(history.history["val_loss"][-1] - entropy) < 0.06
    assert batches.epoch == 8


# the text that ships with the package --------------------------------------------------------------------------------


def test_the_sonnets():
    text = sonnets()
    assert text.count("\n") > 2400
    assert "Shall I compare thee to a summer's day?" in text
    assert text is sonnets()


def test_a_damaged_file_of_the_sonnets(tmp_path):
    path = tmp_path / "sonnets.txt.gz"
    path.write_bytes(corpus.FILE.read_bytes()[:-100])
    with pytest.raises(FileFormatError):
        corpus._load(path)
    (tmp_path / "short.txt").write_text("To be or not to be")
    with pytest.raises(FileFormatError, match="expected 95728 characters, got 18"):
        corpus._load(tmp_path / "short.txt")
    with pytest.raises(FileNotFoundError):
        corpus._load(tmp_path / "none")
