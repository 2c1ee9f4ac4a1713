"""Rows that occur twice, in one table and in two."""

import numpy
import pytest

from minidl.data import Table, find_duplicates, find_shared_rows, read_csv
from minidl.errors import DataError


def test_duplicates_are_what_unique_finds():
    x = numpy.random.default_rng(0).integers(0, 3, (2500, 5)).astype("float32")
    _, index, inverse = numpy.unique(x, axis=0, return_index=True, return_inverse=True)
    numpy.testing.assert_array_equal(find_duplicates(x), index[inverse.ravel()])
    numpy.testing.assert_array_equal(find_duplicates(x[:, ::2]), find_duplicates(x[:, ::2].copy()))


def test_what_counts_as_equal():
    odd_nan = numpy.array([0x7FF8000000000001], dtype=numpy.uint64).view(numpy.float64)[0]
    x = numpy.array([[0.0, numpy.nan], [-0.0, odd_nan], [0.0, 1.0]])
    assert find_duplicates(x).tolist() == [0, 0, 2]
    assert x.view(numpy.int64)[1, 0] != 0  # what was given is as it was
    assert find_duplicates(["a", "b", "a", "a "]).tolist() == [0, 1, 0, 3]
    assert find_duplicates(["ab", "a"], ["c", "bc"]).tolist() == [0, 1]
    assert find_duplicates(numpy.zeros((2, 3, 3), "uint8")).tolist() == [0, 0]
    assert find_duplicates(numpy.array([True, False, True])).tolist() == [0, 1, 0]
    assert find_duplicates(numpy.zeros((0, 2))).tolist() == []


def test_rows_that_leak():
    x = numpy.random.default_rng(0).normal(size=(100, 3))
    assert find_shared_rows(x[:60], x[40:]).tolist() == list(range(20))
    assert find_shared_rows(x[:60].astype("float32"), x[40:]).tolist() == list(range(20))
    assert find_shared_rows(numpy.arange(3), numpy.array([2.0, 3.5])).tolist() == [0]
    assert find_shared_rows(["a", "b"], ["b", "longer", "a"]).tolist() == [0, 2]
    assert find_shared_rows(x[:60], x[60:]).dtype == numpy.int64


def test_errors():
    with pytest.raises(DataError, match="there is no array"):
        find_duplicates()
    with pytest.raises(DataError, match=r"as many rows, got shapes \(2,\), \(3,\)"):
        find_duplicates([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match=r"rows of one shape, got train \(2, 2\) and test \(2, 3\)"):
        find_shared_rows(numpy.ones((2, 2)), numpy.ones((2, 3)))


def test_a_table_without_duplicates(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,x,5\n2,y,6\n1,x,5\n1,x,7\n2,y,6\n1,y,5\n,x,5\n")
    table = read_csv(path, "y", missing="drop")
    clean = table.without_duplicates()
    assert clean.X.tolist() == [[1, 1, 0], [2, 0, 1], [1, 1, 0], [1, 0, 1]]
    assert clean.y.tolist() == [5, 6, 7, 5]
    assert (clean.feature_names, clean.columns, len(table.X)) == (table.feature_names, table.columns, 6)
    assert clean.notes[len(table.notes) :] == (
        "2 rows that repeat an earlier one were left out",
        "1 row has the features of an earlier one, but another target",
    )
    assert "note: 2 rows that repeat" in clean.report
    assert clean.without_duplicates().notes == clean.notes
    alone = Table(table.X, table.feature_names).without_duplicates()
    assert (len(alone.X), alone.y) == (3, None)
