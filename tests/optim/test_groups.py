"""Groups of parameters: a step is one pass over each, and each has its own settings, rates and state."""

import copy

import numpy
import pytest

import minidl as dl
from minidl import optim
from minidl.errors import ParameterError
from minidl.layers import Layer, Parameter, TableParameter, flatten
from minidl.training import LearningRateScheduler

KINDS = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adagrad": (optim.Adagrad, {"lr": 0.1}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01}),
    "adam": (optim.Adam, {"lr": 0.1}),
    "adamw": (optim.AdamW, {"lr": 0.1}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
RANDOM = numpy.random.default_rng(0)
X = RANDOM.normal(size=(24, 4)).astype("float32")
Y = numpy.arange(24) % 3


def model_of(seed=0):
    dl.seed(seed)
    return dl.Sequential(dl.Linear(4, 6), dl.LayerNorm(6), dl.ReLU(), dl.Linear(6, 3))


def weights_and_biases(model):
    named = list(model.named_parameters())
    return [[p for name, p in named if name.endswith(end)] for end in ("weight", "bias")]


def take_steps(model, optimizer, steps=3, schedule=None):
    loss = dl.CrossEntropyLoss()
    for _ in range(steps):
        loss.forward(model.forward(X), Y)
        model.backward(loss.backward(), input_gradient=False)
        optimizer.clip_grad_norm(0.5)
        optimizer.step()
        optimizer.zero_grad()
        if schedule is not None:
            schedule.step()


def values(model):
    return [parameter.value.copy() for parameter in model.parameters()]


def assert_same(left, right):
    for one, other in zip(left, right, strict=True):
        numpy.testing.assert_array_equal(one, other)


# passes --------------------------------------------------------------------------------------------------------------


@each_kind
def test_a_step_is_one_pass_over_each_group(kind, monkeypatch):
    model = model_of()
    weights, biases = weights_and_biases(model)
    make, settings = KINDS[kind]
    before = values(model)
    optimizer = make([{"params": biases, "lr": 0.01}, {"params": weights}], **settings)
    assert_same(values(model), before)
    engine, seen = dl.engines.current(), []
    for name in ("sgd_update", "adagrad_update", "rmsprop_update", "adam_update"):
        monkeypatch.setattr(engine, name, lambda value, *rest, **settings: seen.append((value.size, settings["lr"])))
    optimizer.step()
    assert seen == [(15, 0.01), (48, settings["lr"])]


def test_the_model_stays_in_one_buffer_and_its_layers_together():
    model = model_of()
    weights, biases = weights_and_biases(model)
    optim.Adam([{"params": weights}, {"params": biases}])
    [buffer] = model.flat_buffers()
    assert all(parameter.buffer is buffer for parameter in model.parameters())


def test_parameters_that_are_one_pass_already_are_not_moved():
    model = model_of()
    buffer = model.parameters()[0].buffer
    optim.Adam([{"params": model[0].parameters(), "lr": 0.1}, {"params": model.parameters()[2:]}])
    optim.Adam(model.parameters())
    optim.Adam(model.parameters()[2:])
    assert model.parameters()[0].buffer is buffer
    assert not buffer.retired


def test_what_is_frozen_and_what_is_a_table_lie_behind():
    rows, w1, b1, w2, b2 = TableParameter(RANDOM.normal(size=(3, 2))), *(Parameter(numpy.ones(2)) for _ in range(4))
    flatten([w1, rows, b1, w2, b2])
    w2.trainable = False
    optimizer = optim.SGD([{"params": [rows, w1, w2]}, {"params": [b1, b2]}])
    sizes = [[segment.values.size for segment in group.segments] for group in optimizer.param_groups]
    assert sorted(sizes[0]) == [2, 6]
    assert sizes[1] == [4]


def test_groups_that_wait_frozen_do_not_lie_between():
    made = [Parameter(numpy.full(2, float(i))) for i in range(6)]
    flatten(made)
    for parameter in made[1::2]:
        parameter.trainable = False
    optimizer = optim.SGD([{"params": [parameter]} for parameter in made[1::2]] + [{"params": made[::2]}])
    assert [len(group.segments) for group in optimizer.param_groups] == [0, 0, 0, 1]
    numpy.testing.assert_array_equal([parameter.value[0] for parameter in made], range(6))


@each_kind
def test_groups_train_as_optimisers_of_their_own_would(kind, host_engine):
    make, settings = KINDS[kind]
    with dl.use(host_engine):
        together, apart = model_of(), model_of()
        (weights, biases), (own_weights, own_biases) = weights_and_biases(together), weights_and_biases(apart)
        optimizer = make([{"params": weights, "weight_decay": 0.1}, {"params": biases, "lr": 0.02}], **settings)
        first = make(own_weights, **{**settings, "weight_decay": 0.1})
        second = make(own_biases, **{**settings, "lr": 0.02})
        loss = dl.CrossEntropyLoss()
        for _ in range(4):
            for model, steppers in ((together, [optimizer]), (apart, [first, second])):
                loss.forward(model.forward(X), Y)
                model.backward(loss.backward(), input_gradient=False)
                for each in steppers:
                    each.step()
                    each.zero_grad()
        for own, other in zip(together.parameters(), apart.parameters(), strict=True):
            numpy.testing.assert_allclose(own.value, other.value, rtol=1e-6, atol=1e-7)


def test_clipping_is_over_all_groups():
    model, plain = model_of(), model_of()
    weights, biases = weights_and_biases(model)
    grouped = optim.SGD([{"params": weights}, {"params": biases}], lr=1.0)
    whole = optim.SGD(plain.parameters(), lr=1.0)
    for each in (model, plain):
        each.forward(X)
        each.backward(numpy.ones((24, 3), "float32"))
    assert grouped.clip_grad_norm(0.1) == pytest.approx(whole.clip_grad_norm(0.1), rel=1e-6)
    grouped.step()
    whole.step()
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        numpy.testing.assert_allclose(own.value, other.value, rtol=1e-5, atol=1e-7)


# rates ---------------------------------------------------------------------------------------------------------------


def two_groups(kind=optim.SGD, **settings):
    model = model_of()
    weights, biases = weights_and_biases(model)
    return model, kind([{"params": weights, "lr": 0.5}, {"params": biases}], lr=0.1, **settings)


def test_a_rate_that_is_set_decides_the_next_step():
    model, optimizer = two_groups()
    before = values(model)
    optimizer.param_groups[0]["lr"] = 0.0
    take_steps(model, optimizer, 1)
    moved = [(own != old).any() for own, old in zip(values(model), before, strict=True)]
    assert moved == [len(p.shape) == 1 and "bias" in p.name for p in model.parameters()]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: optim.StepLR(o, 1),
        lambda o: optim.CosineAnnealingLR(o, 10),
        lambda o: optim.LinearLR(o, 0.1),
        lambda o: optim.SequentialLR(o, [optim.LinearLR(o), optim.ExponentialLR(o, 0.5)], [2]),
        lambda o: optim.OneCycleLR(o, [0.5, 0.1], total_steps=10, cycle_momentum=False),
        lambda o: optim.TransformerLR(o, 16, 3),
        lambda o: optim.LambdaLR(o, lambda t: 0.9**t),
    ],
)
def test_schedules_keep_the_proportion_of_the_rates(make):
    _, optimizer = two_groups()
    schedule, seen = make(optimizer), set()
    for _ in range(5):
        first, second = schedule.get_last_lr()
        assert first == pytest.approx(5 * second)
        seen.add(first)
        schedule.step()
    assert len(seen) > 2


