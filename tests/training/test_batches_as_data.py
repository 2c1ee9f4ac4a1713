"""Data that come batch by batch: iterables, sequence objects, arrays on disk."""

import re
import tracemalloc

import numpy
import pytest
from array_double import DoubleEngine
from sequence_models import LanguageModel, Masked

import minidl as dl
from minidl.errors import DataError, DtypeError, MinidlError, ParameterError, ShapeError, TargetError
from minidl.training import LambdaCallback, progress


class Batches:
    """A loader: re-iterable, without len."""

    def __init__(self, x, y, size=16, weights=None):
        self.arrays, self.size, self.begun = [a for a in (x, y, weights) if a is not None], size, 0

    def __iter__(self):
        self.begun += 1
        for start in range(0, len(self.arrays[1]), self.size):
            yield tuple(self.cut(array, slice(start, start + self.size)) for array in self.arrays)

    @staticmethod
    def cut(array, part):
        if isinstance(array, dict):
            return {name: value[part] for name, value in array.items()}
        return tuple(value[part] for value in array) if isinstance(array, tuple) else array[part]


class Sequence:
    """What Keras calls a Sequence: len, [i] and on_epoch_end."""

    def __init__(self, x, y, size=16):
        self.x, self.y, self.size, self.asked, self.ends = x, y, size, [], 0

    def __len__(self):
        return -(-len(self.y) // self.size)

    def __getitem__(self, index):
        assert type(index) is int
        self.asked.append(index)
        part = slice(index * self.size, (index + 1) * self.size)
        return self.x[part], self.y[part]

    def on_epoch_end(self):
        self.ends += 1


def endless(x, y, size=16):
    while True:
        yield from Batches(x, y, size)


def weights_of(model):
    return model.flat_buffers()[0].values.copy()


KINDS = {
    "loader": Batches,
    "sequence": Sequence,
    "list": lambda *given: list(Batches(*given)),
    "lists in a list": lambda *given: [list(batch) for batch in Batches(*given)],
}


class TestTheyTrainAsArraysDo:
    @pytest.fixture
    def expected(self, line, neuron):
        model = neuron("adam", metrics=["mae"])
        model.load_state_dict({"0.weight": numpy.full((1, 1), 0.3), "0.bias": numpy.zeros(1)})
        history = model.fit(*line, batch_size=16, epochs=3, shuffle=False, validation_data=line)
        return weights_of(model), history.history, model.evaluate(*line, batch_size=16), model.predict(line[0])

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_same_bits(self, kind, line, neuron, expected):
        model = neuron("adam", metrics=["mae"])
        model.load_state_dict({"0.weight": numpy.full((1, 1), 0.3), "0.bias": numpy.zeros(1)})
        make = KINDS[kind]
        held_out = Batches(*line) if kind.startswith("list") else make(*line)  # a list of two or three would be (x, y)
        history = model.fit(make(*line), epochs=3, shuffle=False, validation_data=held_out)
        numpy.testing.assert_array_equal(weights_of(model), expected[0])
        for name, numbers in history.history.items():
            assert numbers == pytest.approx(expected[1][name], rel=1e-6)
        assert model.evaluate(make(*line)) == pytest.approx(expected[2], rel=1e-6)
        if not kind.startswith("list"):
            numpy.testing.assert_array_equal(model.predict(make(*line)), expected[3])

    def test_a_generator_with_steps(self, line, neuron, expected):
        model = neuron("adam", metrics=["mae"])
        model.load_state_dict({"0.weight": numpy.full((1, 1), 0.3), "0.bias": numpy.zeros(1)})
        history = model.fit(
            endless(*line), epochs=3, steps_per_epoch=4, validation_data=endless(*line), validation_steps=4
        )
        numpy.testing.assert_array_equal(weights_of(model), expected[0])
        for name, numbers in history.history.items():
            assert numbers == pytest.approx(expected[1][name], rel=1e-6)
        assert model.evaluate(endless(*line), steps=4) == pytest.approx(expected[2], rel=1e-6)
        numpy.testing.assert_array_equal(model.predict(endless(*line), steps=4), expected[3])

    def test_weights_in_batches_and_class_weights(self):
        x, y = numpy.linspace(-1, 1, 12).reshape(-1, 1), numpy.arange(12) % 3
        given = numpy.linspace(0, 2, 12)
        found = []
        for data in ({"x": x, "y": y, "sample_weight": given, "batch_size": 5}, {"x": Batches(x, y, 5, given)}):
            dl.seed(0)
            model = dl.Sequential(dl.Linear(1, 3))
            model.compile("sgd", "sparse_categorical_crossentropy")
            model.fit(**data, epochs=2, shuffle=False, class_weight={2: 4.0})
            found.append((weights_of(model), model.evaluate(**data)))
        numpy.testing.assert_array_equal(found[0][0], found[1][0])
        assert found[0][1] == pytest.approx(found[1][1])

    def test_a_class_that_a_batch_lacks_may_have_a_weight(self, neuron):
        x, y = numpy.ones((4, 1)), numpy.array([0, 1, 2, 3])
        neuron().fit(Batches(x, y, 2), class_weight={3: 2.0})
        with pytest.raises(DataError, match="epoch 1, step 1: class_weight names 'a'"):
            neuron().fit(Batches(x, y, 2), class_weight={"a": 2.0})

    @pytest.mark.parametrize("form", [tuple, dict])
    def test_several_inputs(self, form):
        random = numpy.random.default_rng(0)
        ids, mask, y = random.integers(0, 6, (10, 4)), random.random((10, 4)) < 0.8, random.integers(0, 3, 10)
        x = (ids, mask) if form is tuple else {"mask": mask, "ids": ids}
        found = []
        for data in ((x, y, 4), (Batches(x, y, 4),)):
            dl.seed(0)
            model = Masked()
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(*data, epochs=2, shuffle=False)
            found.append((weights_of(model), model.evaluate(*data)))
            assert {kinds[:2] for kinds in model.seen} == {("int64", "bool")}
        numpy.testing.assert_array_equal(found[0][0], found[1][0])
        assert found[0][1] == pytest.approx(found[1][1], rel=1e-6)

    def test_augment_changes_each_batch(self, line, neuron):
        models = [neuron(), neuron()]
        models[1].load_state_dict(models[0].state_dict())
        models[0].fit(Batches(*line), augment=lambda x, generator: 2 * x, validation_data=Batches(*line))
        models[1].fit(Batches(2 * line[0], line[1]), validation_data=Batches(*line))
        numpy.testing.assert_array_equal(*map(weights_of, models))
        assert models[0].history.history == models[1].history.history

    def test_batches_of_different_lengths(self):
        """Padded to the longest of each batch."""

        class Padded:
            def __iter__(self):
                random = numpy.random.default_rng(0)
                for length in (3, 7, 5, 2):
                    tokens = random.integers(0, 5, (4, length))
                    targets = (tokens + 1) % 5
                    targets[0, 1:] = -100
                    yield tokens, targets

        model = LanguageModel()
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(Padded(), epochs=3, validation_data=Padded())
        loss, accuracy = model.evaluate(Padded())
        rows, kept = [], []
        for tokens, targets in Padded():
            rows.append(model.predict(tokens).reshape(-1, 5))
            kept.append(targets.ravel())
        rows, kept = numpy.concatenate(rows), numpy.concatenate(kept)
        assert loss == pytest.approx(float(dl.CrossEntropyLoss().forward(rows, kept)), rel=1e-5)
        assert accuracy == pytest.approx(dl.metrics.accuracy(kept, rows))
        with pytest.raises(
            DataError, match=r"different shapes in different batches, \(2, 5\) and \(3, 5\).*one at a time"
        ):
            model.predict(Padded())

    def test_on_a_device(self, line):
        found = []
        for engine in ("numpy", DoubleEngine()):
            with dl.use(engine):
                dl.seed(0)
                model = dl.Sequential(dl.Linear(1, 4), dl.Tanh(), dl.Linear(4, 1))
                model.compile("adam", "mse", metrics=["mae"])
                history = model.fit(Sequence(*line), epochs=2, seed=0, validation_data=Batches(*line)).history
                found.append((history, model.evaluate(Batches(*line)), model.predict(Batches(*line))))
                assert type(found[-1][2]) is numpy.ndarray
        for name, numbers in found[0][0].items():
            assert found[1][0][name] == pytest.approx(numbers, rel=1e-5)
        assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)


