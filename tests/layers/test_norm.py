"""Normalisation layers: gradients, running statistics, what is saved and moved, errors."""

import copy

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError
from minidl.testing import check_layer
from minidl.training import EarlyStopping

RNG = numpy.random.default_rng(0)
LAYERS = [
    (dl.BatchNorm1d(3), (5, 3)),
    (dl.BatchNorm1d(3), (4, 3, 5)),
    (dl.BatchNorm1d(3, affine=False), (5, 3)),
    (dl.BatchNorm1d(3, eps=0.1, momentum=None, track_running_stats=False), (5, 3)),
    (dl.BatchNorm1d(3, bias=False), (5, 3)),
    (dl.BatchNorm2d(3), (4, 3, 2, 5)),
    (dl.BatchNorm2d(3, bias=False), (4, 3, 2, 5)),
    (dl.LayerNorm(4), (3, 4)),
    (dl.LayerNorm((2, 4), bias=False), (3, 2, 4)),
    (dl.LayerNorm(4, elementwise_affine=False), (2, 3, 4)),
    (dl.GroupNorm(2, 4), (3, 4, 5)),
    (dl.GroupNorm(1, 4, affine=False), (3, 4)),
    (dl.GroupNorm(2, 4, bias=False), (3, 4, 5)),
    (dl.RMSNorm(4), (3, 4)),
    (dl.RMSNorm((2, 4), eps=0.1, elementwise_affine=False), (3, 2, 4)),
]
BUFFERS = ["running_mean", "running_var", "num_batches_tracked"]


def seen(layer, batches=3):
    """Return the layer after some batches of training, with a weight and a bias of its own."""
    for parameter in layer.parameters():
        parameter.value = RNG.uniform(0.5, 1.5, parameter.shape)
    for _ in range(batches):
        shape = (6, layer.num_features, *([4, 3] if isinstance(layer, dl.BatchNorm2d) else []))
        layer.forward((3 + 2 * RNG.standard_normal(shape)).astype(layer.dtype))
    return layer


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: repr(v))
def test_gradients_and_the_rules_of_layers(layer, shape):
    layer = copy.deepcopy(layer)
    for parameter in layer.parameters():
        parameter.value = RNG.uniform(0.5, 1.5, parameter.shape)
    x = RNG.standard_normal(shape).astype("float32")
    for mode in (True, False):
        assert check_layer(layer.train(mode), x).ok
    assert layer.flops(shape[1:]) > 0


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda v: repr(v))
def test_repr_makes_the_layer_again(layer, shape):
    again = eval(repr(layer), vars(dl))
    assert repr(again) == repr(layer)
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in layer.named_parameters()}


