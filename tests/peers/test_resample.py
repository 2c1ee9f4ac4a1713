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


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("name", "mode"), [("upsample_bilinear", "bilinear"), ("upsample_bicubic", "bicubic")])
def test_filtered(name, mode, align_corners, antialias):
    """Larger and smaller, by sizes and by broken factors.

    Where a factor leaves a size as it is, PyTorch's backward is not that of its forward, and its filter against aliasing is
    wrong for images that become one pixel wide; its own gradients show both. So neither is drawn here.
    """
    generator = numpy.random.default_rng(0)
    options = {"align_corners": align_corners, "antialias": antialias}
    for step in range(40):
        x = generator.normal(size=(2, 2, *map(int, generator.integers(5, 30, 2))))
        how = {"size": tuple(map(int, generator.integers(2, 60, 2)))}
        if step % 2:
            up, down = generator.uniform(1.3, 4.0, 2).round(2), generator.uniform(0.4, 0.8, 2).round(2)
            how = {"scale_factor": tuple(map(float, numpy.where(generator.random(2) < 0.5, up, down)))}
        compare(
            name,
            lambda t, how=how: F.interpolate(t, mode=mode, **how, **options),
            *(x,),
            **how,
            **options,
        )


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_sizes_that_a_factor_leaves(mode):
    """The values, which with the filter against aliasing are those of x; without it PyTorch resamples cubically all the same."""
    x = numpy.random.default_rng(0).normal(size=(1, 2, 3, 17))
    for options in ({"antialias": True}, {"align_corners": False}):
        for factor in (1.2, (1.2, 0.5)):
            expected = F.interpolate(torch.from_numpy(x), scale_factor=factor, mode=mode, **options).numpy()
            y, _ = getattr(ops, f"upsample_{mode}")(x, None, factor, **options)
            numpy.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_dropout2d_drops_channels_as_theirs_does():
    torch.manual_seed(0)
    x = torch.randn(6, 8, 3, 3, dtype=torch.float64)
    theirs = F.dropout2d(x, 0.4, training=True)
    mask = (theirs != 0).any(dim=3, keepdim=True).any(dim=2, keepdim=True).numpy()
    numpy.testing.assert_allclose(ops.dropout2d(x.numpy(), 0.4, mask)[0], theirs.numpy(), rtol=1e-14)
    assert "dropout2d" in ops.FORMULAS
    assert "pad" in ops.FORMULAS