class TestOrder:
    def test_a_sequence_is_shuffled_and_told_when_it_ends(self, line, neuron):
        orders = []
        for _ in range(2):
            data = Sequence(*line)
            neuron().fit(data, epochs=3, seed=4)
            orders.append(data.asked)
            assert data.ends == 3
        assert orders[0] == orders[1]
        epochs = [orders[0][i : i + 4] for i in (0, 4, 8)]
        expected = numpy.random.default_rng(4)
        assert epochs == [expected.permutation(4).tolist() for _ in range(3)]

    def test_only_for_training(self, line, neuron):
        held_out = Sequence(*line)
        neuron().fit(Sequence(*line), epochs=2, validation_data=held_out)
        neuron().fit(held_out, shuffle=False)
        neuron().predict(held_out)
        assert held_out.asked == [0, 1, 2, 3] * 4

    def test_steps_go_on_where_the_last_epoch_ended(self, line, neuron):
        data, ends = Sequence(*line), []
        neuron().fit(
            data,
            epochs=3,
            steps_per_epoch=3,
            shuffle=False,
            callbacks=LambdaCallback(on_epoch_end=lambda *_: ends.append(len(data.asked))),
        )
        assert data.asked == [0, 1, 2, 3, 0, 1, 2, 3, 0]
        assert (ends, data.ends) == ([3, 6, 9], 2)

    def test_a_validation_of_some_steps_sees_the_same_batches(self, line, neuron):
        held_out = Sequence(*line)
        neuron().fit(*line, epochs=3, validation_data=held_out, validation_steps=2)
        assert held_out.asked == [0, 1] * 3

    def test_the_first_batch_is_looked_at_once(self, line, neuron):
        data = Batches(*line)
        model = neuron()
        model.fit(data, epochs=2)
        assert (data.begun, model.optimizer.step_count) == (2, 8)

    def test_arrays_take_steps_too(self, line, neuron):
        model = neuron()
        model.fit(*line, epochs=2, steps_per_epoch=10, batch_size=16)
        assert model.optimizer.step_count == 20
        half = model.evaluate(line[0][:32], line[1][:32])
        assert model.evaluate(*line, batch_size=16, steps=2) == pytest.approx(half, rel=1e-6)
        assert len(model.predict(line[0], batch_size=16, steps=3)) == 48
        history = model.fit(*line, validation_data=line, validation_steps=1, batch_size=32).history
        assert history["val_loss"] == [pytest.approx(model.evaluate(line[0][:32], line[1][:32]), rel=1e-6)]


