"""Products in bfloat16 on the native engine: edges of tiles and blocks, each instruction set, threads, what follows a product."""

import threading
from pathlib import Path

import numpy
import pytest
from fresh_python import run_on
from hypothesis import given
from hypothesis import strategies as st

from minidl import engines

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

import bf16_checks
from bf16_checks import EPS, check, check_drawn, check_stored, wide

import minidl
from minidl.ops.precision import round_to_bfloat16

ROOT = Path(minidl.__file__).parents[1]
TRANSPOSED = [(False, False), (False, True), (True, False), (True, True)]
native = engines.get("native")


@pytest.fixture
def random():
    return numpy.random.default_rng(0)


@pytest.fixture
def threads():
    """Set a number of threads, and the old one afterwards."""
    before = minidl.get_num_threads()
    yield minidl.set_num_threads
    minidl.set_num_threads(before)


@pytest.mark.parametrize("transposed", TRANSPOSED)
@given(data=st.data())
def test_products_around_the_edges_of_tiles(transposed, data):
    m, n, k = (data.draw(st.sampled_from(bf16_checks.DIMENSIONS)) for _ in range(3))
    random = numpy.random.default_rng(0)
    check(random, m, n, k, *transposed)
    check(random, m, n, k, *transposed, old=random.standard_normal((m, n), dtype="f"))


@pytest.mark.parametrize("transposed", TRANSPOSED)
@pytest.mark.parametrize("sizes", [(9, 17, 1100), (5, 1000, 37), (300, 7, 40), (150, 500, 520)])
def test_products_around_the_edges_of_blocks(transposed, sizes, random, threads):
    for count in (1, 2, 3):
        threads(count)
        check(random, *sizes, *transposed)


def test_empty_sums_and_empty_results(random):
    with minidl.matmul_precision("bfloat16"):
        for m, n, k in ((3, 4, 0), (0, 4, 3), (3, 0, 3)):
            y, _ = native.matmul(numpy.ones((m, k), "f"), numpy.ones((k, n), "f"))
            assert y.shape == (m, n)
            assert not y.any()
        y, _ = native.linear(numpy.ones((2, 0), "f"), numpy.ones((3, 0), "f"), numpy.arange(3, dtype="f"))
        numpy.testing.assert_array_equal(y, [[0, 1, 2], [0, 1, 2]])


