"""Reading CSV files."""

import gzip

import numpy
import pytest

from minidl.data import read_csv
from minidl.errors import DataError, DtypeError, FileFormatError, ParameterError, UnknownNameError


@pytest.fixture
def table(tmp_path):
    def read(content, *args, name="table.csv", **settings):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
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
    assert table(gzip.compress(b"a,b\n1,2\n", mtime=0), name="table.csv.gz").X.tolist() == [[1, 2]]


def test_columns_left_out_and_codes(table):
    found = table("id,code,x\n17,1,5\n18,2,6\n", ignore=["id"], categorical=[1])
    assert found.feature_names == ("code=1", "code=2", "x")


def test_text_can_become_codes(table):
    found = table("city,x,zip\nRome,1,7\nOslo,2,8\nRome,3,8\n", text="codes", categorical=["zip"])
    assert found.feature_names == ("city", "x", "zip")
    numpy.testing.assert_array_equal(found.X, [[1, 1, 0], [0, 2, 1], [1, 3, 1]])
    assert found.categories == {0: ("Oslo", "Rome"), 2: ("7", "8")}
    assert [column.taken_for for column in found.columns] == ["text, 2 codes", "number", "text, 2 codes"]
    assert table("city\nRome\n").categories == {}


def test_codes_that_a_dtype_cannot_hold(table):
    text = "code\n" + "".join(f"c{number}\n" for number in range(3000))
    with pytest.raises(DataError, match="column 'code' has more codes, 3000, than float16 can hold"):
        table(text, text="codes", max_categories=5000, dtype="float16")


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
    whole = gzip.compress(b"a,b\n1,2\n3,4\n", mtime=0)
    for length in range(len(whole)):
        with pytest.raises(FileFormatError):
            table(whole[:length], name="cut.csv.gz")


# how numbers are written ---------------------------------------------------------------------------------------------


def kinds(found):
    return {column.name: column.taken_for for column in found.columns}


@pytest.mark.parametrize("name", ["table.csv.gz", "table.CSV.GZ", "TABLE.Gz", "table.csv"])
def test_compressed_whatever_the_name(table, name):
    assert table(gzip.compress(b"a,b\n1,2\n", mtime=0), name=name).X.tolist() == [[1, 2]]


def test_a_decimal_comma_is_read_when_asked_for(table):
    text = "h;w;y\n1,75;70,5;3,5\n1,80;82;4,5\n-1,5e1;,25;5,25\n"
    found = table(text, "y", delimiter=";", decimal=",", dtype="float64")
    assert found.X.tolist() == [[1.75, 70.5], [1.8, 82], [-15, 0.25]]
    assert found.y.tolist() == [3.5, 4.5, 5.25]


@pytest.mark.parametrize(
    ("cells", "asked"),
    [
        (["1,75", "1,80"], r"pass decimal=',' for a number"),
        (["1,234", "5,678"], r"pass decimal=',' or thousands=',' for a number"),
        (["1,234.5", "5,678.25"], r"pass thousands=',' for a number"),
        (["1.234,5", "5.678,25"], r"pass decimal=',', thousands='\.' for a number"),
        (["1 234", "5 678"], r"thousands=' ' for a number"),
        (["$1,234.50", "$2,000.00"], r"pass thousands=',' for a number"),
        (["12,5%", "13,5%"], r"pass decimal=',' for a number"),
    ],
)
def test_numbers_in_other_notations_are_not_guessed(table, cells, asked):
    text = "a;b\n" + "".join(f"{cell};1\n" for cell in cells)
    with pytest.raises(
        DataError, match=rf"line 2: column 'a' holds .* another notation or text; .*{asked}.*, or categ"
    ):
        table(text, delimiter=";")
    assert table(text, delimiter=";", categorical=["a"]).X.shape == (2, 3)
    with pytest.raises(DataError, match=r"or target_type='class' for text"):
        table(text, "a", delimiter=";")
    assert len(table(text, "a", delimiter=";", target_type="class").classes) == 2


def test_one_number_in_another_notation(table):
    with pytest.raises(
        DataError, match=r"line 3: column 'a' holds '1,234.5' \(perhaps with thousands=','\), but a number"
    ):
        table('a\n7\n"1,234.5"\n')
    with pytest.raises(DataError, match=r"line 2: column 'a' holds '1\.5' \(perhaps with decimal='.'\), but a number"):
        table("a\n1.5\n7\n", decimal=",")


