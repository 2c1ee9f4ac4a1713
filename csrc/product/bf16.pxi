# Products in bfloat16: whether they are asked for, and what products and convolutions call then.

from cpython.contextvars cimport get_value

cdef extern from "product/bf16.h" nogil:
    int minidl_bgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                     const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                     const minidl_epilogue_f32 *epilogue, int threads)
    int minidl_bgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a,
                             ptrdiff_t a_row, ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                             float beta, float *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                             ptrdiff_t c_batch, int threads)
    double minidl_bgemm_limit(ptrdiff_t steps)
    const char *minidl_bf16_name()

cdef extern from "product/narrow.h" nogil:
    void minidl_round_to_bf16(const float *x, float *y, ptrdiff_t n)

cdef object _rounds_operands = import_module("minidl.ops.precision").rounds_operands


cdef bint rounds_operands() except -1:
    """Whether products of float32 round their operands to bfloat16 in this context; see ``minidl.set_matmul_precision``."""
    return get_value(_rounds_operands)


cdef cnp.ndarray operand(cnp.ndarray x):
    """Return x as products read it in this context: a rounded copy of float32 numbers if that was asked for, else x."""
    if is_double(x) or not rounds_operands():
        return x
    x = dense(x)
    cdef cnp.ndarray y = fresh_like(x)
    cdef const float *from_ = <const float *>cnp.PyArray_DATA(x)
    cdef float *to = <float *>cnp.PyArray_DATA(y)
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x)
    with nogil:
        minidl_round_to_bf16(from_, to, size)
    return y


def bfloat16_limit(ptrdiff_t steps):
    """Do multiply-adds of bfloat16 in registers only, on one thread; return the number of operations, as ``gemm_limit``."""
    cdef double operations
    with nogil:
        operations = minidl_bgemm_limit(steps)
    return operations
