"""What crosses the bus, and when the host waits, counted on the array double.

The double copies as late as it may, so these tests also show that what is sent is waited for, and that pinned memory is not used
again too early.
"""

import numpy
import pytest
from array_double import DoubleEngine, transfers, xp
from cuda_double import LAG, Stream, first_device, get_current_stream
from device_cases import draw, gpt_config, ids

import minidl as dl
from minidl import models
from minidl.errors import DataError, NonFiniteError, TargetError
from minidl.training import Callback, feed, totals
from minidl.training.totals import LateLogs

pytestmark = pytest.mark.gpu_double

ENGINE = DoubleEngine()


@pytest.fixture(autouse=True)
def on_the_device():
    with first_device(), dl.use(ENGINE):
        yield


def crossings(model, x, y, steps, epochs=1, batch=4, **settings):
    """Return what a fit of so many steps an epoch counts."""
    transfers.clear()
    model.fit(x[: steps * batch], y[: steps * batch], batch_size=batch, epochs=epochs, verbose=0, **settings)
    return dict(+transfers)


def classifier(**settings):
    model = models.mlp([4, 8, 3], "gelu")
    model.compile("adamw", "sparse_categorical_crossentropy", metrics=["accuracy"], **settings)
    return model


def gpt():
    model = models.GPT2(gpt_config())
    model.compile("adam", dl.CrossEntropyLoss(class_axis=-1))
    return model


def convolutions():
    parts = [dl.Conv2d(1, 2, 3, padding=1), dl.BatchNorm2d(2), dl.ReLU(), dl.GlobalAvgPool2d(), dl.Linear(2, 3)]
    model = dl.Sequential(parts)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


RUNS = {
    "mlp": (classifier, draw(160, 4), ids(160, below=3)),
    "convolutions": (convolutions, draw(160, 1, 6, 6), ids(160, below=3)),
    "gpt": (gpt, ids(160, 6, below=9), ids(160, 6, below=9, seed=1)),
}
WAITS_IN_AN_EPOCH = 5
"""The first loss; the last two groups of losses; the sums of the metrics; whether the weights are finite."""


@pytest.fixture
def short_groups(monkeypatch):
    """So that 20 steps are enough for the first groups of losses to arrive."""
    monkeypatch.setattr(totals, "GROUP", 4)


@pytest.fixture(params=["data on the device", "batches sent"])
def way(request, monkeypatch):
    if request.param == "batches sent":
        monkeypatch.setattr(feed, "KEEP_ON_DEVICE", 0)
    return request.param


SETTINGS = {
    "clipped": {"callbacks": dl.training.GradientClipping(1.0)},
    "two batches a step": {"gradient_accumulation_steps": 2},
}


@pytest.mark.usefixtures("short_groups")
@pytest.mark.parametrize(("name", "settings"), [*((name, None) for name in RUNS), *(("mlp", key) for key in SETTINGS)])
def test_a_step_waits_for_nothing(name, settings, way):
    """Between a fit of 20 steps and one of 40, nothing differs but the batches that are sent and the losses that are read late."""
    make, x, y = RUNS[name]
    few, many = (crossings(make(), x, y, steps, **SETTINGS.get(settings, {})) for steps in (20, 40))
    for kind in ("wait", "to host", "to device"):
        assert many.get(kind, 0) == few.get(kind, 0), (kind, few, many)
    assert many.get("sent", 0) == (2 * 40 if way == "batches sent" else 0)
    assert many["read later"] <= few["read later"] + 3 * 20 / totals.GROUP, (
        "losses, their weights and checks, in groups"
    )


@pytest.mark.parametrize("name", ["mlp", pytest.param("convolutions", marks=pytest.mark.nightly), "gpt"])
def test_an_epoch_waits_for_the_few_numbers_that_are_stated(name):
    make, x, y = RUNS[name]
    one, three = crossings(make(), x, y, 20), crossings(make(), x, y, 20, epochs=3)
    assert three["wait"] - one["wait"] <= 2 * WAITS_IN_AN_EPOCH
    assert three["to device"] - one["to device"] == 2  # the order of each epoch
    assert three.get("to host", 0) == one.get("to host", 0)


@pytest.mark.usefixtures("short_groups")
def test_weights_of_examples_and_classes_do_not_wait_either():
    def run(steps):
        return crossings(classifier(), *RUNS["mlp"][1:], steps, class_weight={1: 2.0})

    assert run(40)["wait"] == run(20)["wait"]


def test_batches_from_an_iterable_are_sent_once_each():
    x, y = RUNS["mlp"][1:]
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 160, 4)]
    transfers.clear()
    history = classifier().fit(batches, epochs=2)
    assert transfers["sent"] == 2 * 2 * 40
    assert transfers["wait"] <= 2 * WAITS_IN_AN_EPOCH + 4
    assert numpy.isfinite(history.history["loss"]).all()


