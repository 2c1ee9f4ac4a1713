"""Linear layers that the engine runs in one call: the same numbers, gradients, caches and errors as layer by layer."""

import copy

import numpy
import pytest

import minidl as dl
from minidl.engines.compositions import FUSIBLE
from minidl.errors import DtypeError, OrderError, ShapeError
from minidl.layers import Parameter


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def stack_of(*activations, dtype="float32"):
    """Linear layers from 6 to 5, 4, 3, ... features, each with the activation named, or None."""
    layers = []
    for position, name in enumerate(activations):
        layers.append(dl.Linear(6 - position, 5 - position, bias=position != 1, dtype=dtype))
        layers += [] if name is None else [dl.layers.activation(name)]
    return dl.Sequential(layers)


def step(model, x, dy, one_by_one=False, **options):
    """Return y, dx and all gradients."""
    model.zero_grad()
    y, dx = x, dy
    if one_by_one:
        for layer in model.layers:
            y = layer.forward(y)
        for layer in reversed(model.layers):
            dx = layer.backward(dx)
    else:
        y = model.forward(x)
        dx = model.backward(dy, **options)
    return y, dx, model.flat_buffers()[0].gradients().copy()


@pytest.mark.parametrize("op", [None, *FUSIBLE])
def test_same_bits_as_layer_by_layer(op, host_engine, random):
    with dl.use(host_engine):
        model = stack_of(op, None, op)
        assert model.stacks() == ([range(len(model))] if host_engine.has_kernel("linear_stack") else [])
        x, dy = random.normal(size=(7, 6)).astype("float32"), random.normal(size=(7, 3)).astype("float32")
        before = dy.copy()
        together, apart = step(model, x, dy), step(model, x, dy, one_by_one=True)
        for a, b in zip(together, apart, strict=True):
            if op is None or host_engine.name == "numpy":
                numpy.testing.assert_array_equal(a, b)
            else:
                numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        numpy.testing.assert_array_equal(dy, before)
        y, dx, gradients = step(model, x, dy, input_gradient=False)
        assert dx is None
        numpy.testing.assert_array_equal(y, together[0])
        numpy.testing.assert_array_equal(gradients, together[2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 6), (0, 6), (2, 3, 6)])
def test_leading_axes_and_precisions(shape, dtype, host_engine, random):
    with dl.use(host_engine):
        model = stack_of("tanh", None, "gelu", dtype=dtype)
        x, dy = random.normal(size=shape).astype(dtype), random.normal(size=(*shape[:-1], 3)).astype(dtype)
        for a, b in zip(step(model, x, dy), step(model, x, dy, one_by_one=True), strict=True):
            assert a.dtype == b.dtype == dtype
            numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_gradcheck(host_engine, random):
    with dl.use(host_engine):
        model = stack_of("tanh", "sigmoid", None, dtype="float64")
        assert bool(model.stacks()) == host_engine.has_kernel("linear_stack")
        dl.gradcheck(model, random.normal(size=(5, 6)))


def test_what_is_in_a_stack():
    layers = [
        dl.Linear(4, 3),
        dl.Tanh(),
        dl.Dense(3, activation="relu"),
        dl.Dropout(0.5),
        dl.Linear(3, 3),
        dl.Softmax(),
    ]
    model = dl.Sequential(*layers, dl.Linear(3, 3), dl.Linear(3, 2), dl.Dense(2, activation="softmax"))
    kernel = dl.engines.current().has_kernel("linear_stack")
    assert model.stacks() == ([range(3), range(6, 8)] if kernel else [])
    assert model.fused_into() == ({1: 0} if kernel else {})
    assert model.summary().stacks == ([("0", "2"), ("6", "7")] if kernel else [])
    model.fuse = False
    assert model.stacks() == []
    assert model.summary().stacks == []


def test_caches_serve_each_layer_alone(random):
    model = stack_of("tanh", None, "gelu")
    x, dy = random.normal(size=(7, 6)).astype("float32"), random.normal(size=(7, 3)).astype("float32")
    expected = step(model, x, dy)[1]
    for layer in reversed(model.layers):
        dy = layer.backward(dy)
    numpy.testing.assert_allclose(dy, expected, rtol=1e-5, atol=1e-6)