class TestEachBatchIsChecked:
    @pytest.mark.parametrize(
        ("bad", "error", "message"),
        [
            ((numpy.array([[1.0], [numpy.nan]]), numpy.ones(2)), DataError, r"x holds nan or inf in 1 of 2.*x\[1\]"),
            ((numpy.ones((2, 1)), numpy.array([1, numpy.inf])), DataError, r"y holds nan or inf.*y\[1\]"),
            ((numpy.ones((2, 1)), numpy.ones(3)), DataError, "x holds 2 examples but y holds 3"),
            ((numpy.ones((0, 1)), numpy.ones(0)), DataError, "x holds no examples"),
            ((numpy.full((1, 1), 1e39), numpy.ones(1)), DataError, "too large for the model's float32"),
            ((numpy.array([["a"]]), numpy.ones(1)), DtypeError, "x must hold real numbers"),
            ((numpy.ones((2, 1)), numpy.ones((2, 2))), ShapeError, r"shape of the model's outputs"),
            ((numpy.ones((2, 1)), numpy.ones(2), [1, -1]), DataError, r"sample_weight\[1\] = -1"),
            ((numpy.ones((2, 1)), numpy.ones(2), [1]), DataError, r"sample_weight must have shape \(2,\)"),
            ((numpy.ones((2, 1)), 1.0), DataError, "y must have one row for each example, got a single number"),
            (((numpy.ones((2, 1)),), numpy.ones(2)), DataError, "x is several arrays in this batch, but was one array"),
            (numpy.ones((2, 1)), DataError, r"a batch must be \(x, y\) or \(x, y, sample_weight\), got a ndarray"),
            ({"x": 1, "y": 2}, DataError, "got a dict"),
            ((1,), DataError, "got a tuple of 1"),
            (None, DataError, "got a NoneType"),
        ],
    )
    @pytest.mark.parametrize("call", ["fit", "validate", "evaluate"])
    def test_and_its_place_is_told(self, call, bad, error, message, line, neuron):
        def data():
            yield from Batches(line[0][:32], line[1][:32], 8)
            yield bad

        model = neuron()
        act, place, steps = {
            "fit": (lambda: model.fit(data(), epochs=2, steps_per_epoch=3), "fit: epoch 2, step 2: ", 4),
            "validate": (
                lambda: model.fit(Batches(*line), epochs=2, validation_data=data(), validation_steps=3),
                "fit, validation_data: epoch 2, step 2: ",
                8,
            ),
            "evaluate": (lambda: model.evaluate(data()), "evaluate: step 5: ", 0),
        }[call]
        with pytest.raises(error, match=message) as caught:
            act()
        assert str(caught.value).startswith(place)
        assert getattr(model.optimizer, "step_count", 0) == steps

    def test_classes_out_of_range(self):
        model = LanguageModel()
        model.compile("sgd", "sparse_categorical_crossentropy")
        tokens = numpy.zeros((2, 3), dtype=int)
        with pytest.raises(TargetError, match=r"fit: epoch 1, step 2: y\[0, 0\] = 7 is no class.*5 outputs"):
            model.fit(iter([(tokens, tokens), (tokens, tokens + 7)]))

    def test_the_first_batch_is_checked_before_anything_happens(self, neuron):
        model = neuron()
        with pytest.raises(DataError, match=r"fit: epoch 3, step 1: x holds nan"):
            model.fit([(numpy.full((1, 1), numpy.nan), [1.0])], epochs=3, initial_epoch=2)
        assert model._optimizer is None

    def test_a_model_that_is_not_built_yet(self, line):
        model = dl.Sequential(dl.Dense(4, activation="relu"), dl.Dense(1))
        model.compile("sgd", "mse")
        model.fit(Batches(*line), epochs=0)
        assert model[0].weight.shape == (4, 1)


