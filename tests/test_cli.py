"""The command line, as a person uses it."""

import json
import re
import subprocess
import sys

import numpy
import pytest

import minidl as dl
from minidl import data, engines, models
from minidl.cli import main
from minidl.cli.bench import step_times
from minidl.cli.demo import add_shifted
from minidl.cli.tables import confusion
from minidl.cli.train import fold_scales

OWN = """
import numpy
class Square:
    def forward(self, x):
        self.x = x
        return x * x
    def backward(self, dy):
        return {factor} * dy * self.x
"""


@pytest.fixture(autouse=True)
def _own_threads():
    before = engines.get_num_threads()
    yield
    engines.set_num_threads(before)


@pytest.fixture
def table(tmp_path):
    """Return a file of two features, a number, a word and a class."""
    random = numpy.random.default_rng(0)
    path = tmp_path / "data.csv"
    lines = [
        f"{1000 + a:.5f},{b:.5f},{5000 + 900 * a - 400 * b:.5f},{'high' if a > b else 'low'},{int(a > b) + int(a > 1)}"
        for a, b in random.normal(size=(200, 2))
    ]
    path.write_text("\n".join(["a,b,number,word,class", *lines]) + "\n")
    return str(path)


def test_info_names_every_engine(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for part in ("numpy: available", "native:", "cupy:", "safetensors", f"current engine: {engines.current().name}"):
        assert part in out


def test_info_says_how_to_get_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["info"]) == 0
    assert "matplotlib: not installed; pip install 'minidl[plot]'" in capsys.readouterr().out


class TestDemo:
    def test_it_learns_to_read(self, capsys):
        assert main(["demo"]) == 0
        out = capsys.readouterr().out
        assert float(re.search(r"test accuracy on 360 digits: ([\d.]+)%", out).group(1)) >= 97.0
        assert len(re.findall(r"largest relative error \d\.\de-\d\d", out)) == len(
            list(filter(None, engines.engines().values()))
        )
        assert re.search(r"\[#+\] epoch 15/15  loss [\d.]+  held out [\d.]+%", out)
        rows = re.findall(r"^   \d  ((?: +[\d.]+)+)$", out, re.MULTILINE)
        assert len(rows) == 10
        assert sum(int(count) for row in rows for count in row.replace(".", "0").split()) == 360
        assert re.search(r"^   numpy +\d+\.\d+$", out, re.MULTILINE)

    @pytest.mark.nightly
    def test_with_convolutions(self, capsys):
        assert main(["demo", "--model", "conv", "--epochs", "2"]) == 0
        out = capsys.readouterr().out
        assert "Conv2d(1, 32, kernel_size=3, padding=1)" in out
        assert float(re.search(r"test accuracy on 360 digits: ([\d.]+)%", out).group(1)) >= 94.0

    def test_images_are_moved_by_a_pixel(self):
        image = numpy.zeros((1, 8, 8))
        image[0, 3, 0] = 1
        x, y = add_shifted(image.reshape(1, 64), numpy.array([7]))
        places = [tuple(numpy.argwhere(view)[0]) if view.any() else None for view in x.reshape(-1, 8, 8)]
        assert places == [(3, 0), None, (3, 1), (2, 0), (4, 0)]
        assert y.tolist() == [7] * 5

    def test_the_line_moves_on_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        assert main(["demo", "--epochs", "3"]) == 0
        line = next(text for text in capsys.readouterr().out.split("\n") if "epoch 3/3" in text)
        assert [part[-3:] for part in re.findall(r"\r[^\r]*(epoch ./3)", line)] == ["1/3", "2/3", "3/3"]

    def test_a_wrong_gradient_ends_it(self, capsys, monkeypatch):
        numpy_engine = engines.get("numpy")
        backward = numpy_engine.tanh_backward
        monkeypatch.setattr(numpy_engine, "tanh_backward", lambda dy, cache: -backward(dy, cache))
        assert main(["demo", "--epochs", "1"]) == 1
        assert "tanh" in capsys.readouterr().err


