# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, embedsignature=True
# cython: freethreading_compatible=False
"""The compiled kernels: thin typed wrappers, nothing clever.

Every function has the signature and the cache of the formula of the same name. It computes itself if every array is a plain
``numpy.ndarray`` of float32 or of float64 (all of one) whose shapes fit; anything else (other dtypes, other kinds of
arrays, broadcasting, wrong arguments) goes to the formula, which computes it or says what is wrong. Strided arrays are read
in place where the kernel can, else through one contiguous copy. The GIL is released while C computes.
"""

from copy import deepcopy
from functools import lru_cache
from importlib import import_module
from inspect import unwrap

import numpy

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset, strcpy

cimport cython
cimport numpy as cnp

# The modules of formulas; `minidl.ops.linear` as an attribute is the op of that name.
_activation, _attention, _conv, _dropout, _embedding, _linear, _loss, _norm, _recurrent_ops, _softmax, _update = (
    import_module("minidl.ops." + room)
    for room in ("activation", "attention", "conv", "dropout", "embedding", "linear", "loss", "norm", "recurrent", "softmax",
                 "update")
)
cdef object _Generator = numpy.random.Generator
cdef object _PCG64 = numpy.random.PCG64

cnp.import_array()

include "bridge/declarations.pxi"

if minidl_isa() < 0:
    raise ImportError("MINIDL_ISA names an instruction set that this machine does not have")
if minidl_caches() == NULL:
    raise ImportError("MINIDL_CACHES must be sizes with ways, nearest first, like 48K/12,2M/16,30M/15")


class _Compiled:
    """The engine that compositions are made of where no kernel does them as one: these functions, or the formulas they call."""

    def __getattr__(self, name):
        return globals()[name]


cdef object _compiled = _Compiled()


class _Compositions:
    """The module of compositions, imported when one is needed: its package imports this module."""

    def __getattr__(self, name):
        return getattr(import_module("minidl.engines.compositions"), name)


cdef object _compositions = _Compositions()

include "bridge/arrays.pxi"
include "bridge/gradients.pxi"
# The families; a new one adds its line.
include "elementwise/activations.pxi"
include "elementwise/prelu.pxi"
include "elementwise/scale.pxi"
include "elementwise/dropout.pxi"
include "reduce/sums.pxi"
include "product/products.pxi"
include "product/bf16.pxi"
include "product/narrow.pxi"
include "product/linear_stack.pxi"
include "product/gemm_raw.pxi"
include "conv/conv.pxi"
include "image/pool.pxi"
include "image/resample.pxi"
include "norm/norm.pxi"
include "recurrent/recurrent.pxi"
include "loss/softmax.pxi"
include "loss/losses.pxi"
include "update/updates.pxi"
include "embedding/embedding.pxi"
include "attention/attention.pxi"
include "attention/block.pxi"
include "embedding/rotary.pxi"


def set_num_threads(int n):
    """Set how many threads the kernels use at most."""
    minidl_set_threads(n)


def get_num_threads():
    """Return how many threads the kernels use at most: 1 where threads could not be compiled."""
    return minidl_get_threads()


def hand_over_cost():
    """Return the nanoseconds that it costs to hand work to another thread: None until it was measured, which the first use does."""
    cost = minidl_hand_over_cost()
    return None if cost < 0 else cost


def set_hand_over_cost(double nanoseconds):
    """Set that cost instead of measuring it; a negative one is measured again. Results keep their bits, whatever it is."""
    minidl_set_hand_over_cost(nanoseconds)


def build_info():
    """Return what the extension was built with and which instruction sets it chose."""
    return {
        "threaded": bool(minidl_has_threads()),
        "matrix products": minidl_isa_name().decode(),
        "bfloat16 products": minidl_bf16_name().decode(),
        "int8 products": minidl_int8_name().decode(),
        "kernels": minidl_isa_name().decode(),
        "caches": _caches(),
    }


cdef str _caches():
    """Describe what plans of blocks are made for: "32K/8, 1M/8, 32M/16 (size/ways by cpuid)"."""
    cdef const minidl_cache *cache
    cdef int i
    levels = []
    for i in range(MINIDL_CACHE_LEVELS):
        cache = &minidl_caches().level[i]
        if cache.size:
            size = f"{cache.size >> 20}M" if cache.size % (1 << 20) == 0 else f"{cache.size / 1024:g}K"
            levels.append(f"{size}/{cache.ways}")
    return f"{', '.join(levels)} (size/ways by {minidl_caches().source.decode()})"


def memory_info():
    """Return the bytes kept for reuse, and how many large blocks were ever requested from the system."""
    return {"waiting": minidl_memory_waiting(), "from_system": minidl_memory_from_system()}


def set_memory_limit(size_t limit):
    """Set how many bytes may be kept for reuse; what is over goes back to the system now."""
    minidl_set_memory_limit(limit)
