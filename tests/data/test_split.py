"""Splitting into training and test data."""

import numpy
import pytest

from minidl import random
from minidl.data import train_test_split
from minidl.errors import DataError, ParameterError, ShapeError


def test_a_partition():
    X, y = numpy.arange(40).reshape(20, 2), numpy.arange(20)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=1)
    assert (len(y_train), len(y_test)) == (14, 6)
    numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([y_train, y_test])), y)
    numpy.testing.assert_array_equal(X_train[:, 0], 2 * y_train)
    numpy.testing.assert_array_equal(X_test[:, 0], 2 * y_test)
    assert not numpy.array_equal(y_train, numpy.sort(y_train))


def sizes(**settings):
    return tuple(map(len, train_test_split(numpy.arange(10), random_state=0, **settings)))


def test_sizes():
    assert sizes() == (7, 3)
    assert sizes(test_size=0.11) == (8, 2)
    assert sizes(train_size=0.59) == (5, 5)
    assert sizes(test_size=1) == (9, 1)
    assert sizes(train_size=2) == (2, 8)
    assert sizes(train_size=0.5, test_size=0.2) == (5, 2)
    assert sizes(train_size=0.5, test_size=3, stratify=[0] * 4 + [1] * 6) == (5, 3)
    assert sizes(test_size=numpy.float32(0.5)) == (5, 5)


@pytest.mark.parametrize("size", [0, 10, 11, -1, 0.0, 1.0, -0.1, True, "half"])
@pytest.mark.parametrize("name", ["test_size", "train_size"])
def test_impossible_sizes(name, size):
    with pytest.raises(
        ParameterError, match=f"{name} must be a share between 0 and 1 or a number of examples below 10"
    ):
        sizes(**{name: size})


def test_more_than_there_is():
    with pytest.raises(ParameterError, match="7 examples to train and 4 to test are more than the 10"):
        sizes(train_size=0.7, test_size=4)


def test_nothing_left():
    with pytest.raises(DataError, match="1 examples would be split into 0 to train and 1 to test"):
        train_test_split([1])
    with pytest.raises(DataError, match="0 to train"):
        train_test_split([1, 2, 3], train_size=0.1, random_state=0)


def test_the_seed_rules():
    y = numpy.arange(50)
    first = train_test_split(y, random_state=3)[0]
    numpy.testing.assert_array_equal(train_test_split(y, random_state=3)[0], first)
    numpy.testing.assert_array_equal(train_test_split(y, random_state=numpy.random.default_rng(3))[0], first)
    assert not numpy.array_equal(train_test_split(y, random_state=4)[0], first)
    random.seed(3)
    numpy.testing.assert_array_equal(train_test_split(y)[0], first)


def test_unshuffled_parts_are_views():
    y = numpy.arange(10)
    train, test = train_test_split(y, shuffle=False)
    numpy.testing.assert_array_equal(train, y[:7])
    assert numpy.shares_memory(test, y)


@pytest.mark.parametrize("seed", range(5))
def test_stratified_in_proportion(seed):
    y = numpy.repeat(["a", "b", "c"], [50, 30, 20])
    train, test = train_test_split(y, test_size=0.2, stratify=y, random_state=seed)
    assert {k: int((test == k).sum()) for k in "abc"} == {"a": 10, "b": 6, "c": 4}
    assert {k: int((train == k).sum()) for k in "abc"} == {"a": 40, "b": 24, "c": 16}


def test_stratified_remainders_go_to_the_largest_and_ties_by_lot():
    y = numpy.repeat([0, 1, 2, 3], [5, 5, 5, 5])
    extra = set()
    for seed in range(20):
        index = train_test_split(numpy.arange(20), test_size=6, stratify=y, random_state=seed)[1]
        counts = numpy.bincount(y[index], minlength=4)
        assert sorted(counts) == [1, 1, 2, 2]
        extra.add(tuple(counts))
    assert len(extra) > 1


def test_stratified_is_a_partition_in_mixed_order():
    y = numpy.repeat([0, 1], [30, 10])
    train, test = train_test_split(numpy.arange(40), stratify=y, random_state=0)
    numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([train, test])), numpy.arange(40))
    assert len(set(y[train][:10])) == 2


def test_stratify_by_a_column():
    y = numpy.repeat([0, 1], 10)
    test = train_test_split(y, test_size=4, stratify=y[:, None], random_state=0)[1]
    assert sorted(test) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"stratify": [0] * 9 + [7]}, DataError, "class 7 has a single member"),
        ({"stratify": [0, 1, 2, 3, 4] * 2, "test_size": 4}, DataError, "too few for 5 classes"),
        ({"stratify": [0, 1]}, DataError, "stratify must hold 10 labels"),
        ({"stratify": [0, 1] * 5, "shuffle": False}, ParameterError, "shuffle"),
        ({"random_state": "seed"}, ParameterError, "random_state"),
    ],
)
def test_what_cannot_be_split(settings, error, message):
    with pytest.raises(error, match=message):
        train_test_split(numpy.arange(10), **settings)


def test_arrays_that_do_not_match():
    with pytest.raises(DataError, match="different numbers of examples: 3, 4"):
        train_test_split([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(DataError, match="no arrays"):
        train_test_split()
    with pytest.raises(DataError, match="no examples"):
        train_test_split([])
    with pytest.raises(ShapeError, match="argument 1 must be an array"):
        train_test_split([1, 2], 3)
    with pytest.raises(ShapeError, match="no axes"):
        train_test_split(numpy.float32(3))
