"""Kernels that CuPy generates, and those of csrc, compiled for the CPU with the emulator in ../emulator."""

import ctypes
import functools
import sys
from pathlib import Path

from building import EMULATOR, built, compile_text, digest, expanded, folder, kernels_of, with_shared_memory

HERE = Path(__file__).parent
FLAGS = ["-std=gnu++17", "-O1", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-gnu-unique", "-w"]
compiled = []
"""The names of the kernels of each source that was asked for."""


@functools.cache
def _includes():
    import cupy

    return [
        f"-I{path}" for path in (HERE / "include", HERE, EMULATOR, Path(cupy.__file__).parent / "_core" / "include")
    ]


@functools.cache
def _texts():
    return "".join(path.read_text() for path in sorted([*EMULATOR.iterdir(), *HERE.rglob("*.h"), *HERE.rglob("*.cuh")]))


@functools.cache
def _emulator():
    name = f"emulator-{digest(_texts())}.o"
    return built(
        name,
        lambda path: compile_text(
            *FLAGS, f"-I{EMULATOR}", "-O2", "-c", str(EMULATOR / "emulator.cpp"), "-o", str(path)
        ),
    )


@functools.cache
def _prelude():
    """Return the folder of the prelude, compiled beforehand, as every kernel includes it."""
    name = f"prelude-{digest(_texts())}"
    header = built(f"{name}.h", lambda path: path.write_text('#include "cupy_prelude.h"\n'))
    built(
        f"{name}.h.gch",
        lambda path: compile_text(*FLAGS, *_includes(), "-x", "c++-header", str(header), "-o", str(path)),
    )
    return f"{name}.h"


def build(source, options=()):
    """Compile a source; return the path of the library."""
    defines = [option for option in options if option.startswith("-D")]
    ours = any("MINIDL" in define for define in defines)  # of csrc, where macros make the names
    names = kernels_of(expanded(source, defines) if ours else source)
    text = with_shared_memory(source)
    text = f'#include "{_prelude()}"\n{text}\n' + "\n".join(f"CUPY_KERNEL({name})" for name in names)
    compiled.append(names)

    def make(path):
        code = path.with_suffix(".cpp")
        code.write_text(text)
        compile_text(
            *FLAGS, "-shared", *defines, f"-I{folder()}", *_includes(), str(code), str(_emulator()), "-o", str(path)
        )
        code.unlink()

    return built(f"kernel-{digest(text, _texts(), *defines)}.so", make)


def load(path):
    library = ctypes.CDLL(path)
    library.emulated_error.restype = ctypes.c_char_p
    return library


def run(library, name, grid, block, shared, arguments):
    three = [(ctypes.c_uint * 3)(*shape) for shape in (grid, block)]
    if library[f"launch_{name}"](*three, ctypes.c_size_t(shared), ctypes.c_void_p(arguments), 0):
        raise RuntimeError(f"{name}: {library.emulated_error().decode()}")


def install():
    """Let CuPy compile here what it would hand to NVRTC, and refuse what is precompiled for GPUs."""
    import cupy
    from cupy.cuda import compiler, function

    def compile_module(source, options=(), **_):
        module = function.Module()
        module.load(str(build(source, options)).encode())
        module._set_mapping(None)
        return module

    def refuse(*_, **__):
        raise NotImplementedError("device code that is precompiled in the wheel (cuRAND) cannot run on a CPU")

    compiler._compile_module_with_cache = compile_module
    cupy.random.default_rng = cupy.random.Generator = refuse
    for module in list(sys.modules.values()):  # who has imported it by name
        if getattr(module, "_compile_module_with_cache", None) is not None and module is not compiler:
            module._compile_module_with_cache = compile_module
