"""What fit and evaluate print, and when they do not."""

import re

import pytest

from minidl.errors import ParameterError
from minidl.training import progress
from minidl.training.progress import Progress, resolve_verbose, shown


@pytest.mark.parametrize("verbose", ["auto", 0, False])
def test_silence_where_there_is_no_terminal(verbose, line, neuron, capfd):
    model = neuron(metrics=["mae"])
    model.fit(*line, epochs=2, verbose=verbose, validation_split=0.2)
    model.evaluate(*line, verbose=verbose)
    model.predict(line[0])
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    assert resolve_verbose("auto", "fit") == 0
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert resolve_verbose("auto", "fit") == 1


def test_two_prints_a_line_an_epoch(line, neuron, capfd):
    model = neuron(metrics=["mae"])
    model.fit(*line, epochs=2, verbose=2, validation_data=line)
    out, err = capfd.readouterr()
    assert err == ""
    number = r"[\d.e+-]+"
    pattern = rf"epoch (\d)/2 - 2/2 - {number} s - {number} ms/step - loss: {number} - mae: {number} - "
    pattern += rf"val_loss: {number} - val_mae: {number}"
    assert [re.fullmatch(pattern, text).group(1) for text in out.splitlines()] == ["1", "2"]


def test_two_of_evaluate_is_the_line_that_keras_prints(line, neuron, capfd):
    neuron().evaluate(*line, batch_size=10, verbose=2)
    assert re.fullmatch(r"7/7 - [\d.]+ s - [\d.e+-]+ ms/step - loss: [\d.]+\n", capfd.readouterr().out)


def test_one_moves_a_bar(line, neuron, capfd):
    model = neuron(metrics=["mae"])
    model.fit(*line, epochs=2, verbose=1)
    model.evaluate(*line, verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    for part in ("epoch 1/2", "epoch 2/2", "evaluate", "2/2", "step/s", "ms/step", "loss: ", "mae: "):
        assert part in err


def test_the_bar_shows_numbers_on_its_way(line, neuron, capfd, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    neuron(metrics=["mae"]).fit(*line, batch_size=8, verbose=1)
    err = capfd.readouterr().err
    for step in range(1, 9):
        assert re.search(rf"{step}/8 \[[^]]*ms/step - loss: [\d.]+ - mae: [\d.]+\]", err)


def test_the_bar_is_closed_after_an_error(capfd):
    with pytest.raises(KeyError), Progress(1, "epoch 1/1", 10) as bar:
        raise KeyError
    assert bar.bar.disable


@pytest.mark.parametrize("wrong", [3, -1, "yes", None, 1.0])
def test_other_levels(wrong, line, neuron):
    with pytest.raises(ParameterError, match="fit: verbose must be"):
        neuron().fit(*line, verbose=wrong)
    with pytest.raises(ParameterError, match="evaluate: verbose must be"):
        neuron().evaluate(*line, verbose=wrong)


def test_numbers_of_every_size():
    text = shown({"a": 0.0, "b": 123456.0, "c": float("nan"), "d": -0.5, "e": 1e-9})
    assert text == "a: 0.0000 - b: 1.235e+05 - c: nan - d: -0.5000 - e: 1.000e-09"
