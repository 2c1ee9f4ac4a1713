"""Attention in tiles: more keys and queries than a tile has, any number of threads, heads read in place, numbers that are not finite."""

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
