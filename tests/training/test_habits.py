"""What users of Keras and PyTorch are used to works here too, or is refused with what to do instead."""

import io
import sys

import numpy
import pytest

import minidl as dl
from minidl.errors import MinidlError, ParameterError, ShapeError, TargetError
from minidl.training.progress import resolve_verbose

X = numpy.linspace(-1, 1, 32).reshape(8, 4).astype("float32")


def classifier():
    dl.seed(0)
    return dl.Sequential([dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 3)])


class TestRowsThatAreNoProbabilities:
    @pytest.mark.parametrize("loss", ["categorical_crossentropy", dl.CrossEntropyLoss()], ids=str)
    @pytest.mark.parametrize(
        ("row", "total"), [([0, 0, 0], "0"), ([1, 1, 0], "2"), ([0.5, 0.2, 0.1], "0.8"), ([1, 1, 1], "3")]
    )
    def test_they_are_refused_with_advice(self, loss, row, total):
        y = numpy.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]]
        y[5] = row
        model = classifier()
        model.compile("sgd", loss)
        for use in (model.fit, model.evaluate):
            with pytest.raises(TargetError, match=rf"\(5,\) sum to {total}; .*'binary_crossentropy'.*sample_weight 0"):
                use(X, y)
        for batches in ([(X, y)], iter([(X, y)])):
            with pytest.raises(TargetError, match="step 1: .*sum to"):
                model.fit(batches)

    def test_maps(self):
        y = numpy.full((2, 3, 2, 2), 1 / 3)
        y[1, :, 0, 1] = 0
        model = dl.Sequential(dl.Conv2d(1, 3, 1))
        model.compile("sgd", dl.CrossEntropyLoss())
        with pytest.raises(TargetError, match=r"those at \(1, 0, 1\) sum to 0"):
            model.fit(numpy.ones((2, 1, 2, 2)), y)

    def test_rounded_probabilities_pass(self):
        model = classifier()
        model.compile("sgd", "categorical_crossentropy")
        model.fit(X, numpy.full((8, 3), 0.333))


class TestSlices:
    def test_they_are_models_of_the_same_layers(self):
        model = classifier()
        y = X
        for start in range(3):
            y = model[start](y)
            part = model[: start + 1]
            assert isinstance(part, dl.Sequential)
            numpy.testing.assert_array_equal(part(X), y)
        body, head = model[:-1], model[-1:]
        numpy.testing.assert_array_equal(head(body(X)), model(X))
        assert list(head.state_dict()) == ["2.weight", "2.bias"]  # their names stay, as in PyTorch
        assert [layer for part in (body, head) for layer in part.layers] == list(model.layers)
        assert model[::2].layers == (model[0], model[2])
        assert len(model[1:1].layers) == 0
        assert model[-1] is model[2]

    def test_a_slice_trains_the_models_own_parameters(self):
        model = classifier()
        head, before = model[-1:], model.state_dict()
        features = model[:-1].predict(X)
        head.compile("sgd", "sparse_categorical_crossentropy")
        head.fit(features, numpy.arange(8) % 3)
        after = model.state_dict()
        assert {name for name in before if not numpy.array_equal(before[name], after[name])} == {"2.weight", "2.bias"}
        numpy.testing.assert_allclose(head(features), model(X), rtol=1e-6)

    def test_it_is_a_sequential_of_whatever_model(self):
        model = dl.models.lenet()
        part = model[:2]
        assert isinstance(part, dl.layers.Chain)
        x = numpy.ones((1, 1, 28, 28), "float32")
        numpy.testing.assert_array_equal(part(x), model[1](model[0](x)))


def test_add():
    model = dl.Sequential()
    for layer in (dl.Dense(5, activation="relu", input_shape=4), dl.Dense(3)):
        assert model.add(layer) is None
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, numpy.arange(8) % 3)
    assert model.predict(X).shape == (8, 3)


