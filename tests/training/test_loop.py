"""The loop itself: its step is the step written by hand, and it stops where numbers stop being finite."""

import numpy
import pytest

import minidl as dl
from minidl.errors import NonFiniteError, ParameterError
from minidl.training import Callback, GradientClipping, LambdaCallback


def test_a_step_is_the_step_written_by_hand(line, host_engine):
    with dl.use(host_engine):
        fitted = dl.Sequential(dl.Linear(1, 8), dl.Tanh(), dl.Linear(8, 1))
        by_hand = dl.Sequential(dl.Linear(1, 8), dl.Tanh(), dl.Linear(8, 1))
        by_hand.load_state_dict(fitted.state_dict())
        fitted.compile(dl.Adam, "mse", metrics=["mae"])
        loss, optimizer = dl.MSELoss(), dl.Adam(by_hand.parameters())
        history = fitted.fit(*line, epochs=2, batch_size=20, shuffle=False)
        means = []
        for _ in range(2):
            losses = []
            for start in range(0, 64, 20):
                x, y = (array[start : start + 20] for array in line)
                losses += [float(loss.forward(by_hand.forward(x), y))] * len(x)
                by_hand.backward(loss.backward())
                optimizer.step()
                optimizer.zero_grad()
            means.append(numpy.mean(losses))
        numpy.testing.assert_array_equal(fitted.flat_buffers()[0].values, by_hand.flat_buffers()[0].values)
        assert history.history["loss"] == pytest.approx(means, rel=1e-6)


def test_a_sum_over_an_epoch_is_the_sum_of_its_steps(line, neuron):
    model = neuron(lambda parameters: dl.SGD(parameters, lr=0.0), dl.MSELoss("sum"))
    total = model.fit(*line, batch_size=10).history["loss"][0]
    assert total == pytest.approx(model.evaluate(*line), rel=1e-6)


class TestNotFinite:
    @pytest.fixture(autouse=True)
    def on(self, host_engine):
        """Run on every engine of the host: NumPy's warnings must not come before the error."""
        with dl.use(host_engine):
            yield

    def test_the_loss_names_epoch_step_and_layer(self, line):
        model = dl.Sequential(dl.Linear(1, 4), dl.Tanh(), dl.Linear(4, 1))
        model[0].bias.value, model[2].weight.value = 50.0, 2e38
        model.compile("sgd", "mse")
        before = model.flat_buffers()[0].values.copy()
        with pytest.raises(NonFiniteError, match=r"loss became inf in epoch 1, step 1; .*layer 2, Linear\(4, 1\)\. "):
            model.fit(*line, epochs=5, batch_size=16)
        numpy.testing.assert_array_equal(model.flat_buffers()[0].values, before)

    def test_the_loss_in_a_later_epoch(self, line, neuron):
        class Spoil(Callback):
            def on_batch_begin(self, step):
                if (self.epoch, step) == (2, 1):
                    self.model[0].weight.value = numpy.nan

            def on_epoch_begin(self, epoch):
                self.epoch = epoch

        model = neuron()
        with pytest.raises(
            NonFiniteError, match=r"nan in epoch 3, step 2; .*layer 0, Dense\(1\) \(its parameter 'weight'"
        ):
            model.fit(*line, epochs=5, callbacks=[Spoil()])
        assert model.history.epoch == [0, 1]

    def test_a_layer_deep_inside(self, line):
        class Explode:
            def forward(self, x):
                return x / 0

            def backward(self, dy):
                return dy

            def __repr__(self):
                return "Explode()"

        model = dl.Sequential(dl.Linear(1, 2), dl.Sequential(dl.Sequential(dl.Tanh(), Explode()), dl.Linear(2, 1)))
        model.compile("sgd", "mse")
        with pytest.raises(NonFiniteError, match=r"that of layer 1\.0\.1, Explode\(\)"):
            model.fit(*line)

    def test_the_loss_itself(self, line, neuron):
        with pytest.raises(NonFiniteError, match=r"all layers are finite, the largest .*the loss MSELoss"):
            neuron().fit(line[0], numpy.full(64, 1e30))

    def test_a_step_too_far_is_found_at_the_end_of_the_epoch(self, line, neuron):
        model = neuron(lambda parameters: dl.SGD(parameters, lr=1e38))
        with pytest.raises(NonFiniteError, match=r"parameter '0\.\w+' is not finite after epoch 1, step 1, whose loss"):
            model.fit(line[0] * 100, line[1] * 1e3, batch_size=64, epochs=3)

    def test_diverging_ends_in_the_error(self, line, neuron):
        model = neuron(lambda parameters: dl.SGD(parameters, lr=10.0), metrics=["mae"])
        with pytest.raises(NonFiniteError, match=r"in epoch \d+, step \d.*smaller learning rate"):
            model.fit(*line, epochs=1000)
        assert model.history.epoch


