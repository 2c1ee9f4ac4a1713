"""The command tests/mutation.py: what it draws, and what it says of planted mutants."""

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
pytest.importorskip("resource", reason="this system sets no limits to a process")
ROOT = Path(__file__).parents[1]
if not (ROOT / "minidl").is_dir():
    pytest.skip("mutants are planted in a checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT / "tests"))

import mutation  # noqa: E402
from draw_mutants import mutants_of  # noqa: E402
from scratch_copy import COMPILER, NativeBuild, ScratchCopy  # noqa: E402

SAMPLE = '''
"""A module."""
from minidl import ops

@ops.ieee
def f(x: int = 3, *, flag=True):
    """Return 1 + 1."""
    if x < 0:
        raise ValueError(f"{x + 1}")
    x.y = ops.g(x, flag, axis=2)
    return x - 1 if x >= 4 and flag else 0.5  # x + 1
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return ScratchCopy(ROOT, tmp_path_factory.mktemp("copy"), limit=60)


@pytest.fixture
def few_tests(monkeypatch):
    """Judge by the smallest file of tests that sees an activation."""
    monkeypatch.setattr(mutation, "selections", lambda mutant: [["tests/ops/test_boundaries.py", "-k", "softplus"]])


THRESHOLD = "scaled > threshold -> scaled >= threshold"


def softplus(number):
    """Return softplus (0) or its backward (1) with a boundary moved."""
    return [mutant for mutant in mutants_of(ROOT, "minidl/ops/activation.py") if mutant.change == THRESHOLD][number]


# what is drawn ------------------------------------------------------------------------------------------------------


def test_changes_of_python(tmp_path):
    (tmp_path / "sample.py").write_text(SAMPLE, encoding="utf-8")
    found = mutants_of(tmp_path, "sample.py")
    changes = {mutant.change for mutant in found}
    assert {
        "@ops.ieee -> nothing",
        "def f(x: int = 3, *, flag=True): -> def f(x: int = 4, *, flag=True):",
        "def f(x: int = 3, *, flag=True): -> def f(x: int = 3, *, flag=False):",
        "if x < 0: -> pass",
        "x < 0 -> x <= 0",
        "x < 0 -> x > 0",
        "x.y = ops.g(x, flag, axis=2) -> pass",
        "ops.g(x, flag, axis=2) -> ops.g(x, flag)",
        "ops.g(x, flag, axis=2) -> ops.g(flag, x, axis=2)",
        "x - 1 -> x + 1",
        "x >= 4 and flag -> x >= 4 or flag",
        "x >= 4 and flag -> flag",
        "x - 1 if x >= 4 and flag else 0.5 -> 0.5",
    } <= changes
    assert not [change for change in changes if "ValueError" in change.partition(" -> ")[0] or "1 + 1" in change]
    assert {mutant.where for mutant in found} == {"f"}
    source = SAMPLE.encode()
    for mutant in found:
        changed = mutant.apply(source)
        assert changed != source
        compile(changed, "sample", "exec")


def test_changes_of_c(tmp_path):
    lines = [
        "/* a + b */",
        "static int REAL(sum)(const real *x, int n) {",
        "    int total = 0;",
        "    for (int i = 0; i < n; i++) total += x[i];",
        "    x->y = total; // a + b",
        "    return total;",
        "}",
    ]
    (tmp_path / "sample.c").write_text("\n".join(lines), encoding="utf-8")
    found = mutants_of(tmp_path, "sample.c")
    changed = {mutant.apply("\n".join(lines).encode()).decode() for mutant in found}
    expected = {
        ("int i = 0; i < n", "int i = 0; i <= n"),
        ("int i = 0; i < n", "int i = 1; i < n"),
        ("x[i]", "x[i + 1]"),
        ("total += x", "total -= x"),
        ("total += x", "total = x"),
        ("total = 0", "total = 1"),
        ("x->y = total;", ";"),
    }
    assert {"\n".join(lines).replace(old, new) for old, new in expected} == changed
    assert {mutant.where for mutant in found} == {"sum"}


def test_a_seed_draws_the_same_and_changes_elsewhere_keep_the_order(tmp_path):
    (tmp_path / "sample.py").write_text(SAMPLE, encoding="utf-8")
    first = mutation.draw(["sample.py"], 8, 0, tmp_path)
    assert first == mutation.draw(["sample.py"], 8, 0, tmp_path)
    assert first != mutation.draw(["sample.py"], 8, 1, tmp_path)
    (tmp_path / "sample.py").write_text(SAMPLE + "\n\ndef g(x):\n    return x\n", encoding="utf-8")
    assert first == mutation.draw(["sample.py"], 8, 0, tmp_path)


@pytest.mark.nightly
def test_all_kinds_are_drawn_in_their_shares(capsys):
    assert mutation.main(["--sample", "20", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = {kind: len([line for line in lines if line.startswith(kind)]) for kind in ("minidl/ops", "minidl", "csrc")}
    assert count == {"minidl/ops": 10, "minidl": 18, "csrc": 2}
    assert mutation.files_of("c")
    assert not [file for file in mutation.files_of("c") if "ladder" in file]


# the table of equivalent ones -----------------------------------------------------------------------------------------


def test_each_entry_of_the_table_is_about_a_mutant_that_can_be_drawn():
    files = [file for kind in mutation.KINDS for file in mutation.files_of(kind)]
    for entry in mutation.known_equivalent():
        assert len(entry["reason"].split()) > 3
        named = [file for file in files if re.fullmatch(entry.get("file", ".*"), file)]
        assert any(mutation.matches(entry, mutant) for file in named for mutant in mutants_of(ROOT, file)), entry


# what becomes of planted mutants --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_tests")
def test_one_that_a_test_notices_is_killed(copy):
    outcome, decided = mutation.judge(softplus(1), copy, [])
    assert outcome == "killed"
    assert decided == "pytest tests/ops/test_boundaries.py -k softplus"
    file = Path("minidl/ops/activation.py")
    assert (copy.folder / file).read_bytes() == (ROOT / file).read_bytes()


@pytest.mark.usefixtures("few_tests")
def test_one_that_no_test_notices_survives(copy):
    elsewhere = next(found for found in mutants_of(ROOT, "minidl/ops/activation.py") if found.where == "relu_backward")
    assert mutation.judge(elsewhere, copy, []) == ("survived", "")


def test_one_of_the_table_is_equivalent(copy):
    entry = {"file": "minidl/ops/activation.py", "where": "softplus", "change": THRESHOLD, "reason": "as it is said"}
    assert mutation.judge(softplus(0), copy, [entry]) == ("equivalent", "as it is said")
    assert not mutation.matches(entry, softplus(1))


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no C compiler")
def test_one_that_does_not_compile_is_not_counted(copy):
    file = "csrc/elementwise/dropout.c"
    copy.native = NativeBuild(copy.folder)
    copy.native.sources = [Path(file)]
    copy.native.compile_all()
    broken = dataclasses.replace(mutants_of(ROOT, file)[0], new=" + ) ")
    outcome, problem = mutation.judge(broken, copy, [])
    assert outcome == "not built"
    assert problem.startswith(file)
    assert (copy.folder / file).read_bytes() == (ROOT / file).read_bytes()
    copy.native = None


@pytest.mark.usefixtures("few_tests")
@pytest.mark.nightly
def test_tests_that_fail_without_any_mutant_decide_nothing(copy, monkeypatch):
    monkeypatch.setattr(copy, "_passing", set())
    (copy.folder / "tests" / "ops" / "test_boundaries.py").write_text("def test_softplus():\n    assert False\n")
    with pytest.raises(
        RuntimeError, match=r"failed without any mutant: pytest tests/ops/test_boundaries.py -k softplus"
    ):
        mutation.judge(softplus(1), copy, [])


@pytest.mark.nightly
def test_a_run_that_does_not_end_is_stopped(copy, monkeypatch):
    monkeypatch.setattr(copy, "limit", 3.0)
    (copy.folder / "tests" / "test_endless.py").write_text("def test_it():\n    while True:\n        pass\n")
    assert copy.run(["tests/test_endless.py"]) == "timed out"


def test_the_score():
    assert mutation.score(["killed", "timed out", "survived", "survived", "equivalent", "not built"]) == 0.5


@pytest.mark.nightly
def test_a_sample_of_each_kind_is_noticed():
    command = [sys.executable, str(ROOT / "tests" / "mutation.py"), "--sample", "120", "--seed", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
