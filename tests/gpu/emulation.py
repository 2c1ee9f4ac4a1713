"""CUDA kernels on the CPU: compiled by the C++ compiler against emulator/cuda_on_cpu.h, run by emulator/emulator.cpp.

``run`` launches one kernel; ``emulating`` lets ``minidl.engines.cuda`` launch all of its kernels here, on NumPy arrays.
"""

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy
from building import EMULATOR, built, compile_text, digest, expanded, kernels_of, with_shared_memory

from minidl.engines.cuda import dispatch, source

FEW_BLOCKS = 3  # of a grid that goes round, so that small arrays make it do so
SCHEDULES = {"fair": 0, "reversed": 1, "unfair": 2, "unfair again": 3}

# How the kernels are compiled, and what the emulator is compiled with.
FLAVOURS = {
    "plain": (["-O2"], []),
    # The compiler announces every access to memory, and the emulator checks it; see emulator.cpp.
    "checked": (["-O1", "-g", "-fsanitize=thread,alignment"], ["-DEMULATED_CHECKS"]),
    # For a Python that was started with LD_PRELOAD=libasan.so.
    "address": (
        ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fsanitize-sections=cuda_shared"],
        [],
    ),
}
COMMON = ["-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-gnu-unique", f"-I{EMULATOR}", "-w"]


class EmulationError(RuntimeError):
    """What the emulator reports of a kernel."""


@functools.cache
def _texts():
    return "".join(path.read_text() for path in sorted(EMULATOR.iterdir()))


def _emulator(flavour):
    flags = [flag for flag in FLAVOURS[flavour][0] if "thread" not in flag] + FLAVOURS[flavour][1]
    name = f"emulator-{digest(_texts(), *flags)}.o"
    return built(
        name, lambda path: compile_text(*COMMON, "-O2", *flags, "-c", str(EMULATOR / "emulator.cpp"), "-o", str(path))
    )


def kernel_names(text, dtype):
    """Return the names of the ``__global__`` functions of a source, with its macros expanded."""
    return kernels_of(expanded(text, source.options(dtype)))


class Library:
    """A CUDA source compiled for the CPU."""

    def __init__(self, text, dtype, flavour):
        self.flavour, self.names = flavour, kernel_names(text, dtype)
        text = with_shared_memory(text)
        exports = "\n".join(f"EMULATED_KERNEL({name})" for name in self.names)
        text = f'#include "cuda_on_cpu.h"\n{text}\n{exports}\n'
        flags = [*COMMON, *source.options(dtype), *FLAVOURS[flavour][0]]
        name = f"kernels-{digest(text, _texts(), *flags)}"

        def make(path):
            code, made = path.with_suffix(".cpp"), path.with_suffix(".o")
            code.write_text(text)
            compile_text(*flags, "-c", str(code), "-o", str(made))
            runtime = ["-fsanitize=address,undefined"] if flavour == "address" else []
            compile_text("-shared", *runtime, str(made), str(_emulator(flavour)), "-o", str(path))

        self.path = built(f"{name}.so", make)

    @functools.cached_property
    def library(self):
        """Return what was compiled, loaded: that for AddressSanitizer can be loaded only where its runtime is."""
        library = ctypes.CDLL(str(self.path))
        library.emulated_error.restype = ctypes.c_char_p
        library.emulated_place.restype = ctypes.c_size_t
        return library

    def run(self, kernel, grid, block, arguments, shared=0, schedule=0):
        """Launch a kernel; arguments are arrays and NumPy scalars, as the kernel declares them."""
        if kernel not in self.names:
            raise LookupError(f"there is no kernel {kernel!r}; there are {', '.join(self.names)}")
        self._check_arguments(kernel, arguments)
        slots = [(ctypes.c_char * 16)() for _ in arguments]
        for position, (slot, value) in enumerate(zip(slots, arguments, strict=True)):
            if isinstance(value, numpy.ndarray):
                value_bytes = numpy.uint64(value.ctypes.data).tobytes()
                if self.flavour == "checked":
                    pointer = ctypes.c_void_p(value.ctypes.data)
                    self.library.emulated_allow(position, pointer, ctypes.c_size_t(value.nbytes), value.itemsize)
            else:
                value_bytes = value.tobytes()
            ctypes.memmove(slot, value_bytes, len(value_bytes))
        pointers = (ctypes.c_void_p * (len(slots) + 1))(*(ctypes.addressof(slot) for slot in slots), None)
        three = [(ctypes.c_uint * 3)(*(*shape, 1, 1)[:3]) for shape in (grid, block)]
        failed = self.library[f"launch_{kernel}"](*three, ctypes.c_size_t(shared), pointers, schedule)
        if failed:
            places = [self._place(which) for which in (0, 1)]
            where = " and ".join(place for place in places if place)
            raise EmulationError(f"{kernel}: {self.library.emulated_error().decode()}{f' ({where})' if where else ''}")

    def _check_arguments(self, kernel, arguments):
        wanted = self.library[f"arguments_of_{kernel}"]()
        sizes = [8 if isinstance(value, numpy.ndarray) else value.nbytes for value in arguments]
        declared = [self.library[f"bytes_of_{kernel}"](i) for i in range(wanted)]
        if sizes != declared:
            raise TypeError(f"{kernel}: the arguments have {sizes} bytes, the kernel declares {declared}")

    def _place(self, which):
        """Return the file and line of an address in the kernels, where that can be told."""
        offset = self.library.emulated_place(which)
        if not offset or not shutil.which("addr2line"):
            return ""
        told = subprocess.run(
            ["addr2line", "-e", str(self.path), "-i", hex(offset)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = [
            line.split(" (")[0] for line in told.stdout.splitlines() if "cuda_on_cpu" not in line and "??" not in line
        ]
        return " from ".join("/".join(line.split("/")[-2:]) for line in lines[:3])


@functools.cache
def _library(text, dtype, flavour):
    return Library(text, dtype, flavour)


def changed(file, changes=()):
    """Return a source, with texts in it replaced; each must be there exactly once."""
    text = source.read(file)
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{file} has {text.count(old)} times what is to be changed: {old}")
        text = text.replace(old, new)
    return f'#line 1 "{file}"\n{text}'


def library(file, dtype, flavour="plain", changes=()):
    """Return a source of csrc compiled for the CPU, as it is or changed."""
    return _library(changed(file, changes), dtype, flavour)


def compile_all(wanted):
    """Compile libraries at once, (file, dtype, flavour, changes) each, so that they are there when they are needed."""
    for flavour in {flavour for _, _, flavour, _ in wanted}:
        _emulator(flavour)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda one: library(*one), wanted))


LAUNCHED = set()
"""Every (file, kernel, dtype, flavour) that ``emulating`` has run."""


@contextlib.contextmanager
def emulating(flavour="plain", schedule=0, changes=None):
    """Let ``minidl.engines.cuda`` launch its kernels on the CPU; ``changes`` are those to one source, by its name."""

    def launch(file, kernel, dtype, grid, block, arguments, shared):
        found = library(file, dtype, flavour, tuple((changes or {}).get(file, ())))
        found.run(kernel, grid, block, arguments, shared, schedule)
        LAUNCHED.add((file, kernel, dtype, flavour))

    token, before = source.launcher.set(launch), (dispatch.most_blocks, dispatch.spoil)
    dispatch.most_blocks, dispatch.spoil = FEW_BLOCKS, _spoil
    try:
        yield
    finally:
        source.launcher.reset(token)
        dispatch.most_blocks, dispatch.spoil = before


def _spoil(made):
    made.fill(numpy.nan if made.dtype.kind == "f" else numpy.iinfo(made.dtype).max)
