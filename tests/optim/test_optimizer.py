"""What all optimisers share: groups, segments, state, and errors."""

import copy
import math

import numpy
import pytest

from minidl import engines, layers, optim
from minidl.errors import DtypeError, NotBuiltError, ParameterError, ShapeError, UnknownNameError
from minidl.layers import Parameter, ParameterBuffer, flatten
from minidl.ops import FORMULAS

CASES = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "sgd momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "sgd nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.5}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01}),
    "rmsprop centred": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.9}),
    "adam": (optim.Adam, {"lr": 0.1}),
    "amsgrad": (optim.Adam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.01}),
    "adamw": (optim.AdamW, {"lr": 0.1}),
}
each_case = pytest.mark.parametrize("case", CASES)


def make(case, parameters):
    kind, settings = CASES[case]
    return kind(parameters, **settings)


def parameters(*sizes, seed=0, dtype="float64", flat=True):
    rng = numpy.random.default_rng(seed)
    made = [Parameter(rng.normal(size=size).astype(dtype), name=f"p{i}") for i, size in enumerate(sizes)]
    if flat:
        flatten(made)
    return made


def set_gradients(made, step):
    """Give every parameter a gradient that depends on the step and its name alone."""
    for parameter in made:
        rng = numpy.random.default_rng([step, int(parameter.name[1:])])
        parameter.grad = rng.normal(size=parameter.shape)


def train(optimizer, made, steps, first=0):
    for step in range(first, first + steps):
        set_gradients(made, step)
        optimizer.step()
        optimizer.zero_grad()


def values(made):
    return [parameter.value.copy() for parameter in made]


def assert_same(left, right):
    for one, other in zip(left, right, strict=True):
        numpy.testing.assert_array_equal(one, other)


# segments ------------------------------------------------------------------------------------------------------------


@each_case
def test_a_model_is_one_pass(case, monkeypatch):
    made = parameters((3, 2), 4, (2, 2))
    optimizer = make(case, made)
    sizes = []
    engine = engines.current()
    for name in ("sgd_update", "adagrad_update", "rmsprop_update", "adam_update"):
        monkeypatch.setattr(engine, name, lambda value, *rest, **settings: sizes.append(value.size))
    optimizer.step()
    assert sizes == [14]


@each_case
def test_flat_and_apart_agree(case):
    """One buffer, a buffer each, and one with somebody else's parameter in between: the same numbers."""
    together, apart, mixed = parameters(5, (2, 3), 4), parameters(5, (2, 3), 4, flat=False), parameters(5, (2, 3), 4)
    other = Parameter(numpy.ones(3), name="p9")
    flatten([mixed[0], other, *mixed[1:]])
    for made in (together, apart, mixed):
        train(make(case, made), made, 5)
    assert_same(values(together), values(apart))
    assert_same(values(together), values(mixed))
    numpy.testing.assert_array_equal(other.value, numpy.ones(3))


@each_case
def test_the_update_is_the_formula(case):
    """Step by step the formulas of ``minidl.ops.update``, applied to each parameter by itself."""
    made = parameters(3, 2)
    optimizer = make(case, made)
    kind = type(optimizer).__name__.lower()
    expected = parameters(3, 2)
    s = dict(optimizer.param_groups[0].settings)
    state = [
        {n: numpy.full(p.shape, s.get("initial_accumulator_value", 0.0)) for n in optimizer.state_names(s)}
        for p in made
    ]
    for step in range(1, 4):
        set_gradients(made, step)
        optimizer.step()
        set_gradients(expected, step)
        for p, own in zip(expected, state, strict=True):
            common = {"lr": s["lr"], "weight_decay": s["weight_decay"]}
            if kind == "sgd":
                more = {k: s[k] for k in ("momentum", "dampening", "nesterov")}
                FORMULAS["sgd_update"](
                    p.value, p.grad, own.get("momentum_buffer"), **common, **more, first_step=step == 1
                )
            elif kind == "adagrad":
                more = {k: s[k] for k in ("lr_decay", "eps")}
                FORMULAS["adagrad_update"](p.value, p.grad, own["square_sum"], **common, **more, step=step)
            elif kind == "rmsprop":
                more = {k: s[k] for k in ("alpha", "eps", "momentum")}
                arrays = own["square_average"], own.get("grad_average"), own.get("momentum_buffer")
                FORMULAS["rmsprop_update"](p.value, p.grad, *arrays, **common, **more)
            else:
                more = {"beta1": s["betas"][0], "beta2": s["betas"][1], "eps": s["eps"], "decoupled": kind == "adamw"}
                arrays = own["m"], own["v"], own.get("v_max")
                FORMULAS["adam_update"](p.value, p.grad, *arrays, **common, **more, step=step)
    for p, q in zip(made, expected, strict=True):
        numpy.testing.assert_allclose(p.value, q.value, rtol=1e-13, atol=1e-15)


