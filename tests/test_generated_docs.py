"""docs/generate_tables.py: what it finds in docstrings and what it reports."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def generate(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import generate_tables

    yield generate_tables
    sys.modules.pop("generate_tables")


def backward(text):
    def function(dy, cache): ...

    function.__doc__ = text
    return function


def formulas(doc, forward=lambda x, weight: None):
    forward.__module__ = "minidl.ops.linear"
    return {"thing": forward, "thing_backward": backward(doc)}


DOC = """Return the gradients of x and weight.

    In prose dx = something, in TeX :math:`dx = 2`. Then::

        dx_nc = sum_o dy_no w_oc
        dweight = dy^T x

    Notes
    -----
        dx = what comes later does not count
    """


def test_the_first_block_that_defines_the_gradient(generate, monkeypatch):
    monkeypatch.setattr(generate, "FORMULAS", formulas(DOC))
    assert generate.derivatives("thing") == ["dx_nc = sum_o dy_no w_oc", "dweight = dy^T x"]
    lines, missing = generate.all_derivatives()
    assert lines[3:5] == ["thing  dx_nc = sum_o dy_no w_oc", "       dweight = dy^T x"]
    assert missing == []


def test_the_gradient_of_the_first_argument_whatever_its_name(generate, monkeypatch):
    doc = "Return it::\n\n    dlogits = dloss (p - q)\n"
    monkeypatch.setattr(generate, "FORMULAS", formulas(doc, lambda logits, target: None))
    assert generate.derivatives("thing") == ["dlogits = dloss (p - q)"]
    monkeypatch.setattr(generate, "FORMULAS", formulas(doc))
    assert generate.derivatives("thing") == []


def test_an_op_without_a_block_is_named(generate, monkeypatch):
    monkeypatch.setattr(generate, "FORMULAS", formulas("Return dx = 2 dy, in prose only."))
    monkeypatch.setattr(generate, "ops_table", list)
    with pytest.raises(SystemExit, match=r"derivatives\.md: no block such as .* in the docstrings of thing_backward$"):
        generate.main()


HEAD = ["| op | numpy | by | native | against |", "|---|---|---|---|---|"]
ROW = "| [`a`](a.py) | < 1e-9 | kernel | < 1e-9 | exact |"


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        ([ROW], ""),
        ([ROW.replace("| < 1e-9 | kernel", "| < 1e-8 | kernel")], ""),  # within what processors differ by
        ([ROW.replace("| < 1e-9 | kernel", "| < 1e-7 | kernel")], "not current"),
        ([ROW.replace("kernel", "formula")], "not current"),
        ([ROW.replace("`a`", "`b`")], "not current"),
        ([ROW, ROW], "the table has 1 ops, the catalogue 2"),
    ],
)
def test_a_table_that_is_not_current(generate, now, problem):
    found = generate.table_problem([*HEAD, ROW], [*HEAD, *now])
    assert problem in found
    assert bool(problem) == bool(found)


def test_the_claim_in_the_readme(generate):
    worse = ROW.replace("| < 1e-9 | exact", "| < 1e-7 | exact")
    assert generate.claim([*HEAD, ROW, worse]) == "[2 ops](docs/ops.md); worst gradient error below 1e-7"
    assert generate.CLAIM.search((DOCS.parent / "README.md").read_text(encoding="utf-8"))


def test_marks_that_are_missing(generate):
    with pytest.raises(SystemExit, match="page.md: the marks <!-- ops: begin -->"):
        generate.between("nothing", "ops", "page.md")
