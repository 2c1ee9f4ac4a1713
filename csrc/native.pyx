# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, embedsignature=True
# cython: freethreading_compatible=False
"""The compiled kernels: thin typed wrappers, nothing clever.

Every function has the signature and the cache of the formula of the same name. It computes itself if every array is a plain
``numpy.ndarray`` of float32 or of float64 (all of one) whose shapes fit; anything else (other dtypes, other kinds of
arrays, broadcasting, wrong arguments) goes to the formula, which computes it or says what is wrong. Strided arrays are read
in place where the kernel can, else through one contiguous copy. The interpreter's lock is released while C computes.
"""

from importlib import import_module

import numpy

from libc.stdint cimport int64_t
from libc.string cimport memset, strcpy

cimport cython
cimport numpy as cnp

from minidl.engines import fused as _fused
# The modules of formulas; `minidl.ops.linear` as an attribute is the op of that name.
_activation, _dropout, _linear, _loss, _softmax, _update = (
    import_module("minidl.ops." + room) for room in ("activation", "dropout", "linear", "loss", "softmax", "update")
)
cdef object _Generator = numpy.random.Generator

cnp.import_array()

cdef extern from "gemm.h" nogil:
    ctypedef struct minidl_sgemm_epilogue:
        const float *bias
        float *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const float *, float *, ptrdiff_t, const void *)
        const void *arguments
    ctypedef struct minidl_dgemm_epilogue:
        const double *bias
        double *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const double *, double *, ptrdiff_t, const void *)
        const void *arguments
    int minidl_sgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                     const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                     const minidl_sgemm_epilogue *epilogue, int threads)
    int minidl_dgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a, ptrdiff_t a_row,
                     ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col, double beta, double *c,
                     ptrdiff_t c_row, const minidl_dgemm_epilogue *epilogue, int threads)
    int minidl_sgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a,
                             ptrdiff_t a_row, ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                             float beta, float *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                             ptrdiff_t c_batch, int threads)
    int minidl_dgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a,
                             ptrdiff_t a_row, ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col,
                             double beta, double *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                             ptrdiff_t c_batch, int threads)
    const char *minidl_gemm_isa()

cdef extern from "kernels.h" nogil:
    enum:
        MINIDL_RELU, MINIDL_LEAKY_RELU, MINIDL_SIGMOID, MINIDL_TANH, MINIDL_SOFTPLUS, MINIDL_ELU, MINIDL_GELU
        MINIDL_GELU_TANH, MINIDL_SILU, MINIDL_EXP, MINIDL_LOG, MINIDL_ERF, MINIDL_DROPOUT
        MINIDL_SQUARED_ERROR, MINIDL_ABSOLUTE_ERROR, MINIDL_HUBER, MINIDL_BINARY_CROSS_ENTROPY
    ctypedef struct minidl_settings:
        double lr, momentum, dampening, weight_decay, alpha, eps, beta1, beta2, lr_decay
        int64_t step
        int nesterov, first_step, decoupled
    ctypedef struct minidl_targets:
        const int64_t *labels
        int64_t ignore_index
        const void *weight
        double smoothing
    ctypedef struct minidl_table_f32:
        void (*forward[9])(const float *, float *, ptrdiff_t, const void *)
    ctypedef struct minidl_table_f64:
        void (*forward[9])(const double *, double *, ptrdiff_t, const void *)
    ctypedef struct minidl_kernels:
        minidl_table_f32 f32
        minidl_table_f64 f64
    const char *minidl_kernels_isa()

cdef extern from "parallel.h" nogil:
    enum:
        MINIDL_SGD, MINIDL_ADAGRAD, MINIDL_RMSPROP, MINIDL_ADAM
    int minidl_start()
    void minidl_set_threads(int threads)
    int minidl_get_threads()
    int minidl_has_threads()
    const minidl_kernels *minidl_kernels_in_use()
    void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double *settings)
    void minidl_activation_backward(int is_double, int op, const void *dy, const void *saved, void *dx, ptrdiff_t n,
                                    const double *settings)
    void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length)
    void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                                 ptrdiff_t length)
    double minidl_cross_entropy(int is_double, const void *x, const minidl_targets *targets, void *slope, void *each,
                                ptrdiff_t rows, ptrdiff_t classes, double *divisor)
    double minidl_loss(int is_double, int op, const void *prediction, const void *target, void *slope, void *each,
                       ptrdiff_t n, double delta)
    void minidl_dropout(int is_double, const void *x, const float *uniform, const void *mask, double p, void *scale,
                        void *y, ptrdiff_t n)
    void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n)
    void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride,
                            int accumulate, void *out)
    void minidl_update(int is_double, int optimizer, void *const *arrays, ptrdiff_t n, const minidl_settings *settings)

cdef extern from "memory.h" nogil:
    enum:
        MINIDL_POOL_SMALLEST
    void *minidl_pool_malloc(void *context, size_t size)
    void *minidl_pool_calloc(void *context, size_t count, size_t size)
    void *minidl_pool_realloc(void *context, void *block, size_t size)
    void minidl_pool_free(void *context, void *block, size_t size)
    size_t minidl_pool_waiting()
    size_t minidl_pool_from_system()
    void minidl_pool_set_limit(size_t limit)

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

from cpython.pycapsule cimport PyCapsule_New

if minidl_start() != 0 or minidl_gemm_isa() == NULL:
    raise ImportError("MINIDL_ISA names an instruction set that this machine does not have")

# Arrays ---------------------------------------------------------------------------------------------------------------

cdef PyDataMem_Handler _pool
strcpy(_pool.name, b"minidl_pool")
_pool.version = 1
_pool.allocator.ctx = NULL
_pool.allocator.malloc = minidl_pool_malloc
_pool.allocator.calloc = minidl_pool_calloc
_pool.allocator.realloc = minidl_pool_realloc
_pool.allocator.free = minidl_pool_free
cdef object _pool_handler = PyCapsule_New(&_pool, "mem_handler", NULL)


cdef enum:
    SHORT = 4096  # elements, below which letting go of the interpreter's lock and taking it again costs as much as the work


cdef inline bint taken(object x) noexcept:
    """Whether x is a plain, aligned array of float32 or float64 in this machine's byte order."""
    if not cnp.PyArray_CheckExact(x):
        return False
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    return (kind == cnp.NPY_FLOAT or kind == cnp.NPY_DOUBLE) and PyArray_ISBEHAVED_RO(<cnp.ndarray>x)


