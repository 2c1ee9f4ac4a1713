"""Builds the native engine's extension, if this machine can; everything else about the package is in pyproject.toml.

Without a working C compiler the install succeeds all the same, with the numpy engine, and what went wrong is kept in
``minidl/native_missing.txt`` for ``minidl info`` to show. Environment variables for builders:

- ``MINIDL_NO_NATIVE=1``: leave the extension out on purpose.
- ``MINIDL_REQUIRE_NATIVE=1``: fail where it cannot be built.
- ``MINIDL_SANITIZE=address,undefined``: build with these sanitizers, without optimisation for speed.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCES = [
    "csrc/bridge/native.pyx",
    *sorted(path.as_posix() for path in Path("csrc").rglob("*.c") if path.name != "native.c"),
]
REASON_FILE = "native_missing.txt"
# The CUDA kernels, what they and CUDA code of others may include, and what that includes: installed as minidl/csrc, where
# minidl.engines.headers finds it.
CUDA_HEADERS = [
    *sorted(path.as_posix() for pattern in ("*.cu", "*.cuh") for path in Path("csrc").rglob(pattern)),
    "csrc/elementwise/activation_list.h",
    "csrc/vector/formulas.h",
    "csrc/vector/formulas.inc.h",
    "csrc/vector/simd.h",
    "csrc/vector/simd_scalar.h",
]


class BuildPython(build_py):
    """Put the headers for CUDA beside the Python files. An editable install finds them in the checkout."""

    def run(self) -> None:
        """Copy both."""
        super().run()
        if not self.editable_mode:
            for source, target in self._headers():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def _headers(self) -> list[tuple[str, str]]:
        return [(header, str(Path(self.build_lib, "minidl", header))) for header in CUDA_HEADERS]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name the headers too."""
        return super().get_outputs(include_bytecode) + [target for _, target in self._headers()]

    def get_source_files(self) -> list[str]:
        """Name them for the source distribution."""
        return super().get_source_files() + CUDA_HEADERS


class BuildNative(build_ext):
    """Compile the extension; remember why not, where it cannot be done."""

    def run(self) -> None:
        """Build, or write down what stood in the way."""
        self._write_reason("")
        if os.environ.get("MINIDL_NO_NATIVE") == "1":
            self._write_reason("it was left out on purpose (MINIDL_NO_NATIVE=1)")
            return
        try:
            super().run()
        except Exception as error:  # compilers fail in many ways, and none of them may stop the install
            if os.environ.get("MINIDL_REQUIRE_NATIVE") == "1":
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            print(f"minidl: the native engine could not be built: {reason}", file=sys.stderr)
            self._write_reason(f"the C code could not be compiled: {reason}")

    def build_extensions(self) -> None:
        """Add the flags that this compiler takes."""
        extension = self.extensions[0]
        if self.compiler.compiler_type == "msvc":
            extension.extra_compile_args = ["/O2", "/std:c11"]
        else:
            extension.extra_compile_args = self._unix_flags()
            extension.extra_link_args = [f for f in self._unix_flags() if f.startswith(("-pthread", "-fsanitize"))]
            extension.libraries = ["m"]
            self._compile_files_at_once()
        super().build_extensions()

    def _compile_files_at_once(self) -> None:
        """Have the compiler, which goes through a list of files one by one, work on as many at once as there are cores."""
        one_by_one = self.compiler.compile

        def compile_all(sources: list[str], *args: Any, **kwargs: Any) -> list[str]:
            # The longest first: those of isa/, which include every kernel, then by size.
            longest_first = sorted(
                sources, key=lambda path: ("isa" not in Path(path).parts, -Path(path).stat().st_size)
            )
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: one_by_one([source], *args, **kwargs), longest_first)
                return [path for paths in objects for path in paths]

        self.compiler.compile = compile_all

    def _unix_flags(self) -> list[str]:
        # Errors of library functions are not looked at, and no floating-point trap is enabled: without these two flags the
        # compiler may not turn loops with choices or square roots into vector code. The values stay those of IEEE 754.
        flags = ["-std=c11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden"]
        sanitizers = os.environ.get("MINIDL_SANITIZE")
        if sanitizers:
            flags += ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={sanitizers}"]
            flags += ["-fno-sanitize-recover=all"] if "undefined" in sanitizers else []
        else:
            flags += ["-O3", "-g0"]
        return [*flags, "-pthread"]

    def _write_reason(self, reason: str) -> None:
        folder = Path("minidl") if self.inplace or self.editable_mode else Path(self.build_lib, "minidl")
        folder.mkdir(parents=True, exist_ok=True)
        if reason:
            (folder / REASON_FILE).write_text(reason + "\n")
        else:
            (folder / REASON_FILE).unlink(missing_ok=True)

    def get_outputs(self) -> list[str]:
        """Leave out what was not built; put in the note why."""
        note = Path(self.build_lib, "minidl", REASON_FILE)
        return [p for p in super().get_outputs() if Path(p).exists()] + ([str(note)] if note.exists() else [])

    def copy_extensions_to_source(self) -> None:
        """Copy what was built."""
        if all(Path(self.get_ext_fullpath(e.name)).exists() for e in self.extensions) or self.inplace:
            super().copy_extensions_to_source()


def extensions() -> list[Extension]:
    """Describe the extension; NumPy's headers are there at build time."""
    try:
        import numpy
    except ImportError:
        return []
    return [
        Extension(
            "minidl._native",
            SOURCES,
            include_dirs=["csrc", numpy.get_include()],
            depends=sorted(path.as_posix() for pattern in ("*.h", "*.pxi") for path in Path("csrc").rglob(pattern)),
            define_macros=[
                ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),  # the oldest NumPy that the package takes
            ],
        )
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative, "build_py": BuildPython})
