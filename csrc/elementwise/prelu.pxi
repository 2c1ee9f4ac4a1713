# Rectification with learned slopes.

cdef extern from "elementwise/prelu.h" nogil:
    ctypedef struct minidl_prelu_arrays:
        const void *x
        const void *dy
        const void *weight
        void *y
        void *dx
        void *dweight
        ptrdiff_t images, channels, positions
        int accumulate
    void minidl_prelu(int is_double, const minidl_prelu_arrays *s)
    int minidl_prelu_backward(int is_double, const minidl_prelu_arrays *s)


cdef bint _slopes_fit(object x, object weight):
    """Whether there is something to compute, with one slope for all elements or one for each channel."""
    if not (taken(x) and taken(weight) and cnp.PyArray_SIZE(x) > 0 and cnp.PyArray_NDIM(<cnp.ndarray>weight) == 1
            and cnp.PyArray_TYPE(<cnp.ndarray>weight) == cnp.PyArray_TYPE(<cnp.ndarray>x)
            and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>weight)):
        return False
    return cnp.PyArray_SIZE(weight) == 1 or (
        cnp.PyArray_NDIM(<cnp.ndarray>x) > 1 and cnp.PyArray_SIZE(weight) == cnp.PyArray_DIMS(<cnp.ndarray>x)[1])


cdef int _prelu_arrays(cnp.ndarray x, cnp.ndarray weight, minidl_prelu_arrays *s) noexcept:
    memset(s, 0, sizeof(s[0]))
    s.x, s.weight = cnp.PyArray_DATA(x), cnp.PyArray_DATA(weight)
    s.images, s.channels = 1, cnp.PyArray_SIZE(weight)
    if s.channels > 1:
        s.images = cnp.PyArray_DIMS(x)[0]
    s.positions = cnp.PyArray_SIZE(x) // (s.images * s.channels)
    return 0


def prelu(x, weight):
    """See ``minidl.ops.activation.prelu``."""
    cdef minidl_prelu_arrays s
    cdef cnp.ndarray source, y
    cdef bint double_
    if not _slopes_fit(x, weight):
        return _activation.prelu(x, weight)
    source = dense(x)
    y, double_ = fresh_like(source), is_double(source)
    _prelu_arrays(source, weight, &s)
    s.y = cnp.PyArray_DATA(y)
    with nogil:
        minidl_prelu(double_, &s)
    return y, (x, weight)


def prelu_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.activation.prelu_backward``."""
    cdef minidl_prelu_arrays s
    cdef cnp.ndarray source, upstream, dx = None, dweight = None
    cdef bint double_, added = add, failed
    x, weight = cache
    if not (_slopes_fit(x, weight) and alike(x, dy) and well_formed(into, wanted, 1, 1) and separate(into, dy, x, weight)):
        return _activation.prelu_backward(dy, cache, into, add, wanted)
    source, upstream = dense(x), dense(dy)
    double_ = is_double(source)
    _prelu_arrays(source, weight, &s)
    s.dy = cnp.PyArray_DATA(upstream)
    if is_wanted(wanted, 1):
        dweight = storage_for(into, 0, 1, cnp.PyArray_DIMS(<cnp.ndarray>weight), cnp.PyArray_TYPE(source), &added)
        if dweight is None:
            return _activation.prelu_backward(dy, cache, into, add, wanted)
        s.dweight, s.accumulate = cnp.PyArray_DATA(dweight), added
    if is_wanted(wanted, 0):
        dx = fresh_like(source)
        s.dx = cnp.PyArray_DATA(dx)
    with nogil:
        failed = minidl_prelu_backward(double_, &s) != 0
    if failed:
        raise MemoryError("the native engine could not allocate the sums of its threads")
    return dx, dweight