cdef inline bint is_double(cnp.ndarray x) noexcept:
    return cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE


cdef inline bint alike(cnp.ndarray a, object b) noexcept:
    """Whether b is an array as a is: of the same dtype and shape."""
    return (
        taken(b)
        and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(<cnp.ndarray>b)
        and cnp.PyArray_SAMESHAPE(a, <cnp.ndarray>b)
    )


cdef inline cnp.ndarray dense(cnp.ndarray x):
    """Return x, or a copy of it, in C order without gaps."""
    return x if cnp.PyArray_IS_C_CONTIGUOUS(x) else PyArray_GETCONTIGUOUS(x)


cdef cnp.ndarray fresh(int ndim, cnp.npy_intp *shape, int kind):
    """Return an array with arbitrary content, from the pool if it is large."""
    cdef size_t size = 8 if kind == cnp.NPY_DOUBLE else 4
    cdef int axis
    for axis in range(ndim):
        size *= <size_t>shape[axis]
    if size < MINIDL_POOL_SMALLEST:
        return PyArray_EMPTY(ndim, shape, kind, 0)
    before = PyDataMem_SetHandler(_pool_handler)
    try:
        return PyArray_EMPTY(ndim, shape, kind, 0)
    finally:
        PyDataMem_SetHandler(before)


cdef inline cnp.ndarray fresh_like(cnp.ndarray x):
    return fresh(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))


# A matrix as the products read it: where it starts, and the steps from row to row and from column to column.
cdef struct Matrix:
    char *data
    ptrdiff_t rows, columns, row, column


cdef bint matrix(cnp.ndarray x, bint transposed, Matrix *m) noexcept:
    """Describe the last two axes of x; False if neither of them is without gaps, so that it must be copied."""
    cdef int ndim = cnp.PyArray_NDIM(x)
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(x)
    m.data = <char *>cnp.PyArray_DATA(x)
    m.rows, m.columns = shape[ndim - 2], shape[ndim - 1]
    m.row, m.column = strides[ndim - 2] // size, strides[ndim - 1] // size
    if m.columns == 1 and m.row != 1:
        m.column = 1
    if m.rows == 1 and m.column != 1:
        m.row = 1
    if m.rows * m.columns == 0:
        m.row, m.column = max(m.columns, 1), 1
    if transposed:
        m.rows, m.columns = m.columns, m.rows
        m.row, m.column = m.column, m.row
    return (m.row == 1 or m.column == 1) and m.row > 0 and m.column > 0


cdef cnp.ndarray readable(cnp.ndarray x, bint transposed, Matrix *m):
    """Describe x, or a copy of it; return whichever it is, to be kept alive."""
    if not matrix(x, transposed, m):
        x = cnp.PyArray_NewCopy(x, cnp.NPY_CORDER)
        matrix(x, transposed, m)
    return x


cdef int rows_of(cnp.ndarray x, Matrix *m) noexcept:
    """Describe a dense array as a matrix of its last axis."""
    cdef int ndim = cnp.PyArray_NDIM(x)
    m.data = <char *>cnp.PyArray_DATA(x)
    m.columns = cnp.PyArray_DIMS(x)[ndim - 1]
    m.rows = 1
    cdef int axis
    for axis in range(ndim - 1):
        m.rows *= cnp.PyArray_DIMS(x)[axis]
    m.row, m.column = max(m.columns, 1), 1
    return 0


cdef cnp.ndarray as_rows(cnp.ndarray x, Matrix *m):
    """Describe x as a matrix of its last axis, through a dense copy if need be."""
    if cnp.PyArray_NDIM(x) == 2:
        return readable(x, False, m)
    x = dense(x)
    rows_of(x, m)
    return x


# How a product goes on: bias and activation. Everything here belongs to arrays that the caller keeps alive.
cdef struct After:
    const void *bias
    int op  # an activation, or -1
    const double *settings
    void *before  # where what goes into the activation is kept, or NULL


cdef int product(bint double_, Matrix *a, Matrix *b, double beta, char *c, ptrdiff_t c_row, After *after) except -1:
    """c = a b + beta c, then what comes after."""
    cdef int status, threads = minidl_get_threads()
    cdef minidl_sgemm_epilogue s
    cdef minidl_dgemm_epilogue d
    cdef float[2] s_settings
    cdef const minidl_kernels *kernels = minidl_kernels_in_use()
    if a.rows == 0 or b.columns == 0:
        return 0
    memset(&s, 0, sizeof(s))
    memset(&d, 0, sizeof(d))
    if after != NULL:
        s.bias, d.bias = <const float *>after.bias, <const double *>after.bias
        s.pre_activation, d.pre_activation = <float *>after.before, <double *>after.before
        s.pre_activation_row = d.pre_activation_row = c_row
        if after.op >= 0:
            s_settings[0], s_settings[1] = <float>after.settings[0], <float>after.settings[1]
            s.arguments, d.arguments = <const void *>s_settings, <const void *>after.settings
            s.activation, d.activation = kernels.f32.forward[after.op], kernels.f64.forward[after.op]
    with nogil:
        if double_:
            status = minidl_dgemm(a.rows, b.columns, a.columns, 1.0, <double *>a.data, a.row, a.column,
                                  <double *>b.data, b.row, b.column, beta, <double *>c, c_row,
                                  &d if after != NULL else NULL, threads)
        else:
            status = minidl_sgemm(a.rows, b.columns, a.columns, 1.0, <float *>a.data, a.row, a.column,
                                  <float *>b.data, b.row, b.column, <float>beta, <float *>c, c_row,
                                  &s if after != NULL else NULL, threads)
    if status != 0:
        raise MemoryError("the native engine could not allocate its packing buffers")
    return 0


# Matrix products ------------------------------------------------------------------------------------------------------