def test_a_function_for_each_group():
    _, optimizer = two_groups()
    schedule = optim.LambdaLR(optimizer, [lambda t: 1.0, lambda t: 0.5**t])
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.05]
    with pytest.raises(ParameterError, match="one function for each of the 2 groups, got 1"):
        optim.LambdaLR(optimizer, [lambda t: 1.0])
    with pytest.raises(ParameterError, match="must be a function of the step"):
        optim.LambdaLR(optimizer, [0.5, 0.5])


def test_a_smallest_rate_for_each_group():
    _, optimizer = two_groups()
    schedule = optim.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.2, 0.0])
    for _ in range(3):
        schedule.step(1.0)
    assert schedule.optimizer.param_groups[0]["lr"] == 0.2
    assert schedule.optimizer.param_groups[1]["lr"] == pytest.approx(0.001)
    with pytest.raises(ParameterError, match="one min_lr for each of the 2 groups, got 3"):
        optim.ReduceLROnPlateau(optimizer, min_lr=[0.1] * 3)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(lambda epoch, rate: rate / 2, [0.125, 0.025]), (lambda epoch: 0.4 / (epoch + 1), [0.2, 0.04])],
)
def test_a_function_in_fit_acts_on_every_group(function, expected):
    model, optimizer = two_groups()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=2, callbacks=LearningRateScheduler(function))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


