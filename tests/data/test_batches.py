"""Batches and one-hot targets."""

import numpy
import pytest

from minidl import random
from minidl.data import batches, one_hot
from minidl.errors import DataError, DtypeError, ParameterError, ShapeError, TargetError


def test_in_order():
    X, y = numpy.arange(14).reshape(7, 2), numpy.arange(7)
    found = list(batches(X, y, batch_size=3))
    assert [len(target) for _, target in found] == [3, 3, 1]
    numpy.testing.assert_array_equal(numpy.concatenate([x for x, _ in found]), X)
    assert numpy.shares_memory(found[1][0], X)


def test_the_last_can_be_left_out():
    assert [len(b) for b in batches(numpy.arange(7), batch_size=3, drop_last=True)] == [3, 3]
    assert [len(b) for b in batches(numpy.arange(6), batch_size=3, drop_last=True)] == [3, 3]
    assert list(batches(numpy.arange(2), batch_size=3, drop_last=True)) == []


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_shuffled_is_every_example_once(size):
    X, y = numpy.arange(14).reshape(7, 2), numpy.arange(7)
    found = list(batches(X, y, batch_size=size, shuffle=True, generator=5))
    order = numpy.concatenate([target for _, target in found])
    assert sorted(order) == list(range(7))
    assert list(order) != list(range(7))
    numpy.testing.assert_array_equal(numpy.concatenate([x for x, _ in found]), X[order])


def test_the_seed_rules():
    def order(**settings):
        return next(batches(numpy.arange(9), batch_size=9, shuffle=True, **settings)).tolist()

    assert order(generator=1) == order(generator=1) == order(generator=numpy.random.default_rng(1))
    random.seed(1)
    assert order() == order(generator=1)
    random.seed(1)
    assert [order(), order()] != [order(generator=1)] * 2


def test_three_arrays():
    [(x, y, weight)] = batches(numpy.zeros((2, 3)), numpy.zeros(2), numpy.ones(2))
    assert (x.shape, y.shape, weight.shape) == ((2, 3), (2,), (2,))


@pytest.mark.parametrize(
    ("arrays", "settings", "error", "message"),
    [
        ([], {}, DataError, "no arrays"),
        ([numpy.zeros((0, 3))], {}, DataError, "no examples"),
        ([numpy.zeros(3), numpy.zeros(4)], {}, DataError, "3, 4"),
        ([numpy.zeros(3), 32], {}, ShapeError, "argument 1 must be an array"),
        ([numpy.zeros(3)], {"batch_size": 0}, ParameterError, "batch_size"),
        ([numpy.zeros(3)], {"batch_size": 2.5}, ParameterError, "batch_size"),
        ([numpy.zeros(3)], {"shuffle": True, "generator": "x"}, ParameterError, "generator"),
    ],
)
def test_errors_come_at_the_call(arrays, settings, error, message):
    with pytest.raises(error, match=message):
        batches(*arrays, **settings)


def test_one_hot():
    numpy.testing.assert_array_equal(one_hot([1, 0], 3), [[0, 1, 0], [1, 0, 0]])
    assert one_hot(numpy.array([[1], [0]], dtype="uint8")).shape == (2, 1, 2)
    assert one_hot([True, False], dtype="float64").dtype == numpy.float64
    assert one_hot([], 3).shape == (0, 3)
    assert one_hot([]).shape == (0, 0)


def test_labels_out_of_range():
    with pytest.raises(TargetError, match=r"from 0 to 2, got 3 at position \(1,\)"):
        one_hot([0, 3], 3)
    with pytest.raises(TargetError, match=r"got -1 at position \(1, 0\)"):
        one_hot([[0], [-1]])
    with pytest.raises(DtypeError, match="float64"):
        one_hot([0.0, 1.0])


def test_lists_become_arrays():
    [(x, y)] = batches([[1, 2], [3, 4]], [0, 1])
    numpy.testing.assert_array_equal(x, [[1, 2], [3, 4]])
    numpy.testing.assert_array_equal(y, [0, 1])
