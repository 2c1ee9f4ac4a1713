"""A block of a Transformer in one call: the bits of its ops, one after another, in every form that it has."""

import numpy
import pytest

import minidl as dl
from minidl import engines
from minidl.engines import compositions
from minidl.ops.stored import store_weight

pytestmark = pytest.mark.skipif(not engines.engines()["native"], reason=str(engines.engines()["native"]))


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


def one_by_one(*arguments):
    """Return what the ops of the native engine give."""
    return compositions.transformer_block(engines.get("native"), *arguments)


def drawn(random, width=24, hidden=40, dtype=None, bias=True):
    """Return the norms and maps of a block."""
    norms = [(*random.standard_normal((2, width), dtype="f"), 1e-5) for _ in range(2)]
    maps = []
    for out, into in ((3 * width, width), (width, width), (hidden, width), (width, hidden)):
        weight = random.standard_normal((out, into), dtype="f") * numpy.float32(into**-0.5)
        stored = (weight, None) if dtype is None else store_weight(weight, dtype)
        maps.append((*stored, random.standard_normal(out, dtype="f") if bias else None))
    return norms, maps


def copied(cache):
    return None if cache is None else (cache[0].copy(), cache[1].copy(), cache[2])


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("precision", ["highest", "bfloat16"])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize(("batch", "queries"), [(1, 1), (3, 1), (2, 20)])
def test_the_bits_of_its_ops(batch, queries, norm_first, precision, dtype, random):
    native = engines.get("native")
    x = random.standard_normal((batch, queries, 24), dtype="f")
    norms, maps = drawn(random, dtype=dtype)
    keys, values = random.standard_normal((2, batch, 4, 40, 6), dtype="f")
    padding = random.random((batch, 1, 1, queries)) < 0.8
    with dl.matmul_precision(precision):
        for mask, cache in (
            (None, None),
            (padding, None),
            (None, (keys, values, 7)),
            (None, (keys, values, 40 - queries)),
        ):
            for after in (("gelu", ("tanh",)), ("relu",), ("leaky_relu", (0.25,))):
                causal = cache is not None
                rest = (4, norm_first, causal, after[0], after[1] if len(after) > 1 else (), mask)
                one, other = copied(cache), copied(cache)
                found = native.transformer_block(x, norms, maps, *rest, one)
                numpy.testing.assert_array_equal(found, one_by_one(x, norms, maps, *rest, other))
                assert found.shape == x.shape
                for a, b in zip(one or (), other or (), strict=True):
                    numpy.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_block_that_is_worth_threads(threads, random):
    before = dl.get_num_threads()
    norms, maps = drawn(random, 96, 400)
    x = random.standard_normal((2, 150, 96), dtype="f")
    dl.set_num_threads(threads)
    try:
        found = engines.get("native").transformer_block(x, norms, maps, 3, False, False, "gelu")
        numpy.testing.assert_array_equal(found, one_by_one(x, norms, maps, 3, False, False, "gelu"))
    finally:
        dl.set_num_threads(before)


def test_what_the_kernel_does_not_take_goes_to_the_ops(random):
    native = engines.get("native")
    x = random.standard_normal((2, 5, 24), dtype="f")
    norms, maps = drawn(random, bias=False)
    plain = ((None, None, 1e-5), norms[1])
    for given, n, activation in (
        (x.astype("d"), [(None, None, 1e-5)] * 2, "relu"),
        (x[:, ::-1], norms, "relu"),
        (x, plain, "softmax"),
        (x, plain, "relu"),
    ):
        m = [(w.astype(given.dtype), s, b) for w, s, b in maps]
        found = native.transformer_block(given, n, m, 4, True, False, activation)
        numpy.testing.assert_array_equal(found, one_by_one(given, n, m, 4, True, False, activation))
        assert found.dtype == given.dtype


def test_what_is_not_finite_goes_to_the_formulas(random):
    norms, maps = drawn(random)
    x = random.standard_normal((2, 5, 24), dtype="f")
    for wrong in (numpy.nan, numpy.inf, 1e30):
        x[1, 2, 3] = wrong
        with numpy.errstate(all="ignore"):
            found = engines.get("native").transformer_block(x, norms, maps, 4, True, True, "gelu")
            numpy.testing.assert_array_equal(found, one_by_one(x, norms, maps, 4, True, True, "gelu"))


def test_wrong_sizes_are_errors(random):
    native = engines.get("native")
    norms, maps = drawn(random)
    x, cache = random.standard_normal((2, 5, 24), dtype="f"), numpy.zeros((2, 4, 8, 6), "f")
    wrong = [
        (x, norms, maps, 5, True, False, "gelu"),
        (x[..., :23].copy(), norms, maps, 4, True, False, "gelu"),
        (x, norms, [maps[0], maps[1], maps[3], maps[2]], 4, True, False, "gelu"),
        (x, norms, maps, 4, True, True, "gelu", (), None, (cache, cache.copy(), 4)),
        (x, norms, maps, 4, True, True, "gelu", ("sinh",)),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError):  # noqa: PT011 - each op says its own
            native.transformer_block(*arguments)
