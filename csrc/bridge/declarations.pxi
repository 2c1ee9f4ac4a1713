# What every family's wrapper calls: the runtime, and NumPy's C functions where Cython's own declarations stop.

cdef extern from "runtime/isa.h" nogil:
    int minidl_isa()
    const char *minidl_isa_name()

cdef extern from "runtime/caches.h" nogil:
    enum:
        MINIDL_CACHE_LEVELS
    ctypedef struct minidl_cache:
        ptrdiff_t size
        ptrdiff_t line
        int ways
    ctypedef struct minidl_cache_sizes:
        minidl_cache level[MINIDL_CACHE_LEVELS]
        const char *source
    const minidl_cache_sizes *minidl_caches()

cdef extern from "runtime/threads.h" nogil:
    void minidl_set_threads(int threads)
    int minidl_get_threads()
    int minidl_has_threads()
    double minidl_hand_over_cost()
    void minidl_set_hand_over_cost(double nanoseconds)

cdef extern from "runtime/memory.h" nogil:
    enum:
        MINIDL_SMALLEST_KEPT
    void *minidl_malloc(void *context, size_t size)
    void *minidl_calloc(void *context, size_t count, size_t size)
    void *minidl_realloc(void *context, void *block, size_t size)
    void minidl_free(void *context, void *block, size_t size)
    size_t minidl_memory_waiting()
    size_t minidl_memory_from_system()
    void minidl_set_memory_limit(size_t limit)

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *, size_t)
        void *(*calloc)(void *, size_t, size_t)
        void *(*realloc)(void *, void *, size_t)
        void (*free)(void *, void *, size_t)
    ctypedef struct PyDataMem_Handler:
        char name[127]
        cnp.uint8_t version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)
    int PyArray_ISBEHAVED_RO(cnp.ndarray)
    int PyArray_ISBEHAVED(cnp.ndarray)
    cnp.ndarray PyArray_GETCONTIGUOUS(cnp.ndarray)
    object PyArray_EMPTY(int nd, cnp.npy_intp *dims, int typenum, int fortran)

cdef extern from *:
    """
    #include <numpy/arrayscalars.h>

    /* numpy.float32(value) and numpy.float64(value), without a call through Python. */
    static PyObject *minidl_scalar_f32(float value) {
        PyObject *const scalar = PyArrayScalar_New(Float);
        if (scalar != NULL) PyArrayScalar_ASSIGN(scalar, Float, value);
        return scalar;
    }
    static PyObject *minidl_scalar_f64(double value) {
        PyObject *const scalar = PyArrayScalar_New(Double);
        if (scalar != NULL) PyArrayScalar_ASSIGN(scalar, Double, value);
        return scalar;
    }
    """
    object minidl_scalar_f32(float value)
    object minidl_scalar_f64(double value)
