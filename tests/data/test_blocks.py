"""Blocks of a CSV file that are read in bulk: the same cells as the csv module's, and the same bits as ``float``'s."""

import csv
import random

import numpy
import pytest

from minidl.data import blocks, read_csv, table
from minidl.data.blocks import split_block
from minidl.errors import MinidlError


def bits(values):
    return numpy.asarray(values, dtype=numpy.float64).view(numpy.int64).tolist()


def column(cells):
    return split_block([f"{cell},\n" for cell in cells], 2, ",")[0]


def test_cells_and_numbers():
    a, b, c = split_block(["1,x y,\n", "-2.50,é,3\n", "+.5,,4."], 3, ",")
    assert bits(a.values) == bits([1, -2.5, 0.5])
    assert (b.values, c.values) == (None, None)
    assert (list(a), list(b), list(c)) == (["1", "-2.50", "+.5"], ["x y", "é", ""], ["", "3", "4."])
    assert (b[1], len(b), a.zeros) == ("é", 3, False)
    assert [list(cells) for cells in split_block(["a\tb\r\n", "c\t\r\n"], 2, "\t")] == [["a", "c"], ["b", ""]]
    assert split_block([",\n"] * 3, 2, ",")[0].values is None


@pytest.mark.parametrize(
    "lines",
    [['"a",b\n'], ["a\n"], ["a,b,c\n", "d\n"], ["a,b\n", "\n"], ["a,b\r", "c,d\r"], ["a" * (1 << 17) + ",b\n"]],
)
def test_what_the_csv_module_must_read(lines):
    assert split_block(lines, 2, ",") is None


def test_a_single_column_may_have_blank_lines():
    assert split_block(["1\n", "2\n"], 1, ",") is None
    assert split_block(["1–2\n"], 2, "–") is None


def test_numbers_have_the_bits_of_float():
    g = random.Random(0)
    cells = ["0", "-0", "0.1", "9007199254740993", "9007199254740992.5", "0.30000000000000004", "999999999999999999"]
    cells += ["4503599627370496.5", "4503599627370497.5", "1.00000000000000011", "1.00000000000000012", "-.5", "3."]
    cells += [repr(g.gauss(0, 1)) for _ in range(3000)]
    cells += [f"{g.uniform(-1, 1) * 10 ** g.randint(0, 9):.{g.randint(0, 8)}f}" for _ in range(3000)]
    for _ in range(3000):
        digits = str(g.randrange(10**17, 10**18))
        at = g.randrange(18)
        cells.append(f"{digits[:at]}.{digits[at:]}")
    for _ in range(500):  # in the middle between two numbers, or next to it
        k = g.randrange(2**52, 2**53)
        cells += [f"{k // 2}.{'5' if k % 2 else '0'}{tail}" for tail in ("", "0")]
        cells.append(str(2 * k + 2**54 + g.randrange(3)))
    found = column(cells)
    assert bits(found.values) == bits([float(cell) for cell in cells])


def test_long_divisions_are_certain_nearly_always():
    g = numpy.random.default_rng(0)
    whole = g.integers(2**53, 10**18, 20_000)
    power = 10.0 ** g.integers(0, 19, 20_000)
    values, certain = blocks._divide(whole, power)
    assert certain.mean() > 0.98  # whole numbers that need no rounding, and ties, are among the others
    expected = [int(a) / int(b) for a, b in zip(whole, power, strict=True)]  # Python divides with one rounding
    assert bits(values[certain]) == bits(numpy.array(expected)[certain])


def test_other_forms_of_numbers_are_left_to_python():
    plain = ["1.5"] * 30
    assert bits(column([*plain, "1e-5", "2E3", "12345678901234567890123"]).values)[-3:] == bits(
        [1e-5, 2e3, 12345678901234567890123.0]
    )
    for odd in ("1_000", " 07", "x", "", "1.2.3", "+-1", "-", ".", "0x1", "1-2"):
        assert column([*plain, odd]).values is None, odd
    assert column([*plain, *["1e-5"] * 10]).values is None
    assert [column([cell]).zeros for cell in ("007", "-01.5", "0.5", "0", "-0")] == [True, True, False, False, False]


KINDS = {
    "number": lambda g: f"{g.gauss(0, 10):.{g.randint(0, 5)}f}",
    "exact": lambda g: repr(g.gauss(0, 10)),
    "zeros": lambda g: f"{g.randrange(1000):04}",
    "gaps": lambda g: g.choice(["1", "2.5", "NA", "", " 3", "1e3"]),
    "per cent": lambda g: f"{g.randrange(100)}%",
    "text": lambda g: g.choice(["a", " b", "NA", "Zürich", "-", ""]),
    "quoted": lambda g: g.choice(["a", '"b,\n c"', '"d ""e"""']),
    "truth": lambda g: g.choice(["true", "FALSE"]),
    "broken": lambda g: g.choice(["1"] * 400 + ["x", "inf", "2,3"]),
}


@pytest.mark.parametrize("seed", range(12))
def test_tables_are_the_same_as_with_the_csv_module_alone(seed, tmp_path, monkeypatch):
    g = random.Random(seed)
    monkeypatch.setattr(table, "BLOCK", 64)
    kinds = [g.choice([*KINDS][: 6 if seed % 3 else 9]) for _ in range(4)]
    end = g.choice(["\n", "\r\n"])
    rows = [
        ",".join([f"c{k}" for k in range(5)]),
        *(",".join([*(KINDS[kind](g) for kind in kinds), str(g.randrange(9))]) for _ in range(400)),
    ]
    if seed % 4 == 3:
        rows.insert(200, "")
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(rows).encode() + (b"" if seed % 2 else end.encode()))

    def read(missing):
        try:
            found = read_csv(path, "c4", missing=missing)
        except MinidlError as error:
            return str(error)
        return found.X.tolist(), found.X.dtype, found.y.tolist(), found.feature_names, found.report

    fast = [read(missing) for missing in ("error", "drop", "fill")]
    monkeypatch.setattr(table, "split_block", lambda *arguments: None)
    assert [read(missing) for missing in ("error", "drop", "fill")] == fast


def test_a_quoted_cell_that_crosses_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "BLOCK", 64)
    rows = ["a,b", *["1,x"] * 100, '2,"y\n' + "\n" * 200 + 'z"', *["3,x"] * 100, "4"]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(MinidlError, match="line 404: expected 2 values, as on line 1, got 1"):
        read_csv(path)
    path.write_text("\n".join(rows[:-1]))
    assert read_csv(path).X[:, 0].tolist() == [1] * 100 + [2] + [3] * 100
    with path.open(newline="") as file:
        assert len(list(csv.reader(file))) == 202