def test_a_shared_parameter_counts_once():
    [once], [twice] = parameters(3), parameters(3)
    train(optim.SGD([once]), [once], 2)
    train(optim.SGD([twice, twice]), [twice], 2)
    assert_same(values([once]), values([twice]))


def test_mixed_precisions_are_two_segments():
    made = [*parameters(3, dtype="float32"), *parameters(2)]
    optimizer = optim.Adam(made)
    train(optimizer, [made[1]], 1)
    assert [segment.values.dtype for segment in optimizer.param_groups[0].segments] == ["float32", "float64"]
    assert all(segment.state["m"].dtype == segment.values.dtype for segment in optimizer.param_groups[0].segments)


@each_case
def test_float32_stays_float32(case):
    made = parameters(3, dtype="float32")
    train(make(case, made), made, 2)
    assert made[0].value.dtype == numpy.float32


@each_case
def test_a_parameter_of_no_elements(case):
    made = parameters(3, (0, 2))
    train(make(case, made), made, 2)
    assert numpy.isfinite(made[0].value).all()


# zero_grad -----------------------------------------------------------------------------------------------------------


def test_zero_grad_zeroes_only_its_own():
    generator, critic = parameters(3, 2)
    generator.grad, critic.grad = 1.0, 2.0
    optim.SGD([generator]).zero_grad()
    numpy.testing.assert_array_equal(generator.grad, numpy.zeros(3))
    numpy.testing.assert_array_equal(critic.grad, [2.0, 2.0])


def test_zero_grad_of_a_whole_model_touches_nothing(monkeypatch):
    made = parameters(3, 2)
    optimizer = optim.SGD(made)
    before = made[0].buffer.zeroed
    optimizer.zero_grad()
    assert made[0].buffer.zeroed == before + 1


def test_a_gradient_that_nobody_computed_is_zero():
    made = parameters(3, 2)
    optimizer = optim.SGD(made, lr=1.0)
    made[0].grad = made[1].grad = numpy.nan
    optimizer.zero_grad()
    made[0].grad = 1.0
    start = values(made)
    optimizer.step()
    numpy.testing.assert_array_equal(made[0].value, start[0] - 1)
    numpy.testing.assert_array_equal(made[1].value, start[1])


# moved parameters ----------------------------------------------------------------------------------------------------


@each_case
def test_state_follows_into_a_larger_model(case):
    stay, move = parameters(3, (2, 2)), parameters(3, (2, 2))
    one, other = make(case, stay), make(case, move)
    train(one, stay, 3)
    train(other, move, 3)
    front = Parameter(numpy.zeros(5), name="p9")
    flatten([front, move[1], move[0]])  # another order, too
    train(one, stay, 3, first=3)
    train(other, move, 3, first=3)
    assert_same(values(stay), values(move))


@each_case
def test_state_follows_into_another_precision(case):
    made = parameters(4)
    optimizer = make(case, made)
    train(optimizer, made, 3)
    before = optimizer.state_dict()
    ParameterBuffer(made, dtype="float32")
    after = optimizer.state_dict()
    assert set(before) == set(after)
    for name, array in after.items():
        if name.startswith("state."):
            assert array.dtype == numpy.float32
            numpy.testing.assert_array_equal(array, before[name].astype("float32"))


def test_some_moved_some_stayed():
    made = parameters(3, 2, 4)
    optimizer = optim.SGD(made, lr=1.0)
    flatten([made[1], Parameter(numpy.zeros(2), name="p9")])
    start = values(made)
    for parameter in made:
        parameter.grad = 1.0
    optimizer.step()
    for parameter, old in zip(made, start, strict=True):
        numpy.testing.assert_array_equal(parameter.value, old - 1)
    segments = optimizer.param_groups[0].segments
    optimizer.step()
    assert (
        optimizer.param_groups[0].segments is segments
    )  # the old buffer is retired for good, yet nothing is regrouped again


def test_zero_grad_after_a_move():
    made = parameters(3)
    optimizer = optim.SGD(made)
    flatten([*made, *parameters(2)])
    made[0].grad = 1.0
    optimizer.zero_grad()
    numpy.testing.assert_array_equal(made[0].grad, numpy.zeros(3))


def test_model_and_optimizer_copied_together_go_on_alike():
    made = parameters(3, 2)
    optimizer = optim.Adam(made, lr=0.1)
    train(optimizer, made, 2)
    twins, twin = copy.deepcopy((made, optimizer))
    train(optimizer, made, 2, first=2)
    assert not numpy.array_equal(made[0].value, twins[0].value)
    train(twin, twins, 2, first=2)
    assert_same(values(made), values(twins))


# groups and settings -------------------------------------------------------------------------------------------------


