"""Batches as the engine takes them, and metrics fed in larger pieces."""

import itertools

import numpy
import pytest
from array_double import DoubleEngine, transfers

import minidl as dl
from minidl import engines
from minidl.errors import ParameterError, UnknownNameError
from minidl.training import feed, meter
from minidl.training.feed import Feed
from minidl.training.meter import Meter, metrics_named

X = numpy.arange(20.0, dtype="float32").reshape(10, 2)
Y = numpy.arange(10)


@pytest.fixture(params=["whole", "batch by batch"])
def way(request, monkeypatch):
    if request.param == "batch by batch":
        monkeypatch.setattr(feed, "REORDER_WHOLE", 0)
        monkeypatch.setattr(feed, "KEEP_ON_DEVICE", 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("engine", [engines.get("numpy"), DoubleEngine()], ids=["host", "device"])
@pytest.mark.parametrize("weights", [None, numpy.arange(10.0)])
class TestFeed:
    def test_in_order(self, engine, weights):
        with engines.use(engine):
            source = Feed(X, Y, weights, 4)
            batches = [tuple(None if a is None else engine.to_host(a) for a in batch) for batch in source]
        assert source.steps == 3
        assert [len(batch[0]) for batch in batches] == [4, 4, 2]
        for position, array in enumerate((X, Y, weights)):
            if array is not None:
                numpy.testing.assert_array_equal(numpy.concatenate([batch[position] for batch in batches]), array)

    def test_in_a_new_order_every_epoch(self, engine, weights):
        with engines.use(engine):
            source = Feed(X, Y, weights, 4, numpy.random.default_rng(0))
            epochs = []
            for _ in range(2):
                rows = []
                for x, y, w in source:
                    assert type(x) is type(engine.empty((1,)))
                    x, y = engine.to_host(x), engine.to_host(y)
                    numpy.testing.assert_array_equal(x[:, 0], 2 * y)
                    if w is not None:
                        numpy.testing.assert_array_equal(engine.to_host(w), y)
                    rows += y.tolist()
                epochs.append(rows)
        assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
        assert epochs[0] != epochs[1]
        expected = numpy.random.default_rng(0)
        assert epochs == [expected.permutation(10).tolist() for _ in range(2)]


def test_batches_of_the_host_are_views_of_the_data():
    for x, y, _ in Feed(X, Y, None, 4):
        assert numpy.shares_memory(x, X)
        assert numpy.shares_memory(y, Y)


class TestOnADevice:
    """With the array double, which refuses what CuPy refuses and counts what crosses the bus."""

    @pytest.fixture(autouse=True)
    def on_the_device(self):
        with engines.use(DoubleEngine()):
            yield

    @pytest.fixture
    def model(self):
        model = dl.Sequential(dl.Linear(2, 8), dl.Tanh(), dl.Dense(3, activation="softmax"))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def test_it_computes_what_the_host_computes(self, model):
        x, y = numpy.random.default_rng(0).normal(size=(50, 2)), numpy.arange(50) % 3
        kinds = [True, False]
        results = []
        for on_device in kinds:
            with engines.use(engines.current() if on_device else "numpy"):
                dl.seed(0)
                model = dl.Sequential(dl.Linear(2, 8), dl.Tanh(), dl.Dense(3, activation="softmax"))
                model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
                weights = numpy.linspace(0, 2, 50)
                history = model.fit(x, y, epochs=3, validation_split=0.2, sample_weight=weights, class_weight={1: 2.0})
                results.append((history.history, model.evaluate(x, y), model.predict(x)))
        (device, host) = results
        for name, numbers in host[0].items():
            assert device[0][name] == pytest.approx(numbers, rel=1e-5)
        assert device[1] == pytest.approx(host[1], rel=1e-5)
        assert type(device[2]) is numpy.ndarray
        numpy.testing.assert_allclose(device[2], host[2], rtol=1e-5)

    def test_data_may_be_on_the_device_already(self, model):
        place = engines.current().asarray
        history = model.fit(place(X), place(Y % 3), epochs=2)
        assert len(history.epoch) == 2

    def test_data_cross_the_bus_once_and_a_step_waits_for_nothing(self):
        model = dl.Sequential(dl.Linear(2, 8), dl.Tanh(), dl.Linear(8, 1))
        model.compile("sgd", "mse", metrics=["mae"])
        x, y = numpy.ones((64, 2)), numpy.ones(64)
        model.fit(x, y)
        crossed = []
        for epochs in (1, 3):
            transfers.clear()
            model.fit(x, y, batch_size=4, epochs=epochs)
            crossed.append(dict(transfers))
        more = {kind: crossed[1].get(kind, 0) - crossed[0].get(kind, 0) for kind in crossed[1]}
        assert more["to device"] == 2  # the order of each epoch
        assert (
            more["wait"] <= 8
        )  # the first loss of each epoch, the last ones, the metrics, and whether the weights are finite
        assert not more.get("to host")

    def test_the_layer_that_is_not_finite(self, model):
        model.fit(X, Y % 3, epochs=0)
        model[2].weight.value = numpy.inf
        with pytest.raises(dl.errors.NonFiniteError, match=r"layer 2, .*Dense.* \(its parameter 'weight'"):
            model.fit(X, Y % 3)


class TestMeter:
    @pytest.mark.parametrize("chunk", [0, 40, 1 << 18])
    def test_pieces_do_not_matter(self, chunk, monkeypatch):
        monkeypatch.setattr(meter, "CHUNK", chunk)
        found = Meter(metrics_named(["mae", "r2"], from_logits=False))
        random = numpy.random.default_rng(0)
        prediction, target = random.normal(size=(2, 30, 1))
        found.reset()
        for start in range(0, 30, 4):
            output = prediction[start : start + 4].copy()
            found.add(output, target[start : start + 4])
            output[...] = numpy.nan  # what a layer that uses its memory again would do
        assert found.results()["mae"] == pytest.approx(abs(prediction - target).mean())
        assert found.results()["r2"] == pytest.approx(dl.metrics.r2_score(target[:, 0], prediction[:, 0]))

    def test_what_was_not_looked_at_is_forgotten(self):
        found = Meter(metrics_named("mae", from_logits=False))
        found.add(numpy.full((2, 1), 9.0), numpy.zeros((2, 1)))
        found.reset()
        found.add(numpy.ones((2, 1)), numpy.zeros((2, 1)))
        assert found.results() == {"mae": 1.0}

    def test_it_hardly_ever_calls_a_metric(self):
        class Counting:
            name, calls, seen = "counting", 0, 0

            def reset(self):
                self.seen = 0

            def update(self, prediction, target):
                self.calls += 1
                self.seen += len(prediction)

            def result(self):
                return self.seen

        metric = Counting()
        model = dl.Sequential(dl.Linear(2, 1))
        model.compile("sgd", "mse", metrics=[metric])
        history = model.fit(numpy.ones((640, 2)), numpy.ones(640), epochs=2, batch_size=4)
        assert history.history["counting"] == [640, 640]
        assert metric.calls == 2

    def test_any_way_to_name_metrics(self):
        def worst(y_true, y_pred):
            return abs(y_true - y_pred).max()

        names = [m.name for m in metrics_named(["acc", worst, dl.metrics.TopKAccuracy(2)], from_logits=False)]
        assert names == ["acc", "worst", "top_k_accuracy"]
        assert metrics_named(None, False) == []
        assert [m.name for m in metrics_named("mae", False)] == ["mae"]
        assert [m.name for m in metrics_named(worst, False)] == ["worst"]

    @pytest.mark.parametrize(
        ("wanted", "error"), [(["mae", "mae"], ParameterError), (["nothing"], UnknownNameError), ([3], ParameterError)]
    )
    def test_what_is_no_list_of_metrics(self, wanted, error):
        with pytest.raises(error):
            metrics_named(wanted, False)

    def test_the_name_of_the_loss_is_taken(self):
        metric = dl.metrics.MeanAbsoluteError(name="loss")
        with pytest.raises(ParameterError, match="two numbers are named 'loss'"):
            metrics_named([metric], False)


def test_every_step_is_an_equal_share_of_the_data():
    """The mean over an epoch weighs steps by their examples: a smaller last batch counts less."""
    model = dl.Sequential(dl.Linear(1, 1, bias=False))
    model[0].weight.value = 0.0
    model.compile(lambda parameters: dl.SGD(parameters, lr=0.0), "mse")
    y = numpy.array([1.0, 1.0, 1.0, 3.0])
    history = model.fit(numpy.ones((4, 1)), y, batch_size=3, shuffle=False)
    assert history.history["loss"] == [pytest.approx(numpy.mean(list(itertools.chain([1, 1, 1], [9]))))]
