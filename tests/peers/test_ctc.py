"""The CTC loss beside PyTorch's, forward and gradient."""

import numpy
import pytest

from minidl import ops
from minidl.layers import CTCLoss

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


def draw(n, t, k, s, blank, seed):
    random = numpy.random.default_rng(seed)
    scores = random.normal(size=(n, t, k)) * 2
    counts = random.integers(0, s + 1, n)
    labels = random.integers(0, k - 1, (n, s))
    labels += labels >= blank
    repeated = [
        int((row[1:count] == row[: max(count - 1, 0)]).sum()) for row, count in zip(labels, counts, strict=True)
    ]
    steps = numpy.array([random.integers(count + r, t + 1) for count, r in zip(counts, repeated, strict=True)])
    return scores, labels, steps, counts


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("n", "t", "k", "s", "blank"), [(4, 20, 5, 6, 0), (3, 50, 30, 20, 29), (2, 9, 2, 4, 1)])
def test_as_pytorch(n, t, k, s, blank, reduction, packed):
    scores, labels, steps, counts = draw(n, t, k, s, blank, 7)
    given = labels
    if packed:
        given = numpy.concatenate([row[:count] for row, count in zip(labels, counts, strict=True)])
    log_p, cache = ops.log_softmax(scores)
    loss = CTCLoss(blank, reduction)
    value = loss.forward(log_p, given, steps, counts)
    dloss = numpy.linspace(-1, 2, n) if reduction == "none" else 1.0
    gradient = loss.backward(dloss)

    leaf = torch.tensor(scores, requires_grad=True)
    log_q = leaf.log_softmax(-1)
    log_q.retain_grad()
    expected = torch.nn.functional.ctc_loss(
        log_q.transpose(0, 1), *map(torch.tensor, (given, steps, counts)), blank=blank, reduction=reduction
    )
    expected.backward(torch.tensor(dloss) if reduction == "none" else None)
    numpy.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12)
    numpy.testing.assert_allclose(ops.log_softmax_backward(gradient, cache), leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_an_infinite_loss_as_pytorch():
    scores, labels, steps, counts = draw(3, 8, 4, 4, 0, 1)
    labels[0], counts[0], steps[0] = 2, 4, 5
    log_p, cache = ops.log_softmax(scores)
    loss = CTCLoss(reduction="sum", zero_infinity=True)
    value = loss.forward(log_p, labels, steps, counts)
    leaf = torch.tensor(scores, requires_grad=True)
    expected = torch.nn.functional.ctc_loss(
        leaf.log_softmax(-1).transpose(0, 1),
        *map(torch.tensor, (labels, steps, counts)),
        reduction="sum",
        zero_infinity=True,
    )
    expected.backward()
    numpy.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    found = ops.log_softmax_backward(loss.backward(), cache)
    numpy.testing.assert_allclose(found, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)