class TestTheDataThemselvesFail:
    @pytest.mark.parametrize("kind", ["generator", "sequence", "loader"])
    def test_the_step_is_told(self, kind, line, neuron):
        class Failing(Sequence):
            def __getitem__(self, index):
                if index == 2:
                    raise KeyError("no such file")
                return super().__getitem__(index)

        class Loader:
            def __iter__(self):
                return broken()

        def broken():
            yield from list(Batches(*line))[:2]
            raise KeyError("no such file")

        data = {"generator": broken, "sequence": lambda: Failing(*line), "loader": Loader}[kind]
        words = r"step 3: the data raised KeyError: 'no such file'"
        with pytest.raises(DataError, match=f"^fit: epoch 1, {words}") as caught:
            neuron().fit(data(), shuffle=False)
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(DataError, match=f"^fit, validation_data: epoch 1, {words}"):
            neuron().fit(*line, validation_data=data())
        with pytest.raises(DataError, match=f"^evaluate: {words}"):
            neuron().evaluate(data())
        with pytest.raises(DataError, match=f"^predict: {words}"):
            neuron().predict(data())

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_what_is_no_fault_of_the_data_passes(self, error, line, neuron):
        def broken():
            yield from list(Batches(*line))[:2]
            raise error

        model = neuron()
        with pytest.raises(error):
            model.fit(broken())
        assert not model.training

    @pytest.mark.parametrize("where", ["__iter__", "__len__", "on_epoch_end"])
    def test_wherever_it_fails(self, where, line, neuron):
        def fail(self):
            raise ValueError("broken")

        base = Batches if where == "__iter__" else Sequence
        data = type("Broken", (base,), {where: fail})(*line)
        with pytest.raises(DataError, match=r"fit: epoch 1, step \d: the data raised ValueError: broken"):
            neuron().fit(data)

    def test_a_len_that_cannot_tell_is_no_error(self, line, neuron):
        class Loader(Batches):
            def __len__(self):
                raise TypeError("the length of a stream is not known")

        neuron().fit(Loader(*line), epochs=2)

    def test_an_error_of_ours_is_told_with_its_step_too(self, line, neuron):
        def data():
            yield next(iter(Batches(*line)))
            dl.data.one_hot([-1])

        with pytest.raises(DataError, match="epoch 1, step 2: the data raised TargetError: one_hot: labels"):
            neuron().fit(data())

    def test_a_callbacks_error_is_its_own(self, line, neuron):
        def fail(step):
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            neuron().fit(Batches(*line), callbacks=LambdaCallback(on_batch_begin=fail))


