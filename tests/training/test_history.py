"""The history of a training, and its picture."""

import sys

import pytest

from minidl.errors import MissingDependencyError, OrderError, UnknownNameError
from minidl.training import History


def test_it_holds_every_epoch(line, neuron):
    model = neuron(metrics=["mae"])
    history = model.fit(*line, epochs=3, validation_split=0.2)
    assert model.history is history
    assert {name: len(numbers) for name, numbers in history.history.items()} == dict.fromkeys(
        ["loss", "mae", "val_loss", "val_mae"], 3
    )
    assert "3 epochs" in repr(history)


def test_it_can_be_plotted(line, neuron):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    history = neuron(metrics=["mae"]).fit(*line, epochs=3, validation_data=line)
    figure = history.plot()
    assert [panel.get_ylabel() for panel in figure.axes] == ["loss", "mae"]
    training, validation = figure.axes[1].get_lines()
    assert list(training.get_xdata()) == [1, 2, 3]
    assert list(training.get_ydata()) == history.history["mae"]
    assert list(validation.get_ydata()) == history.history["val_mae"]
    assert len(history.plot("val_loss").axes) == 1
    pyplot.close("all")


def test_what_cannot_be_plotted(line, neuron):
    with pytest.raises(OrderError, match="no epochs"):
        History().plot()
    with pytest.raises(UnknownNameError, match="'accuracy'; known: loss"):
        neuron().fit(*line).plot("accuracy")


def test_without_matplotlib_the_extra_is_named(line, neuron, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"minidl\[plot\]"):
        neuron().fit(*line).plot()