def matmul(a, b, transpose_a=False, transpose_b=False, out=None, accumulate=False):
    """See ``minidl.ops.linear.matmul``. Products of two matrices, and of two equally long dense stacks of them."""
    cdef Matrix left, right
    cdef cnp.ndarray y
    cdef cnp.npy_intp shape[2]
    if not (taken(a) and taken(b) and cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.PyArray_TYPE(<cnp.ndarray>b)):
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    if cnp.PyArray_NDIM(<cnp.ndarray>a) != 2 or cnp.PyArray_NDIM(<cnp.ndarray>b) != 2:
        if out is None and cnp.PyArray_NDIM(<cnp.ndarray>a) > 2 and _stackable(a, b, transpose_a, transpose_b):
            return _stacked(dense(a), dense(b), transpose_a, transpose_b), (a, b, transpose_a, transpose_b)
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    keep_a = readable(a, transpose_a, &left)
    keep_b = readable(b, transpose_b, &right)
    if left.columns != right.rows:
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    shape[0], shape[1] = left.rows, right.columns
    if out is None:
        y = fresh(2, shape, cnp.PyArray_TYPE(<cnp.ndarray>a))
    elif _writable(out, a, shape) and not (numpy.may_share_memory(out, a) or numpy.may_share_memory(out, b)):
        y = out
    else:
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    product(is_double(a), &left, &right, 1.0 if accumulate and out is not None else 0.0, <char *>cnp.PyArray_DATA(y),
            max(shape[1], 1), NULL)
    return y, (a, b, transpose_a, transpose_b)


cdef bint _writable(object out, cnp.ndarray like, cnp.npy_intp *shape):
    return (
        taken(out)
        and PyArray_ISBEHAVED(<cnp.ndarray>out)
        and cnp.PyArray_TYPE(<cnp.ndarray>out) == cnp.PyArray_TYPE(like)
        and cnp.PyArray_NDIM(<cnp.ndarray>out) == 2
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>out)
        and cnp.PyArray_DIMS(<cnp.ndarray>out)[0] == shape[0]
        and cnp.PyArray_DIMS(<cnp.ndarray>out)[1] == shape[1]
    )


cdef bint _stackable(cnp.ndarray a, cnp.ndarray b, bint transpose_a, bint transpose_b):
    """Whether the leading axes are the same, and the matrices fit."""
    cdef int ndim = cnp.PyArray_NDIM(a), axis
    if cnp.PyArray_NDIM(b) != ndim:
        return False
    for axis in range(ndim - 2):
        if cnp.PyArray_DIMS(a)[axis] != cnp.PyArray_DIMS(b)[axis]:
            return False
    return (
        cnp.PyArray_DIMS(a)[ndim - 2 if transpose_a else ndim - 1]
        == cnp.PyArray_DIMS(b)[ndim - 1 if transpose_b else ndim - 2]
    )


cdef cnp.ndarray _stacked(cnp.ndarray a, cnp.ndarray b, bint transpose_a, bint transpose_b):
    cdef Matrix left, right
    cdef int ndim = cnp.PyArray_NDIM(a), axis, status, threads = minidl_get_threads()
    cdef cnp.npy_intp shape[32]
    cdef ptrdiff_t count = 1
    matrix(a, transpose_a, &left)
    matrix(b, transpose_b, &right)
    for axis in range(ndim - 2):
        shape[axis] = cnp.PyArray_DIMS(a)[axis]
        count *= shape[axis]
    shape[ndim - 2], shape[ndim - 1] = left.rows, right.columns
    cdef cnp.ndarray y = fresh(ndim, shape, cnp.PyArray_TYPE(a))
    cdef void *c = cnp.PyArray_DATA(y)
    cdef bint double_ = is_double(a)
    if count * left.rows * right.columns == 0:
        return y
    with nogil:
        if double_:
            status = minidl_dgemm_batched(
                count, left.rows, right.columns, left.columns, 1.0, <double *>left.data, left.row, left.column,
                <double *>right.data, right.row, right.column, 0.0, <double *>c, right.columns,
                left.rows * left.columns, right.rows * right.columns, left.rows * right.columns, threads)
        else:
            status = minidl_sgemm_batched(
                count, left.rows, right.columns, left.columns, 1.0, <float *>left.data, left.row, left.column,
                <float *>right.data, right.row, right.column, 0.0, <float *>c, right.columns,
                left.rows * left.columns, right.rows * right.columns, left.rows * right.columns, threads)
    if status != 0:
        raise MemoryError("the native engine could not allocate its packing buffers")
    return y


cdef bint _stacks_alike(cnp.ndarray dy, cnp.ndarray a, cnp.ndarray b):
    """Whether nothing was broadcast: all three have the same leading axes."""
    cdef int ndim = cnp.PyArray_NDIM(dy), axis
    if cnp.PyArray_NDIM(a) != ndim or cnp.PyArray_NDIM(b) != ndim:
        return False
    for axis in range(ndim - 2):
        if not (cnp.PyArray_DIMS(dy)[axis] == cnp.PyArray_DIMS(a)[axis] == cnp.PyArray_DIMS(b)[axis]):
            return False
    return True


def matmul_backward(dy, cache):
    """See ``minidl.ops.linear.matmul_backward``."""
    a, b, transpose_a, transpose_b = cache
    if not (taken(dy) and taken(a) and taken(b) and _stacks_alike(dy, a, b)):
        return _linear.matmul_backward(dy, cache)
    if transpose_a:  # dA = (G B^T)^T = B G^T
        da = matmul(b, dy, transpose_b, True)[0]
    else:
        da = matmul(dy, b, False, not transpose_b)[0]
    if transpose_b:  # dB = (A^T G)^T = G^T A
        db = matmul(dy, a, True, transpose_a)[0]
    else:
        db = matmul(a, dy, not transpose_a, False)[0]
    return da, db


cdef cnp.ndarray _affine(object x, object weight, object bias, int op, const double *settings, list before):
    """Return op(x W^T + b), or None where the formula must do it; ``before`` takes what goes into the activation."""
    cdef Matrix rows, columns
    cdef After after
    cdef cnp.npy_intp shape[32]
    cdef int ndim, axis
    if not (taken(x) and taken(weight)):
        return None
    ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    if ndim < 1 or ndim > 31 or cnp.PyArray_NDIM(<cnp.ndarray>weight) != 2 or kind != cnp.PyArray_TYPE(<cnp.ndarray>weight):
        return None
    if cnp.PyArray_DIMS(<cnp.ndarray>x)[ndim - 1] != cnp.PyArray_DIMS(<cnp.ndarray>weight)[1]:
        return None
    after.bias, after.op, after.settings, after.before = NULL, op, settings, NULL
    if bias is not None:
        if not (taken(bias) and cnp.PyArray_TYPE(<cnp.ndarray>bias) == kind and cnp.PyArray_NDIM(<cnp.ndarray>bias) == 1
                and cnp.PyArray_DIMS(<cnp.ndarray>bias)[0] == cnp.PyArray_DIMS(<cnp.ndarray>weight)[0]):
            return None
        bias = dense(bias)
        after.bias = cnp.PyArray_DATA(<cnp.ndarray>bias)
    keep_x = as_rows(x, &rows)
    keep_weight = readable(weight, True, &columns)
    for axis in range(ndim - 1):
        shape[axis] = cnp.PyArray_DIMS(<cnp.ndarray>x)[axis]
    shape[ndim - 1] = columns.columns
    cdef cnp.ndarray y = fresh(ndim, shape, kind)
    cdef cnp.ndarray hidden
    if before is not None:
        hidden = fresh(ndim, shape, kind)
        before.append(hidden)
        after.before = cnp.PyArray_DATA(hidden)
    product(kind == cnp.NPY_DOUBLE, &rows, &columns, 0.0, <char *>cnp.PyArray_DATA(y), max(columns.columns, 1), &after)
    return y