class TestTooFew:
    @pytest.mark.parametrize("data", [list, lambda: iter([]), lambda: Batches([], []), lambda: Sequence([], [])])
    def test_none_at_all(self, data, neuron):
        with pytest.raises(DataError, match=r"fit: epoch 1, step 1: the data (contain no batches|ran out)"):
            neuron().fit(data())
        with pytest.raises(DataError, match="fit: epoch 1, step 1"):
            neuron().fit(data(), steps_per_epoch=2)

    def test_an_iterator_is_gone_after_one_pass(self, line, neuron):
        with pytest.raises(ParameterError, match="x is an iterator.*so 2 epochs need steps_per_epoch"):
            neuron().fit(iter(Batches(*line)), epochs=2)
        with pytest.raises(ParameterError, match="validation_data is an iterator.*need validation_steps"):
            neuron().fit(*line, epochs=2, validation_data=iter(Batches(*line)))
        assert neuron().fit(iter(Batches(*line)), validation_data=iter(Batches(*line))).epoch == [0]

    def test_an_iterator_that_runs_dry(self, line, neuron):
        model = neuron()
        with pytest.raises(DataError, match=r"fit: epoch 2, step 2: the data ran out.*an iterator"):
            model.fit(iter(Batches(*line)), epochs=2, steps_per_epoch=3)
        assert model.optimizer.step_count == 4
        assert model.history.epoch == [0]
        with pytest.raises(DataError, match=r"fit, validation_data: epoch 2, step 1: the data ran out"):
            neuron().fit(*line, epochs=2, validation_data=iter(Batches(*line)), validation_steps=4)

    @pytest.mark.parametrize("kind", [Batches, Sequence])
    def test_an_evaluation_of_more_steps_than_there_are(self, kind, line, neuron):
        for call in ("evaluate", "predict"):
            with pytest.raises(
                DataError, match=f"{call}: step 5: the data ran out after 4 batches, but 6 steps were requested"
            ):
                getattr(neuron(), call)(kind(*line), steps=6)
        with pytest.raises(DataError, match="evaluate: step 3: the data ran out after 2 batches"):
            neuron().evaluate(*line, batch_size=32, steps=3)

    def test_data_that_shrink_to_nothing(self, line, neuron):
        class Once(Batches):
            def __iter__(self):
                return super().__iter__() if self.begun == 0 else iter([])

        with pytest.raises(DataError, match=r"fit: epoch 2, step 1: the data contain no batches"):
            neuron().fit(Once(*line), epochs=2)
        with pytest.raises(DataError, match=r"fit: epoch 1, step 5: the data contain no batches"):
            neuron().fit(Once(*line), steps_per_epoch=6)


