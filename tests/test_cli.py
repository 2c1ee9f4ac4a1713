"""The command line, as a person uses it."""

import numpy
import pytest

from minidl.cli import main

OWN = """
import numpy
class Square:
    def forward(self, x):
        self.x = x
        return x * x
    def backward(self, dy):
        return {factor} * dy * self.x
"""


@pytest.fixture
def table(tmp_path):
    random = numpy.random.default_rng(0)
    rows = random.normal(size=(200, 2))
    path = tmp_path / "data.csv"
    lines = [f"{a:.5f},{b:.5f},{2 * a - b:.5f},{'high' if a > b else 'low'}" for a, b in rows]
    path.write_text("\n".join(["a,b,number,word", *lines]) + "\n")
    return str(path)


def test_info_names_every_engine(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for name in ("numpy: available", "native:", "cupy:", "safetensors", "current engine"):
        assert name in out


def test_demo_learns_to_read(capsys):
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    accuracy = float(out.split("never seen: ")[1].split("%")[0])
    assert accuracy >= 97.0
    assert "truth \\ read" in out
    assert "largest relative error" in out


def test_train_on_words(table, capsys):
    assert main(["train", "--data", table, "--target", "word", "--epochs", "80", "--layers", "16"]) == 0
    assert float(capsys.readouterr().out.split("accuracy ")[-1].split(" on")[0]) > 0.9


def test_train_on_numbers(table, capsys, tmp_path):
    pytest.importorskip("safetensors")
    save = tmp_path / "m.safetensors"
    command = ["train", "--data", table, "--target", "number", "--epochs", "40", "--lr", "0.01", "--save", str(save)]
    assert main(command) == 0
    assert float(capsys.readouterr().out.split("R2 ")[-1].split()[0]) > 0.9
    assert save.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "--data", "missing.csv"], "missing.csv"),
        (["train", "--data", "TABLE", "--target", "nothing"], "known: a, b, number, word"),
        (["train", "--data", "TABLE", "--target", "word", "--task", "regression"], "cannot be a regression"),
        (["train", "--data", "digits", "--layers", "64,x"], "--layers"),
        (["train", "--data", "digits", "--optimizer", "sdg"], "known: .*adam"),
        (["gradcheck", "rellu"], "known: "),
        (["gradcheck", "--engine", "abacus"], "known: cupy, native, numpy"),
    ],
)
def test_mistakes_are_one_line(command, message, table, capsys):
    assert main([table if part == "TABLE" else part for part in command]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("minidl: ")
    assert len(err.splitlines()) == 1
    assert pytest.importorskip("re").search(message, err)


def test_gradcheck_of_some_ops(capsys):
    assert main(["gradcheck", "relu", "linear", "--engine", "numpy"]) == 0
    assert "weight" in capsys.readouterr().out


@pytest.mark.parametrize(("factor", "code"), [(2, 0), (3, 1)])
def test_gradcheck_of_a_layer_in_a_file(tmp_path, capsys, factor, code):
    path = tmp_path / "own.py"
    path.write_text(OWN.format(factor=factor))
    assert main(["gradcheck", f"{path}:Square", "--shape", "3,2"]) == code
    assert "Square" in capsys.readouterr().out
