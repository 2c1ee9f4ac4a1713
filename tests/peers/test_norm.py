"""Normalisation against PyTorch's, forward and every gradient, in float64; layers with all that they keep."""

import numpy
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors.torch")

import safetensors  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import minidl as dl  # noqa: E402

pytestmark = pytest.mark.peers


def compare(engine, name, peer, x, weight, bias, *arguments, **options):
    """``peer`` takes x, weight and bias as tensors; arguments and options are the op's."""
    if name == "rms_norm":
        y, cache = engine.rms_norm(x, *arguments, weight, **options)
    elif name == "batch_norm":
        y, cache = engine.batch_norm(x, weight, bias, *arguments, **options)
    else:
        y, cache = getattr(engine, name)(x, *arguments, weight, bias, **options)
    given = [None if array is None else torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    expected = peer(*given)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-11, atol=1e-12)
    dy = numpy.random.default_rng(1).standard_normal(x.shape)
    expected.backward(torch.tensor(dy))
    found = getattr(engine, f"{name}_backward")(dy, cache)
    for gradient, tensor in zip(found, given, strict=False):
        assert (gradient is None) == (tensor is None)
        if tensor is not None:
            numpy.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-10, atol=1e-11)
    return cache


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


AFFINE = [(True, True), (True, False), (False, True), (False, False)]


def parameters(rng, shape, affine):
    return [rng.standard_normal(shape) if wanted else None for wanted in affine]


@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 7), (5, 4, 6, 7), (2, 17, 32, 31), (40, 19, 3, 3), (2, 3, 2, 4, 5)])
def test_batch_norm(host_engine, rng, shape, affine):
    x, (weight, bias) = 2 + 3 * rng.standard_normal(shape), parameters(rng, shape[1:2], affine)
    running = rng.standard_normal(shape[1:2]), rng.uniform(0.5, 2, shape[1:2])
    compare(
        host_engine,
        "batch_norm",
        lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, training=True, eps=1e-3),
        *(x, weight, bias),
        eps=1e-3,
    )
    compare(
        host_engine,
        "batch_norm",
        lambda x, weight, bias: F.batch_norm(x, *map(torch.tensor, running), weight, bias, training=False),
        *(x, weight, bias, *running),
        training=False,
    )


@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize(
    ("shape", "last"), [((6, 4), (4,)), ((5, 3, 300), (300,)), ((3, 4, 6, 7), (4, 6, 7)), ((9,), (9,))]
)
def test_layer_norm(host_engine, rng, shape, last, affine):
    x, (weight, bias) = 2 + 3 * rng.standard_normal(shape), parameters(rng, last, affine)
    compare(
        host_engine,
        "layer_norm",
        lambda x, weight, bias: F.layer_norm(x, last, weight, bias, eps=1e-3),
        *(x, weight, bias, last),
        eps=1e-3,
    )


@pytest.mark.parametrize("affine", AFFINE)
@pytest.mark.parametrize(("shape", "groups"), [((3, 6), 2), ((3, 6, 5), 3), ((5, 8, 6, 7), 2), ((2, 4, 30, 31), 4)])
def test_group_norm(host_engine, rng, shape, groups, affine):
    x, (weight, bias) = 2 + 3 * rng.standard_normal(shape), parameters(rng, shape[1:2], affine)
    compare(
        host_engine,
        "group_norm",
        lambda x, weight, bias: F.group_norm(  # torch's backward fails with a bias alone
            x, groups, torch.ones(shape[1], dtype=x.dtype) if weight is None else weight, bias, eps=1e-3
        ),
        *(x, weight, bias, groups),
        eps=1e-3,
    )


@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("shape", "last"), [((6, 4), (4,)), ((5, 3, 300), (300,)), ((3, 4, 6, 7), (6, 7))])
def test_rms_norm(host_engine, rng, shape, last, weighted, eps):
    x, (weight, _) = 2 + 3 * rng.standard_normal(shape), parameters(rng, last, (weighted, False))
    compare(
        host_engine,
        "rms_norm",
        lambda x, weight, bias: F.rms_norm(x, last, weight, eps),
        *(x, weight, None, last),
        eps=eps,
    )