def test_gradients_add_up_until_they_are_zeroed(random):
    model = stack_of("relu", None, "tanh")
    x, dy = random.normal(size=(7, 6)).astype("float32"), random.normal(size=(7, 3)).astype("float32")
    once = step(model, x, dy)[2]
    model.backward(dy)
    numpy.testing.assert_allclose(model.flat_buffers()[0].gradients(), 2 * once, rtol=1e-5, atol=1e-6)
    model.zero_grad()
    model.parameters()[2].grad += 1.0  # somebody writes one before backward does
    model.backward(dy)
    for parameter, gradient in zip(model.parameters(), split(once, model.parameters()), strict=True):
        extra = parameter is model.parameters()[2]
        numpy.testing.assert_allclose(parameter.grad, gradient + extra, rtol=1e-5, atol=1e-6)


def split(flat, parameters):
    ends = numpy.cumsum([parameter.size for parameter in parameters])[:-1]
    return [part.reshape(p.shape) for part, p in zip(numpy.split(flat, ends), parameters, strict=True)]


def test_a_shared_parameter_gets_both_gradients(random):
    model = dl.Sequential(dl.Linear(4, 4), dl.Tanh(), dl.Linear(4, 4))
    model[2].weight = model[0].weight
    x, dy = (random.normal(size=(3, 4)).astype("float32") for _ in range(2))
    for _ in range(2):  # as gathered first, and as it stands
        for a, b in zip(step(model, x, dy), step(model, x, dy, one_by_one=True), strict=True):
            numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_parameter_put_in_anothers_place_is_the_one_that_counts(random):
    model = stack_of(None, None)
    x = random.normal(size=(3, 6)).astype("float32")
    model.forward(x)
    model[0].weight = Parameter(numpy.zeros((5, 6), dtype="float32"), name="weight")
    expected = model[0].bias.value @ model[1].weight.value.T
    numpy.testing.assert_allclose(model.forward(x), numpy.tile(expected, (3, 1)), rtol=1e-5, atol=1e-6)


def test_new_settings_of_an_activation_count(random):
    model = dl.Sequential(dl.Linear(6, 5), dl.LeakyReLU(0.1), dl.Linear(5, 4))
    x = random.normal(size=(3, 6)).astype("float32")
    before = model.forward(x)
    model[1].settings = (0.9,)
    after = model.forward(x)
    assert not numpy.allclose(before, after)
    numpy.testing.assert_allclose(after, model[2].forward(model[1].forward(model[0].forward(x))), rtol=1e-5, atol=1e-6)


def test_gradients_that_an_error_kept_from_being_written_do_not_count(random):
    model = stack_of("tanh", None)
    x, dy = random.normal(size=(3, 6)).astype("float32"), random.normal(size=(3, 4)).astype("float32")
    once = step(model, x, dy)[2]
    model.zero_grad()
    with pytest.raises(ShapeError):
        model.backward(dy[:, :2])
    model.backward(dy)
    numpy.testing.assert_array_equal(model.flat_buffers()[0].gradients(), once)


def test_it_follows_its_parameters(random):
    model = stack_of("tanh", None)
    x, dy = random.normal(size=(3, 6)).astype("float32"), random.normal(size=(3, 4)).astype("float32")
    y, _, gradients = step(model, x, dy)
    larger = dl.Sequential(model, dl.Linear(4, 4))
    numpy.testing.assert_array_equal(model.forward(x), y)
    larger.zero_grad()
    model.backward(dy)
    assert numpy.shares_memory(model[0].weight.grad, larger.flat_buffers()[0].gradients())
    numpy.testing.assert_array_equal(larger.flat_buffers()[0].gradients()[: gradients.size], gradients)
    larger.to(dtype="float64")
    assert model.forward(x).dtype == "float64"
    numpy.testing.assert_allclose(model.forward(x), y, rtol=1e-5, atol=1e-6)


