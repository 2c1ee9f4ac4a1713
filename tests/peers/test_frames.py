"""minidl.interop.frames: the same table of pandas, polars and Arrow, and errors that name the row and the column."""

import datetime

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, DtypeError, ParameterError, UnknownNameError

pytest.importorskip("narwhals")
pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.peers

from minidl.interop.frames import from_frame  # noqa: E402

MAKERS = {
    "pandas": pandas.DataFrame,
    "pandas objects": lambda columns: pandas.DataFrame(columns).astype(object),
    "pandas with pyarrow": lambda columns: pyarrow.table(columns).to_pandas(types_mapper=pandas.ArrowDtype),
    "polars": polars.DataFrame,
    "pyarrow": pyarrow.table,
}
DAY = datetime.date(2020, 1, 31)
RAW = {
    "area": [50, 70, 30],
    "city": ["Rome", "Oslo", "Rome"],
    "new": [True, False, True],
    "day": [DAY, DAY, DAY + datetime.timedelta(1)],
    "price": [200.5, 310.0, 90.0],
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def test_the_same_table_of_every_library(make):
    table = from_frame(make(RAW), "price", parse_dates=["day"])
    assert table.feature_names == ("area", "city=Oslo", "city=Rome", "new", "day")
    first = 1580428800
    numpy.testing.assert_array_equal(
        table.X, [[50, 0, 1, 1, first], [70, 1, 0, 0, first], [30, 0, 1, 1, first + 86400]]
    )
    numpy.testing.assert_array_equal(table.y, [200.5, 310, 90])
    assert "1580428800 seconds after 1970 (UTC)" in table.report


def test_the_table_that_read_csv_reads(make, tmp_path):
    path = tmp_path / "table.csv"
    pandas.DataFrame(RAW).to_csv(path, index=False)
    settings = {"target": "city", "ignore": ["day"], "categorical": ["area"]}
    table, other = from_frame(make(RAW), **settings), dl.data.read_csv(path, **settings)
    assert (table.feature_names, table.classes, table.columns) == (other.feature_names, other.classes, other.columns)
    numpy.testing.assert_array_equal(table.X, other.X)
    numpy.testing.assert_array_equal(table.y, other.y)


def test_missing_values_are_named_dropped_or_filled(make):
    raw = {
        "a": [None, 1.5, 3.5, 1.0],
        "b": [True, None, True, False],
        "c": ["x", "", None, "x"],
        "d": [None, DAY, DAY, DAY],
        "y": [0, 1, 2, 3],
    }
    for column, row in (("a", 0), ("b", 1), ("c", 2)):
        with pytest.raises(DataError, match=f"from_frame, row {row}: column '{column}' has no value; pass missing="):
            from_frame(make({column: raw[column], "y": raw["y"]}), "y")
    with pytest.raises(DataError, match="from_frame, row 2: the target 'c' is missing"):
        from_frame(make(raw), "c", missing="fill", parse_dates=["d"])
    table = from_frame(make(raw), "y", missing="fill", parse_dates=["d"], text="codes", dtype="float64")
    numpy.testing.assert_array_equal(table.X[:, :3], [[2, 1, 1], [1.5, 1, 0], [3.5, 1, 1], [1, 0, 1]])
    assert table.categories == {2: ("", "x")}
    assert len(set(table.X[:, 3])) == 1
    dropped = from_frame(make(raw), "y", missing="drop", ignore=["d"])
    numpy.testing.assert_array_equal(dropped.X, [[1, 0, 1]])
    assert dropped.y.tolist() == [3]
    assert dropped.notes == ("3 rows with missing values were left out: 1 has no 'a', 1 has no 'b', 1 has no 'c'",)
    with pytest.raises(DataError, match="every row has a missing value"):
        from_frame(make({"a": [None, 1.5], "b": [1.5, None]}), missing="drop")
    with pytest.raises(DataError, match="from_frame, row 2: column 'a' holds inf, not a finite number"):
        from_frame(make({"a": [None, 1.0, numpy.inf]}), missing="drop")


def test_categories_that_are_listed_give_the_same_columns_of_other_rows(make):
    towns = ["Lima", "Rome", "Oslo"]
    table = from_frame(make(RAW), "price", ignore=["day"], categorical={"city": towns, "area": [30, 50, 70, 90]})
    assert table.feature_names == (
        *(f"area={n}" for n in (30, 50, 70, 90)),
        "city=Lima",
        "city=Oslo",
        "city=Rome",
        "new",
    )
    with pytest.raises(DataError, match="from_frame, row 1: column 'city' holds 'Oslo', which is none of its 1 cat"):
        from_frame(make(RAW), ignore=["day"], categorical={"city": ["Rome"]})


def test_categories_of_the_frame_itself():
    listed = pandas.Categorical(["u", "v", "u"], categories=["w", "v", "u"], ordered=True)
    for frame in (
        pandas.DataFrame({"c": listed}),
        polars.DataFrame({"c": polars.Series(["u", "v", "u"], dtype=polars.Enum(["w", "v", "u"]))}),
    ):
        assert from_frame(frame).feature_names == ("c=u", "c=v", "c=w")
    for series in (
        pandas.DataFrame({"c": pandas.Categorical(["u", "v", "u"])}),
        polars.DataFrame({"c": polars.Series(["u", "v", "u"], dtype=polars.Categorical)}),
        pyarrow.table({"c": pyarrow.array(["u", "v", "u"]).dictionary_encode()}),
    ):
        assert from_frame(series).X.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_numbers_as_classes(make):
    table = from_frame(make({"x": [1, 2, 3], "y": [10.0, 9.0, 10.0]}), "y", target_type="class")
    assert (table.classes, table.y.tolist()) == (("9", "10"), [1, 0, 1])
    frame = polars.DataFrame({"x": [1, 2], "y": ["1.50", "2.25"]}).with_columns(
        polars.col("y").cast(polars.Decimal(10, 2))
    )
    assert from_frame(frame, "y").y.tolist() == [1.5, 2.25]


def test_times_with_a_zone_are_the_same_instant():
    noon = datetime.datetime(2020, 1, 31, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    for make in MAKERS.values():
        table = from_frame(make({"t": [noon, noon]}), parse_dates=["t"])
        assert table.X.tolist() == [[1580464800.0]] * 2


def test_an_index_and_odd_names_do_not_matter():
    frame = pandas.DataFrame(numpy.arange(6.0).reshape(3, 2), index=[5, 5, 1])
    table = from_frame(frame, -1)
    assert (table.feature_names, table.target_name, table.y.tolist()) == (("0",), "1", [1, 3, 5])
    frame.columns = ["a", "a"]
    with pytest.raises(DataError, match="from_frame: .* column names.*'a'"):
        from_frame(frame)


@pytest.mark.parametrize(
    ("columns", "settings", "error", "message"),
    [
        (RAW, {"target": "prise"}, UnknownNameError, "unknown column 'prise'; known: area, city"),
        (RAW, {"target_type": "text"}, ParameterError, "from_frame: target_type must be"),
        (RAW, {"missing": "mean"}, ParameterError, "from_frame: missing must be"),
        (RAW, {"dtype": "int32"}, DtypeError, "from_frame: dtype must be floating, got int32"),
        (RAW, {}, DtypeError, r"column 'day' holds dates, .*; pass parse_dates=\['day'\] .* or ignore=\['day'\]"),
        (RAW, {"parse_dates": ["city"]}, DtypeError, "column 'city' holds .*, not dates"),
        (RAW, {"target": "city", "target_type": "number", "ignore": ["day"]}, DataError, "the target 'city' is text"),
        ({"a": []}, {}, DataError, "there are no rows|holds .*, neither"),
        ({"a": list("abc")}, {"max_categories": 2}, DataError, "column 'a' has 3 different texts"),
        ({"a": [1.0, 1e300]}, {}, DataError, r"from_frame, row 1: column 'a' holds 1e\+300, too large for float32"),
        (
            {"a": [datetime.timedelta(1)]},
            {},
            DtypeError,
            "column 'a' holds .*, neither numbers|several kinds|of no kind",
        ),
    ],
)
def test_what_is_refused(make, columns, settings, error, message):
    with pytest.raises(error, match=message):
        from_frame(make(columns), **settings)


def test_mixed_objects_lazy_frames_and_arrays_are_refused():
    with pytest.raises(DtypeError, match="column 'm' holds objects of several kinds, such as 1 and 'x'"):
        from_frame(pandas.DataFrame({"m": [1, "x", 2.5]}))
    with pytest.raises(DtypeError, match=r"LazyFrame holds no rows yet; call .collect\(\) first"):
        from_frame(polars.LazyFrame({"a": [1]}))
    with pytest.raises(DtypeError, match="expected a data frame, got a ndarray"):
        from_frame(numpy.ones((2, 2)))


def test_a_table_of_a_frame_trains():
    table = from_frame(polars.DataFrame(RAW), "price", ignore=["day"])
    dl.seed(0)
    model = dl.Sequential([dl.Linear(4, 1)])
    model.compile("adam", "mse")
    history = model.fit(table.X / 100, table.y / 100, epochs=20, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
