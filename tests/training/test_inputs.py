"""What fit, evaluate and predict take beside one array of floats: several inputs, integers, sequences of classes."""

import numpy
import pytest
from sequence_models import LanguageModel, Masked

import minidl as dl
from minidl.errors import DataError, DtypeError, NonFiniteError, ParameterError, ShapeError, TargetError
from minidl.layers import Layer
from minidl.training import Trainable, meter
from minidl.training.meter import Meter, metrics_named

RANDOM = numpy.random.default_rng(0)
IDS = RANDOM.integers(0, 6, (20, 7))
MASK = RANDOM.random((20, 7)) < 0.7
MASK[:, 0] = True
SCALE = RANDOM.uniform(0.5, 1, 20)
LABELS = RANDOM.integers(0, 3, 20)


def masked(**settings):
    dl.seed(0)
    model = Masked(**settings)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def weights_of(model):
    return numpy.concatenate([p.value.ravel() for p in model.parameters()])


class TestSeveralInputs:
    @pytest.mark.parametrize("x", [(IDS, MASK), {"mask": MASK, "ids": IDS}], ids=["tuple", "dict"])
    def test_they_train_as_by_hand(self, x):
        model, by_hand = masked(), masked()
        history = model.fit(x, LABELS, batch_size=8, epochs=2, shuffle=False)
        loss, optimizer = dl.CrossEntropyLoss(), dl.Adam(by_hand.parameters(), eps=1e-7)
        for _ in range(2):
            for start in range(0, 20, 8):
                part = slice(start, start + 8)
                loss.forward(by_hand.forward(IDS[part], MASK[part]), LABELS[part])
                by_hand.backward(loss.backward())
                optimizer.step()
                optimizer.zero_grad()
        numpy.testing.assert_array_equal(weights_of(model), weights_of(by_hand))
        assert len(history.epoch) == 2

    def test_a_tuple_and_a_dict_are_the_same_in_any_order(self):
        given = [(IDS, MASK, SCALE), {"scale": SCALE, "ids": IDS, "mask": MASK}]
        models = [masked(), masked()]
        found = []
        for model, x in zip(models, given, strict=True):
            y = LABELS
            history = model.fit(x, y, batch_size=4, epochs=3, seed=1, validation_split=0.2, class_weight={1: 2.0})
            found.append((history.history, model.evaluate(x, y, batch_size=3), model.predict(x, batch_size=6).tolist()))
        assert found[0] == found[1]
        numpy.testing.assert_array_equal(*map(weights_of, models))

    def test_validation_data_may_come_in_the_other_form(self):
        model = masked()
        history = model.fit((IDS, MASK), LABELS, validation_data=({"ids": IDS, "mask": MASK}, LABELS))
        assert history.history["val_loss"][0] == pytest.approx(model.evaluate((IDS, MASK), LABELS)[0])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_integers_and_masks_stay_and_floats_are_the_models(self, dtype):
        model = masked(dtype=dtype)
        model.fit((IDS.astype("uint16"), MASK, SCALE.astype("float16")), LABELS)
        assert set(model.seen) == {("uint16", "bool", dtype)}

    def test_numbers_of_the_other_byte_order(self):
        model = masked()
        model.predict((IDS.astype(">i4"), MASK))
        assert model.seen[0][0] == "int32"

    def test_one_input_may_come_in_a_tuple_or_dict(self, line, neuron):
        model = neuron()
        expected = model.predict(line[0])
        numpy.testing.assert_array_equal(model.predict((line[0],)), expected)
        numpy.testing.assert_array_equal(model.predict({"x": line[0]}), expected)

    def test_a_tuple_of_numbers_and_a_list_of_rows_are_one_array(self, line):
        class Column:
            def forward(self, x):
                return x.reshape(-1, 1)

            def backward(self, dy):
                return dy[:, 0]

        model = dl.Sequential(Column(), dl.Linear(1, 1))
        assert model.predict((1.0, 2, numpy.float32(3))).shape == (3, 1)
        assert dl.Sequential(dl.Linear(2, 1)).predict([numpy.ones(2), numpy.zeros(2)]).shape == (2, 1)

    def test_augment_gets_what_was_given(self):
        def hide(x, generator):
            assert set(x) == {"ids", "mask"}
            assert not x["mask"].flags.writeable
            return {"mask": numpy.zeros_like(x["mask"]), "ids": x["ids"]}

        model, unseen = masked(), masked()
        model.fit({"ids": IDS, "mask": MASK}, LABELS, shuffle=False, augment=hide)
        unseen.fit((IDS, 0 * MASK), LABELS, shuffle=False)
        numpy.testing.assert_array_equal(weights_of(model), weights_of(unseen))
        with pytest.raises(DataError, match=r"augment must return the inputs that it got, x\[0\], x\[1\]"):
            model.fit((IDS, MASK), LABELS, augment=lambda x, generator: x[0])
        with pytest.raises(DataError, match="as many examples as it got, 20"):
            model.fit((IDS, MASK), LABELS, augment=lambda x, generator: (x[0], x[1][:3]))

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            ((IDS, MASK[:7]), DataError, r"fit: x\[0\] holds 20 examples but x\[1\] holds 7"),
            ({"ids": IDS, "mask": MASK[:7]}, DataError, r"x\['ids'\] holds 20 examples but x\['mask'\] holds 7"),
            ((IDS[:3], MASK[:3]), DataError, "x holds 3 examples but y holds 20"),
            (
                {"ids": IDS, "masks": MASK},
                DataError,
                r"x\['ids'\], x\['masks'\], but Masked.forward takes \(ids, mask, scale=None\)",
            ),
            ((IDS,), DataError, "x holds the inputs.*missing a required argument: 'mask'"),
            ((IDS, MASK, SCALE, SCALE), DataError, "too many positional"),
            ((), DataError, "x is an empty tuple"),
            ({}, DataError, "x is an empty dict"),
            ({0: IDS}, DataError, "the keys of x must be the names"),
            ((IDS, MASK, numpy.full(20, numpy.nan)), DataError, r"x\[2\] holds nan or inf in 20 of 20.*x\[2\]\[0\]"),
            ({"ids": IDS, "mask": [[1], [1, 0]]}, DataError, r"x\['mask'\] is no regular array"),
            ((IDS, None), DtypeError, r"x\[1\] must hold real numbers"),
            ((IDS, numpy.zeros((0, 7))), DataError, r"x\[1\] holds no examples"),
            ((IDS, MASK, numpy.full(20, 1e39)), DataError, r"x\[2\]\[0\] holds 1e\+39, too large"),
        ],
    )
    @pytest.mark.parametrize("call", ["fit", "evaluate"])
    def test_inputs_that_do_not_fit_are_named(self, call, x, error, message):
        model = masked()
        before = weights_of(model)
        with pytest.raises(error, match=message.replace("fit:", f"{call}:")):
            getattr(model, call)(x, LABELS)
        numpy.testing.assert_array_equal(weights_of(model), before)

    def test_predict_names_them_too(self):
        with pytest.raises(DataError, match=r"predict: x\['ids'\] holds 20 examples but x\['mask'\] holds 1"):
            masked().predict({"ids": IDS, "mask": MASK[:1]})

    def test_a_list_of_inputs_is_one_array_and_the_message_says_so(self, line, neuron):
        with pytest.raises(DataError, match="a list is one array, so give several inputs as a tuple"):
            neuron().fit([numpy.ones(1), numpy.ones(1)], line[1])

    def test_a_model_of_one_input(self, line, neuron):
        with pytest.raises(DataError, match="too many positional arguments"):
            neuron().fit((line[0], line[0]), line[1])

    def test_what_is_lazy_is_built_by_an_example(self):
        class Sum(Trainable, Layer):
            def __init__(self):
                super().__init__()
                self.head = dl.Dense(1, dtype="float64")

            def forward(self, a, b):
                return self.head.forward(a + b)

            def backward(self, dy):
                d = self.head.backward(dy)
                return d, d

        model = Sum()
        model.compile("sgd", "mse")
        x = numpy.array([[0.1], [0.2]])
        model.fit((x, x), numpy.zeros(2))
        assert model.head.weight.shape == (1, 1)
        assert model.predict((x, x)).dtype == "float64"

    def test_the_first_layer_that_is_not_finite_is_named(self):
        model = masked()
        model.head.weight.value = numpy.nan
        with pytest.raises(NonFiniteError, match=r"layer head, Linear\(4, 3\) \(its parameter 'weight'"):
            model.fit({"ids": IDS, "mask": MASK}, LABELS)
        model = masked()
        model.table.value = numpy.inf
        with pytest.raises(NonFiniteError, match=r"that of layer head"):  # what goes into it is no layer's output
            model.fit((IDS, MASK), LABELS)