def test_groups_have_settings_of_their_own():
    a, b = parameters(2, 3)
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.5)
    start = values([a, b])
    a.grad, b.grad = 1.0, 1.0
    optimizer.step()
    numpy.testing.assert_array_equal(a.value, start[0] - 1.0)
    numpy.testing.assert_array_equal(b.value, start[1] - 0.5)
    assert optimizer.param_groups[1]["params"] == [b]
    assert "2 groups" in repr(optimizer)


def test_lr_is_that_of_every_group():
    a, b = parameters(2, 3)
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.5)
    assert optimizer.lr == 1.0
    optimizer.lr = numpy.float32(0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
    with pytest.raises(ParameterError, match="SGD: lr must be at least 0, got -1"):
        optimizer.lr = -1


def test_momentum_switched_on_later():
    made = parameters(2)
    optimizer = optim.SGD(made, lr=1.0)
    train(optimizer, made, 1)
    optimizer.param_groups[0]["momentum"] = 0.5
    start = values(made)
    made[0].grad = 1.0
    optimizer.step()
    optimizer.step()
    numpy.testing.assert_allclose(made[0].value, start[0] - 1.0 - 1.5)


def test_a_group_names_its_settings():
    optimizer = optim.Adam(parameters(2))
    with pytest.raises(
        ParameterError, match="unknown setting 'momentum'; known: amsgrad, betas, eps, lr, weight_decay"
    ):
        optimizer.param_groups[0]["momentum"] = 0.5


def test_generators_of_parameters_are_lists_enough():
    made = parameters(2, 3)
    assert optim.SGD(iter(made)).parameters == made


def test_numbers_of_any_kind_become_plain():
    optimizer = optim.Adam(parameters(2), lr=numpy.float64(0.5), betas=[numpy.float32(0.5), 0], eps=1)
    assert repr(optimizer) == "Adam(lr=0.5, betas=(0.5, 0.0), eps=1.0, weight_decay=0.0, amsgrad=False)"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (optim.SGD, {"lr": -0.1}),
        (optim.SGD, {"lr": math.nan}),
        (optim.SGD, {"lr": math.inf}),
        (optim.SGD, {"lr": "fast"}),
        (optim.SGD, {"lr": True}),
        (optim.SGD, {"lr": None}),
        (optim.SGD, {"momentum": -0.1}),
        (optim.SGD, {"weight_decay": -0.1}),
        (optim.SGD, {"nesterov": 1}),
        (optim.SGD, {"nesterov": True}),
        (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
        (optim.Adagrad, {"lr_decay": -1.0}),
        (optim.Adagrad, {"initial_accumulator_value": -1.0}),
        (optim.RMSprop, {"alpha": 1.0}),
        (optim.RMSprop, {"centered": None}),
        (optim.Adam, {"betas": (0.9, 1.0)}),
        (optim.Adam, {"betas": (-0.1, 0.9)}),
        (optim.Adam, {"betas": 0.9}),
        (optim.Adam, {"betas": (0.9, 0.99, 0.999)}),
        (optim.Adam, {"eps": -1e-8}),
        (optim.AdamW, {"weight_decay": math.nan}),
    ],
)
def test_settings_outside_their_range(kind, settings):
    name = next(iter(settings))
    with pytest.raises(ParameterError, match=f"{kind.__name__}.*{name}"):
        kind(parameters(2), **settings)
    with pytest.raises(ParameterError, match=name):
        kind([{"params": parameters(2), **settings}])


# what is no list of parameters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no parameters"),
        ([{"params": []}], "no parameters"),
        ([numpy.zeros(3)], "ndarray"),
        (numpy.zeros(3), "float64"),
        (None, "None"),
        ("weights", "str"),
        ({"params": []}, "str"),
        ([{"parameters": []}], "key 'params'"),
    ],
)
def test_what_is_no_list_of_parameters(given, message):
    with pytest.raises(ParameterError, match=message):
        optim.Adam(given)


def test_a_layer_is_no_list_of_parameters():
    with pytest.raises(ParameterError, match=r"pass model\.parameters\(\)"):
        optim.Adam(layers.Linear(2, 3))


def test_a_single_parameter_will_do():
    [parameter] = parameters(3)
    assert optim.SGD(parameter).parameters == [parameter]


def test_a_parameter_in_two_groups():
    [parameter] = parameters(2)
    with pytest.raises(ParameterError, match="group 1 is already in an earlier group"):
        optim.SGD([{"params": [parameter]}, {"params": [parameter]}])


def test_groups_and_parameters_mixed():
    a, b = parameters(2, 3)
    with pytest.raises(ParameterError, match="key 'params'"):
        optim.SGD([{"params": [a]}, b])


def test_parameters_of_an_unbuilt_layer():
    with pytest.raises(NotBuiltError, match="input_shape"):
        optim.SGD(layers.Dense(3).parameters())


