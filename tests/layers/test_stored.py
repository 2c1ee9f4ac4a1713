"""Linear layers with weights of 16 and 8 bits: what they compute, how a model gets them, and what they refuse."""

import copy
import gc
import weakref

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, NonFiniteError, OrderError, ParameterError, ShapeError, UnknownNameError
from minidl.layers import Layer, StoredLinear
from minidl.ops.stored import STORAGE, int8_linear, restore_weight, store_weight
from minidl.weights.tensors import Bfloat16Array


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def make_model():
    dl.seed(3)
    return dl.Sequential(
        dl.Linear(20, 33),
        dl.ReLU(),
        dl.Residual(dl.Linear(33, 33), dl.Tanh()),
        dl.Dense(7, activation="gelu", input_shape=33),
    )


# the formulas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "digits"), [("bfloat16", 8), ("float16", 11)])
def test_16_bits_round_to_nearest(dtype, digits, random):
    weight = random.standard_normal((40, 30), dtype="f")
    stored, scale = store_weight(weight, dtype)
    assert scale is None
    assert stored.nbytes == weight.nbytes // 2
    assert (abs(restore_weight(stored) - weight) <= abs(weight) * 2.0**-digits).all()
    numpy.testing.assert_array_equal(store_weight(restore_weight(stored), dtype)[0], stored)


def test_8_bits_round_in_steps_of_each_row(random):
    weight = random.standard_normal((40, 30), dtype="f") * random.uniform(0.01, 100, (40, 1)).astype("f")
    weight[5] = 0
    stored, scale = store_weight(weight, "int8")
    assert stored.nbytes == weight.nbytes // 4
    assert (abs(restore_weight(stored, scale) - weight) <= scale[:, None] * 0.5001).all()
    assert (abs(stored).max(axis=1) == numpy.where(numpy.arange(40) == 5, 0, 127)).all()


def test_the_error_of_int8_is_what_the_docstring_says(random):
    for k in (1, 30, 700):
        x, weight = random.standard_normal((9, k), dtype="f"), random.standard_normal((11, k), dtype="f")
        y = int8_linear(x, *store_weight(weight, "int8"))
        largest_x, largest_w = abs(x).max(axis=1)[:, None], abs(weight).max(axis=1)
        bound = abs(x).sum(axis=1)[:, None] * largest_w / 254 + abs(weight).sum(axis=1) * largest_x / 254
        bound += k * largest_x * largest_w / 254**2
        error = abs(y - x.astype("d") @ weight.T.astype("d"))
        assert (error <= 1.00001 * bound).all()
        if k == 700:
            typical = bound.mean() / numpy.sqrt(k)
            assert 0.1 * typical < error.mean() < 2 * typical


def test_what_cannot_be_stored_is_refused(random):
    for dtype in STORAGE:
        for wrong in (numpy.nan, numpy.inf):
            weight = numpy.ones((2, 3), "f")
            weight[1, 2] = wrong
            with pytest.raises(NonFiniteError):
                store_weight(weight, dtype)
    with pytest.raises(NonFiniteError, match="float16"):
        store_weight(numpy.full((1, 1), 1e6, "f"), "float16")
    with pytest.raises(DtypeError, match="with a scale"):
        restore_weight(numpy.ones((1, 1), "int8"))
    with pytest.raises(ShapeError, match="int8_linear"):
        int8_linear(numpy.ones((1, 2), "f"), numpy.ones((1, 3), "int8"), numpy.ones(1, "f"))


# the engines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("shape", [(0,), (1,), (5,), (2, 3), (40,), ()])
def test_engines_agree(engine, dtype, shape, random):
    x, weight, bias = (random.standard_normal(s, dtype="f") for s in ((*shape, 70), (33, 70), (33,)))
    stored, scale = store_weight(weight, dtype)
    for b in (bias, None):
        given = [None if a is None else engine.asarray(a) for a in (x, stored, scale, b)]
        found = engine.to_host(engine.stored_linear(*given))
        want = (
            x.astype("d") @ restore_weight(stored, scale).T.astype("d")
            if dtype != "int8"
            else int8_linear(x, stored, scale)
        )
        assert found.dtype == numpy.float32
        numpy.testing.assert_allclose(found, want + (0 if b is None else b), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 20])
