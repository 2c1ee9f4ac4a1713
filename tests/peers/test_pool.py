"""Poolings against PyTorch's: values, shapes, and where the gradient goes, over drawn settings."""

import numpy
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from minidl import engines  # noqa: E402

pytestmark = pytest.mark.peers


def compare(engine, name, x, *args, **kwargs):
    """Compare y and dx; returns False where PyTorch refuses the arguments, in which case so must we."""
    given = torch.from_numpy(x).requires_grad_()
    try:
        expected = getattr(F, name)(given, *args, **kwargs)
    except RuntimeError:
        with pytest.raises(ValueError, match=name):
            getattr(engine, name)(x, *args, **kwargs)
        return False
    y, cache = getattr(engine, name)(x, *args, **kwargs)
    tolerance = {"rtol": 2e-5, "atol": 2e-6} if x.dtype == "float32" else {"rtol": 1e-12, "atol": 1e-13}
    numpy.testing.assert_allclose(y, expected.detach().numpy(), **tolerance)
    dy = numpy.random.default_rng(1).normal(size=y.shape).astype(x.dtype)
    expected.backward(torch.from_numpy(dy))
    dx = getattr(engine, f"{name}_backward")(dy, cache)
    numpy.testing.assert_allclose(dx, given.grad.numpy(), **tolerance)
    return True


def drawn(generator, axes, name):
    kernel = generator.integers(1, 6, axes)
    settings = {
        "kernel_size": kernel,
        "stride": generator.integers(1, 5, axes),
        "padding": generator.integers(0, kernel // 2 + 1),
    }
    if name.startswith("max"):
        settings["dilation"] = generator.integers(1, 3, axes)
    settings = {key: tuple(map(int, value)) for key, value in settings.items()}
    settings["ceil_mode"] = bool(generator.integers(2))
    if name.startswith("avg"):
        settings["count_include_pad"] = bool(generator.integers(2))
    return settings


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"])
def test_random_settings(host_engine, name, dtype):
    axes = int(name[-2])
    generator = numpy.random.default_rng(axes)
    agreed = 0
    for _ in range(120):
        shape = tuple(map(int, (*generator.integers(1, 4, 2), *generator.integers(1, 20, axes))))
        x = generator.normal(size=shape).astype(dtype)
        agreed += compare(host_engine, name, x, **drawn(generator, axes, name))
    assert agreed > 80


@pytest.mark.parametrize("settings", [(2, 2), (3, 2, 1), (3, 1, 1), (5, 3, 2), ((1, 2), 2)])
@pytest.mark.parametrize("width", [7, 8, 15, 16, 17, 31, 33, 64, 67])
def test_ties_and_special_values(host_engine, settings, width):
    """Small whole numbers, so that most windows have ties; nan and both infinities among them."""
    generator = numpy.random.default_rng(width)
    x = generator.integers(-2, 3, (2, 3, 9, width)).astype("float32")
    compare(host_engine, "max_pool2d", x, *settings)
    special = generator.choice([numpy.nan, numpy.inf, -numpy.inf, 0.0], x.shape).astype("float32")
    compare(host_engine, "max_pool2d", numpy.where(generator.random(x.shape) < 0.2, special, x), *settings)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adaptive(host_engine, dtype):
    generator = numpy.random.default_rng(0)
    for size in (1, 2, 5, 7, 12, (3, None), (None, 4), (1, 9), (8, 1)):
        x = generator.normal(size=(2, 3, *map(int, generator.integers(1, 20, 2)))).astype(dtype)
        compare(host_engine, "adaptive_avg_pool2d", x, size)
        if isinstance(size, int):
            compare(host_engine, "adaptive_avg_pool1d", x[:, :, 0], size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adaptive_max(host_engine, dtype):
    generator = numpy.random.default_rng(0)
    for size in (1, 2, 5, 7, 12, (3, None), (None, 4), (1, 9), (8, 1)):
        x = generator.normal(size=(2, 3, *map(int, generator.integers(1, 20, 2)))).astype(dtype)
        for values in (x, x.round()):  # the second with ties
            compare(host_engine, "adaptive_max_pool2d", values, size)
        positions = F.adaptive_max_pool2d(torch.tensor(x), size, return_indices=True)[1]
        numpy.testing.assert_array_equal(host_engine.adaptive_max_pool2d(x, size)[1][0], positions.numpy())
        if isinstance(size, int):
            compare(host_engine, "adaptive_max_pool1d", x[:, :, 0], size)


def test_half_precision():
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0)).half()
    for name, args in (("max_pool2d", (3, 2, 1)), ("avg_pool2d", (3, 2, 1)), ("adaptive_avg_pool2d", (2,))):
        y, _ = getattr(engines.get("numpy"), name)(x.numpy(), *args)
        numpy.testing.assert_allclose(y, getattr(F, name)(x, *args).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("axes", "pool", "unpool"), [(1, "max_pool1d", "max_unpool1d"), (2, "max_pool2d", "max_unpool2d")]
)
def test_indices_and_unpooling(host_engine, axes, pool, unpool):
    """The indices, of equal elements too; then back to images of the same size, by PyTorch's indices and ours."""
    generator = numpy.random.default_rng(0)
    for _ in range(30):
        x = generator.integers(0, 5, size=(2, 3, *generator.integers(5, 14, axes))).astype("float64")
        kernel = tuple(map(int, generator.integers(1, 5, axes)))
        padding = tuple(int(generator.integers(0, k // 2 + 1)) for k in kernel)
        theirs, places = getattr(F, pool)(torch.from_numpy(x), kernel, None, padding, return_indices=True)
        (y, indices), _ = getattr(host_engine, pool)(x, kernel, None, padding, return_indices=True)
        numpy.testing.assert_array_equal(y, theirs.numpy())
        numpy.testing.assert_array_equal(indices, places.numpy())
        values = generator.normal(size=y.shape)
        given = torch.from_numpy(values).requires_grad_()
        size = x.shape if generator.random() < 0.7 else None
        try:
            expected = getattr(F, unpool)(given, places, kernel, None, padding, size)
        except (RuntimeError, ValueError):
            with pytest.raises(ValueError, match="output_size|indices must be from 0"):
                getattr(host_engine, unpool)(values, indices, kernel, None, padding, size)
            continue
        back, cache = getattr(host_engine, unpool)(values, indices, kernel, None, padding, size)
        numpy.testing.assert_array_equal(back, expected.detach().numpy())
        dy = generator.normal(size=back.shape)
        expected.backward(torch.from_numpy(dy))
        found = getattr(host_engine, f"{unpool}_backward")(dy, cache)
        numpy.testing.assert_array_equal(found, given.grad.numpy())


def test_indices_of_adaptive_windows(host_engine):
    x = numpy.random.default_rng(0).integers(0, 5, size=(2, 3, 7, 9)).astype("float64")
    for size in (1, (3, 4), (7, 2)):
        (y, indices), _ = host_engine.adaptive_max_pool2d(x, size, return_indices=True)
        theirs, places = F.adaptive_max_pool2d(torch.from_numpy(x), size, return_indices=True)
        numpy.testing.assert_array_equal(y, theirs.numpy())
        numpy.testing.assert_array_equal(indices, places.numpy())