class TestSeveralOutputs:
    class Two(Trainable, Layer):
        def __init__(self, named):
            super().__init__()
            self.one, self.other, self.named = dl.Linear(1, 1), dl.Linear(1, 1), named

        def forward(self, x):
            ends = self.one.forward(x), self.other.forward(x)
            return dict(zip("ab", ends, strict=True)) if self.named else ends

        def backward(self, dy):
            return self.one.backward(dy[0]) + self.other.backward(dy[1])

    class Both:
        """The sum of two mean squared errors."""

        def __init__(self):
            self.losses = dl.MSELoss(), dl.MSELoss()

        def forward(self, outputs, y):
            outputs = tuple(outputs.values()) if isinstance(outputs, dict) else outputs
            return sum(
                loss.forward(output, y[name]) for loss, output, name in zip(self.losses, outputs, "ab", strict=True)
            )

        def backward(self):
            return tuple(loss.backward() for loss in self.losses)

    @pytest.mark.parametrize("named", [False, True])
    def test_a_loss_of_ones_own_takes_them(self, line, named):
        model = self.Two(named)
        model.compile(dl.SGD(model.parameters(), lr=0.3), self.Both())
        x, y = line
        targets = {"a": y.reshape(-1, 1), "b": -y.reshape(-1, 1)}
        model.fit(x, targets, epochs=60, batch_size=16, validation_split=0.25)
        assert model.evaluate(x, targets) < 1e-3
        found = model.predict(x, batch_size=10)
        a, b = found.values() if named else found
        numpy.testing.assert_allclose(a, -b, atol=0.1)
        assert a.shape == (64, 1)

    def test_a_loss_of_ours_takes_one(self, line):
        model = self.Two(False)
        model.compile("sgd", "mse")
        with pytest.raises(ParameterError, match="returns 2 outputs, but MSELoss.*takes one"):
            model.fit(*line)
        model.compile("sgd", self.Both(), metrics=["mae"])
        with pytest.raises(ParameterError, match="returns 2 outputs, but a metric takes one"):
            model.fit(line[0], {"a": line[1], "b": line[1]})

    def test_a_loss_of_ours_takes_one_target(self, line, neuron):
        with pytest.raises(DataError, match="y is a tuple of arrays, but MSELoss.*takes one array"):
            neuron().fit(line[0], (line[1], line[1]))

    def test_a_metric_takes_one_target(self, line, neuron):
        class First:
            def __init__(self):
                self.loss = dl.MSELoss()

            def forward(self, output, y):
                return self.loss.forward(output, y[0])

            def backward(self):
                return self.loss.backward()

        model = neuron(loss=First())
        model.fit(line[0], (line[1], line[1]))
        model.compile("sgd", First(), metrics=["mae"])
        with pytest.raises(ParameterError, match="y is a tuple of arrays, but a metric takes one array"):
            model.fit(line[0], (line[1], line[1]))

    def test_their_lengths(self, line):
        model = self.Two(False)
        model.compile("sgd", self.Both())
        with pytest.raises(DataError, match=r"y\['a'\] holds 64 examples but y\['b'\] holds 3"):
            model.fit(line[0], {"a": line[1], "b": line[1][:3]})


