"""Products in bfloat16 by AMX, which no machine at hand has: the kernel as it is, on tile instructions written in C.

tests/native/amx/tiles_in_c.h does what Intel's manual says of them. The kernel's own source is compiled against it, under the
address and undefined sanitizers, and compared with the formula. Faults planted in it must be found.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
from bf16_checks import DIMENSIONS, EPS, wide

from minidl import engines

SOURCES = Path(__file__).parents[2] / "csrc"
PARTS = Path(__file__).parent / "amx"
KERNEL = SOURCES / "product/bf16_amx.c"
SANITIZED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SMALL_CACHES = "16K/8,64K/8"  # slices of 256 along k, blocks of 128 columns
SIZES = ("m", "n", "k", "a_row", "a_col", "b_row", "b_col", "c_row", "a_size", "b_size", "bias_size", "c_size")


@pytest.fixture(scope="module")
def compiler():
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("AMX is for x86-64 Linux")
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("there is no C compiler")
    known = '#include "runtime/isa.h"\n#ifndef MINIDL_HAS_AMX\n#error\n#endif\n'
    asked = [found, f"-I{SOURCES}", "-xc", "-fsyntax-only", "-"]
    if subprocess.run(asked, input=known, text=True, capture_output=True, check=False).returncode != 0:
        pytest.skip("this C compiler does not know AMX")
    return found


def environment(**more):
    """Return this process's environment without the sanitizers it may run under, and without a choice of instructions."""
    return {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MINIDL_ISA")} | more


def command(*words):
    """Run a compiler or a linker."""
    subprocess.run([str(word) for word in words], check=True, timeout=300, env=environment())


def compile_(compiler, source, target, *options):
    usual = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-pthread", f"-I{SOURCES}")
    command(compiler, *usual, *options, "-c", source, "-o", target)
    return target


@pytest.fixture(scope="module")
def build(compiler, tmp_path_factory):
    """Return a function that builds the program of products.c, with one text of the kernel replaced by another."""
    if "avx512_bf16" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("operands are packed by AVX512_BF16, which this machine lacks")
    folder = tmp_path_factory.mktemp("amx")
    rest = [PARTS / "products.c", *(SOURCES / f"runtime/{name}.c" for name in ("threads", "caches", "memory"))]
    shared = [compile_(compiler, path, folder / f"{path.stem}.o", *SANITIZED) for path in rest]

    def build(old="", new=""):
        text = KERNEL.read_text()
        assert old in text
        source = folder / "kernel.c"
        source.write_text(text.replace(old, new, 1))
        kernel = compile_(
            compiler, source, folder / "kernel.o", *SANITIZED, "-include", PARTS / "tiles_in_c.h", "-Wno-unused"
        )
        program = folder / "products"
        command(compiler, *SANITIZED, "-pthread", *shared, kernel, "-lm", "-o", program)
        return program

    return build


def drawn(random, m, n, k, plain=False):
    """Return a product: sizes, factors and arrays, in any layout, with gaps between rows, alpha, beta, bias; or plain."""
    left, right = random.random(2) < 0.5
    gaps = (0, 0, 0) if plain else random.integers(0, 3, 3)
    alpha, beta = (1, 0) if plain else (random.choice((1, 1, -0.5)), random.choice((0, 1, 0.25)))

    def operand(rows, columns, gap):
        step = columns + int(gap)
        return random.standard_normal(max(rows - 1, 0) * step + columns if rows and columns else 0, dtype="f"), max(
            step, 1
        )

    a, a_step = operand(*((k, m) if left else (m, k)), gaps[0])
    b, b_step = operand(*((n, k) if right else (k, n)), gaps[1])
    c, c_step = operand(m, n, gaps[2])
    bias = random.standard_normal(n if not plain and random.random() < 0.3 else 0, dtype="f")
    strides = (*((1, a_step) if left else (a_step, 1)), *((1, b_step) if right else (b_step, 1)), c_step)
    sizes = dict(zip(SIZES, (m, n, k, *strides, a.size, b.size, bias.size, c.size), strict=True))
    if beta == 0:
        c[:] = numpy.nan  # not read
    return sizes, float(alpha), float(beta), a, b, bias, c


def run(program, products, threads=1, teams=1):
    """Return the arrays C that the program leaves, or None if it stopped."""
    given = b"".join(
        numpy.array(list(sizes.values()), "int64").tobytes()
        + numpy.array([alpha, beta]).tobytes()
        + b"".join(array.tobytes() for array in arrays)
        for sizes, alpha, beta, *arrays in products
    )
    chosen = environment(MINIDL_CACHES=SMALL_CACHES, ASAN_OPTIONS="detect_leaks=0")
    words = [program, str(threads), str(teams)]
    done = subprocess.run(words, input=given, capture_output=True, env=chosen, timeout=600, check=False)
    if done.returncode != 0:
        return None
    numbers = numpy.frombuffer(done.stdout, "f")
    return numpy.split(numbers, numpy.cumsum([product[0]["c_size"] for product in products])[:-1])


def error(product, found):
    """Return the largest error as a share of what is allowed, or infinity if something else than C was written."""
    sizes, alpha, beta, a, b, bias, old = product
    m, n, k = sizes["m"], sizes["n"], sizes["k"]

    def matrix(array, rows, columns, row, column):
        return numpy.lib.stride_tricks.as_strided(array, (rows, columns), (4 * row, 4 * column))

    left = wide(matrix(a, m, k, sizes["a_row"], sizes["a_col"])) if k else numpy.zeros((m, 0))
    right = wide(matrix(b, k, n, sizes["b_row"], sizes["b_col"])) if k else numpy.zeros((0, n))
    before, after = (matrix(array, m, n, sizes["c_row"], 1).astype("d") for array in (old, found))
    added = (beta * before if beta else 0) + (bias if bias.size else 0)
    size = abs(alpha) * (abs(left) @ abs(right)) + (abs(beta * before) if beta else 0) + (abs(bias) if bias.size else 0)
    share = abs(after - alpha * (left @ right) - added) / (EPS * (k + 4) * size + 1e-37)
    gaps = numpy.ones(old.size, bool)
    gaps[(numpy.arange(m)[:, None] * sizes["c_row"] + numpy.arange(n)).ravel()] = False
    same = numpy.array_equal(found[gaps], old[gaps], equal_nan=True)
    return share.max(initial=0) if same and numpy.isfinite(share).all() else numpy.inf


def worst(program, products, **how):
    found = run(program, products, **how)
    return numpy.inf if found is None else max(error(*each) for each in zip(products, found, strict=True))


def around_the_edges(count):
    random = numpy.random.default_rng(0)
    sizes = [1, *DIMENSIONS, 30, 34, 63, 64]
    products = [drawn(random, *(int(random.choice(sizes)) for _ in range(3))) for _ in range(count)]
    long = [(3, 17, 530), (33, 150, 40), (270, 20, 20), (40, 129, 257), (32, 32, 512), (64, 64, 64)]
    return (
        products + [drawn(random, *size, plain) for size in long for plain in (False, True)] + [drawn(random, 5, 7, 0)]
    )


@pytest.fixture(scope="module")
def program(build):
    return build()


def test_the_kernel_computes_the_formula(program, request):
    count = 3000 if request.config.getoption("--nightly") else 150
    assert worst(program, around_the_edges(count)) <= 1


@pytest.mark.parametrize(("threads", "teams"), [(3, 1), (2, 4)])
def test_threads_and_callers_at_once_have_tiles_of_their_own(program, threads, teams):
    random = numpy.random.default_rng(1)
    products = [drawn(random, 130, 70, 40), drawn(random, 64, 100, 30, plain=True)] * 4
    assert worst(program, products, threads=threads, teams=teams) <= 1
    first, second = (run(program, products, threads=threads, teams=teams) for _ in range(2))
    assert all(numpy.array_equal(one, other, equal_nan=True) for one, other in zip(first, second, strict=True))
    assert all(numpy.array_equal(first[i], first[i % 2], equal_nan=True) for i in range(8))


def test_subnormal_numbers_count_as_zero_and_nan_and_inf_stay_in_their_row(program):
    random = numpy.random.default_rng(2)
    product = drawn(random, 20, 18, 37, plain=True)
    sizes, a = product[0], product[3]
    row = a if sizes["a_col"] == 1 else a.reshape(37, 20).T.ravel()
    row = row.reshape(20, 37).copy()
    row[1], row[2, 3], row[3, 36] = 1e-39, numpy.nan, numpy.inf
    a[:] = (row if sizes["a_col"] == 1 else row.T).ravel()
    c = run(program, [product])[0].reshape(20, 18)
    assert (c[1] == 0).all()
    assert numpy.isnan(c[2]).all()
    assert numpy.isinf(c[3]).all()
    assert numpy.isfinite(numpy.delete(c, (2, 3), axis=0)).all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".rows = {SIDE, SIDE,", ".rows = {SIDE - 1, SIDE,"),
        ("_mm512_mask_storeu_ps(at, there, y)", "_mm512_storeu_ps(at, y)"),
        *(
            pytest.param(*fault, marks=pytest.mark.nightly)
            for fault in (
                ("ROW_BYTES, ROW_BYTES}", "ROW_BYTES, ROW_BYTES - 4}"),
                ("first_lanes(count - i)", "0xffff"),
                ("2 * s + 1 < k - p", "1"),
                ("k - p);", "DEPTH);"),
                ("(along == 1) == of_pairs", "(along == 1) != of_pairs"),
                ("_tile_dpbf16ps(3, 5, 7)", "_tile_dpbf16ps(3, 4, 7)"),
                ("second_b = b + tiles * TILE", "second_b = b + TILE"),
                ("beta == 1, at,", "0, at,"),
                ("x->alpha == 1 && ", ""),
                ("if (beta != 0) y +=", "y +="),
                ("pc == 0 ? x->beta : 1", "x->beta"),
                ("    _tile_release();", ""),
                ("_tile_loadconfig(&all_whole);\n    for (ptrdiff_t jc", "for (ptrdiff_t jc"),
                ("if (epilogue != NULL && pc + kc == x->k)", "if (epilogue != NULL)"),
                ("+ tiles_in(p.mc, p.kc))", ")"),
            )
        ),
    ],
)
def test_planted_faults_are_found(build, old, new):
    assert worst(build(old, new), around_the_edges(60)) > 1


