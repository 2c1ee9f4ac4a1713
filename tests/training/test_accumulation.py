"""Gradient accumulation: several small batches are the step of one large batch."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DataError, NonFiniteError, ParameterError
from minidl.training import Callback, GradientClipping, LambdaCallback, LearningRateScheduler

RANDOM = numpy.random.default_rng(0)
X = RANDOM.normal(size=(26, 4))
Y = numpy.arange(26) % 3


def model_of(outputs=3, optimizer=dl.Adam, loss="sparse_categorical_crossentropy", dtype="float64", **settings):
    dl.seed(0)
    model = dl.Sequential(dl.Linear(4, 6, dtype=dtype), dl.Tanh(), dl.Linear(6, outputs, dtype=dtype))
    model.compile(optimizer(model.parameters(), **{"lr": 0.05, **settings}), loss)
    return model


def assert_alike(one, other, rtol=1e-9):
    for own, expected in zip(one.parameters(), other.parameters(), strict=True):
        numpy.testing.assert_allclose(own.value, expected.value, rtol=rtol, atol=1e-11)


def fit_both(small, large, x=X, y=Y, epochs=3, callbacks=lambda model: None, **options):
    """Train with 3 batches of 4, and with batches of 12; the last step of an epoch has 2 examples."""
    first = small.fit(
        x, y, 4, epochs, callbacks=callbacks(small), seed=1, gradient_accumulation_steps=3, **options
    ).history
    second = large.fit(x, y, 12, epochs, callbacks=callbacks(large), seed=1, **options).history
    for name, values in first.items():
        numpy.testing.assert_allclose(values, second[name], rtol=1e-9)
    assert (small.optimizer.step_count, large.optimizer.step_count) == (epochs * 3, epochs * 3)


@pytest.mark.parametrize(
    ("outputs", "loss", "y"),
    [
        (3, "sparse_categorical_crossentropy", Y),
        (1, "mse", RANDOM.normal(size=(26, 1))),
        (1, "binary_crossentropy", Y % 2),
        (3, dl.CrossEntropyLoss(weight=numpy.array([0.2, 1.0, 3.0])), Y),
        (3, dl.CrossEntropyLoss(ignore_index=0), Y),
        (3, dl.CrossEntropyLoss(reduction="sum"), Y),
        (1, dl.MSELoss(reduction="sum"), RANDOM.normal(size=(26, 1))),
    ],
)
def test_it_is_the_large_batch(outputs, loss, y, host_engine):
    with dl.use(host_engine):
        small, large = model_of(outputs, loss=loss), model_of(outputs, loss=loss)
        fit_both(small, large, y=y)
        assert_alike(small, large)


def test_on_every_engine(engine):
    with dl.use(engine):
        small, large = model_of(), model_of()
        fit_both(small, large, epochs=2, callbacks=lambda model: GradientClipping(0.1))
        for name, value in small.state_dict().items():
            numpy.testing.assert_allclose(value, large.state_dict()[name], rtol=1e-9, atol=1e-11)


def test_with_weights_of_examples_and_classes():
    small, large = model_of(), model_of()
    fit_both(small, large, sample_weight=RANDOM.uniform(0, 2, 26), class_weight={0: 3.0})
    assert_alike(small, large)


@pytest.mark.parametrize("first", [[1, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 0], [0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0]])
def test_a_step_in_which_few_targets_count(first):
    """The batches of a step have different divisors, one of them none."""
    loss = dl.CrossEntropyLoss(ignore_index=0)
    small, large = model_of(loss=loss), model_of(loss=loss)
    fit_both(small, large, y=numpy.array(first + [1] * 14), shuffle=False)
    assert_alike(small, large)


def test_a_step_in_which_no_target_counts():
    y, loss = numpy.array([0] * 12 + [1] * 14), dl.CrossEntropyLoss(ignore_index=0)
    small, large = model_of(loss=loss), model_of(loss=loss)
    fit_both(small, large, y=y, shuffle=False)
    assert_alike(small, large)


@pytest.mark.parametrize("clipping", [{"max_norm": 0.05}, {"clip_value": 0.01}, {"max_norm": 0.03, "clip_value": 0.02}])
def test_clipping_sees_the_gradient_of_the_step(clipping):
    small, large = model_of(optimizer=dl.SGD, lr=1.0), model_of(optimizer=dl.SGD, lr=1.0)
    fit_both(small, large, callbacks=lambda model: GradientClipping(**clipping))
    assert_alike(small, large)


def test_schedules_count_steps():
    small, large = model_of(), model_of()

    def one_cycle(model):
        return LearningRateScheduler(dl.optim.OneCycleLR(model.optimizer, 0.1, epochs=3, steps_per_epoch=3))

    fit_both(small, large, callbacks=one_cycle)
    assert_alike(small, large)
    assert small.optimizer.lr == large.optimizer.lr
    schedule = dl.optim.OneCycleLR(small.optimizer, 0.1, total_steps=9)
    with pytest.warns(UserWarning, match="OneCycleLR has 9 steps, but is stepped once an epoch"):
        small.fit(X, Y, 4, 3, callbacks=LearningRateScheduler(schedule), gradient_accumulation_steps=3)


def test_groups_and_frozen_parameters():
    small, large = model_of(), model_of()
    for model in (small, large):
        model.freeze("0.bias")
        model.optimizer = dl.AdamW(dl.optim.param_groups_weight_decay(model, 0.1), lr=0.05)
    fit_both(small, large)
    assert_alike(small, large)


def test_batches_of_a_generator_whose_number_nobody_knows():
    def batches():
        for start in range(0, 26, 4):
            yield X[start : start + 4], Y[start : start + 4]

    class Again:
        def __iter__(self):
            return batches()

    small, large = model_of(), model_of()
    small.fit(Again(), epochs=2, gradient_accumulation_steps=3)
    large.fit(X, Y, 12, 2, shuffle=False)
    assert_alike(small, large)


def test_one_batch_is_what_it_always_was():
    one, other = model_of(dtype="float32"), model_of(dtype="float32")
    one.fit(X, Y, 4, 2, seed=0, gradient_accumulation_steps=1)
    other.fit(X, Y, 4, 2, seed=0)
    for own, expected in zip(one.parameters(), other.parameters(), strict=True):
        numpy.testing.assert_array_equal(own.value, expected.value)


def test_more_batches_than_an_epoch_has_are_one_step():
    small, large = model_of(), model_of()
    small.fit(X, Y, 4, 2, seed=0, gradient_accumulation_steps=100)
    large.fit(X, Y, 26, 2, seed=0)
    assert small.optimizer.step_count == 2
    assert_alike(small, large)


def test_the_hooks_of_a_step_and_of_a_batch():
    model, seen = model_of(), []
    note = LambdaCallback(
        on_train_batch_begin=lambda batch: seen.append(f"begin {batch}"),
        on_gradients=lambda batch: seen.append(f"gradients {batch}"),
        on_train_batch_end=lambda batch: seen.append(f"end {batch} {model.optimizer.step_count}"),
        on_train_begin=lambda: seen.append(note.params["gradient_accumulation_steps"]),
    )
    model.fit(X, Y, 8, callbacks=note, gradient_accumulation_steps=3)
    batches = [f"begin {i}, end {i} 0" for i in range(2)]
    expected = f"3, {', '.join(batches)}, begin 2, gradients 2, end 2 1, begin 3, gradients 3, end 3 2"
    assert ", ".join(map(str, seen)) == expected


def test_stopping_waits_for_the_step():
    model = model_of()

    class Stop(Callback):
        def on_train_batch_end(self, batch):
            self.model.stop_training = True

    model.fit(X, Y, 4, epochs=5, callbacks=Stop(), gradient_accumulation_steps=2)
    assert model.optimizer.step_count == 1
    assert not any(p.has_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["loss", "data"])
def test_a_step_that_fails_in_its_second_batch_leaves_nothing(kind):
    dl.seed(0)
    model = dl.Sequential(dl.BatchNorm1d(4), dl.Linear(4, 3))
    model.compile(dl.SGD(model.parameters()), "sparse_categorical_crossentropy")
    before = model.state_dict()

    def batches():
        yield X[:8], Y[:8]
        if kind == "data":
            raise OSError("the disk is gone")
        yield X[8:16] * 1e38, Y[8:16]
        yield X[16:], Y[16:]

    model[1].bias.value[...] = numpy.inf if kind == "loss" else 0
    before = model.state_dict()
    with pytest.raises(NonFiniteError if kind == "loss" else DataError):
        model.fit(batches(), gradient_accumulation_steps=3)
    for name, value in model.state_dict().items():
        numpy.testing.assert_array_equal(value, before[name])
    assert model.optimizer.step_count == 0
    assert not any(p.has_grad for p in model.parameters())


@pytest.mark.parametrize("steps", [0, -1, 1.5, "2", None, True])
def test_numbers_of_steps_that_cannot_be(steps):
    with pytest.raises(ParameterError, match="fit: gradient_accumulation_steps must be"):
        model_of().fit(X, Y, gradient_accumulation_steps=steps)


def test_several_outputs_and_a_loss_of_ones_own():
    """A loss that does not tell what it divides by is a mean over the rows; its gradient may be a tuple."""

    class Two(dl.training.Trainable, dl.layers.Layer):
        def __init__(self):
            super().__init__()
            self.left, self.right = dl.Linear(4, 1, dtype="float64"), dl.Linear(4, 1, dtype="float64")

        def forward(self, x):
            return self.left.forward(x), self.right.forward(x)

        def backward(self, dy):
            return self.left.backward(dy[0]) + self.right.backward(dy[1])

    class Loss:
        def forward(self, output, y):
            self.off = output[0] - y, output[1] + y
            return sum((off**2).mean() for off in self.off)

        def backward(self):
            return tuple(2 * off / len(off) for off in self.off)

    models = []
    for _ in range(2):
        dl.seed(0)
        models.append(Two())
        models[-1].compile(dl.SGD(models[-1].parameters(), lr=0.05), Loss())
    fit_both(*models, y=RANDOM.normal(size=(26, 1)))
    assert_alike(*models)


def test_by_hand_with_grad_scale():
    """The manual loop of the docs: rows times the gradient of their mean, and 1 / rows as the scale of the step."""
    mine, large = model_of(optimizer=dl.SGD), model_of(optimizer=dl.SGD)
    loss, optimizer = dl.CrossEntropyLoss(), mine.optimizer
    for start in range(0, 26, 12):
        rows = 0
        for x, y in ((X[at : at + 4], Y[at : at + 4]) for at in range(start, min(start + 12, 26), 4)):
            loss.forward(mine.forward(x), y)
            mine.backward(loss.backward() * len(x))
            rows += len(x)
        optimizer.grad_scale = 1 / rows
        optimizer.clip_grad_norm(0.3)
        optimizer.step()
        optimizer.zero_grad()
    large.fit(X, Y, 12, shuffle=False, callbacks=GradientClipping(0.3))
    assert_alike(mine, large)
