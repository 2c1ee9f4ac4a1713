"""The emulator itself: it computes what CUDA computes, and reports what it must."""

import emulation
import numpy
import pytest
from emulation import EmulationError, Library

pytestmark = [pytest.mark.gpu_emulate, pytest.mark.usefixtures("cpp")]

HEAD = '#include "runtime/device.cuh"\n'
# Kernels with one mistake each, and what is said of it.
WRONG = {
    "a barrier that half of the block reaches": (
        "if (threadIdx.x < 32) __syncthreads(); y[threadIdx.x] = 1;",
        "waits at a barrier .* and thread 32 has ended",
    ),
    "two barriers": (
        "if (threadIdx.x < 32) {\n__syncthreads();\n} else {\n__syncthreads();\n} y[threadIdx.x] = 1;",
        "waits at a barrier .* waits at a barrier",
    ),
    "an exchange that a lane of the mask does not reach": (
        "float v = 1; if (threadIdx.x != 3) v = __shfl_down_sync(ALL_LANES, v, 1); y[threadIdx.x] = v;",
        "waits for lanes of its warp|has ended",
    ),
    "a lane outside its mask": (
        "y[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 0);",
        "not in its own mask",
    ),
    "an exchange with a lane outside the mask": (
        "float v = 1; if (threadIdx.x % 32 < 16) v = __shfl_sync(0xffffu, v, 20); y[threadIdx.x] = v;",
        "outside its mask",
    ),
}
WRONG_IN_MEMORY = {
    "beyond the end": (
        "y[threadIdx.x + 1] = 1;",
        "writes 4 bytes outside every array; the nearest is argument 0, 0 bytes after",
    ),
    "before the start": ("y[(int)threadIdx.x - 1] = 1;", "4 bytes before its start"),
    "a race within a block": ("y[0] = threadIdx.x;", "a race on element 0 of argument 0"),
    "a race between blocks": ("if (threadIdx.x == 0) y[0] = 1;", "thread 0 of block . writes it"),
    "reading what another thread writes": (
        "__shared__ float s[64]; s[threadIdx.x] = 1; y[threadIdx.x] = s[63 - threadIdx.x];",
        "a race on element|no thread has written",
    ),
    "a shuffle does not order memory": (
        "__shared__ float s[64]; s[threadIdx.x] = 1; __shfl_sync(ALL_LANES, 1.0f, 0); y[threadIdx.x] = s[threadIdx.x ^ 1];",
        "a race on element",
    ),
    "shared memory that nobody wrote": (
        "__shared__ float s[64]; if (threadIdx.x) s[threadIdx.x] = 1; __syncthreads(); y[threadIdx.x] = s[0];",
        "no thread has written",
    ),
    "a pack at an odd place": ("if (threadIdx.x == 0) *(pack *)(y + 1) = pack();", "no multiple of 16"),
}


def library(body, flavour, arguments="float *y"):
    text = emulation.source.read("runtime/device.cuh")
    return Library(f'{text}\nextern "C" __global__ void kernel({arguments}) {{\n{body}\n}}\n', "float32", flavour)


@pytest.mark.parametrize("what", WRONG)
def test_threads_that_do_not_meet(what):
    body, said = WRONG[what]
    with pytest.raises(EmulationError, match=said):
        library(body, "plain").run("kernel", (1,), (64,), [numpy.zeros(64, "float32")])