# state ---------------------------------------------------------------------------------------------------------------


@each_case
def test_a_restored_optimizer_goes_on_alike(case):
    made, again = parameters(3, (2, 2)), parameters(3, (2, 2), seed=5)
    optimizer = make(case, made)
    train(optimizer, made, 3)
    state = optimizer.state_dict()
    for parameter, other in zip(made, again, strict=True):
        other.value = parameter.value
    restored = type(optimizer)(again)
    restored.load_state_dict(state)
    train(optimizer, made, 3, first=3)
    train(restored, again, 3, first=3)
    assert_same(values(made), values(again))


def test_state_is_arrays_by_name():
    optimizer = optim.Adam(parameters(3, (2, 2)))
    state = optimizer.state_dict()
    assert all(isinstance(array, numpy.ndarray) for array in state.values())
    assert state["state.0.1.m"].shape == (2, 2)
    assert set(state) == {
        "step",
        *(f"groups.0.{name}" for name in ("lr", "betas", "eps", "weight_decay", "amsgrad")),
        *(f"state.0.{i}.{name}" for i in (0, 1) for name in ("m", "v")),
    }


def test_state_is_a_copy():
    made = parameters(3)
    optimizer = optim.Adam(made)
    state = optimizer.state_dict()
    train(optimizer, made, 1)
    assert not state["state.0.0.m"].any()


def test_state_survives_a_safetensors_file(tmp_path):
    pytest.importorskip("safetensors")
    from minidl import weights

    made = parameters(3)
    optimizer = optim.RMSprop(made, momentum=0.5, centered=True)
    train(optimizer, made, 2)
    weights.save_file(optimizer.state_dict(), tmp_path / "state.safetensors")
    restored = optim.RMSprop(made)
    restored.load_state_dict(weights.load_file(tmp_path / "state.safetensors"))
    assert restored.step_count == 2
    assert restored.param_groups[0].settings == optimizer.param_groups[0].settings


def changed(state, **changes):
    return {**state, **{name.replace("__", "."): value for name, value in changes.items()}}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "state.0.0.m"}, ParameterError, "missing: state.0.0.m"),
        (lambda s: {k: v for k, v in s.items() if k != "groups.0.lr"}, ParameterError, "missing: groups.0.lr"),
        (lambda s: {k: v for k, v in s.items() if k != "step"}, ParameterError, "missing: step"),
        (lambda s: changed(s, state__0__7__m=numpy.zeros(3)), ParameterError, "unexpected: state.0.7.m"),
        (lambda s: changed(s, state__0__0__m=numpy.zeros(4)), ShapeError, r"\(3,\), got \(4,\)"),
        (lambda s: changed(s, state__0__0__m=numpy.zeros(3, int)), DtypeError, "int64"),
        (lambda s: changed(s, groups__0__lr=numpy.array(-1.0)), ParameterError, "lr must be at least 0"),
        (lambda s: changed(s, groups__0__betas=numpy.array(0.5)), ParameterError, "betas must be a pair"),
        (lambda s: changed(s, step=numpy.array(-1)), ParameterError, "step"),
        (lambda s: changed(s, step=numpy.array(1.5)), ParameterError, "step"),
        (lambda s: {}, ParameterError, "missing: groups.0.lr"),
    ],
)
def test_a_wrong_state_changes_nothing(change, error, message):
    made = parameters(3)
    optimizer = optim.Adam(made)
    train(optimizer, made, 2)
    before = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(change(before))
    after = optimizer.state_dict()
    assert set(after) == set(before)
    assert_same(after.values(), before.values())


def test_state_of_another_optimizer():
    with pytest.raises(ParameterError, match=r"missing: groups\.0\.momentum"):
        optim.SGD(parameters(3)).load_state_dict(optim.Adam(parameters(3)).state_dict())


# names ---------------------------------------------------------------------------------------------------------------


def test_names_are_those_of_keras():
    kinds = {name: optim.get(name) for name in ("sgd", "adam", "adamw", "rmsprop", "adagrad", "Adam")}
    assert kinds["sgd"] == (optim.SGD, {"lr": 0.01})
    assert kinds["Adam"] == kinds["adam"] == (optim.Adam, {"lr": 0.001, "eps": 1e-7})
    for kind, settings in kinds.values():
        kind(parameters(2), **settings)


@pytest.mark.parametrize("name", ["sdg", None, 3])
def test_unknown_names_list_the_known(name):
    with pytest.raises(UnknownNameError, match="known: adagrad, adam, adamw, rmsprop, sgd"):
        optim.get(name)


def test_the_settings_returned_are_ones_own():
    optim.get("sgd")[1]["lr"] = 5.0
    assert optim.get("sgd")[1]["lr"] == 0.01