def linear(x, weight, bias=None):
    """See ``minidl.ops.linear.linear``. The bias is added while each tile of the product is still in cache."""
    cdef cnp.ndarray y = _affine(x, weight, bias, -1, NULL, None)
    if y is None:
        return _linear.linear(x, weight, bias)
    return y, (x, weight, bias is not None)


cdef bint _fits(object dy, tuple cache):
    """Whether dy is the upstream gradient of the linear op that left this cache, all in arrays that kernels take."""
    if not (taken(dy) and taken(cache[0]) and taken(cache[1])):
        return False
    cdef cnp.ndarray g = dy, x = cache[0], weight = cache[1]
    cdef int ndim = cnp.PyArray_NDIM(x), axis
    if cnp.PyArray_NDIM(g) != ndim or cnp.PyArray_TYPE(g) != cnp.PyArray_TYPE(x) != cnp.PyArray_TYPE(weight):
        return False
    if cnp.PyArray_TYPE(g) != cnp.PyArray_TYPE(weight):
        return False
    for axis in range(ndim - 1):
        if cnp.PyArray_DIMS(g)[axis] != cnp.PyArray_DIMS(x)[axis]:
            return False
    return cnp.PyArray_DIMS(g)[ndim - 1] == cnp.PyArray_DIMS(weight)[0]


cdef int _parameter_gradients(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dweight, cnp.ndarray dbias,
                              bint accumulate) except -1:
    """dW = G^T X and db = column sums of G, written or added."""
    cdef Matrix rows, upstream, transposed
    cdef cnp.npy_intp out = cnp.PyArray_DIMS(dweight)[0]
    keep_x = as_rows(x, &rows)
    keep_dy = as_rows(dy, &upstream)
    transposed.data, transposed.rows, transposed.columns = upstream.data, upstream.columns, upstream.rows
    transposed.row, transposed.column = upstream.column, upstream.row
    if rows.rows == 0:
        if not accumulate:
            dweight[...] = 0
            if dbias is not None:
                dbias[...] = 0
        return 0
    product(is_double(dy), &transposed, &rows, 1.0 if accumulate else 0.0, <char *>cnp.PyArray_DATA(dweight),
            max(cnp.PyArray_DIMS(dweight)[1], 1), NULL)
    if dbias is None:
        return 0
    cdef bint double_ = is_double(dy)
    cdef void *sums = cnp.PyArray_DATA(dbias)
    if upstream.column != 1 and out > 1:
        keep_dy = dense(dy)
        rows_of(keep_dy, &upstream)
    with nogil:
        minidl_column_sums(double_, upstream.data, upstream.rows, upstream.columns, upstream.row, accumulate, sums)
    return 0


cdef cnp.ndarray _input_gradient(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray weight):
    """dX = G W"""
    cdef Matrix upstream, w
    cdef cnp.ndarray dx = fresh_like(x)
    keep_dy = as_rows(dy, &upstream)
    keep_w = readable(weight, False, &w)
    if upstream.columns == 0:
        dx[...] = 0
        return dx
    product(is_double(dy), &upstream, &w, 0.0, <char *>cnp.PyArray_DATA(dx), max(w.columns, 1), NULL)
    return dx


def linear_backward(dy, cache):
    """See ``minidl.ops.linear.linear_backward``."""
    if not _fits(dy, cache):
        return _linear.linear_backward(dy, cache)
    cdef cnp.ndarray x = cache[0], weight = cache[1], dbias = None
    cdef cnp.ndarray dweight = fresh_like(weight)
    if cache[2]:
        dbias = fresh(1, cnp.PyArray_DIMS(weight), cnp.PyArray_TYPE(weight))
    _parameter_gradients(dy, x, dweight, dbias, False)
    return _input_gradient(dy, x, weight), dweight, dbias


cdef bint _storage(object dweight, object dbias, cnp.ndarray weight):
    """Whether the arrays for the gradients can be written in place."""
    if not (alike(weight, dweight) and PyArray_ISBEHAVED(<cnp.ndarray>dweight)
            and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>dweight)):
        return False
    return dbias is None or (
        taken(dbias)
        and PyArray_ISBEHAVED(<cnp.ndarray>dbias)
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>dbias)
        and cnp.PyArray_TYPE(<cnp.ndarray>dbias) == cnp.PyArray_TYPE(weight)
        and cnp.PyArray_NDIM(<cnp.ndarray>dbias) == 1
        and cnp.PyArray_DIMS(<cnp.ndarray>dbias)[0] == cnp.PyArray_DIMS(weight)[0]
    )


def linear_backward_into(dy, cache, dweight, dbias, accumulate=False, input_gradient=True):
    """See ``minidl.engines.fused.linear_backward_into``."""
    if not (_fits(dy, cache) and _storage(dweight, dbias, cache[1])):
        return _fused.linear_backward_into(_formulas, dy, cache, dweight, dbias, accumulate, input_gradient)
    _parameter_gradients(dy, cache[0], dweight, dbias, accumulate)
    return _input_gradient(dy, cache[0], cache[1]) if input_gradient else None


 
class _formulas:
    """The engine that fused compositions fall back on."""

    linear = staticmethod(_linear.linear)
    linear_backward = staticmethod(_linear.linear_backward)


# Activations ----------------------------------------------------------------------------------------------------------


cdef cnp.ndarray forward(object x, int op, double first=0, double second=0):
    """Return the activation of x, or None where the formula must do it."""
    if not taken(x):
        return None
    cdef cnp.ndarray source = dense(x)
    cdef cnp.ndarray y = fresh_like(source)
    cdef double[2] settings
    settings[0], settings[1] = first, second
    cdef ptrdiff_t n = cnp.PyArray_SIZE(source)
    cdef const void *from_ = cnp.PyArray_DATA(source)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef bint double_ = is_double(source)
    if n < SHORT:
        minidl_activation(double_, op, from_, to, n, settings)
    else:
        with nogil:
            minidl_activation(double_, op, from_, to, n, settings)
    return y


