"""A stand-in for cuBLAS: the products in plain loops, and every other entry point refused.

It is compiled as libcublas.so.13, with the symbols that CuPy's module asks for, and loaded before that module is.
"""

import ctypes
import re
import subprocess
from importlib.machinery import PathFinder
from pathlib import Path

import building

SOURCE = Path(__file__).with_name("blas.c")
VERSIONS = "libcublas.so.13 { global: *; };\n"


def _wanted():
    """Return the symbols that CuPy's module wants of cuBLAS."""
    import cupy_backends.cuda.libs as libraries

    module = PathFinder.find_spec("cublas", libraries.__path__).origin
    listed = subprocess.run(["nm", "-D", "--undefined-only", module], capture_output=True, text=True, check=True).stdout
    return sorted(set(re.findall(r"\b(cublas\w+)", listed)))


def _make(path):
    text = SOURCE.read_text()
    own = folder_of(path)
    defined = own / "defined.o"
    _run("gcc", "-O2", "-fPIC", "-c", str(SOURCE), "-o", str(defined))
    listed = subprocess.run(["nm", str(defined)], capture_output=True, text=True, check=True).stdout
    have = set(re.findall(r" T (\w+)", listed))
    rest = own / "rest.c"
    rest.write_text(
        "".join(f"int {name}(void) {{ return 15; }} /* not supported */\n" for name in _wanted() if name not in have)
    )
    versions = own / "versions"
    versions.write_text(VERSIONS)
    linked = ["-shared", "-fPIC", f"-Wl,--version-script={versions}", "-Wl,-soname,libcublas.so.13"]
    _run("gcc", *linked, str(defined), str(rest), "-o", str(path))
    assert text


def folder_of(path):
    folder = path.with_suffix(".parts")
    folder.mkdir(exist_ok=True)
    return folder


def _run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[:2000])


def install():
    """Load the stand-in under cuBLAS's name."""
    import cuda.pathfinder

    name = f"cublas-{building.digest(SOURCE.read_text())}.so"
    empty = building.built(
        "cublasLt.so",
        lambda path: _run(
            "gcc", "-shared", "-fPIC", "-x", "c", "/dev/null", "-Wl,-soname,libcublasLt.so.13", "-o", str(path)
        ),
    )
    for path in (building.built(name, _make), empty):
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    search = cuda.pathfinder.load_nvidia_dynamic_lib
    cuda.pathfinder.load_nvidia_dynamic_lib = lambda library: None if library.startswith("cublas") else search(library)