class TestWhatDoesNotGoTogether:
    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"y": numpy.ones(64)}, "y"),
            ({"batch_size": 32}, "batch_size"),
            ({"validation_split": 0.2}, "validation_split"),
            ({"sample_weight": numpy.ones(64)}, "sample_weight"),
            ({"y": numpy.ones(64), "sample_weight": numpy.ones(64)}, "y, sample_weight"),
        ],
    )
    @pytest.mark.parametrize("data", [Batches, Sequence, lambda *given: iter(Batches(*given))])
    def test_batches_hold_it_all(self, settings, name, data, line, neuron):
        with pytest.raises(ParameterError, match=f"fit: {name} cannot be combined with x in batches"):
            neuron().fit(data(*line), **settings)

    def test_nor_evaluating(self, line, neuron):
        with pytest.raises(ParameterError, match="evaluate: batch_size cannot be combined"):
            neuron().evaluate(Batches(*line), batch_size=256)
        with pytest.raises(ParameterError, match="predict: batch_size cannot be combined"):
            neuron().predict(Batches(*line), batch_size=256)
        with pytest.raises(ParameterError, match="evaluate: y cannot be combined"):
            neuron().evaluate(Batches(*line), line[1])

    @pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "3"])
    def test_steps_are_whole_numbers(self, wrong, line, neuron):
        for name in ("steps_per_epoch", "validation_steps"):
            with pytest.raises(ParameterError, match=f"fit: {name} must be a whole number from 1 on"):
                neuron().fit(*line, **{name: wrong}, validation_data=line)
        for call in ("evaluate", "predict"):
            with pytest.raises(ParameterError, match=f"{call}: steps must be"):
                getattr(neuron(), call)(Batches(*line), steps=wrong)

    def test_validation_steps_of_nothing(self, line, neuron):
        with pytest.raises(ParameterError, match="no data to validate on"):
            neuron().fit(*line, validation_steps=3)

    @pytest.mark.parametrize("wrong", [3, (1,), [1, 2, 3, 4], "xy"])
    def test_what_is_no_validation_data(self, wrong, line, neuron):
        with pytest.raises(DataError, match=r"validation_data must be \(x, y\), \(x, y, sample_weight\) or batches"):
            neuron().fit(*line, validation_data=wrong)

    @pytest.mark.parametrize("x", [range(4), "text", 3.0, b"ab", {1.0, 2.0}, None])
    def test_what_is_no_data_in_batches(self, x, neuron):
        with pytest.raises(MinidlError):
            neuron().fit(x)

    def test_predict_takes_batches_with_and_without_targets(self, line, neuron):
        model = neuron()
        expected = model.predict(line[0])
        parts = [line[0][:40], line[0][40:]]
        for wrap in (
            lambda x: x,
            lambda x: (x,),
            lambda x: [x, x[:, 0]],
            lambda x: (x, x[:, 0], x[:, 0]),
            lambda x: {"x": x},
            lambda x: ((x,),),
            lambda x: x.tolist(),
        ):
            numpy.testing.assert_allclose(model.predict(map(wrap, parts)), expected, rtol=1e-6)
        numpy.testing.assert_allclose(model.predict(iter([[[0.5], [0.25]]])), model.predict([[0.5], [0.25]]))


