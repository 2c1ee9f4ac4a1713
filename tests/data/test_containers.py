"""Rows by position, whatever holds them: the same in fit, predict, metrics, splits, batches and standardising."""

import datetime
import decimal
import importlib
import warnings

import numpy
import pytest

import minidl as dl
from minidl.arrays import take_rows, to_host
from minidl.data import Standardizer, batches, one_hot, train_test_split
from minidl.errors import DataError, DtypeError, MinidlError
from minidl.training import Trainable

N = 24
SHUFFLED = numpy.random.default_rng(1).permutation(N)  # an index that names other rows than it stands at
X = numpy.random.default_rng(0).normal(size=(N, 3))
Y = (X[:, 0] > 0).astype("int64")
WEIGHTS = numpy.linspace(0.5, 2, N)
NAMES = ["a", "b", "c"]


def needs(package):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(package)
    except ImportError:
        pytest.skip(f"{package} is not installed; it is in the extra 'peers'")


class Wrapped:
    """An array behind one protocol."""

    def __init__(self, array):
        self._array = array


class ByArray(Wrapped):
    def __array__(self, dtype=None, copy=None):
        return numpy.array(self._array, dtype=dtype)


class ByInterface(Wrapped):
    @property
    def __array_interface__(self):
        return self._array.__array_interface__


class ByDlpack(Wrapped):
    def __dlpack__(self, **settings):
        return self._array.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def in_pandas(array):
    pandas = needs("pandas")
    if array.ndim == 1:
        return pandas.Series(array, index=SHUFFLED[: len(array)])
    return pandas.DataFrame(array, index=SHUFFLED[: len(array)], columns=NAMES[: array.shape[1]])


def in_nullable_pandas(array):
    return in_pandas(array).astype("Int64" if array.dtype.kind == "i" else "Float64")


def in_polars(array):
    polars = needs("polars")
    return polars.Series(array) if array.ndim == 1 else polars.DataFrame(array, schema=NAMES[: array.shape[1]])


def in_arrow(array):
    pyarrow = needs("pyarrow")
    if array.ndim == 1:
        return pyarrow.chunked_array([array[:5], array[5:]])
    return pyarrow.table(dict(zip(NAMES, array.T, strict=False)))


def in_torch(array):
    tensor = needs("torch").tensor(array)
    return tensor.requires_grad_() if array.dtype.kind == "f" else tensor


def in_records(array):
    if array.ndim == 1:
        return array
    records = numpy.empty(len(array), dtype=[(name, array.dtype) for name in NAMES[: array.shape[1]]])
    for name, column in zip(NAMES, array.T, strict=False):
        records[name] = column
    return records


CONTAINERS = {
    "pandas": in_pandas,
    "pandas-nullable": in_nullable_pandas,
    "polars": in_polars,
    "pyarrow": in_arrow,
    "torch": in_torch,
    "lists": lambda array: array.tolist(),
    "list-of-tensors": lambda array: list(in_torch(array)),
    "objects": lambda array: array.astype(object),
    "records": in_records,
    "masked": numpy.ma.array,
    "matrix": lambda array: array if array.ndim == 1 else numpy.asmatrix(array),
    "array": ByArray,
    "array-interface": ByInterface,
    "dlpack": ByDlpack,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "strided": lambda array: numpy.repeat(array, 2, axis=0)[::2],
}


