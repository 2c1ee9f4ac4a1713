# Sums, and the norm of gradients.

from libc.math cimport sqrt

cdef extern from "reduce/sums.h" nogil:
    double minidl_sum_of_squares(int is_double, const void *x, ptrdiff_t n)
    bint minidl_finite(int is_double, const void *x, ptrdiff_t n)
    void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride,
                            int accumulate, void *out)
    void minidl_channel_sums(int is_double, const void *x, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions,
                             int accumulate, void *out)


def norm(x, double p=2.0):
    """See ``minidl.engines.compositions.norm``. The Euclidean norm of contiguous arrays, its squares added in double precision."""
    cdef double total
    cdef bint double_
    cdef const void *data
    cdef ptrdiff_t n
    if p == 2 and taken(x) and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>x):
        double_, data, n = is_double(x), cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_SIZE(<cnp.ndarray>x)
        with nogil:
            total = minidl_sum_of_squares(double_, data, n)
        if 1e-250 < total < 1e300:  # else squares may have left the range
            return sqrt(total)
    return _compositions.norm(_compiled, x, p)
