"""Convolutions against PyTorch's, forward and every gradient, over drawn settings."""

import numpy
import pytest

torch = pytest.importorskip("torch")

import minidl as dl  # noqa: E402

pytestmark = pytest.mark.peers


def drawn(generator, axes, transposed):
    """Draw a layer's arguments; all of them make sense together."""
    groups = int(generator.choice([1, 1, 2, 4]))
    channels = groups * generator.integers(1, 9, 2)
    each = {
        name: tuple(map(int, generator.integers(low, high, axes)))
        for name, low, high in (("kernel_size", 1, 5), ("stride", 1, 4), ("dilation", 1, 3), ("padding", 0, 3))
    }
    if transposed:
        extra = zip(each["stride"], each["dilation"], strict=True)
        each["output_padding"] = tuple(int(generator.integers(0, max(s, d))) for s, d in extra)
    return {"in_channels": int(channels[0]), "out_channels": int(channels[1]), "groups": groups, **each}


def compare(layer, peer, x):
    with torch.no_grad():
        for name, value in layer.state_dict().items():
            getattr(peer, name).copy_(torch.from_numpy(value))
    given = torch.from_numpy(x).requires_grad_()
    expected = peer(given)
    y = layer.forward(x)
    size = max(1.0, abs(y).max())
    tolerance = {"rtol": 1e-4, "atol": 2e-5 * size} if x.dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12 * size}
    numpy.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    dy = numpy.random.default_rng(1).normal(size=y.shape).astype(x.dtype)
    dx = layer.backward(dy)
    expected.backward(torch.from_numpy(dy))
    for ours, theirs in [(dx, given), (layer.weight.grad, peer.weight), (layer.bias.grad, peer.bias)]:
        theirs = theirs.grad.numpy()
        tolerance["atol"] = (2e-5 if x.dtype == "float32" else 1e-12) * max(1.0, abs(theirs).max())
        numpy.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_random_settings(name, dtype, engine):
    if not dl.engines()[engine]:
        pytest.skip(f"the {engine} engine is not here")
    generator = numpy.random.default_rng(3)
    axes = int(name[-2])
    for _ in range(25):
        arguments = drawn(generator, axes, "Transpose" in name)
        shape = (int(generator.integers(1, 4)), arguments["in_channels"], *map(int, generator.integers(9, 24, axes)))
        with dl.use(engine):
            layer = getattr(dl, name)(**arguments, dtype=dtype)
            peer = getattr(torch.nn, name)(**arguments, dtype=getattr(torch, dtype))
            compare(layer, peer, generator.normal(size=shape).astype(dtype))


@pytest.mark.filterwarnings("ignore:Using padding")
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_same_puts_the_odd_zero_where_pytorch_does(kernel):
    x = numpy.random.default_rng(0).normal(size=(1, 2, 7, 8))
    arguments = {"in_channels": 2, "out_channels": 3, "kernel_size": kernel, "padding": "same", "dilation": 1}
    compare(dl.Conv2d(**arguments, dtype="float64"), torch.nn.Conv2d(**arguments, dtype=torch.float64), x)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(7, 8), (6, 5)])
def test_uneven_padding_is_theirs_after_a_pad(host_engine, size, stride):
    rng = numpy.random.default_rng(0)
    x, weight = rng.normal(size=(2, 3, *size)), rng.normal(size=(4, 3, 3, 2))
    theirs = torch.tensor(x, requires_grad=True)
    around = torch.nn.functional.pad(theirs, (1, 2, 0, 3))
    expected = torch.nn.functional.conv2d(around, torch.tensor(weight), stride=stride)
    y, cache = host_engine.conv2d(x, weight, stride=stride, padding=((0, 3), (1, 2)))
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    dx = host_engine.conv2d_backward(dy, cache)[0]
    numpy.testing.assert_allclose(dx, theirs.grad.numpy(), rtol=1e-12, atol=1e-12)