@pytest.mark.parametrize(
    "make", [dl.BatchNorm1d, dl.BatchNorm2d, lambda size, **options: dl.GroupNorm(1, size, **options)]
)
def test_without_a_bias_the_weight_stays(make):
    layer = make(3, bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert "bias" not in layer.state_dict()
    assert list(make(3, affine=False).parameters()) == []


def test_running_statistics_follow_the_batches():
    layer = dl.BatchNorm2d(2, momentum=0.25, dtype="float64")
    mean, var = numpy.zeros(2), numpy.ones(2)
    for step in range(1, 4):
        x = step + RNG.standard_normal((3, 2, 4, 5))
        layer.forward(x)
        mean = 0.75 * mean + 0.25 * x.mean(axis=(0, 2, 3))
        var = 0.75 * var + 0.25 * x.var(axis=(0, 2, 3), ddof=1)
        numpy.testing.assert_allclose(layer.running_mean, mean, rtol=1e-13)
        numpy.testing.assert_allclose(layer.running_var, var, rtol=1e-13)
        assert layer.num_batches_tracked == step
    layer.eval()
    expected = (x - mean[:, None, None]) / numpy.sqrt(var[:, None, None] + 1e-5)
    numpy.testing.assert_allclose(layer.forward(x), expected, rtol=1e-12)
    numpy.testing.assert_allclose(layer.running_mean, mean, rtol=1e-13)
    assert layer.num_batches_tracked == 3, "evaluation must not be counted"
    layer.reset_running_stats()
    assert not layer.running_mean.any()
    assert (layer.running_var == 1).all()
    assert layer.num_batches_tracked == 0


def test_without_momentum_all_batches_count_alike():
    layer = dl.BatchNorm1d(2, momentum=None, dtype="float64")
    batches = RNG.standard_normal((5, 7, 2))
    for batch in batches:
        layer.forward(batch)
    numpy.testing.assert_allclose(layer.running_mean, batches.mean(axis=(0, 1)), rtol=1e-12)
    numpy.testing.assert_allclose(layer.running_var, batches.var(axis=1, ddof=1).mean(axis=0), rtol=1e-12)


def test_without_running_statistics_the_batch_decides_in_evaluation_too():
    layer = dl.BatchNorm1d(2, track_running_stats=False)
    x = (5 + RNG.standard_normal((8, 2))).astype("float32")
    numpy.testing.assert_array_equal(layer.forward(x), layer.eval().forward(x))
    assert list(layer.named_buffers()) == []
    assert list(layer.state_dict()) == ["weight", "bias"]


class TestState:
    def test_names_are_those_of_pytorch(self):
        model = dl.Sequential(dl.Linear(3, 2), dl.Sequential(dl.BatchNorm1d(2)))
        assert [name for name, _ in model.named_buffers()] == [f"1.0.{name}" for name in BUFFERS]
        state = model.state_dict()
        assert list(state) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias", *(f"1.0.{name}" for name in BUFFERS)]
        assert state["1.0.num_batches_tracked"].dtype == "int64"
        assert state["1.0.num_batches_tracked"].shape == ()

    def test_there_and_back(self, tmp_path):
        model = dl.Sequential(seen(dl.BatchNorm1d(4)))
        model.save(tmp_path / "m.safetensors")
        other = dl.Sequential(dl.BatchNorm1d(4))
        other.load(tmp_path / "m.safetensors")
        for name, value in model.state_dict().items():
            numpy.testing.assert_array_equal(other.state_dict()[name], value)
        x = RNG.standard_normal((3, 4)).astype("float32")
        numpy.testing.assert_array_equal(other.eval().forward(x), model.eval().forward(x))

    def test_a_state_is_a_copy(self):
        layer = seen(dl.BatchNorm1d(2))
        state = layer.state_dict()
        before = copy.deepcopy(state)
        seen(layer)
        for name in BUFFERS:
            numpy.testing.assert_array_equal(state[name], before[name])
            assert not numpy.array_equal(layer.state_dict()[name], before[name])

    def test_what_does_not_fit_changes_nothing(self):
        layer = seen(dl.BatchNorm1d(2))
        state = layer.state_dict()
        for name, wrong, error, message in [
            ("running_var", numpy.ones(3), ShapeError, r"running_var has shape \(2,\), got \(3,\)"),
            (
                "running_mean",
                numpy.ones(2, "int64"),
                DtypeError,
                "running_mean must be floating-point, got dtype int64",
            ),
            (
                "num_batches_tracked",
                numpy.array(1.0),
                DtypeError,
                "num_batches_tracked must be integer, got .* float64",
            ),
            ("num_batches_tracked", numpy.array([1]), ShapeError, r"num_batches_tracked has shape \(\), got \(1,\)"),
        ]:
            with pytest.raises(error, match=message):
                layer.load_state_dict({**state, "weight": state["weight"] + 1, name: wrong})
            numpy.testing.assert_array_equal(layer.weight.value, state["weight"])
        with pytest.raises(ParameterError, match="missing: running_mean"):
            layer.load_state_dict({name: value for name, value in state.items() if name != "running_mean"})

    def test_moves_with_the_parameters(self):
        layer = seen(dl.BatchNorm1d(2))
        mean = layer.running_mean.copy()
        dl.Sequential(layer).to(dtype="float64")
        assert layer.running_mean.dtype == layer.running_var.dtype == layer.weight.dtype == "float64"
        assert layer.num_batches_tracked.dtype == "int64"
        numpy.testing.assert_array_equal(layer.running_mean, mean)
        numpy.testing.assert_allclose(layer.forward(RNG.standard_normal((50, 2))).mean(axis=0), 1, atol=0.6)
        assert layer.num_batches_tracked == 4

    def test_a_copy_is_its_own(self):
        layer = seen(dl.BatchNorm1d(2))
        other = copy.deepcopy(layer)
        before = layer.state_dict()
        seen(other)
        for name, value in layer.state_dict().items():
            numpy.testing.assert_array_equal(value, before[name])

    def test_any_layer_can_keep_buffers(self):
        class Counting(dl.Layer):
            def __init__(self):
                super().__init__()
                self.register_buffer("table", numpy.arange(3))

            def forward(self, x):
                return x

        model = dl.Sequential(Counting())
        model.load_state_dict({"0.table": numpy.array([7, 8, 9], "int32")})
        assert model[0].table.tolist() == [7, 8, 9]
        assert model[0].table.dtype == numpy.arange(3).dtype


class TestTraining:
    def model(self):
        dl.seed(0)
        return dl.Sequential(dl.BatchNorm1d(4), dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 3))

    def data(self):
        random = numpy.random.default_rng(1)
        y = random.integers(0, 3, 200)
        x = 50 + random.standard_normal((200, 4)) + 4 * numpy.eye(4)[y]
        return x.astype("float32"), y

    def test_fit_evaluate_predict(self):
        model, (x, y) = self.model(), self.data()
        model.compile(optimizer=dl.Adam(model.parameters(), lr=0.02), loss=dl.CrossEntropyLoss(), metrics=["accuracy"])
        history = model.fit(x, y, epochs=15, batch_size=20, verbose=0, validation_split=0.2, seed=0)
        assert history.history["val_accuracy"][-1] > 0.9
        assert model[0].num_batches_tracked == 15 * 8, "neither evaluation nor the trial of one example may be counted"
        numpy.testing.assert_array_equal(model.predict(x[:5]), model.predict(x)[:5])
        rows = model.summary().rows
        assert rows[0].parameters == 8
        assert rows[0].output_shape == (4,)

    def test_the_best_weights_come_with_their_statistics(self):
        model, (x, y) = self.model(), self.data()
        model.compile(optimizer=dl.SGD(model.parameters(), lr=0.1), loss=dl.CrossEntropyLoss())
        stopping = EarlyStopping("val_loss", patience=2, restore_best_weights=True)
        history = model.fit(
            x, y, epochs=30, batch_size=20, verbose=0, validation_data=(x[:50], y[:50]), callbacks=stopping, seed=0
        )
        value = model.evaluate(x[:50], y[:50], verbose=0)
        assert value == pytest.approx(min(history.history["val_loss"]), rel=1e-5)
        assert model[0].num_batches_tracked == 10 * (stopping.best_epoch + 1)

    def test_gradients_add_up_over_calls(self):
        layer = dl.BatchNorm1d(3)
        x, dy = RNG.standard_normal((2, 5, 3)).astype("float32")
        layer.forward(x)
        layer.backward(dy)
        once = layer.bias.grad.copy()
        layer.backward(dy)
        numpy.testing.assert_allclose(layer.bias.grad, 2 * once, rtol=1e-6)


