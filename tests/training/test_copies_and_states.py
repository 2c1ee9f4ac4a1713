"""Copies train on as the original does; what a fit must leave alone stays as it was; an aborted step leaves no trace."""

import copy
import io
import multiprocessing
import pickle

import numpy
import pytest

import minidl as dl
from minidl import optim
from minidl.errors import MinidlError, NonFiniteError, ParameterError
from minidl.training import Callback

X = numpy.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = numpy.arange(32) % 3


def model_of(compiled="adam"):
    dl.seed(0)
    model = dl.Sequential(
        [dl.Linear(4, 8), dl.BatchNorm1d(8), dl.Residual(dl.Linear(8, 8), dl.Tanh()), dl.Dropout(0.2), dl.Dense(3)]
    )
    model.build((4,))
    if compiled:
        loss = "sparse_categorical_crossentropy"
        made = compiled if isinstance(compiled, str) else compiled(model.parameters())
        model.compile(made, loss, metrics=["accuracy"])
    return model


def through_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


def in_a_new_process(thing):
    """Send it to a spawned process, which trains it once more and sends it back."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        sent = pool.apply_async(through_pickle, (thing,))
        return sent.get(timeout=120)  # a process that cannot start is made anew for ever


def weights_of(model):
    return model.state_dict() | (model.optimizer.state_dict() if model.optimizer is not None else {})


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        numpy.testing.assert_array_equal(one[name], other[name], err_msg=name)


def train(model, epochs=2):
    dl.seed(1)
    return model.fit(X, Y, epochs=epochs, seed=2)


COPIES = [through_pickle, copy.deepcopy]


class TestCopies:
    @pytest.mark.parametrize("copied", COPIES)
    @pytest.mark.parametrize(
        "compiled", ["adam", "sgd", lambda p: dl.SGD(p, lr=0.1, momentum=0.9), lambda p: dl.Adagrad(p)]
    )
    @pytest.mark.parametrize("before", [0, 2])
    def test_a_copy_trains_on_bit_for_bit(self, copied, compiled, before):
        model = model_of(compiled)
        train(model, before)
        twin = copied(model)
        train(model)
        untouched = copied(twin)
        train(twin)
        assert_same(weights_of(model), weights_of(twin))
        assert twin.parameters()[0].buffer is twin.parameters()[-1].buffer
        assert any(
            (a != b).any() for a, b in zip(weights_of(untouched).values(), weights_of(twin).values(), strict=True)
        )

    def test_large_arrays_that_arrive_as_maps_of_a_file(self, tmp_path):
        """As joblib hands them to the processes of ``n_jobs=2``: for reading only."""

        class Mapping(pickle.Pickler):
            count = 0

            def reducer_override(self, thing):
                if (
                    type(thing) is not numpy.ndarray
                    or thing.dtype.kind != "f"
                    or thing.base is not None
                    or not thing.size
                ):
                    return NotImplemented
                Mapping.count += 1
                numpy.save(tmp_path / f"{Mapping.count}.npy", thing)
                return numpy.load, (tmp_path / f"{Mapping.count}.npy", "r")

        model = model_of()
        train(model)
        content = io.BytesIO()
        Mapping(content).dump(model)
        assert Mapping.count > 4
        twin = pickle.loads(content.getvalue())
        train(model)
        train(twin)
        assert_same(weights_of(model), weights_of(twin))

    def test_a_trip_to_a_spawned_process(self):
        model = model_of()
        train(model)
        twin = in_a_new_process(model)
        assert_same(weights_of(model), weights_of(twin))
        train(model)
        train(twin)
        assert_same(weights_of(model), weights_of(twin))

    @pytest.mark.parametrize("copied", COPIES)
    def test_gradients_frozen_parameters_and_buffers_come_along(self, copied):
        model = model_of()
        model[0].weight.trainable = False
        model.forward(X)
        model.backward(numpy.ones((32, 3), "float32"))
        twin = copied(model)
        for own, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert (own.trainable, own.has_grad, own.name) == (other.trainable, other.has_grad, other.name)
            numpy.testing.assert_array_equal(own.grad, other.grad)
        twin[1].running_mean[...] = 7
        assert (model[1].running_mean != 7).all()
        assert twin[0].weight.value is not model[0].weight.value

    @pytest.mark.parametrize("copied", COPIES)
    def test_a_layer_of_a_model_and_a_parameter_by_themselves(self, copied):
        model = model_of(None)
        layer, parameter = copied(model[0]), copied(model[0].weight)
        numpy.testing.assert_array_equal(layer.forward(X), model[0].forward(X))
        numpy.testing.assert_array_equal(parameter.value, model[0].weight.value)
        optimizer = dl.SGD(layer.parameters(), lr=1.0)
        layer.weight.grad = 1.0
        optimizer.step()
        numpy.testing.assert_allclose(layer.weight.value, model[0].weight.value - 1, rtol=1e-6)

    def test_a_shallow_copy_of_a_parameter_is_one_of_its_own(self):
        parameter = model_of(None)[0].weight
        twin = copy.copy(parameter)
        twin.value[...] = 0
        assert parameter.value.any()

    @pytest.mark.parametrize("copied", COPIES)
    def test_an_optimiser_with_its_schedule_and_model(self, copied):
        model = model_of(None)
        optimizer = dl.Adam(model.parameters())
        schedule = optim.CosineAnnealingLR(optimizer, 5)
        loss = dl.CrossEntropyLoss()

        def step(parts):
            model, optimizer, schedule = parts
            loss.forward(model.eval().forward(X), Y)
            model.backward(loss.backward())
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()

        whole = model, optimizer, schedule
        step(whole)
        twin = copied(whole)
        for _ in range(3):
            step(whole)
            step(twin)
        assert_same(whole[0].state_dict(), twin[0].state_dict())
        assert_same(whole[1].state_dict(), twin[1].state_dict())

    def test_state_of_an_optimiser_before_the_first_fit(self):
        first = model_of()
        train(first)
        second = model_of()
        second.load_state_dict(first.state_dict())
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        train(first)
        train(second)
        assert_same(weights_of(first), weights_of(second))
        lazy = dl.Sequential([dl.Dense(3)])
        lazy.compile("adam", "mse")
        assert lazy.optimizer is None
        lazy.build((4,))
        assert isinstance(lazy.optimizer, dl.Adam)


class TestSilentTraining:
    def test_a_fit_does_not_begin_with_gradients_from_before(self):
        model, clean = model_of(lambda p: dl.SGD(p, lr=0.1)), model_of(lambda p: dl.SGD(p, lr=0.1))
        for _ in range(5):
            model.eval().forward(X)
            model.backward(numpy.ones((32, 3), "float32"))
        model.train()
        train(model, 1)
        train(clean, 1)
        assert_same(model.state_dict(), clean.state_dict())

    def test_a_layer_replaced_after_the_optimiser_was_made(self):
        model = model_of(dl.Adam)
        model.replace("4", dl.Linear(8, 3))
        with pytest.raises(ParameterError, match="parameters that the model no longer has"):
            train(model)

    def test_a_layer_added_after_the_optimiser_was_made(self):
        model = model_of(dl.Adam)
        model.append(dl.Linear(3, 3))
        with pytest.raises(ParameterError, match="did not have when it was compiled"):
            train(model)
        model[5].trainable = False
        train(model)

    def test_an_optimiser_for_the_head_alone_is_fine(self):
        model = model_of(None)
        model.compile(dl.SGD(model[4].parameters(), lr=0.1), "sparse_categorical_crossentropy")
        before = model[0].weight.value.copy()
        train(model)
        numpy.testing.assert_array_equal(model[0].weight.value, before)

    def test_a_named_optimiser_wants_to_be_made_again(self):
        model = model_of()
        train(model)
        model.append(dl.Linear(3, 3))
        with pytest.raises(ParameterError, match="compile it again"):
            train(model)

    def test_an_optimiser_assigned_to_the_model_is_checked(self):
        model, other = model_of(), model_of()
        model.optimizer = dl.SGD(model.parameters(), lr=0.1)
        train(model)
        with pytest.raises(ParameterError, match="another model"):
            model.optimizer = dl.SGD(other.parameters(), lr=0.1)


class TestModes:
    def test_a_layer_in_evaluation_stays_so_through_fits_and_predictions(self):
        model = model_of()
        model[1].eval()
        before = model[1].running_mean.copy()
        for _ in range(3):
            train(model)
            model.predict(X)
            model.evaluate(X, Y)
            numpy.testing.assert_array_equal(model[1].running_mean, before)
        model.train()
        train(model)
        assert (model[1].running_mean != before).any()

    def test_dropout_that_is_off_stays_off(self):
        model, plain = model_of(), model_of()
        model[3].eval()
        plain[3].p = 0.0
        train(model)
        train(model)
        train(plain)
        train(plain)
        assert_same(model.state_dict(), plain.state_dict())

    def test_a_model_in_evaluation_is_trained_as_a_whole(self):
        model = model_of().eval()
        before = model[1].running_mean.copy()
        train(model)
        assert (model[1].running_mean != before).any()

    def test_a_frozen_batch_norm_keeps_its_statistics(self):
        model = model_of()
        model[1].trainable = False
        before = {name: value.copy() for name, value in model[1].state_dict().items()}
        train(model)
        assert_same(model[1].state_dict(), before)


class Abort(Callback):
    """Raise in one hook."""

    def __init__(self, hook, error):
        def raising(*args, **kwargs):
            raise error

        setattr(self, hook, raising)


HOOKS = [name for name in vars(Callback) if name.startswith("on_") and "predict" not in name]  # of fit


class TestAborted:
    @pytest.mark.parametrize("hook", HOOKS)
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), ValueError("mine")])
    def test_the_next_fit_is_as_if_nothing_had_been(self, hook, error):
        model = model_of(lambda p: dl.SGD(p, lr=0.1))
        with pytest.raises(type(error)):
            model.fit(X, Y, 32, callbacks=[Abort(hook, error)], seed=2, validation_data=(X[:32], Y[:32]))
        assert not model.training
        assert not model.flat_buffers()[0].gradients().any()
        twin = copy.deepcopy(model)
        again = model_of(lambda p: dl.SGD(p, lr=0.1))
        again.load_state_dict(twin.state_dict())
        train(twin)
        train(again)
        assert_same(twin.state_dict(), again.state_dict())

    @pytest.mark.parametrize("hook", ["on_batch_begin", "on_gradients"])
    def test_an_aborted_step_changes_nothing(self, hook):
        model = model_of(lambda p: dl.SGD(p, lr=0.1))
        before = model.state_dict()
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, callbacks=[Abort(hook, KeyboardInterrupt())])
        assert_same(model.state_dict(), before)

    def test_a_loss_that_is_not_finite_leaves_the_statistics_of_the_step_before(self):
        dl.seed(0)
        x = numpy.random.default_rng(0).normal(size=(256, 10))
        model = dl.Sequential([dl.Linear(10, 32), dl.BatchNorm1d(32), dl.ReLU(), dl.Linear(32, 1)])
        model.compile(dl.SGD(model.parameters(), lr=1e6), "mse")
        noted = []

        class Note(Callback):
            def on_batch_end(self, step, logs):
                noted.append(self.model.state_dict())

        with pytest.raises(NonFiniteError, match="the loss became"):
            model.fit(x, x[:, :1] * 3, epochs=20, callbacks=[Note()])
        assert_same(model.state_dict(), noted[-1])
        assert all(numpy.isfinite(value).all() for value in model.state_dict().values())

    def test_an_interruption_at_every_call_of_a_training(self):
        """At whatever call into a layer or the optimiser it comes: whole steps, and a model that trains on."""
        calls = 0

        class Interrupted(BaseException):
            pass

        def fit(model, stop):
            nonlocal calls
            calls = 0
            for layer in (model[0], model[1], model[2].branch[0], model[4]):
                for name in ("forward", "backward"):
                    whole = getattr(type(layer), name)

                    def counted(*args, whole=whole, layer=layer, **kwargs):
                        nonlocal calls
                        calls += 1
                        if calls == stop:
                            raise Interrupted
                        return whole(layer, *args, **kwargs)

                    setattr(layer, name, counted)
            with dl.use("numpy"):  # where every layer runs by itself
                model.fit(X, Y, batch_size=16, seed=2)

        whole = model_of(lambda p: dl.SGD(p, lr=0.1))
        fit(whole, None)
        assert calls > 16
        states = {}
        for stop in range(2, calls + 1):
            model = model_of(lambda p: dl.SGD(p, lr=0.1))
            with pytest.raises(Interrupted):
                fit(model, stop)
            states[stop] = b"".join(value.tobytes() for value in model.state_dict().values())
            assert not any(p.has_grad and p.grad.any() for p in model.parameters())
            assert not model.training or model.history is None  # or it came before the first step
        assert len(set(states.values())) <= 2  # before the first step, and after it


def test_errors_are_ours():
    with pytest.raises(MinidlError):
        model_of().optimizer = 3
