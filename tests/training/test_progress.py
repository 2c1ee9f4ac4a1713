"""What fit and evaluate print, and when they do not."""

import os
import re
import struct
import sys

import pytest

from minidl.errors import ParameterError
from minidl.training import progress
from minidl.training.progress import Progress, format_logs, resolve_verbose


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


LINE = r"64?/64? - [\d.]+ s - [\d.e+-]+ ms/step - loss: [\d.]+ - mae: [\d.]+"


def test_one_moves_a_bar_and_leaves_a_line(line, neuron, capfd, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    neuron(metrics=["mae"]).fit(*line, batch_size=1, verbose=1)
    out, err = capfd.readouterr()
    assert out == ""
    *bars, last = [text for text in re.split(r"[\r\n]+", err) if text.strip()]
    assert len(bars) > 10
    assert re.fullmatch(r"epoch 1/1 - 0/64 +\? left", bars[0].rstrip())
    for step, text in enumerate(bars[1:], 1):
        assert re.match(rf"epoch 1/1 - {step}/64 .* \d\d:\d\d left, loss: [\d.]+ - mae: [\d.]+ - [\d.]+ ms/step", text)
    assert re.fullmatch(rf"epoch 1/1 - {LINE}", last)


def test_one_of_evaluate(line, neuron, capfd, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    neuron(metrics=["mae"]).evaluate(*line, batch_size=1, verbose=1)
    *bars, last = [text for text in re.split(r"[\r\n]+", capfd.readouterr().err) if text.strip()]
    assert re.match(r"64/64 .* left, loss: [\d.]+ - mae: [\d.]+ - [\d.e+-]+ ms/step", bars[-1])
    assert re.fullmatch(LINE, last)


def test_between_looks_nothing_is_drawn(line, neuron, capfd, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 3600.0)
    neuron().fit(*line, batch_size=1, verbose=1)
    assert capfd.readouterr().err.count("epoch 1/1") == 2  # the empty bar and the line


def test_validation_takes_none_of_the_steps_time(monkeypatch):
    clock = iter([10.0, 12.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    printed = []
    monkeypatch.setattr("builtins.print", lambda text, **_: printed.append(text))
    with Progress(2, "epoch 1/1", 4) as shown_line:
        shown_line.all_steps_done()
        shown_line.finish({"loss": 1.0})
    assert printed == ["epoch 1/1 - 4/4 - 10.00 s - 500 ms/step - loss: 1.0000"]


def test_the_bar_stays_where_it_was_after_an_error(capfd):
    progress_line = Progress(1, "epoch 1/1", 10)

    def fail():
        with progress_line:
            progress_line.show(3, {"loss": 1.0})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert progress_line.bar.disable
    assert "epoch 1/1 - 3/10" in capfd.readouterr().err.rstrip().split("\r")[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("size", [(0, 0), (24, 40), (24, 200)])
def test_terminals_of_any_size(size, line, neuron, monkeypatch):
    """0 by 0 is what a container's terminal may say."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:  # noqa: PTH123
        patch.setattr("sys.stderr", terminal)
        neuron(metrics=["mae"]).fit(*line, validation_split=0.5)
        text = ""
        while "val_mae: " not in text:
            text += os.read(ours, 4096).decode()
    os.close(ours)
    assert "epoch 1/1 - 0/1 " in text
    assert re.search(r"epoch 1/1 - 1/1 - .*val_mae: ", text)


@pytest.mark.parametrize("wrong", [3, -1, "yes", None, 1.0])
def test_other_levels(wrong, line, neuron):
    with pytest.raises(ParameterError, match="fit: verbose must be"):
        neuron().fit(*line, verbose=wrong)
    with pytest.raises(ParameterError, match="evaluate: verbose must be"):
        neuron().evaluate(*line, verbose=wrong)


def test_numbers_of_every_size():
    text = format_logs({"a": 0.0, "b": 123456.0, "c": float("nan"), "d": -0.5, "e": 1e-9})
    assert text == "a: 0.0000 - b: 1.235e+05 - c: nan - d: -0.5000 - e: 1.000e-09"