@pytest.mark.parametrize(
    ("cell", "settings", "value"),
    [
        ("1,234,567.5", {"thousands": ","}, 1234567.5),
        ("-1.234.567,5", {"thousands": ".", "decimal": ","}, -1234567.5),
        ("1 234", {"thousands": " "}, 1234),
        ("1\u00a0234,5", {"thousands": " ", "decimal": ","}, 1234.5),
        ("1\u202f234", {"thousands": " "}, 1234),
        ("1'234", {"thousands": "'"}, 1234),
        ("1234", {"thousands": ","}, 1234),
        ("\u221212.5", {}, -12.5),
        ("$5", {}, 5),
        ("-$5.5", {}, -5.5),
        ("$-5.5", {}, -5.5),
        ("€ 5", {}, 5),
        ("5 €", {}, 5),
        ("5,5€", {"decimal": ","}, 5.5),
        ("£1,234", {"thousands": ","}, 1234),
        ("12%", {}, 0.12),
        ("12.5 %", {}, 0.125),
        ("1.234,5 %", {"thousands": ".", "decimal": ","}, 12.345),
    ],
)
@pytest.mark.parametrize("gap", [False, True])
def test_numbers_in_many_notations(table, cell, settings, value, gap):
    rows = [cell, *([""] if gap else []), cell] * 2
    found = table(
        "a|b\n" + "".join(f"{row}|1\n" for row in rows), delimiter="|", missing="drop", dtype="float64", **settings
    )
    assert found.X[:, 0].tolist() == [value] * 4


@pytest.mark.parametrize("cell", ["1,23", "12,34,567", "1,2345", ",123", "1,,234", "$", "%", "$5$", "5%%", "$%"])
def test_what_is_no_number_with_thousands(table, cell):
    found = table(f"a|b\n{cell}|1\nx|2\n", delimiter="|", thousands=",")
    assert found.feature_names[:-1] == tuple(sorted((f"a={cell}", "a=x")))


def test_the_report_says_what_was_taken_for_what(table):
    found = table("p,m,f,c,y\n5%,$2,true,x,1\n6%,$3,False,y,2\n", "y", ignore=["c"])
    assert kinds(found) == {
        "p": "per cent", "m": "currency $", "f": "boolean", "c": "left out", "y": "target: number",
    }  # fmt: skip
    assert found.columns[0].reason == "every value is like 5% on line 2, which is 0.05"
    assert found.columns[1].reason == "every value is like $2 on line 2, which is 2"
    lines = found.report.splitlines()
    assert lines[0].split() == ["column", "taken", "for", "because"]
    assert lines[-1] == "note: the first row is the header: no cell in it is a number"
    assert len(lines) == 7


@pytest.mark.parametrize("pair", [("5%", "6"), ("$5", "6"), ("$5", "€6"), ("5%", "$6"), ("true", "1"), ("2%", "full")])
def test_columns_of_two_kinds(table, pair):
    with pytest.raises(
        DataError, match=r"line \d: column 'a' holds .* on line \d; correct the file, or pass categorical"
    ):
        table(f"a,b\n{pair[0]},1\n{pair[1]},2\n")
    with pytest.raises(DataError, match=r"line \d: column 'a' holds"):
        table(f"a,b\n{pair[1]},1\n{pair[0]},2\n")
    assert table(f"a,b\n{pair[0]},1\n{pair[1]},2\n", categorical=["a"]).X.shape == (2, 3)


def test_kinds_that_change_after_many_rows(table):
    with pytest.raises(DataError, match=r"line 3002: column 'a' holds 'x', but a number on line 2"):
        table("a,b\n" + "1,1\n" * 3000 + "x,1\n")
    late = "a,b\n" + ",1\n" * 3000 + "x,1\n"
    assert table(late, missing="fill").feature_names == ("a=x", "b")
    with pytest.raises(DataError, match="line 2: column 'a' has no value"):
        table(late)
    assert table(late.replace("x", "5"), missing="fill").X[:, 0].tolist() == [5] * 3001


def test_booleans_in_any_case(table):
    found = table("f,y\ntrue,True\nTRUE,FALSE\nfalse,true\n", "y")
    assert found.X.tolist() == [[1], [1], [0]]
    assert (found.classes, found.y.tolist()) == (("False", "True"), [1, 0, 1])
    assert table("f,y\n1,true\n2,false\n", "y", target_type="number").y.tolist() == [1, 0]
    assert table("f\ntrue\nmaybe\nTRUE\n").feature_names == ("f=TRUE", "f=maybe", "f=true")


# missing values ------------------------------------------------------------------------------------------------------


def test_which_texts_are_missing_can_be_chosen(table):
    text = "country,y\nNA,1\nDE,2\nNone,3\n"
    for settings in ({"missing_values": ("",)}, {"keep_default_na": False}):
        assert table(text, "y", missing="drop", **settings).feature_names == (
            "country=DE",
            "country=NA",
            "country=None",
        )
    assert len(table(text, "y", missing="drop", keep_default_na=False, na_values="None").X) == 2
    assert len(table(text, "y", missing="drop", keep_default_na=False, na_values=["none"]).X) == 3