@pytest.fixture(params=CONTAINERS)
def held(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of numpy.matrix
        yield CONTAINERS[request.param]


def model():
    dl.seed(0)
    made = dl.Sequential([dl.Linear(3, 2)])
    made.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return made


def test_fit_predict_and_evaluate_give_the_same_bits(held):
    plain, other = model(), model()
    validation = (held(X[:8]), held(Y[:8]), held(WEIGHTS[:8]))
    first = plain.fit(X, Y, 5, 2, sample_weight=WEIGHTS, validation_data=(X[:8], Y[:8], WEIGHTS[:8]), seed=3)
    second = other.fit(held(X), held(Y), 5, 2, sample_weight=held(WEIGHTS), validation_data=validation, seed=3)
    assert first.history == second.history
    numpy.testing.assert_array_equal(plain.predict(X), other.predict(held(X)))
    assert plain.evaluate(X, Y) == other.evaluate(held(X), held(Y))


def test_batches_of_containers(held):
    plain, other = model(), model()
    plain.fit([(X[:7], Y[:7]), (X[7:], Y[7:])], shuffle=False)
    other.fit([(held(X[:7]), held(Y[:7])), (held(X[7:]), held(Y[7:]))], shuffle=False)
    numpy.testing.assert_array_equal(plain.predict(X), other.predict(held(X)))


def test_several_inputs():
    class Sum(Trainable, dl.Layer):
        def __init__(self):
            super().__init__()
            self.head = dl.Linear(3, 2)

        def forward(self, a, b):
            return self.head.forward(a + b)

        def backward(self, dy):
            self.head.backward(dy)

    made = Sum()
    made.compile("sgd", "sparse_categorical_crossentropy")
    made.fit({"a": in_pandas(X), "b": in_polars(X)}, in_arrow(Y))
    numpy.testing.assert_array_equal(made.predict((in_pandas(X), in_torch(X))), made.predict((X, X)))


def test_splits_keep_rows_together(held):
    rows = numpy.arange(N)
    settings = {"test_size": 8, "random_state": 0, "stratify": held(Y)}
    expected = train_test_split(X, rows, **{**settings, "stratify": Y})
    found = train_test_split(held(X), held(rows), **settings)
    for theirs, ours in zip(found, expected, strict=True):
        numpy.testing.assert_array_equal(to_host(theirs), ours)
    found = train_test_split(held(X), held(rows), test_size=8, shuffle=False)
    numpy.testing.assert_array_equal(to_host(found[1]), X[16:])
    numpy.testing.assert_array_equal(to_host(found[2]), rows[:16])


def test_splits_keep_tables_and_tensors():
    for make in (in_pandas, in_polars, in_arrow, in_torch):
        train, test = train_test_split(make(X), random_state=0)
        assert type(train) is type(test) is type(make(X))
    frame = in_pandas(X).assign(city="Rome")
    train, _ = train_test_split(frame, random_state=0)
    assert list(train.columns) == [*NAMES, "city"]
    numpy.testing.assert_array_equal(train.loc[train.index], train)


def test_batches_are_arrays_in_order(held):
    for settings in ({}, {"shuffle": True, "generator": 2}):
        expected = list(batches(X, Y, batch_size=7, **settings))
        found = list(batches(held(X), held(Y), batch_size=7, **settings))
        for (x, y), (ours, labels) in zip(found, expected, strict=True):
            assert type(x) is type(y) is numpy.ndarray
            numpy.testing.assert_array_equal(x, ours)
            numpy.testing.assert_array_equal(y, labels)


def test_standardizing_and_one_hot(held):
    expected = Standardizer().fit(X)
    found = Standardizer().fit(held(X))
    numpy.testing.assert_array_equal(found.mean, expected.mean)
    numpy.testing.assert_array_equal(found.transform(held(X)), expected.transform(X))
    numpy.testing.assert_array_equal(one_hot(held(Y)), one_hot(Y))


def test_metrics(held):
    wrong = numpy.where(numpy.arange(N) % 5 == 0, 1 - Y, Y)
    for name in ("accuracy", "f1", "mean_squared_error"):
        metric = getattr(dl.metrics, name)
        assert metric(held(Y), held(wrong)) == metric(Y, wrong)
    assert dl.metrics.roc_auc(held(Y), held(WEIGHTS)) == dl.metrics.roc_auc(Y, WEIGHTS)


def test_memory_maps(tmp_path):
    numpy.save(tmp_path / "x.npy", X)
    stored = numpy.load(tmp_path / "x.npy", mmap_mode="r")
    positive = dl.Sequential([dl.ReLU()])
    numpy.testing.assert_array_equal(positive.predict(stored), positive.predict(X))
    train, test = train_test_split(stored, random_state=0)
    numpy.testing.assert_array_equal(numpy.sort(numpy.concatenate([train, test])[:, 0]), numpy.sort(X[:, 0]))
    for x, ours in zip(batches(stored, batch_size=5), batches(X, batch_size=5), strict=True):
        numpy.testing.assert_array_equal(x, ours)


class OnDisk:
    """What HDF5's and Zarr's arrays offer; rows only in ascending order."""

    def __init__(self, values):
        self._values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, rows):
        assert isinstance(rows, slice) or (numpy.diff(rows) > 0).all()
        return self._values[rows]

    def __len__(self):
        return len(self._values)


def test_arrays_on_disk_are_split_and_batched():
    expected = train_test_split(X, random_state=0)
    for theirs, ours in zip(train_test_split(OnDisk(X), random_state=0), expected, strict=True):
        numpy.testing.assert_array_equal(theirs, ours)
    pairs = zip(batches(OnDisk(X), shuffle=True, generator=1), batches(X, shuffle=True, generator=1), strict=True)
    for theirs, ours in pairs:
        numpy.testing.assert_array_equal(theirs, ours)


# what single values become -------------------------------------------------------------------------------------------


def test_missing_numbers_are_named():
    pandas = needs("pandas")
    holes = pandas.DataFrame(
        {"a": pandas.array([1, None, 3], dtype="Int64"), "b": [True, False, True]}, index=[2, 0, 1]
    )
    numpy.testing.assert_array_equal(to_host(holes), [[1, 1], [numpy.nan, 0], [3, 1]])
    with pytest.raises(DataError, match=r"x holds nan or inf in 1 of 3 examples, the first in x\[1\]"):
        model().fit(holes, [0, 1, 0])


