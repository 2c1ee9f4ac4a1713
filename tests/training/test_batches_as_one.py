"""Losses and metrics over several batches are those of the whole as one batch, whatever counts and whatever it weighs."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, NonFiniteError

N = 24
CLASSES = 4
CLASS_WEIGHT = numpy.array([0.5, 3.0, 1.0, 0.0], dtype="float32")
LOSSES = {
    "plain": {},
    "ignored targets": {"ignore_index": 2},
    "an ignored target that is no class": {"ignore_index": 255},
    "class weights": {"weight": CLASS_WEIGHT},
    "class weights and ignored targets": {"weight": CLASS_WEIGHT, "ignore_index": 0},
    "label smoothing": {"label_smoothing": 0.1},
    "all of it": {"weight": CLASS_WEIGHT + 0.1, "ignore_index": 1, "label_smoothing": 0.2},
    "a sum": {"weight": CLASS_WEIGHT, "ignore_index": 1, "reduction": "sum"},
}
LAYOUTS = {"vectors": (), "sequences": (5,), "maps": (3, 2)}


def classified(layout, settings, kind, random):
    """Return a compiled model of one loss, inputs, and targets, with several batches of which nothing counts."""
    middle, last = LAYOUTS[layout], layout == "sequences"
    shape = (N, *middle, CLASSES) if last or not middle else (N, CLASSES, *middle)
    x = random.normal(size=shape).astype("float32")
    if kind == "probabilities":
        y = random.random(shape)
        y /= y.sum(axis=-1 if last else 1, keepdims=True)
    else:
        y = random.integers(0, CLASSES, (N, *middle))
        ignored = settings.get("ignore_index", -100)
        y[random.random(y.shape) < 0.3] = ignored
        y[6:12] = ignored
    return dl.CrossEntropyLoss(**settings, class_axis=-1 if last else 1), x, y


def weights_of(which, losses, random):
    """Return sample weights: none, ones, or random ones with zeros, for each example or each position."""
    if which is None:
        return None
    shape = losses if which == "positions" else losses[:1]
    return numpy.ones(shape) if which == "ones" else random.choice([0.0, 0.5, 1.0, 3.0], size=shape)


def numbers(loss, metrics, x, y, **how):
    """Return what fit, evaluate and validation say of the same data: a model that passes on its input, and stays so."""
    model = dl.Sequential(Same())
    model.compile(lambda parameters: dl.SGD(parameters, lr=0.0), loss, metrics)
    weight = how.pop("sample_weight", None)
    evaluated = model.evaluate(x, y, sample_weight=weight, return_dict=True, **how)
    data = (x, y) if weight is None else (x, y, weight)
    logs = model.fit(x, y, sample_weight=weight, validation_data=data, seed=0, **how).history
    trained = {name: logs[name][0] for name in evaluated}
    validated = {name: logs[f"val_{name}"][0] for name in evaluated}
    return [evaluated, trained, validated]


class Same(dl.layers.Layer):
    """Passes its input on, and has one parameter to train."""

    def __init__(self):
        super().__init__()
        self.gain = dl.Parameter(numpy.ones(1, "float32"), name="gain")

    def forward(self, x):
        self.x = x
        return x * self.gain.value

    def backward(self, dy):
        self.gain.accumulate((dy * self.x).sum().reshape(1))
        return dy * self.gain.value


@pytest.mark.parametrize("weighted", [None, "ones", "examples", "positions"])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
@pytest.mark.parametrize("settings", LOSSES.values(), ids=list(LOSSES))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_cross_entropy(layout, settings, kind, weighted, host_engine):
    random = numpy.random.default_rng(0)
    with dl.use(host_engine):
        loss, x, y = classified(layout, settings, kind, random)
        losses = y.shape if kind == "classes" else (N, *LAYOUTS[layout])
        weight = weights_of(weighted, losses, random)
        whole = numbers(loss, ["accuracy", "f1"], x, y, batch_size=N, sample_weight=weight)
        given = [] if weight is None else [weight.astype("float32")]
        target = y.astype("float32") if kind == "probabilities" else y
        assert whole[0]["loss"] == pytest.approx(float(loss.forward(x, target, *given)))
        for size in (1, 5, 7):
            for found in numbers(loss, ["accuracy", "f1"], x, y, batch_size=size, sample_weight=weight):
                assert found == pytest.approx(whole[0], rel=2e-5)


@pytest.mark.parametrize("settings", LOSSES.values(), ids=list(LOSSES))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_weights_of_one_change_nothing(layout, settings, kind, host_engine):
    random = numpy.random.default_rng(1)
    with dl.use(host_engine):
        for reduction in ("mean", "sum", "none"):
            loss, x, y = classified(layout, {**settings, "reduction": reduction}, kind, random)
            y = y.astype("float32") if y.dtype.kind == "f" else y
            plain, gradient = loss.forward(x, y), loss.backward()
            for ones in (numpy.ones(N), numpy.ones(plain.shape or (N,))):
                numpy.testing.assert_allclose(loss.forward(x, y, ones), plain, rtol=1e-5)
                numpy.testing.assert_allclose(loss.backward(), gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "loss",
    [
        dl.MSELoss(),
        dl.MSELoss("half_sum"),
        dl.L1Loss(),
        dl.HuberLoss(delta=0.5),
        dl.BCEWithLogitsLoss(),
        dl.BCEWithLogitsLoss(weight=numpy.array([1.0, 2.0, 0.0]), pos_weight=numpy.array([3.0, 1.0, 1.0])),
    ],
    ids=repr,
)
@pytest.mark.parametrize("weighted", [None, "ones", "examples", "positions"])
def test_losses_of_numbers(loss, weighted, host_engine):
    random = numpy.random.default_rng(2)
    x, y = random.normal(size=(N, 3)).astype("float32"), random.integers(0, 2, (N, 3)).astype("float32")
    weight = weights_of(weighted, y.shape, random)
    with dl.use(host_engine):
        whole = numbers(loss, ["mae", "rmse", "r2"], x, y, batch_size=N, sample_weight=weight)[0]
        plain = float(loss.forward(x, y))
        assert weighted not in (None, "ones") or whole["loss"] == pytest.approx(plain)
        for size in (1, 5, 7):
            for found in numbers(loss, ["mae", "rmse", "r2"], x, y, batch_size=size, sample_weight=weight):
                assert found == pytest.approx(whole, rel=2e-5)


def test_sequences_of_different_lengths():
    """A batch of longer sequences holds more targets than one of shorter ones."""
    random = numpy.random.default_rng(3)
    batches = [(random.normal(size=(2, t, 3)).astype("float32"), random.normal(size=(2, t, 3))) for t in (1, 4, 9)]
    model = dl.Sequential(Same())
    model.compile(lambda parameters: dl.SGD(parameters, lr=0.0), "mse", ["mae"])
    errors = numpy.concatenate([(x - y).ravel() for x, y in batches])
    expected = {"loss": pytest.approx((errors**2).mean(), rel=1e-5), "mae": pytest.approx(abs(errors).mean(), rel=1e-5)}
    assert model.evaluate(batches, return_dict=True) == expected
    assert {name: values[0] for name, values in model.fit(batches).history.items()} == expected


def test_a_class_of_no_weight_counts_for_nothing():
    """A batch of which every target has class weight 0 is like one of which every target is ignored."""
    x, y = numpy.eye(2, dtype="float32")[[0, 1, 0, 1]], numpy.array([0, 0, 1, 1])
    loss = dl.CrossEntropyLoss(weight=numpy.array([0.0, 2.0], "float32"))
    whole = float(loss.forward(x, y))
    for found in numbers(loss, [], x, y, batch_size=2):
        assert found["loss"] == pytest.approx(whole)
    with pytest.raises(NonFiniteError, match="ignores every target of epoch 1"):
        numbers(loss, [], x, y * 0, batch_size=2)


class TestClassWeightsOfMaps:
    """``class_weight`` gives each position of a map the weight of its class."""

    def test_they_are_weights_of_positions(self):
        random = numpy.random.default_rng(4)
        x, y = random.normal(size=(6, 3, 2, 2)).astype("float32"), random.integers(0, 3, (6, 2, 2))
        y[0, 0] = -100
        table = numpy.array([0.5, 2.0, 1.0])
        of_examples = random.uniform(size=6)
        positions = numpy.where(y < 0, 1.0, table[numpy.maximum(y, 0)])
        ways = [
            {"class_weight": {0: 0.5, 1: 2.0}, "sample_weight": of_examples},
            {"sample_weight": positions * of_examples[:, None, None]},
        ]
        found = []
        for way in ways:
            model = dl.Sequential(dl.Conv2d(3, 3, 1))
            for parameter in model.parameters():
                parameter.value = numpy.linspace(-1, 1, parameter.size).reshape(parameter.shape)
            model.compile("sgd", "sparse_categorical_crossentropy")
            model.fit(x, y, epochs=3, batch_size=4, shuffle=False, **way)
            found.append(model[0].weight.value.copy())
        numpy.testing.assert_allclose(*found, rtol=1e-6)

    @pytest.mark.parametrize("axis", [1, -1])
    def test_probabilities_weigh_as_their_largest(self, axis):
        loss = dl.CrossEntropyLoss(class_axis=axis)
        labels = numpy.array([[0, 1, 1, 2], [2, 2, 0, 1]])
        rows = numpy.moveaxis(numpy.eye(3)[labels], -1, axis).astype("float32")
        shape = rows.shape[1:]
        found = dl.training.targets.as_class_weights({1: 3.0, 2: 0.0}, rows, loss, numpy.dtype("float32"), shape, "fit")
        numpy.testing.assert_array_equal(found, numpy.array([1.0, 3.0, 0.0])[labels])

    def test_weights_of_a_wrong_shape_are_refused(self):
        model = dl.Sequential(dl.Conv2d(1, 2, 1))
        model.compile("sgd", "sparse_categorical_crossentropy")
        x, y = numpy.ones((4, 1, 3, 3)), numpy.zeros((4, 3, 3), int)
        with pytest.raises(
            DataError, match=r"shape \(4,\), one for each example, or \(4, 3, 3\), one for each position"
        ):
            model.fit(x, y, sample_weight=numpy.ones((4, 2)))
        weights = numpy.ones((4, 3, 3))
        weights[0, 2, 1] = -1
        with pytest.raises(DataError, match=r"sample_weight\[0, 2, 1\] = -1"):
            model.fit(x, y, sample_weight=weights)


def test_class_weights_of_one_change_nothing():
    random = numpy.random.default_rng(5)
    x, y = random.normal(size=(20, 3)).astype("float32"), random.integers(0, 3, 20)
    y[:7] = -100
    for loss in (dl.CrossEntropyLoss(), dl.CrossEntropyLoss(weight=numpy.array([1, 5, 2], "float32"))):
        histories = []
        for more in ({}, {"class_weight": {0: 1.0, 1: 1.0, 2: 1.0}}):
            dl.seed(0)
            model = dl.Sequential(dl.Linear(3, 3))
            model.compile(dl.SGD(model.parameters(), lr=0.1), loss)
            histories.append(model.fit(x, y, epochs=3, batch_size=6, seed=0, **more).history["loss"])
        assert histories[1] == pytest.approx(histories[0], rel=1e-6)
