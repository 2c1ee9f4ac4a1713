"""LoRA against the same layer written in PyTorch, alone and in the blocks of a Transformer, trained for some steps."""

import numpy
import pytest

torch = pytest.importorskip("torch")

import minidl as dl  # noqa: E402

pytestmark = pytest.mark.peers


class Double(torch.nn.Module):
    """The formula of the paper, with autograd."""

    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scaling = alpha / rank
        self.lora_A = torch.nn.Parameter(torch.zeros(rank, linear.in_features, dtype=torch.float64))
        self.lora_B = torch.nn.Parameter(torch.zeros(linear.out_features, rank, dtype=torch.float64))

    @property
    def weight(self):
        return self.linear.weight + self.scaling * self.lora_B @ self.lora_A

    @property
    def bias(self):
        return self.linear.bias

    def forward(self, x):
        return self.linear(x) + self.scaling * (x @ self.lora_A.T) @ self.lora_B.T


def copy_lora(mine, theirs, seed=0):
    random = numpy.random.default_rng(seed)
    for name in ("lora_A", "lora_B"):
        value = random.normal(size=getattr(mine, name).shape) * 0.3
        getattr(mine, name).value[...] = value
        getattr(theirs, name).data = torch.tensor(value)


def close(mine, theirs, atol=1e-12):
    numpy.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-10, atol=atol)


@pytest.mark.parametrize(("rank", "alpha"), [(1, 1.0), (4, 16.0)])
@pytest.mark.parametrize("shape", [(7, 12), (2, 3, 12)])
def test_outputs_and_gradients(rank, alpha, shape):
    linear, theirs = dl.Linear(12, 9, dtype="float64"), torch.nn.Linear(12, 9, dtype=torch.float64)
    linear.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    mine, double = dl.LoRALinear(linear, rank, alpha), Double(theirs, rank, alpha)
    copy_lora(mine, double)
    x = numpy.random.default_rng(1).normal(size=shape)
    dy = numpy.random.default_rng(2).normal(size=(*shape[:-1], 9))
    inputs = torch.tensor(x, requires_grad=True)
    y = double(inputs)
    y.backward(torch.tensor(dy))
    close(mine.forward(x), y)
    close(mine.backward(dy), inputs.grad)
    close(mine.lora_A.grad, double.lora_A.grad)
    close(mine.lora_B.grad, double.lora_B.grad)
    mine.merge()
    close(mine.weight.value, double.weight)


def test_an_encoder_layer_trains_alike():
    settings = {"dim_feedforward": 16, "dropout": 0.0}
    mine = dl.TransformerEncoderLayer(8, 2, **settings, dtype="float64")
    theirs = torch.nn.TransformerEncoderLayer(8, 2, **settings, batch_first=True, dtype=torch.float64)
    mine.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    dl.add_lora(mine, "linear*", rank=2, alpha=4)
    theirs.requires_grad_(False)
    for number, name in enumerate(("linear1", "linear2")):
        setattr(theirs, name, Double(getattr(theirs, name), 2, 4.0))
        copy_lora(getattr(mine, name), getattr(theirs, name), number)
    optimizer = dl.AdamW(mine.parameters(), lr=0.01)
    peer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.01)
    x = numpy.random.default_rng(3).normal(size=(3, 5, 8))
    for _ in range(10):
        y, expected = mine.forward(x), theirs(torch.tensor(x))
        close(y, expected, 1e-9)  # Adam divides by gradients that may be small
        (expected**2).mean().backward()
        mine.backward(2 * y / y.size)
        optimizer.step()
        optimizer.zero_grad()
        peer.step()
        peer.zero_grad()
    for name in ("linear1", "linear2"):
        close(getattr(mine, name).lora_A.value, getattr(theirs, name).lora_A, 1e-9)
        close(getattr(mine, name).lora_B.value, getattr(theirs, name).lora_B, 1e-9)
