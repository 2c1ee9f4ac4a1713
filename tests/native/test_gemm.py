"""The matrix product of csrc/product: every kind of operand, at the edges of every block, on each instruction set."""

import threading
from pathlib import Path

import numpy
import pytest
from fresh_python import run, run_on
from hypothesis import given
from hypothesis import strategies as st

from minidl import engines

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

import gemm_checks
from gemm_checks import RELU, check, matrix, used_share, wide

import minidl
from minidl import _native
from minidl.ops.precision import round_to_bfloat16

RUNGS = (
    *("naive", "reordered", "blocked", "register_tiled", "packed", "vectorised", "in_place", "staggered", "decided"),
    *("bfloat16", "amx"),
)  # fmt: skip
DTYPES = st.sampled_from(["float32", "float64"])


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


@pytest.fixture
def several_threads():
    before = minidl.get_num_threads()
    minidl.set_num_threads(4)
    yield
    minidl.set_num_threads(before)


# one product --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("transpose_a", [False, True])
@given(data=st.data())
def test_products_around_the_edges_of_tiles(transpose_a, transpose_b, data):
    m, n, k = (data.draw(st.sampled_from(gemm_checks.DIMENSIONS)) for _ in range(3))
    check(
        numpy.random.default_rng(0),
        data.draw(DTYPES),
        m,
        n,
        k,
        transpose_a,
        transpose_b,
        alpha=data.draw(st.sampled_from([1.0, -0.5])),
        beta=data.draw(st.sampled_from([0.0, 1.0, -2.0])),
        gap=data.draw(st.sampled_from([0, 1, 5])),
        offset=data.draw(st.sampled_from([0, 1, 3])),
        threads=data.draw(st.sampled_from([1, 2, 5])),
    )


@pytest.mark.parametrize("long", [0, 1, 2])
@given(data=st.data())
def test_products_around_the_edges_of_blocks(long, data):
    dimensions = [data.draw(st.sampled_from([1, 2, 7, 9, 17, 50])) for _ in range(3)]
    dimensions[long] = data.draw(st.sampled_from(gemm_checks.LONG))
    transposed = data.draw(st.tuples(st.booleans(), st.booleans()))
    beta = data.draw(st.sampled_from([0.0, 1.0]))
    check(
        numpy.random.default_rng(0),
        data.draw(DTYPES),
        *dimensions,
        *transposed,
        beta=beta,
        threads=data.draw(st.integers(1, 3)),
    )


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_large_enough_to_be_packed(dtype, transposed, random):
    """Operands beyond the cache, of which B is packed though its rows are contiguous and A though its columns are."""
    check(random, dtype, 300, 777, 1100, *transposed)
    check(random, dtype, 333, 1030, 600, *transposed, beta=1.0, threads=3)


@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
def test_rows_and_columns(transposed, random):
    for dtype in ("float32", "float64"):
        for m, n, k in [(1, 1000, 70), (1000, 1, 70), (1, 1, 1000), (3, 2, 301), (2, 1100, 3), (1, 4100, 9), (5, 1, 3)]:
            for beta in (0.0, 1.5):
                check(random, dtype, m, n, k, *transposed, beta=beta, gap=2)


def test_an_empty_sum_leaves_beta_c(random):
    for dtype in ("float32", "float64"):
        a, b, c = numpy.empty((3, 0), dtype), numpy.empty((0, 4), dtype), matrix(random, dtype, (3, 4))
        before = c.copy()
        _native.gemm(1.0, a, b, 2.0, c)
        assert numpy.array_equal(c, 2 * before)
        c[...] = numpy.nan
        _native.gemm(1.0, a, b, 0.0, c)
        assert not c.any()


