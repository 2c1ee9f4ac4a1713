"""Reading CSV files."""

import gzip

import numpy
import pytest

from minidl.data import read_csv
from minidl.errors import DataError, DtypeError, FileFormatError, ParameterError, UnknownNameError


@pytest.fixture
def table(tmp_path):
    def read(text, *args, name="table.csv", **settings):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_csv(path, *args, **settings)

    return read


def test_numbers_and_text(table):
    found = table("area, city ,price\n50,Rome,200\n-7.5e1, Oslo ,310.5\n60,Rome,0\n", "price")
    assert found.feature_names == ("area", "city=Oslo", "city=Rome")
    numpy.testing.assert_array_equal(found.X, [[50, 0, 1], [-75, 1, 0], [60, 0, 1]])
    numpy.testing.assert_array_equal(found.y, [200, 310.5, 0])
    assert found.X.dtype == found.y.dtype == numpy.float32
    assert (found.target_name, found.classes) == ("price", None)
    assert repr(found) == "<Table: 3 examples, 3 features, target 'price'>"


def test_text_targets_are_classes(table):
    found = table("x,kind\n1,b\n2,a\n3,b\n", "kind")
    assert found.classes == ("a", "b")
    numpy.testing.assert_array_equal(found.y, [1, 0, 1])
    assert found.y.dtype == numpy.int64
    assert repr(found) == "<Table: 3 examples, 1 features, target 'kind' of 2 classes>"


def test_numeric_targets_can_be_classes(table):
    found = table("x,kind\n1,10\n2,9.0\n3,10.0\n", "kind", target_type="class")
    assert found.classes == ("9", "10")
    numpy.testing.assert_array_equal(found.y, [1, 0, 1])


def test_mixed_classes(table):
    found = table("x,size\n1,38\n2,XL\n3,38\n", "size", target_type="class")
    assert found.classes == ("38", "XL")


def test_without_a_target(table):
    found = table("a,b\n1,2\n3,4\n")
    assert found.y is None
    numpy.testing.assert_array_equal(found.X, [[1, 2], [3, 4]])


@pytest.mark.parametrize("target", [2, -1, "2"])
def test_without_a_header(table, target):
    found = table("1,2,3\n4,5,6\n", target)
    assert found.feature_names == ("0", "1")
    numpy.testing.assert_array_equal(found.y, [3, 6])


def test_a_header_can_be_insisted_on(table):
    assert table("1,2\n3,4\n", header=True).feature_names == ("1", "2")
    assert table("a,b\nc,d\n", header=False).X.shape == (2, 4)
    assert table("a,b\nc,d\n").X.shape == (1, 2)


def test_quotes_delimiters_blank_lines_and_crlf(table):
    found = table('a;"b;c"\r\n\r\n1;"x\ny"\r\n2;"q""q"\r\n', delimiter=";")
    assert found.feature_names == ("a", 'b;c=q"q', "b;c=x\ny")


def test_byte_order_mark_and_other_encodings(table):
    assert table(b"\xef\xbb\xbfa,b\n1,2\n").feature_names == ("a", "b")
    assert table("a,ä\n1,2\n".encode("latin-1"), encoding="latin-1").feature_names == ("a", "ä")


def test_compressed(table):
    assert table(gzip.compress(b"a,b\n1,2\n"), name="table.csv.gz").X.tolist() == [[1, 2]]


def test_columns_left_out_and_codes(table):
    found = table("id,code,x\n17,1,5\n18,2,6\n", ignore=["id"], categorical=[1])
    assert found.feature_names == ("code=1", "code=2", "x")


def test_missing_values(table):
    text = "x,city,y\n1,Rome,1\n,Oslo,2\n4,,3\n4, NA ,4\nnan,Oslo,5\n"
    with pytest.raises(DataError, match=r"line 3: column 'x' has no value; pass missing='drop'"):
        table(text, "y")
    dropped = table(text, "y", missing="drop")
    numpy.testing.assert_array_equal(dropped.X, [[1, 1]])
    filled = table(text, "y", missing="fill")
    numpy.testing.assert_array_equal(filled.X, [[1, 0, 1], [3, 1, 0], [4, 1, 0], [4, 1, 0], [3, 1, 0]])


def test_missing_values_in_ignored_columns_do_not_matter(table):
    assert len(table("x,note\n1,\n2,a\n", ignore=["note"], missing="drop").X) == 2


def test_the_most_frequent_text_is_the_first_of_several(table):
    found = table("c,x\nb,1\na,2\n?,3\n", missing="fill")
    numpy.testing.assert_array_equal(found.X[2], [1, 0, 3])