class TestErrors:
    @pytest.mark.parametrize(
        ("layer", "shape", "message"),
        [
            (
                dl.BatchNorm1d(3),
                (5, 4),
                r"BatchNorm1d\(3\): expected a batch of shape \(N, 3\) or \(N, 3, L\), got .*\(5, 4\)$",
            ),
            (dl.BatchNorm1d(3), (3,), r"got shape \(3,\); for a single example add the batch axis with x\[None\]"),
            (dl.BatchNorm1d(3), (2, 7, 3), r"seem to be last: .* x\.transpose\(0, 2, 1\)"),
            (dl.BatchNorm1d(3), (2, 3, 4, 5), r"got shape \(2, 3, 4, 5\)$"),
            (dl.BatchNorm2d(3), (3, 8, 8), r"add the batch axis with x\[None\]"),
            (dl.BatchNorm2d(3), (2, 8, 8, 3), r"seem to be last: move them to axis 1 with x\.transpose\(0, 3, 1, 2\)"),
            (dl.BatchNorm2d(3), (2, 8, 8, 8), r"expected a batch of shape \(N, 3, H, W\), got shape \(2, 8, 8, 8\)$"),
            (
                dl.BatchNorm1d(3),
                (1, 3),
                r"in training a channel needs at least two elements .* got a batch of shape \(1, 3\)",
            ),
            (dl.BatchNorm2d(3), (1, 3, 1, 1), "at least two elements"),
            (
                dl.LayerNorm((2, 3)),
                (4, 3),
                r"LayerNorm\(\(2, 3\)\): expected an input whose last axes have shape \(2, 3\)",
            ),
            (dl.RMSNorm(3), (3, 4), r"RMSNorm\(3\): expected an input whose last axes have shape \(3,\)"),
            (dl.GroupNorm(2, 4), (3, 6), r"GroupNorm\(2, 4\): expected a batch of shape \(N, 4, ...\)"),
        ],
    )
    def test_shapes(self, layer, shape, message):
        with pytest.raises(ShapeError, match=message):
            layer.forward(numpy.ones(shape, "float32"))

    def test_one_example_is_fine_in_evaluation(self):
        assert dl.BatchNorm1d(3).eval().forward(numpy.ones((1, 3), "float32")).shape == (1, 3)

    def test_an_empty_batch_is_not_counted(self):
        layer = dl.BatchNorm1d(3)
        assert layer.forward(numpy.ones((0, 3), "float32")).shape == (0, 3)
        assert layer.num_batches_tracked == 0

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: dl.BatchNorm1d(0), "num_features must be a positive integer, got 0"),
            (lambda: dl.BatchNorm1d(2.5), "num_features must be a whole number, got 2.5"),
            (lambda: dl.BatchNorm2d(2, momentum=1.5), "momentum must be from 0 to 1, or None, got 1.5"),
            (lambda: dl.BatchNorm2d(2, eps=-1.0), "eps must not be negative"),
            (lambda: dl.LayerNorm(()), "normalized_shape must have at least one axis"),
            (lambda: dl.LayerNorm((2, 0)), "normalized_shape must be a positive integer, got 0"),
            (lambda: dl.GroupNorm(3, 4), "num_groups must divide num_channels, got 3 groups for 4 channels"),
            (lambda: dl.GroupNorm(0, 4), "num_groups must be a positive integer"),
        ],
    )
    def test_settings(self, make, message):
        with pytest.raises(ParameterError, match=message):
            make()

    @pytest.mark.parametrize("affine", [True, False])
    def test_bytes_and_lists(self, affine):
        layer = dl.BatchNorm2d(3, affine=affine)
        with pytest.raises(
            DtypeError, match=r'got bytes \(uint8\), as images are stored; give x.astype\("float32"\) / 255'
        ):
            layer.forward(numpy.zeros((2, 3, 4, 4), "uint8"))
        with pytest.raises(DtypeError, match="array"):
            dl.GroupNorm(1, 2, affine=affine).forward([[1.0, 2.0]])

    def test_backward_before_forward(self):
        with pytest.raises(OrderError, match=r"BatchNorm1d\(3\): backward was called before forward"):
            dl.BatchNorm1d(3).backward(numpy.ones((2, 3)))

    def test_the_place_in_a_model_is_named(self):
        model = dl.Sequential(dl.Flatten(), dl.BatchNorm1d(3))
        with pytest.raises(ShapeError, match=r"layer 1 of Sequential, BatchNorm1d\(3\)"):
            model.forward(numpy.ones((2, 2, 2), "float32"))