def test_a_copy_is_on_its_own(random):
    model = stack_of("tanh", None)
    x, dy = random.normal(size=(3, 6)).astype("float32"), random.normal(size=(3, 4)).astype("float32")
    _, dx, gradients = step(model, x, dy)
    twin = copy.deepcopy(model)
    twin.zero_grad()
    numpy.testing.assert_array_equal(twin.backward(dy), dx)  # from the layers' copied caches
    numpy.testing.assert_allclose(twin.flat_buffers()[0].gradients(), gradients, rtol=1e-5, atol=1e-6)
    twin.flat_buffers()[0].values[...] = 0
    assert not twin.forward(x).any()
    numpy.testing.assert_array_equal(step(model, x, dy)[2], gradients)


def test_switching_between_forward_and_backward(random):
    model = stack_of("tanh", None, "gelu")
    x, dy = random.normal(size=(7, 6)).astype("float32"), random.normal(size=(7, 3)).astype("float32")
    expected = step(model, x, dy)[1]
    for before, after in ((True, False), (False, True)):
        model.fuse = before
        model.forward(x)
        model.fuse = after
        numpy.testing.assert_allclose(model.backward(dy), expected, rtol=1e-5, atol=1e-6)


def test_layers_of_two_precisions_run_one_by_one(random):
    model = dl.Sequential(dl.Linear(6, 5), dl.Tanh(), dl.Linear(5, 4, dtype="float64"))
    x = random.normal(size=(3, 6)).astype("float32")
    assert model.forward(x).dtype == "float64"
    numpy.testing.assert_array_equal(model.forward(x), model[2].forward(model[1].forward(model[0].forward(x))))
    assert [len(buffer.parameters) for buffer in model.flat_buffers()] == [2, 2]


def test_lazy_layers_are_built_first(random):
    model = dl.Sequential(dl.Dense(5, activation="tanh"), dl.Dense(4))
    x, dy = random.normal(size=(3, 6)).astype("float32"), random.normal(size=(3, 4)).astype("float32")
    with pytest.raises(OrderError, match=r"in layer 1 of Sequential, Dense\(4\).*forward"):
        model.backward(dy)
    y = model.forward(x)
    for a, b in zip(step(model, x, dy), step(model, x, dy, one_by_one=True), strict=True):
        numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(model.forward(x), y, rtol=1e-6)


@pytest.mark.parametrize("seen", [False, True])
def test_errors_name_the_layer(seen, random):
    model = stack_of("tanh", None, "relu")
    x, dy = random.normal(size=(3, 6)).astype("float32"), random.normal(size=(3, 3)).astype("float32")
    if seen:
        model.forward(x)
    else:
        with pytest.raises(OrderError, match=r"in layer 4 of Sequential, ReLU|in layer 3 of Sequential, Linear"):
            model.backward(dy)
    with pytest.raises(ShapeError, match=r"in layer 0 of Sequential, Linear\(6, 5\)"):
        model.forward(x[:, :5])
    with pytest.raises(DtypeError, match=r"in layer 0 of Sequential, Linear\(6, 5\)"):
        model.forward(x.astype(int))
    model[3].weight = Parameter(numpy.zeros((3, 3), dtype="float32"))
    with pytest.raises(ShapeError, match=r"in layer 3 of Sequential, Linear\(4, 3\)"):
        model.forward(x)
    model = stack_of("tanh", None, "relu")
    model.forward(x)
    with pytest.raises(ShapeError, match=r"in layer [34] of Sequential"):
        model.backward(dy[:, :2])


def test_part_of_a_larger_model(random):
    model = dl.Sequential(dl.Conv2d(1, 2, 3), dl.Flatten(), dl.Linear(32, 4), dl.ReLU(), dl.Linear(4, 3))
    assert model.stacks() == [range(2, 5)] or dl.engines.current().name == "numpy"
    x, dy = random.normal(size=(2, 1, 6, 6)).astype("float32"), random.normal(size=(2, 3)).astype("float32")
    for a, b in zip(step(model, x, dy), step(model, x, dy, one_by_one=True), strict=True):
        numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
