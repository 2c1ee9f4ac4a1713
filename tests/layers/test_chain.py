"""Sequential as a composition: parameters, places in errors, state."""

import copy

import numpy
import pytest

import minidl as dl
from minidl.engines.compositions import FUSIBLE
from minidl.errors import DtypeError, NotBuiltError, OrderError, ParameterError, ShapeError


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


class Scale:
    """Somebody's own layer: no base class, one parameter."""

    def __init__(self):
        self.gain = dl.Parameter(numpy.full(1, 2.0, dtype="float32"), name="gain")

    def forward(self, x):
        self.x = x
        return self.gain.value * x

    def backward(self, dy):
        self.gain.accumulate((dy * self.x).sum().reshape(1))
        return self.gain.value * dy

    def parameters(self):
        return [self.gain]


def test_takes_a_list_or_layers():
    assert len(dl.Sequential([dl.Linear(2, 3), dl.ReLU()])) == len(dl.Sequential(dl.Linear(2, 3), dl.ReLU())) == 2


def test_parameters_are_views_of_one_buffer():
    model = dl.Sequential(dl.Linear(2, 3), dl.ReLU(), dl.Linear(3, 1))
    [buffer] = model.flat_buffers()
    assert buffer.values.size == 2 * 3 + 3 + 3 + 1
    assert all(numpy.shares_memory(p.value, buffer.values) for p in model.parameters())
    assert all(numpy.shares_memory(p.grad, buffer.gradients()) for p in model.parameters())


def test_a_lazy_model_is_built_by_its_first_input(random):
    model = dl.Sequential(dl.Dense(3, activation="relu"), dl.Dense(1))
    with pytest.raises(NotBuiltError, match="Sequential"):
        model.parameters()
    model.forward(random.normal(size=(5, 4)).astype("float32"))
    [buffer] = model.flat_buffers()
    assert numpy.shares_memory(model[1].weight.value, buffer.values)
    assert buffer.values.size == 4 * 3 + 3 + 3 + 1


def test_input_shape_builds_all_lazy_layers():
    model = dl.Sequential(dl.Dense(3, input_shape=(4,)), dl.ReLU(), dl.Dense(2), dl.Dense(1))
    assert [p.shape for p in model.parameters()] == [(3, 4), (3,), (2, 3), (2,), (1, 2), (1,)]


def test_own_layers_work_and_are_adopted(random):
    own = Scale()
    model = dl.Sequential(dl.Linear(4, 3), own, dl.Tanh())
    assert numpy.shares_memory(own.gain.value, model.flat_buffers()[0].values)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.gain"]
    dl.gradcheck(model, random.normal(size=(5, 4)))


def test_nested_models_share_the_outer_buffer(random):
    inner = dl.Sequential(dl.Linear(4, 3), dl.Tanh())
    model = dl.Sequential(inner, dl.Linear(3, 2))
    assert numpy.shares_memory(inner[0].weight.value, model.flat_buffers()[0].values)
    assert list(model.state_dict()) == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    dl.gradcheck(model, random.normal(size=(5, 4)))


def test_skipping_the_input_gradient_leaves_parameters_gradients_alone(random):
    model = dl.Sequential(dl.Flatten(), dl.Linear(6, 3), dl.Tanh(), dl.Linear(3, 1))
    x, dy = random.normal(size=(5, 2, 3)).astype("float32"), random.normal(size=(5, 1)).astype("float32")
    model.forward(x)
    assert model.backward(dy).shape == x.shape
    expected = model.flat_buffers()[0].gradients().copy()
    model.zero_grad()
    assert model.backward(dy, input_gradient=False) is None
    numpy.testing.assert_array_equal(model.flat_buffers()[0].gradients(), expected)


def test_state_dict_round_trip_with_pytorchs_names():
    model, other = (dl.Sequential(dl.Linear(4, 3), dl.ReLU(), dl.Linear(3, 2)) for _ in range(2))
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        "0.weight": (3, 4),
        "0.bias": (3,),
        "2.weight": (2, 3),
        "2.bias": (2,),
    }
    other.load_state_dict(model.state_dict())
    numpy.testing.assert_array_equal(other.flat_buffers()[0].values, model.flat_buffers()[0].values)


def test_state_dict_is_a_copy():
    model = dl.Sequential(dl.Linear(4, 3))
    state = model.state_dict()
    state["0.weight"][...] = 9
    assert not (model[0].weight.value == 9).any()


def test_weights_of_another_model_change_nothing():
    model = dl.Sequential(dl.Linear(4, 3))
    before = model.flat_buffers()[0].values.copy()
    with pytest.raises(ParameterError, match=r"missing: 0.bias; unexpected: 1.bias"):
        model.load_state_dict({"0.weight": numpy.zeros((3, 4)), "1.bias": numpy.zeros(3)})
    with pytest.raises(ShapeError, match=r"0.bias has shape \(3,\), got \(4,\)"):
        model.load_state_dict({"0.weight": numpy.zeros((3, 4)), "0.bias": numpy.zeros(4)})
    with pytest.raises(DtypeError, match="0.bias"):
        model.load_state_dict({"0.weight": numpy.zeros((3, 4)), "0.bias": numpy.zeros(3, dtype=complex)})
    numpy.testing.assert_array_equal(model.flat_buffers()[0].values, before)


def test_errors_name_the_layer():
    model = dl.Sequential(dl.Linear(4, 3), dl.ReLU(), dl.Linear(3, 2))
    with pytest.raises(ShapeError, match=r"in layer 0 of Sequential, Linear\(4, 3\): .*expected 4 features"):
        model.forward(numpy.ones((2, 5), dtype="float32"))
    with pytest.raises(OrderError, match=r"in layer 2 of Sequential"):
        model.backward(numpy.ones((2, 2), dtype="float32"))


