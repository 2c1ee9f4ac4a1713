"""Optimisers and clipping on every engine, and parameters that move between engines."""

import numpy
import pytest
from array_double import transfers

from minidl import engines, optim
from minidl.layers import Parameter, ParameterBuffer, flatten

CASES = [
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.5}),
    (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.9}),
    (optim.Adam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    (optim.AdamW, {"lr": 0.1}),
]
each_case = pytest.mark.parametrize(("kind", "settings"), CASES, ids=lambda x: getattr(x, "__name__", "-"))


def parameters(engine, dtype="float64"):
    rng = numpy.random.default_rng(0)
    made = [Parameter(engine.asarray(rng.normal(size=shape).astype(dtype))) for shape in ((4, 3), (3,), (50, 21))]
    flatten(made)
    return made


def train(engine, optimizer, made, steps):
    rng = numpy.random.default_rng(1)
    with engines.use(engine):
        for _ in range(steps):
            for parameter in made:
                parameter.grad = engine.asarray(rng.normal(size=parameter.shape).astype(parameter.dtype))
            optimizer.step()
            optimizer.zero_grad()


@each_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_engine_steps_alike(engine, kind, settings, dtype):
    host = engines.get("numpy")
    expected, made = parameters(host, dtype), parameters(engine, dtype)
    train(host, kind(expected, **settings), expected, 10)
    train(engine, kind(made, **settings), made, 10)
    eps = float(numpy.finfo(dtype).eps)
    for parameter, reference in zip(made, expected, strict=True):
        numpy.testing.assert_allclose(engine.to_host(parameter.value), reference.value, rtol=200 * eps, atol=200 * eps)


@each_case
def test_a_step_moves_nothing_across_the_bus(engine, kind, settings):
    made = parameters(engine)
    optimizer = kind(made, **settings)
    for parameter in made:
        parameter.grad = 1.0
    transfers.clear()
    with engines.use(engine):
        optimizer.step()
        optimizer.zero_grad()
    assert transfers.total() == 0


@each_case
def test_state_is_on_the_host_and_goes_back(engine, kind, settings):
    made, again = parameters(engine), parameters(engine)
    optimizer = kind(made, **settings)
    train(engine, optimizer, made, 3)
    state = optimizer.state_dict()
    assert all(isinstance(array, numpy.ndarray) for array in state.values())
    restored = kind(again)
    restored.load_state_dict(state)
    for name, array in restored.state_dict().items():
        numpy.testing.assert_array_equal(array, state[name])


@each_case
def test_state_follows_to_another_engine(engine, kind, settings):
    host = engines.get("numpy")
    stay, move = parameters(host), parameters(host)
    one, other = kind(stay, **settings), kind(move, **settings)
    train(host, one, stay, 3)
    train(host, other, move, 3)
    ParameterBuffer(move, xp=engine.xp)
    train(host, one, stay, 3)
    train(engine, other, move, 3)
    for parameter, reference in zip(move, stay, strict=True):
        numpy.testing.assert_allclose(engine.to_host(parameter.value), reference.value, rtol=1e-12, atol=1e-13)
    ParameterBuffer(move, xp=numpy)
    before = other.state_dict()
    train(host, other, move, 1)
    assert set(other.state_dict()) == set(before)


@pytest.mark.parametrize("norm_type", [1, 2, 3, numpy.inf])
def test_clipping(engine, norm_type):
    host = engines.get("numpy")
    results = []
    for where in (host, engine):
        made = parameters(where)
        for parameter in made:
            parameter.grad = parameter.value
        norm = optim.clip_grad_norm(made, 0.5, norm_type)
        optim.clip_grad_value(made, 0.01)
        results.append((float(norm), [where.to_host(parameter.grad).copy() for parameter in made]))
    (norm, gradients), (other_norm, other_gradients) = results
    assert other_norm == pytest.approx(norm, rel=1e-12)
    for one, other in zip(gradients, other_gradients, strict=True):
        numpy.testing.assert_allclose(other, one, rtol=1e-12)


@each_case
def test_float16_trains_as_float32_but_for_the_rounding_of_the_values(engine, kind, settings):
    """Small gradients, and those of a dead unit: their squares, and eps, are 0 in float16."""
    rng = numpy.random.default_rng(0)
    start = rng.normal(size=(40,)).astype("float16")
    grads = (rng.normal(size=(10, 40)) * 10.0 ** rng.uniform(-7, 2, (10, 40))).astype("float16")
    grads[:, :5] = 0
    ends = {}
    for dtype in ("float16", "float32"):
        parameter = Parameter(engine.asarray(start.astype(dtype)))
        optimizer = kind([parameter], **settings)
        with engines.use(engine):
            for grad in grads:
                parameter.grad = engine.asarray(grad.astype(dtype))
                optimizer.step()
        ends[dtype] = engine.to_host(parameter.value)
        state = {key: array for key, array in optimizer.state_dict().items() if key.startswith("state.")}
        assert all(array.dtype == "float32" for array in state.values())
        optimizer.load_state_dict(optimizer.state_dict())
    assert ends["float16"].dtype == "float16"
    step = 2.0**-10 * numpy.maximum(numpy.abs(ends["float32"]), 1) * 10
    assert (numpy.abs(ends["float16"] - ends["float32"]) < step).all()
