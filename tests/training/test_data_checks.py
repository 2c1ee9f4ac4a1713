"""Inputs, targets and weights that cannot be used, each with an error at the call; and those that can."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, DtypeError, MinidlError, ParameterError, ShapeError, TargetError
from minidl.training import checks, targets


@pytest.fixture
def classifier():
    model = dl.Sequential(dl.Linear(1, 3))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (numpy.ones((3, 1)), numpy.ones(4), DataError, "3 examples but y holds 4"),
        (numpy.ones((0, 1)), numpy.ones(0), DataError, r"x holds no examples \(shape \(0, 1\)\)"),
        (numpy.ones((1, 1)), numpy.ones(0), DataError, "y holds no examples"),
        ([], [], DataError, "no examples"),
        (3.0, 3.0, DataError, "got a single number"),
        (numpy.array([[1.0], [numpy.nan]]), numpy.ones(2), DataError, r"x holds nan or inf in 1 of 2.*x\[1\]"),
        (numpy.array([[-numpy.inf], [numpy.inf]]), numpy.ones(2), DataError, r"nan or inf in 2 of 2.*x\[0\]"),
        (numpy.ones((2, 1)), numpy.array([1, numpy.inf]), DataError, r"y holds nan or inf.*y\[1\]"),
        ([[1.0], [2.0, 3.0]], [1.0, 2.0], DataError, "no regular array"),
        (numpy.ma.masked_array([[1.0], [2.0]], [[0], [1]]), numpy.ones(2), DataError, r"masked values.*x\[1\]"),
        (numpy.array([["a"]]), numpy.ones(1), DtypeError, "real numbers"),
        (numpy.ones((1, 1), dtype=complex), numpy.ones(1), DtypeError, "complex128"),
        (numpy.array([[None]]), numpy.ones(1), DtypeError, "object"),
        (numpy.ones((1, 1)), None, DtypeError, "y must hold real numbers"),
        (numpy.ones((2, 1)), ["cat", "dog"], DtypeError, "numpy.unique"),
        (numpy.full((2, 1), 1e39), numpy.ones(2), DataError, r"x\[0\] holds 1e\+39, too large for the model's float32"),
        (numpy.ones((2, 1)), numpy.array([1, -1e39]), DataError, r"y\[1\] holds -1e\+39, too large"),
        (numpy.ones(3), numpy.ones(3), ShapeError, r"x.reshape\(-1, 1\)"),
        (numpy.ones((3, 2)), numpy.ones(3), ShapeError, r"layer 0 of Sequential"),
        (numpy.ones((3, 1)), numpy.ones((3, 2)), ShapeError, r"shape of the model's outputs, \(3, 1\), got \(3, 2\)"),
        (numpy.ones((3, 1)), numpy.ones((1, 3)), ShapeError, r"got \(1, 3\)"),
    ],
)
@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_data_that_cannot_be_used(call, x, y, error, message, neuron):
    model = neuron()
    before = model.flat_buffers()[0].values.copy()
    with pytest.raises(error, match=message) as caught:
        getattr(model, call)(x, y)
    assert isinstance(caught.value, MinidlError)
    numpy.testing.assert_array_equal(model.flat_buffers()[0].values, before)


@pytest.mark.parametrize(
    "x",
    [
        [[1], [2]],
        numpy.array([[True], [False]]),
        numpy.ones((2, 1), dtype="uint8"),
        numpy.ones((2, 1), dtype="float16"),
        numpy.ones((2, 1), dtype=numpy.longdouble),
        numpy.ones((1, 2)).T,
        numpy.ma.masked_array([[1.0], [2.0]]),
    ],
    ids=lambda x: type(x).__name__ + str(getattr(x, "dtype", "")),
)
def test_data_that_can(x, neuron):
    assert neuron().predict(x).dtype == "float32"
    neuron().fit(x, [0, 1])


def test_data_that_fit_are_not_copied():
    x = numpy.ones((3, 2), dtype="float32")
    assert checks.as_inputs(x, x.dtype, "fit", "x") is x
    assert checks.as_inputs(x.T, x.dtype, "fit", "x") is not x


def test_finite_data_whose_sum_is_not():
    x = numpy.full((4, 1), 3e38, dtype="float32")
    assert checks.as_inputs(x, x.dtype, "fit", "x") is x


def test_users_arrays_are_not_changed(line, neuron):
    x, y = line[0].copy(), line[1].copy()
    weights = numpy.ones(64)
    for array in (x, y, weights):
        array.flags.writeable = False
    neuron(metrics=["mae"]).fit(x, y, epochs=2, sample_weight=weights, validation_split=0.1)


class TestTargets:
    @pytest.mark.parametrize("shape", [(64,), (64, 1)])
    @pytest.mark.parametrize("flat", [False, True])
    def test_columns_are_aligned_with_any_loss(self, shape, flat, line):
        class Square:  # somebody's own: it would broadcast (N, 1) and (N,) to (N, N)
            def forward(self, prediction, target):
                assert prediction.shape == target.shape
                self.difference = prediction - target
                return (self.difference**2).mean()

            def backward(self):
                return 2 * self.difference / self.difference.size

        class Flat:
            def forward(self, x):
                return x[:, 0]

            def backward(self, dy):
                return dy[:, None]

        losses = []
        for loss in (Square(), dl.MSELoss()):
            dl.seed(0)
            model = dl.Sequential(dl.Linear(1, 1), *([Flat()] if flat else []))
            model.compile("sgd", loss)
            losses.append(model.fit(line[0], line[1].reshape(shape), epochs=3).history["loss"])
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    def test_classes_out_of_range_are_named_before_the_first_step(self, classifier):
        before = classifier.flat_buffers()[0].values.copy()
        x = numpy.ones((3, 1))
        with pytest.raises(TargetError, match=r"y\[2\] = 3 is no class.*3 outputs.*0 to 2"):
            classifier.fit(x, numpy.array([0, 2, 3]))
        with pytest.raises(TargetError, match=r"y\[0\] = -1 is no class"):
            classifier.fit(x, numpy.array([-1, 2, 1]))
        with pytest.raises(TargetError, match=r"y\[1\] = 0.5 is no class index"):
            classifier.fit(x, numpy.array([0, 0.5, 1]))
        with pytest.raises(TargetError, match=r"y\[0, 1\] = 1.5 is not from 0 to 1"):
            classifier.fit(x, numpy.array([[0, 1.5, 0]] * 3))
        with pytest.raises(ShapeError, match=r"class indices of shape \(N,\)"):
            classifier.fit(x, numpy.ones((3, 2)))
        numpy.testing.assert_array_equal(classifier.flat_buffers()[0].values, before)

    def test_the_ignored_class(self, classifier):
        x = numpy.ones((2, 1))
        weighed = classifier.evaluate(x, [0, -100])
        assert weighed == pytest.approx(classifier.evaluate(x[:1], [0]))

    def test_one_output_has_no_classes(self):
        model = dl.Sequential(dl.Linear(1, 1))
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(ShapeError, match="binary_crossentropy"):
            model.fit(numpy.ones((2, 1)), [0, 1])

    @pytest.mark.parametrize("bad", [-1, 2, 1.01])
    def test_binary_classes_are_0_and_1(self, bad):
        model = dl.Sequential(dl.Linear(1, 1))
        model.compile("sgd", "binary_crossentropy")
        with pytest.raises(TargetError, match=r"y\[1, 0\] = .* is not from 0 to 1; classes are 0 and 1"):
            model.fit(numpy.ones((2, 1)), [1, bad])
        model.fit(numpy.ones((2, 1)), [True, False])

    @pytest.mark.parametrize(
        ("shape", "indices"), [((5, 3), False), ((5,), True), ((5, 1), True), ((5, 3, 4), False), ((5, 4), True)]
    )
    def test_indices_and_probabilities_are_told_by_their_shape(self, shape, indices):
        outputs = (3, 4) if shape in ((5, 3, 4), (5, 4)) else (3,)
        y = numpy.zeros(shape) if indices else numpy.full(shape, 1 / 3)
        found = targets.as_targets(y, dl.CrossEntropyLoss(), numpy.dtype("float32"), outputs, "fit")
        assert found.dtype == ("int64" if indices else "float32")
        assert found.shape == ((5, *outputs[1:]) if indices else shape)

    def test_a_users_loss_gets_its_integers(self):
        found = targets.as_targets([1, 2], object(), numpy.dtype("float32"), (3,), "fit")
        assert found.dtype.kind == "i"


class TestWeights:
    def test_they_silence_examples(self, neuron):
        x, y = numpy.ones((4, 1)), numpy.array([0.0, 0.0, 8.0, 8.0])
        model = neuron(lambda parameters: dl.SGD(parameters, lr=0.3))
        model.fit(x, y, epochs=60, batch_size=4, sample_weight=[1, 1, 0, 0])
        assert model.predict(x[:1]).item() == pytest.approx(0.0, abs=1e-3)

    def test_a_class_weight_is_the_weight_of_its_examples(self, twins):
        x, y = numpy.linspace(-1, 1, 6).reshape(-1, 1), numpy.array([0, 0, 0, 0, 1, 2])
        models = twins(*(dl.Sequential(dl.Linear(1, 3)) for _ in range(3)))
        given = [
            {"class_weight": {1: 5.0, 2: 0.5}},
            {"sample_weight": [1, 1, 1, 1, 5, 0.5]},
            {"class_weight": {1: 2.5, 2: 1}, "sample_weight": [1, 1, 1, 1, 2, 0.5]},
        ]
        for model, weights in zip(models, given, strict=True):
            model.compile("sgd", "sparse_categorical_crossentropy")
            model.fit(x, y, epochs=3, shuffle=False, **weights)
        for model in models[1:]:
            numpy.testing.assert_allclose(model.flat_buffers()[0].values, models[0].flat_buffers()[0].values, rtol=1e-6)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([1, 2], r"must have shape \(3,\)"),
            (numpy.ones((3, 1)), r"must have shape \(3,\)"),
            ([1, -1, 1], r"sample_weight\[1\] = -1"),
            ([1, 1, numpy.nan], r"sample_weight\[2\] = nan"),
        ],
    )
    def test_sample_weights_that_do_not_fit(self, weights, message, classifier):
        with pytest.raises(DataError, match=message):
            classifier.fit(numpy.ones((3, 1)), [0, 1, 2], sample_weight=weights)

    def test_weights_that_are_no_numbers(self, classifier):
        with pytest.raises(DtypeError, match="sample_weight must hold real numbers"):
            classifier.fit(numpy.ones((1, 1)), [0], sample_weight=["a"])

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ({3: 1.0}, "names 3, but classes are 0 to 2"),
            ({"cat": 1.0}, "names 'cat'"),
            ({0: -1.0}, r"class_weight\[0\] = -1"),
            ({0: numpy.inf}, r"class_weight\[0\] = inf"),
            ({0: "a"}, r"class_weight\[0\] = 'a'"),
            ([1.0, 1.0, 1.0], "must be a dict"),
        ],
    )
    def test_class_weights_that_do_not_fit(self, weights, message, classifier):
        with pytest.raises(DataError, match=message):
            classifier.fit(numpy.ones((3, 1)), [0, 1, 2], class_weight=weights)

    def test_class_weights_need_classes(self, line, neuron):
        with pytest.raises(DataError, match="one class for each example"):
            neuron().fit(*line, class_weight={0: 1.0})

    @pytest.mark.parametrize(
        ("loss", "outputs", "y", "expected"),
        [
            ("binary_crossentropy", 1, [0, 1, 1], [1, 3, 3]),
            ("categorical_crossentropy", 2, [[1, 0], [0, 1], [0.1, 0.9]], [1, 3, 3]),
            ("sparse_categorical_crossentropy", 2, [0, 1, -100], [1, 3, 1]),
            ("mse", 1, [0, 1, 4], [1, 3, 1]),
        ],
    )
    def test_what_counts_as_a_class(self, loss, outputs, y, expected):
        dtype = numpy.dtype("float32")
        loss = dl.training.losses.loss_named(loss)
        found = targets.as_targets(y, loss, dtype, (outputs,), "fit")
        weights = targets.as_class_weights({1: 3.0}, found, loss, dtype, (outputs,), "fit")
        assert weights.tolist() == expected

    def test_a_users_loss_without_weights(self, line, neuron):
        class Own:
            def forward(self, prediction, target):
                return 0.0

            def backward(self):
                return 0.0

        with pytest.raises(ParameterError, match="Own.forward takes no sample weights"):
            neuron(loss=Own()).fit(*line, sample_weight=numpy.ones(64))