# layers -------------------------------------------------------------------------------------------------------------

LAYERS = [
    (lambda: dl.BatchNorm1d(5, dtype="float64"), lambda: torch.nn.BatchNorm1d(5), (8, 5)),
    (
        lambda: dl.BatchNorm1d(5, eps=0.1, momentum=None, dtype="float64"),
        lambda: torch.nn.BatchNorm1d(5, eps=0.1, momentum=None),
        (4, 5, 7),
    ),
    (
        lambda: dl.BatchNorm2d(4, momentum=0.3, dtype="float64"),
        lambda: torch.nn.BatchNorm2d(4, momentum=0.3),
        (4, 4, 5, 6),
    ),
    (
        lambda: dl.BatchNorm2d(4, affine=False, dtype="float64"),
        lambda: torch.nn.BatchNorm2d(4, affine=False),
        (4, 4, 5, 6),
    ),
    (
        lambda: dl.BatchNorm2d(4, track_running_stats=False, dtype="float64"),
        lambda: torch.nn.BatchNorm2d(4, track_running_stats=False),
        (4, 4, 5, 6),
    ),
    (lambda: dl.LayerNorm((3, 4), dtype="float64"), lambda: torch.nn.LayerNorm((3, 4)), (5, 3, 4)),
    (lambda: dl.LayerNorm(4, bias=False, dtype="float64"), lambda: torch.nn.LayerNorm(4, bias=False), (5, 3, 4)),
    (lambda: dl.GroupNorm(2, 6, dtype="float64"), lambda: torch.nn.GroupNorm(2, 6), (3, 6, 4)),
    (lambda: dl.BatchNorm1d(5, bias=False, dtype="float64"), lambda: torch.nn.BatchNorm1d(5, bias=False), (8, 5)),
    (lambda: dl.BatchNorm2d(4, bias=False, dtype="float64"), lambda: torch.nn.BatchNorm2d(4, bias=False), (4, 4, 5, 6)),
    (lambda: dl.GroupNorm(2, 6, bias=False, dtype="float64"), lambda: torch.nn.GroupNorm(2, 6, bias=False), (3, 6, 4)),
    (lambda: dl.RMSNorm(4, dtype="float64"), lambda: torch.nn.RMSNorm(4), (5, 4)),
]


@pytest.mark.parametrize(("make", "make_peer", "shape"), LAYERS)
def test_layer_and_its_state_over_three_batches(host_engine, rng, tmp_path, make, make_peer, shape):
    """Start from PyTorch's state, train on three batches, evaluate on a fourth, and hand the state back."""
    peer = make_peer().double()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.copy_(torch.tensor(rng.uniform(0.5, 2, parameter.shape)))
    with dl.use(host_engine):
        layer = make()
        safetensors.torch.save_file(peer.state_dict(), tmp_path / "theirs.safetensors")
        layer.load(tmp_path / "theirs.safetensors")
        for step in range(4):
            if step == 3:
                layer.eval(), peer.eval()
            x, dy = 1 + 2 * rng.standard_normal((2, *shape))
            given = torch.tensor(x, requires_grad=True)
            expected = peer(given)
            numpy.testing.assert_allclose(layer.forward(x), expected.detach().numpy(), rtol=1e-10, atol=1e-11)
            expected.backward(torch.tensor(dy))
            numpy.testing.assert_allclose(layer.backward(dy), given.grad.numpy(), rtol=1e-9, atol=1e-10)
        for name, parameter in peer.named_parameters():
            numpy.testing.assert_allclose(getattr(layer, name).grad, parameter.grad.numpy(), rtol=1e-9, atol=1e-10)
        layer.save(tmp_path / "ours.safetensors")
    theirs = peer.state_dict()
    ours = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    assert list(theirs) == list(layer.state_dict())
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        torch.testing.assert_close(ours[name], value, rtol=1e-11, atol=1e-12)
    make_peer().double().load_state_dict(ours)