class TestProgress:
    def test_unknown_totals(self, line, neuron, capfd, monkeypatch):
        monkeypatch.setattr(progress, "INTERVAL", 0.0)
        neuron().fit(Batches(*line), epochs=2, verbose=1)
        *bars, last = [text for text in re.split(r"[\r\n]+", capfd.readouterr().err) if text.strip()]
        assert re.fullmatch(r"epoch 1/2 - 0/\? 00:00", bars[0].rstrip())
        assert re.match(r"epoch 1/2 - 3/\? 00:00, loss: [\d.]+ - [\d.e+-]+ ms/step", bars[3])
        assert re.match(r"epoch 1/2 - 4/4 - [\d.]+ s", bars[5])
        assert re.match(r"epoch 2/2 - 3/4 .* \d\d:\d\d left", bars[9])  # now it is known
        assert re.match(r"epoch 2/2 - 4/4 - ", last)

    def test_known_totals(self, line, neuron, capfd):
        neuron().fit(Sequence(*line), verbose=2)
        neuron().fit(endless(*line), steps_per_epoch=7, verbose=2)
        neuron().evaluate(Batches(*line), verbose=2)
        found = capfd.readouterr().out.splitlines()
        assert [re.match(r"(epoch 1/1 - )?(\d/\d) - ", text).group(2) for text in found] == ["4/4", "7/7", "4/4"]

    def test_a_length_that_was_wrong(self, line, neuron, capfd):
        class Loader(Batches):
            def __len__(self):
                return 100

        neuron().fit(Loader(*line), verbose=2)
        assert "epoch 1/1 - 4/4 - " in capfd.readouterr().out