@pytest.mark.parametrize("missing", ["error", "fill"])
def test_a_missing_target_is_never_made_up(table, missing):
    with pytest.raises(DataError, match=r"line 3: the target 'y' is missing"):
        table("x,y\n1,2\n3,\n", "y", missing=missing)
    assert len(table("x,y\n1,2\n3,\n", "y", missing="drop").X) == 1


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", FileFormatError, "empty"),
        ("\n\n", FileFormatError, "empty"),
        ("a,b\n", DataError, "no row"),
        ("a,b\n1,2\n3\n", FileFormatError, r"line 3: expected 2 values, as on line 1, got 1"),
        ("a,b\n1,2\n\n3,4,5\n", FileFormatError, r"line 4: .* got 3"),
        ('a,b\n"x\ny",2\n3\n', FileFormatError, "line 4"),
        ('a,b\n1,"2\n3,4\n', FileFormatError, "line 2"),
        ("a,a\n1,2\n", FileFormatError, "two columns are named 'a'"),
        ("a,b\n1,2\n3,x\n4,5\n", DataError, r"line 3: column 'b' holds 'x', but a number on line 2"),
        ("a,b\n1,x\n3,5\n", DataError, r"line 2: column 'b' holds 'x', but a number on line 3"),
        ("a,b\n1,2\n3,inf\n", DataError, r"line 3: column 'b' holds 'inf'"),
        ("a,b\n1,2\n3,1e39\n", DataError, r"line 3: column 'b' holds 1e\+39, too large for float32"),
        ("a,b\n1,2\n3,1_000\n", DataError, "line 3: column 'b' holds '1_000'"),
        ("a,b\n,2\n,3\n", DataError, "column 'a' is empty"),
    ],
)
def test_files_that_are_no_table(table, text, error, message):
    with pytest.raises(error, match=message):
        table(text, missing="error")


def test_a_column_with_nothing_in_it_cannot_be_filled(table):
    with pytest.raises(DataError, match="column 'a' is empty"):
        table("a,b\n,2\n,3\n", missing="fill")
    with pytest.raises(DataError, match="column 'a' is empty"):
        table("a,b\n,2\n,3\n", missing="fill", categorical=["a"])
    with pytest.raises(DataError, match="every row"):
        table("a,b\n,2\n,3\n", missing="drop")


def test_identifiers_are_no_categories(table):
    text = "name,x\n" + "".join(f"n{i},{i}\n" for i in range(6))
    with pytest.raises(DataError, match=r"6 different texts, such as 'n0'; leave it out with ignore=\['name'\]"):
        table(text, max_categories=5)
    assert table(text, max_categories=6).X.shape == (6, 7)


def test_text_is_no_numeric_target(table):
    with pytest.raises(DataError, match="'y' is text, such as 'a'"):
        table("x,y\n1,a\n", "y", target_type="number")


def test_a_target_and_nothing_else(table):
    with pytest.raises(DataError, match="no column to use"):
        table("x,y\n1,2\n", "y", ignore=["x"])


@pytest.mark.parametrize("column", ["z", 2, -3, 1.5, True])
def test_columns_that_are_not_there(table, column):
    with pytest.raises(UnknownNameError, match=r"unknown column .*; known: x, y"):
        table("x,y\n1,2\n", column)
    with pytest.raises(UnknownNameError, match="unknown column"):
        table("x,y\n1,2\n", ignore=[column])


@pytest.mark.parametrize(
    "wrong", [{"missing": "mean"}, {"target_type": "label"}, {"delimiter": "::"}, {"delimiter": ""}]
)
def test_arguments_outside_their_range(table, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        table("x,y\n1,2\n", **wrong)


def test_only_floating_dtypes(table):
    assert table("x,y\n1,2\n", "y", dtype="float64").y.dtype == numpy.float64
    with pytest.raises(DtypeError):
        table("x,y\n1,2\n", dtype="int32")


def test_not_text(table):
    with pytest.raises(
        FileFormatError, match="byte 4 is not text in the encoding 'utf-8-sig'; pass encoding='latin-1'"
    ):
        table("x,y,é\n1,2,3\n".encode("latin-1"))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "nothing.csv")


def test_any_cut_of_a_compressed_file_is_noticed(table):
    whole = gzip.compress(b"a,b\n1,2\n3,4\n")
    for length in range(len(whole)):
        with pytest.raises(FileFormatError):
            table(whole[:length], name="cut.csv.gz")