@pytest.mark.parametrize("what", WRONG_IN_MEMORY)
@pytest.mark.parametrize("schedule", emulation.SCHEDULES.values())
def test_wrong_accesses(what, schedule):
    body, said = WRONG_IN_MEMORY[what]
    blocks = 2 if "blocks" in what else 1
    y = numpy.zeros(68, "float32")
    y = y[-y.ctypes.data % 16 // 4 :][:64]
    with pytest.raises(EmulationError, match=said):
        library(body, "checked").run("kernel", (blocks,), (64,), [y], schedule=schedule)


RIGHT = {
    "__shared__ float s[64]; s[threadIdx.x] = threadIdx.x; __syncthreads(); y[threadIdx.x] = s[63 - threadIdx.x];": lambda i: (
        63 - i
    ),
    "__shared__ float s[64]; s[threadIdx.x] = threadIdx.x; __syncwarp(); y[threadIdx.x] = s[threadIdx.x ^ 1];": lambda i: (
        i ^ 1
    ),
    "extern __shared__ float s[]; s[threadIdx.x] = threadIdx.x; __syncthreads(); y[threadIdx.x] = s[(threadIdx.x + 1) % 64];": lambda i: (
        (i + 1) % 64
    ),
    "__shared__ float s[MOST_WARPS]; y[threadIdx.x] = combine_team((float)threadIdx.x, s, Add());": lambda i: (
        0 * i + 2016
    ),
    "y[threadIdx.x] = __popc(__ballot_sync(ALL_LANES, threadIdx.x % 2));": lambda i: 0 * i + 16,
    "y[threadIdx.x] = __shfl_up_sync(ALL_LANES, (float)threadIdx.x, 2);": lambda i: numpy.where(i % 32 < 2, i, i - 2),
    "y[threadIdx.x] = __shfl_down_sync(ALL_LANES, (float)threadIdx.x, 3, 8);": lambda i: numpy.where(
        i % 8 > 4, i, i + 3
    ),
    "if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xffffu, (float)threadIdx.x, 1); else y[threadIdx.x] = threadIdx.x;": lambda i: (
        numpy.where(i < 16, i ^ 1, i)
    ),
}


@pytest.mark.parametrize("flavour", ["plain", "checked"])
@pytest.mark.parametrize("body", RIGHT)
def test_right_kernels(body, flavour):
    compiled = library(body, flavour)
    for schedule in emulation.SCHEDULES.values():
        y = numpy.full(64, numpy.nan, "float32")
        compiled.run("kernel", (1,), (64,), [y], shared=256, schedule=schedule)
        numpy.testing.assert_array_equal(y, RIGHT[body](numpy.arange(64)))


@pytest.mark.parametrize("flavour", ["plain", "checked"])
def test_atomics_over_blocks(flavour):
    total = numpy.zeros(1, "int32")
    library("atomicAdd(y, 1);", flavour, "int *y").run("kernel", (3, 2), (32, 2), [total], schedule=3)
    assert total[0] == 3 * 2 * 64


def test_a_missing_barrier_shows_in_the_numbers_too():
    """Without any check of memory: another order of turns gives other numbers."""
    body = "__shared__ float s[64]; s[threadIdx.x] = threadIdx.x; y[threadIdx.x] = s[63 - threadIdx.x];"
    compiled, found = library(body, "plain"), set()
    for schedule in emulation.SCHEDULES.values():
        y = numpy.zeros(64, "float32")
        compiled.run("kernel", (1,), (64,), [y], schedule=schedule)
        found.add(y.tobytes())
    assert len(found) > 1


def test_arguments_are_checked_before_the_kernel_runs():
    compiled = library("y[0] = n;", "plain", "float *y, long long n")
    for arguments in ([numpy.zeros(1, "float32")], [numpy.zeros(1, "float32"), numpy.int32(1)]):
        with pytest.raises(TypeError, match="the kernel declares"):
            compiled.run("kernel", (1,), (32,), arguments)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_of_16_bits_are_rounded_as_ieee_says(dtype, monkeypatch):
    monkeypatch.setitem(emulation.source.DTYPES, "bfloat16", "MINIDL_BFLOAT16")
    text = emulation.source.read("runtime/device.cuh")
    body = 'extern "C" __global__ void kernel(const float *x, stored *y, float *z, int n) {\n'
    body += "for (int i = threadIdx.x; i < n; i += blockDim.x) { y[i] = narrow(x[i]); z[i] = widen(y[i]); }\n}"
    words = numpy.random.default_rng(0).integers(0, 2**32, 20000, dtype="uint32")
    x = numpy.concatenate(
        [
            words.view("float32"),
            numpy.linspace(-1e-4, 1e-4, 9999, dtype="float32"),
            numpy.float32([0, -0.0, numpy.inf, -numpy.inf, numpy.nan, 65504, 65519.9, 65520, 5.9e-8, 2.9e-8]),
        ]
    )
    y, z = numpy.zeros(x.size, "uint16"), numpy.zeros(x.size, "float32")
    Library(f"{text}\n{body}", dtype, "plain").run("kernel", (1,), (32,), [x, y, z, numpy.int32(x.size)])
    if dtype == "float16":
        with numpy.errstate(over="ignore", invalid="ignore"):
            expected = x.astype("float16").astype("float32")
    else:  # to the nearest of the two neighbours, by doubles
        bits = x.view("uint32")
        with numpy.errstate(all="ignore"):
            low = (bits & 0xFFFF0000).view("float32").astype("float64")
            high = ((bits & 0xFFFF0000) + numpy.uint32(0x10000)).view("float32").astype("float64")
        rest = (bits & 0xFFFF).astype(int)
        up = (rest > 0x8000) | ((rest == 0x8000) & ((bits >> 16) & 1 == 1))
        with numpy.errstate(all="ignore"):
            expected = numpy.where(numpy.isfinite(x) & up, high, low).astype("float32")
        expected[numpy.isnan(x)] = numpy.nan
    numpy.testing.assert_array_equal(z, expected)
