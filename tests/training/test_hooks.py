"""Hooks by Keras's names and arguments, and callbacks that do what Keras's of their names do."""

import math
import threading
import warnings

import numpy
import pytest

import minidl as dl
from minidl.errors import ParameterError, UnknownNameError
from minidl.training import Callback, LambdaCallback, LearningRateScheduler, ModelCheckpoint, ReduceLROnPlateau
from minidl.training.callbacks import ALIASES, HOOKS

NAMES = (*HOOKS, *ALIASES.values())
OF_TRAINING = [name for name in HOOKS if "test" not in name and "predict" not in name]


def noting(names, calls, signature):
    """Return a callback with these hooks, which take their logs in some way, or do not take them."""

    def hook_of(name):
        count = HOOKS.get(name, 1)
        return {
            "logs=None": (lambda self, place, logs=None: calls.append((name, (place,), logs)))
            if count
            else (lambda self, logs=None: calls.append((name, (), logs))),
            "logs": (lambda self, place, logs: calls.append((name, (place,), logs)))
            if count
            else (lambda self, logs: calls.append((name, (), logs))),
            "no logs": (lambda self, place: calls.append((name, (place,), {})))
            if count
            else (lambda self: calls.append((name, (), {}))),
            "anything": lambda self, *given: calls.append((name, given[:-1], given[-1])),
        }[signature]

    return type("Noting", (Callback,), {name: hook_of(name) for name in names})()


@pytest.mark.parametrize("signature", ["logs=None", "logs", "no logs", "anything"])
def test_every_hook_is_called_as_keras_calls_it(signature, line, neuron):
    calls = []
    model, callback = neuron(metrics=["mae"]), noting(HOOKS, calls, signature)
    model.fit(*line, batch_size=32, epochs=1, validation_data=line, callbacks=callback)
    training, validation = [c for c in calls if "test" not in c[0]], [c for c in calls if "test" in c[0]]
    batches = [(name, (i,)) for i in (0, 1) for name in ("on_train_batch_begin", "on_gradients", "on_train_batch_end")]
    assert [call[:2] for call in training] == [
        ("on_train_begin", ()),
        ("on_epoch_begin", (0,)),
        *batches,
        ("on_epoch_end", (0,)),
        ("on_train_end", ()),
    ]
    tests = [("on_test_begin", ()), *[(f"on_test_batch_{when}", (i,)) for i in (0, 1) for when in ("begin", "end")]]
    assert [call[:2] for call in validation] == [*tests, ("on_test_end", ())]
    if signature != "no logs":
        logs = {name: found for name, _, found in calls}
        assert set(logs["on_epoch_end"]) == set(logs["on_train_end"]) == {"loss", "mae", "val_loss", "val_mae"}
        assert set(logs["on_test_end"]) == {"loss", "mae"}
        for name in ("on_gradients", "on_train_batch_end", "on_test_batch_end"):
            assert set(logs[name]) == {"loss"}
    calls.clear()
    model.evaluate(*line, batch_size=32, callbacks=[callback])
    assert [call[:2] for call in calls] == [*tests, ("on_test_end", ())]
    calls.clear()
    model.predict(line[0], batch_size=32, callbacks=callback)
    assert [name for name, *_ in calls] == [
        "on_predict_begin",
        *["on_predict_batch_begin", "on_predict_batch_end"] * 2,
        "on_predict_end",
    ]
    if signature != "no logs":
        assert calls[2][2]["outputs"].shape == (32, 1)


@pytest.mark.parametrize("name", NAMES)
def test_each_hook_alone(name, line, neuron):
    """Overridden in a class, or given as a function, under its long or its short name."""
    calls, model = [], neuron()
    for callback in (noting([name], calls, "logs=None"), LambdaCallback(**{name: lambda *given: calls.append(given)})):
        calls.clear()
        model.fit(*line, validation_split=0.5, callbacks=callback)
        model.predict(line[0], callbacks=callback)
        assert calls


def test_the_short_names_are_those_of_the_base(line, neuron):
    """As in Keras: the long hook runs instead of the short one, unless it calls its base."""
    calls = []

    class Both(Callback):
        def on_batch_end(self, batch, logs=None):
            calls.append("short")

        def on_train_batch_end(self, batch, logs=None):
            calls.append("long")
            if batch:
                super().on_train_batch_end(batch, logs)

    neuron().fit(*line, callbacks=Both())
    assert calls == ["long", "long", "short"]


@pytest.mark.parametrize("name", ["on_train_batch_ends", "on_epoch_finished", "on_validation_end", "on_step"])
def test_what_is_named_like_a_hook_but_is_none(name, line, neuron):
    model = neuron()
    given = type("Own", (Callback,), {name: lambda self, *_: None})()
    for use in (model.fit, model.evaluate):
        with pytest.raises(UnknownNameError, match=f"unknown hook of Own '{name}'; known: .*on_train_batch_end"):
            use(*line, callbacks=given)
    with pytest.raises(UnknownNameError, match=name):
        LambdaCallback(**{name: print})
    assert model.optimizer is None or model.optimizer.step_count == 0


