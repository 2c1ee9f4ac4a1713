"""minidl.interop.torch: models of minidl inside graphs of PyTorch, and modules of PyTorch as layers of minidl."""

import copy

import numpy
import pytest

import minidl as dl
from minidl.arrays import from_dlpack
from minidl.cli import main
from minidl.errors import DataError, DtypeError, EngineError, GradcheckError, MinidlError, OrderError, ParameterError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

from minidl.interop.torch import MinidlModule, TorchLayer, check_module  # noqa: E402

X = numpy.random.default_rng(0).normal(size=(5, 4))


def deep_model(dtype="float64"):
    return dl.Sequential(
        [
            dl.Linear(4, 8, dtype=dtype),
            dl.GELU(),
            dl.LayerNorm(8, dtype=dtype),
            dl.Dropout(0.3),
            dl.Linear(8, 3, dtype=dtype),
        ]
    )


def with_grad(x):
    return torch.tensor(x, requires_grad=True)


class Wrong(torch.nn.Module):
    """A module whose own backward is wrong by a factor."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dy):
            return 3 * ctx.saved_tensors[0] * dy

    def forward(self, x):
        return self.Square.apply(x)


# a model of minidl in a graph of PyTorch ----------------------------------------------------------------------------


def seeded(module):
    def call(x, *parameters):
        dl.seed(0)  # the same dropout in every call
        return module(x)

    return call


def test_pytorchs_own_gradcheck_passes(host_engine):
    with dl.use(host_engine):
        norm = dl.Sequential([dl.Linear(4, 6, dtype="float64"), dl.BatchNorm1d(6, dtype="float64"), dl.Tanh()])
        for model in (deep_model(), norm):
            module = MinidlModule(model)
            assert torch.autograd.gradcheck(seeded(module), (with_grad(X), *module.parameters()))
            module.eval()
            assert torch.autograd.gradcheck(module, (with_grad(X),))


def test_training_in_pytorch_is_training_in_minidl():
    model, target = deep_model("float32").eval(), torch.ones(5, 3)
    start = model.state_dict()
    module = MinidlModule(model)
    assert list(module.state_dict()) == list(start)
    x = torch.from_numpy(X.astype("float32"))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(x), target).backward()
        optimizer.step()
    twin, loss = deep_model("float32").eval(), dl.MSELoss()
    twin.load_state_dict(start)
    own = dl.SGD(twin.parameters(), lr=0.1)
    for _ in range(3):
        loss.forward(twin.forward(x.numpy()), target.numpy())
        twin.backward(loss.backward())
        own.step()
        own.zero_grad()
    for name, value in model.state_dict().items():
        numpy.testing.assert_allclose(value, twin.state_dict()[name], atol=1e-6)
    assert not any(p.has_grad for p in model.parameters())


def test_the_older_of_two_calls_is_computed_anew():
    model = dl.Sequential([dl.Linear(4, 6), dl.BatchNorm1d(6), dl.Dropout(0.5), dl.Linear(6, 2)])
    module = MinidlModule(model)
    one, two = (with_grad(x.astype("float32")) for x in (X, 2 * X + 1))
    dl.seed(1)
    y = module(one)
    statistics, expected = model[1].running_mean.copy(), dl.random.generator().bit_generator.state
    y.sum().backward()
    alone = one.grad.clone(), [p.grad.clone() for p in module.parameters()]
    one.grad = None
    module.zero_grad()
    model[1].reset_running_stats()
    dl.seed(1)
    y = module(one)
    module(two)
    after = dl.random.generator().bit_generator.state
    assert after != expected
    mean = model[1].running_mean.copy()
    y.sum().backward()
    assert torch.equal(one.grad, alone[0])
    assert all(torch.equal(p.grad, g) for p, g in zip(module.parameters(), alone[1], strict=True))
    assert (model[1].running_mean == mean).all()
    assert (mean != statistics).all()
    assert dl.random.generator().bit_generator.state == after


def test_a_model_in_another_mode_or_with_other_values_is_refused():
    module = MinidlModule(deep_model())
    y = module(with_grad(X))
    module.eval()
    assert not module.minidl_model.training
    module(with_grad(X))
    with pytest.raises(OrderError, match="another mode"):
        y.sum().backward()
    x = torch.from_numpy(X.copy())
    z = module(x)
    x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_frozen_parameters_integers_and_several_inputs_and_outputs():
    class Two(dl.layers.Layer):
        integer_inputs = True

        def __init__(self):
            super().__init__()
            self.table = dl.Embedding(5, 3)

        def forward(self, ids, scale):
            self.vectors = self.table.forward(ids)
            self.scale = scale
            return self.vectors * scale, self.vectors + 1

        def backward(self, dy):
            self.table.backward(dy[0] * self.scale + dy[1])
            return None, (dy[0] * self.vectors).sum(axis=1, keepdims=True)

    model = Two()
    module = MinidlModule(model)
    scale = torch.full((2, 1), 2.0, requires_grad=True)
    y, z = module(torch.tensor([1, 4]), scale)
    (y.sum() + z.sum()).backward()
    assert scale.grad[:, 0].numpy() == pytest.approx(model.table.weight.value[[1, 4]].sum(axis=1))
    assert module.get_parameter("table.weight").grad.sum(dim=1).tolist() == [0, 9, 0, 0, 9]
    model.freeze()
    assert not any(p.requires_grad for p in MinidlModule(model).parameters())


def test_without_gradients_nothing_is_remembered():
    model = deep_model()
    with torch.no_grad():
        y = MinidlModule(model)(torch.from_numpy(X))
    assert not y.requires_grad
    with pytest.raises(OrderError):
        model.backward(y.numpy())


def test_memory_cannot_be_separated_but_copied():
    module = MinidlModule(deep_model("float32"))
    for change in (lambda: module.double(), lambda: module.to("meta"), lambda: torch.nn.Sequential(module).half()):
        with pytest.raises((ParameterError, NotImplementedError)):
            change()
    assert module.to("cpu") is module
    twin = copy.deepcopy(module)
    assert next(twin.parameters()).data_ptr() == twin.minidl_model.parameters()[0].value.ctypes.data
    assert next(twin.parameters()).data_ptr() != next(module.parameters()).data_ptr()
    values = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    found = torch.func.functional_call(twin, values, (torch.ones(1, 4),))
    assert found.abs().sum() == 0


# a module of PyTorch as a layer of minidl ---------------------------------------------------------------------------

MODULES = {
    "torch.nn:GELU": None,
    "torch.nn:Linear(3, 2)": None,
    "torch.nn:BatchNorm2d(2)": (2, 2, 2, 2),
    "torch.nn:Conv2d(1, 2, 3)": (1, 1, 4, 4),
    "torch.nn:RMSNorm(4)": (2, 4),
    "torch.nn:LSTM(3, 2)": (4, 2, 3),
    "torch.nn:Dropout(0.4)": (4, 5),
}


@pytest.mark.parametrize("target", MODULES)
def test_gradcheck_of_modules(target):
    report = check_module(target, MODULES[target])
    assert report.ok, report
    assert report.table[0].dtype == "float64"


def test_a_wrong_backward_is_found():
    with pytest.raises(GradcheckError, match="1.5 times what it should be"):
        dl.gradcheck(TorchLayer(Wrong()), X)


def test_a_module_trains_inside_a_sequential_as_in_pytorch():
    inside = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh())
    last = torch.nn.Linear(8, 1)
    reference = copy.deepcopy(torch.nn.Sequential(inside, last))
    model = dl.Sequential([TorchLayer(inside), dl.Linear(8, 1)])
    assert list(model.state_dict()) == ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias", "1.weight", "1.bias"]
    model[1].weight.value, model[1].bias.value = last.weight.detach().numpy(), last.bias.detach().numpy()
    model.compile(dl.SGD(model.parameters(), lr=0.1), "mse")
    x = X.astype("float32")
    model.fit(x, x[:, :1], epochs=5, batch_size=5, shuffle=False, verbose=0)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(reference(torch.from_numpy(x)), torch.from_numpy(x[:, :1])).backward()
        optimizer.step()
    reference.eval()
    expected = reference(torch.from_numpy(x)).detach().numpy()
    numpy.testing.assert_allclose(model.predict(x), expected, atol=1e-5)
    assert not model[0].module.training
    twin = copy.deepcopy(model)
    assert (twin.predict(x) == model.predict(x)).all()
    assert "(0): Linear(in_features=4" in repr(model[0])


def test_dropout_of_pytorch_obeys_the_seed_and_the_mode():
    layer, state = TorchLayer(torch.nn.Dropout(0.5)), torch.random.get_rng_state()
    dl.seed(3)
    one = layer.forward(X)
    dl.seed(3)
    assert (layer.forward(X) == one).all()
    assert (layer.forward(X) != one).any()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (layer.eval().forward(X) == X).all()


def test_modules_that_cannot_be_layers():
    with pytest.raises(ParameterError, match=r"expected a torch\.nn\.Module, got GELU"):
        TorchLayer(dl.GELU())
    with pytest.raises(EngineError, match="on meta"):
        TorchLayer(torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(DtypeError, match="bfloat16"):
        TorchLayer(torch.nn.Linear(2, 2, dtype=torch.bfloat16))


# the command line ---------------------------------------------------------------------------------------------------


def test_the_command_checks_modules(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(
        "import torch\n\ndef make(width=2):\n    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.SiLU())\n"
        "\nclass Third(torch.nn.Module):\n    def forward(self, x):\n        return Third_.apply(x)\n"
        "\nclass Third_(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        return x.clone()\n"
        "    @staticmethod\n    def backward(ctx, dy):\n        return dy / 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["gradcheck", "--torch", "mine:make(width=4)", "--torch", "torch.nn:Softmax(1)", "--shape", "2,3"]) == 0
    printed = capsys.readouterr().out
    assert "make(width=4)" in printed
    assert "gradcheck ok: 3 checked" in printed
    assert main(["gradcheck", "--torch", f"{tmp_path / 'mine.py'}:Third"]) == 1
    assert "0.333" in capsys.readouterr().out
    assert main(["gradcheck", "relu", "--short", "--torch", "torch.nn:ReLU"]) == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torch.nn:Geluu", "unknown name in torch.nn 'Geluu'; known: .*GELU"),
        ("torch.nnn:GELU", "torch.nnn cannot be imported: ModuleNotFoundError"),
        ("torch.nn:Linear", "cannot be called with these arguments"),
        ("math:sqrt(4)", "gave a float, not a torch.nn.Module"),
        ("nowhere.py:GELU", "there is no file nowhere.py"),
        ("GELU", "expected path/to/file.py:NAME"),
    ],
)
def test_targets_that_are_no_modules(target, message):
    with pytest.raises(MinidlError, match=message):
        check_module(target)


# DLPack -------------------------------------------------------------------------------------------------------------


def test_tensors_share_their_memory():
    tensor = torch.arange(6.0).reshape(2, 3)
    array = from_dlpack(tensor)
    tensor[0, 0] = 9
    assert array[0, 0] == 9
    layer = dl.Linear(3, 2)
    assert (layer.forward(tensor) == layer.forward(tensor.numpy())).all()
    jax = pytest.importorskip("jax")
    ones = jax.numpy.ones(3)
    assert from_dlpack(ones).ctypes.data == ones.unsafe_buffer_pointer()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: torch.ones(2, 3, requires_grad=True), DtypeError, r"requires grad; give x\.detach\(\)"),
        (lambda: torch.ones(2, 3, dtype=torch.bfloat16), DtypeError, r"bfloat16, which NumPy has not.*x\.float\(\)"),
        (lambda: torch.ones(2, 3, device="meta"), (EngineError, DtypeError), "meta"),
        (lambda: torch.ones(2, 3).to_sparse(), DtypeError, "cannot be shared"),
    ],
)
def test_tensors_that_cannot_be_shared_say_what_to_do(make, error, message):
    for take in (from_dlpack, dl.Linear(3, 2).forward):
        with pytest.raises(error, match=message):
            take(make())


def test_a_tensor_on_another_device_is_named():
    class OnGpu:
        dtype, device = "torch.float32", "cuda:0"

        def __dlpack__(self, **options):
            raise AssertionError

        def __dlpack_device__(self):
            return 2, 0

    with pytest.raises(
        EngineError, match=r"is on cuda:0, but the engine computes on the host; move it, in PyTorch with x\.cpu"
    ):
        from_dlpack(OnGpu())


def test_an_op_that_is_given_a_tensor_says_what_it_takes(host_engine):
    with dl.use(host_engine):
        for op in (dl.ops.relu, dl.ops.softmax, dl.ReLU().forward):
            with pytest.raises(
                DtypeError, match=r"must be an array, got Tensor; convert it with minidl\.arrays\.from_dlpack"
            ):
                op(torch.ones(2, 3))
    with pytest.raises(DataError):
        check_module("nowhere:GELU")