@pytest.mark.parametrize("transposed", TRANSPOSED)
def test_nan_and_inf_stay_where_they_belong(transposed, random):
    for m, n, k in [(9, 21, 37), (1, 50, 33), (50, 1, 33), (4, 4, 101)]:
        a, b = random.standard_normal((m, k), dtype="f"), random.standard_normal((k, n), dtype="f")
        a[m // 2, k - 1], b[0, n - 1] = numpy.nan, numpy.inf
        operands = [numpy.ascontiguousarray(x.T) if t else x for x, t in zip((a, b), transposed, strict=True)]
        with minidl.matmul_precision("bfloat16"):
            c, _ = native.matmul(*operands, *transposed)
        with numpy.errstate(invalid="ignore"):
            want = a @ b
        numpy.testing.assert_array_equal(numpy.isnan(c), numpy.isnan(want))
        numpy.testing.assert_array_equal(numpy.isinf(c), numpy.isinf(want))


def test_subnormal_numbers_count_as_zero(random):
    a = (random.standard_normal((20, 40)) * 1e-39).astype("f")
    with minidl.matmul_precision("bfloat16"):
        c, _ = native.matmul(a, 1e30 * random.standard_normal((40, 20), dtype="f"))
    assert not c.any()


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512_bf16", "amx", "neon"])
def test_infinity_meets_subnormal_numbers(isa):
    """Instructions for bfloat16 take these for zero. A gate hides the infinity that other paths made of it, not the nan."""
    run_on(isa, "import bf16_checks; bf16_checks.check_specials()", ROOT)


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("size", [(1, 1, 1), (7, 17, 5), (64, 48, 33)])
def test_stacks(count, size, random, threads):
    m, n, k = size
    for transposed in TRANSPOSED:
        a = random.standard_normal((count, k, m) if transposed[0] else (count, m, k), dtype="f")
        b = random.standard_normal((count, n, k) if transposed[1] else (count, k, n), dtype="f")
        left = wide(a.swapaxes(1, 2) if transposed[0] else a)
        right = wide(b.swapaxes(1, 2) if transposed[1] else b)
        for team in (1, 4):
            threads(team)
            with minidl.matmul_precision("bfloat16"):
                c, _ = native.matmul(a, b, *transposed)
            assert (abs(c - left @ right) <= EPS * (k + 2) * (abs(left) @ abs(right))).all()


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", None])
@pytest.mark.parametrize("shape", [(1, 9, 5), (130, 70, 64), (40, 1000, 520)])
def test_bias_and_activation_follow_the_rounded_product(activation, shape, random, threads):
    n, out, k = shape
    x, weight, bias = (random.standard_normal(s, dtype="f") for s in ((n, k), (out, k), (out,)))
    hidden = wide(x) @ wide(weight).T + bias
    magnitude = abs(wide(x)) @ abs(wide(weight)).T + abs(bias)
    want = hidden if activation is None else minidl.ops.FORMULAS[activation](hidden)[0]
    for count in (1, 2):
        threads(count)
        with minidl.matmul_precision("bfloat16"):
            if activation is None:
                y, _ = native.linear(x, weight, bias)
            else:
                y, _ = native.linear_activation(x, weight, bias, activation)
        assert (abs(y - want) <= 4 * EPS * (k + 4) * magnitude).all()


def test_convolutions_read_rounded_images_and_kernels(random):
    """By each of the ways of csrc/conv: direct, deep, depthwise, Winograd; and their adjoints."""
    for images, into, out, size, kernel, settings in (
        (2, 3, 5, 9, 3, (1, 1, 1, 1)),
        (1, 32, 24, 8, 3, (1, 1, 1, 1)),
        (2, 8, 8, 9, 3, (1, 1, 1, 8)),
        (1, 16, 16, 7, 1, (2, 0, 1, 1)),
    ):
        x = random.standard_normal((images, into, size, size), dtype="f")
        weight = random.standard_normal((out, into // settings[3], kernel, kernel), dtype="f")
        rounded = [round_to_bfloat16(array) for array in (x, weight)]
        y, cache = native.conv2d(*rounded, None, *settings)
        dy = random.standard_normal(y.shape, dtype="f")
        want = [y, *native.conv2d_backward(round_to_bfloat16(dy), cache)[:2]]
        with minidl.matmul_precision("bfloat16"):
            y, cache = native.conv2d(x, weight, None, *settings)
            found = [y, *native.conv2d_backward(dy, cache)[:2]]
        for one, other in zip(found, want, strict=True):
            numpy.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512_bf16", "amx", "neon"])
def test_each_instruction_set(isa, request):
    count = 4000 if request.config.getoption("--nightly") else 100
    code = f"from bf16_checks import *; print(*check_drawn({count}), '/', check_stored({count // 5}))"
    own = isa if isa in ("avx512_bf16", "amx") else "rounded, then float32"
    kernels = "avx512" if own == isa else isa
    found = run_on(isa, code, ROOT, timeout=600)
    assert found.startswith(f"{kernels} {own} / ")
    assert own == isa or found.endswith(f"/ {kernels}")  # narrower sets have no instructions for integers


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_same_bits_for_the_same_number_of_threads(count, random, threads):
    threads(count)
    x, weight = random.standard_normal((300, 257), dtype="f"), random.standard_normal((150, 257), dtype="f")
    seen = set()
    with minidl.matmul_precision("bfloat16"):
        for _ in range(8):
            y, cache = native.linear(x, weight)
            seen.add(b"".join(array.tobytes() for array in (y, *native.linear_backward(y, cache)[:2])))
    assert len(seen) == 1


def test_several_python_threads_at_once(threads):
    """Each with a precision of its own."""
    threads(4)
    failures = []
    a = numpy.full((70, 70), 1 + 2**-9, dtype="f")

    def work(seed):
        try:
            check_drawn(20, seed)
            check_stored(3, seed)
            with minidl.matmul_precision("highest" if seed % 2 else "bfloat16"):
                for _ in range(50):
                    rounded = native.matmul(a, a)[0][0, 0] == 70
                    assert rounded == (seed % 2 == 0)
        except AssertionError as error:
            failures.append(error)

    team = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    assert not failures


# stored weights -----------------------------------------------------------------------------------------------------


def test_stored_weights_as_the_formulas_have_them(threads):
    for count in (1, 3):
        threads(count)
        check_stored(20)


def test_every_float16_is_widened_exactly():
    every = numpy.arange(2**16, dtype="uint16").view("float16").reshape(256, 256)
    one = numpy.eye(256, dtype="f")
    with numpy.errstate(invalid="ignore"):
        want = every.astype("f")
    finite = numpy.where(numpy.isfinite(want), want, 0)
    stored = numpy.where(numpy.isfinite(every), every, numpy.float16(0))
    numpy.testing.assert_array_equal(native.stored_linear(one, stored).T, finite)  # many rows: widened as a whole
    for row in (0, 3, 255):
        numpy.testing.assert_array_equal(native.stored_linear(one[row], stored), finite[:, row])
    y = native.stored_linear(numpy.ones((1, 1), "f"), every.reshape(-1, 1))
    numpy.testing.assert_array_equal(y[0], want.ravel())


def test_rows_that_are_not_finite_become_nan_as_integers(random):
    from minidl.ops.stored import int8_linear, store_weight

    stored, scale = store_weight(random.standard_normal((5, 70), dtype="f"), "int8")
    x = random.standard_normal((6, 70), dtype="f")
    x[1, 3], x[2, 69], x[3] = numpy.nan, -numpy.inf, 0
    x[4] = 1e-44
    x[4, 0] = 190 * 2.0**-149
    found = native.stored_linear(x, stored, scale)
    numpy.testing.assert_array_equal(found, int8_linear(x, stored, scale))
    assert numpy.isnan(found[1:3]).all()
    assert not found[3].any()
    assert numpy.isfinite(found[[0, 4, 5]]).all()


def test_info_says_what_computes():
    found = engines.native.info()
    assert found["bfloat16 products"].split(" (")[0] in ("amx", "avx512_bf16", "rounded, then float32")
    assert f"in bfloat16 {found['bfloat16 products']}" in str(engines.engines()["native"])