def test_missing_numbers(table):
    text = "a,b\n-999,-999\n1,2\n-999.0,4\n"
    assert table(text, na_values=-999, missing="drop").X.tolist() == [[1, 2]]
    assert table(text, na_values={"b": [-999]}, missing="drop").X.tolist() == [[1, 2], [-999, 4]]
    assert table(text, na_values={0: "-999"}, missing="drop").X.tolist() == [[1, 2]]
    with pytest.raises(UnknownNameError):
        table(text, na_values={"c": [1]})


# headers -------------------------------------------------------------------------------------------------------------


def test_an_index_as_pandas_writes_it(table):
    found = table(",a,y\n0,1.5,0\n1,2.5,1\n", "y")
    assert (found.feature_names, found.y.tolist()) == (("a",), [0, 1])
    assert kinds(found)[""] == "left out"
    assert table('"","a"\n"x",1\n"y",2\n').feature_names == ("a",)
    assert table(",a\nx,1\ny,2\n", categorical=[0]).X.shape == (2, 3)
    twice = table(",Unnamed: 0,a\n5,0,2\n3,1,3\n")
    assert (twice.feature_names, kinds(twice)["Unnamed: 0"]) == (("a",), "left out")
    assert table("Unnamed: 0,a\n5,2\n3,3\n").feature_names == ("Unnamed: 0", "a")


def test_lines_that_end_in_the_delimiter(table):
    assert table("a,b,\n1,2,\n3,4,\n").feature_names == ("a", "b")


@pytest.mark.parametrize("first", ["0,1,2", "2019,2020,2021", "city,2019,2020", "x,0,1", "a,b,1999"])
def test_headers_of_numbers_are_asked_about(table, first):
    text = f"{first}\n4.5,5.5,6.5\n"
    with pytest.raises(DataError, match="may hold names or values; pass header=True or header=False"):
        table(text)
    assert table(text, header=True).feature_names == tuple(first.split(","))


@pytest.mark.parametrize(
    "text", ["1,2,3\n4,5,6\n", "0,1\n0,1\n5,5\n", "2001,5\n2002,6\n", "Rome,50\nOslo,70\n", "0\n1\n"]
)
def test_numbers_that_are_no_header(table, text):
    found = table(text)
    assert found.feature_names[-1] == str(text.split("\n")[0].count(","))
    assert "there is no header" in found.notes[0]


def test_the_delimiter_is_asked_about(table):
    with pytest.raises(FileFormatError, match="single column; the first line holds ';': if that .* pass delimiter=';'"):
        table("a;b\n1;2\n")
    with pytest.raises(
        FileFormatError, match="line 2: expected 1 values, as on line 1, got 3; the first line holds ';'"
    ):
        table("a;b\n1,5;2,5\n")
    with pytest.raises(FileFormatError, match=r"the first line holds '\\t'"):
        table("a\tb\n1\t2\n")
    assert table("note\nx;y\nz\n").X.shape == (2, 2)


# dates ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", ["2020-01-31", "2020-01-31 12:30", "2020-01-31T12:30:00Z", "31/01/2020", "31.1.2020",
                                 "2020/01/31", "5 May 2020", "May 5, 2020", "1/31/20"])  # fmt: skip
def test_dates_are_refused_unless_asked_for(table, day):
    text = f"d|y\n{day}|1\n{day}|2\n"
    with pytest.raises(
        DataError, match=r"line 2: column 'd' holds dates, such as .*ignore=\['d'\].*parse_dates=\['d'\]"
    ):
        table(text, "y", delimiter="|")
    assert table(text, "y", delimiter="|", categorical=["d"]).feature_names == (f"d={day}",)


def test_dates_become_seconds(table):
    text = "d,y\n1970-01-02,1\n1970-01-01 00:00:01,2\n"
    found = table(text, parse_dates=["d"])
    assert found.X[:, 0].tolist() == [86400, 1]
    assert kinds(found)["d"] == "date"
    zoned = table("d,y\n1970-01-01T02:00:00+02:00,1\n1970-01-01T00:00:05Z,2\n", parse_dates=[0])
    assert zoned.X[:, 0].tolist() == [0, 5]
    assert table("d\n02/01/1970\n", parse_dates=["d"], date_format="%d/%m/%Y").X.tolist() == [[86400]]
    assert table("d,y\n1970-01-02,1\n,2\n", parse_dates=["d"], missing="drop").X.tolist() == [[86400, 1]]
    assert table("x,d\n1,1970-01-02\n", "d", parse_dates=["d"]).y.tolist() == [86400]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["31/01/2020"], r"line 2: .* holds '31/01/2020', not a date as ISO 8601 writes it; pass date_format"),
        (["1970-01-02", "soon"], r"line 3: .* holds 'soon', not a date"),
        (["1970-01-02", "1970-01-02T00:00:00Z"], r"line 3: .* \(date\) on line 2"),
    ],
)
def test_dates_that_cannot_be_read(table, cells, message):
    with pytest.raises(DataError, match=message):
        table("d\n" + "".join(f"{cell}\n" for cell in cells), parse_dates=["d"])


