"""compile, fit, evaluate, predict."""

import numpy
import pytest

import minidl as dl
from minidl.data import digits, make_regression, train_test_split
from minidl.errors import (
    DataError,
    DtypeError,
    NonFiniteError,
    OrderError,
    ParameterError,
    TargetError,
    UnknownNameError,
)
from minidl.training import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)


@pytest.fixture(autouse=True)
def _seeded():
    dl.seed(0)


@pytest.fixture
def line():
    x = numpy.linspace(-1, 1, 64, dtype="float32").reshape(-1, 1)
    return x, 2 * x[:, 0] + 1


def regressor(loss="mse", optimizer="sgd", **settings):
    model = dl.Sequential([dl.Dense(units=1, input_shape=(1,))])
    model.compile(optimizer, loss, **settings)
    return model


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


def test_a_step_is_the_step_written_by_hand(line):
    x, y = line
    fitted, by_hand = regressor(), regressor()
    by_hand.load_state_dict(fitted.state_dict())
    loss, optimizer = dl.MSELoss(), dl.SGD(by_hand.parameters(), lr=0.01)
    fitted.fit(x, y, epochs=2, batch_size=16, shuffle=False)
    for _ in range(2):
        for start in range(0, 64, 16):
            loss.forward(by_hand.forward(x[start : start + 16]), y[start : start + 16])
            by_hand.backward(loss.backward())
            optimizer.step()
            optimizer.zero_grad()
    numpy.testing.assert_array_equal(fitted.buffers()[0].values, by_hand.buffers()[0].values)


def test_the_same_seed_gives_the_same_bits(line):
    results = []
    for _ in range(2):
        dl.seed(3)
        model = dl.Sequential(dl.Dense(8, activation="tanh"), dl.Dropout(0.2), dl.Dense(1))
        model.compile("adam", "mse")
        model.fit(*line, epochs=3)
        results.append(model.buffers()[0].values.copy())
    numpy.testing.assert_array_equal(*results)


def test_the_seed_argument_decides_the_order(line):
    models = [regressor(), regressor()]
    models[1].load_state_dict(models[0].state_dict())
    losses = [model.fit(*line, epochs=3, seed=5).history["loss"] for model in models]
    assert losses[0] == losses[1]


def test_softmax_at_the_end_trains_as_logits_do(line):
    x, y = line[0], (line[0][:, 0] > 0).astype("int64")
    ends = [dl.Sequential(dl.Linear(1, 2)), dl.Sequential(dl.Linear(1, 2), dl.Softmax()),
            dl.Sequential(dl.Dense(2, activation="softmax", input_shape=(1,)))]  # fmt: skip
    start = list(ends[0].state_dict().values())
    for model in ends:
        model.load_state_dict(dict(zip(model.state_dict(), start, strict=True)))
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x, y, epochs=2, shuffle=False)
    for model in ends[1:]:
        numpy.testing.assert_array_equal(model.buffers()[0].values, ends[0].buffers()[0].values)


def test_sigmoid_at_the_end_is_sound_far_out():
    model = dl.Sequential(dl.Dense(1, activation="sigmoid", input_shape=(1,), kernel_initializer="ones"))
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    x, y = numpy.array([[-200.0], [200.0]]), numpy.array([1, 0])
    assert model.evaluate(x, y, return_dict=True)["loss"] == pytest.approx(200.0)
    model.fit(x, y, epochs=1)
    assert model[0].weight.value.item() < 0


def test_a_loss_object_on_top_of_its_own_activation_is_refused():
    model = dl.Sequential(dl.Linear(1, 2), dl.Softmax())
    with pytest.raises(ParameterError, match="applied twice"):
        model.compile("sgd", dl.CrossEntropyLoss())
    with pytest.raises(ParameterError, match="takes logits"):
        dl.Sequential(dl.Linear(1, 1), dl.Softmax()).compile("sgd", "binary_crossentropy")


def test_probability_targets():
    model = dl.Sequential(dl.Linear(1, 3))
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    target = numpy.eye(3)[numpy.arange(6) % 3]
    assert set(model.fit(numpy.ones((6, 1)), target, epochs=1).history) == {"loss", "accuracy"}


def test_validation_split_is_the_end_of_the_data():
    x = numpy.arange(10.0).reshape(-1, 1)
    seen = []

    class Spy(dl.layers.Identity):
        def forward(self, x):
            seen.append((self.training, sorted(x[:, 0].tolist())))
            return x

    model = dl.Sequential(Spy(), dl.Linear(1, 1))
    model.compile(dl.SGD(model.parameters(), lr=0.0), "mse")
    model.fit(x, x, epochs=1, batch_size=10, validation_split=0.2)
    assert seen == [(True, list(range(8))), (False, [8, 9])]


