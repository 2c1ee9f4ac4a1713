"""Residual and Parallel: sums and concatenations of branches, forward and backward, inside models and alone."""

import copy

import numpy
import pytest

import minidl as dl
from minidl.errors import OrderError, ParameterError, ShapeError
from minidl.testing import check_layer


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def branch(out=4):
    return [dl.Linear(4, 3), dl.Tanh(), dl.Linear(3, out)]


LAYERS = {
    "residual": lambda: dl.Residual(*branch()),
    "residual with shortcut": lambda: dl.Residual(branch(2), shortcut=dl.Linear(4, 2, bias=False)),
    "residual with activation": lambda: dl.Residual(branch(), activation="tanh"),
    "residual whose branch ends in what it remembers": lambda: dl.Residual(dl.Tanh()),
    "residual of the identity": lambda: dl.Residual(dl.Identity()),
    "residual in residual": lambda: dl.Residual(dl.Linear(4, 4), dl.Residual(*branch(), activation="gelu")),
    "parallel": lambda: dl.Parallel(branch(), dl.Linear(4, 2), dl.Identity()),
    "parallel, last axis": lambda: dl.Parallel(dl.Linear(4, 2), dl.Tanh(), axis=-1),
    "parallel, sum": lambda: dl.Parallel(branch(), dl.Tanh(), dl.Identity(), combine="sum"),
    "parallel, one branch": lambda: dl.Parallel(dl.Tanh(), combine="sum"),
    "parallel in residual": lambda: dl.Residual(dl.Parallel(dl.Linear(4, 3), dl.Linear(4, 1)), activation="sigmoid"),
    "convolutions": lambda: dl.Residual(
        dl.Conv2d(2, 3, 3, padding=1), dl.Tanh(), dl.Conv2d(3, 4, 3, padding=1, stride=2),
        shortcut=[dl.Conv2d(2, 4, 1, stride=2)], activation="tanh",
    ),
    "convolutions side by side": lambda: dl.Parallel(dl.Conv2d(2, 3, 1), [dl.Conv2d(2, 2, 3, padding=1), dl.Tanh()]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("fuse", [True, False])
def test_gradients_and_the_rules_of_layers(name, fuse, random):
    layer = LAYERS[name]()
    layer.fuse = fuse
    shape = (2, 2, 6, 6) if "convolutions" in name else (5, 4)
    check_layer(layer, random.normal(size=shape).astype("float32"))


def test_residual_is_the_sum(random):
    f, s = dl.Linear(4, 2), dl.Linear(4, 2)
    x = random.normal(size=(5, 4)).astype("float32")
    numpy.testing.assert_array_equal(dl.Residual(f, shortcut=s).forward(x), f.forward(x) + s.forward(x))


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_that_is_not_its_own_is_written_to(name, random):
    layer = LAYERS[name]()
    shape = (2, 2, 6, 6) if "convolutions" in name else (5, 4)
    x = random.normal(size=shape).astype("float32")
    y = layer.forward(x)
    dy = random.normal(size=y.shape).astype("float32")
    before = x.copy(), dy.copy(), y.copy()
    first, second = layer.backward(dy).copy(), layer.backward(dy)
    numpy.testing.assert_array_equal(first, second)
    for array, kept in zip((x, dy, y), before, strict=True):
        numpy.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize("name", LAYERS)
def test_the_input_gradient_is_optional(name, random):
    layer = LAYERS[name]()
    shape = (2, 2, 6, 6) if "convolutions" in name else (5, 4)
    y = layer.forward(random.normal(size=shape).astype("float32"))
    layer.backward(y)
    expected = [p.grad.copy() for p in layer.parameters()]
    layer.zero_grad()
    assert layer.backward(y, input_gradient=False) is None
    for p, grad in zip(layer.parameters(), expected, strict=True):
        numpy.testing.assert_array_equal(p.grad, grad)


def test_names():
    residual = dl.Residual({"conv1": dl.Conv2d(2, 2, 1), "relu": dl.ReLU()}, shortcut={"0": dl.Conv2d(2, 2, 1)})
    assert list(residual.state_dict()) == ["conv1.weight", "conv1.bias", "shortcut.0.weight", "shortcut.0.bias"]
    named = dl.Parallel({"wide": dl.Linear(2, 1, bias=False), "deep": [dl.Linear(2, 1, bias=False)]})
    assert list(named.state_dict()) == ["wide.weight", "deep.0.weight"]
    assert list(dl.Parallel(dl.Linear(2, 1, bias=False)).state_dict()) == ["0.weight"]


def test_parts_are_found_by_their_path():
    inner = dl.Tanh()
    model = dl.Sequential({"block": dl.Residual({"act": inner}, activation="relu"), "fc": dl.Linear(2, 2)})
    assert model["block.act"] is inner
    assert isinstance(model["block.activation"], dl.ReLU)
    with pytest.raises(dl.errors.UnknownNameError, match="layer in block 'conv'; known: act, activation"):
        model["block.conv"]
    with pytest.raises(dl.errors.UnknownNameError, match="layer in Sequential 'fd'; known: block, fc"):
        model["fd"]


def test_modes_reach_every_branch():
    model = dl.Sequential(
        dl.Residual(dl.Dropout(0.5), shortcut=dl.Dropout(0.5)), dl.Parallel([dl.Dropout(0.5)], dl.Dropout(0.5))
    )
    dropouts = [model["0.0"], model["0.shortcut"], model["1.0.0"], model["1.1"]]
    model.eval()
    assert not any(layer.training for layer in dropouts)
    model.train()
    assert all(layer.training for layer in dropouts)


@pytest.mark.skipif(not dl.engines()["native"].available, reason="only the native engine runs layers together")
def test_the_switch_for_fusing_reaches_every_branch():
    model = dl.Sequential(dl.Residual(branch(), shortcut=[dl.Linear(4, 4), dl.ReLU()]), dl.Parallel(branch()))
    chains = [model[0].branch, model[0].shortcut, model["1.0"]]
    assert [chain.fused_into() for chain in chains] == [{1: 0}] * 3
    model.fuse = False
    assert [chain.fused_into() for chain in chains] == [{}] * 3
    assert not model[0].fuse


def test_one_buffer_holds_all(random):
    model = dl.Sequential(dl.Residual(dl.Dense(4), shortcut=dl.Dense(4)), dl.Dense(2))
    assert not model.built
    model.forward(random.normal(size=(5, 4)).astype("float32"))
    [buffer] = {id(p.buffer): p.buffer for p in model.parameters()}.values()
    assert buffer.values.size == sum(p.size for p in model.parameters()) == 20 + 20 + 10


def test_build_reaches_every_branch():
    model = dl.Sequential(dl.Residual(dl.Dense(3), shortcut=dl.Dense(3)), dl.Parallel(dl.Dense(2), dl.Identity()))
    model.build((4,))
    assert model.built
    assert model.output_shape((4,)) == (5,)


def test_a_copy_has_parameters_of_its_own(random):
    model = dl.Sequential(dl.Residual(*branch(), shortcut=dl.Linear(4, 4)))
    twin = copy.deepcopy(model)
    twin[0].branch[0].weight.value[...] = 0
    assert model[0].branch[0].weight.value.any()
    assert twin["0.0"].weight is twin[0].branch[0].weight


def test_float64_images_into_a_float32_block(random):
    layer = dl.Residual(dl.Linear(4, 4))
    assert layer.forward(random.normal(size=(5, 4))).dtype == numpy.float32


@pytest.mark.parametrize("run", [lambda m, x: m.forward(x), lambda m, x: m.output_shape(x.shape[1:])])
def test_shapes_that_cannot_be_added(run):
    x = numpy.zeros((2, 3, 8, 8), dtype="float32")
    model = dl.Sequential(dl.Residual(dl.Conv2d(3, 6, 3, padding=1, stride=2)))
    with pytest.raises(
        ShapeError, match=r"layer 0 .*shape \(6, 4, 4\) and are \(3, 8, 8\).*Conv2d\(3, 6, 1, stride=2\)"
    ):
        run(model, x)
    model = dl.Sequential(dl.Residual(dl.Conv2d(3, 6, 1), shortcut=dl.Conv2d(3, 5, 1)))
    with pytest.raises(ShapeError, match=r"shape \(6, 8, 8\) and leave the shortcut with shape \(5, 8, 8\); change"):
        run(model, x)


def test_broadcasting_is_no_sum():
    with pytest.raises(ShapeError, match=r"\(1,\) and are \(4,\) themselves; .*Linear"):
        dl.Residual(dl.Linear(4, 1)).forward(numpy.zeros((2, 4), dtype="float32"))


@pytest.mark.parametrize("run", [lambda m, x: m.forward(x), lambda m, x: m.output_shape(x.shape[1:])])
def test_shapes_that_cannot_be_joined(run):
    x = numpy.zeros((2, 3, 8, 8), dtype="float32")
    with pytest.raises(ShapeError, match=r"all but the axis.*branch 0 with \(2, 8, 8\), 1 with \(2, 6, 6\); padding"):
        run(dl.Parallel(dl.Conv2d(3, 2, 1), dl.Conv2d(3, 2, 3)), x)
    with pytest.raises(ShapeError, match=r"every axis.*0 with \(2, 8, 8\), 1 with \(3, 8, 8\)"):
        run(dl.Parallel(dl.Conv2d(3, 2, 1), dl.Identity(), combine="sum"), x)
    with pytest.raises(ShapeError, match="axis=4 must be one of the axes 1 to 3"):
        run(dl.Parallel(dl.Identity(), axis=4), x)


def test_errors_name_the_way():
    with pytest.raises(ShapeError, match=r"in layer 0 of Sequential, .*, shortcut: expected an input with 3 features"):
        dl.Sequential(dl.Residual(dl.Linear(4, 4), shortcut=dl.Linear(3, 4)))
    model = dl.Sequential(dl.Residual(dl.Linear(4, 4), shortcut=[dl.Linear(4, 4), dl.Tanh()]))
    with pytest.raises(OrderError, match=r"in layer 0 of Sequential, .*, branch, layer 0 of Chain, Linear\(4, 4\)"):
        model.backward(numpy.ones((2, 4), dtype="float32"))
    with pytest.raises(ShapeError, match=r"in layer 0 of Sequential, .*, branch, layer 0 of Chain, Linear\(4, 4\)"):
        model.forward(numpy.ones((2, 3), dtype="float32"))


def test_backward_before_forward():
    with pytest.raises(OrderError, match="branch"):
        dl.Residual(dl.Tanh()).backward(numpy.ones((2, 2)))
    with pytest.raises(OrderError, match="Parallel"):
        dl.Parallel(dl.Identity()).backward(numpy.ones((2, 2)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: dl.Residual(3), "layer 0 must be an object with forward and backward, got 3"),
        (lambda: dl.Residual(dl.Tanh(), shortcut=dl.Tanh), "shortcut must be .* the class Tanh"),
        (lambda: dl.Residual({"shortcut": dl.Tanh()}), "may have the name 'shortcut'"),
        (lambda: dl.Residual(dl.Tanh(), activation="rellu"), "unknown activation"),
        (lambda: dl.Parallel(), "at least one branch"),
        (lambda: dl.Parallel(dl.Tanh(), "relu"), "branch 1 must be an object"),
        (lambda: dl.Parallel(dl.Tanh(), combine="mean"), "combine must be"),
        (lambda: dl.Parallel(dl.Tanh(), axis=0), "axis 0 is the batch"),
        (lambda: dl.Parallel(*[dl.Tanh()] * 2), "would run twice in one forward"),
    ],
)
def test_what_makes_no_sense_is_refused(make, says):
    with pytest.raises((ParameterError, dl.errors.UnknownNameError), match=says):
        make()


def test_repr_is_what_would_be_written():
    layer = dl.Residual(dl.Tanh(), shortcut=dl.Identity(), activation="relu")
    assert repr(layer) == "Residual(Tanh(), shortcut=Identity(), activation=ReLU())"
    assert repr(dl.Parallel(dl.Tanh(), combine="sum")) == "Parallel(Tanh(), combine='sum')"


def test_a_model_with_branches_learns(random):
    dl.seed(0)
    x = random.normal(size=(200, 4)).astype("float32")
    model = dl.Sequential(
        dl.Residual(branch(), activation="tanh"), dl.Parallel(dl.Linear(4, 4), dl.Tanh()), dl.Linear(8, 1)
    )
    model.compile(lambda p: dl.Adam(p, lr=0.02), "mse")
    losses = model.fit(x, x[:, 0] * x[:, 1], epochs=30, verbose=0, seed=0).history["loss"]
    assert losses[-1] < losses[0] / 2


def test_the_place_where_numbers_ceased_to_be_finite_is_found(random):
    model = dl.Sequential(dl.Linear(4, 4), dl.Residual({"first": dl.Linear(4, 4), "second": dl.Linear(4, 4)}))
    model.compile("sgd", "mse")
    model["1.second"].weight.value[0, 0] = numpy.nan
    with pytest.raises(dl.errors.NonFiniteError, match=r"layer 1\.second, Linear\(4, 4\) .its parameter 'weight'"):
        model.fit(random.normal(size=(8, 4)), random.normal(size=(8, 4)), verbose=0)
