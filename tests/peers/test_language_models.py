"""Whole language models against PyTorch: logits, loss and every gradient from the same weights, and fifty steps of training."""

import sys
from pathlib import Path

import numpy
import pytest

torch = pytest.importorskip("torch")

import minidl as dl  # noqa: E402
from minidl.models import GPT2, Transformer  # noqa: E402
from minidl.text import sonnets  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    from follow_torch import follow
    from torch_gpt2 import TorchGPT2
finally:
    sys.path.pop(0)

pytestmark = pytest.mark.peers

TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
"""Of the largest element of each array."""


@pytest.fixture(autouse=True)
def _one_thread():
    """Small products, which PyTorch's threads would spend the time waiting for one another in."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_weights(model, seed=0):
    """Give every parameter, biases and norms too, a value that matters."""
    random = numpy.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.value[...] += 0.1 * random.normal(size=parameter.shape)


def assert_close(found, expected, dtype, name):
    expected = expected.detach().numpy()
    assert found.dtype == expected.dtype == dtype, name
    limit = TOLERANCES[dtype] * max(abs(expected).max(), 1e-3)
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=name)


def compare(ours, theirs, inputs, target, dtype, label_smoothing=0.0, turned=()):
    """Compare logits, loss and all gradients; target is -100 where it does not count, and names that end so are (in, out)."""
    loss = dl.CrossEntropyLoss(label_smoothing=label_smoothing, class_axis=-1)
    logits = ours.forward(*inputs)
    value = loss.forward(logits, target)
    ours.backward(loss.backward())
    expected = theirs(*map(torch.tensor, inputs))
    expected = getattr(expected, "logits", expected)
    cross_entropy = torch.nn.functional.cross_entropy(
        expected.flatten(0, 1), torch.tensor(target).flatten(), label_smoothing=label_smoothing
    )
    cross_entropy.backward()
    assert_close(logits, expected, dtype, "logits")
    assert float(value) == pytest.approx(cross_entropy.item(), rel=TOLERANCES[dtype])
    gradients = dict(ours.named_parameters())
    peers = dict(theirs.named_parameters(remove_duplicate=False))
    assert set(gradients) == set(peers)
    for name, parameter in peers.items():
        grad = parameter.grad.T if name.endswith(turned) else parameter.grad
        assert_close(gradients[name].grad, grad, dtype, name)


# GPT-2 ---------------------------------------------------------------------------------------------------------------


def gpt_ids():
    random = numpy.random.default_rng(1)
    ids = random.integers(0, 11, (3, 9))
    target = random.integers(0, 11, (3, 9))
    target[0, 5:] = -100
    target[2, :3] = -100
    return ids, target


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gpt2(host_engine, dtype, tied):
    """A sequence shorter than the context, with positions that do not count."""
    ids, target = gpt_ids()
    with dl.use(host_engine):
        ours = GPT2("nano", vocab_size=11, context=12, layers=3, heads=4, width=24, dropout=0.0, tied=tied, dtype=dtype)
        draw_weights(ours)
        theirs = TorchGPT2(11, 12, layers=3, heads=4, width=24, tied=tied).to(getattr(torch, dtype))
        theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
        compare(ours, theirs, (ids,), target, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gpt2_of_transformers(host_engine, dtype):
    """The published code, whose matrices are (in, out)."""
    transformers = pytest.importorskip("transformers")
    ids, target = gpt_ids()
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=12, n_embd=24, n_layer=3, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    theirs = transformers.GPT2LMHeadModel(config).to(getattr(torch, dtype))
    with dl.use(host_engine):
        ours = GPT2(vocab_size=11, context=12, layers=3, heads=4, width=24, dropout=0.0, dtype=dtype)
        draw_weights(ours)
        weights = {name: value.T if name.endswith(turned) else value for name, value in ours.state_dict().items()}
        theirs.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        compare(ours, theirs, (ids,), target, dtype, turned=turned)


# the encoder-decoder -------------------------------------------------------------------------------------------------


class TorchTransformer(torch.nn.Module):
    """PyTorch's encoder and decoder with embeddings, the paper's positions, and an affine map."""

    def __init__(self, source_vocabulary, target_vocabulary, width, heads, layers, hidden, norm_first):
        super().__init__()
        nn, self.width = torch.nn, width
        options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
        norms = [nn.LayerNorm(width) if norm_first else None for _ in range(2)]
        self.source_embedding = nn.Embedding(source_vocabulary, width)
        self.target_embedding = nn.Embedding(target_vocabulary, width)
        encoder_layer = nn.TransformerEncoderLayer(width, heads, hidden, **options)
        self.encoder = nn.TransformerEncoder(encoder_layer, layers[0], norms[0], enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(width, heads, hidden, **options), layers[1], norms[1]
        )
        self.generator_map = nn.Linear(width, target_vocabulary)

    def embed(self, table, ids):
        t = torch.arange(ids.shape[1], dtype=table.weight.dtype)[:, None]
        angle = t / 10000 ** (torch.arange(0, self.width, 2, dtype=table.weight.dtype) / self.width)  # (T, C / 2)
        places = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)  # (T, C)
        return table(ids) * self.width**0.5 + places

    def forward(self, source, target, mask):
        memory = self.encoder(self.embed(self.source_embedding, source), src_key_padding_mask=~mask)
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        x = self.embed(self.target_embedding, target)
        return self.generator_map(self.decoder(x, memory, later, memory_key_padding_mask=~mask))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_transformer(host_engine, dtype, norm_first, label_smoothing):
    """Sources and targets of different lengths, padded."""
    random = numpy.random.default_rng(2)
    source, begun, target = (
        random.integers(1, 9, (4, 7)),
        random.integers(1, 13, (4, 5)),
        random.integers(1, 13, (4, 5)),
    )
    mask = numpy.arange(7) < numpy.array([[7], [3], [1], [5]])
    target[numpy.arange(5) >= numpy.array([[2], [5], [1], [4]])] = -100
    with dl.use(host_engine):
        ours = Transformer(9, 13, 16, 4, 2, 3, 24, dropout=0.0, context=10, norm_first=norm_first, dtype=dtype)
        draw_weights(ours)
        theirs = TorchTransformer(9, 13, 16, 4, (2, 3), 24, norm_first).to(getattr(torch, dtype))
        theirs.load_state_dict({name: torch.tensor(value) for name, value in ours.state_dict().items()})
        compare(ours, theirs, (source, begun, mask), target, dtype, label_smoothing)


# training ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_the_loss_follows_pytorchs(kind):
    """The first fifty of 500 steps on the sonnets; `benchmarks/follow_torch.py` goes to the end."""
    found = follow(kind, sonnets(), steps=50, of=500)
    assert found.ours[-1] < found.ours[0] - 1.2
    numpy.testing.assert_allclose(found.ours, found.theirs, rtol=1e-5)
    assert found.our_validation == pytest.approx(found.their_validation, rel=1e-5)