def test_the_path_through_nested_models_is_named():
    model = dl.Sequential(Scale(), dl.Sequential(dl.Sequential(dl.Linear(4, 3))))
    with pytest.raises(
        ShapeError, match=r"in layer 1 of Sequential.*layer 0 of Sequential.*layer 0 of .*Linear\(4, 3\):"
    ):
        model.forward(numpy.ones((2, 5), dtype="float32"))


def test_layers_that_do_not_fit_are_refused_at_once():
    with pytest.raises(
        ShapeError, match=r"in layer 2 of Sequential, Linear\(5, 2\): expected an input with 5 features"
    ):
        dl.Sequential(dl.Linear(4, 3), dl.ReLU(), dl.Linear(5, 2))


def test_shapes_that_do_not_fit_are_found_when_the_shape_is_known():
    with pytest.raises(ShapeError, match="layer 1 of Sequential"):
        dl.Sequential(dl.Linear(4, 3), dl.Dense(2, input_shape=(5,)))


@pytest.mark.parametrize("wrong", [dl.ReLU, 3, "relu", None])
def test_what_is_no_layer_is_refused(wrong):
    with pytest.raises(ParameterError, match="layer 1 must be an object with forward and backward"):
        dl.Sequential(dl.Linear(2, 3), wrong)


def test_train_and_eval_reach_every_layer():
    model = dl.Sequential(dl.Sequential(dl.Dropout(0.5)), dl.ReLU())
    assert not model.eval()[0][0].training
    assert model.train()[0][0].training


def test_to_changes_precision_in_place():
    model = dl.Sequential(dl.Linear(4, 3))
    before = model.flat_buffers()[0].values.copy()
    model.to(dtype="float64")
    assert model.flat_buffers()[0].values.dtype == numpy.float64
    numpy.testing.assert_array_equal(model.flat_buffers()[0].values, before)
    with pytest.raises(DtypeError, match="floating"):
        model.to(dtype="int32")


@pytest.mark.parametrize("op", FUSIBLE)
def test_fused_and_unfused_agree(random, op):
    model = dl.Sequential(
        dl.Linear(6, 5), dl.layers.activation(op), dl.Linear(5, 4, bias=False), dl.layers.activation(op)
    )
    x, dy = random.normal(size=(7, 6)).astype("float32"), random.normal(size=(7, 4)).astype("float32")
    results = []
    for fuse in (True, False):
        model.fuse = fuse
        model.zero_grad()
        y = model.forward(x)
        results.append((y, model.backward(dy), model.flat_buffers()[0].gradients().copy()))
    for fused, plain in zip(*results, strict=True):
        numpy.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fuse", [True, False])
def test_gradients_in_both_modes(random, fuse):
    model = dl.Sequential(dl.Linear(4, 3), dl.Tanh(), dl.Sequential(dl.Linear(3, 3), dl.GELU()), dl.Linear(3, 2))
    model.fuse = fuse
    kernel = dl.engines.current().has_kernel("linear_activation")
    assert model.fused_into() == ({1: 0} if fuse and kernel else {})
    dl.gradcheck(model, random.normal(size=(5, 4)))


def test_only_elementwise_activations_are_fused():
    model = dl.Sequential(dl.Linear(4, 3), dl.Softmax(), dl.Linear(3, 3), dl.Dropout(0.5), dl.ReLU())
    assert model.fused_into() == {}


def test_caches_of_a_fused_forward_serve_each_layer_alone(random):
    model = dl.Sequential(dl.Linear(4, 3), dl.Tanh())
    x, dy = random.normal(size=(5, 4)).astype("float32"), random.normal(size=(5, 3)).astype("float32")
    model.forward(x)
    together = model.backward(dy)
    numpy.testing.assert_allclose(model[0].backward(model[1].backward(dy)), together, rtol=1e-5)


def test_the_same_layer_twice_is_refused():
    layer = dl.Linear(3, 3)
    with pytest.raises(ParameterError, match="would run twice in one forward"):
        dl.Sequential(layer, dl.ReLU(), layer)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("end", [[dl.Dense(1, activation="sigmoid")], [dl.Dense(1), dl.Sigmoid()]])
def test_a_model_that_is_not_built_can_be_cut_before_its_last_activation(random, end, nested):
    end = copy.deepcopy(end)
    model = dl.Sequential(dl.Dense(3), dl.Sequential(*end) if nested else end[0], *([] if nested else end[1:]))
    trunk, activation = model.without_last_activation()
    assert isinstance(activation, dl.Sigmoid)
    assert not trunk.built
    x = random.normal(size=(5, 4)).astype("float32")
    logits = trunk.forward(x)
    assert trunk.built
    assert model.built
    numpy.testing.assert_allclose(model.forward(x), 1 / (1 + numpy.exp(-logits)), rtol=1e-5)
    assert trunk.parameters() == model.parameters()
    assert list(trunk.state_dict()) == list(model.state_dict())
    assert len(model.flat_buffers()) == 1


def test_a_model_cut_before_its_last_activation_learns_its_shape_and_its_gradients(random):
    trunk, _ = dl.Sequential(
        dl.Dense(3, activation="tanh"), dl.Dense(2, activation="softmax")
    ).without_last_activation()
    trunk.build((4,))
    assert trunk.input_shape == (4,)
    assert trunk.output_shape((4,)) == (2,)
    dl.gradcheck(trunk, random.normal(size=(5, 4)))
