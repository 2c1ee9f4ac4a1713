"""Kernels that CuPy generates, and those of csrc, compiled for the CPU with the emulator in ../emulator.

What is compiled lies in the folder MINIDL_CUPY_CACHE by the hash of its text, so several processes share it.
"""

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
EMULATOR = HERE.parent / "emulator"
FLAGS = ["-std=gnu++17", "-O1", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-gnu-unique", "-w"]
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
_KERNEL = re.compile(rf'extern\s+"C"\s+__global__\s+{_BOUNDS}void\s+{_BOUNDS}(\w+)\s*\(')
compiled = []
"""The names of the kernels of each source that was asked for."""


@functools.cache
def folder():
    kept = os.environ.get("MINIDL_CUPY_CACHE")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    folder.kept = tempfile.TemporaryDirectory(prefix="minidl-cupy-")
    return Path(folder.kept.name)


@functools.cache
def _includes():
    import cupy

    return [
        f"-I{path}" for path in (HERE / "include", HERE, EMULATOR, Path(cupy.__file__).parent / "_core" / "include")
    ]


def _compile(*arguments):
    done = subprocess.run(["g++", *FLAGS, *arguments], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"the kernel does not compile for the CPU:\n{done.stderr[:3000]}")


def _made(name, make):
    """Return a file of the folder, made under another name first if it is not there."""
    path = folder() / name
    if not path.exists():
        fresh = path.with_name(f"{os.getpid()}-{name}")
        make(fresh)
        fresh.replace(path)
    return path


@functools.cache
def _texts():
    return "".join(path.read_text() for path in sorted([*EMULATOR.iterdir(), *HERE.rglob("*.h"), *HERE.rglob("*.cuh")]))


def _digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


@functools.cache
def _emulator():
    name = f"emulator-{_digest(_texts())}.o"
    return _made(
        name, lambda path: _compile(f"-I{EMULATOR}", "-O2", "-c", str(EMULATOR / "emulator.cpp"), "-o", str(path))
    )


@functools.cache
def _prelude():
    """Return the folder of the prelude, compiled beforehand, as every kernel includes it."""
    name = f"prelude-{_digest(_texts())}"
    header = _made(f"{name}.h", lambda path: path.write_text('#include "cupy_prelude.h"\n'))
    _made(f"{name}.h.gch", lambda path: _compile(*_includes(), "-x", "c++-header", str(header), "-o", str(path)))
    return f"{name}.h"


def _expanded(source, defines):
    """Return a source with its macros expanded, but for those of CUDA."""
    stand_ins = "#define __CUDACC_RTC__\n#define MINIDL_ON_CPU\n#define _Pragma(x)\n"
    command = ["g++", "-E", "-P", "-xc++", *defines, "-"]
    return subprocess.run(command, input=stand_ins + source, capture_output=True, text=True, check=True).stdout


def build(source, options=()):
    """Compile a source; return the path of the library."""
    defines = [option for option in options if option.startswith("-D")]
    ours = any("MINIDL" in define for define in defines)  # of csrc, where macros make the names
    names = _KERNEL.findall(_expanded(source, defines) if ours else source)
    text = _DYNAMIC.sub(r"\1 *\2 = (\1 *)emulated::dynamic_shared;", source)
    text = f'#include "{_prelude()}"\n{text}\n' + "\n".join(f"CUPY_KERNEL({name})" for name in names)
    compiled.append(names)

    def make(path):
        code = path.with_suffix(".cpp")
        code.write_text(text)
        _compile("-shared", *defines, f"-I{folder()}", *_includes(), str(code), str(_emulator()), "-o", str(path))
        code.unlink()

    return _made(f"kernel-{_digest(text, _texts(), *defines)}.so", make)


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
