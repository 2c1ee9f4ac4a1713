# Products of one element at a time.

cdef extern from "elementwise/scale.h" nogil:
    void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n)
    void minidl_scale_rows(int is_double, const void *x, const void *factors, void *y, ptrdiff_t rows, ptrdiff_t n)
    void minidl_multiply(int is_double, const void *a, const void *b, void *y, ptrdiff_t n)


cdef int scale_into(cnp.ndarray x, double factor, cnp.ndarray y) except -1:
    """y = x factor, for two dense arrays that are alike, or one."""
    cdef bint double_ = is_double(x)
    cdef const void *source = cnp.PyArray_DATA(x)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x)
    if n < SHORT:
        minidl_scale(double_, source, factor, to, n)
    else:
        with nogil:
            minidl_scale(double_, source, factor, to, n)
    return 0


cdef cnp.ndarray scaled_rows(cnp.ndarray x, cnp.ndarray factors):
    """Return x with each of its rows multiplied by a factor of its own; x has as many elements for each factor."""
    x, factors = dense(x), dense(factors)
    cdef cnp.ndarray y = fresh_like(x)
    cdef bint double_ = is_double(x)
    cdef const void *source = cnp.PyArray_DATA(x)
    cdef const void *each = cnp.PyArray_DATA(factors)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef ptrdiff_t rows = cnp.PyArray_SIZE(factors)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(x) // rows if rows > 0 else 0
    with nogil:
        minidl_scale_rows(double_, source, each, to, rows, n)
    return y


cdef cnp.ndarray multiplied(cnp.ndarray a, cnp.ndarray b):
    """Return a b, of two arrays that are alike."""
    a, b = dense(a), dense(b)
    cdef cnp.ndarray y = fresh_like(a)
    cdef bint double_ = is_double(a)
    cdef const void *left = cnp.PyArray_DATA(a)
    cdef const void *right = cnp.PyArray_DATA(b)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(a)
    if n < SHORT:
        minidl_multiply(double_, left, right, to, n)
    else:
        with nogil:
            minidl_multiply(double_, left, right, to, n)
    return y


def rescale(x, double factor):
    """See ``minidl.engines.compositions.rescale``."""
    if taken(x) and writable(x, x):
        scale_into(x, factor, x)
    else:
        _compositions.rescale(_compiled, x, factor)
