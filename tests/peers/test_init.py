"""Initialisers against PyTorch's: bounds, standard deviations, fans and gains."""

import numpy
import pytest

torch = pytest.importorskip("torch")

from minidl import init  # noqa: E402

pytestmark = pytest.mark.peers

NAMES = ["xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"]


@pytest.mark.parametrize("shape", [(200, 300), (30, 40, 5, 5)])
@pytest.mark.parametrize("name", NAMES)
def test_spread(name, shape):
    theirs = getattr(torch.nn.init, f"{name}_")(
        torch.empty(shape, dtype=torch.float64), generator=torch.Generator().manual_seed(0)
    ).numpy()
    ours = init.get(name)(shape, dtype="float64", generator=numpy.random.default_rng(0))
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)
    if "uniform" in name:
        assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=1e-3)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("nonlinearity", ["relu", "leaky_relu", "tanh", "linear"])
def test_kaiming_settings(mode, nonlinearity):
    settings = {"a": 0.3, "mode": mode, "nonlinearity": nonlinearity}
    theirs = torch.nn.init.kaiming_uniform_(
        torch.empty(200, 300, dtype=torch.float64), **settings, generator=torch.Generator().manual_seed(0)
    )
    ours = init.kaiming_uniform((200, 300), **settings, dtype="float64", generator=numpy.random.default_rng(0))
    assert abs(ours).max() == pytest.approx(float(theirs.abs().max()), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "param"),
    [(n, None) for n in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu")] + [("leaky_relu", 0.3)],
)
def test_gain(name, param):
    assert init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param), rel=1e-15)


@pytest.mark.parametrize("shape", [(2, 3), (4, 5, 3), (4, 5, 3, 2)])
def test_fans(shape):
    assert init.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
