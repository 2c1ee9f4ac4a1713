"""The kernels of normalisation against the formulas: lengths around vectors and blocks, layouts, special values, threads."""

from pathlib import Path

import numpy
import pytest
from fresh_python import run_on

import minidl as dl
from minidl import errors, ops
from minidl.engines import native

if not native.status():
    pytest.skip(str(native.status()), allow_module_level=True)

NATIVE = dl.engines.get("native")
ROWS = ("layer_norm", "rms_norm")
LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 66, 127, 128, 129]
LONG = [1023, 1024, 1025, 2047, 2048, 2049, 65535, 65536, 65537]
CASES = {
    "batch_norm": ((3, 5, 7), (), (5,)),
    "layer_norm": ((6, 35), (35,), (35,)),
    "rms_norm": ((6, 35), (35,), (35,)),
    "group_norm": ((3, 6, 7), (2,), (6,)),
}


def drawn(shape, dtype, seed=0, mean=0.0):
    return (mean + numpy.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def spread(shape, dtype, seed=0):
    """Draw numbers of which no two neighbours are close, so that few of them have a variance that is far from 0 too."""
    x = drawn(shape, "float64", seed)
    sign = numpy.where(numpy.arange(x.size) % 2, 1.0, -1.0).reshape(shape)
    return (0.5 + sign * (1 + abs(x))).astype(dtype)


def parameters(name, shape, dtype):
    """Return the weight, and the bias where the op has one."""
    return [drawn(shape, dtype, seed) for seed in (11, 12)[: 1 if name == "rms_norm" else 2]]


def results(engine, name, x, arguments, dy):
    """Return y, what the cache says of the statistics, and the gradients."""
    y, cache = engine[name](x, *arguments)
    gradients = engine[f"{name}_backward"](dy, cache)
    return [y, *[part for part in cache[3:] if hasattr(part, "dtype")], *[g for g in gradients if g is not None]]


def check(name, x, arguments, dy, terms=1):
    """The kernel in its dtype against the formula in float64 on the same numbers."""

    def widened(values):
        return [a.astype("float64") if hasattr(a, "dtype") else a for a in values]

    if name == "rms_norm":
        arguments = [*arguments, 1e-6]  # what is left out depends on the dtype
    found = results(vars(NATIVE), name, x, arguments, dy)
    [wide_x, wide_dy] = widened([x, dy])
    expected = results(ops.FORMULAS, name, wide_x, widened(arguments), wide_dy)
    epsilon = numpy.finfo(x.dtype).eps
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == x.dtype
        assert one.shape == other.shape
        scale = max(1.0, float(abs(other).max()))
        numpy.testing.assert_allclose(one, other, rtol=0, atol=epsilon * scale * (24 + 2 * terms**0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_every_length(name, dtype):
    for length in LENGTHS:
        for rows in (1, 2, 3, 4, 5, 9):
            x, dy = spread((rows, length), dtype, 1), drawn((rows, length), dtype, 2)
            check(name, x, [length, *parameters(name, length, dtype)], dy, length)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("length", LONG)
def test_long_rows(name, length, dtype):
    x, dy = spread((3, length), dtype, 1), drawn((3, length), dtype, 2)
    check(name, x, [length, *parameters(name, length, dtype)], dy, length)


@pytest.mark.parametrize("rows", [63, 64, 65, 127, 128, 129, 1000, 4097])
@pytest.mark.parametrize("name", ROWS)
def test_many_rows(name, rows):
    """Around the blocks in which the gradients of the parameters are summed, and in several threads."""
    x, dy = spread((rows, 130), "float32", 1), drawn((rows, 130), "float32", 2)
    check(name, x, [130, *parameters(name, 130, "float32")], dy, rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 1), (6, 2), (6, 6)])
def test_groups_of_every_length(channels, groups, dtype):
    for positions in (*LENGTHS, 1023, 1025):
        x, dy = spread((3, channels, positions), dtype, 1), drawn((3, channels, positions), dtype, 2)
        check("group_norm", x, [groups, *parameters("group_norm", channels, dtype)], dy, channels * positions)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 6])
def test_channels_of_every_length(channels, dtype):
    for positions in (*LENGTHS, 511, 512, 513, 1025):
        x, dy = spread((3, channels, positions), dtype, 1), drawn((3, channels, positions), dtype, 2)
        check("batch_norm", x, parameters("batch_norm", channels, dtype), dy, 3 * positions)


@pytest.mark.parametrize("name", CASES)
def test_without_parameters(name):
    shape, settings, _ = CASES[name]
    check(
        name, drawn(shape, "float32", 1), [*settings, *[None] * (name != "rms_norm"), None], drawn(shape, "float32", 2)
    )


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm"])
@pytest.mark.parametrize("missing", [0, 1])
def test_with_one_of_the_parameters(name, missing):
    shape, settings, own = CASES[name]
    both = parameters(name, own, "float32")
    both[missing] = None
    check(name, drawn(shape, "float32", 1), [*settings, *both], drawn(shape, "float32", 2))


