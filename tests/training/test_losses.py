"""Losses by name, and models that end in the activation that a loss applies itself."""

import numpy
import pytest

import minidl as dl
from minidl.errors import ParameterError, UnknownNameError
from minidl.training import losses

CLASSES = numpy.arange(64) % 3
KERNEL = dl.engines.current().has_kernel("linear_activation")


@pytest.mark.parametrize("name", losses._NAMED)
def test_every_name_is_a_loss(name):
    assert isinstance(losses.loss_named(name), dl.layers.Loss)
    assert type(losses.loss_named(name.upper())) is type(losses.loss_named(name))


def test_what_is_no_loss():
    with pytest.raises(UnknownNameError, match=r"known: binary_crossentropy, .*mse"):
        losses.loss_named("rmsse")
    with pytest.raises(ParameterError, match=r"create it with MSELoss\(\)"):
        losses.loss_named(dl.MSELoss)
    with pytest.raises(ParameterError, match="forward and backward"):
        losses.loss_named(numpy.square)
    with pytest.raises(ParameterError, match="needs a mean or a sum"):
        losses.loss_named(dl.MSELoss("none"))


@pytest.mark.parametrize("targets", [CLASSES, CLASSES.reshape(-1, 1), CLASSES.astype(float), numpy.eye(3)[CLASSES]])
@pytest.mark.parametrize("name", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_classes_and_one_hot_targets_are_the_same(name, targets, line, twins):
    models = twins(*(dl.Sequential(dl.Linear(1, 3)) for _ in range(2)))
    for model, y in zip(models, (CLASSES, targets), strict=True):
        model.compile("sgd", name, metrics=["accuracy"])
        model.fit(line[0], y, epochs=2, shuffle=False)
    numpy.testing.assert_allclose(
        models[0].flat_buffers()[0].values, models[1].flat_buffers()[0].values, rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    "ending",
    [
        lambda: [dl.Linear(1, 3), dl.Softmax()],
        lambda: [dl.Linear(1, 3), dl.Softmax(1)],
        lambda: [dl.Dense(3, activation="softmax", input_shape=(1,))],
        lambda: [dl.Sequential(dl.Linear(1, 3), dl.Softmax())],
        lambda: [dl.Sequential(dl.Dense(3, activation="softmax", input_shape=(1,)))],
    ],
)
def test_a_softmax_at_the_end_trains_as_logits_do(ending, line, twins):
    logits, model = twins(dl.Sequential(dl.Linear(1, 3)), dl.Sequential(ending()))
    losses = []
    for each in (logits, model):
        each.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy", "auc"])
        losses.append(each.fit(line[0], CLASSES, epochs=2, shuffle=False, validation_split=0.2).history)
    assert losses[0].keys() == losses[1].keys()
    for name, numbers in losses[0].items():
        assert losses[1][name] == pytest.approx(numbers, rel=1e-6)
    numpy.testing.assert_array_equal(
        numpy.concatenate([p.value.ravel() for p in model.parameters()]), logits.flat_buffers()[0].values
    )
    numpy.testing.assert_allclose(model.predict(line[0]).sum(axis=1), 1, rtol=1e-6)


def test_a_softmax_of_a_model_that_is_not_built_yet(line):
    model = dl.Sequential(dl.Dense(3, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(line[0], CLASSES, epochs=2)
    assert len(history.epoch) == 2
    assert model.fuse


def test_unfused_models_train_unfused(line):
    model = dl.Sequential(dl.Linear(1, 4), dl.ReLU(), dl.Linear(4, 3), dl.Softmax())
    model.fuse = False
    assert losses.trunk_of(model, model[3]).fused_into() == {}
    model.fuse = True
    assert losses.trunk_of(model, model[3]).fused_into() == ({1: 0} if KERNEL else {})


def test_a_sigmoid_at_the_end_is_sound_far_out():
    model = dl.Sequential(dl.Dense(1, activation="sigmoid", input_shape=(1,), kernel_initializer="ones"))
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    x, y = numpy.array([[-200.0], [200.0]]), numpy.array([1, 0])  # probabilities of exactly 0 and 1
    assert model.evaluate(x, y, return_dict=True) == {"loss": pytest.approx(200.0), "accuracy": 0.0}
    model.fit(x, y, epochs=1)
    assert model[0].weight.value.item() < 0


def test_metrics_know_logits_from_probabilities():
    x, y = numpy.array([[0.3], [-0.3]]), numpy.array([1, 0])  # as probabilities both would be class 0
    for model in (dl.Sequential(dl.Linear(1, 1)), dl.Sequential(dl.Linear(1, 1), dl.Sigmoid())):
        model[0].weight.value, model[0].bias.value = 1.0, 0.0
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy", "recall"])
        assert model.evaluate(x, y)[1:] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("last", "loss", "message"),
    [
        (dl.Softmax(), dl.CrossEntropyLoss(), "applied twice.*'categorical_crossentropy'"),
        (dl.Sigmoid(), dl.BCEWithLogitsLoss(), "applied twice.*'binary_crossentropy'"),
        (dl.Softmax(), "binary_crossentropy", "ends in Softmax.*or use the loss 'categorical_crossentropy'"),
        (dl.Sigmoid(), "categorical_crossentropy", "ends in Sigmoid.*or use the loss 'binary_crossentropy'"),
        (dl.Softmax(0), "categorical_crossentropy", "classes are on axis 1"),
    ],
)
def test_endings_that_do_not_go_with_the_loss(last, loss, message):
    with pytest.raises(ParameterError, match=message):
        dl.Sequential(dl.Linear(1, 3), last).compile("sgd", loss)


def test_a_derived_loss_is_no_way_round_the_check():
    class Own(dl.CrossEntropyLoss):
        pass

    with pytest.raises(ParameterError, match="applied twice"):
        dl.Sequential(dl.Linear(1, 3), dl.Softmax()).compile("sgd", Own())


def test_a_softmax_over_another_axis_than_the_classes():
    class Positions:
        """(N, 6) to (N, 3 classes, 2 positions)."""

        def forward(self, x):
            return x.reshape(-1, 3, 2)

        def backward(self, dy):
            return dy.reshape(-1, 6)

    x, y = numpy.ones((4, 1)), numpy.array([[0, 1]] * 4)
    model = dl.Sequential(dl.Linear(1, 6), Positions(), dl.Softmax())
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ParameterError, match=r"Softmax\(-1\).*use Softmax\(1\)"):
        model.fit(x, y)
    model = dl.Sequential(dl.Linear(1, 6), Positions(), dl.Softmax(1))
    model.compile(dl.Adam(model.parameters(), lr=0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=50)
    assert model.evaluate(x, y)[1] == 1.0


def test_a_sigmoid_or_softmax_goes_with_other_losses(line):
    for last in (dl.Sigmoid(), dl.Softmax(), dl.LogSoftmax()):
        model = dl.Sequential(dl.Linear(1, 3), last)
        model.compile("sgd", dl.MSELoss())
        assert len(model.fit(line[0], numpy.eye(3)[CLASSES], epochs=2).epoch) == 2