cdef cnp.ndarray backward(object dy, object saved, int op, double first=0, double second=0):
    """Return dx, or None where the formula must do it."""
    if not (taken(saved) and alike(<cnp.ndarray>saved, dy)):
        return None
    cdef cnp.ndarray upstream = dense(dy), kept = dense(saved)
    cdef cnp.ndarray dx = fresh_like(kept)
    cdef double[2] settings
    settings[0], settings[1] = first, second
    cdef ptrdiff_t n = cnp.PyArray_SIZE(kept)
    cdef const void *g = cnp.PyArray_DATA(upstream)
    cdef const void *s = cnp.PyArray_DATA(kept)
    cdef void *to = cnp.PyArray_DATA(dx)
    cdef bint double_ = is_double(kept)
    if n < SHORT:
        minidl_activation_backward(double_, op, g, s, to, n, settings)
    else:
        with nogil:
            minidl_activation_backward(double_, op, g, s, to, n, settings)
    return dx


def relu(x):
    """See ``minidl.ops.activation.relu``."""
    y = forward(x, MINIDL_RELU)
    return (y, (y,)) if y is not None else _activation.relu(x)


def relu_backward(dy, cache):
    """See ``minidl.ops.activation.relu_backward``."""
    dx = backward(dy, cache[0], MINIDL_RELU)
    return dx if dx is not None else _activation.relu_backward(dy, cache)


def leaky_relu(x, negative_slope=0.01):
    """See ``minidl.ops.activation.leaky_relu``."""
    y = forward(x, MINIDL_LEAKY_RELU, negative_slope)
    return (y, (x, negative_slope)) if y is not None else _activation.leaky_relu(x, negative_slope)


def leaky_relu_backward(dy, cache):
    """See ``minidl.ops.activation.leaky_relu_backward``."""
    dx = backward(dy, cache[0], MINIDL_LEAKY_RELU, cache[1])
    return dx if dx is not None else _activation.leaky_relu_backward(dy, cache)


def sigmoid(x):
    """See ``minidl.ops.activation.sigmoid``."""
    y = forward(x, MINIDL_SIGMOID)
    return (y, (y,)) if y is not None else _activation.sigmoid(x)


def sigmoid_backward(dy, cache):
    """See ``minidl.ops.activation.sigmoid_backward``."""
    dx = backward(dy, cache[0], MINIDL_SIGMOID)
    return dx if dx is not None else _activation.sigmoid_backward(dy, cache)


def tanh(x):
    """See ``minidl.ops.activation.tanh``."""
    y = forward(x, MINIDL_TANH)
    return (y, (y,)) if y is not None else _activation.tanh(x)


def tanh_backward(dy, cache):
    """See ``minidl.ops.activation.tanh_backward``."""
    dx = backward(dy, cache[0], MINIDL_TANH)
    return dx if dx is not None else _activation.tanh_backward(dy, cache)


def softplus(x, beta=1.0, threshold=20.0):
    """See ``minidl.ops.activation.softplus``."""
    y = forward(x, MINIDL_SOFTPLUS, beta, threshold) if beta > 0 else None
    return (y, (x, beta, threshold)) if y is not None else _activation.softplus(x, beta, threshold)


def softplus_backward(dy, cache):
    """See ``minidl.ops.activation.softplus_backward``."""
    dx = backward(dy, cache[0], MINIDL_SOFTPLUS, cache[1], cache[2])
    return dx if dx is not None else _activation.softplus_backward(dy, cache)


def elu(x, alpha=1.0):
    """See ``minidl.ops.activation.elu``."""
    y = forward(x, MINIDL_ELU, alpha)
    return (y, (x, alpha)) if y is not None else _activation.elu(x, alpha)


def elu_backward(dy, cache):
    """See ``minidl.ops.activation.elu_backward``."""
    dx = backward(dy, cache[0], MINIDL_ELU, cache[1])
    return dx if dx is not None else _activation.elu_backward(dy, cache)


cdef int _gelu(object approximate):
    """Return the kernel for GELU's ``approximate``, or -1 where the formula must object."""
    return MINIDL_GELU if approximate == "none" else MINIDL_GELU_TANH if approximate == "tanh" else -1


def gelu(x, approximate="none"):
    """See ``minidl.ops.activation.gelu``."""
    cdef int op = _gelu(approximate)
    y = forward(x, op) if op >= 0 else None
    return (y, (x, approximate)) if y is not None else _activation.gelu(x, approximate)


def gelu_backward(dy, cache):
    """See ``minidl.ops.activation.gelu_backward``."""
    dx = backward(dy, cache[0], _gelu(cache[1]))
    return dx if dx is not None else _activation.gelu_backward(dy, cache)


def silu(x):
    """See ``minidl.ops.activation.silu``."""
    y = forward(x, MINIDL_SILU)
    return (y, (x,)) if y is not None else _activation.silu(x)


def silu_backward(dy, cache):
    """See ``minidl.ops.activation.silu_backward``."""
    dx = backward(dy, cache[0], MINIDL_SILU)
    return dx if dx is not None else _activation.silu_backward(dy, cache)


cdef dict _FUNCTIONS = {"exp": MINIDL_EXP, "log": MINIDL_LOG, "erf": MINIDL_ERF, "sigmoid": MINIDL_SIGMOID, "tanh": MINIDL_TANH}


def vector_function(str name, x):
    """Return exp, log, erf, sigmoid or tanh of a float32 or float64 array, as the kernels compute them.

    The ops are made of these; by themselves they are here to be measured (see docs/vector_math.md).
    """
    y = forward(x, _FUNCTIONS[name])
    if y is None:
        raise TypeError(f"vector_function: expected a float32 or float64 array, got {x!r}")
    return y


# Products with an activation ------------------------------------------------------------------------------------------

cdef dict _KEEPS_OUTPUT = {"relu": MINIDL_RELU, "sigmoid": MINIDL_SIGMOID, "tanh": MINIDL_TANH}
cdef dict _KEEPS_INPUT = {
    "leaky_relu": (MINIDL_LEAKY_RELU, (0.01,)),
    "softplus": (MINIDL_SOFTPLUS, (1.0, 20.0)),
    "elu": (MINIDL_ELU, (1.0,)),
    "gelu": (MINIDL_GELU, ("none",)),
    "silu": (MINIDL_SILU, ()),
}