def test_many_weights_are_read_in_blocks_and_parts_of_vectors(host_engine, dtype, rows, random):
    k, outputs = 1037, 301  # more than one block of weights, and no whole vectors
    x, weight = random.standard_normal((rows, k), dtype="f"), random.standard_normal((outputs, k), dtype="f")
    bias = random.standard_normal(outputs, dtype="f")
    stored, scale = store_weight(weight, dtype)
    wide = x.astype("d") @ restore_weight(stored, scale).astype("d").T + bias
    y = host_engine.stored_linear(x, stored, scale, bias)
    expected = int8_linear(x, stored, scale, bias) if dtype == "int8" else wide
    numpy.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("dtype", STORAGE)
def test_engines_read_any_layout_and_follow_the_precision(host_engine, dtype, random):
    x, weight = random.standard_normal((70, 6), dtype="f").T, random.standard_normal((33, 70), dtype="f")
    stored, scale = store_weight(weight, dtype)
    want = host_engine.stored_linear(x.copy(), stored, scale)
    strided = numpy.repeat(stored, 2, axis=1)[:, ::2]
    for left, right in ((x, stored), (x.copy(), strided), (x.copy(), numpy.asfortranarray(stored))):
        numpy.testing.assert_allclose(host_engine.stored_linear(left, right, scale), want, rtol=1e-5, atol=1e-5)
    with dl.matmul_precision("bfloat16"):
        low = host_engine.stored_linear(x, stored, scale)
    if dtype == "int8":  # integers have no precision to choose
        numpy.testing.assert_array_equal(low, want)
    else:
        rounded = dl.ops.precision.round_to_bfloat16
        exact = rounded(x).astype("d") @ rounded(restore_weight(stored)).T.astype("d")
        numpy.testing.assert_allclose(low, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("dtype", STORAGE)
@pytest.mark.parametrize("after", [("relu",), ("gelu",), ("gelu", ("tanh",)), ("elu", (0.5,)), ("softmax",)])
def test_an_activation_follows(after, dtype, rows, host_engine, random):
    x, weight, bias = (random.standard_normal(s, dtype="f") for s in ((rows, 70), (33, 70), (33,)))
    stored, scale = store_weight(weight, dtype)
    y = host_engine.stored_linear(x, stored, scale, bias)
    want = getattr(host_engine, after[0])(y, *(after[1] if len(after) > 1 else ()))[0]
    found = host_engine.stored_linear(x, stored, scale, bias, *after)
    numpy.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-6)
    with pytest.raises(TypeError):
        host_engine.stored_linear(x, stored, scale, bias, "relu", (1.0,))


# layers and models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", STORAGE)
def test_a_model_in_place(dtype, host_engine, random):
    with dl.use(host_engine):
        model, x = make_model(), random.standard_normal((5, 20), dtype="f")
        want = model.forward(x)
        assert dl.store_weights(model, dtype) is model
        assert not model.parameters()
        kinds = [type(layer).__name__ for _, layer in model.named_layers()]
        assert kinds.count("StoredLinear") == 3
        assert not {"Linear", "Dense"} & set(kinds)
        found = model.forward(x)
        assert abs(found - want).max() <= {"bfloat16": 0.02, "float16": 0.002, "int8": 0.05}[dtype] * abs(want).max()
        assert not numpy.array_equal(found, want)
        numpy.testing.assert_array_equal(model.predict(x), found)
        numpy.testing.assert_array_equal(copy.deepcopy(model).forward(x), found)


@pytest.mark.parametrize("dtype", STORAGE)
def test_large_weights_are_stored_in_parts(dtype, random, monkeypatch):
    weight = random.normal(size=(33, 20)).astype("float32")
    layer = dl.Linear(20, 33)
    layer.weight.value = weight
    monkeypatch.setattr("minidl.layers.stored.BLOCK", 100)
    own, (stored, scale) = StoredLinear(layer, dtype), store_weight(weight, dtype)
    numpy.testing.assert_array_equal(own.weight, stored)
    numpy.testing.assert_array_equal(own.scale, scale)


