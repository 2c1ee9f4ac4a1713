"""Kernels of recurrent networks beyond the catalogue: edges of tiles and vectors, threads, caches that somebody changed."""

import numpy
import pytest

import minidl as dl
from minidl import engines
from minidl.ops.precision import matmul_precision

if not engines.engines()["native"].available:
    pytest.skip("the native engine is missing", allow_module_level=True)
native, formulas = engines.get("native"), engines.get("numpy")

OPS = {"rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1)}  # gates and states


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


@pytest.fixture
def any_threads():
    before = dl.get_num_threads()
    yield dl.set_num_threads
    dl.set_num_threads(before)


def draw(rng, op, n, t, c, h, dtype):
    """Return arguments and upstream gradients."""
    gates, states = OPS[op]
    shapes = [(n, t, c), *[(n, h)] * states, (gates * h, c), (gates * h, h), (gates * h,), (gates * h,)]
    arguments = [rng.standard_normal(shape).astype(dtype) / max(1, shape[-1]) ** 0.5 for shape in shapes]
    dy = tuple(rng.standard_normal(shape).astype(dtype) for shape in [(n, t, h), *[(n, h)] * states])
    return [a.astype(dtype) for a in arguments], dy


def compare(op, arguments, dy, lengths, dtype):
    y, cache = getattr(native, op)(*arguments, lengths)
    expected, plain = getattr(formulas, op)(*[a.astype("float64") for a in arguments], lengths)
    found = getattr(native, f"{op}_backward")(dy, cache)
    exact = getattr(formulas, f"{op}_backward")(tuple(d.astype("float64") for d in dy), plain)
    for one, other in zip((*y, *found), (*expected, *exact), strict=True):
        scale = max(1.0, float(abs(other).max()))
        numpy.testing.assert_allclose(one, other, rtol=0, atol=100 * numpy.finfo(dtype).eps * scale)
    return y, found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("n", "t", "c", "h"),
    [(1, 3, 5, 1), (2, 2, 1, 15), (7, 3, 17, 16), (8, 2, 16, 17), (9, 2, 3, 48), (17, 2, 2, 49), (33, 2, 7, 100)],
)
def test_edges_of_tiles_and_vectors(rng, op, n, t, c, h, dtype):
    arguments, dy = draw(rng, op, n, t, c, h, dtype)
    compare(op, arguments, dy, None, dtype)
    compare(op, arguments, dy, rng.integers(1, t + 1, n), dtype)


@pytest.mark.parametrize("op", OPS)
def test_any_number_of_threads(rng, op, any_threads):
    """Each sequence is computed by one thread, whichever that is; products over all steps may differ in their last bits."""
    arguments, dy = draw(rng, op, 21, 9, 20, 70, "float32")
    lengths = rng.integers(1, 10, 21)
    first = None
    for threads in (1, 2, 3, 7):
        any_threads(threads)
        y, found = compare(op, arguments, dy, lengths, "float32")
        again, same = compare(op, arguments, dy, lengths, "float32")
        for one, other in zip((*y, *found), (*again, *same), strict=True):
            numpy.testing.assert_array_equal(one, other)
        first = first or y
        for one, other in zip(y, first, strict=True):
            numpy.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("op", OPS)
def test_products_of_bfloat16(rng, op, steps):
    """Operands rounded, sums in float32: what the formula has, and not what it has without rounding."""
    arguments, dy = draw(rng, op, 9, steps, 20, 33, "float32")
    results = {}
    for precision in ("highest", "bfloat16"):
        with matmul_precision(precision):
            for engine in (native, formulas):
                y, cache = getattr(engine, op)(*arguments)
                results[precision, engine.name] = [*y, *getattr(engine, f"{op}_backward")(dy, cache)]
    low = zip(results["bfloat16", "native"], results["bfloat16", "numpy"], results["highest", "numpy"], strict=True)
    for one, other, plain in low:
        scale = float(abs(other).max())
        assert abs(one - other).max() <= 1e-3 * scale  # a sum that differs in its last bit may round to a neighbour
        assert abs(plain - other).max() > 1e-4 * scale


@pytest.mark.parametrize("op", OPS)
def test_lengths_of_a_cache_that_somebody_changed_are_no_places_in_memory(rng, op):
    arguments, dy = draw(rng, op, 3, 4, 2, 5, "float32")
    for wrong in (10**12, -(10**12), 0):
        _, cache = getattr(native, op)(*arguments, numpy.array([4, 1, 2]))
        cache[1][...] = wrong
        getattr(native, f"{op}_backward")(dy, cache)  # whatever it gives


@pytest.mark.parametrize("op", OPS)
def test_the_lengths_that_were_given_may_change_afterwards(rng, op):
    arguments, dy = draw(rng, op, 3, 4, 2, 5, "float32")
    lengths = numpy.array([4, 1, 2])
    _, cache = getattr(native, op)(*arguments, lengths)
    before = getattr(native, f"{op}_backward")(dy, cache)
    lengths[...] = 4
    for one, other in zip(getattr(native, f"{op}_backward")(dy, cache), before, strict=True):
        numpy.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("op", OPS)
def test_the_caches_are_each_others(rng, op):
    """The formula goes back through what the kernel left, and the kernel through what the formula left."""
    arguments, dy = draw(rng, op, 3, 4, 2, 5, "float64")
    lengths = numpy.array([4, 1, 2])
    _, ours = getattr(native, op)(*arguments, lengths)
    _, theirs = getattr(formulas, op)(*arguments, lengths)
    pairs = [getattr(engine, f"{op}_backward")(dy, cache) for engine in (native, formulas) for cache in (ours, theirs)]
    for other in pairs[1:]:
        for one, two in zip(pairs[0], other, strict=True):
            numpy.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-12)
