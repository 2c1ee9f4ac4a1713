"""The formulas that C shares with CUDA: compiled as CUDA by NVRTC, which needs no GPU, and run on the CPU as the same text."""

import ctypes
import inspect
import shutil
import subprocess

import numpy
import nvrtc
import pytest

from minidl.engines.headers import include_folder
from minidl.ops import activation as formulas

# A kernel for each direction of each activation in each precision, made from the list.
KERNELS = """
#include "elementwise/activation_list.h"
#include "vector/formulas.h"
#define KERNEL(name, real, suffix) \\
    extern "C" __global__ void name##_forward_kernel##suffix(const real *x, real *y, int n, real first, real second) { \\
        const int i = blockIdx.x * blockDim.x + threadIdx.x; \\
        if (i < n) y[i] = name##_forward##suffix(x[i], first, second); \\
    } \\
    extern "C" __global__ void name##_backward_kernel##suffix(const real *dy, const real *kept, real *dx, int n, real first, \\
                                                              real second) { \\
        const int i = blockIdx.x * blockDim.x + threadIdx.x; \\
        if (i < n) dx[i] = name##_backward##suffix(dy[i], kept[i], first, second); \\
    }
#define BOTH(name, ...) KERNEL(name, float, _f32) KERNEL(name, double, _f64)
MINIDL_ACTIVATION_LIST(BOTH)
"""
# What CUDA has and C++ has not, for the CPU; one thread after another.
ON_THE_CPU = """
#include <math.h>
#include <stddef.h>
#include <string.h>
#define __CUDACC_RTC__
#define __device__
#define __forceinline__ inline
#define __fmaf_rn fmaf
#define __fma_rn fma
static double __longlong_as_double(long long bits) { double x; memcpy(&x, &bits, sizeof x); return x; }
#define __global__
static struct { int x; } blockIdx, blockDim, threadIdx;
"""
LOOPS = """
#define LOOP(name, real, suffix) \\
    extern "C" void name##_forward_loop##suffix(const real *x, real *y, int n, real first, real second) { \\
        for (threadIdx.x = 0; threadIdx.x < n; threadIdx.x++) name##_forward_kernel##suffix(x, y, n, first, second); \\
    } \\
    extern "C" void name##_backward_loop##suffix(const real *dy, const real *kept, real *dx, int n, real first, real second) { \\
        for (threadIdx.x = 0; threadIdx.x < n; threadIdx.x++) name##_backward_kernel##suffix(dy, kept, dx, n, first, second); \\
    }
#define BOTH_LOOPS(name, ...) LOOP(name, float, _f32) LOOP(name, double, _f64)
MINIDL_ACTIVATION_LIST(BOTH_LOOPS)
#define NAME(name, ...) #name " "
extern "C" const char *names(void) { return MINIDL_ACTIVATION_LIST(NAME); }
"""
TYPES = {"float32": (ctypes.c_float, "_f32"), "float64": (ctypes.c_double, "_f64")}
FORMULAS = {"gelu_tanh": ("gelu", ("tanh",))}  # where the formula's name is not the kernel's


@pytest.fixture(scope="module")
def compiled():
    if nvrtc.find_nvrtc() is None:
        pytest.skip(nvrtc.MISSING)
    return lambda source: nvrtc.Program(source, f"-I{include_folder()}", "--gpu-architecture=compute_90")


@pytest.fixture(scope="module")
def on_the_cpu(tmp_path_factory):
    """The kernels as C++ for the CPU."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "kernels.cpp").write_text(ON_THE_CPU + KERNELS + LOOPS)
    command = [compiler, "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-Wall", "-Wno-unknown-pragmas", "-Werror"]
    subprocess.run(
        [*command, f"-I{include_folder()}", "kernels.cpp", "-o", "kernels.so"], cwd=folder, check=True, timeout=300
    )
    library = ctypes.CDLL(str(folder / "kernels.so"))
    library.names.restype = ctypes.c_char_p
    return library


def names(library):
    return library.names().decode().split()


def settings_of(name):
    """Return settings other than the formula's defaults."""
    defaults = [p.default for p in inspect.signature(getattr(formulas, name)).parameters.values()][1:]
    return tuple(1.5 * default for default in defaults)


def call(function, dtype, first, second, settings):
    """Run a loop over arrays: y from x, or dx from dy and what was kept."""
    number, _ = TYPES[dtype]
    arrays = [a for a in (first, second) if a is not None]
    result = numpy.empty_like(arrays[0])
    pointers = [a.ctypes.data_as(ctypes.POINTER(number)) for a in (*arrays, result)]
    both = (*settings, 0.0, 0.0)[:2]
    function.argtypes = [*[ctypes.POINTER(number)] * len(pointers), ctypes.c_int, number, number]
    function(*pointers, result.size, *both)
    return result


def test_the_cpu_knows_every_activation_of_the_list(on_the_cpu):
    assert set(names(on_the_cpu)) >= {"relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"}
    for name in names(on_the_cpu):
        assert hasattr(formulas, FORMULAS.get(name, (name,))[0]), f"{name} has no formula"


@pytest.mark.parametrize("dtype", TYPES)
def test_what_cuda_compiles_is_what_the_formulas_say(on_the_cpu, dtype):
    x = numpy.concatenate([numpy.linspace(-30, 30, 4001), [0.0, -0.0, 1e-30, -1e-30, numpy.inf, -numpy.inf, numpy.nan]])
    x = x.astype(dtype)
    dy = numpy.random.default_rng(0).normal(size=x.size).astype(dtype)
    close = {"rtol": 5e-6, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-14}
    _, suffix = TYPES[dtype]
    for name in names(on_the_cpu):
        settings = () if "gelu" in name else settings_of(name)
        op, arguments = FORMULAS.get(name, (name, settings))
        with numpy.errstate(all="ignore"):
            y, cache = getattr(formulas, op)(x, *arguments)
            dx = getattr(formulas, f"{op}_backward")(dy, cache)
        got = call(getattr(on_the_cpu, f"{name}_forward_loop{suffix}"), dtype, x, None, settings)
        numpy.testing.assert_allclose(got, y, err_msg=name, **close)
        kept = numpy.ascontiguousarray(cache[0])
        got = call(getattr(on_the_cpu, f"{name}_backward_loop{suffix}"), dtype, dy, kept, settings)
        numpy.testing.assert_allclose(got, dx, err_msg=f"{name}_backward", **close)


def test_nvrtc_compiles_every_activation(compiled, on_the_cpu):
    program = compiled(KERNELS)
    assert program.status == 0, program.log
    assert "warning" not in program.log
    kernels = program.ptx()
    wanted = {
        f"{name}_{way}_kernel{suffix}"
        for name in names(on_the_cpu)
        for way in ("forward", "backward")
        for _, suffix in TYPES.values()
    }
    assert set(kernels) == wanted


def test_kernels_for_float_do_nothing_in_double(compiled):
    """A GPU is many times slower in double precision, which one constant without its suffix would bring in."""
    kernels = compiled(KERNELS).ptx()
    assert [name for name, text in kernels.items() if name.endswith("_f32") and ".f64" in text] == []
    assert all(".f64" in text for name, text in kernels.items() if name.endswith("_f64") and "relu" not in name)


def test_a_broken_formula_does_not_compile(compiled):
    program = compiled(KERNELS.replace("name##_forward##suffix(x[i]", "name##_missing##suffix(x[i]"))
    assert program.status != 0
    assert "relu_missing_f32" in program.log