class TestOnDisk:
    """Arrays that are read batch by batch, never whole."""

    @pytest.fixture
    def stored(self, tmp_path):
        def write(name, array):
            numpy.save(tmp_path / f"{name}.npy", array)
            return numpy.load(tmp_path / f"{name}.npy", mmap_mode="r")

        return write

    class Dataset:
        """What h5py gives: shape, dtype and rows by slices or ascending indices."""

        def __init__(self, array):
            self.array, self.shape, self.dtype, self.largest = array, array.shape, array.dtype, 0

        def __getitem__(self, rows):
            assert isinstance(rows, slice) or (numpy.diff(rows) > 0).all()
            found = self.array[rows]
            self.largest = max(self.largest, len(found))
            return found

        def __array__(self, *args, **kwargs):
            raise AssertionError("read whole")

    @pytest.mark.parametrize("shuffle", [False, True])
    @pytest.mark.parametrize("which", ["memmap", "view", "dataset", "y too"])
    def test_the_same_bits_as_in_memory(self, which, shuffle, line, stored, neuron):
        x, y = line
        given = {
            "memmap": lambda: (stored("x", x), y),
            "view": lambda: (numpy.asarray(stored("x", numpy.concatenate([x, x])))[:64], y.tolist()),
            "dataset": lambda: (self.Dataset(x), y),
            "y too": lambda: (x, stored("y", y)),
        }[which]()
        models = [neuron("adam", metrics=["mae"]) for _ in range(2)]
        models[1].load_state_dict(models[0].state_dict())
        weight = numpy.linspace(0, 2, 64)
        found = []
        for model, data in zip(models, (line, given), strict=True):
            history = model.fit(
                *data,
                batch_size=10,
                epochs=3,
                seed=2,
                shuffle=shuffle,
                validation_split=0.2,
                sample_weight=weight,
            )
            found.append((history.history, model.evaluate(*data, batch_size=7), model.predict(data[0], batch_size=9)))
        numpy.testing.assert_array_equal(*map(weights_of, models))
        for name, numbers in found[0][0].items():
            assert found[1][0][name] == pytest.approx(numbers, rel=1e-6)
        assert found[1][1] == pytest.approx(found[0][1], rel=1e-6)
        numpy.testing.assert_array_equal(found[0][2], found[1][2])
        if which == "dataset":
            assert given[0].largest == 10

    def test_windows_of_a_long_text(self, stored):
        """As a language model is trained: windows that overlap, of a file of tokens."""
        tokens = stored("tokens", (numpy.arange(3000) * 7 % 5).astype("uint16"))
        windows = numpy.lib.stride_tricks.sliding_window_view(tokens, 65)  # (2936, 65): 130 times the file
        dl.seed(0)
        model = LanguageModel(width=8)
        model.compile(dl.Adam(model.parameters(), lr=0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
        history = model.fit(windows[:, :-1], windows[:, 1:], epochs=3, steps_per_epoch=60, batch_size=8)
        assert set(model.seen) == {numpy.dtype("uint16")}
        assert history.history["accuracy"][-1] == 1.0

    @pytest.mark.parametrize("kind", ["memmap", "float64", "dict"])
    def test_it_is_never_in_memory(self, kind, tmp_path, stored):
        x = numpy.lib.format.open_memmap(
            tmp_path / "x.npy", "w+", dtype="float32" if kind != "float64" else "float64", shape=(20_000, 256)
        )  # 20 MB, or 40
        x[:] = 0.5
        y = numpy.ones(20_000, dtype="float32")
        model = dl.Sequential(dl.Linear(256, 1))
        model.compile("sgd", "mse")
        given = {"x": x} if kind == "dict" else x
        model.predict(x[:10])
        tracemalloc.start()
        try:
            model.fit(given, y, batch_size=64, validation_split=0.1)
            model.evaluate(given, y)
            model.predict(given)
            assert tracemalloc.get_traced_memory()[1] < 4e6
        finally:
            tracemalloc.stop()

    def test_what_is_not_asked_for_is_not_read(self):
        x, y = self.Dataset(numpy.ones((1000, 1), dtype="float32")), numpy.ones(1000)
        model = dl.Sequential(dl.Linear(1, 1))
        model.compile("sgd", "mse")
        rows = []
        read = x.array
        x.array = type("Counted", (), {"__getitem__": lambda self, part: rows.append(part) or read[part]})()
        model.fit(x, y, batch_size=10, steps_per_epoch=3)
        assert len(rows) == 4  # an example to see the shapes, and the steps

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda x, y: (x, y[:9]), DataError, "^fit: x holds 64 examples but y holds 9"),
            (lambda x, y: ({"x": x[:3]}, y), DataError, r"^fit: x\['x'\] holds 3 examples but y holds 64"),
            (lambda x, y: (x[:0], y[:0]), DataError, r"^fit: [xy] holds no examples \(shape \(0,"),
            (
                lambda x, y: (x, y.reshape(32, 2)[:, :1].repeat(2, 0).repeat(2, 1)),
                ShapeError,
                "^fit: .*shape of the model",
            ),
        ],
    )
    def test_what_can_be_seen_at_once_is(self, change, error, message, line, stored, neuron):
        with pytest.raises(error, match=message):
            neuron().fit(*change(stored("x", line[0]), line[1]))

    def test_the_rest_when_it_comes(self, line, stored, neuron):
        x = line[0].copy()
        x[40] = numpy.nan
        with pytest.raises(DataError, match=r"^fit: epoch 1, step 3: x holds nan or inf in 1 of 16.*x\[8\]"):
            neuron().fit(stored("x", x), line[1], batch_size=16, shuffle=False)

    def test_weights_and_classes_of_batches(self, stored):
        x, y = numpy.linspace(-1, 1, 12).reshape(-1, 1).astype("float32"), numpy.arange(12) % 3
        found = []
        for given in (x, stored("x", x)):
            dl.seed(0)
            model = dl.Sequential(dl.Linear(1, 3))
            model.compile("sgd", "sparse_categorical_crossentropy")
            model.fit(given, y, batch_size=5, seed=1, class_weight={2: 3.0}, sample_weight=numpy.linspace(1, 2, 12))
            found.append(weights_of(model))
        numpy.testing.assert_array_equal(*found)

    @pytest.mark.peers
    def test_tensors_and_columns_are_in_memory(self, line, neuron):
        torch = pytest.importorskip("torch")
        model = neuron()
        x, y = torch.from_numpy(line[0]), torch.from_numpy(line[1])
        model.fit(x, y, epochs=2)
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
        assert model.evaluate(loader) == pytest.approx(model.evaluate(*line), rel=1e-6)
        numpy.testing.assert_allclose(model.predict(loader), model.predict(line[0]), rtol=1e-6)
        assert len(model.fit(loader, epochs=2, validation_data=loader).epoch) == 2