@pytest.mark.parametrize("name", NAMES)
def test_hooks_with_other_arguments_are_refused_before_training(name, line, neuron):
    place = HOOKS.get(name, 1)
    for hook in [lambda self, a, b, c: None, lambda self, *, epoch: None, *([lambda self: None] if place else [])]:
        own = type("Own", (Callback,), {name: hook})()
        with pytest.raises(ParameterError, match=r"Own\..* must take \("):
            neuron().fit(*line, callbacks=own)


def test_a_default_of_ones_own_stays(line, neuron):
    """``lambda epoch, note=note: ...`` binds something early; the logs do not take its place."""
    seen = []
    callback = LambdaCallback(on_epoch_begin=lambda epoch, note="mine": seen.append(note))
    neuron().fit(*line, epochs=2, callbacks=callback)
    assert seen == ["mine", "mine"]


def test_what_a_callback_may_know_of_the_call(line, neuron):
    found = []
    callback = LambdaCallback(on_train_begin=lambda: found.append(callback.params))
    neuron().fit(*line, batch_size=10, epochs=3, verbose=0, callbacks=callback)
    assert found == [{"epochs": 3, "steps": 7, "verbose": 0}]


class TestMeasuringInHooks:
    """Whatever a hook measures or predicts, what fit measures and learns stays the same, to the bit."""

    @staticmethod
    def fitted(hooks, metrics, dropout=True):
        dl.seed(0)
        random = numpy.random.default_rng(0)
        x, y = random.normal(size=(60, 4)).astype("float32"), random.integers(0, 3, 60)
        middle = [dl.BatchNorm1d(8), dl.Dropout(0.5)] if dropout else [dl.ReLU()]
        model = dl.Sequential(dl.Linear(4, 8), *middle, dl.Linear(8, 3))
        model.compile(dl.SGD(model.parameters(), lr=0.1), dl.CrossEntropyLoss(), metrics)
        given = {name: (lambda *_, hook=hook: hook(model, x, y)) for name, hook in hooks.items()}
        history = model.fit(x, y, 8, 2, validation_split=0.2, seed=0, callbacks=LambdaCallback(**given))
        return history.history, model.state_dict()

    @pytest.mark.parametrize("name", [*OF_TRAINING, "on_test_begin", "on_test_batch_end", "on_test_end"])
    def test_it_changes_nothing(self, name):
        metrics = ["accuracy", "f1", "auc", dl.metrics.TopKAccuracy(2), lambda true, pred: float(len(true))]
        plain = self.fitted({}, metrics)
        for measure in (
            lambda model, x, y: model.evaluate(x[:5], y[:5]),
            lambda model, x, y: model.predict(x[:7]),
            lambda model, x, y: model.evaluate(
                x[:5], y[:5], callbacks=LambdaCallback(on_test_batch_end=lambda batch: model.evaluate(x[5:9], y[5:9]))
            ),
        ):
            found = self.fitted({name: measure}, metrics)
            assert found[0] == plain[0]
            for key, value in plain[1].items():
                numpy.testing.assert_array_equal(found[1][key], value)

    def test_what_it_measures_is_right(self):
        found = []
        measure = {"on_train_batch_end": lambda model, x, y: found.append(model.evaluate(x, y, return_dict=True))}
        history, _ = self.fitted({**measure}, ["accuracy"], dropout=False)
        after = {}
        again = {"on_epoch_end": lambda model, x, y: after.update(model.evaluate(x, y, return_dict=True))}
        assert self.fitted(again, ["accuracy"], dropout=False)[0] == history
        assert found[-1] == after

    def test_two_threads_evaluate_at_once(self):
        random = numpy.random.default_rng(0)
        x, y = random.normal(size=(200, 4)).astype("float32"), random.integers(0, 3, 200)
        model = dl.Sequential(dl.Linear(4, 3))
        model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy", "recall"])
        parts = [(x[:150], y[:150]), (x[150:], y[150:])]
        expected = [model.evaluate(*part, batch_size=3)[1:] for part in parts]
        meeting, found = threading.Barrier(2), [None, None]

        def evaluate(which):
            together = LambdaCallback(on_test_batch_begin=lambda batch: meeting.wait(10) if batch == 0 else None)
            found[which] = model.evaluate(*parts[which], batch_size=3, callbacks=together)[1:]

        threads = [threading.Thread(target=evaluate, args=(which,)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == expected

    def test_a_metric_that_cannot_be_copied(self, line, neuron):
        class Own(dl.metrics.MeanAbsoluteError):
            def __deepcopy__(self, memo):
                raise RuntimeError("there is one of me")

        model = neuron(metrics=[Own()])
        with pytest.raises(ParameterError, match="being fed by fit.*cannot be copied: there is one of me"):
            model.fit(*line, callbacks=LambdaCallback(on_batch_end=lambda step: model.evaluate(*line)))
        assert model.evaluate(*line)[1] > 0  # nothing is claimed any more


def keras_rates(losses, patience, cooldown, factor, min_lr, min_delta):
    """Return the rates that keras.callbacks.ReduceLROnPlateau sets: ``on_epoch_end`` of Keras 3.15, mode "min"."""
    rate, best, wait, left, rates = 1.0, math.inf, 0, 0, []
    for current in losses:
        if left > 0:
            left -= 1
            wait = 0
        if current < best - min_delta:
            best, wait = current, 0
        elif left == 0:
            wait += 1
            if wait >= patience and rate > min_lr:
                rate = max(rate * factor, min_lr)
                left, wait = cooldown, 0
        rates.append(rate)
    return rates


@pytest.mark.parametrize("seed", range(40))
def test_reduce_lr_on_plateau_is_that_of_keras(seed):
    random = numpy.random.default_rng(seed)
    losses = random.normal(size=30).round(1).tolist()
    patience, cooldown = int(random.integers(1, 5)), int(random.integers(0, 5))
    settings = {"patience": patience, "cooldown": cooldown, "factor": 0.5, "min_lr": 0.1, "min_delta": 0.05}
    callback = ReduceLROnPlateau("val_loss", mode="min", **settings)
    callback.model = dl.Sequential(dl.Linear(1, 1))
    callback.model.optimizer = dl.SGD(callback.model.parameters(), lr=1.0)
    callback.numbers = ("loss", "val_loss")
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(callback.model.optimizer.lr)
    assert rates == keras_rates(losses, **settings)


def test_rates_that_keras_gave():
    """From a run of Keras 3.15.1."""
    expected = [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125, 0.0625]
    assert keras_rates([1.0] * 12, 2, 2, 0.5, 0.0, 1e-4) == expected


class TestTheBestSoFar:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip("safetensors")

    @pytest.mark.parametrize("mode", ["min", "max"])
    def test_it_outlasts_a_fit(self, mode, line, neuron, tmp_path):
        model = neuron(lambda parameters: dl.SGD(parameters, lr=0.0))
        keep = ModelCheckpoint(tmp_path / "best.safetensors", "loss", save_best_only=True, mode=mode)
        losses, best, saved = (4.0, 9.0, 1.0, 16.0, 2.0), None, []
        for loss in losses:
            model[0].weight.value, model[0].bias.value = 2.0, 1 + loss**0.5
            model.fit(*line, callbacks=keep)
            better = best is None or (loss < best if mode == "min" else loss > best)
            best = loss if better else best
            assert keep.best == pytest.approx(best)
            other = neuron()
            other.load(tmp_path / "best.safetensors")
            saved.append((other[0].bias.value.item() - 1) ** 2)
            assert saved[-1] == pytest.approx(best)


class TestSchedules:
    def test_a_function_of_the_epoch_alone(self, line, neuron):
        model, rates = neuron(), []
        note = LambdaCallback(on_epoch_end=lambda epoch: rates.append(model.optimizer.lr))
        model.fit(*line, epochs=3, callbacks=[LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)), note])
        assert rates == [0.1, 0.05, pytest.approx(0.1 / 3)]

    @pytest.mark.parametrize("wrong", [lambda: 0.1, lambda a, b, c: 0.1])
    def test_functions_of_something_else(self, wrong):
        with pytest.raises(ParameterError, match=r"schedule must take \(epoch, rate\) or \(epoch\)"):
            LearningRateScheduler(wrong)

    @pytest.mark.parametrize("interval", ["batch", "epoch", None])
    @pytest.mark.parametrize("made", [{"total_steps": 20}, {"epochs": 5, "steps_per_epoch": 4}], ids=str)
    def test_one_cycle(self, interval, made, line, neuron):
        """By batches when it says so, or was made so; by epochs with a warning, unless that is what was asked for."""
        model = neuron(lambda parameters: dl.SGD(parameters, momentum=0.9))
        model.fit(*line, epochs=0)
        schedule = dl.optim.OneCycleLR(model.optimizer, 0.01, **made)
        by_batch = interval == "batch" or (interval is None and "epochs" in made)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(*line, batch_size=16, epochs=5, callbacks=LearningRateScheduler(schedule, interval))
        assert schedule.last_epoch == (20 if by_batch else 5)
        assert (model.optimizer.lr < 1e-6) == by_batch
        texts = [str(warning.message) for warning in caught]
        assert len(texts) == (interval is None and not by_batch), texts
        assert all("20 steps, but is stepped once an epoch, 5 times; if it counts batches" in text for text in texts)
        assert all(warning.filename == __file__ for warning in caught)

    def test_one_cycle_of_epochs_needs_no_warning(self, line, neuron):
        model = neuron(lambda parameters: dl.SGD(parameters, momentum=0.9))
        model.fit(*line, epochs=0)
        schedule = dl.optim.OneCycleLR(model.optimizer, 0.01, total_steps=5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(*line, batch_size=16, epochs=5, callbacks=LearningRateScheduler(schedule))
        assert model.optimizer.lr < 1e-6

    @pytest.mark.parametrize("interval", ["step", 1, "batch"])
    def test_intervals_that_do_not_go(self, interval):
        with pytest.raises(ParameterError, match="interval must be"):
            LearningRateScheduler(lambda epoch: 0.1, interval)
