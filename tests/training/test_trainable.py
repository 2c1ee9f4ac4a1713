"""compile, fit, evaluate, predict: what a user of Keras expects of them."""

import copy
from itertools import chain

import numpy
import pytest

import minidl as dl
from minidl.data import digits, make_regression, train_test_split
from minidl.errors import DataError, NotBuiltError, OrderError, ParameterError, UnknownNameError


def values(model):
    return numpy.concatenate([p.value.reshape(-1) for p in model.parameters()])


def test_the_classic_first_program_reaches_the_noise_floor():
    X, y = make_regression(n_samples=1000, n_features=1, noise=0.1, random_state=42)
    assert y.shape == (1000,)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
    model = dl.Sequential([dl.Dense(units=1, input_shape=(1,))])
    model.compile(optimizer="sgd", loss="mean_squared_error")
    history = model.fit(X_train, y_train, epochs=100, batch_size=32, validation_data=(X_test, y_test))
    assert history.epoch == list(range(100))
    assert set(history.history) == {"loss", "val_loss"}
    assert model.evaluate(X_test, y_test) < 0.015
    assert model.predict(X_test).shape == (200, 1)


def test_digits_are_learnt():
    x, y = digits(flat=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    model = dl.Sequential([dl.Dense(64, activation="relu", input_shape=(64,)), dl.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, epochs=25, validation_data=(x_test, y_test))
    assert history.history["val_accuracy"][-1] > 0.95
    loss, accuracy = model.evaluate(x_test, y_test)
    assert accuracy == history.history["val_accuracy"][-1]
    assert loss == pytest.approx(history.history["val_loss"][-1])
    numpy.testing.assert_allclose(model.predict(x_test).sum(axis=1), 1, rtol=1e-5)


def test_the_same_seed_gives_the_same_bits(line):
    results = []
    for seed in (3, 3, 4):
        dl.seed(seed)
        model = dl.Sequential(dl.Dense(8, activation="tanh"), dl.Dropout(0.2), dl.Dense(1))
        model.compile("adam", "mse")
        losses = model.fit(*line, epochs=3).history["loss"]
        results.append((losses, values(model).tobytes()))
    assert results[0] == results[1] != results[2]


def test_the_seed_argument_decides_the_order(line, neuron, twins):
    models = twins(*(neuron() for _ in range(3)))
    losses = [
        model.fit(*line, epochs=3, seed=seed).history["loss"] for model, seed in zip(models, (5, 5, 6), strict=True)
    ]
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(ParameterError, match="fit: seed"):
        neuron().fit(*line, seed=-1)


def test_without_shuffle_the_order_is_that_of_the_data():
    seen = []

    class Spy(dl.layers.Identity):
        def forward(self, x):
            if self.training:
                seen.append(x[:, 0].tolist())
            return x

    x = numpy.arange(5.0).reshape(-1, 1)
    model = dl.Sequential(Spy(), dl.Linear(1, 1))
    model.compile("sgd", "mse")
    model.fit(x, x, batch_size=2, shuffle=False)
    assert seen == [[0, 1], [2, 3], [4]]
    seen.clear()
    model.fit(x, x, batch_size=2, epochs=2, seed=0)
    assert sorted(chain(*seen[:3])) == sorted(chain(*seen[3:])) == [0, 1, 2, 3, 4]
    assert seen[:3] != seen[3:]


class TestCompile:
    def test_before_the_model_knows_its_input(self, line):
        model = dl.Sequential([dl.Dense(4, activation="relu"), dl.Dense(1)])
        model.compile("sgd", "mse")
        assert model.optimizer is None
        model.fit(*line)
        assert isinstance(model.optimizer, dl.SGD)
        assert model.optimizer.lr == 0.01

    @pytest.mark.parametrize(
        ("given", "kind", "rate"),
        [
            ("adam", dl.Adam, 0.001),
            (dl.Adagrad, dl.Adagrad, 0.01),
            (lambda parameters: dl.SGD(parameters, lr=0.3), dl.SGD, 0.3),
        ],
    )
    def test_ways_to_name_an_optimizer(self, given, kind, rate, line, neuron):
        model = neuron(given)
        model.fit(*line)
        assert type(model.optimizer) is kind
        assert model.optimizer.lr == rate

    def test_an_optimizer_of_a_part_freezes_the_rest(self, line):
        model = dl.Sequential(dl.Linear(1, 3), dl.Linear(3, 1))
        frozen = model[0].weight.value.copy()
        model.compile(dl.SGD(model[1].parameters(), lr=0.1), "mse")
        before = model[1].weight.value.copy()
        model.fit(*line)
        numpy.testing.assert_array_equal(model[0].weight.value, frozen)
        assert (model[1].weight.value != before).any()

    def test_the_optimizer_goes_on_from_fit_to_fit(self, line, neuron, twins):
        once, twice = twins(neuron("adam"), neuron("adam"))
        once.fit(*line, epochs=4, shuffle=False)
        for _ in range(2):
            twice.fit(*line, epochs=2, shuffle=False)
        numpy.testing.assert_array_equal(values(once), values(twice))
        steps = twice.optimizer.step_count
        twice.compile("adam", "mse")
        twice.fit(*line, epochs=1)
        assert (steps, twice.optimizer.step_count) == (8, 2)

    def test_parameters_of_another_model(self, neuron):
        with pytest.raises(ParameterError, match="another model"):
            neuron(dl.SGD(dl.Linear(1, 1).parameters()))

    def test_an_optimizer_object_needs_a_built_model(self):
        with pytest.raises(NotBuiltError, match="input_shape"):
            dl.Sequential(dl.Dense(1)).compile(dl.SGD(dl.Linear(1, 1).parameters()), "mse")

    def test_a_layer_added_later(self, line, neuron):
        model = neuron()
        model.fit(*line)
        model.append(dl.Linear(1, 1))
        with pytest.raises(ParameterError, match="compile it again"):
            model.fit(*line)

    @pytest.mark.parametrize("wrong", [3, None, [dl.SGD]])
    def test_no_optimizer(self, wrong, neuron):
        with pytest.raises(ParameterError, match="optimizer must be"):
            neuron(wrong)

    def test_a_function_that_makes_no_optimizer(self, line, neuron):
        with pytest.raises(ParameterError, match="must make an Optimizer"):
            neuron(lambda parameters: parameters).fit(*line)

    def test_unknown_names_list_the_known(self, neuron):
        with pytest.raises(UnknownNameError, match=r"known: .*adam"):
            neuron("sdg")
        with pytest.raises(UnknownNameError, match=r"known: .*mean_squared_error"):
            neuron(loss="squared")
        with pytest.raises(UnknownNameError, match="accuracy"):
            neuron(metrics=["acuracy"])

    def test_nothing_to_minimise(self):
        with pytest.raises(ParameterError, match="give a loss"):
            dl.Sequential(dl.Linear(1, 1)).compile("sgd")

    def test_a_failed_compile_changes_nothing(self, line, neuron):
        model = neuron(metrics=["mae"])
        with pytest.raises(UnknownNameError):
            model.compile("sgd", "mse", metrics=["nothing"])
        assert set(model.fit(*line).history) == {"loss", "mae"}

    def test_a_copy_trains_by_itself(self, line, neuron):
        model = neuron("adam")
        model.fit(*line)
        twin = copy.deepcopy(model)
        before = values(model).copy()
        twin.fit(*line)
        numpy.testing.assert_array_equal(values(model), before)
        assert (values(twin) != before).any()


class TestFit:
    def test_not_compiled(self, line):
        model = dl.Sequential(dl.Linear(1, 1))
        for call in (model.fit, model.evaluate):
            with pytest.raises(OrderError, match=f"{call.__name__}: .*compile"):
                call(*line)

    def test_it_ends_in_evaluation_mode_even_after_an_error(self, line, neuron):
        model = neuron()
        assert model.training
        model.fit(*line)
        assert not model.training

        def fail(step):
            assert model.training
            raise KeyError("somebody's own")

        with pytest.raises(KeyError):
            model.fit(*line, callbacks=dl.training.LambdaCallback(on_batch_begin=fail))
        assert not model.training
        assert model.history.epoch == []

    def test_no_epochs_build_the_model(self):
        model = dl.Sequential(dl.Flatten(), dl.Dense(3))
        model.compile("sgd", "mse")
        assert model.fit(numpy.arange(24).reshape(2, 3, 4), numpy.zeros((2, 3)), epochs=0).history == {}
        assert model[1].weight.shape == (3, 12)

    def test_epochs_are_counted_from_the_initial_one(self, line, neuron):
        assert neuron().fit(*line, epochs=5, initial_epoch=3).epoch == [3, 4]

    @pytest.mark.parametrize("setting", ["batch_size", "epochs", "initial_epoch"])
    @pytest.mark.parametrize("wrong", [-1, 1.5, "3", True, None])
    def test_settings_that_must_be_whole_numbers(self, setting, wrong, line, neuron):
        with pytest.raises(ParameterError, match=f"fit: {setting} must be a whole number"):
            neuron().fit(*line, **{setting: wrong})

    def test_the_precision_is_the_models(self, line):
        model = dl.Sequential(dl.Dense(4, activation="tanh", dtype="float64"), dl.Dense(1, dtype="float64"))
        model.compile("sgd", "mse")
        model.fit(numpy.full((4, 1), 1e300), numpy.zeros(4), epochs=0)  # not possible in float32
        model.fit(*line)
        assert {p.dtype for p in model.parameters()} == {numpy.dtype("float64")}
        assert model.predict(line[0]).dtype == "float64"

    @pytest.mark.parametrize("base", [object, dl.Layer])
    @pytest.mark.parametrize("nested", [False, True])
    def test_a_users_own_layers_hide_the_shapes(self, base, nested, line):
        class Halve(base):
            def forward(self, x):
                return x[:, :2]

            def backward(self, dy):
                return numpy.concatenate([dy, 0 * dy], axis=1)

        halve = dl.Sequential(Halve(), dl.Tanh()) if nested else Halve()
        model = dl.Sequential(dl.Linear(1, 4), halve, dl.Dense(3), dl.Linear(3, 1))
        model.compile("adam", "mse")
        losses = model.fit(*line, epochs=20).history["loss"]
        assert model[2].weight.shape == (3, 2)
        assert losses[-1] < losses[0]

    def test_the_precision_shows_behind_a_users_own_layer(self):
        class Own:
            def forward(self, x):
                return x

            def backward(self, dy):
                return dy

        model = dl.Sequential(Own(), dl.Dense(1, kernel_initializer="ones", dtype="float64"))
        assert model.predict([[0.1]]).item() == 0.1


class TestValidation:
    def test_the_split_is_the_end_of_the_data(self):
        x = numpy.arange(10.0).reshape(-1, 1)
        seen = []

        class Spy(dl.layers.Identity):
            def forward(self, x):
                seen.append((self.training, sorted(x[:, 0].tolist())))
                return x

        model = dl.Sequential(Spy(), dl.Linear(1, 1))
        model.compile(dl.SGD(model.parameters(), lr=0.0), "mse")
        model.fit(x, x, epochs=1, batch_size=10, validation_split=0.2)
        assert seen[-2:] == [(True, list(range(8))), (False, [8, 9])]

    @pytest.mark.parametrize(("share", "n", "kept"), [(0.2, 10, 8), (0.2, 64, 51), (0.9, 10, 1), (0.07, 100, 93)])
    def test_its_size(self, share, n, kept, neuron):
        model = neuron()
        model.fit(numpy.ones((n, 1)), numpy.ones(n), batch_size=1, validation_split=share)
        assert model.optimizer.step_count == kept

    def test_data_come_before_the_split(self, line, neuron):
        model = neuron()
        model.fit(*line, validation_data=(line[0][:3], line[1][:3]), validation_split=0.5)
        assert model.optimizer.step_count == 2

    def test_it_measures_the_weights_at_the_epochs_end(self, line, neuron):
        model = neuron(metrics=["mae"])
        history = model.fit(*line, epochs=2, validation_data=line).history
        assert model.evaluate(*line) == pytest.approx([history["val_loss"][-1], history["val_mae"][-1]])

    def test_it_has_sample_weights_but_no_class_weights(self):
        x, y = numpy.ones((8, 1)), numpy.array([0, 1] * 4)
        model = dl.Sequential(dl.Linear(1, 2))
        model.compile(dl.SGD(model.parameters(), lr=0.0), "sparse_categorical_crossentropy")
        plain = model.evaluate(x, y)
        logs = model.fit(x, y, validation_split=0.5, class_weight={0: 0.0, 1: 0.0}, sample_weight=[3.0] * 8).history
        assert logs["loss"] == [0.0]
        assert logs["val_loss"][0] == pytest.approx(3 * plain)
        logs = model.fit(x, y, validation_data=(x, y, [2.0] * 8)).history
        assert logs["val_loss"][0] == pytest.approx(2 * logs["loss"][0])

    @pytest.mark.parametrize("split", [-0.1, 1.0, 1.5, 0.999, "a"])
    def test_no_share(self, split, line, neuron):
        with pytest.raises(DataError, match="validation_split"):
            neuron().fit(*line, validation_split=split)

    @pytest.mark.parametrize("wrong", [3, (1,), (1, 2, 3, 4)])
    def test_no_data(self, wrong, line, neuron):
        with pytest.raises(DataError, match="validation_data must be"):
            neuron().fit(*line, validation_data=wrong)

    def test_bad_data_are_found_before_the_first_step(self, line, neuron):
        model = neuron()
        before = values(model).copy()
        with pytest.raises(DataError, match=r"fit, validation_data: x holds nan or inf"):
            model.fit(*line, validation_data=(numpy.full((2, 1), numpy.nan), numpy.ones(2)))
        numpy.testing.assert_array_equal(values(model), before)


class TestEvaluateAndPredict:
    def test_what_comes_back(self, line, neuron):
        model = neuron(metrics=["mae", "r2"])
        numbers = model.evaluate(*line)
        assert numbers == list(model.evaluate(*line, return_dict=True).values())
        assert list(model.evaluate(*line, return_dict=True)) == ["loss", "mae", "r2"]
        prediction = model.predict(line[0])[:, 0].astype("float64")
        assert numbers[0] == pytest.approx(((prediction - line[1]) ** 2).mean())
        assert numbers[1] == pytest.approx(abs(prediction - line[1]).mean())
        assert isinstance(neuron().evaluate(*line), float)

    @pytest.mark.parametrize("loss", ["mse", "huber", dl.MSELoss("sum"), dl.MSELoss("half_sum")])
    def test_the_batch_size_does_not_matter(self, loss, line, neuron):
        model = neuron(loss=loss, metrics=["r2"])
        whole = model.evaluate(*line, batch_size=64)
        assert model.evaluate(*line, batch_size=7) == pytest.approx(whole, rel=1e-5)
        assert whole[0] == pytest.approx(float(model.loss.forward(model.forward(line[0]), line[1])), rel=1e-6)

    def test_sample_weights(self, line, neuron):
        model = neuron()
        half = numpy.repeat([1.0, 0.0], 32)
        parts = model.evaluate(line[0][:32], line[1][:32])
        assert model.evaluate(*line, sample_weight=half) == pytest.approx(parts / 2)

    def test_dropout_rests_and_the_mode_stays(self):
        model = dl.Sequential(dl.Linear(4, 64), dl.Dropout(0.5), dl.Linear(64, 1))
        x = numpy.ones((3, 4), dtype="float32")
        first = model.predict(x)
        numpy.testing.assert_array_equal(first, model.predict(x))
        assert model.training
        numpy.testing.assert_allclose(model.predict(x, batch_size=2), first, rtol=1e-6)
        model.eval()
        model.predict(x)
        assert not model.training

    def test_predict_needs_no_compile_and_builds(self):
        model = dl.Sequential(dl.Dense(3, activation="softmax"))
        assert model.predict([[1, 2], [3, 4]]).shape == (2, 3)

    @pytest.mark.parametrize("wrong", [0, -1, 2.5])
    def test_batch_sizes(self, wrong, line, neuron):
        with pytest.raises(ParameterError, match="predict: batch_size"):
            neuron().predict(line[0], batch_size=wrong)
        with pytest.raises(ParameterError, match="evaluate: batch_size"):
            neuron().evaluate(*line, batch_size=wrong)