def test_compilers_that_know_amx_compile_it(compiler, tmp_path):
    disassembler = shutil.which("objdump")
    if disassembler is None:
        pytest.skip("there is no objdump")
    kernel = compile_(compiler, KERNEL, tmp_path / "kernel.o", "-O1")
    listing = subprocess.run(
        [disassembler, "-d", str(kernel)], capture_output=True, text=True, check=True, env=environment()
    ).stdout
    for instruction in ("ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease"):
        assert instruction in listing


# which processors and systems get it --------------------------------------------------------------------------------

BOTH = str(1 << 24 | 1 << 22)
SAVED = str(1 << 17 | 1 << 18 | 7)
GRANTED = {"FAKE_TILES": BOTH, "FAKE_XSAVE": "1", "FAKE_XCR0": SAVED}
NEXT = "avx512_bf16 (the system refuses amx), avx512_bf16"


@pytest.fixture(scope="module")
def choice(compiler, tmp_path_factory):
    folder = tmp_path_factory.mktemp("choice")
    fake = ("-include", PARTS / "processor.h")
    paths = [PARTS / "choice.c", SOURCES / "product/bf16.c"]
    objects = [compile_(compiler, path, folder / f"{path.stem}.o", "-O1") for path in paths]
    paths = [SOURCES / "runtime/isa.c", SOURCES / "runtime/amx.c"]
    objects += [compile_(compiler, path, folder / f"{path.stem}.o", "-O1", *fake) for path in paths]
    command(compiler, "-pthread", *objects, "-o", folder / "choice")
    return folder / "choice"


