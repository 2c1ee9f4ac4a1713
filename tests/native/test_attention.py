"""Attention in tiles: more keys and queries than a tile has, any number of threads, heads read in place, numbers that are not finite."""

import tracemalloc

import numpy
import pytest

import minidl as dl
from minidl import engines
from minidl.layers.attention import split_heads

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

native, formulas = engines.get("native"), engines.get("numpy")
CASES = {
    "whole": {},
    "causal": {"is_causal": True},
    "window": {"is_causal": True, "window": 70, "offset": 90},
    "both sides": {"window": 40},
    "beyond the keys": {"is_causal": True, "window": 20, "offset": 300},
}


def draw(dtype, queries=130, keys=400, heads=2, key_heads=1):
    """Return query, key and value, and dy, as heads of joint projections."""
    random = numpy.random.default_rng(0)

    def heads_of(length, count, size):
        whole = random.normal(size=(1, length, 3 + count * size)).astype(dtype)
        return split_heads(whole[..., 3:], count)

    shapes = [(queries, heads, 33), (keys, key_heads, 33), (keys, key_heads, 20), (queries, heads, 20)]
    return [heads_of(*shape) for shape in shapes]


def run(engine, arrays, mask=None, **options):
    """Return y and the gradients."""
    *inputs, dy = arrays
    y, cache = engine.scaled_dot_product_attention(*inputs, mask, enable_gqa=True, **options)
    return [y, *engine.scaled_dot_product_attention_backward(dy, cache), cache[-1]]


