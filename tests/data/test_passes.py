"""What is data in batches, what is an array on disk, and how they are gone through."""

import array
import collections
import mmap

import numpy
import pytest
from array_double import DoubleEngine

from minidl.data.passes import ArrayPasses, IterablePasses, SequencePasses, is_batches, is_stored, make_passes


class Sequence:
    def __init__(self, items):
        self.items, self.ends = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]

    def on_epoch_end(self):
        self.ends += 1
        self.items = self.items[:-1]


class Dataset:
    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, rows):
        if not isinstance(rows, slice):
            assert (numpy.diff(rows) > 0).all()
        return self.values[rows]


@pytest.mark.parametrize(
    "data", [iter([]), (i for i in ()), map(abs, []), zip((), strict=True), Sequence([]), {}.values()]
)
def test_batches(data):
    assert is_batches(data)


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        "text",
        b"bytes",
        bytearray(3),
        memoryview(b"ab"),
        array.array("d", [1.0]),
        range(3),
        [1],
        (1,),
        {},
        {1},
        frozenset(),
        collections.deque(),
        collections.OrderedDict(),
        numpy.ones(3),
        numpy.float32(1),
        DoubleEngine().asarray(numpy.ones(3)),
        Dataset(numpy.ones(3)),
    ],
    ids=lambda data: type(data).__name__,
)
def test_no_batches(data):
    assert not is_batches(data)


class TestStored:
    def test_maps_and_views_of_them(self, tmp_path):
        numpy.save(tmp_path / "x.npy", numpy.arange(12.0).reshape(6, 2))
        x = numpy.load(tmp_path / "x.npy", mmap_mode="r")
        windows = numpy.lib.stride_tricks.sliding_window_view(x, 2, axis=0)
        views = [x, x[1:], x[:, 0], numpy.asarray(x), numpy.asarray(x).T, windows]
        assert all(map(is_stored, views))
        assert not any(map(is_stored, [x.copy().view(numpy.ndarray), numpy.array(x), numpy.ones(3)[1:], x.tolist()]))
        with (tmp_path / "x.npy").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            raw = numpy.frombuffer(mapped, dtype="uint8")
            assert is_stored(raw)
            del raw

    def test_what_has_rows(self):
        assert is_stored(Dataset(numpy.ones(3)))
        assert not is_stored(DoubleEngine().asarray(numpy.ones(3)))
        column = type("Series", (Dataset,), {"to_numpy": lambda self: self.values})
        tensor = type("Tensor", (Dataset,), {"__dlpack__": lambda self: None})
        assert not is_stored(column(numpy.ones(3)))
        assert not is_stored(tensor(numpy.ones(3)))
        assert not is_stored(None)


class TestPasses:
    def test_an_iterable(self):
        passes = make_passes({1: "a"}.values())
        assert isinstance(passes, IterablePasses)
        assert (list(passes), list(passes), passes.once, passes.length()) == (["a"], ["a"], False, 1)

    def test_an_iterator(self):
        passes = make_passes(iter([1, 2]))
        assert (next(iter(passes)), list(passes), list(passes)) == (1, [2], [])
        assert passes.once
        assert passes.length() is None

    def test_a_sequence_that_changes_at_the_end_of_a_pass(self):
        data = Sequence(["a", "b"])
        passes = make_passes(data)
        assert isinstance(passes, SequencePasses)
        assert [list(passes), passes.length(), list(passes), data.ends] == [["a", "b"], 1, ["a"], 2]

    def test_a_sequence_in_random_order(self):
        passes = SequencePasses(Sequence(list(range(9))), numpy.random.default_rng(0))
        expected = numpy.random.default_rng(0)
        assert [list(passes), list(passes)] == [expected.permutation(9).tolist(), expected.permutation(8).tolist()]

    @pytest.mark.parametrize("seed", [None, 0])
    def test_rows_of_arrays(self, seed):
        x, y = numpy.arange(20).reshape(10, 2), numpy.arange(10)
        generator = None if seed is None else numpy.random.default_rng(seed)
        passes = ArrayPasses((x, {"a": Dataset(x), "b": y}, (Dataset(y),), None), range(3, 10), 3, generator)
        assert passes.length() == 3
        batches = list(passes)
        assert [len(batch[0]) for batch in batches] == [3, 3, 1]
        order = numpy.arange(3, 10) if seed is None else numpy.random.default_rng(seed).permutation(7) + 3
        flat = [(x, several["a"], several["b"], one) for x, several, (one,), _ in batches]
        rows = [numpy.concatenate(part) for part in zip(*flat, strict=True)]
        for found, expected in zip(rows, (x, x, y, y), strict=True):
            numpy.testing.assert_array_equal(found, expected[order])
        assert batches[0][3] is None
