# Softmax and its logarithm.

cdef extern from "loss/softmax.h" nogil:
    void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length)
    void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                                 ptrdiff_t length)


cdef object _softmax_forward(object x, object axis, bint logarithm):
    if not taken(x):
        return None
    cdef int ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
    if ndim == 0 or type(axis) is not int or not (axis == -1 or axis == ndim - 1) or cnp.PyArray_SIZE(x) == 0:
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
    if ndim == 0 or type(axis) is not int or not (axis == -1 or axis == ndim - 1) or cnp.PyArray_SIZE(y) == 0:
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
