"""Models, weights and losses against PyTorch's, with the same weights."""

import numpy
import pytest

import minidl as dl

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


@pytest.fixture
def pair():
    dl.seed(0)
    model = dl.Sequential(dl.Linear(6, 5, dtype="float64"), dl.GELU(), dl.Linear(5, 4, dtype="float64"), dl.Tanh(),
                          dl.Linear(4, 3, dtype="float64"))  # fmt: skip
    twin = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.GELU(), torch.nn.Linear(5, 4), torch.nn.Tanh(),
                               torch.nn.Linear(4, 3)).double()  # fmt: skip
    twin.load_state_dict({name: torch.from_numpy(value) for name, value in model.state_dict().items()})
    return model, twin


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_forward_and_every_gradient(pair, engine, fuse):
    if not dl.engines()[engine]:
        pytest.skip(str(dl.engines()[engine]))
    model, twin = pair
    model.fuse = fuse
    random = numpy.random.default_rng(0)
    x, target = random.normal(size=(7, 6)), random.integers(0, 3, 7)
    tx = torch.tensor(x, requires_grad=True)
    torch_loss = torch.nn.functional.cross_entropy(twin(tx), torch.tensor(target))
    torch_loss.backward()
    with dl.use(engine):
        loss = dl.CrossEntropyLoss()
        value = loss.forward(model.forward(x), target)
        dx = model.backward(loss.backward())
    assert value == pytest.approx(torch_loss.item(), rel=1e-12)
    numpy.testing.assert_allclose(dx, tx.grad, rtol=1e-9, atol=1e-14)
    for (name, own), (torch_name, theirs) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert name == torch_name
        numpy.testing.assert_allclose(own.grad, theirs.grad, rtol=1e-9, atol=1e-14)


def test_weights_go_both_ways_through_a_file(pair, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model, twin = pair
    model.save(tmp_path / "ours.safetensors")
    for name, value in safetensors.load_file(tmp_path / "ours.safetensors").items():
        numpy.testing.assert_array_equal(value, model.state_dict()[name])
    safetensors.save_file({k: v * 2 for k, v in twin.state_dict().items()}, tmp_path / "theirs.safetensors")
    before = model.state_dict()
    model.load(tmp_path / "theirs.safetensors")
    for name, value in model.state_dict().items():
        numpy.testing.assert_array_equal(value, 2 * before[name])


def test_linear_starts_as_pytorchs_does():
    dl.seed(0)
    ours, theirs = dl.Linear(400, 300).weight.value, torch.nn.Linear(400, 300).weight.detach().numpy()
    assert ours.std() == pytest.approx(theirs.std(), rel=0.01)
    assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=0.01)