def test_nan_and_inf_stay_where_they_belong(random):
    """Numbers that fill up tiles, overlap or were there before must not reach sums that do not contain them."""
    for m, n, k in [(9, 21, 37), (1, 50, 33), (50, 1, 33), (4, 4, 100), (40, 10, 20)]:
        for transposed in [(False, False), (False, True), (True, False), (True, True)]:
            a, b = random.standard_normal((m, k), dtype="f"), random.standard_normal((k, n), dtype="f")
            a[m // 2, k - 1], b[0, n - 1] = numpy.nan, numpy.inf
            operands = [numpy.ascontiguousarray(x.T) if t else x for x, t in zip((a, b), transposed, strict=True)]
            c = numpy.empty((m, n), "f")
            _native.gemm(1.0, *operands, 0.0, c, *transposed)
            with numpy.errstate(invalid="ignore"):
                want = a @ b
            assert numpy.array_equal(numpy.isnan(c), numpy.isnan(want))
            assert numpy.array_equal(numpy.isinf(c), numpy.isinf(want))


def test_wrong_arguments_are_refused(random):
    a, b, c = (random.standard_normal((4, 4), dtype="f") for _ in range(3))
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        _native.gemm(1.0, a[:, :3].copy(), b, 0.0, c)
    with pytest.raises(ValueError, match="one floating dtype"):
        _native.gemm(1.0, a.astype("d"), b, 0.0, c)
    with pytest.raises(ValueError, match="no gaps"):
        _native.gemm(1.0, numpy.zeros((8, 8), "f")[::2, ::2], b, 0.0, c)
    with pytest.raises(ValueError, match="epilogue"):
        _native.gemm(1.0, a, b, 0.0, c, bias=numpy.zeros(3, "f"))


# what follows a product ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("threads", [1, 2, 4])
@given(data=st.data())
def test_what_follows_a_product(threads, data):
    """Bias, copy, activation, derivative and sums over columns, in this order, in parts cut either way."""
    dtype = data.draw(DTYPES)
    m, n, k = data.draw(
        st.sampled_from([(1, 9, 5), (130, 70, 64), (700, 33, 20), (40, 300, 90), (9, 1, 40), (33, 1200, 17)])
    )
    transposed = data.draw(st.tuples(st.booleans(), st.booleans()))
    random = numpy.random.default_rng(0)
    a = random.standard_normal((k, m) if transposed[0] else (m, k)).astype(dtype)
    b = random.standard_normal((n, k) if transposed[1] else (k, n)).astype(dtype)
    left, right = wide(a.T if transposed[0] else a), wide(b.T if transposed[1] else b)
    c, before, saved = (matrix(random, dtype, (m, n), gap=3) for _ in range(3))
    bias, sums = random.standard_normal(n).astype(dtype), numpy.full(n, numpy.nan, dtype)
    draw = {
        name: data.draw(st.booleans()) for name in ("bias", "pre_activation", "activation", "derivative", "column_sums")
    }
    _native.gemm(
        1.0,
        a,
        b,
        0.0,
        c,
        *transposed,
        bias=bias if draw["bias"] else None,
        pre_activation=before if draw["pre_activation"] else None,
        activation=RELU if draw["activation"] else None,
        derivative=RELU if draw["derivative"] else None,
        saved=saved if draw["derivative"] else None,
        column_sums=sums if draw["column_sums"] else None,
        threads=threads,
    )
    want, magnitude = left @ right, abs(left) @ abs(right)
    if draw["bias"]:
        want, magnitude = want + wide(bias), magnitude + abs(bias)
    if draw["pre_activation"]:
        assert used_share(before, want, magnitude, k) <= 1
    if draw["activation"]:
        want = numpy.maximum(want, 0)
    if draw["derivative"]:
        want = numpy.where(saved > 0, want, 0)
    assert used_share(c, want, magnitude, k) <= 1
    if draw["column_sums"]:
        assert used_share(sums, want.sum(0), magnitude.sum(0), k + m) <= 1


# stacks of products -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
@given(dtype=DTYPES, count=st.sampled_from([0, 1, 3, 8]), size=st.sampled_from([(1, 1, 1), (7, 17, 5), (64, 48, 33)]))
def test_stacks(transposed, dtype, count, size):
    m, n, k = size
    random = numpy.random.default_rng(0)
    a = random.standard_normal((count, k, m) if transposed[0] else (count, m, k)).astype(dtype)
    b = random.standard_normal((count, n, k) if transposed[1] else (count, k, n)).astype(dtype)
    left, right = wide(a.swapaxes(1, 2) if transposed[0] else a), wide(b.swapaxes(1, 2) if transposed[1] else b)
    for threads in (1, 4):
        c = numpy.full((count, m, n), numpy.nan, dtype)
        _native.gemm(0.5, a, b, 0.0, c, *transposed, threads=threads)
        assert used_share(c, 0.5 * (left @ right), abs(left) @ abs(right), k) <= 1


def test_one_matrix_for_a_whole_stack(random):
    a, b = random.standard_normal((5, 6, 7), dtype="f"), random.standard_normal((7, 8), dtype="f")
    c = numpy.empty((5, 6, 8), "f")
    _native.gemm(1.0, a, numpy.broadcast_to(b, (5, 7, 8)), 0.0, c)
    assert used_share(c, wide(a) @ wide(b), abs(wide(a)) @ abs(wide(b)), 7) <= 1


# instruction sets, threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "neon"])
def test_each_instruction_set(isa, request):
    count = 4000 if request.config.getoption("--nightly") else 200
    code = f"from gemm_checks import check_drawn; print(check_drawn({count}))"
    assert run_on(isa, code, Path(minidl.__file__).parents[1], timeout=600) == isa


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_the_same_bits_for_the_same_number_of_threads(threads, random):
    a, b = random.standard_normal((300, 257), dtype="f"), random.standard_normal((150, 257), dtype="f")
    seen = set()
    for _ in range(10):
        c, sums = numpy.empty((300, 150), "f"), numpy.empty(150, "f")
        _native.gemm(1.0, a, b, 0.0, c, False, True, column_sums=sums, threads=threads)
        seen.add((c.tobytes(), sums.tobytes()))
    assert len(seen) == 1


@pytest.mark.parametrize("threads", [3, 4, 7, 16])
def test_more_threads_than_cores(threads, random):
    """Parts cut along rows, columns and both, right and with the same bits each time."""
    before = minidl.get_num_threads()
    minidl.set_num_threads(threads)
    try:
        for m, n, k in [(190, 170, 300), (1000, 9, 400), (9, 1000, 400), (130, 1, 5000), (3, 2100, 300)]:
            for transposed in [(False, False), (True, True)]:
                a = random.standard_normal((k, m) if transposed[0] else (m, k), dtype="f")
                b = random.standard_normal((n, k) if transposed[1] else (k, n), dtype="f")
                left, right = wide(a.T if transposed[0] else a), wide(b.T if transposed[1] else b)
                seen = set()
                for _ in range(4):
                    c = numpy.full((m, n), numpy.nan, "f")
                    _native.gemm(1.0, a, b, 0.0, c, *transposed, threads=threads)
                    seen.add(c.tobytes())
                assert len(seen) == 1
                assert used_share(c, left @ right, abs(left) @ abs(right), k) <= 1
    finally:
        minidl.set_num_threads(before)


@pytest.mark.usefixtures("several_threads")
def test_several_python_threads_at_once():
    failures = []

    def work(seed):
        try:
            gemm_checks.check_drawn(40, seed)
        except AssertionError as error:
            failures.append(error)

    team = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not failures


# other processors' caches -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caches", ["48K/12,2M/16,30M/15", "16K/4,128K/4"])
def test_plans_for_other_processors_give_right_products(caches):
    code = "from gemm_checks import check_drawn, check_strides; check_drawn(40); check_strides(); print('right')"
    assert run(code, Path(minidl.__file__).parents[1], MINIDL_CACHES=caches) == "right"


def test_the_caches_are_shown_and_can_be_given():
    code = "from minidl import _native; print(_native.build_info()['caches'])"
    shown = run(code, MINIDL_CACHES="48K/12,1280K/20,30M")
    assert shown == "48K/12, 1280K/20, 30M/8 (size/ways by MINIDL_CACHES)"
    found = run(code, MINIDL_CACHES="")
    assert found.count("/") >= 3
    assert "MINIDL_CACHES" not in found


@pytest.mark.parametrize(
    "wrong", ["big", "48K", "48K/12,2M/", "48K/12;2M/16", "48K/12,2M/16,30M/15,1G/16", "48K/0,2M/16"]
)
def test_caches_that_cannot_be_read_are_named(wrong):
    reason = run("import minidl; print(minidl.engines()['native'])", MINIDL_CACHES=wrong)
    assert "not available" in reason
    assert "MINIDL_CACHES" in reason


# the ladder ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rung", RUNGS)
@given(size=st.tuples(*[st.sampled_from([0, 1, 3, 4, 5, 8, 9, 47, 49, 64, 70])] * 3), wider=st.booleans())
def test_every_rung_of_the_ladder(rung, size, wider):
    m, n, k = size
    if wider:
        n, k = n + 1000, k + 255  # past a block
    random = numpy.random.default_rng(0)
    a, b = random.standard_normal((m, k), dtype="f"), random.standard_normal((k, n), dtype="f")
    c = numpy.full((m, n), numpy.nan, "f")
    if rung in ("bfloat16", "amx"):
        a, b = round_to_bfloat16(a), round_to_bfloat16(b)
    if rung == "amx" and _native.build_info()["bfloat16 products"] != "amx":
        with pytest.raises(RuntimeError, match="no tiles"):
            _native.ladder_amx(a, b, c)
        return
    getattr(_native, f"ladder_{rung}")(a, b, c)
    assert used_share(c, wide(a) @ wide(b), abs(wide(a)) @ abs(wide(b)), k) <= 1


def test_rungs_refuse_what_they_cannot_read(random):
    a = random.standard_normal((4, 4), dtype="f")
    with pytest.raises(ValueError, match="without gaps"):
        _native.ladder_naive(a[:, :2], a[:2], a.copy())
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        _native.ladder_naive(a, a[:3], a.copy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_few_rows_times_a_matrix_beyond_the_second_cache(dtype, rows, random):
    outputs = (2 << 20) // (4 * 517) + 3  # two megabytes; no whole vectors in a row, no whole tiles of rows
    x, weight = (random.standard_normal(shape).astype(dtype) for shape in ((rows, 517), (outputs, 517)))
    y, _ = engines.get("native").linear(x, weight, None)
    numpy.testing.assert_allclose(y, x @ weight.T, rtol=1e-4, atol=1e-4)