class TestOneBatch:
    def test_train_on_batch_is_a_step_of_fit(self):
        one, other = classifier(), classifier()
        y = numpy.arange(8) % 3
        for model in (one, other):
            model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        history = one.fit(X, y, epochs=3, batch_size=8, shuffle=False, class_weight={1: 2.0}, sample_weight=[1, 2] * 4)
        found = [other.train_on_batch(X, y, [1, 2] * 4, {1: 2.0}, return_dict=True) for _ in range(3)]
        assert found == [{name: values[i] for name, values in history.history.items()} for i in range(3)]
        assert other.history is None
        assert all(numpy.array_equal(*pair) for pair in zip(one.get_weights(), other.get_weights(), strict=True))
        assert other.test_on_batch(X, y) == one.evaluate(X, y)
        assert other.test_on_batch(X, y, return_dict=True) == one.evaluate(X, y, return_dict=True)
        numpy.testing.assert_array_equal(other.predict_on_batch(X), one.predict(X))

    def test_what_comes_back(self, line, neuron):
        assert isinstance(neuron().train_on_batch(*line), float)
        assert len(neuron(metrics=["mae"]).train_on_batch(*line)) == 2

    def test_history_stays_that_of_fit(self, line, neuron):
        model = neuron()
        history = model.fit(*line)
        model.train_on_batch(*line)
        assert model.history is history


class TestWeightsAsAList:
    def test_there_and_back(self):
        model, other = (
            dl.Sequential(dl.Linear(4, 3), dl.BatchNorm1d(3)),
            dl.Sequential(dl.Linear(4, 3), dl.BatchNorm1d(3)),
        )
        other.set_weights(model.get_weights())
        for key, value in model.state_dict().items():
            numpy.testing.assert_array_equal(other.state_dict()[key], value)
        other.set_weights([array.tolist() if array.ndim else array for array in model.get_weights()])
        model.get_weights()[0][...] = 7.0
        assert not (model[0].weight.value == 7.0).any()

    def test_what_does_not_fit(self):
        model = dl.Sequential(dl.Linear(4, 3))
        weights = model.get_weights()
        with pytest.raises(ParameterError, match=r"expected 2 arrays, for 0.weight, 0.bias, got 1"):
            model.set_weights(weights[:1])
        with pytest.raises(ShapeError, match=r"expected shape \(3, 4\) for '0.weight', got \(4, 3\); .*array.T"):
            model.set_weights([weights[0].T, weights[1]])
        with pytest.raises(ShapeError, match=r"expected shape \(3,\) for '0.bias', got \(5,\)$"):
            model.set_weights([weights[0], numpy.ones(5)])


@pytest.mark.parametrize("loss", [lambda y_true, y_pred: 0.0, numpy.square], ids=["lambda", "ufunc"])
def test_functions_are_no_losses(loss):
    with pytest.raises(ParameterError, match=r"no gradient.*object with forward and backward: .*gradcheck"):
        classifier().compile("sgd", loss)


def test_functions_are_metrics():
    def right(y_true, y_pred):
        return y_true == y_pred.argmax(axis=1)

    model, y = classifier(), numpy.arange(8) % 3
    model.compile(
        "sgd", "sparse_categorical_crossentropy", [right, lambda y_true, y_pred: (y_true == 1).mean(), "accuracy"]
    )
    found = model.evaluate(X, y, batch_size=3, return_dict=True)
    assert found["right"] == found["accuracy"] == (model.predict(X).argmax(axis=1) == y).mean()
    assert found["<lambda>"] == pytest.approx(3 / 8)


class TestInitializers:
    @pytest.mark.parametrize(
        "function",
        [
            lambda shape: numpy.full(shape, 2.0),
            lambda shape, dtype: numpy.full(shape, 2.0, dtype),
            lambda shape, dtype=None: numpy.full(shape, 2.0, dtype),
            lambda shape, dtype=None, generator=None: numpy.full(shape, 2.0, dtype),
            lambda shape, **more: numpy.full(shape, 2.0),
            lambda shape: [[2.0] * shape[1]] * shape[0],
        ],
    )
    def test_functions_of_the_shape_and_of_more(self, function):
        layer = dl.Dense(3, input_shape=4, kernel_initializer=function)
        assert layer.weight.dtype == "float32"
        assert (layer.weight.value == 2.0).all()

    def test_what_cannot_be_used(self):
        with pytest.raises(ParameterError, match="must be a name or a function, got ndarray; .*weight.value = array"):
            dl.Dense(3, kernel_initializer=numpy.ones((3, 4)))
        with pytest.raises(ParameterError, match=r"kernel_initializer: the function must take \(shape\)"):
            dl.Dense(3, input_shape=4, kernel_initializer=lambda: 0)
        with pytest.raises(ShapeError, match=r"bias_initializer: expected an array of shape \(3,\), got \(4,\)"):
            dl.Dense(3, input_shape=4, bias_initializer=lambda shape: numpy.ones(4))


