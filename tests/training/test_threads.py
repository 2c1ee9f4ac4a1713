"""Several threads use one model at once, and each gets the answers that it would get alone."""

import pickle
import sys
import threading

import numpy
import pytest

import minidl as dl

G = numpy.random.default_rng(0)
XS = [G.normal(size=(20 + 7 * k, 8)).astype("float32") for k in range(4)]
YS = [G.integers(0, 3, len(x)) for x in XS]
WEIGHTS = [G.random(len(x)) for x in XS]


@pytest.fixture(autouse=True)
def restless():
    """Let Python switch between threads after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work, count=4):
    """Run ``work(k)`` in threads that begin together; return what each returned, or raise what one raised."""
    begin, found = threading.Barrier(count), [None] * count

    def run(k):
        begin.wait()
        try:
            found[k] = work(k)
        except Exception as error:
            found[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        if isinstance(one, Exception):
            raise one
    return found


def model_of(input_shape=None):
    dl.seed(0)
    first = {} if input_shape is None else {"input_shape": input_shape}
    model = dl.Sequential(
        [dl.Dense(12, activation="relu", **first), dl.BatchNorm1d(12), dl.Dropout(0.5), dl.Dense(8), dl.Dense(3)]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class TestSeveralThreads:
    def test_predictions_of_a_model_in_training_mode(self, host_engine):
        with dl.use(host_engine):
            model = model_of((8,)).train()
            expected = [model.predict(x, batch_size=4) for x in XS]

            def ask(k):
                with dl.use(host_engine):
                    return [numpy.array_equal(model.predict(XS[k], batch_size=4), expected[k]) for _ in range(20)]

            assert all(map(all, at_once(ask)))
        assert model.training

    def test_evaluations_with_sample_weights_and_a_metric(self):
        model = model_of((8,)).train()

        def ask(k):
            return model.evaluate(XS[k], YS[k], batch_size=4, sample_weight=WEIGHTS[k])

        expected = [ask(k) for k in range(4)]
        assert at_once(lambda k: [ask(k) for _ in range(15)]) == [[one] * 15 for one in expected]

    def test_an_evaluation_leaves_the_loss_alone(self):
        """A step of another thread, between its loss and its backward, must find the cache of its own batch."""
        model = model_of((8,))
        model.loss.forward(model.predict(XS[0]), YS[0])
        before = model.loss.backward()
        model.evaluate(XS[1], YS[1])
        numpy.testing.assert_array_equal(model.loss.backward(), before)

    @pytest.mark.parametrize("input_shape", [None, (8,)])
    def test_the_first_prediction_which_builds_the_model(self, input_shape):
        for _ in range(12):
            model = model_of(input_shape)
            found = at_once(lambda k, model=model: model.predict(XS[0], batch_size=8))
            for one in found:
                numpy.testing.assert_array_equal(one, model.predict(XS[0], batch_size=8))
            assert len(model.flat_buffers()) == 1

    def test_a_layer_of_ones_own_with_a_mode(self):
        class Own:
            training = True

            def train(self, mode):
                self.training = mode

            def parameters(self):
                return []

            def forward(self, x):
                return x * 2 if self.training else x

            def backward(self, dy):
                return dy

        model = dl.Sequential([dl.Linear(8, 3), Own()])
        expected = model.predict(XS[0])
        found = at_once(lambda k: [numpy.array_equal(model.predict(XS[0], 2), expected) for _ in range(10)])
        assert all(map(all, found))
        assert model[1].training


def test_a_pickle_holds_no_batch():
    model = model_of((8,))
    model.fit(numpy.tile(XS[0], (50, 1)), numpy.tile(YS[0], 50), batch_size=1000)
    assert len(pickle.dumps(model)) < 50_000  # the last batch of the loss is 12 kB of it
    twin = pickle.loads(pickle.dumps(model))
    assert all(layer._cache is None for layer in twin.layers)
    numpy.testing.assert_array_equal(twin.predict(XS[0]), model.predict(XS[0]))
