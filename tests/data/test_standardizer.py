"""Standardising."""

import numpy
import pytest

from minidl.data import Standardizer
from minidl.errors import DataError, DtypeError, OrderError, ShapeError


def test_mean_zero_and_deviation_one():
    X = numpy.random.default_rng(0).normal(loc=[5, -3, 1e6], scale=[0.1, 20, 1], size=(200, 3))
    Z = Standardizer().fit_transform(X)
    numpy.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-9)
    numpy.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_there_and_back(dtype):
    X = numpy.random.default_rng(0).normal(size=(50, 2, 3)).astype(dtype)
    standardizer = Standardizer().fit(X)
    Z = standardizer.transform(X)
    assert Z.dtype == dtype
    back = standardizer.inverse_transform(Z)
    assert back.dtype == dtype
    numpy.testing.assert_allclose(back, X, atol=4 * float(numpy.finfo(dtype).eps) * 4)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-300, 1e300])
def test_constant_features_are_only_centred(value):
    X = numpy.full((7, 2), value)
    X[:, 1] = numpy.arange(7)
    standardizer = Standardizer().fit(X)
    assert standardizer.scale[0] == 1
    Z = standardizer.transform(X)
    numpy.testing.assert_array_equal(Z[:, 0], numpy.zeros(7))
    numpy.testing.assert_array_equal(standardizer.inverse_transform(Z)[:, 0], X[:, 0])


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_squares_that_leave_the_range_of_numbers_do_not_matter(size):
    standardizer = Standardizer().fit([[-size], [size]])
    assert standardizer.scale[0] == pytest.approx(size)


def test_training_data_rule_the_test_data():
    standardizer = Standardizer().fit([[0.0], [2.0]])
    numpy.testing.assert_array_equal(standardizer.transform([[5.0]]), [[4.0]])


def test_integers_become_float32():
    Z = Standardizer().fit_transform(numpy.array([[1], [3]], dtype="uint8"))
    assert Z.dtype == numpy.float32
    numpy.testing.assert_array_equal(Z, [[-1], [1]])


def test_targets_of_one_axis():
    numpy.testing.assert_array_equal(Standardizer().fit_transform(numpy.array([1.0, 3.0])), [-1, 1])


def test_nothing_is_changed():
    X = numpy.array([[1.0, 2.0], [3.0, 5.0]])
    before = X.copy()
    Standardizer().fit(X).transform(X)
    numpy.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (numpy.zeros((0, 2)), DataError, "no examples"),
        ([[1.0, 2.0], [3.0, numpy.nan]], DataError, r"nan in example 1, feature \(1,\)"),
        ([[1.0], [numpy.inf]], DataError, "inf in example 1"),
        ([["a"]], DtypeError, "real numbers"),
        ([[1j]], DtypeError, "complex"),
        (3.0, ShapeError, "single number"),
    ],
)
def test_what_cannot_be_fitted(X, error, message):
    with pytest.raises(error, match=message):
        Standardizer().fit(X)


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_what_cannot_be_transformed(method):
    with pytest.raises(OrderError, match=f"{method} was called before fit"):
        getattr(Standardizer(), method)([[1.0]])
    standardizer = Standardizer().fit([[1.0, 2.0]])
    with pytest.raises(ShapeError, match=r"expected examples of shape \(2,\)"):
        getattr(standardizer, method)([[1.0, 2.0, 3.0]])
    with pytest.raises(ShapeError, match="as fitted"):
        getattr(standardizer, method)(1.0)
    with pytest.raises(DtypeError):
        getattr(standardizer, method)([["a", "b"]])


def test_it_says_whether_it_is_fitted():
    assert repr(Standardizer()) == "Standardizer(not fitted)"
    assert repr(Standardizer().fit([[1.0, 2.0]])) == "Standardizer(fitted to examples of shape (2,))"


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float64"])
def test_timestamps_keep_their_digits(dtype):
    seconds = numpy.arange(1_700_000_000, 1_700_000_010).astype(dtype).reshape(-1, 1)
    standardizer = Standardizer().fit(seconds)
    found = standardizer.transform(seconds)
    expected = (numpy.arange(10) - 4.5) / numpy.arange(10).std()
    assert found.dtype == ("float64" if dtype == "float64" else "float32")
    numpy.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


def test_float32_far_from_zero():
    X = (1e6 + numpy.arange(8)).astype("float32").reshape(-1, 1)
    found = Standardizer().fit_transform(X)
    numpy.testing.assert_allclose(found[:, 0], (numpy.arange(8) - 3.5) / numpy.arange(8).std(), atol=1e-6)


@pytest.mark.parametrize(
    "column",
    [
        [0.1 + 0.2, 0.3, 0.3],
        [sum([0.1] * 10), 1.0, 1.0 - 1e-16],
        [1e300, 1e300 * (1 + 2e-16), 1e300],
        numpy.array([1, 1 + 1.2e-7, 1], dtype="float32"),
        numpy.array([1, 1.001, 1], dtype="float16"),
    ],
)
def test_what_varies_only_by_rounding_is_constant(column):
    X = numpy.asarray(column).reshape(-1, 1)
    standardizer = Standardizer().fit(X)
    assert standardizer.scale.tolist() == [1.0]
    size = abs(float(X.max()))
    assert abs(standardizer.transform(X)).max() <= 4 * float(numpy.finfo(X.dtype).eps) * size


@pytest.mark.parametrize(
    "column",
    [
        [2**50, 2**50 + 1],
        [1e-20, 2e-20],
        [1.0, 1.0 + 1e-12],
        numpy.array([1e6, 1e6 + 1], dtype="float32"),
    ],
)
def test_small_differences_that_are_no_rounding_count(column):
    found = Standardizer().fit_transform(numpy.asarray(column).reshape(-1, 1))
    numpy.testing.assert_allclose(found[:, 0], [-1, 1], rtol=1e-3)


def test_large_data_are_standardised_in_blocks():
    X = numpy.random.default_rng(0).normal(3, 2, size=(5000, 500)).astype("float32")
    standardizer = Standardizer().fit(X)
    expected = ((X.astype("float64") - standardizer.mean) / standardizer.scale).astype("float32")
    numpy.testing.assert_array_equal(standardizer.transform(X), expected)