def test_the_weights_are_given_back_and_an_error_changes_nothing(monkeypatch):
    monkeypatch.setattr("minidl.layers.stored.BLOCK", 100)
    model = Layer()
    model.layers = [dl.Linear(20, 33), dl.Linear(33, 33), dl.Linear(33, 7)]  # each with a buffer of its own
    old = [weakref.ref(layer.weight.buffer) for layer in model.layers]
    model.layers[2].weight.value[2, 1] = numpy.inf
    with pytest.raises(NonFiniteError):
        dl.store_weights(model, "int8")
    assert all(type(layer) is dl.Linear for layer in model.layers)
    model.layers[2].weight.value[2, 1] = 0
    gc.disable()
    try:
        dl.store_weights(model, "int8")
        assert [reference() is None for reference in old] == [True, True, False]  # the last is not worth a collection
    finally:
        gc.enable()


def test_layers_in_attributes_lists_and_dicts(random):
    class Heads(dl.Layer):
        def __init__(self):
            super().__init__()
            self.first = dl.Linear(4, 4)
            self.blocks = [dl.Linear(4, 4), (dl.Linear(4, 4), dl.ReLU())]
            self.heads = {"one": dl.Linear(4, 2), "none": None}

        def forward(self, x):
            return self.heads["one"].forward(self.blocks[1][0].forward(self.blocks[0].forward(self.first.forward(x))))

        def backward(self, dy):
            return dy

    model, x = Heads(), random.standard_normal((3, 4), dtype="f")
    names, want = set(model.state_dict()), model.forward(x)
    dl.store_weights(model, "float16")
    assert set(model.state_dict()) == names
    assert not model.parameters()
    numpy.testing.assert_allclose(model.forward(x), want, rtol=0, atol=0.01)


def test_one_layer_alone(random):
    plain = dl.Linear(6, 4, bias=False)
    layer = dl.store_weights(plain, "int8")
    assert isinstance(layer, StoredLinear)
    assert repr(layer) == "StoredLinear(6, 4, dtype='int8', bias=False)"
    assert layer.flops((6,)) == 48
    assert layer.output_shape((5, 6)) == (5, 4)
    numpy.testing.assert_allclose(layer.restored(), plain.weight.value, atol=0.01)
    x = random.standard_normal((3, 6))
    assert layer.forward(x).dtype == numpy.float32  # as every layer casts its input


@pytest.mark.parametrize("dtype", STORAGE)
def test_what_is_for_inference_only_says_so(dtype, random):
    model = dl.store_weights(dl.Sequential(dl.Linear(4, 3), dl.ReLU(), dl.Linear(3, 2)), dtype)
    y = model.forward(random.standard_normal((5, 4), dtype="f"))
    with pytest.raises(OrderError, match=f"stored in {dtype}, for inference only"):
        model.backward(y)
    with pytest.raises(DtypeError, match="stay in"):
        model.layers[0].to(dtype="float64")


def test_a_model_that_is_stored_in_part_can_be_trained_in_the_rest(random):
    body = dl.store_weights(dl.Sequential(dl.Linear(4, 8), dl.ReLU()))
    model = dl.Sequential({"body": body, "head": dl.Linear(8, 2)})
    before = body.layers[0].weight.copy(), model["head"].weight.value.copy()
    model.compile(dl.SGD(model.parameters(), lr=0.1), dl.MSELoss())
    with pytest.raises(OrderError, match="for inference only"):  # a frozen body would be given its dx
        model.backward(model.forward(random.standard_normal((5, 4), dtype="f")))
    model.fit(
        random.standard_normal((64, 4), dtype="f"), random.standard_normal((64, 2), dtype="f"), epochs=1, verbose=0
    )
    numpy.testing.assert_array_equal(body.layers[0].weight, before[0])
    assert not numpy.array_equal(model["head"].weight.value, before[1])


