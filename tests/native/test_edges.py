"""Sizes around every blocking constant of the kernels other than products: vectors, blocks, threads, memory."""

import numpy
import pytest
from kernel_list import ACTIVATIONS

from minidl import engines

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

native, formulas = engines.get("native"), engines.get("numpy")

LANES = (2, 4, 8, 16)  # elements in a vector
SHORT = 4096  # elements from which the GIL is released
POOL = (8192, 4096)  # elements in 32 KiB, from which memory is recycled
THREADS = (16384, 65536)  # elements that are worth a thread
COLUMNS, ROWS = 128, 64  # the widest strip of the column sums, and its block of rows

edges = st.sampled_from([*LANES, 3 * 16, SHORT, *POOL, *THREADS, 2 * 16384, 2 * 65536])
sizes = st.builds(lambda edge, step: max(edge + step, 0), edges, st.sampled_from([-1, 0, 1]))
dtypes = st.sampled_from(["float32", "float64"])


def drawn(shape, dtype, seed):
    return numpy.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.fixture(autouse=True, scope="module")
def _two_threads():
    before = engines.get_num_threads()
    engines.set_num_threads(2)
    yield
    engines.set_num_threads(before)


@hypothesis.given(sizes, dtypes, st.integers(0, 15), st.sampled_from(ACTIVATIONS))
def test_activations(n, dtype, offset, op):
    """Every element is what it is in an array of its own, wherever the array begins."""
    x = drawn(n + offset, dtype, n)[offset:]
    dy = drawn(n + offset, dtype, n + 1)[offset:]
    y, cache = getattr(native, op)(x)
    dx = getattr(native, f"{op}_backward")(dy, cache)
    for at in {0, n // 2, n - 1} & set(range(n)):
        own, own_cache = getattr(native, op)(x[at : at + 1].copy())
        assert own[0] == y[at]
        assert getattr(native, f"{op}_backward")(dy[at : at + 1].copy(), own_cache)[0] == dx[at]
    close = {"rtol": 5e-6, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-13, "atol": 1e-14}
    numpy.testing.assert_allclose(y, getattr(formulas, op)(x)[0], **close)
    numpy.testing.assert_allclose(dx, getattr(formulas, f"{op}_backward")(dy, cache), **close)


@hypothesis.given(sizes, dtypes)
def test_losses_add_up_every_element_once(n, dtype):
    prediction = numpy.zeros(n + 1, dtype=dtype)
    prediction[-1] = 3  # the last element is where a sum forgets or invents one
    target = numpy.ones_like(prediction)
    assert native.mse_loss(prediction, target, "sum")[0] == n + 4
    assert native.l1_loss(prediction, target, "sum")[0] == n + 2
    assert native.binary_cross_entropy_with_logits(prediction, target, reduction="sum")[0] == pytest.approx(
        n * numpy.log(2) + numpy.log1p(numpy.exp(-3)), rel=1e-6
    )


@hypothesis.given(
    st.integers(1, 5),
    st.builds(
        lambda edge, step: max(edge + step, 1), st.sampled_from([1, *LANES, 48, 1024]), st.sampled_from([-1, 0, 1])
    ),
    dtypes,
)
def test_rows(rows, length, dtype):
    x = drawn((rows, length), dtype, length)
    dy = drawn((rows, length), dtype, length + 1)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-14}
    for op in ("softmax", "log_softmax"):
        y, cache = getattr(native, op)(x)
        numpy.testing.assert_allclose(y, getattr(formulas, op)(x)[0], **close)
        back = f"{op}_backward"
        numpy.testing.assert_allclose(getattr(native, back)(dy, cache), getattr(formulas, back)(dy, cache), **close)


@hypothesis.given(
    st.builds(
        lambda edge, step: max(edge + step, 0), st.sampled_from([1, ROWS, 3 * ROWS]), st.sampled_from([-1, 0, 1])
    ),
    st.builds(
        lambda edge, step: edge + step,
        st.sampled_from([16, 32, 64, COLUMNS, 2 * COLUMNS, 1030]),
        st.sampled_from([-1, 0, 1]),
    ),
    st.booleans(),
)
def test_bias_gradients(rows, columns, accumulate):
    dy = numpy.random.default_rng(rows).integers(-8, 8, (rows, columns)).astype(numpy.float32)  # sums without rounding
    cache = (numpy.ones((rows, 1), dtype=numpy.float32), numpy.ones((columns, 1), dtype=numpy.float32), True)
    dweight, dbias = numpy.full((columns, 1), 5, numpy.float32), numpy.full(columns, 7, numpy.float32)
    into, wanted = (dweight, dbias), (False, True, True)
    assert native.linear_backward(dy, cache, into, accumulate, wanted)[0] is None
    numpy.testing.assert_array_equal(dbias, dy.sum(axis=0) + 7 * accumulate)
    numpy.testing.assert_array_equal(dweight[:, 0], dy.sum(axis=0) + 5 * accumulate)


@hypothesis.given(sizes, dtypes)
def test_updates(n, dtype):
    state = [drawn(n, dtype, seed) for seed in range(2)] + [abs(drawn(n, dtype, 2)), abs(drawn(n, dtype, 3))]
    for call in (
        lambda engine, value, grad, m, v: engine.sgd_update(value, grad, m, lr=0.1, momentum=0.9, nesterov=True),
        lambda engine, value, grad, m, v: engine.adagrad_update(value, grad, v, lr=0.1, step=3),
        lambda engine, value, grad, m, v: engine.rmsprop_update(value, grad, v, None, m, lr=0.1, momentum=0.5),
        lambda engine, value, grad, m, v: engine.adam_update(value, grad, m, v, None, lr=0.1, weight_decay=0.1, step=2),
    ):
        own, expected = [a.copy() for a in state], [a.copy() for a in state]
        call(native, *own)
        call(formulas, *expected)
        for a, b in zip(own, expected, strict=True):
            numpy.testing.assert_allclose(a, b, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6)


@hypothesis.given(sizes, st.sampled_from([0.25, 0.5]))
def test_dropout(n, p):
    x = drawn(n, "float32", n)
    y, _ = native.dropout(x, p, numpy.random.default_rng(n))
    numpy.testing.assert_array_equal(y, formulas.dropout(x, p, numpy.random.default_rng(n))[0])