class TestIntegers:
    TOKENS = RANDOM.integers(0, 5, (12, 7))
    NEXT = (TOKENS + 1) % 5

    @pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
    def test_they_stay_where_the_model_wants_them(self, dtype):
        model = LanguageModel()
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit((self.TOKENS % 2).astype(dtype), self.NEXT)
        model.predict((self.TOKENS % 2).astype(dtype))
        assert set(model.seen) == {numpy.dtype(dtype)}

    def test_the_models_of_these_tests_are_right(self):
        dl.gradcheck(LanguageModel(dtype="float64"), self.TOKENS[:2])
        dl.gradcheck(Masked(dtype="float64"), IDS[:3], MASK[:3])

    def test_elsewhere_they_become_floats(self):
        seen = []

        class Spy(dl.layers.Identity):
            def forward(self, x):
                seen.append(x.dtype)
                return x

        model = dl.Sequential(Spy(), dl.Linear(7, 1))
        model.compile("sgd", "mse")
        model.fit(self.TOKENS, numpy.zeros(12))
        assert set(seen) == {numpy.dtype("float32")}

    def test_floats_are_left_to_the_layer_that_wants_integers(self):
        model = LanguageModel()
        model.predict(self.TOKENS.astype(float))  # this one takes them
        assert model.seen == [numpy.dtype("float32")]


