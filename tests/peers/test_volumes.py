"""Convolution and pooling of volumes against PyTorch's."""

import numpy
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

pytestmark = pytest.mark.peers


def compare(engine, name, arrays, *arguments, **options):
    y, cache = getattr(engine, name)(*arrays, *arguments, **options)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = getattr(F, name)(*tensors, *arguments, **options)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    dy = numpy.random.default_rng(1).normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    gradients = getattr(engine, f"{name}_backward")(dy, cache)
    for gradient, tensor in zip(gradients if isinstance(gradients, tuple) else (gradients,), tensors, strict=True):
        numpy.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": (1, 2, 3), "padding": (1, 0, 2)},
        {"dilation": (1, 2, 1), "padding": 1},
        {"groups": 2, "padding": "same"},
    ],
    ids=str,
)
def test_conv3d(host_engine, options):
    generator = numpy.random.default_rng(0)
    arrays = [
        generator.normal(size=shape) for shape in ((2, 4, 5, 6, 7), (6, 4 // options.get("groups", 1), 3, 1, 3), (6,))
    ]
    compare(host_engine, "conv3d", arrays, **options)


@pytest.mark.parametrize("name", ["max_pool3d", "avg_pool3d"])
@pytest.mark.parametrize("settings", [(2,), ((2, 3, 1), (1, 2, 1)), (3, 2, 1), ((3, 2, 4), None, (1, 0, 2))], ids=str)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling(host_engine, name, settings, ceil_mode):
    x = numpy.random.default_rng(0).normal(size=(2, 3, 7, 8, 9))
    compare(host_engine, name, [x], *settings, ceil_mode=ceil_mode)
    if name == "max_pool3d":
        (_, indices), _ = host_engine.max_pool3d(x, *settings, ceil_mode=ceil_mode, return_indices=True)
        _, places = F.max_pool3d(torch.tensor(x), *settings, ceil_mode=ceil_mode, return_indices=True)
        numpy.testing.assert_array_equal(indices, places.numpy())