def close(found, expected, dtype):
    for one, other in zip(found, expected, strict=True):
        finite = numpy.isfinite(other)
        numpy.testing.assert_array_equal(one[~finite], other[~finite])
        scale = numpy.abs(other[finite]).max(initial=1e-30)
        tolerance = 200 * numpy.finfo(dtype).eps
        numpy.testing.assert_allclose(one[finite], other[finite], rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_many_tiles_on_any_number_of_threads(name, dtype):
    arrays = draw(dtype)
    exact = run(formulas, [a.astype("float64") for a in arrays], **CASES[name])
    before, results = dl.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            dl.set_num_threads(threads)
            results.append(run(native, arrays, **CASES[name]))
    finally:
        dl.set_num_threads(before)
    close(results[0], exact, dtype)
    for other in results[1:]:
        for one, same in zip(other, results[0], strict=True):
            numpy.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("kind", ["boolean", "additive", "of keys"])
def test_masks_over_many_tiles(kind):
    arrays = draw("float32")
    random = numpy.random.default_rng(1)
    shape = (1, 1, 1, 400) if kind == "of keys" else (1, 2, 130, 400)
    mask = random.random(shape) < 0.3
    mask[..., 200:] &= kind != "boolean"  # whole blocks that nobody sees
    if kind == "additive":
        mask = numpy.where(mask, random.normal(size=shape), -numpy.inf).astype("float32")
    close(run(native, arrays, mask), run(formulas, arrays, mask), "float32")


def test_merging_heads_copies_nothing():
    y = run(native, draw("float32"))[0]
    assert y.transpose(0, 2, 1, 3).flags.c_contiguous


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_numbers_that_are_not_finite_give_what_the_formula_gives(place, value):
    arrays = [a.copy() for a in draw("float32", queries=80, keys=80)]
    arrays[place][0, 0, 70, 5] = value
    with numpy.errstate(all="ignore"):
        for one, other in zip(run(native, arrays, is_causal=True), run(formulas, arrays, is_causal=True), strict=True):
            numpy.testing.assert_array_equal(numpy.isnan(one), numpy.isnan(other))


def test_memory_grows_linearly():
    """A matrix of queries and keys would take 400 MB for each head."""
    random = numpy.random.default_rng(0)
    query, key, value = (random.normal(size=(1, 1, 10_000, 4)).astype("float32") for _ in range(3))
    y, cache = native.scaled_dot_product_attention(query, key, value, is_causal=True, window=300)
    assert sum(part.nbytes for part in cache if isinstance(part, numpy.ndarray)) < 2_000_000
    some = slice(9_700, 9_720)
    expected, _ = formulas.scaled_dot_product_attention(
        query[:, :, some], key[:, :, 9_000:], value[:, :, 9_000:], is_causal=True, window=300, offset=700
    )
    numpy.testing.assert_allclose(y[:, :, some], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["whole", "window"])
@pytest.mark.parametrize("keys", [400, 193])
def test_dropout_draws_what_the_formula_draws(name, dtype, keys):
    """In every tile, from a generator that has half a word left, on any number of threads; and leaves it where the formula does."""
    arrays = draw(dtype, keys=keys)
    shape, before, results = (1, 2, 130, keys), dl.get_num_threads(), []
    for kind in (numpy.random.PCG64, numpy.random.Philox):
        results.clear()
        for engine, threads in ((formulas, 1), (native, 1), (native, 3)):
            random = numpy.random.Generator(kind(7))
            random.random(3, dtype="float32")
            dl.set_num_threads(threads)
            try:
                results.append([*run(engine, arrays, dropout_p=0.3, random=random, **CASES[name]), random.random()])
            finally:
                dl.set_num_threads(before)
        close(results[1][:-2], results[0][:-2], dtype)
        assert results[0][-1] == results[1][-1] == results[2][-1]
        for one, other in zip(results[1], results[2], strict=True):
            numpy.testing.assert_array_equal(one, other)
    keep = numpy.random.default_rng(1).random(shape) < 0.6
    for mask in (keep, numpy.asfortranarray(keep)):
        options = {"dropout_p": 0.3, "random": mask, **CASES[name]}
        close(run(native, arrays, **options), run(formulas, arrays, **options), dtype)


@pytest.mark.parametrize("p", [1, 1.0, 0, 0.5])
def test_backward_draws_again_and_leaves_its_cache(p):
    *inputs, dy = draw("float32")
    y, cache = native.scaled_dot_product_attention(
        *inputs, None, p, enable_gqa=True, random=numpy.random.default_rng(2)
    )
    assert y.any() == (p < 1)
    first, second = (native.scaled_dot_product_attention_backward(dy, cache) for _ in range(2))
    by_formula = formulas.scaled_dot_product_attention_backward(dy, cache)
    for one, other in zip(first, second, strict=True):
        numpy.testing.assert_array_equal(one, other)
    close(first, by_formula, "float32")


def test_numbers_that_are_not_finite_take_the_same_draws():
    arrays = draw("float32")
    arrays[2][0, 0, 5, 1] = numpy.inf
    found = []
    for engine in (native, formulas):
        random = numpy.random.default_rng(3)
        found.append([*run(engine, arrays, dropout_p=0.5, random=random), random.random()])
    for one, other in zip(*found, strict=True):
        numpy.testing.assert_array_equal(one, other)


def test_dropout_keeps_nothing_of_the_size_of_the_weights():
    random = numpy.random.default_rng(0)
    query, key, value = random.normal(size=(3, 1, 2, 1500, 8)).astype("float32")
    tracemalloc.start()
    try:
        y, cache = native.scaled_dot_product_attention(query, key, value, None, 0.1, True, random=random)
        native.scaled_dot_product_attention_backward(y, cache)
        assert tracemalloc.get_traced_memory()[1] < 1500 * 1500 / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", CASES)
def test_products_in_bfloat16(name):
    """As the formula, but that a weight is rounded before it is divided by its row's sum, and dz after it is scaled.

    So each is off by two roundings of 2^-9, of terms that may be larger than their sum.
    """
    arrays = draw("float32")
    with dl.matmul_precision("bfloat16"):
        expected = run(formulas, arrays, **CASES[name])
        found = run(native, arrays, **CASES[name])
        before = dl.get_num_threads()
        dl.set_num_threads(3)
        try:
            shared = run(native, arrays, **CASES[name])
        finally:
            dl.set_num_threads(before)
        double = [a.astype("float64") for a in arrays]
        in_double = run(native, double, **CASES[name])
    for one, other in zip(in_double, run(native, double, **CASES[name]), strict=True):
        numpy.testing.assert_array_equal(one, other)
    plain = run(native, arrays, **CASES[name])
    for one, same, other, exact in zip(found, shared, expected, plain, strict=True):
        numpy.testing.assert_array_equal(one, same)
        finite = numpy.isfinite(other)
        numpy.testing.assert_array_equal(numpy.isfinite(one), finite)
        scale = numpy.abs(other[finite]).max(initial=1e-30)
        numpy.testing.assert_allclose(one[finite], other[finite], rtol=0, atol=2.0**-7 * scale)
        assert numpy.median(numpy.abs(one[finite] - other[finite])) < 2.0**-11 * scale
        if (one[finite] != 0).any():
            assert numpy.abs(one[finite] - exact[finite]).max() > 1e-4 * scale  # nothing was left in float32


def test_scores_and_their_sums_in_bfloat16():
    """Within a block of keys the scores have the formula's operands, so only their sums may differ."""
    *inputs, _ = draw("float32", keys=150)
    with dl.matmul_precision("bfloat16"):
        found, expected = (e.scaled_dot_product_attention(*inputs, enable_gqa=True)[1][-1] for e in (native, formulas))
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