def test_sample_and_class_weights_silence_examples():
    x, y = numpy.ones((4, 1)), numpy.array([0.0, 0.0, 8.0, 8.0])
    model = regressor()
    model.compile(dl.SGD(model.parameters(), lr=0.3), "mse")
    model.fit(x, y, epochs=60, batch_size=4, sample_weight=[1, 1, 0, 0])
    assert model.predict(x[:1]).item() == pytest.approx(0.0, abs=1e-3)
    classifier = dl.Sequential(dl.Linear(1, 2))
    classifier.compile(dl.SGD(classifier.parameters(), lr=1.0), "sparse_categorical_crossentropy")
    classifier.fit(x, numpy.array([0, 0, 0, 1]), epochs=100, batch_size=4, class_weight={0: 0.01, 1: 1.0})
    assert classifier.predict(x[:1]).argmax() == 1


def test_integers_are_converted_and_shapes_built():
    model = dl.Sequential(dl.Flatten(), dl.Dense(3))
    model.compile("sgd", "mse")
    model.fit(numpy.arange(24).reshape(2, 3, 4), numpy.zeros((2, 3)), epochs=0)
    assert model[1].weight.shape == (3, 12)


def test_large_data_goes_batch_by_batch(line, monkeypatch):
    models = [regressor(), regressor()]
    models[1].load_state_dict(models[0].state_dict())
    models[0].fit(*line, epochs=2, seed=1)
    monkeypatch.setattr("minidl.training.loop.GATHER_WHOLE", 0)
    models[1].fit(*line, epochs=2, seed=1)
    numpy.testing.assert_array_equal(models[0].buffers()[0].values, models[1].buffers()[0].values)


class TestErrors:
    def test_not_compiled(self, line):
        model = dl.Sequential(dl.Linear(1, 1))
        for call in (model.fit, model.evaluate):
            with pytest.raises(OrderError, match="compile"):
                call(*line)

    def test_unknown_names_list_the_known(self):
        with pytest.raises(UnknownNameError, match="known: .*adam"):
            regressor(optimizer="sdg")
        with pytest.raises(UnknownNameError, match="known: .*mean_squared_error"):
            regressor(loss="squared")
        with pytest.raises(UnknownNameError, match="accuracy"):
            regressor(metrics=["acuracy"])

    def test_parameters_of_another_model(self):
        with pytest.raises(ParameterError, match="another model"):
            regressor(optimizer=dl.SGD(dl.Linear(1, 1).parameters()))

    @pytest.mark.parametrize(
        ("x", "y", "error", "message"),
        [
            (numpy.ones((3, 1)), numpy.ones(4), DataError, "3 examples but y holds 4"),
            (numpy.ones((0, 1)), numpy.ones(0), DataError, "no examples"),
            (numpy.array([[1.0], [numpy.nan]]), numpy.ones(2), DataError, r"nan or inf.*x\[1\]"),
            (numpy.ones((2, 1)), numpy.array([1, numpy.inf]), DataError, r"nan or inf.*y\[1\]"),
            (numpy.array([["a"]]), numpy.ones(1), DtypeError, "real numbers"),
            (numpy.ones((1, 1), dtype=complex), numpy.ones(1), DtypeError, "complex"),
            (numpy.array([[None]]), numpy.ones(1), DtypeError, "object"),
        ],
    )
    def test_data_that_cannot_be_used(self, x, y, error, message):
        with pytest.raises(error, match=message):
            regressor().fit(x, y)

    def test_classes_out_of_range_are_named_before_the_first_step(self):
        model = dl.Sequential(dl.Linear(1, 3))
        model.compile("sgd", "sparse_categorical_crossentropy")
        before = model.buffers()[0].values.copy()
        with pytest.raises(TargetError, match=r"y\[2\] = 3 is no class.*0 to 2"):
            model.fit(numpy.ones((3, 1)), numpy.array([0, 2, 3]))
        with pytest.raises(TargetError, match=r"y\[1\] = 0.5 is no class index"):
            model.fit(numpy.ones((2, 1)), numpy.array([0, 0.5]))
        numpy.testing.assert_array_equal(model.buffers()[0].values, before)

    def test_weights_that_do_not_fit(self, line):
        with pytest.raises(DataError, match="sample_weight"):
            regressor().fit(*line, sample_weight=[1, 2])
        model = dl.Sequential(dl.Linear(1, 2))
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(DataError, match=r"no weight for the classes \[1\]"):
            model.fit(numpy.ones((2, 1)), numpy.array([0, 1]), class_weight={0: 1.0})

    @pytest.mark.parametrize("split", [-0.1, 1.0, 1.5, 0.999])
    def test_validation_split(self, line, split):
        with pytest.raises(DataError, match="validation_split"):
            regressor().fit(*line, validation_split=split)

    @pytest.mark.parametrize("wrong", [0, -1, 1.5])
    def test_batch_size(self, line, wrong):
        with pytest.raises(ParameterError, match="batch_size"):
            regressor().fit(*line, batch_size=wrong)

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own, of the overflow
    def test_a_loss_that_is_not_finite_names_epoch_step_and_layer(self, line):
        model = dl.Sequential(dl.Linear(1, 4), dl.Tanh(), dl.Linear(4, 1))
        model[0].bias.value, model[2].weight.value = 50.0, 2e38
        model.compile("sgd", "mse")
        with pytest.raises(NonFiniteError, match=r"epoch 1, step 1; .*layer 2, Linear\(4, 1\)"):
            model.fit(*line, epochs=5, batch_size=16)


