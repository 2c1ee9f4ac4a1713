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