def test_it_waits_when_somebody_looks():
    class Looking(Callback):
        seen = ()

        def on_train_batch_end(self, batch, logs=None):
            if batch % 10 == 3:
                self.seen = (*self.seen, logs["loss"])

    class NotLooking(Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert isinstance(logs, LateLogs)

    make, x, y = RUNS["mlp"]
    looking = Looking()
    plain, quiet = crossings(make(), x, y, 20), crossings(make(), x, y, 20, callbacks=NotLooking())
    assert plain["wait"] == quiet["wait"]
    assert crossings(make(), x, y, 20, callbacks=looking)["wait"] == plain["wait"] + 2
    assert all(type(value) is float for value in looking.seen)


class TestLateErrors:
    def test_the_first_loss_is_looked_at_before_its_step(self):
        model = classifier()
        model.fit(draw(4, 4), ids(4, below=3))
        model[2].weight.value = numpy.nan
        before = [p.value.get() for p in model.parameters()]
        with pytest.raises(NonFiniteError, match=r"nan in epoch 1, step 1; .*its parameter 'weight' is not finite"):
            model.fit(draw(8, 4), ids(8, below=3), batch_size=2)
        for value, parameter in zip(before, model.parameters(), strict=True):
            numpy.testing.assert_array_equal(value, parameter.value.get())

    @pytest.mark.parametrize("at", [1, 5, 40])
    def test_a_later_one_is_found_late_and_says_so(self, at):
        class Spoil(Callback):
            def on_train_batch_begin(self, batch, logs=None):
                if batch == at:
                    self.model[0].weight.value = numpy.inf

        with pytest.raises(
            NonFiniteError,
            match=rf"the loss became nan in epoch 1, step {at + 1}; a GPU's losses are read late, here after",
        ) as caught:
            classifier().fit(draw(400, 4), ids(400, below=3), batch_size=4, callbacks=Spoil())
        after = int(str(caught.value).partition("here after step ")[2].partition(",")[0])
        assert at < after <= at + (LAG + 2) * totals.GROUP

    def test_targets_that_only_the_device_sees(self):
        """Of a model that computes its own targets, for one: fit checks those that it is given on the host."""

        class Shifted(dl.CrossEntropyLoss):
            def forward(self, prediction, target, sample_weight=None):
                return super().forward(prediction, target + 2, sample_weight)

        model = models.mlp([4, 3])
        model.compile("sgd", Shifted())
        with pytest.raises(TargetError, match="is not a class; with 3 classes"):
            model.fit(draw(40, 4), ids(40, below=3), batch_size=4)
        with pytest.raises(TargetError, match="is not a class"):
            model.evaluate(draw(40, 4), ids(40, below=3))

    def test_an_iterable_that_fails(self):
        def batches():
            yield draw(2, 4), ids(2, below=3)
            yield draw(2, 4), ids(2, below=3)
            raise OSError("the disk is gone")

        with pytest.raises(DataError, match=r"epoch 1, step 3: the data raised OSError: the disk is gone"):
            classifier().fit(batches())

    def test_ignored_batches_have_no_weight(self):
        x, y = draw(32, 4), numpy.where(numpy.arange(32) < 16, -100, ids(32, below=3))
        ends = []
        for place in ("numpy", ENGINE):
            with dl.use(place):
                dl.seed(0)
                model = models.mlp([4, 3])
                model.compile("sgd", dl.CrossEntropyLoss(), metrics=["accuracy"])
                ends.append(model.fit(x, y, batch_size=4, shuffle=False, epochs=2).history)
        for name, numbers in ends[0].items():
            assert ends[1][name] == pytest.approx(numbers, rel=1e-5)


class TestCopies:
    """The double's own lateness, so that the tests above mean something."""

    def test_a_batch_that_is_not_waited_for_is_not_there(self):
        arrival = ENGINE.send(numpy.ones(3))
        assert (arrival._array._values != 1).all() or arrival._array._values.size == 0
        numpy.testing.assert_array_equal(arrival.take().get(), [1, 1, 1])

    def test_pinned_memory_is_kept_until_it_is_copied(self):
        arrivals = [ENGINE.send(numpy.full(100, i)) for i in range(10)]
        for i, arrival in enumerate(arrivals):
            numpy.testing.assert_array_equal(arrival.take().get(), numpy.full(100, i))

    def test_the_host_may_change_its_array_after_sending_it(self):
        host = numpy.ones(3)
        arrival = ENGINE.send(host)
        host[:] = 7
        numpy.testing.assert_array_equal(arrival.take().get(), [1, 1, 1])

    def test_a_reading_shows_the_numbers_of_its_time(self):
        x = ENGINE.asarray(numpy.ones(3))
        reading = ENGINE.read_later(x)
        x += 1
        assert not reading.ready
        numpy.testing.assert_array_equal(reading.get()[0], [1, 1, 1])
        assert reading.ready

    def test_a_copy_waits_for_what_was_handed_over_before(self, monkeypatch):
        """Its memory may have belonged to an array that is still read."""
        waited = []
        monkeypatch.setattr(
            Stream, "wait_event", lambda self, event: (waited.append((self, event._stream)), event.happen())
        )
        ENGINE.send(numpy.ones(3)).take()
        computing = get_current_stream()
        assert waited == [(ENGINE._copies.stream, computing), (computing, ENGINE._copies.stream)]

    def test_on_the_host_a_reading_is_there(self):
        reading = dl.engines.get("numpy").read_later(numpy.ones(2))
        assert reading.ready
        numpy.testing.assert_array_equal(reading.get()[0], [1, 1])

    def test_members_of_the_double_exist_in_cupy(self):
        from array_double import SURFACE
        from cuda_double import Device, Event

        for kind in (Device, Event, Stream):
            public = {name for name in vars(kind) if not name.startswith("_")}
            extra = {"put", "run", "happen"} | ({"capturing"} if kind is Stream else set())
            assert public - extra <= set(SURFACE[f"cupy.cuda.{kind.__name__}"]), kind
        assert xp.cuda.Stream is Stream
