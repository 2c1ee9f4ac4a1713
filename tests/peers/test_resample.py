"""Padding, upsampling and the dropout of channels against PyTorch's, over drawn settings."""

import numpy
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from minidl import ops  # noqa: E402

pytestmark = pytest.mark.peers


def compare(name, peer, x, *args, **kwargs):
    given = torch.from_numpy(x).requires_grad_()
    expected = peer(given)
    y, cache = getattr(ops, name)(x, *args, **kwargs)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if x.dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    numpy.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    dy = numpy.random.default_rng(1).normal(size=y.shape).astype(x.dtype)
    expected.backward(torch.from_numpy(dy))
    numpy.testing.assert_allclose(getattr(ops, f"{name}_backward")(dy, cache), given.grad.numpy(), **tolerance)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(mode):
    generator = numpy.random.default_rng(0)
    for _ in range(30):
        axes = int(generator.integers(1, 3))
        x = generator.normal(size=(2, 3, *map(int, generator.integers(4, 9, axes))))
        padding = tuple(map(int, generator.integers(0, 4, 2 * axes)))
        compare("pad", lambda t, padding=padding: F.pad(t, padding, mode), x, padding, mode)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "align_corners"),
    [
        ("upsample_nearest", None),
        ("upsample_nearest_exact", None),
        ("upsample_bilinear", False),
        ("upsample_bilinear", True),
    ],
)
def test_upsample(name, align_corners, dtype):
    generator = numpy.random.default_rng(0)
    options = {} if align_corners is None else {"align_corners": align_corners}
    for step in range(40):
        axes = int(generator.integers(1, 3))
        x = generator.normal(size=(2, 2, *map(int, generator.integers(1, 30, axes)))).astype(dtype)
        repeats = "nearest-exact" if name.endswith("exact") else "nearest"
        mode = repeats if align_corners is None else "bilinear" if axes == 2 else "linear"
        if step % 2:
            how = {"size": tuple(map(int, generator.integers(1, 60, axes)))}
        else:
            how = {"scale_factor": tuple(float(f) for f in generator.uniform(1.0, 4.0, axes).round(2))}
        if align_corners and "scale_factor" in how and not step % 4:
            how = {"scale_factor": (2.0,) * axes}
        compare(name, lambda t, mode=mode, how=how: F.interpolate(t, mode=mode, **how, **options), x, **how, **options)


def test_dropout2d_drops_channels_as_theirs_does():
    torch.manual_seed(0)
    x = torch.randn(6, 8, 3, 3, dtype=torch.float64)
    theirs = F.dropout2d(x, 0.4, training=True)
    mask = (theirs != 0).any(dim=3, keepdim=True).any(dim=2, keepdim=True).numpy()
    numpy.testing.assert_allclose(ops.dropout2d(x.numpy(), 0.4, mask)[0], theirs.numpy(), rtol=1e-14)
    assert "dropout2d" in ops.FORMULAS
    assert "pad" in ops.FORMULAS
