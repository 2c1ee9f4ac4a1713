"""CUDA sources made into C++ for the CPU, and what is compiled of them: shared by both emulations.

What is compiled lies in the folder MINIDL_EMULATION_CACHE by the hash of its text, so several processes share it.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

EMULATOR = Path(__file__).parent / "emulator"
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_BOUNDS = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
_KERNEL = re.compile(rf"__global__\s+{_BOUNDS}void\s+{_BOUNDS}(\w+)\s*\(")


@functools.cache
def compiler():
    """Return GCC's C++ compiler on Linux, which announces every access with -fsanitize=thread; None elsewhere."""
    found = shutil.which("g++") if sys.platform == "linux" else None
    if found is None or platform.machine() not in ("x86_64", "aarch64"):
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    return found if "Free Software Foundation" in version else None


def compile_text(*arguments, text=None):
    """Run the compiler, with a text to read if there is one; return what it prints."""
    done = subprocess.run(
        [compiler(), *arguments], input=text, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the emulation does not compile:\n{done.stderr[:4000]}")
    return done.stdout


@functools.cache
def folder():
    """Where compiled kernels are: MINIDL_EMULATION_CACHE, or a folder that goes when Python ends."""
    kept = os.environ.get("MINIDL_EMULATION_CACHE")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    folder.kept = tempfile.TemporaryDirectory(prefix="minidl-emulation-")
    return Path(folder.kept.name)


def built(name, make):
    """Return the file of that name in the folder, made under another name first if it is not there yet."""
    path = folder() / name
    if not path.exists():
        fresh = path.with_name(f"{os.getpid()}-{name}")
        make(fresh)
        fresh.replace(path)
    return path


def digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:20]


def with_shared_memory(text):
    """Return a source whose arrays of dynamic shared memory are pointers to the emulator's."""
    return _DYNAMIC.sub(r"\1 *\2 = (\1 *)emulated::dynamic_shared;", text)


def kernels_of(text):
    """Return the names of the ``__global__`` functions of a source as it stands."""
    return _KERNEL.findall(text)


def expanded(text, options):
    """Return a source with its macros expanded, but for those of CUDA."""
    stand_ins = "#define __CUDACC_RTC__\n#define MINIDL_ON_CPU\n#define _Pragma(x)\n"
    return compile_text(*options, "-E", "-P", "-xc++", "-", text=stand_ins + text)