class TestTrain:
    @pytest.mark.parametrize(("target", "settings"), [("word", []), ("class", ["--engine", "numpy", "--threads", "1"])])
    def test_on_classes(self, target, settings, table, capsys):
        others = [part for column in {"number", "word", "class"} - {target} for part in ("--ignore", column)]
        command = ["train", "--data", table, "--target", target, "--epochs", "80", "--layers", "16"]
        assert main([*command, *others, *settings]) == 0
        out = capsys.readouterr().out
        assert float(re.search(r"test accuracy ([\d.]+) on 40 held-out examples", out).group(1)) > 0.85
        assert ("one of 2 classes: high, low" if target == "word" else "one of 3 classes: 0, 1, 2") in out
        assert "true \\ predicted" in out

    def test_on_numbers(self, table, capsys, tmp_path):
        safetensors = pytest.importorskip("safetensors")
        path = tmp_path / "m.safetensors"
        command = ["train", "--data", table, "--target", "number", "--ignore", "word", "--ignore", "class"]
        command += ["--epochs", "40", "--lr", "0.01", "--optimizer", "adamw", "--save", str(path)]
        assert main(command) == 0
        out = capsys.readouterr().out
        assert float(re.search(r"R2 ([\d.-]+) on 40", out).group(1)) > 0.95
        # what it prints to load the weights works, on the columns as they are in the file
        [recipe] = re.findall(r"model = minidl\.models\.mlp\(\[(.*)\], 'relu', 0.0\)", out)
        model = models.mlp([int(size) for size in recipe.split(", ")])
        model.load(path)
        read = data.read_csv(table, target="number", ignore=["word", "class"])
        assert dl.metrics.r2_score(read.y, model.predict(read.X)[:, 0]) > 0.95
        with safetensors.safe_open(path, "np") as file:
            assert {name: json.loads(value) for name, value in file.metadata().items()} == {
                "features": ["a", "b"], "target": "number", "classes": None, "activation": "relu",
            }  # fmt: skip

    def test_a_european_table_with_timestamps(self, capsys, tmp_path):
        pytest.importorskip("safetensors")
        path = tmp_path / "clock.csv"
        rows = [f"{1_700_000_000 + second};{(second % 10) / 4:.2f};NA".replace(".", ",") for second in range(200)]
        path.write_text("time;load;zone\n" + "\n".join(rows) + "\n")
        command = ["train", "--data", str(path), "--delimiter", ";", "--decimal", ",", "--missing-value", "-"]
        command += ["--target", "time", "--task", "regression", "--layers", "", "--epochs", "2", "--save"]
        assert main([*command, str(tmp_path / "m.safetensors")]) == 0
        out = capsys.readouterr().out
        assert re.search(r"^'zone' +text, 1 columns", out, re.MULTILINE)
        assert "y is float64, because it holds whole numbers above 2^24" in out
        [recipe] = re.findall(r"model = minidl\.models\.(mlp\(.*\))", out)
        model = eval(recipe, {"mlp": models.mlp})
        model.load(tmp_path / "m.safetensors")
        read = data.read_csv(path, "time", delimiter=";", decimal=",", missing_values="-")
        assert abs(model.predict(read.X)[:, 0] - 1_700_000_100).max() < 1000  # float32 would be off by 128 at least

    def test_the_same_seed_gives_the_same_result(self, table, capsys):
        results = []
        for seed in ("1", "1", "2"):
            assert main(["train", "--data", table, "--epochs", "3", "--seed", seed]) == 0
            results.append(re.findall(r"loss: [\d.]+", capsys.readouterr().out))
        assert results[0] == results[1] != results[2]

    def test_on_digits(self, capsys):
        assert main(["train", "--data", "digits", "--epochs", "5", "--layers", ""]) == 0
        out = capsys.readouterr().out
        assert float(re.search(r"accuracy ([\d.]+) on 360", out).group(1)) > 0.85
        assert "epoch 5/5" in out

    @pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
    def test_on_images_the_published_ones_are_held_out(self, name, monkeypatch, capsys):
        labels = numpy.arange(60) % 3
        images = numpy.zeros((60, 1, 2, 2), dtype="uint8")
        images[numpy.arange(60), 0, labels // 2, labels % 2] = 255  # the place of the bright pixel is the class
        published = data.ImageData(images, labels, images[:9], (labels[:9] + 1) % 3, ("a", "b", "c"))  # all shifted
        monkeypatch.setattr(data, name.replace("-", "_"), lambda: published)
        command = ["train", "--data", name, "--layers", "", "--lr", "0.1"]
        assert main([*command, "--epochs", "20"]) == 0
        out = capsys.readouterr().out
        assert "69 examples of 4 features; target: 'class', one of 3 classes: a, b, c" in out
        assert "test accuracy 0.0000 on 9 held-out examples" in out
        assert main([*command, "--epochs", "1", "--test-size", "0.5"]) == 0
        assert "on 35 held-out examples" in capsys.readouterr().out

    @pytest.mark.parametrize("task", ["auto", "classification", "regression"])
    def test_whole_numbers_are_classes_only_if_they_are_few(self, task, table, capsys):
        for target, few in (("class", True), ("number", False)):
            wanted = "regression" if task == "classification" and not few else task
            assert main(["train", "--data", table, "--target", target, "--task", wanted, "--epochs", "1"]) == 0
            assert ("classes:" in capsys.readouterr().out) == (few and task != "regression")

    @pytest.mark.parametrize("sizes", [[3, 2], [3, 8, 2]])
    def test_scales_are_folded_into_the_layers(self, sizes):
        random = numpy.random.default_rng(0)
        x, y = random.normal([1e3, -5, 0], [10, 1e-3, 7], size=(50, 3)), random.normal([4, 1e6], [1, 1e4], size=(50, 2))
        given, wanted = data.Standardizer().fit(x), data.Standardizer().fit(y)
        model = models.mlp(sizes, "tanh", dtype="float64")
        expected = wanted.inverse_transform(model.predict(given.transform(x)))
        fold_scales(model, given, wanted)
        numpy.testing.assert_allclose(model.predict(x), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "--data", "missing.csv"], "missing.csv"),
        (["train", "--data", "TABLE", "--target", "nothing"], "known: a, b, class, number, word"),
        (["train", "--data", "TABLE", "--target", "word", "--task", "regression"], "the target 'word' is text"),
        (["train", "--data", "TABLE", "--target", "number", "--task", "classification"], "single member"),
        (["train", "--data", "TABLE", "--save", "none/m"], "--save: there is no folder none"),
        (["train", "--data", "TABLE", "--lr", "-1"], "lr must be"),
        (["train", "--data", "TABLE", "--activation", "rellu"], "known: .*relu"),
        (["train", "--data", "digits", "--layers", "64,x"], "--layers"),
        (["train", "--data", "digits", "--layers", "64,0"], "--layers"),
        (["train", "--data", "digits", "--optimizer", "sdg"], "known: .*adam"),
        (["gradcheck", "rellu"], "known: "),
        (["gradcheck", "--engine", "abacus"], "known: cupy, native, numpy"),
        (["gradcheck", "none.py:Layer"], "no file none.py"),
        (["gradcheck", "none.py:Layer", "--shape", "4,x"], "--shape: expected integers of at least 1"),
    ],
)
def test_mistakes_are_one_line(command, message, table, capsys):
    assert main([table if part == "TABLE" else part for part in command]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("minidl: ")
    assert len(err.splitlines()) == 1
    assert re.search(message, err)


def test_mistakes_of_several_lines_are_one_line_too(tmp_path, capsys):
    path = tmp_path / "own.py"
    path.write_text("raise ValueError('first line\\nsecond line')")
    assert main(["gradcheck", f"{path}:Square"]) == 2
    assert capsys.readouterr().err.endswith("ValueError: first line second line\n")


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["fly"],
        ["train"],
        ["train", "--data", "digits", "--epochs", "0"],
        ["train", "--data", "digits", "--batch-size", "a"],
        ["train", "--data", "digits", "--test-size", "1"],
        ["bench", "--batch-size", "-3"],
    ],
)
def test_commands_that_are_none_show_the_usage(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert "usage: minidl" in capsys.readouterr().err


def test_help_tells_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for command in ("info", "demo", "train", "gradcheck", "bench"):
        assert re.search(rf"^ +{command}\s+\w+", out, re.MULTILINE)


class TestGradcheck:
    def test_some_ops(self, capsys):
        assert main(["gradcheck", "relu", "linear", "--engine", "numpy", "--short"]) == 0
        out = capsys.readouterr().out
        assert "weight" in out
        assert re.search(r"\d+ comparisons on the numpy engine", out)

    def test_a_wrong_op(self, capsys, monkeypatch):
        engine = engines.get("numpy")
        backward = engine.tanh_backward
        monkeypatch.setattr(engine, "tanh_backward", lambda dy, cache: 2 * backward(dy, cache))
        assert main(["gradcheck", "tanh", "--engine", "numpy", "--short"]) == 1
        assert "FAILED" in capsys.readouterr().out

    @pytest.mark.parametrize(("factor", "code"), [(2, 0), (3, 1)])
    def test_a_layer_in_a_file(self, factor, code, tmp_path, capsys):
        path = tmp_path / "own.py"
        path.write_text(OWN.format(factor=factor))
        assert main(["gradcheck", f"{path}:Square", "--shape", "3,2"]) == code
        assert "Square" in capsys.readouterr().out
        assert main(["gradcheck", f"{path}:Square", "relu", "--short"]) == code
        assert "relu" in capsys.readouterr().out


def test_bench_has_a_column_for_each_engine(capsys, monkeypatch):
    monkeypatch.setattr("minidl.cli.bench.ROUNDS", 1)
    monkeypatch.setattr("minidl.cli.bench.SECONDS", 0.0)
    assert main(["bench", "--batch-size", "8", "--threads", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    usable = [name for name, status in engines.engines().items() if status.available]
    assert out[2].split() == ["perceptron", *usable]
    assert [len(line.split()) for line in out[3:7]] == [1 + len(usable)] * 4
    assert all(time > 0 for time in step_times([1, 1], 4).values())


def test_a_table_of_mistakes():
    target, prediction = numpy.array([0, 0, 1, 2, 2]), numpy.array([0, 1, 1, 2, 2])
    rows = confusion(target, prediction, ["a", "a longer name", "c"]).splitlines()
    assert rows[0].split() == ["true", "\\", "predicted", "a", "a", "longer", "name", "c"]
    assert [row.split()[-3:] for row in rows[1:]] == [["1", "1", "."], [".", "1", "."], [".", ".", "2"]]
    assert len({len(row) for row in rows}) == 1


def test_a_reader_that_has_seen_enough(tmp_path):
    """As in ``minidl gradcheck | head``, with a head that has seen enough at once."""
    command = [
        sys.executable,
        "-c",
        "import sys; from minidl.cli import main; sys.exit(main(['gradcheck', 'relu', '--all']))",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    process.stdout.close()  # before anything is written
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0
