"""Cross-entropy with the classes on the last axis, beside PyTorch's, which has them on axis 1."""

import numpy
import pytest

import minidl as dl

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_loss_and_gradient(reduction, smoothing, weighted, ignored):
    random = numpy.random.default_rng(0)
    logits, target = random.normal(size=(3, 5, 4)), random.integers(0, 4, (3, 5))
    target[0, :2] = ignored
    weight = random.uniform(0.5, 2, 4) if weighted else None
    settings = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignored}
    loss = dl.CrossEntropyLoss(weight=weight, class_axis=-1, **settings)
    theirs = torch.nn.CrossEntropyLoss(weight=None if weight is None else torch.from_numpy(weight), **settings)
    x = torch.from_numpy(logits).requires_grad_()
    expected = theirs(x.transpose(1, 2), torch.from_numpy(target))
    upstream = random.normal(size=tuple(expected.shape))
    expected.backward(torch.from_numpy(numpy.asarray(upstream)))
    numpy.testing.assert_allclose(loss.forward(logits, target), expected.detach().numpy(), rtol=1e-10)
    numpy.testing.assert_allclose(loss.backward(upstream), x.grad.numpy(), rtol=1e-9, atol=1e-12)
