# Normalisation.

cdef extern from "kernels.h" nogil:
    ctypedef struct minidl_norm:
        const void *x
        const void *dy
        const void *weight
        const void *bias
        void *y
        void *mean
        void *variance
        void *dweight
        void *dbias
        ptrdiff_t images, channels, positions
        double eps
        int own_statistics

cdef extern from "parallel.h" nogil:
    void minidl_batch_norm(int is_double, int backward, const minidl_norm *s)


cdef bint _per_channel(object values, cnp.ndarray x):
    """Whether there is nothing, or one number for each channel."""
    return values is None or (
        taken(values) and cnp.PyArray_TYPE(<cnp.ndarray>values) == cnp.PyArray_TYPE(x)
        and cnp.PyArray_NDIM(<cnp.ndarray>values) == 1
        and cnp.PyArray_DIMS(<cnp.ndarray>values)[0] == cnp.PyArray_DIMS(x)[1]
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>values))


cdef int _normalization(cnp.ndarray x, minidl_norm *s) noexcept:
    memset(s, 0, sizeof(minidl_norm))
    s.x = cnp.PyArray_DATA(x)
    s.images, s.channels = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1]
    s.positions = cnp.PyArray_SIZE(x) // (s.images * s.channels)
    return 0


cdef void *_data(object values) noexcept:
    return NULL if values is None else cnp.PyArray_DATA(<cnp.ndarray>values)


def batch_norm(x, weight=None, bias=None, running_mean=None, running_var=None, training=True, double eps=1e-5):
    """See ``minidl.ops.norm.batch_norm``. Statistics in one pass over memory, and another that writes."""
    cdef minidl_norm s
    cdef cnp.ndarray source, y, mean, variance
    cdef bint double_, own = training
    if not (taken(x) and cnp.PyArray_NDIM(<cnp.ndarray>x) >= 2 and cnp.PyArray_SIZE(x) > 0
            and _per_channel(weight, x) and _per_channel(bias, x)) or not (own or (
            running_mean is not None and _per_channel(running_mean, x)
            and running_var is not None and _per_channel(running_var, x))):
        return _norm.batch_norm(x, weight, bias, running_mean, running_var, training, eps)
    source = dense(x)
    y, double_ = fresh_like(source), is_double(source)
    if own:
        mean = fresh(1, &cnp.PyArray_DIMS(source)[1], cnp.PyArray_TYPE(source))
        variance = fresh(1, &cnp.PyArray_DIMS(source)[1], cnp.PyArray_TYPE(source))
    else:
        mean, variance = running_mean.copy(), running_var.copy()
    _normalization(source, &s)
    s.weight, s.bias, s.y, s.mean, s.variance = _data(weight), _data(bias), _data(y), _data(mean), _data(variance)
    s.eps, s.own_statistics = eps, own
    with nogil:
        minidl_batch_norm(double_, 0, &s)
    return y, (x, weight, bias is not None, mean, variance, training, eps)


def batch_norm_backward(dy, cache):
    """See ``minidl.ops.norm.batch_norm_backward``."""
    cdef minidl_norm s
    cdef cnp.ndarray source, upstream, dx, dweight = None, dbias = None
    cdef bint double_
    x, weight, has_bias, mean, variance, training, eps = cache
    if not (taken(x) and alike(x, dy) and cnp.PyArray_NDIM(<cnp.ndarray>x) >= 2 and cnp.PyArray_SIZE(x) > 0
            and _per_channel(weight, x) and _per_channel(mean, x) and _per_channel(variance, x)):
        return _norm.batch_norm_backward(dy, cache)
    source, upstream = dense(x), dense(dy)
    dx, double_ = fresh_like(source), is_double(source)
    if weight is not None:
        dweight = fresh_like(weight)
    if has_bias:
        dbias = fresh(1, &cnp.PyArray_DIMS(source)[1], cnp.PyArray_TYPE(source))
    _normalization(source, &s)
    s.dy, s.weight, s.y, s.mean, s.variance = _data(upstream), _data(weight), _data(dx), _data(mean), _data(variance)
    s.dweight, s.dbias, s.eps, s.own_statistics = _data(dweight), _data(dbias), eps, training
    with nogil:
        minidl_batch_norm(double_, 1, &s)
    return dx, dweight, dbias
