"""The callbacks that come with the package."""

import csv

import numpy
import pytest

import minidl as dl
from minidl.errors import FileFormatError, MissingDependencyError, ParameterError, UnknownNameError
from minidl.training import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)


class Losses(Callback):
    """Let a model that does not learn have the given losses, by moving its bias off the line before each epoch."""

    def __init__(self, *losses):
        self.losses = losses

    def on_epoch_begin(self, epoch):
        self.model[0].weight.value = 2.0
        self.model[0].bias.value = 1 + self.losses[epoch] ** 0.5


@pytest.fixture
def still(neuron):
    """A model that does not learn."""
    return neuron(lambda parameters: dl.SGD(parameters, lr=0.0), metrics=["r2"])


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("losses", "settings", "epochs", "best"),
        [
            ((1, 2, 3, 4, 5), {"patience": 2}, 3, 0),
            ((3, 2, 1, 2, 1), {"patience": 2}, 5, 2),
            ((3, 3, 3), {"min_delta": 1e-4}, 2, 0),  # the order of the examples moves the last bits of the loss
            ((5, 4, 3, 2, 1), {"patience": 1}, 5, 4),
            ((5, 4.5, 4.2, 3.9), {"patience": 3, "min_delta": 1}, 4, 3),
            ((5, 4.5, 4.2, 3.9), {"patience": 2, "min_delta": 1}, 3, 0),
            ((1, 2, 3), {"patience": 1, "mode": "max"}, 3, 2),
            ((1, 2, 3), {"patience": 1, "monitor": "r2"}, 2, 0),
        ],
    )
    def test_when_it_stops(self, losses, settings, epochs, best, line, still):
        stop = EarlyStopping(**{"monitor": "loss", **settings})
        history = still.fit(*line, epochs=len(losses), callbacks=[Losses(*losses), stop])
        assert (len(history.epoch), stop.best_epoch) == (epochs, best)
        assert stop.stopped_epoch == (epochs - 1 if still.stop_training else None)
        assert stop.best == history.history[stop.monitor][best]

    def test_it_restores_the_best_weights(self, line, still):
        stop = EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)
        still.fit(*line, epochs=10, callbacks=[Losses(4, 1, 4, 9), stop])
        assert still[0].bias.value.item() == 2.0

    def test_it_restores_them_after_an_error_too(self, line, still):
        stop = EarlyStopping(monitor="loss", patience=5, restore_best_weights=True)
        with pytest.raises(IndexError):
            still.fit(*line, epochs=10, callbacks=[Losses(4, 1, 4), stop])
        assert still[0].bias.value.item() == 2.0

    def test_it_begins_anew_with_each_fit(self, line, still):
        stop = EarlyStopping(monitor="loss", patience=1)
        for _ in range(2):
            assert len(still.fit(*line, epochs=3, callbacks=[Losses(2, 1, 3), stop]).epoch) == 3

    def test_it_forgets_the_best_of_the_fit_before(self, line, still):
        stop = EarlyStopping(monitor="loss", patience=1, restore_best_weights=True)
        still.fit(*line, epochs=2, callbacks=[Losses(1, 4), stop])
        assert (stop.stopped_epoch, still[0].bias.value.item()) == (1, 2.0)
        still[0].bias.value = 7.0
        still.fit(*line, epochs=0, callbacks=[stop])
        assert (stop.stopped_epoch, stop.best_epoch, still[0].bias.value.item()) == (None, None, 7.0)

    def test_numbers_that_are_not_there(self, line, still):
        with pytest.raises(UnknownNameError, match="'val_loss'; known: loss, r2"):
            still.fit(*line, callbacks=[EarlyStopping()])
        assert still.history.epoch == []

    def test_a_function_has_no_better(self, line, neuron):
        def error(y_true, y_pred):
            return numpy.abs(y_true - y_pred).mean()

        model = neuron(metrics=[error])
        with pytest.raises(ParameterError, match="mode='min' or 'max'"):
            model.fit(*line, callbacks=[EarlyStopping("error")])
        model.fit(*line, callbacks=[EarlyStopping("error", mode="min")])

    @pytest.mark.parametrize("settings", [{"mode": "best"}, {"patience": -1}, {"patience": 1.5}, {"min_delta": -1}])
    def test_settings(self, settings):
        with pytest.raises(ParameterError, match="EarlyStopping"):
            EarlyStopping(**settings)


