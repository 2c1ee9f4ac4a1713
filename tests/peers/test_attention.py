"""Embeddings, attention, positions and Transformer layers against PyTorch: outputs and every gradient, in float64."""

import numpy
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

pytestmark = pytest.mark.peers


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


@pytest.mark.parametrize("padding_idx", [None, 0, 3, -1])
@pytest.mark.parametrize("shape", [(6,), (2, 5), ()])
def test_embedding(host_engine, rng, shape, padding_idx):
    ids, weight = numpy.asarray(rng.integers(0, 5, shape)), rng.normal(size=(5, 3))
    y, cache = getattr(host_engine, "embedding")(ids, weight, padding_idx)  # noqa: B009 - looked for by name
    tensor = torch.tensor(weight, requires_grad=True)
    expected = F.embedding(torch.tensor(ids), tensor, padding_idx)
    numpy.testing.assert_array_equal(y, expected.detach().numpy())
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    nothing, dweight = host_engine.embedding_backward(dy, cache)
    assert nothing is None
    numpy.testing.assert_allclose(dweight, tensor.grad.numpy(), rtol=1e-14, atol=1e-15)


def compare(engine, rng, shapes, peer_options=None, mask=None, **options):
    """Compare attention and its gradients with PyTorch's function of the same name."""
    arrays = [rng.normal(size=shape) for shape in shapes]
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = F.scaled_dot_product_attention(
        *tensors, None if mask is None else torch.tensor(mask), **(options if peer_options is None else peer_options)
    )
    y, cache = engine.scaled_dot_product_attention(*arrays, mask, **options)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-14)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    for gradient, tensor in zip(engine.scaled_dot_product_attention_backward(dy, cache), tensors, strict=True):
        numpy.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"scale": -1.0, "is_causal": True}])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (7, 3), (1, 4), (70, 70)])
def test_scaled_dot_product_attention(host_engine, rng, queries, keys, options):
    compare(host_engine, rng, [(2, 3, queries, 4), (2, 3, keys, 4), (2, 3, keys, 6)], **options)


@pytest.mark.parametrize("kind", ["boolean", "additive"])
@pytest.mark.parametrize("shape", [(5, 7), (2, 1, 5, 7), (3, 1, 1), (2, 3, 5, 7), (1, 7)])
def test_attention_masks(host_engine, rng, shape, kind):
    mask = rng.random(shape) < 0.6
    mask[..., 0] = True
    if kind == "additive":
        mask = numpy.where(mask, rng.normal(size=shape), -numpy.inf)
    compare(host_engine, rng, [(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 4)], mask=mask)


@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries(host_engine, rng, causal):
    compare(host_engine, rng, [(2, 6, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)], is_causal=causal, enable_gqa=True)


def test_a_window_is_a_band(host_engine, rng):
    t = numpy.arange(9)
    ahead = t[None, :] - t[:, None]
    for causal in (True, False):
        band = (ahead > -3) & (ahead < (1 if causal else 3))
        arrays = [rng.normal(size=(1, 2, 9, 4)) for _ in range(3)]
        expected = F.scaled_dot_product_attention(*map(torch.tensor, arrays), torch.tensor(band)).numpy()
        y, _ = host_engine.scaled_dot_product_attention(*arrays, is_causal=causal, window=3)
        numpy.testing.assert_allclose(y, expected, rtol=1e-12)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_embedding(host_engine, rng, interleaved):
    """As a product of complex numbers."""
    x, angles = rng.normal(size=(2, 3, 5, 8)), rng.normal(size=(5, 3))
    y, cache = getattr(host_engine, "rotary_embedding")(x, numpy.cos(angles), numpy.sin(angles), interleaved)  # noqa: B009
    tensor = torch.tensor(x, requires_grad=True)
    pairs = tensor[..., :6].reshape(2, 3, 5, 3, 2) if interleaved else tensor[..., :6].reshape(2, 3, 5, 2, 3).mT
    turned = torch.view_as_real(
        torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones(5, 3).double(), torch.tensor(angles))
    )
    turned = (turned if interleaved else turned.mT).reshape(2, 3, 5, 6)
    expected = torch.cat([turned, tensor[..., 6:]], dim=-1)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-13, atol=1e-14)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    numpy.testing.assert_allclose(
        host_engine.rotary_embedding_backward(dy, cache), tensor.grad.numpy(), rtol=1e-13, atol=1e-14
    )