@pytest.mark.parametrize("kind", ["category", "Int64", "float32", "bool", "Sparse[int]"])
def test_pandas_columns(kind):
    pandas = needs("pandas")
    found = to_host(pandas.Series([1, 0, 1], dtype=kind))
    numpy.testing.assert_array_equal(found, [1, 0, 1])
    assert found.dtype.kind in "fiub"


def test_columns_of_rows_and_of_decimals():
    pandas, pyarrow, polars = needs("pandas"), needs("pyarrow"), needs("polars")
    for column in (pandas.Series([[1, 2], [3, 4]]), polars.Series([[1, 2], [3, 4]]), pyarrow.array([[1, 2], [3, 4]])):
        numpy.testing.assert_array_equal(to_host(column), [[1, 2], [3, 4]])
    assert to_host(pandas.Series([decimal.Decimal("1.5")])).tolist() == [1.5]
    assert to_host(pyarrow.array(["a", "b", "a"]).dictionary_encode()).tolist() == ["a", "b", "a"]
    with pytest.raises(DataError, match="no regular array"):
        to_host(pandas.Series([[1, 2], [3]]))


def test_half_precision_tensors():
    torch = needs("torch")
    found = to_host(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert (found.dtype, found.tolist()) == (numpy.float32, [1.5, -2.0])


def test_objects():
    assert to_host(numpy.array([1, True, 3], dtype=object)).dtype == numpy.int64
    assert to_host(numpy.array([2**70, 1], dtype=object)).tolist() == [2.0**70, 1.0]
    assert to_host(numpy.array([True, False], dtype=object)).dtype == bool
    assert to_host(["a", "b"]).dtype.kind == "U"


def test_something_with_get_is_no_array():
    class Settings:
        def get(self, key):
            raise AssertionError

    with pytest.raises(DtypeError, match="fit: x must hold real numbers, got a Settings"):
        model().fit(Settings(), Y)


# refused -------------------------------------------------------------------------------------------------------------


def sparse():
    return needs("scipy.sparse").csr_matrix(X)


def text_frame():
    return in_pandas(X).assign(city="Rome")


def dates():
    return needs("pandas").DataFrame({"day": [datetime.datetime(2020, 1, 1)] * N})


REFUSED = {
    "sparse": (sparse, r"sparse matrix, csr_matrix; convert it with .toarray\(\)"),
    "sparse tensor": (lambda: needs("torch").eye(N).to_sparse(), "sparse or quantised tensor"),
    "lazy": (lambda: in_polars(X).lazy(), r"LazyFrame, which holds no values yet; call .collect\(\)"),
    "text column": (text_frame, "column 'city' must hold real numbers, got dtype .*, such as 'Rome'"),
    "dates": (dates, r"dtype datetime64.*; subtract a first date"),
    "records": (lambda: numpy.zeros(N, dtype=[("a", "f4"), ("b", "U3")]), "structured array whose field 'b'"),
    "masked": (lambda: numpy.ma.array(X, mask=X > 0.5), r"masked values, the first in"),
    "ragged": (lambda: [[1.0], [2.0, 3.0]] * (N // 2), "no regular array"),
    "complex": (lambda: X + 1j, "real numbers, got dtype complex128"),
    "text": (lambda: numpy.full((N, 1), "a"), "real numbers, got dtype <U1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_array_of_numbers(case):
    make, message = REFUSED[case]
    given = make()
    for call in (
        lambda: model().fit(given, Y),
        lambda: model().predict(given),
        lambda: model().evaluate(given, Y),
        lambda: Standardizer().fit(given),
    ):
        with pytest.raises(MinidlError, match=message):
            call()


def test_conversions_that_fail_are_reported_as_ours():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("the file is closed")

    with pytest.raises(DataError, match="x is a Broken, which cannot be converted to an array: the file is closed"):
        model().fit(Broken(), Y)
    with pytest.raises(DtypeError, match=r"y_true must hold real numbers, got a generator; .* numpy.asarray\(list"):
        dl.metrics.accuracy((label for label in Y), Y)


def test_sparse_matrices_are_split_by_position():
    given = sparse()
    for theirs, ours in zip(train_test_split(given, random_state=0), train_test_split(X, random_state=0), strict=True):
        numpy.testing.assert_array_equal(theirs.toarray(), ours)
    with pytest.raises(DtypeError, match="sparse"):
        batches(given)


def test_rows_of_an_index():
    pandas = needs("pandas")
    assert take_rows(pandas.Index([5, 6, 7]), numpy.array([2, 0])).tolist() == [7, 5]