def linear_activation(x, weight, bias, activation, settings=()):
    """See ``minidl.engines.fused.linear_activation``: the activation is applied to each tile while it is in cache."""
    cdef cnp.ndarray y
    cdef list before = []
    cdef double[2] numbers
    cdef int op
    numbers[0] = numbers[1] = 0
    kept = _KEEPS_OUTPUT.get(activation)
    if kept is not None:
        y = _affine(x, weight, bias, kept, numbers, None)
        if y is not None:
            return y, ((x, weight, bias is not None), (y,))
    elif activation in _KEEPS_INPUT:
        op, defaults = _KEEPS_INPUT[activation]
        full = tuple(settings) + defaults[len(settings):]
        if activation == "gelu":
            op = _gelu(full[0])
        else:
            for position in range(len(full)):
                numbers[position] = full[position]
        if op >= 0 and not (op == MINIDL_SOFTPLUS and not numbers[0] > 0):
            y = _affine(x, weight, bias, op, numbers, before)
            if y is not None:
                return y, ((x, weight, bias is not None), (before[0], *full))
    hidden, linear_cache = linear(x, weight, bias)
    y_, activation_cache = globals()[activation](hidden, *settings)
    return y_, (linear_cache, activation_cache)


def linear_activation_backward_into(dy, cache, activation, dweight, dbias, accumulate=False, input_gradient=True):
    """See ``minidl.engines.fused.linear_activation_backward_into``."""
    dhidden = globals()[activation + "_backward"](dy, cache[1])
    return linear_backward_into(dhidden, cache[0], dweight, dbias, accumulate, input_gradient)


# Softmax --------------------------------------------------------------------------------------------------------------


cdef object _softmax_forward(object x, object axis, bint logarithm):
    if not taken(x):
        return None
    cdef int ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
    if ndim == 0 or not (axis == -1 or axis == ndim - 1) or cnp.PyArray_DIMS(<cnp.ndarray>x)[ndim - 1] == 0:
        return None
    cdef Matrix rows
    cdef cnp.ndarray source = dense(x)
    cdef cnp.ndarray y = fresh_like(source)
    cdef bint double_ = is_double(source)
    cdef void *to = cnp.PyArray_DATA(y)
    rows_of(source, &rows)
    with nogil:
        minidl_softmax(double_, logarithm, rows.data, to, rows.rows, rows.columns)
    return y


cdef object _softmax_back(object dy, object y, object axis, bint logarithm):
    if not (taken(y) and alike(<cnp.ndarray>y, dy)):
        return None
    cdef int ndim = cnp.PyArray_NDIM(<cnp.ndarray>y)
    if ndim == 0 or not (axis == -1 or axis == ndim - 1):
        return None
    cdef Matrix rows
    cdef cnp.ndarray upstream = dense(dy), kept = dense(y)
    cdef cnp.ndarray dx = fresh_like(kept)
    cdef bint double_ = is_double(kept)
    cdef const void *g = cnp.PyArray_DATA(upstream)
    cdef void *to = cnp.PyArray_DATA(dx)
    rows_of(kept, &rows)
    with nogil:
        minidl_softmax_backward(double_, logarithm, g, rows.data, to, rows.rows, rows.columns)
    return dx


def softmax(x, axis=-1):
    """See ``minidl.ops.softmax.softmax``. Along the last axis; others go to the formula."""
    y = _softmax_forward(x, axis, False)
    return (y, (y, axis)) if y is not None else _softmax.softmax(x, axis)


def softmax_backward(dy, cache):
    """See ``minidl.ops.softmax.softmax_backward``."""
    dx = _softmax_back(dy, cache[0], cache[1], False)
    return dx if dx is not None else _softmax.softmax_backward(dy, cache)


def log_softmax(x, axis=-1):
    """See ``minidl.ops.softmax.log_softmax``. Along the last axis; others go to the formula."""
    y = _softmax_forward(x, axis, True)
    return (y, (y, axis)) if y is not None else _softmax.log_softmax(x, axis)


def log_softmax_backward(dy, cache):
    """See ``minidl.ops.softmax.log_softmax_backward``."""
    dx = _softmax_back(dy, cache[0], cache[1], True)
    return dx if dx is not None else _softmax.log_softmax_backward(dy, cache)


# Losses ---------------------------------------------------------------------------------------------------------------

cdef object _float32 = numpy.float32
cdef object _float64 = numpy.float64


cdef object _scalar(double value, cnp.ndarray like):
    return _float64(value) if is_double(like) else _float32(value)


cdef object _pointwise(int op, object prediction, object target, object reduction, double delta=0):
    """Return a loss of one element at a time and its cache, or None where the formula must do it."""
    if not (taken(prediction) and taken(target)):
        return None
    cdef cnp.ndarray p = prediction, t = target, each = None
    cdef ptrdiff_t n = cnp.PyArray_SIZE(p)
    cdef double factor = 1.0, total
    if n == 0 or cnp.PyArray_TYPE(p) != cnp.PyArray_TYPE(t) or not _aligned(p, t):
        return None
    if reduction == "mean":
        factor = 1.0 / n
    elif reduction == "half_sum" and op == MINIDL_SQUARED_ERROR:
        factor = 0.5
    elif not (reduction == "sum" or reduction == "none"):
        return None
    p, t = dense(p), dense(t)
    cdef cnp.ndarray slope = fresh_like(p)
    cdef const void *p_data = cnp.PyArray_DATA(p)
    cdef const void *t_data = cnp.PyArray_DATA(t)
    cdef void *s_data = cnp.PyArray_DATA(slope)
    cdef void *e_data = NULL
    cdef bint double_ = is_double(p)
    if reduction == "none":
        each = fresh_like(p)
        e_data = cnp.PyArray_DATA(each)
    if n < SHORT:
        total = minidl_loss(double_, op, p_data, t_data, s_data, e_data, n, delta)
    else:
        with nogil:
            total = minidl_loss(double_, op, p_data, t_data, s_data, e_data, n, delta)
    return (_scalar(total * factor, p) if each is None else each), (slope, factor)


def mse_loss(prediction, target, reduction="mean"):
    """See ``minidl.ops.loss.mse_loss``. Loss and slope in one pass."""
    found = _pointwise(MINIDL_SQUARED_ERROR, prediction, target, reduction)
    return found if found is not None else _loss.mse_loss(prediction, target, reduction)


