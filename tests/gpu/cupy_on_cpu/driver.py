"""The released CuPy without a GPU: its calls of the CUDA runtime and driver go to memory of the host.

CuPy's Cython modules import C functions from each other, by capsules in ``__pyx_capi__``. ``install`` replaces those of the runtime
and the driver before CuPy imports them: memory is the host's, streams do their work at once, and a kernel is what ``kernels.py`` has
compiled for the CPU. Everything above is the real CuPy: its array functions, the code that it generates, how it passes arguments.

This stands in for no speed, no asynchrony, no rounding of a device, and not for cuBLAS, cuRAND and Thrust themselves.
"""

import collections
import ctypes
import itertools
import os
import re
import sys
import traceback

import blas
import kernels
import sorting

SUPPORTED = "14.2.0"
"""The version of CuPy whose functions have these signatures."""
DEVICES = 2
CAPABILITY = (8, 0)

calls = collections.Counter()
"""How often each entry point was called."""
copies = collections.Counter()
"""How often something was copied, by direction."""
launches = collections.Counter()
"""How often each kernel was launched."""

_api = ctypes.pythonapi
_api.PyCapsule_GetName.restype, _api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes, _libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

_TYPES = {
    "CUdevice": ctypes.c_int,
    "PyObject *": ctypes.py_object,
    "cudaMemcpyKind": ctypes.c_int,
    "float": ctypes.c_float,
    "int": ctypes.c_int,
    "intptr_t": ctypes.c_ssize_t,
    "size_t": ctypes.c_size_t,
    "uintmax_t": ctypes.c_size_t,
    "unsigned int": ctypes.c_uint,
}
_kept = []  # what C holds pointers to


def _replace(module, name, function):
    """Put a Python function in the place of a C function that other modules of CuPy import."""
    signature = _api.PyCapsule_GetName(module.__pyx_capi__[name])
    result, listed = re.match(r"(PyObject \*|.*?) ?\((.*)\)$", signature.decode()).groups()
    listed = [] if listed == "void" else [argument.strip() for argument in listed.split(",")]
    extra = [a for a in listed if "skip_dispatch" in a or "optional_args" in a]  # how Cython calls a cpdef function
    types = [
        ctypes.c_int if "skip_dispatch" in a else ctypes.c_void_p if "optional_args" in a else _TYPES[a] for a in listed
    ]
    count = len(listed) - len(extra)
    nothing = None if result == "PyObject *" else 0

    def call(*given, calls=calls, function=function, name=name):
        if sys.is_finalizing():
            return nothing
        calls[name] += 1
        try:
            return function(*given[:count])
        except BaseException:  # it cannot pass through the C code above
            traceback.print_exc()
            os._exit(99)

    pointer = ctypes.PYFUNCTYPE(_TYPES[result], *types)(call)
    _kept.extend((pointer, signature, call))
    for each in (pointer, signature, call):
        _api.Py_IncRef(ctypes.py_object(each))  # Python takes modules down before CuPy lets go of its memory
    module.__pyx_capi__[name] = _api.PyCapsule_New(ctypes.cast(pointer, ctypes.c_void_p), signature, None)
    if hasattr(module, name):
        setattr(module, name, lambda *given, **named: call(*given, *named.values()))


# memory ---------------------------------------------------------------------------------------------------------------


def _allocate(size):
    """Return memory full of odd bytes: what is read before it is written shows."""
    place = _libc.malloc(max(size, 1) + 64)
    ctypes.memset(place, 0xA5, size + 64)
    return place


def _copy(to, source, size, kind, *_):
    copies[{1: "to device", 2: "to host"}.get(kind, "on device")] += 1
    ctypes.memmove(to, source, size)


def _fill(place, value, size, *_):
    ctypes.memset(place, value, size)


# devices, streams and events ------------------------------------------------------------------------------------------

