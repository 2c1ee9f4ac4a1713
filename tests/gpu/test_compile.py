"""Rung c: every CUDA source compiled to machine code by NVRTC, without warnings, and no register spilled."""

import emulation
import nvrtc
import pytest
from gpu_resources import CHECKED_BY_DTYPE, compiled, current_table, is_current

from minidl.engines.cuda import source

pytestmark = pytest.mark.gpu_compile


@pytest.fixture(scope="module", autouse=True)
def found():
    if nvrtc.find_nvrtc() is None:
        pytest.skip(nvrtc.MISSING)
    return compiled()


def test_the_architectures_that_users_have_are_among_them():
    assert {75, 80, 86, 89, 90} <= set(nvrtc.architectures())


@pytest.mark.parametrize("file", source.files())
def test_compiles_without_warnings(found, file):
    mine = {key: program for key, program in found.items() if key[0] == file}
    assert {arch for _, _, arch in mine} == set(nvrtc.architectures())
    assert {dtype for _, dtype, _ in mine} == set(source.DTYPES)
    for key, program in mine.items():
        assert program.status == 0, f"{key}: {program.log}"
        assert "warning" not in program.log, f"{key}: {program.log}"


@pytest.mark.usefixtures("cpp")
@pytest.mark.parametrize("file", source.files())
def test_what_is_compiled_is_what_is_emulated(found, file):
    emulated = set(emulation.kernel_names(source.read(file), "float32"))
    assert emulated == set(found[file, "float32", CHECKED_BY_DTYPE[0]].resources)


@pytest.mark.parametrize("file", source.files())
def test_the_largest_block_has_enough_registers(found, file):
    for key, program in found.items():
        if key[0] == file:
            for kernel, used in program.resources.items():
                assert used.registers * source.most_threads(file) <= 65536, (
                    f"{kernel} of {key}: {used.registers} registers"
                )


@pytest.mark.parametrize("file", source.files())
def test_nothing_is_spilled(found, file):
    for key, program in found.items():
        if key[0] == file:
            for kernel, used in program.resources.items():
                assert used.spilled == 0, f"{kernel} of {key} keeps {used.spilled} bytes on the stack"


def test_kernels_for_float_do_nothing_in_double(found):
    """A GPU is many times slower in double precision, which one constant without its suffix would bring in."""
    in_double = {"cross_entropy_total", "loss_total"}  # one block each, which sums over the batch
    for file, dtype, arch in found:
        if dtype != "float64" and arch == CHECKED_BY_DTYPE[0]:
            named = nvrtc.Program(source.read(file), *source.options(dtype), f"-arch=compute_{arch}").ptx()
            assert {name for name, text in named.items() if ".f64" in text} <= in_double


def test_the_check_sees_warnings_errors_and_spills():
    text = source.read("runtime/device.cuh")
    kernel = 'extern "C" __global__ void k(float *y, int n) {{ {} }}'
    for body, status in (("int unused; y[n] = 1;", 0), ("y[n] = missing;", 6)):
        program = nvrtc.Program(text + kernel.format(body), *source.options("float32"), "-arch=sm_90")
        assert (program.status, "warning" in program.log) == (status, status == 0)
    spilling = kernel.format(
        "float a[512]; for (int i = 0; i < n; i++) a[i] = y[i]; for (int i = 0; i < n; i++) y[i] = a[n - i];"
    )
    program = nvrtc.Program(text + spilling, *source.options("float32"), "-arch=sm_90", "--ptxas-options=-v")
    assert nvrtc.resources(program.log)["k"].spilled > 0


def test_the_table_in_the_docs_is_current(found):
    assert is_current(found), f"run python docs/gpu_resources.py\n{current_table(found)}"