@pytest.mark.parametrize("dtype", STORAGE)
def test_an_activation_runs_with_the_product_in_inference_alone(dtype, random):
    model, x = dl.Sequential(dl.Linear(20, 33), dl.GELU(), dl.Dense(7, activation="tanh")), random.random((9, 20), "f")
    model.forward(x)
    dl.store_weights(model, dtype)
    want = model.forward(x)  # layer by layer, since GELU keeps its cache
    with dl.inference():
        numpy.testing.assert_allclose(model.forward(x), want, rtol=1e-6, atol=1e-6)
        fused = dl.engines.current().has_kernel("stored_linear")
        assert any(" + GELU" in repr(step) for _, step in model.steps(keeping=False)) == fused
        assert not any(" + GELU" in repr(step) for _, step in model.steps(keeping=True))


def test_errors():
    with pytest.raises(UnknownNameError, match="int4"):
        dl.store_weights(make_model(), "int4")
    with pytest.raises(UnknownNameError):
        StoredLinear(dl.Linear(2, 2), "float32")
    with pytest.raises(ParameterError, match="no Linear or Dense"):
        dl.store_weights(dl.Sequential(dl.ReLU()))
    with pytest.raises(ParameterError, match="no weights to store yet"):
        dl.store_weights(dl.Sequential(dl.Dense(3)))
    with pytest.raises(ParameterError, match="expected a Linear"):
        StoredLinear(dl.ReLU(), "int8")
    with pytest.raises(DtypeError, match="expected float32 weights"):
        dl.store_weights(dl.Linear(3, 2, dtype="float64"))
    with pytest.raises(DtypeError, match="store_weights"):
        make_model().to(dtype="bfloat16")
    model = make_model()
    model.layers[-1].weight.value[0, 0] = numpy.nan
    with pytest.raises(NonFiniteError):
        dl.store_weights(model)
    assert len(model.parameters()) == 6  # nothing was replaced


@pytest.mark.parametrize("dtype", STORAGE)
def test_files_and_state_dicts(dtype, tmp_path, random):
    pytest.importorskip("safetensors")
    x = random.standard_normal((5, 20), dtype="f")
    stored, other = dl.store_weights(make_model(), dtype), dl.store_weights(make_model(), dtype)
    other.load_state_dict({name: numpy.zeros_like(array) for name, array in other.state_dict().items()})
    assert not other.forward(x).any()
    stored.save(tmp_path / "m.safetensors")
    other.load(tmp_path / "m.safetensors")
    numpy.testing.assert_array_equal(other.forward(x), stored.forward(x))
    other.load_state_dict(stored.state_dict())
    numpy.testing.assert_array_equal(other.forward(x), stored.forward(x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_file_of_16_bits_is_read_straight_into_stored_weights(dtype, tmp_path, random):
    safetensors = pytest.importorskip("safetensors")
    model, x = make_model(), random.standard_normal((5, 20), dtype="f")
    model.save(tmp_path / "m.safetensors", dtype=dtype)
    stored = dl.store_weights(make_model(), dtype)
    stored.load(tmp_path / "m.safetensors")
    model.load(tmp_path / "m.safetensors")  # whose biases are of the file too
    numpy.testing.assert_array_equal(stored.forward(x), dl.store_weights(model, dtype).forward(x))
    stored.save(tmp_path / "again.safetensors")
    with safetensors.safe_open(tmp_path / "again.safetensors", framework="numpy") as file:
        assert file.get_slice("0.weight").get_dtype() == {"bfloat16": "BF16", "float16": "F16"}[dtype]


def test_bits_that_look_like_numbers(random):
    bits = numpy.zeros((3, 4), "uint16")
    numbers = Bfloat16Array(bits)
    numbers[1:] = numpy.float32([[1, 2, 3, 4], [5, 6, 7, -8]])
    numpy.testing.assert_array_equal(numpy.asarray(numbers)[2], [5, 6, 7, -8])
    numpy.testing.assert_array_equal(numpy.asarray(numbers.T[3]), [0, 4, -8])
    assert (len(numbers), numbers.shape, numbers.size, numbers.ndim) == (3, (3, 4), 12, 2)
    assert numpy.asarray(numbers, dtype="float64").dtype == numpy.float64
    with pytest.raises(ValueError, match="a copy"):
        numpy.asarray(numbers, copy=False)