_current = [0]
_numbers = itertools.count(16)
_ATTRIBUTES = {1: 1024, 8: 49152, 10: 32, 12: 65536, 16: 8, 39: 2048, 75: CAPABILITY[0], 76: CAPABILITY[1], 97: 166912}
_PROPERTIES = {
    "name": b"a CPU, by emulation",
    "warpSize": 32,
    "multiProcessorCount": 8,
    "maxThreadsPerBlock": 1024,
    "major": CAPABILITY[0],
    "minor": CAPABILITY[1],
}


def _set_device(device):
    if not 0 <= device < DEVICES:
        raise ValueError(f"there is no device {device}")
    _current[0] = device


def _nothing(*_):
    return None


def _none(*_):
    return 0


def _number(*_):
    return next(_numbers)


RUNTIME = {
    "_ensure_context": _nothing,
    "deviceCanAccessPeer": _none,
    "deviceGetAttribute": lambda attribute, device: _ATTRIBUTES.get(attribute, 0),
    "deviceGetDefaultMemPool": _number,
    "deviceSynchronize": _nothing,
    "driverGetVersion": lambda: 13020,
    "eventCreate": _number,
    "eventCreateWithFlags": _number,
    "eventDestroy": _nothing,
    "eventElapsedTime": lambda *_: 1.0,
    "eventQuery": _none,
    "eventRecord": _nothing,
    "eventSynchronize": _nothing,
    "free": _libc.free,
    "freeAsync": lambda place, stream: _libc.free(place),
    "freeHost": _libc.free,
    "getDevice": lambda: _current[0],
    "getDeviceCount": lambda: DEVICES,
    "getDeviceProperties": lambda device: dict(_PROPERTIES),
    "hostAlloc": lambda size, flags: _allocate(size),
    "malloc": _allocate,
    "mallocAsync": lambda size, stream: _allocate(size),
    "mallocManaged": lambda size, *_: _allocate(size),
    "memGetInfo": lambda: (2**33, 2**34),
    "memcpy": _copy,
    "memcpyAsync": _copy,
    "memset": _fill,
    "memsetAsync": _fill,
    "pointerGetMemoryType": lambda place: 2,
    "setDevice": _set_device,
    "streamCreate": _number,
    "streamCreateWithFlags": _number,
    "streamCreateWithPriority": _number,
    "streamDestroy": _nothing,
    "streamIsCapturing": _none,
    "streamQuery": _none,
    "streamSynchronize": _nothing,
    "streamWaitEvent": _nothing,
}

# kernels --------------------------------------------------------------------------------------------------------------

_modules, _functions = {}, {}


def _load_module(image):
    number = next(_numbers)
    _modules[number] = kernels.load(bytes(image).decode())
    return number


def _get_function(module, name):
    name = name.decode() if isinstance(name, bytes) else name
    number = next(_numbers)
    _functions[number] = name, _modules[module]
    return number


def _launch(function, gx, gy, gz, bx, by, bz, shared, stream, arguments, extra):
    name, library = _functions[function]
    launches[name] += 1
    kernels.run(library, name, (gx, gy, gz), (bx, by, bz), shared, arguments)


DRIVER = {
    "ctxGetCurrent": lambda: 1,
    "funcGetAttribute": lambda attribute, function: 0 if attribute else 1024,
    "funcSetAttribute": _nothing,
    "launchKernel": _launch,
    "moduleGetFunction": _get_function,
    "moduleLoadData": _load_module,
    "moduleUnload": _nothing,
}


def install():
    """Replace the entry points, and import CuPy, which must not have been imported before. Return it."""
    if "cupy" in sys.modules:
        raise RuntimeError("CuPy was imported before its driver was replaced")
    os.environ["CUPY_ACCELERATORS"] = ""  # CUB is precompiled for GPUs
    from cupy_backends.cuda.api import driver, runtime

    for name, function in RUNTIME.items():
        _replace(runtime, name, function)
    for name, function in DRIVER.items():
        _replace(driver, name, function)
    blas.install()
    import cupy

    if cupy.__version__ != SUPPORTED:
        raise RuntimeError(f"the emulation is of CuPy {SUPPORTED}, this is {cupy.__version__}")
    kernels.install()
    sorting.install()
    return cupy
