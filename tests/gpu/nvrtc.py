"""NVRTC, NVIDIA's compiler as a library: it makes machine code for any GPU on a machine that has none."""

import ctypes
import functools
import importlib.metadata
import re
from dataclasses import dataclass

MISSING = "NVRTC is not installed: pip install 'minidl[peers]' (on Linux)"


@functools.cache
def find_nvrtc():
    """Return the compiler's library from its package, or None."""
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13", "nvidia-cuda-nvrtc-cu12"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        libraries = [str(file.locate()) for file in files if re.match(r"libnvrtc(-builtins)?\.so", file.name)]
        loaded = [ctypes.CDLL(path) for path in sorted(libraries)]  # "-builtins" first: the other looks for it by name
        if loaded:
            return loaded[-1]
    return None


def architectures():
    """Return what this NVRTC makes machine code for, such as 90 for sm_90."""
    nvrtc, count = find_nvrtc(), ctypes.c_int()
    check(nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    check(nvrtc.nvrtcGetSupportedArchs(found))
    return list(found)


def version():
    """Return the two numbers of this NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    check(find_nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def check(status):
    assert status == 0, f"NVRTC says {status}"


class Program:
    """One CUDA source, compiled by NVRTC."""

    def __init__(self, source, *options, name="test.cu"):
        self.nvrtc, self.handle = find_nvrtc(), ctypes.c_void_p()
        made = self.nvrtc.nvrtcCreateProgram(ctypes.byref(self.handle), source.encode(), name.encode(), 0, None, None)
        check(made)
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        self.status = self.nvrtc.nvrtcCompileProgram(self.handle, len(options), given)
        self.log = self._bytes("ProgramLog").rstrip(b"\0").decode()

    def _bytes(self, what):
        size = ctypes.c_size_t()
        check(getattr(self.nvrtc, f"nvrtcGet{what}Size")(self.handle, ctypes.byref(size)))
        found = ctypes.create_string_buffer(size.value)
        check(getattr(self.nvrtc, f"nvrtcGet{what}")(self.handle, found))
        return found.raw

    def ptx(self):
        """Return the assembler of every kernel by its name."""
        entries = self._bytes("PTX").rstrip(b"\0").decode().split(".entry ")[1:]
        return {entry[: entry.index("(")].strip(): entry for entry in entries}

    def cubin(self):
        """Return the machine code."""
        return self._bytes("CUBIN")


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on an architecture: registers of a thread, bytes of shared memory of a block, bytes spilled."""

    registers: int
    shared: int
    spilled: int


_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_\w+'")
_SPILLED = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def resources(log):
    """Read what the assembler says of each kernel with --ptxas-options=-v."""
    found = {}
    for part in _ENTRY.split(log)[1:]:
        if re.fullmatch(r"\w+", part):
            name = part
            continue
        stack, stores, loads = map(int, _SPILLED.search(part).groups())
        shared = _SHARED.search(part)
        registers = int(_USED.search(part).group(1))
        found[name] = Resources(registers, int(shared.group(1)) if shared else 0, stack + stores + loads)
    return found
