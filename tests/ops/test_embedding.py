"""Lookups in tables: padding, ids that are no rows, and sums that touch only the rows used, in an order that never changes."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, DtypeError, ParameterError, ShapeError


def lookup(engine, vocabulary=5, width=3, dtype="float32", **options):
    random = numpy.random.default_rng(0)
    ids, weight = numpy.array([[1, 4, 1], [0, 1, 4]]), random.normal(size=(vocabulary, width)).astype(dtype)
    y, cache = engine.embedding(ids, weight, **options)
    return random.normal(size=y.shape).astype(dtype), cache


@pytest.mark.parametrize("padding_idx", [1, -4])
def test_the_padding_gets_no_gradient(host_engine, padding_idx):
    dy, cache = lookup(host_engine, padding_idx=padding_idx)
    dy[0, 0] = numpy.nan  # also not where 0 times it would be nan
    _, dweight = host_engine.embedding_backward(dy, cache)
    numpy.testing.assert_array_equal(dweight[1], 0)
    numpy.testing.assert_allclose(dweight[4], dy[0, 1] + dy[1, 2], rtol=1e-6)


def test_rows_that_are_not_used_are_not_touched(host_engine):
    """Marks in other rows stay; with overwriting they go."""
    dy, cache = lookup(host_engine)
    storage = numpy.full((5, 3), numpy.nan, "float32")
    storage[[0, 1, 4]] = 2
    host_engine.embedding_backward(dy, cache, (storage,), True)
    assert numpy.isnan(storage[[2, 3]]).all()
    assert not numpy.isnan(storage[[0, 1, 4]]).any()
    host_engine.embedding_backward(dy, cache, (storage,))
    assert not storage[[2, 3]].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_do_not_depend_on_threads(host_engine, dtype):
    random = numpy.random.default_rng(0)
    ids = random.integers(0, 700, 3000) ** 2 // 700  # in more than one byte, some often
    weight, dy = (random.normal(size=(rows, 200)).astype(dtype) for rows in (700, 3000))
    exact = numpy.zeros((700, 200))
    numpy.add.at(exact, ids, dy.astype("float64"))
    before, results = dl.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            dl.set_num_threads(threads)
            y, cache = host_engine.embedding(ids, weight)
            numpy.testing.assert_array_equal(y, weight[ids])
            results.append(host_engine.embedding_backward(dy, cache)[1])
    finally:
        dl.set_num_threads(before)
    for result in results:
        numpy.testing.assert_array_equal(result, results[0])
        numpy.testing.assert_allclose(result, exact, rtol=0, atol=8 * numpy.finfo(dtype).eps * abs(exact).max())


def test_a_long_sum_keeps_its_digits(host_engine):
    dy = numpy.full((200_000, 1), 0.1, "float32")
    _, cache = host_engine.embedding(numpy.zeros(len(dy), "int64"), numpy.zeros((2, 1), "float32"))
    _, dweight = host_engine.embedding_backward(dy, cache)
    numpy.testing.assert_allclose(dweight[0], 20_000, rtol=1e-6)


@pytest.mark.parametrize(("wrong", "place"), [(5, (1, 2)), (-1, (0, 0)), (2**40, (1, 0))])
def test_ids_that_are_no_rows_are_named_with_their_place(host_engine, wrong, place):
    ids = numpy.zeros((2, 3), "int64")
    ids[place] = wrong
    message = rf"embedding: ids\[{place[0]}, {place[1]}\] is {wrong}, but the table has 5 rows; ids must be from 0 to 4"
    with pytest.raises(DataError, match=message):
        host_engine.embedding(ids, numpy.zeros((5, 2)))


def test_ids_of_unsigned_64_bits(host_engine):
    ids = numpy.array([3, 2**64 - 1], "uint64")
    with pytest.raises(DataError, match=r"ids\[1\] is 18446744073709551615"):
        host_engine.embedding(ids, numpy.zeros((5, 2)))
    assert host_engine.embedding(ids[:1], numpy.zeros((5, 2)))[0].shape == (1, 2)


def test_what_is_refused(host_engine):
    ids, weight = numpy.array([1, 2]), numpy.zeros((5, 2))
    with pytest.raises(DtypeError, match=r"embedding: ids must be an array of integers, got dtype float64"):
        host_engine.embedding(ids.astype(float), weight)
    with pytest.raises(DtypeError, match=r"ids must be an array of integers, got dtype bool"):
        host_engine.embedding(ids > 1, weight)
    with pytest.raises(DtypeError, match=r"ids must be an array of integers, got list"):
        host_engine.embedding([1, 2], weight)
    with pytest.raises(ShapeError, match=r"weight must have shape \(V, C\), got \(2,\)"):
        host_engine.embedding(ids, weight[0])
    for wrong in (5, -6):
        with pytest.raises(ParameterError, match=f"padding_idx must be a row of the table, from -5 to 4, got {wrong}"):
            host_engine.embedding(ids, weight, wrong)
    for wrong in (1.0, True):
        with pytest.raises(ParameterError, match=f"embedding: padding_idx must be a whole number.*, got {wrong}"):
            host_engine.embedding(ids, weight, wrong)
    _, cache = host_engine.embedding(ids, weight)
    with pytest.raises(ShapeError, match=r"dy must have the shape of y, \(2, 2\), got \(2, 3\)"):
        host_engine.embedding_backward(numpy.zeros((2, 3)), cache)