def l1_loss(prediction, target, reduction="mean"):
    """See ``minidl.ops.loss.l1_loss``. Loss and slope in one pass."""
    found = _pointwise(MINIDL_ABSOLUTE_ERROR, prediction, target, reduction)
    return found if found is not None else _loss.l1_loss(prediction, target, reduction)


def huber_loss(prediction, target, delta=1.0, reduction="mean"):
    """See ``minidl.ops.loss.huber_loss``. Loss and slope in one pass."""
    found = _pointwise(MINIDL_HUBER, prediction, target, reduction, delta) if delta > 0 else None
    return found if found is not None else _loss.huber_loss(prediction, target, delta, reduction)


def binary_cross_entropy_with_logits(logits, target, weight=None, pos_weight=None, reduction="mean"):
    """See ``minidl.ops.loss.binary_cross_entropy_with_logits``. Loss and slope in one pass; weighted, the formula."""
    found = None
    if weight is None and pos_weight is None:
        found = _pointwise(MINIDL_BINARY_CROSS_ENTROPY, logits, target, reduction)
    if found is not None:
        return found
    return _loss.binary_cross_entropy_with_logits(logits, target, weight, pos_weight, reduction)


cdef bint _aligned(cnp.ndarray p, cnp.ndarray t):
    """Whether the shapes agree, or are (N, 1) and (N,) either way round."""
    if cnp.PyArray_SAMESHAPE(p, t):
        return True
    if cnp.PyArray_NDIM(p) + cnp.PyArray_NDIM(t) != 3 or cnp.PyArray_NDIM(p) == 0 or cnp.PyArray_NDIM(t) == 0:
        return False
    if cnp.PyArray_DIMS(p)[0] != cnp.PyArray_DIMS(t)[0]:
        return False
    return cnp.PyArray_DIMS(p if cnp.PyArray_NDIM(p) == 2 else t)[1] == 1


cdef object _scaled(object dloss, object cache):
    """Return dloss s slope for a plain number dloss, or None."""
    if not (type(dloss) is float and taken(cache[0])):
        return None
    cdef cnp.ndarray slope = dense(cache[0])
    cdef double factor = dloss * cache[1]
    cdef cnp.ndarray dx = fresh_like(slope)
    cdef const void *from_ = cnp.PyArray_DATA(slope)
    cdef void *to = cnp.PyArray_DATA(dx)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(slope)
    cdef bint double_ = is_double(slope)
    with nogil:
        minidl_scale(double_, from_, factor, to, n)
    return dx


def mse_loss_backward(dloss, cache):
    """See ``minidl.ops.loss.mse_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.mse_loss_backward(dloss, cache)


def l1_loss_backward(dloss, cache):
    """See ``minidl.ops.loss.l1_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.l1_loss_backward(dloss, cache)


def huber_loss_backward(dloss, cache):
    """See ``minidl.ops.loss.huber_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.huber_loss_backward(dloss, cache)


def binary_cross_entropy_with_logits_backward(dloss, cache):
    """See ``minidl.ops.loss.binary_cross_entropy_with_logits_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.binary_cross_entropy_with_logits_backward(dloss, cache)


cdef object _cross_entropy(object logits, object target, object weight, object ignore_index, double smoothing,
                           object reduction):
    """Return the loss of rows of logits with class indices and its cache, or None where the formula must do it."""
    if not (taken(logits) and cnp.PyArray_CheckExact(target) and 0 <= smoothing <= 1):
        return None
    cdef cnp.ndarray x = logits, t = target, each = None
    cdef int kind = cnp.PyArray_TYPE(t)
    if (cnp.PyArray_NDIM(x) != 2 or cnp.PyArray_NDIM(t) != 1 or cnp.PyArray_SIZE(x) == 0
            or cnp.PyArray_DIMS(x)[0] != cnp.PyArray_DIMS(t)[0] or not cnp.PyTypeNum_ISINTEGER(kind)
            or kind == cnp.NPY_UINT64 or not (reduction == "mean" or reduction == "sum" or reduction == "none")):
        return None
    cdef ptrdiff_t rows = cnp.PyArray_DIMS(x)[0], classes = cnp.PyArray_DIMS(x)[1], row
    cdef minidl_targets targets
    targets.weight, targets.smoothing, targets.ignore_index = NULL, smoothing, ignore_index
    if weight is not None:
        if not (taken(weight) and cnp.PyArray_TYPE(<cnp.ndarray>weight) == cnp.PyArray_TYPE(x)
                and cnp.PyArray_NDIM(<cnp.ndarray>weight) == 1 and cnp.PyArray_DIMS(<cnp.ndarray>weight)[0] == classes):
            return None
        weight = dense(weight)
        targets.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
    x = dense(x)
    if kind != cnp.NPY_INT64 or not PyArray_ISBEHAVED_RO(t):
        t = t.astype(numpy.int64)
    t = dense(t)
    targets.labels = <const int64_t *>cnp.PyArray_DATA(t)
    for row in range(rows):
        if not (0 <= targets.labels[row] < classes or targets.labels[row] == targets.ignore_index):
            return None
    cdef cnp.ndarray slope = fresh_like(x)
    cdef const void *x_data = cnp.PyArray_DATA(x)
    cdef void *s_data = cnp.PyArray_DATA(slope)
    cdef void *e_data = NULL
    cdef bint double_ = is_double(x)
    cdef double total, divisor
    if reduction == "none":
        each = fresh(1, cnp.PyArray_DIMS(t), cnp.PyArray_TYPE(x))
        e_data = cnp.PyArray_DATA(each)
    with nogil:
        total = minidl_cross_entropy(double_, x_data, &targets, s_data, e_data, rows, classes, &divisor)
    if each is not None:
        return each, (slope, 1.0, 1)
    if reduction == "sum":
        return _scalar(total, x), (slope, 1.0, 1)
    if divisor == 0:  # nothing counts: there is no mean, and no gradient
        return _scalar(float("nan"), x), (slope, 0.0, 1)
    return _scalar(total / divisor, x), (slope, 1.0 / divisor, 1)


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """See ``minidl.ops.loss.cross_entropy``. Loss and slope of rows of logits with class indices in one pass.

    Probabilities as targets, and classes on an axis before others, go to the formula.
    """
    found = _cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction)
    if found is not None:
        return found
    return _loss.cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction)