# digits --------------------------------------------------------------------------------------------------------------


def test_whole_numbers_keep_their_digits(table):
    found = table("t,x\n1700000000,1\n1700000001,2\n")
    assert (found.X.dtype, found.X[:, 0].tolist()) == (numpy.float64, [1_700_000_000, 1_700_000_001])
    assert found.notes[-1].startswith("X is float64, because column 't' holds whole numbers above 2^24")
    assert table("t\n1700000000.5\n1700000001.5\n").X.dtype == numpy.float64
    assert table("t\n16777216\n1\n0.1\n").X.dtype == numpy.float32
    assert table("t\n1700000000\n1700000001\n", dtype="float32").X.dtype == numpy.float32
    target = table("x,t\n1,1700000000\n2,1700000001\n", "t")
    assert (target.X.dtype, target.y.dtype) == (numpy.float32, numpy.float64)
    assert "rounded to 53 bits" in table("t\n1700000000123456789\n5\n").columns[0].reason


def test_leading_zeros_are_reported(table):
    found = table("zip,x\n01234,0\n20121,0.5\n")
    assert "leading zeros, such as 01234: are they codes" in found.columns[0].reason
    assert "zeros" not in found.columns[1].reason


# files ---------------------------------------------------------------------------------------------------------------


def test_blanks_before_quotes(table):
    found = table('a, b, y\n"x", "p, q", 1\n"z", "r, s", 2\n', "y")
    assert found.feature_names == ("a=x", "a=z", "b=p, q", "b=r, s")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252", "utf-32"])
def test_encodings(table, encoding):
    found = table("a,ä\n1,2\n".encode(encoding), encoding=encoding)
    assert found.feature_names == ("a", "ä")


def test_a_byte_order_mark_is_no_part_of_a_name(table):
    assert table(b"\xef\xbb\xbfa,b\n1,2\n", encoding="utf-8").feature_names == ("a", "b")


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_ends_of_lines(table, ends):
    assert table(ends.join(["a,b", "1,2", "   ", "", "3,4"])).X.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("a,b\n1,2\n".encode("utf-16"), FileFormatError, "byte 0 is not text .* pass encoding='utf-16'"),
        (b"x" * 70_000 + b"\xff", FileFormatError, "byte 70000 is not text"),
        (gzip.compress(b"a,b\n1,\xff\n", mtime=0), FileFormatError, "byte 6 is not text"),
        (b"PK\x03\x04....", FileFormatError, "a zip file; convert it"),
        (b"a,b\n1,\x002\n", FileFormatError, "zero bytes"),
        (b'a,b\n1,"' + b"x" * 200_000 + b'"\n', FileFormatError, "field larger"),
    ],
)
def test_files_that_are_no_text(table, content, error, message):
    with pytest.raises(error, match=message):
        table(content)


def test_an_endless_line_does_not_fill_the_memory(table):
    with pytest.raises(FileFormatError, match="a line has 16777216 characters or more"):
        table(gzip.compress(b"1" * (1 << 25), compresslevel=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"decimal": ""}, {"decimal": "::"}, {"decimal": "5"}, {"decimal": None}, {"thousands": "e"}, {"thousands": "."},
        {"encoding": "klingon"}, {"delimiter": "\n"}, {"delimiter": '"'},
    ],
)  # fmt: skip
def test_more_arguments_outside_their_range(table, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        table("x,y\n1,2\n", **wrong)


def test_lines_are_named_after_quoted_line_ends_and_dropped_rows(table):
    text = 'a,b\n"x\ny",1\n"x\ny",\n\n"x\ny",2\n"x\ny",inf\n'
    with pytest.raises(DataError, match="line 9: column 'b' holds 'inf'"):
        table(text, missing="drop")
    with pytest.raises(DataError, match="line 9: column 'b' holds 1e.39, too large"):
        table(text.replace("inf", "1e39"), missing="drop")
    note = table(text.replace("inf", "3"), missing="drop").notes[-1]
    assert note.startswith("1 row with missing values was left out: 1 has no ")


def test_memory_stays_near_the_size_of_the_file(table, tmp_path):
    import tracemalloc

    numbers = numpy.random.default_rng(0).normal(size=(40_000, 8))
    rows = "\n".join(",".join(f"{value:.6f}" for value in row) for row in numbers.tolist())
    path = tmp_path / "large.csv"
    path.write_text(",".join("abcdefgh") + "\n" + rows + "\n")
    tracemalloc.start()
    try:
        read_csv(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * path.stat().st_size