@pytest.mark.parametrize("shape", [4, (4,), [4], numpy.int64(4)])
def test_the_shape_of_a_vector_may_be_a_number(shape):
    assert dl.Dense(3, input_shape=shape).weight.shape == (3, 4)
    model = dl.Sequential(dl.Dense(3), dl.ReLU(), dl.Dense(2))
    model.build(shape)
    assert model.output_shape((4,)) == (2,)


class TestProgressInNotebooks:
    @pytest.mark.parametrize(("module", "expected"), [("ipykernel.iostream", 1), ("_io", 0)])
    def test_auto(self, module, expected, monkeypatch):
        """A kernel's stream is no terminal, but leads to the notebook."""
        stream = type("OutStream", (io.StringIO,), {"__module__": module})()
        monkeypatch.setattr(sys, "stderr", stream)
        assert resolve_verbose("auto", "fit") == expected
        assert "ipykernel" not in sys.modules

    def test_fit_shows_its_line_there(self, line, neuron, monkeypatch):
        stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
        monkeypatch.setattr(sys, "stderr", stream)
        neuron().fit(*line, epochs=2)
        assert "epoch 2/2 - 2/2" in stream.getvalue()


class TestParameterGroups:
    def test_a_group_that_comes_later(self):
        model = classifier()
        whole = dl.Adam([{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.1}], lr=0.01)
        other = classifier()
        grown = dl.Adam(other[0].parameters(), lr=0.01)
        grown.add_param_group({"params": other[2].parameters(), "lr": 0.1})
        y = numpy.arange(8) % 3
        for each, optimizer in ((model, whole), (other, grown)):
            each.compile(optimizer, "sparse_categorical_crossentropy")
            each.fit(X, y, epochs=3, shuffle=False)
        for pair in zip(model.get_weights(), other.get_weights(), strict=True):
            numpy.testing.assert_array_equal(*pair)
        assert [group["lr"] for group in grown.param_groups] == [0.01, 0.1]

    def test_the_state_of_the_others_stays(self):
        model = classifier()
        optimizer = dl.SGD(model[0].parameters(), lr=0.1, momentum=0.9)
        model[0].weight.grad = 1.0
        optimizer.step()
        before = optimizer.state_dict()
        optimizer.add_param_group({"params": model[2].parameters()})
        for name, value in before.items():
            numpy.testing.assert_array_equal(optimizer.state_dict()[name], value)

    def test_what_is_no_group(self):
        model = classifier()
        optimizer = dl.SGD(model[0].parameters(), lr=0.1)
        for wrong, message in (
            ({"lr": 0.1}, "key 'params'"),
            (model[2].parameters(), "key 'params'"),
            ({"params": []}, "got no parameters"),
            ({"params": model[0].parameters()}, "already in an earlier group"),
            ({"params": model[2].parameters(), "beta": 1}, "unknown setting 'beta'"),
        ):
            with pytest.raises(ParameterError, match=message):
                optimizer.add_param_group(wrong)
            assert len(optimizer.param_groups) == 1

    def test_a_schedule_made_before_says_so(self):
        model = classifier()
        optimizer = dl.SGD(model[0].parameters(), lr=0.1)
        schedule = dl.optim.StepLR(optimizer, 2)
        optimizer.add_param_group({"params": model[2].parameters()})
        with pytest.raises(MinidlError, match="make the schedule after add_param_group"):
            schedule.step()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sgd", 0.9995), ("adam", 0.999), ("adamw", 0.998996), ("rmsprop", 0.996838), ("adagrad", 0.999844)],
)
def test_named_optimizers_have_the_settings_of_keras(name, expected):
    """One step of Keras 3.15.1 from 1.0 with the gradient 0.05."""
    kind, settings = dl.optim.get(name)
    parameter = dl.Parameter(numpy.array([1.0]))
    optimizer = kind([parameter], **settings)
    parameter.grad = 0.05
    optimizer.step()
    assert parameter.value.item() == pytest.approx(expected, abs=1.5e-6)