@pytest.mark.parametrize(
    ("machine", "answer"),
    [
        ({}, "amx, amx, 1"),
        ({"FAKE_TILES": "0"}, "avx512_bf16, avx512_bf16, 0"),
        ({"FAKE_TILES": str(1 << 24)}, "avx512_bf16, avx512_bf16, 0"),
        ({"FAKE_TILES": str(1 << 22)}, "avx512_bf16, avx512_bf16, 0"),
        ({"FAKE_XSAVE": "0"}, f"{NEXT}, 0"),
        ({"FAKE_XCR0": str(1 << 17)}, f"{NEXT}, 0"),
        ({"FAKE_XCR0": str(1 << 18)}, f"{NEXT}, 0"),
        ({"FAKE_REFUSAL": "1"}, f"{NEXT}, 1"),
        ({"FAKE_REFUSAL": "22"}, f"{NEXT}, 1"),
        ({"FAKE_FAULT": "1"}, "avx512_bf16 (amx computes something else), avx512_bf16, 1"),
        ({"MINIDL_ISA": "amx"}, "amx, amx, 1"),
        ({"MINIDL_ISA": "amx", "FAKE_REFUSAL": "1"}, "none, none, 1"),
        ({"MINIDL_ISA": "amx", "FAKE_TILES": "0"}, "none, none, 0"),
        ({"MINIDL_ISA": "avx512_bf16"}, "avx512_bf16, avx512_bf16, 0"),
        ({"MINIDL_ISA": "avx512"}, "rounded, then float32, rounded, 0"),
    ],
)
def test_where_the_system_refuses_the_next_best_is_taken(choice, machine, answer):
    done = subprocess.run(
        [choice], env=environment(**GRANTED | machine), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == answer


def test_the_extension_has_it_where_the_compiler_can(compiler):
    if not engines.engines()["native"]:
        pytest.skip(str(engines.engines()["native"]))
    from minidl import _native

    tdpbf16ps = bytes.fromhex("c4e2425cdd")  # %tmm7, %tmm5, %tmm3
    assert tdpbf16ps in Path(_native.__file__).read_bytes()