def test_a_function_of_the_epoch_needs_a_first_rate():
    model, optimizer = two_groups()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    optimizer.param_groups[0]["lr"] = 0.0
    with pytest.raises(ParameterError, match="the rate of the first group is 0"):
        model.fit(X, Y, callbacks=LearningRateScheduler(lambda epoch: 0.1))
    model.fit(X, Y, callbacks=LearningRateScheduler(lambda epoch, rate: rate / 2))
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.05]


# state ---------------------------------------------------------------------------------------------------------------


@each_kind
def test_training_resumes_to_the_bit(kind, host_engine):
    make, settings = KINDS[kind]

    def start():
        model = model_of()
        weights, biases = weights_and_biases(model)
        optimizer = make([{"params": weights, "weight_decay": 0.1}, {"params": biases, "lr": 0.02}], **settings)
        return model, optimizer, optim.CosineAnnealingLR(optimizer, 8)

    with dl.use(host_engine):
        model, optimizer, schedule = start()
        take_steps(model, optimizer, 3, schedule)
        kept = model.state_dict(), optimizer.state_dict(), schedule.state_dict()
        take_steps(model, optimizer, 3, schedule)
        other, again, plan = start()
        other.load_state_dict(kept[0])
        again.load_state_dict(kept[1])
        plan.load_state_dict(kept[2])
        take_steps(other, again, 3, plan)
        assert_same(values(model), values(other))
        assert [g.settings for g in optimizer.param_groups] == [g.settings for g in again.param_groups]


def test_a_group_is_what_one_gives():
    _, optimizer = two_groups(momentum=0.9)
    again = optim.SGD([dict(group) for group in optimizer.param_groups])
    assert [dict(group) for group in again.param_groups] == [dict(group) for group in optimizer.param_groups]
    assert list(optimizer.param_groups[0].keys())[:3] == ["params", "lr", "momentum"]


def test_a_copy_of_model_and_optimiser_goes_on_alike():
    model, optimizer = two_groups(momentum=0.9)
    take_steps(model, optimizer, 2)
    twin, its = copy.deepcopy((model, optimizer))
    take_steps(model, optimizer, 2)
    take_steps(twin, its, 2)
    assert_same(values(model), values(twin))


def test_the_state_of_other_groups_is_refused():
    _, optimizer = two_groups()
    state = optim.SGD(model_of().parameters(), lr=0.1).state_dict()
    with pytest.raises(ParameterError, match="the number of groups differs: 1 in the state, 2 here"):
        optimizer.load_state_dict(state)


def test_a_group_that_is_added_trains_from_then_on():
    model = model_of()
    optimizer = optim.Adam([{"params": model[3].parameters()}], lr=0.1)
    take_steps(model, optimizer, 2)
    before = model[0].weight.value.copy()
    optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.01})
    take_steps(model, optimizer, 1)
    assert abs(model[0].weight.value - before).max() == pytest.approx(0.01, rel=1e-2)  # a first step of Adam is lr


# errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda w, b: [{"params": w}, {"params": [*b, w[0]]}], "of group 1 is already in an earlier group"),
        (
            lambda w, b: [{"params": w, "rate": 0.1}],
            "group 0: unknown setting 'rate'|unknown setting 'rate'; known: .*lr",
        ),
        (lambda w, b: [{"params": w}, {"params": []}], "no parameters to optimise"),
        (lambda w, b: [{"params": w}, b], "groups to be dicts with the key 'params'"),
        (lambda w, b: [{"params": w, "lr": -1.0}], "lr must be at least 0"),
        (lambda w, b: [{"params": [1.0]}], "expected minidl.Parameter objects, got float"),
    ],
)
def test_groups_that_cannot_be(groups, message):
    with pytest.raises(ParameterError, match=message):
        optim.Adam(groups(*weights_and_biases(model_of())))


# decay ---------------------------------------------------------------------------------------------------------------


def names_of(model, group):
    return [name for name, p in model.named_parameters() if p in group["params"]]


def test_decay_spares_biases_and_norms():
    model = model_of()
    decayed, spared = optim.param_groups_weight_decay(model, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert names_of(model, decayed) == ["0.weight", "3.weight"]
    assert names_of(model, spared) == ["0.bias", "1.weight", "1.bias", "3.bias"]


def test_decay_spares_norms_of_several_axes_and_what_is_named():
    class Model(Layer):
        def __init__(self):
            super().__init__()
            self.norm = dl.LayerNorm((2, 3))
            self.positions = Parameter(numpy.ones((5, 3)))
            self.table_bias = Parameter(numpy.ones((5, 3)))
            self.map = dl.Linear(3, 3)

    model = Model()
    decayed, spared = optim.param_groups_weight_decay(model, 0.1, "positions")
    assert names_of(model, decayed) == ["map.weight"]
    assert sorted(names_of(model, spared)) == ["map.bias", "norm.bias", "norm.weight", "positions", "table_bias"]
    [only] = optim.param_groups_weight_decay(model.norm, 0.1)
    assert only["weight_decay"] == 0.0
    with pytest.raises(ParameterError, match="'position' matches no name of this model"):
        optim.param_groups_weight_decay(model, 0.1, ["position"])
    with pytest.raises(ParameterError, match="weight_decay must be at least 0"):
        optim.param_groups_weight_decay(model, -0.1)
    with pytest.raises(ParameterError, match="expected a model, got list"):
        optim.param_groups_weight_decay(model.parameters(), 0.1)


def test_a_tied_weight_is_in_one_group():
    model = dl.models.GPT2("nano", vocab_size=11, context=8)
    groups = optim.param_groups_weight_decay(model, 0.1)
    assert sum(len(group["params"]) for group in groups) == len(model.parameters())
    assert model.lm_head.weight in groups[0]["params"]
    spared = optim.param_groups_weight_decay(model, 0.1, "lm_head.weight")[1]
    assert model.transformer.wte.weight in spared["params"]


# fit -----------------------------------------------------------------------------------------------------------------


def test_fit_with_groups_however_the_optimiser_was_given():
    by_object, by_function = model_of(), model_of()
    by_object.compile(
        optim.AdamW(optim.param_groups_weight_decay(by_object, 0.1), lr=0.01), "sparse_categorical_crossentropy"
    )
    by_function.compile(
        lambda parameters: optim.AdamW(optim.param_groups_weight_decay(by_function, 0.1), lr=0.01),
        "sparse_categorical_crossentropy",
    )
    for model in (by_object, by_function):
        model.fit(X, Y, batch_size=8, epochs=3, seed=0)
    assert_same(values(by_object), values(by_function))
    assert [group["weight_decay"] for group in by_function.optimizer.param_groups] == [0.1, 0.0]


def test_fit_refuses_to_train_what_is_frozen():
    model, optimizer = two_groups()
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.trainable = False
    with pytest.raises(ParameterError, match="fit: every parameter that the optimizer holds is frozen"):
        model.fit(X, Y)
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ParameterError, match="every parameter is frozen"):
        model.fit(X, Y)