@pytest.mark.parametrize("name", CASES)
def test_strided_arrays(name):
    """Every second number, axes in another order, dy of one number everywhere: as of a copy without gaps."""
    shape, settings, own = CASES[name]
    arguments = [*settings, *parameters(name, own, "float32")]
    x, dy = drawn(shape, "float32", 1), drawn(shape, "float32", 2)
    expected = results(vars(NATIVE), name, x, arguments, dy)
    views = [
        numpy.repeat(x, 2, axis=-1)[..., ::2],
        numpy.asfortranarray(x),
        numpy.concatenate([x, x])[: len(x)][::-1].copy()[::-1],
    ]
    for view in views:
        for one, other in zip(results(vars(NATIVE), name, view, arguments, dy), expected, strict=True):
            numpy.testing.assert_array_equal(one, other)
    constant = numpy.broadcast_to(numpy.float32(0.5), shape)
    for one, other in zip(
        results(vars(NATIVE), name, x, arguments, constant),
        results(vars(NATIVE), name, x, arguments, constant.copy()),
        strict=True,
    ):
        numpy.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("special", [numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("name", CASES)
def test_special_values_spread_as_in_the_formula(name, special):
    """One of them in x, in a parameter or in dy: the same elements become nan or infinite."""
    shape, settings, own = CASES[name]
    for place in range(4 - (name == "rms_norm")):
        arrays = [drawn(shape, "float32", 1), *parameters(name, own, "float32"), drawn(shape, "float32", 2)]
        arrays[place].flat[4] = special
        x, *own_arrays, dy = arrays
        with numpy.errstate(all="ignore"):
            found = results(vars(NATIVE), name, x, [*settings, *own_arrays], dy)
            expected = results(ops.FORMULAS, name, x, [*settings, *own_arrays], dy)
        for one, other in zip(found, expected, strict=True):
            numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        assert not all(numpy.isfinite(array).all() for array in found)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_numbers_far_from_one(name, factor):
    shape, settings, _ = CASES[name]
    x = drawn(shape, "float32", 1) * numpy.float32(factor)
    y, _ = getattr(NATIVE, name)(x, *settings, eps=0.0)
    exact, _ = ops.FORMULAS[name](x.astype("float64"), *settings, eps=0.0)
    numpy.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [40, 2049, 65536, 65537])
@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "batch_norm"])
def test_a_mean_that_the_first_numbers_do_not_show(name, length):
    """The mean is far from 0, and the row begins with numbers far from it: both cost a sum of squares its digits."""
    x = drawn((1, 1, length), "float32", 1, mean=1000.0)
    x[..., : length // 8] -= 5000
    arguments = {"layer_norm": (length,), "group_norm": (1,), "batch_norm": ()}[name]
    y, _ = getattr(NATIVE, name)(x, *arguments)
    exact, _ = ops.FORMULAS[name](x.astype("float64"), *arguments)
    numpy.testing.assert_allclose(y, exact, atol=2e-6)


BIG = {
    "batch_norm": ((8, 24, 33, 31), (), 24),
    "layer_norm": ((301, 517), (517,), 517),
    "rms_norm": ((301, 517), (517,), 517),
    "group_norm": ((7, 24, 33, 31), (4,), 24),
}


@pytest.mark.parametrize("name", BIG)
def test_threads(name):
    """The same number of threads gives the same bits, and any number the same y and dx but for the sums over rows."""
    shape, settings, own = BIG[name]
    x, dy = drawn(shape, "float32", 1, 0.5), drawn(shape, "float32", 2, 0.5)
    arguments = [*settings, *parameters(name, own, "float32")]
    before, found = dl.get_num_threads(), []
    for threads in (1, 2, 3, 2):
        dl.set_num_threads(threads)
        found.append(results(vars(NATIVE), name, x, arguments, dy))
    dl.set_num_threads(before)
    for one, other in zip(found[1], found[3], strict=True):
        numpy.testing.assert_array_equal(one, other)
    for other in found[1:3]:
        for one, two in zip(found[0], other, strict=True):
            if one.shape == (own,):
                numpy.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-4)
            else:
                numpy.testing.assert_array_equal(one, two)
    check(name, x, arguments, dy, max(x.size // own, own))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa):
    code = """
import test_norm as t
for dtype in ("float32", "float64"):
    for name in t.ROWS:
        t.test_rows_of_every_length(name, dtype)
        t.test_long_rows(name, 2049, dtype)
    t.test_groups_of_every_length(6, 2, dtype)
    t.test_channels_of_every_length(6, dtype)
for name in t.CASES:
    t.test_special_values_spread_as_in_the_formula(name, t.numpy.inf)
    t.test_threads(name)
for length in (2049, 65537):
    t.test_a_mean_that_the_first_numbers_do_not_show("layer_norm", length)
print("right")
"""
    assert run_on(isa, code, Path(__file__).parent) == "right"


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_the_formulas_to_refuse(name):
    shape, settings, own = CASES[name]
    x = drawn(shape, "float32", 1)
    with pytest.raises(dl.MinidlError, match=f"{name}: weight must have"):
        getattr(NATIVE, name)(x, *settings, drawn((2, *own), "float32"))
    with pytest.raises(dl.MinidlError, match=f"{name}: weight .*float64"):
        getattr(NATIVE, name)(x, *settings, drawn(own, "float64"))
    y, cache = getattr(NATIVE, name)(x, *settings)
    for dy in (y[:1], y[..., :3], y.astype("float64"), y[0]):
        with pytest.raises(dl.MinidlError, match=f"{name}_backward: dy must have"):
            getattr(NATIVE, f"{name}_backward")(dy, cache)


def test_settings_that_do_not_fit_are_the_formulas_to_refuse():
    x = drawn((3, 6, 5), "float32")
    for shape in ((), (6,), (5, 6), (1, 3, 6, 5), 4):
        for name in ROWS:
            with pytest.raises(errors.ShapeError, match="last axes"):
                getattr(NATIVE, name)(x, shape)
    for groups in (0, -2, 4, 7):
        with pytest.raises(errors.ParameterError, match="cannot be divided"):
            NATIVE.group_norm(x, groups)
