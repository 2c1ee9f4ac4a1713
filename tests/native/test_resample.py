"""The kernels of padding and upsampling at widths around the lengths of vectors, against the formulas."""

import numpy
import pytest

import minidl as dl
from minidl import ops
from minidl.engines import native

if not native.status():
    pytest.skip(str(native.status()), allow_module_level=True)

NATIVE = dl.engines.get("native")
SIZES = [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 50]
SCALES = [
    {"scale_factor": 2},
    {"scale_factor": (3, 1.7)},
    {"scale_factor": (1, 2)},
    {"size": (1, 40)},
    {"size": (9, 1)},
    {"size": (4, 5)},
]
OPS = [("upsample_nearest", {}), ("upsample_bilinear", {}), ("upsample_bilinear", {"align_corners": True})]


def both(name, x, *settings, **options):
    """Return y, the cache and dx of the kernel and of the formula."""
    found = []
    for engine in (vars(NATIVE), ops.FORMULAS):
        y, cache = engine[name](x, *settings, **options)
        dy = numpy.random.default_rng(0).normal(size=y.shape).astype(x.dtype)
        found.append((y, cache, engine[f"{name}_backward"](dy, cache)))
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize(("name", "options"), OPS)
def test_images(name, options, scale, dtype):
    eps = numpy.finfo(dtype).eps
    for width in SIZES:
        x = numpy.random.default_rng(width).normal(size=(2, 3, 6, width)).astype(dtype)
        (y, cache, dx), (formula_y, formula_cache, formula_dx) = both(name, x, **scale, **options)
        assert cache == formula_cache
        numpy.testing.assert_allclose(y, formula_y, rtol=0, atol=0 if name == "upsample_nearest" else 32 * eps)
        numpy.testing.assert_allclose(dx, formula_dx, rtol=0, atol=400 * eps)


@pytest.mark.parametrize(("name", "options"), OPS)
def test_sequences(name, options):
    for length in SIZES:
        x = numpy.random.default_rng(length).normal(size=(2, 3, length))
        (y, _, dx), (formula_y, _, formula_dx) = both(name, x, size=23, **options)
        numpy.testing.assert_allclose(y, formula_y, rtol=1e-14, atol=1e-14)
        numpy.testing.assert_allclose(dx, formula_dx, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("name", "options"), OPS)
def test_every_image_is_done_once_by_some_thread(name, options, threads):
    before = dl.get_num_threads()
    dl.set_num_threads(threads)
    try:
        x = numpy.random.default_rng(0).normal(size=(7, 11, 40, 40)).astype("float32")
        (y, _, dx), (formula_y, _, formula_dx) = both(name, x, scale_factor=2, **options)
    finally:
        dl.set_num_threads(before)
    numpy.testing.assert_allclose(y, formula_y, rtol=0, atol=1e-5)
    numpy.testing.assert_allclose(dx, formula_dx, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "options"), OPS)
def test_strided_arrays_are_read_as_they_are(name, options):
    x = numpy.random.default_rng(0).normal(size=(2, 5, 6, 3)).transpose(0, 3, 1, 2)[..., ::-1]
    (y, _, dx), (formula_y, _, formula_dx) = both(name, x, scale_factor=2, **options)
    numpy.testing.assert_allclose(y, formula_y, rtol=1e-14, atol=1e-14)
    numpy.testing.assert_allclose(dx, formula_dx, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("name", "options"), OPS)
@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf])
def test_what_is_not_finite_spoils_what_it_enters_and_no_more(name, options, bad):
    x = numpy.random.default_rng(0).normal(size=(1, 2, 6, 7))
    x[0, 1, 2, 3] = bad
    (y, cache, _), (formula_y, _, _) = both(name, x, size=(11, 12), **options)
    numpy.testing.assert_array_equal(numpy.isfinite(y), numpy.isfinite(formula_y))
    dy = numpy.zeros_like(y)
    dy[0, 1, 4, 5] = bad
    backward = f"{name}_backward"
    dx, formula_dx = getattr(NATIVE, backward)(dy, cache), ops.FORMULAS[backward](dy, cache)
    numpy.testing.assert_array_equal(numpy.isfinite(dx), numpy.isfinite(formula_dx))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "padding", [(1, 1, 1, 1), (0, 3, 2, 0), (3, 0), (0, 0, 0, 2), (0, 0, 0, 0), (1, 0, 0, 1, 1, 1)], ids=str
)
def test_padding(padding, mode, dtype):
    for width in [4, *SIZES[3:]]:
        x = numpy.random.default_rng(width).integers(-9, 9, size=(2, 3, 5, width)).astype(dtype)  # sums are exact
        x[0, 0, 0, 0] = numpy.nan
        (y, cache, dx), (formula_y, formula_cache, formula_dx) = both("pad", x, padding, mode, 2.5)
        assert cache == formula_cache
        numpy.testing.assert_array_equal(y, formula_y)
        numpy.testing.assert_allclose(dx, formula_dx, rtol=0, atol=100 * numpy.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 0, 7), (0, 3, 4, 7), (2, 3, 2, 2, 4, 7), (5, 0)])
def test_padding_arrays_of_any_rank(shape):
    x = numpy.random.default_rng(0).normal(size=shape)
    (y, cache, dx), (formula_y, formula_cache, formula_dx) = both("pad", x, (2, 1))
    assert cache == formula_cache
    numpy.testing.assert_array_equal(y, formula_y)
    numpy.testing.assert_array_equal(dx, formula_dx)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_padding_by_several_threads(mode):
    before = dl.get_num_threads()
    dl.set_num_threads(3)
    try:
        x = numpy.random.default_rng(0).normal(size=(7, 11, 40, 40)).astype("float32").transpose(0, 1, 3, 2)
        (y, _, dx), (formula_y, _, formula_dx) = both("pad", x, 2, mode)
    finally:
        dl.set_num_threads(before)
    numpy.testing.assert_array_equal(y, formula_y)
    numpy.testing.assert_allclose(dx, formula_dx, rtol=0, atol=1e-5)
