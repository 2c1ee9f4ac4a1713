"""Label-smoothed cross-entropy of sequences with ignored positions, beside PyTorch's."""

import numpy
import pytest

import minidl as dl
from minidl.text import PaddedBatches

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


def theirs(logits, target, **settings):
    """Return PyTorch's loss and gradient."""
    x = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(x.transpose(1, 2), torch.tensor(target), **settings)
    loss.backward()
    return loss.item(), x.grad.numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-12)])
def test_padded_batches_of_a_large_vocabulary(dtype, tolerance, smoothing):
    random = numpy.random.default_rng(0)
    batches = PaddedBatches([random.integers(0, 5000, n) for n in (9, 4, 2, 13)], batch_size=4)
    _, target = batches[0]
    assert (target == -100).any()  # theirs in float64: in float32 its gradient is off by 1e-4 of itself
    logits = random.normal(size=(*target.shape, 5000)).astype(dtype) * 3
    loss = dl.CrossEntropyLoss(label_smoothing=smoothing, class_axis=-1)
    value = loss.forward(logits, target)
    expected, gradient = theirs(logits.astype("float64"), target, label_smoothing=smoothing)
    assert abs(value - expected) < tolerance * expected
    numpy.testing.assert_allclose(loss.backward(), gradient, rtol=10 * tolerance, atol=tolerance * 1e-2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_batch_of_padding_only(reduction, smoothing):
    logits, target = numpy.random.default_rng(0).normal(size=(2, 3, 5)), numpy.full((2, 3), -100)
    loss = dl.CrossEntropyLoss(reduction=reduction, label_smoothing=smoothing, class_axis=-1)
    value = loss.forward(logits, target)
    expected, gradient = theirs(logits, target, reduction=reduction, label_smoothing=smoothing)
    numpy.testing.assert_array_equal(value, expected)  # nan for the mean
    assert not loss.backward().any()
    assert not gradient.any()
