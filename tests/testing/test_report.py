"""Reports: the verdict, the data, the table."""

import json
import math

import pytest

from minidl.errors import GradcheckError
from minidl.testing import Report, Row

GOOD = Row("relu (ordinary)", "x", (3, 4), (1, 2), 1.0, 1.0, 2e-11, 1e-8, "full, differences", engine="numpy")
BETTER = Row("relu (odd)", "x", (7,), (1,), 1.0, 1.0, 1e-12, 1e-8, "full, differences", engine="numpy")
BAD = Row("tanh", "x", (2,), (1,), 2.0, 1.0, 0.5, 1e-8, "full, differences", engine="numpy", problem="Twice too much.")
STRUCTURE = Row("tanh", "dy", problem="backward changes it.")


def test_verdict():
    assert Report((GOOD,)).ok
    assert not Report((GOOD, BAD)).ok
    assert not Report(()).ok, "a report of nothing has proved nothing"
    assert Report((GOOD, BAD)).max_error == 0.5
    assert GOOD.used == pytest.approx(2e-3)
    assert STRUCTURE.used == 0


def test_check_raises_with_the_worst_first():
    report = Report((STRUCTURE, GOOD, BAD))
    with pytest.raises(GradcheckError, match=r"tanh, argument 'x'.*Twice too much.*and 1 more") as caught:
        report.check()
    assert caught.value.report is report
    assert Report((GOOD,)).check().ok


def test_worst_keeps_one_row_of_each_op_and_never_loses_a_failure():
    assert Report((BETTER, GOOD)).worst().table == (GOOD,)
    assert Report((GOOD, BETTER)).worst().table == (GOOD,)
    failed = Row("relu (one)", "x", method="full, differences", engine="numpy", problem="It is not finite.")
    assert Report((GOOD, failed, BETTER)).worst().table == (failed,)


def test_joined():
    joined = Report.joined([Report((GOOD,), ("a note",)), Report((BAD,), ("a note", "another"))])
    assert joined.table == (GOOD, BAD)
    assert joined.notes == ("a note", "another")


def test_data_is_ready_for_json():
    rows = Report((GOOD, BAD)).rows()
    assert json.loads(json.dumps(rows))[1]["problem"] == "Twice too much."
    assert [row["ok"] for row in rows] == [True, False]


def test_table():
    text = str(Report((GOOD, BAD, STRUCTURE), ("note: something.",)))
    lines = text.splitlines()
    assert lines[0].split() == [
        "op",
        "argument",
        "shape",
        "worst",
        "at",
        "analytic",
        "numeric",
        "rel.",
        "error",
        "tolerance",
        "how",
    ]
    assert lines[1].startswith("relu (ordinary) on numpy")
    assert lines[1].endswith("ok")
    assert "1x2" in lines[1]
    assert lines[2].endswith("FAILED")
    assert "note: something." in lines
    assert lines[-1] == "gradcheck FAILED: 3 checked, 2 failed, largest relative error 5.0e-01"
    assert len({line.index("x") for line in lines[1:2]}) == 1
    one = str(Report((GOOD, BETTER)))
    assert one.splitlines()[-1] == "gradcheck ok on the engine numpy: 2 checked, largest relative error 2.0e-11"
    assert " on numpy" not in one.splitlines()[1]


def test_not_a_number_is_shown():
    row = Row("op", "x", (1,), (0,), math.nan, 1.0, math.inf, 1e-8, "full, differences", problem="It is not finite.")
    assert "nan" in str(Report((row,)))
    assert "inf" in row.sentence()