class TestModelCheckpoint:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip("safetensors")

    def test_every_epoch(self, line, still, tmp_path):
        path = tmp_path / "m-{epoch:02d}-{loss:.1f}.safetensors"
        still.fit(*line, epochs=2, callbacks=[Losses(4, 1), ModelCheckpoint(path)])
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m-01-4.0.safetensors", "m-02-1.0.safetensors"]
        still.load(tmp_path / "m-01-4.0.safetensors")
        assert still[0].bias.value.item() == 3.0

    def test_the_best(self, line, still, tmp_path):
        path = tmp_path / "best.safetensors"
        still.fit(*line, epochs=3, callbacks=[Losses(4, 1, 9), ModelCheckpoint(path, "loss", save_best_only=True)])
        still.load(path)
        assert still[0].bias.value.item() == 2.0
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("path", "settings", "error"),
        [
            ("none/m.safetensors", {}, FileNotFoundError),
            ("m-{val_loss}.safetensors", {}, UnknownNameError),
            ("m.safetensors", {"save_best_only": True}, UnknownNameError),
        ],
    )
    def test_what_cannot_be_saved_is_said_before_training(self, path, settings, error, line, still, tmp_path):
        with pytest.raises(error, match="ModelCheckpoint"):
            still.fit(*line, callbacks=[ModelCheckpoint(tmp_path / path, **settings)])
        assert still.optimizer.step_count == 0

    def test_without_the_package(self, line, still, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(MissingDependencyError, match=r"minidl\[weights\]"):
            still.fit(*line, callbacks=[ModelCheckpoint(tmp_path / "m.safetensors")])


class TestLearningRates:
    def test_a_function_of_the_epoch(self, line, neuron):
        model = neuron()
        model.fit(*line, epochs=3, callbacks=[LearningRateScheduler(lambda epoch, rate: rate / (epoch + 1))])
        assert model.optimizer.lr == pytest.approx(0.01 / 6)

    def test_a_schedule(self, line, neuron):
        model = neuron()
        optimizer = dl.SGD(model.parameters(), lr=1e-3)
        model.compile(optimizer, "mse")
        rates = []
        note = LambdaCallback(on_epoch_begin=lambda epoch: rates.append(optimizer.lr))
        schedule = LearningRateScheduler(dl.optim.StepLR(optimizer, 2, gamma=0.5))
        model.fit(*line, epochs=5, callbacks=[note, schedule])
        assert rates == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]
        with pytest.raises(ParameterError, match="another optimizer"):
            neuron().fit(*line, callbacks=[schedule])

    def test_what_is_no_schedule(self):
        with pytest.raises(ParameterError, match="schedule must be"):
            LearningRateScheduler(0.1)

    def test_a_plateau(self, line, still):
        rates = []
        note = LambdaCallback(on_epoch_end=lambda epoch, logs: rates.append(still.optimizer.lr))

        class Rate(Callback):
            def on_train_begin(self):
                self.model.optimizer.lr = 8e-30

        plateau = ReduceLROnPlateau("loss", factor=0.5, patience=2, cooldown=2, min_lr=3e-30)
        losses = Losses(4, 3, 3, 3, 3, 3, 3, 3, 3)
        still.fit(*line, epochs=9, callbacks=[Rate(), losses, plateau, note])
        # epoch 3 is the second without improvement; 4 is for cooling down, 5 and 6 wait again, as in Keras
        assert rates == [8e-30] * 3 + [4e-30] * 3 + [3e-30] * 3

    def test_a_rate_below_the_least_is_not_raised(self, line, still):
        plateau = ReduceLROnPlateau("loss", patience=0, min_lr=1.0)
        still.fit(*line, epochs=3, callbacks=[Losses(1, 1, 1), plateau])
        assert still.optimizer.lr == 0.0

    @pytest.mark.parametrize("factor", [0, 1, 2])
    def test_a_factor_that_does_not_reduce(self, factor):
        with pytest.raises(ParameterError, match="factor"):
            ReduceLROnPlateau(factor=factor)


class TestCSVLogger:
    def test_it_holds_the_history(self, line, neuron, tmp_path):
        path = tmp_path / "log.csv"
        model = neuron(metrics=["mae"])
        lengths = []
        note = LambdaCallback(on_epoch_end=lambda epoch, logs: lengths.append(len(path.read_text().splitlines())))
        history = model.fit(*line, epochs=3, validation_split=0.2, callbacks=[CSVLogger(path), note]).history
        assert lengths == [2, 3, 4]  # each line is there as soon as its epoch is over
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert [row["epoch"] for row in rows] == ["0", "1", "2"]
        for name, numbers in history.items():
            assert [float(row[name]) for row in rows] == numbers

    def test_it_goes_on(self, line, neuron, tmp_path):
        path = tmp_path / "log.tsv"
        model = neuron()
        model.fit(*line, epochs=2, callbacks=[CSVLogger(path, separator="\t", append=True)])
        model.fit(*line, epochs=4, initial_epoch=2, callbacks=[CSVLogger(path, separator="\t", append=True)])
        lines = path.read_text().splitlines()
        assert lines[0] == "epoch\tloss"
        assert [text.split("\t")[0] for text in lines[1:]] == ["0", "1", "2", "3"]
        with pytest.raises(FileFormatError, match="append=False"):
            model.fit(*line, validation_split=0.5, callbacks=[CSVLogger(path, separator="\t", append=True)])
        model.fit(*line, callbacks=[CSVLogger(path)])
        assert path.read_text().splitlines()[0] == "epoch,loss"
        assert len(path.read_text().splitlines()) == 2


def test_hooks_as_functions(line, neuron):
    seen = []
    neuron().fit(*line, epochs=2, callbacks=LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch)))
    assert seen == [0, 1]
    with pytest.raises(UnknownNameError, match="known: on_batch_begin, .*on_train_end"):
        LambdaCallback(on_epoch_finish=print)
    with pytest.raises(ParameterError, match="must be a function"):
        LambdaCallback(on_epoch_end="print")