def test_clipped_gradients_do_not_diverge(line, neuron):
    model = neuron(lambda parameters: dl.SGD(parameters, lr=10.0))
    model.fit(*line, epochs=50, callbacks=GradientClipping(max_norm=0.01))
    assert numpy.isfinite(model.evaluate(*line))


@pytest.mark.parametrize(("settings", "largest"), [({"max_norm": 1.0}, 1.0), ({"clip_value": 0.25}, 0.25 * 2**0.5)])
def test_clipping_bounds_the_step(settings, largest, line, neuron):
    model = neuron(lambda parameters: dl.SGD(parameters, lr=1.0))
    before = model.flat_buffers()[0].values.copy()
    model.fit(line[0] * 100, line[1] * 100, batch_size=64, callbacks=[GradientClipping(**settings)])
    step = numpy.linalg.norm(model.flat_buffers()[0].values - before)
    assert step == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize("settings", [{}, {"max_norm": 0.0}, {"clip_value": -1}, {"max_norm": float("nan")}])
def test_clipping_by_nothing(settings):
    with pytest.raises(ParameterError, match="GradientClipping"):
        GradientClipping(**settings)


def test_hooks_come_in_order(line, neuron):
    calls = []

    class Recorder(Callback):
        def on_train_begin(self):
            calls.append(f"train {self.numbers}")

        def on_epoch_begin(self, epoch):
            calls.append(f"epoch {epoch}")

        def on_batch_begin(self, step):
            calls.append(f"batch {step}")

        def on_gradients(self, step):
            assert numpy.any(self.model[0].weight.grad)
            calls.append(f"gradients of batch {step}")

        def on_batch_end(self, step, logs):
            assert logs["loss"] > 0
            assert not numpy.any(self.model[0].weight.grad)
            calls.append(f"end of batch {step}")

        def on_epoch_end(self, epoch, logs):
            assert set(logs) == set(self.numbers)
            calls.append(f"end of epoch {epoch}")

        def on_train_end(self):
            calls.append("end")

    neuron(metrics=["mae"]).fit(*line, epochs=3, initial_epoch=2, validation_split=0.1, callbacks=[Recorder()])
    assert calls == [
        "train ('loss', 'mae', 'val_loss', 'val_mae')",
        "epoch 2",
        "batch 0",
        "gradients of batch 0",
        "end of batch 0",
        "batch 1",
        "gradients of batch 1",
        "end of batch 1",
        "end of epoch 2",
        "end",
    ]


def test_stopping_after_a_step_and_after_an_epoch(line, neuron):
    model = neuron()

    def stop(*_):
        model.stop_training = True

    history = model.fit(*line, epochs=5, callbacks=LambdaCallback(on_batch_end=stop))
    assert (model.optimizer.step_count, history.epoch) == (1, [0])
    history = model.fit(*line, epochs=5, callbacks=LambdaCallback(on_epoch_end=stop))
    assert (model.optimizer.step_count, history.epoch) == (1 + 2, [0])


@pytest.mark.parametrize("wrong", [lambda: None, "checkpoint", Callback])
def test_what_is_no_callback(wrong, line, neuron):
    with pytest.raises(ParameterError, match="callbacks must be"):
        neuron().fit(*line, callbacks=[wrong])