class TestSequencesOfClasses:
    """Outputs (N, T, K), targets (N, T)."""

    TOKENS = RANDOM.integers(0, 5, (12, 7))
    NEXT = (TOKENS + 1) % 5

    @pytest.mark.parametrize(
        "loss", ["sparse_categorical_crossentropy", dl.CrossEntropyLoss(class_axis=-1)], ids=["name", "object"]
    )
    def test_a_language_model_learns(self, loss, engine):
        with dl.use(engine):
            dl.seed(0)
            model = LanguageModel(width=8)
            model.compile(dl.Adam(model.parameters(), lr=0.05), loss, metrics=["accuracy"])
            history = model.fit(self.TOKENS, self.NEXT, epochs=60, batch_size=4, validation_split=0.25)
            assert history.history["accuracy"][-1] == 1.0
            assert history.history["val_accuracy"][-1] == 1.0
            assert model.evaluate(self.TOKENS, self.NEXT)[0] < 0.3
            assert model.predict(self.TOKENS).shape == (12, 7, 5)

    def test_each_metric_sees_rows_without_ignored_positions(self):
        targets = self.NEXT.copy()
        targets[:, 4:] = -100
        model = LanguageModel()
        names = ["accuracy", "top_k_accuracy", "precision", "recall", "f1", "auc"]

        def rows(y_true, y_pred):
            assert y_pred.shape == (*y_true.shape, 5)
            assert y_true.min() >= 0
            return numpy.mean(y_pred.argmax(axis=1) == y_true)

        model.compile("sgd", "sparse_categorical_crossentropy", metrics=[*names, rows])
        found = model.evaluate(self.TOKENS, targets, batch_size=5, return_dict=True)
        scores, kept = model.predict(self.TOKENS)[:, :4].reshape(-1, 5), targets[:, :4].ravel()
        softmax = dl.ops.softmax(scores.astype("float64"))[0]
        assert found["accuracy"] == found["rows"] == pytest.approx(dl.metrics.accuracy(kept, scores))
        assert found["top_k_accuracy"] == 1.0
        assert found["recall"] == pytest.approx(dl.metrics.recall(kept, scores.argmax(axis=1), average="macro"))
        assert found["auc"] == pytest.approx(dl.metrics.roc_auc(kept, softmax))

    @pytest.mark.parametrize("batch_size", [1, 5, 12])
    @pytest.mark.parametrize("class_axis", [1, -1])
    def test_the_mean_is_over_all_positions_that_count(self, batch_size, class_axis):
        """In batches of any size, also where a batch has none."""
        targets = self.NEXT.copy()
        targets[0, :] = targets[5, 2:] = targets[9, :6] = -100
        model = LanguageModel()
        if class_axis == 1:
            model = dl.Sequential({"lm": model, "turn": Turn()})
        model.compile("sgd", dl.CrossEntropyLoss(class_axis=class_axis))
        whole = float(model.loss.forward(model.forward(self.TOKENS), targets))
        assert model.evaluate(self.TOKENS, targets, batch_size=batch_size) == pytest.approx(whole, rel=1e-5)

    def test_an_epoch_on_nothing_but_ignored_positions_is_explained(self):
        model = LanguageModel()
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(NonFiniteError, match="the loss ignores every target of epoch 1"):
            model.fit(self.TOKENS, numpy.full((12, 7), -100))

    def test_metrics_of_images_see_what_they_saw(self):
        """Classes on axis 1 keep their shape, as long as nothing is ignored."""
        shapes = []

        def look(y_true, y_pred):
            shapes.append((y_true.shape, y_pred.shape))
            return 0.0

        meter = Meter(metrics_named([look, "accuracy", "precision"], True), None, dl.CrossEntropyLoss())
        scores, classes = RANDOM.normal(size=(2, 3, 4, 4)), RANDOM.integers(0, 3, (2, 4, 4))
        for ignored in (False, True):
            meter.reset()
            classes[0, 0] = -100 if ignored else 0
            meter.add(scores, classes)
            right = scores.argmax(axis=1) == classes
            assert meter.results()["accuracy"] == pytest.approx(right[classes >= 0].mean())
        assert shapes == [((2, 4, 4), (2, 3, 4, 4)), ((28,), (28, 3))]

    @pytest.mark.parametrize("chunk", [0, 1 << 18])
    def test_batches_of_different_lengths_are_measured_together(self, chunk, monkeypatch):
        monkeypatch.setattr(meter, "CHUNK", chunk)
        for axis in (1, -1):
            found = Meter(metrics_named("accuracy", True), None, dl.CrossEntropyLoss(class_axis=axis))
            found.reset()
            right = []
            for length in (3, 5, 5, 2):
                scores, classes = RANDOM.normal(size=(2, length, 4)), RANDOM.integers(0, 4, (2, length))
                right += (scores.argmax(axis=-1) == classes).ravel().tolist()
                found.add(scores if axis == -1 else numpy.moveaxis(scores, -1, 1), classes)
            assert found.results()["accuracy"] == pytest.approx(numpy.mean(right))

    def test_ignored_everywhere_the_metric_is_nan(self):
        found = Meter(metrics_named("accuracy", True), None, dl.CrossEntropyLoss(class_axis=-1))
        found.reset()
        found.add(numpy.ones((2, 3, 4)), numpy.full((2, 3), -100))
        assert numpy.isnan(found.results()["accuracy"])

    def test_a_softmax_at_the_end_of_a_sequence_model(self):
        """Keras's habit: Dense(K, activation="softmax") is over the last axis, and so are the classes."""
        x = numpy.eye(5, dtype="float32")[self.TOKENS]  # (N, T, 5)
        models = []
        for ending in ({}, {"activation": "softmax"}):
            dl.seed(3)
            model = dl.Sequential(dl.Dense(5, input_shape=(7, 5), **ending))
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy", "auc"])
            models.append((model, model.fit(x, self.NEXT, epochs=3, seed=0).history))
        assert models[0][1]["loss"] == pytest.approx(models[1][1]["loss"], rel=1e-6)
        assert models[0][1]["auc"] == pytest.approx(models[1][1]["auc"], rel=1e-6)
        numpy.testing.assert_allclose(models[1][0].predict(x).sum(axis=-1), 1, rtol=1e-5)


