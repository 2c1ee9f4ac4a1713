"""Published checkpoints: a small GPT-2 in PyTorch, saved as such models are, read by a minidl model with the same weights."""

import json

import numpy
import pytest

import minidl as dl
from minidl import weights
from minidl.layers import Parameter
from minidl.weights.tensors import from_bfloat16, to_bfloat16

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytestmark = pytest.mark.peers

V, C, H = 11, 6, 2  # vocabulary, channels, blocks


class Conv1D(torch.nn.Module):
    """GPT-2's linear layer, whose weight is (in, out)."""

    def __init__(self, out, n):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(n, out))
        self.bias = torch.nn.Parameter(torch.randn(out))

    def forward(self, x):
        return x @ self.weight + self.bias


class TheirBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = torch.nn.LayerNorm(C)
        self.c_fc, self.c_proj = Conv1D(4 * C, C), Conv1D(C, 4 * C)
        self.register_buffer("bias", torch.tril(torch.ones(4, 4, dtype=torch.bool)))

    def forward(self, x):
        return x + self.c_proj(torch.relu(self.c_fc(self.ln_1(x))))


class Theirs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer = torch.nn.ModuleDict(
            {"wte": torch.nn.Embedding(V, C), "h": torch.nn.ModuleList([TheirBlock() for _ in range(H)])}
        )
        self.lm_head = torch.nn.Linear(C, V, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight

    def forward(self, ids):
        x = self.transformer["wte"](ids)
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(x)


class Block(dl.Layer):
    def __init__(self):
        super().__init__()
        self.ln_1, self.c_fc, self.relu, self.c_proj = (
            dl.LayerNorm(C),
            dl.Linear(C, 4 * C),
            dl.ReLU(),
            dl.Linear(4 * C, C),
        )

    def forward(self, x):
        return x + self.c_proj(self.relu(self.c_fc(self.ln_1(x))))


class Table(dl.Layer):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight


class Ours(dl.Layer):
    def __init__(self):
        super().__init__()
        weight = Parameter(numpy.zeros((V, C), "float32"))
        self.wte, self.h, self.lm_head = Table(weight), dl.Sequential([Block() for _ in range(H)]), Table(weight)

    def forward(self, ids):
        x = self.wte.weight.value[ids]  # (N, T, C)
        return self.h.forward(x) @ self.lm_head.weight.value.T  # (N, T, V)


NAMES = {"transformer.h.0.bias": None, "transformer.h.1.bias": None, "transformer.*": "*"}
TRANSPOSE = "*.c_*.weight"


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return Theirs()


def compare(ours, theirs):
    ids = numpy.random.default_rng(0).integers(0, V, (3, 5))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids)).numpy()
    numpy.testing.assert_allclose(ours.forward(ids), expected, rtol=1e-4, atol=1e-4)


def theirs_in_shards(state, folder):
    """Write two shards and the index as the libraries of published models do."""
    names = list(state)
    weight_map = {}
    for i, part in enumerate((names[:5], names[5:]), 1):
        shard = f"model-0000{i}-of-00002.safetensors"
        safetensors.save_file({name: state[name] for name in part}, folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["save_model", "without a head", "both names", "shards"])
def test_their_weights_here(theirs, tmp_path, dtype, how):
    theirs.to(dtype)
    path = tmp_path / "model.safetensors"
    state = theirs.state_dict()
    if how == "save_model":
        safetensors.save_model(theirs, str(path))
    elif how == "both names":
        safetensors.save_file({name: value.clone() for name, value in state.items()}, path)
    else:
        del state["lm_head.weight"]
        theirs_in_shards(state, tmp_path) if how == "shards" else safetensors.save_file(state, path)
    ours = Ours()
    assert ours.load(tmp_path, names=NAMES, transpose=TRANSPOSE) == ([], [])
    compare(ours, theirs.float())
    numpy.testing.assert_array_equal(ours.wte.weight.value, theirs.lm_head.weight.detach())


def test_their_state_dict_as_it_is(theirs):
    ours = Ours()
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    ours.load_state_dict(state, names=NAMES, transpose=TRANSPOSE)
    compare(ours, theirs)
    ours.load_state_dict(theirs.bfloat16().state_dict(), names=NAMES, transpose=TRANSPOSE)
    compare(ours, theirs.float())  # NumPy has no bfloat16; float32 holds its values exactly


@pytest.mark.parametrize(
    ("dtype", "torchs"), [(None, torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_our_weights_there(tmp_path, dtype, torchs):
    ours, path = Ours(), tmp_path / "model.safetensors"
    random = numpy.random.default_rng(0)
    for parameter in ours.parameters():
        parameter.value = random.standard_normal(parameter.shape)
    ours.save(path, dtype=dtype)
    twin = torch.nn.ModuleDict(
        {
            "wte": torch.nn.Embedding(V, C),
            "h": torch.nn.ModuleList(
                torch.nn.ModuleDict(
                    {
                        "ln_1": torch.nn.LayerNorm(C),
                        "c_fc": torch.nn.Linear(C, 4 * C),
                        "c_proj": torch.nn.Linear(4 * C, C),
                    }
                )
                for _ in range(H)
            ),
            "lm_head": torch.nn.Linear(C, V, bias=False),
        }
    ).to(torchs)
    twin["lm_head"].weight = twin["wte"].weight
    assert safetensors.load_model(twin, path) == (set(), [])
    for name, value in ours.state_dict().items():
        assert torch.equal(twin.state_dict()[name], torch.from_numpy(value).to(torchs)), name


def test_every_bfloat16_number_is_torchs():
    bits = numpy.arange(1 << 16, dtype=numpy.uint16)
    theirs = torch.from_numpy(bits.view(numpy.int16).copy()).view(torch.bfloat16).float().numpy()
    numpy.testing.assert_array_equal(from_bfloat16(bits), theirs)


def test_rounding_to_bfloat16_is_torchs():
    bits = numpy.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=numpy.uint32)
    bits[::3] = bits[::3] & 0xFFFF0000 | 0x8000  # halfway
    values = bits.view(numpy.float32)
    theirs = torch.from_numpy(values.copy()).bfloat16()
    finite = ~numpy.isnan(values)
    numpy.testing.assert_array_equal(
        to_bfloat16(values)[finite], theirs.view(torch.int16).numpy().view(numpy.uint16)[finite]
    )
    assert numpy.isnan(from_bfloat16(to_bfloat16(values[~finite]))).all()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_their_float8_is_named(tmp_path, dtype):
    safetensors.save_file({"a.weight": torch.ones(3).to(dtype)}, tmp_path / "m.safetensors")
    with pytest.raises(dl.errors.FileFormatError, match="a.weight has dtype F8_E"):
        weights.load_file(tmp_path / "m.safetensors")


def test_a_pickle_of_theirs_is_refused(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(dl.errors.FileFormatError, match="weights_only=True"):
        Ours().load(tmp_path / "pytorch_model.bin")