class TestCallbacks:
    def test_hooks_come_in_order(self, line):
        calls = []

        class Recorder(Callback):
            def on_train_begin(self):
                calls.append("train")

            def on_epoch_begin(self, epoch):
                calls.append(f"epoch {epoch}")

            def on_batch_begin(self, step):
                calls.append(f"batch {step}")

            def on_batch_end(self, step, loss):
                assert loss > 0
                calls.append(f"end of batch {step}")

            def on_epoch_end(self, epoch, logs):
                assert logs["loss"] > 0
                calls.append(f"end of epoch {epoch}")

            def on_train_end(self):
                calls.append("end")

        regressor().fit(*line, batch_size=32, epochs=3, initial_epoch=2, callbacks=[Recorder()])
        assert calls == [
            "train",
            "epoch 2",
            "batch 0",
            "end of batch 0",
            "batch 1",
            "end of batch 1",
            "end of epoch 2",
            "end",
        ]

    def test_early_stopping_restores_the_best_weights(self, line):
        x, y = line
        model = regressor()
        model.compile(dl.SGD(model.parameters(), lr=0.0), "mse")
        stop = EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)

        class Worsen(Callback):
            def on_epoch_begin(self, epoch):
                self.model[0].bias.value = 1.0 + epoch

        history = model.fit(x, y, epochs=10, callbacks=[Worsen(), stop])
        assert (len(history.epoch), stop.stopped_epoch) == (3, 2)
        assert model[0].bias.value.item() == 1.0

    def test_an_unknown_number_to_monitor(self, line):
        with pytest.raises(UnknownNameError, match="val_loss.*known: loss"):
            regressor().fit(*line, callbacks=[EarlyStopping()])

    def test_schedules(self, line):
        model = regressor()
        model.fit(*line, epochs=3, callbacks=[LearningRateScheduler(lambda epoch, rate: rate / 2)])
        assert model.optimizer.lr == pytest.approx(0.01 / 8)
        model.fit(*line, epochs=4, callbacks=[ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)])
        assert model.optimizer.lr == pytest.approx(0.01 / 8 / 2**3)

    def test_files(self, line, tmp_path):
        pytest.importorskip("safetensors")
        model = regressor()
        model.fit(
            *line,
            epochs=2,
            callbacks=[ModelCheckpoint(tmp_path / "m-{epoch}.safetensors"), CSVLogger(tmp_path / "log.csv")],
        )
        assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "m-1.safetensors", "m-2.safetensors"]
        lines = (tmp_path / "log.csv").read_text().splitlines()
        assert lines[0] == "epoch,loss"
        assert len(lines) == 3


class TestProgress:
    def test_silent_where_there_is_no_terminal(self, line, capfd):
        regressor().fit(*line, epochs=2)
        assert capfd.readouterr() == ("", "")

    def test_two_prints_a_line_an_epoch(self, line, capfd):
        model = regressor(metrics=["mae"])
        model.fit(*line, epochs=2, verbose=2, validation_data=line)
        lines = capfd.readouterr().out.splitlines()
        assert len(lines) == 2
        for part in ("epoch 2/2", "ms/step", "loss: ", "mae: ", "val_loss: "):
            assert part in lines[1]
        model.evaluate(*line, verbose=2)
        assert "loss: " in capfd.readouterr().out

    def test_one_moves_a_bar(self, line, capfd):
        regressor().fit(*line, epochs=1, verbose=1)
        out, err = capfd.readouterr()
        assert out == ""
        assert "epoch 1/1" in err
        assert "loss" in err

    def test_other_levels_are_refused(self, line):
        with pytest.raises(ParameterError, match="verbose"):
            regressor().fit(*line, verbose=3)


def test_history_can_be_plotted(line):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    figure = regressor(metrics=["mae"]).fit(*line, epochs=3, validation_data=line).plot()
    assert len(figure.axes) == 2


def test_plotting_without_matplotlib_names_the_extra(line, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(dl.errors.MissingDependencyError, match=r"minidl\[plot\]"):
        regressor().fit(*line, epochs=1).plot()