class Turn(Layer):
    """(N, T, K) to (N, K, T)."""

    def forward(self, x):
        return x.swapaxes(1, 2)

    def backward(self, dy):
        return dy.swapaxes(1, 2)


class TestWhereTheClassesAre:
    def model(self, loss, turned=False, length=7, classes=5):
        model = dl.Sequential(dl.Linear(3, classes), *([Turn()] if turned else []))
        model.compile("sgd", loss, metrics=["accuracy"])
        return model, RANDOM.normal(size=(4, length, 3)).astype("float32"), RANDOM.integers(0, classes, (4, length))

    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize("one_hot", [False, True])
    def test_by_name_the_targets_tell(self, turned, one_hot):
        model, x, y = self.model("categorical_crossentropy", turned)
        axis = 1 if turned else -1
        target = numpy.moveaxis(dl.data.one_hot(y, 5), -1, axis) if one_hot else y
        loss, accuracy = model.evaluate(x, target)
        assert model.loss.class_axis == axis
        scores = model.predict(x)
        expected = dl.CrossEntropyLoss(class_axis=axis)
        assert loss == pytest.approx(float(expected.forward(scores, y)), rel=1e-5)
        assert accuracy == pytest.approx((scores.argmax(axis=axis) == y).mean())

    def test_where_both_are_possible_the_loss_must_say_it(self):
        model, x, y = self.model("sparse_categorical_crossentropy", length=5)
        before = weights_of(model)
        with pytest.raises(
            ParameterError, match=r"outputs of shape \(N, 5, 5\) and y of shape \(4, 5\).*class_axis=-1"
        ):
            model.fit(x, y)
        numpy.testing.assert_array_equal(weights_of(model), before)
        found = []
        for axis in (1, -1):
            model.compile("sgd", dl.CrossEntropyLoss(class_axis=axis))
            found.append(model.evaluate(x, y))
            expected = dl.CrossEntropyLoss(class_axis=axis).forward(model.predict(x), y)
            assert found[-1] == pytest.approx(float(expected), rel=1e-5)
        assert found[0] != found[1]

    def test_earlier_data_or_a_softmax_tell(self):
        model, x, y = self.model("sparse_categorical_crossentropy")
        model.fit(x, y)
        assert numpy.isfinite(model.evaluate(x[:, :5], y[:, :5])[0])
        assert model.loss.class_axis == -1
        model = dl.Sequential(dl.Linear(3, 5), dl.Softmax(-1))
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(x[:, :5], y[:, :5])
        assert model.loss.class_axis == -1
        model.compile("sgd", "sparse_categorical_crossentropy")
        assert model.loss.class_axis is None

    def test_a_softmax_over_the_positions(self):
        _, x, y = self.model("mse")
        model = dl.Sequential(dl.Linear(3, 5), dl.Softmax(1))
        model.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(ParameterError, match=r"ends in Softmax\(1\).*use Softmax\(-1\)"):
            model.fit(x, y)

    @pytest.mark.parametrize("axis", [1, -1])
    def test_an_object_that_says_the_other_axis(self, axis):
        model, x, y = self.model(dl.CrossEntropyLoss(class_axis=axis), turned=axis == -1)
        with pytest.raises(ShapeError, match=rf"class indices of shape \(N, 5\).*got \(4, 7\).*class_axis={-axis}\)"):
            model.fit(x, y)

    def test_targets_that_fit_nowhere(self):
        model, x, y = self.model("sparse_categorical_crossentropy")
        with pytest.raises(
            ShapeError, match=r"outputs of shape \(N, 7, 5\).*\(N, 5\).*got \(4, 3\).*last axis.*\(N, 7\)"
        ):
            model.fit(x, y[:, :3])

    def test_classes_out_of_range_are_named(self):
        model, x, y = self.model("sparse_categorical_crossentropy")
        y[2, 3] = 5
        with pytest.raises(TargetError, match=r"y\[2, 3\] = 5 is no class; the model has 5 outputs"):
            model.fit(x, y)