def cross_entropy_backward(dloss, cache):
    """See ``minidl.ops.loss.cross_entropy_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.cross_entropy_backward(dloss, cache)


# Dropout --------------------------------------------------------------------------------------------------------------


def dropout(x, p=0.5, random=None):
    """See ``minidl.ops.dropout.dropout``. Mask and product in one pass, after the generator's numbers."""
    if not (taken(x) and type(p) is float and 0 <= p <= 1):
        return _dropout.dropout(x, p, random)
    cdef cnp.ndarray source = dense(x), numbers
    cdef const void *uniform = NULL
    cdef const void *mask = NULL
    if isinstance(random, _Generator):
        numbers = dense(random.random(x.shape, dtype=_float32))
        uniform = cnp.PyArray_DATA(numbers)
    elif (cnp.PyArray_CheckExact(random) and cnp.PyArray_TYPE(<cnp.ndarray>random) == cnp.NPY_BOOL
            and cnp.PyArray_SAMESHAPE(<cnp.ndarray>random, source)):
        numbers = dense(random)
        mask = cnp.PyArray_DATA(numbers)
    else:
        return _dropout.dropout(x, p, random)
    cdef cnp.ndarray scale = fresh_like(source), y = fresh_like(source)
    cdef const void *from_ = cnp.PyArray_DATA(source)
    cdef void *scale_data = cnp.PyArray_DATA(scale)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(source)
    cdef bint double_ = is_double(source)
    cdef double probability = p
    with nogil:
        minidl_dropout(double_, from_, <const float *>uniform, mask, probability, scale_data, to, n)
    return y, (scale,)


def dropout_backward(dy, cache):
    """See ``minidl.ops.dropout.dropout_backward``."""
    dx = backward(dy, cache[0], MINIDL_DROPOUT)
    return dx if dx is not None else _dropout.dropout_backward(dy, cache)


# Optimiser updates ----------------------------------------------------------------------------------------------------


cdef bint _flat(object array, cnp.ndarray value) noexcept:
    return (
        alike(value, array)
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array)
        and PyArray_ISBEHAVED(<cnp.ndarray>array)
    )


cdef bint _updated(int optimizer, tuple arrays, minidl_settings *settings):
    """Run an update over arrays that are all alike (None for those left out); False where the formula must do it."""
    cdef void *pointers[5]
    cdef int position
    cdef ptrdiff_t n
    if not (taken(arrays[0]) and _flat(arrays[0], arrays[0]) and _flat(arrays[1], arrays[0])):
        return False
    for position in range(5):
        pointers[position] = NULL
    for position in range(len(arrays)):
        if arrays[position] is not None:
            if not _flat(arrays[position], arrays[0]):
                return False
            pointers[position] = cnp.PyArray_DATA(<cnp.ndarray>arrays[position])
    n = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0])
    cdef bint double_ = is_double(arrays[0])
    with nogil:
        minidl_update(double_, optimizer, pointers, n, settings)
    return True


def sgd_update(value, grad, momentum_buffer, *, double lr, double momentum=0.0, double dampening=0.0,
               bint nesterov=False, double weight_decay=0.0, bint first_step=False):
    """See ``minidl.ops.update.sgd_update``."""
    cdef minidl_settings s
    s.lr, s.momentum, s.dampening, s.weight_decay = lr, momentum, dampening, weight_decay
    s.nesterov, s.first_step = nesterov, first_step
    if (momentum != 0 and momentum_buffer is None) or not _updated(MINIDL_SGD, (value, grad, momentum_buffer), &s):
        _update.sgd_update(value, grad, momentum_buffer, lr=lr, momentum=momentum, dampening=dampening,
                           nesterov=nesterov, weight_decay=weight_decay, first_step=first_step)


def adagrad_update(value, grad, square_sum, *, double lr, double lr_decay=0.0, double eps=1e-10,
                   double weight_decay=0.0, step):
    """See ``minidl.ops.update.adagrad_update``."""
    cdef minidl_settings s
    s.lr, s.lr_decay, s.eps, s.weight_decay, s.step = lr, lr_decay, eps, weight_decay, step
    if not _updated(MINIDL_ADAGRAD, (value, grad, square_sum), &s):
        _update.adagrad_update(value, grad, square_sum, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                               step=step)


def rmsprop_update(value, grad, square_average, grad_average, momentum_buffer, *, double lr, double alpha=0.99,
                   double eps=1e-8, double weight_decay=0.0, double momentum=0.0):
    """See ``minidl.ops.update.rmsprop_update``."""
    cdef minidl_settings s
    s.lr, s.alpha, s.eps, s.weight_decay, s.momentum = lr, alpha, eps, weight_decay, momentum
    if (momentum != 0 and momentum_buffer is None) or not _updated(
            MINIDL_RMSPROP, (value, grad, square_average, grad_average, momentum_buffer), &s):
        _update.rmsprop_update(value, grad, square_average, grad_average, momentum_buffer, lr=lr, alpha=alpha, eps=eps,
                               weight_decay=weight_decay, momentum=momentum)


def adam_update(value, grad, m, v, v_max, *, double lr, double beta1=0.9, double beta2=0.999, double eps=1e-8,
                double weight_decay=0.0, bint decoupled=False, step):
    """See ``minidl.ops.update.adam_update``."""
    cdef minidl_settings s
    s.lr, s.beta1, s.beta2, s.eps, s.weight_decay = lr, beta1, beta2, eps, weight_decay
    s.decoupled, s.step = decoupled, step
    if not _updated(MINIDL_ADAM, (value, grad, m, v, v_max), &s):
        _update.adam_update(value, grad, m, v, v_max, lr=lr, beta1=beta1, beta2=beta2, eps=eps,
                            weight_decay=weight_decay, decoupled=decoupled, step=step)


# The engine's own -----------------------------------------------------------------------------------------------------


def set_num_threads(int n):
    """Set how many threads the kernels use at most."""
    minidl_set_threads(n)


def get_num_threads():
    """Return how many threads the kernels use at most: 1 where the thread pool could not be compiled."""
    return minidl_get_threads()


def build_info():
    """Return what the extension was built with and which instruction sets it chose."""
    return {
        "threaded": bool(minidl_has_threads()),
        "matrix products": minidl_gemm_isa().decode(),
        "kernels": minidl_kernels_isa().decode(),
    }


def memory_info():
    """Return the bytes that wait in the pool, and how many large blocks were ever asked of the system."""
    return {"waiting": minidl_pool_waiting(), "from_system": minidl_pool_from_system()}


def set_memory_limit(size_t limit):
    """Set how many bytes may wait in the pool; what is over goes back to the system now."""
    minidl_pool_set_limit(limit)
