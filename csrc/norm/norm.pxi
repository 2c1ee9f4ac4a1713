# Normalisation.

cdef extern from "norm/norm.h" nogil:
    ctypedef struct minidl_batch_normalization:
        const void *x
        const void *dy
        const void *weight
        const void *bias
        void *y
        void *dx
        void *dweight
        void *dbias
        int add_weight, add_bias
        void *mean
        void *variance
        ptrdiff_t images, channels, positions
        double eps
        int own_statistics
    ctypedef struct minidl_row_normalization:
        const void *x
        const void *dy
        const void *weight
        const void *bias
        void *y
        void *dx
        void *dweight
        void *dbias
        int add_weight, add_bias
        void *mean
        void *inverse
        ptrdiff_t rows, length
        double eps
    ctypedef struct minidl_group_normalization:
        const void *x
        const void *dy
        const void *weight
        const void *bias
        void *y
        void *dx
        void *dweight
        void *dbias
        int add_weight, add_bias
        void *mean
        void *inverse
        ptrdiff_t images, channels, positions, groups
        double eps
    void minidl_batch_norm(int is_double, const minidl_batch_normalization *s)
    void minidl_batch_norm_backward(int is_double, const minidl_batch_normalization *s)
    void minidl_row_norm(int is_double, const minidl_row_normalization *s)
    int minidl_row_norm_backward(int is_double, const minidl_row_normalization *s)
    void minidl_group_norm(int is_double, const minidl_group_normalization *s)
    int minidl_group_norm_backward(int is_double, const minidl_group_normalization *s)


cdef bint _per_channel(object values, cnp.ndarray x):
    """Whether it is None, or one element for each channel."""
    return values is None or (
        taken(values) and cnp.PyArray_TYPE(<cnp.ndarray>values) == cnp.PyArray_TYPE(x)
        and cnp.PyArray_NDIM(<cnp.ndarray>values) == 1
        and cnp.PyArray_DIMS(<cnp.ndarray>values)[0] == cnp.PyArray_DIMS(x)[1]
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>values))


ctypedef fused _ChannelNormalization:
    minidl_batch_normalization
    minidl_group_normalization


cdef int _normalization(cnp.ndarray x, _ChannelNormalization *s) noexcept:
    memset(s, 0, sizeof(s[0]))
    s.x = cnp.PyArray_DATA(x)
    s.images, s.channels = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1]
    s.positions = cnp.PyArray_SIZE(x) // (s.images * s.channels)
    return 0


cdef void *_data(object values) noexcept:
    return NULL if values is None else cnp.PyArray_DATA(<cnp.ndarray>values)


cdef object _find_sums(object weight, bint has_bias, tuple into, bint add, tuple wanted, int ndim, cnp.npy_intp *shape,
                       int kind, void **weight_sums, int *adds_weight, void **bias_sums, int *adds_bias):
    """Tell the kernel where to write the gradients of weight and bias, and return them; None where the formula must."""
    cdef cnp.ndarray dweight = None, dbias = None
    cdef bint add_weight = add, add_bias = add
    if weight is not None and is_wanted(wanted, 1):
        dweight = storage_for(into, 0, ndim, shape, kind, &add_weight)
        if dweight is None:
            return None
    if has_bias and is_wanted(wanted, 2):
        dbias = storage_for(into, 1, ndim, shape, kind, &add_bias)
        if dbias is None:
            return None
    weight_sums[0], adds_weight[0], bias_sums[0], adds_bias[0] = _data(dweight), add_weight, _data(dbias), add_bias
    return dweight, dbias


def batch_norm(x, weight=None, bias=None, running_mean=None, running_var=None, training=True, eps=1e-5):
    """See ``minidl.ops.norm.batch_norm``. Statistics in one pass over memory, and another that writes."""
    cdef minidl_batch_normalization s
    cdef cnp.ndarray source, y, mean, variance
    cdef bint double_, own = training is True
    if not (taken(x) and switch(training) and cnp.PyArray_NDIM(<cnp.ndarray>x) >= 2 and cnp.PyArray_SIZE(x) > 0 and number(eps)
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
        minidl_batch_norm(double_, &s)
    return y, (x, weight, bias is not None, mean, variance, training, eps)


def batch_norm_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.norm.batch_norm_backward``."""
    cdef minidl_batch_normalization s
    cdef cnp.ndarray source, upstream, dx
    cdef bint double_
    x, weight, has_bias, mean, variance, training, eps = cache
    cdef bint own = training is True
    into, wanted = as_tuple(into), as_tuple(wanted)
    if not (taken(x) and number(eps) and switch(training) and alike(x, dy) and cnp.PyArray_NDIM(<cnp.ndarray>x) >= 2
            and cnp.PyArray_SIZE(x) > 0 and _per_channel(weight, x) and _per_channel(mean, x) and _per_channel(variance, x)
            and well_formed(into, wanted, 1, 2) and separate(into, dy, x, weight)):
        return _norm.batch_norm_backward(dy, cache, into, add, wanted)
    source, upstream = dense(x), dense(dy)
    _normalization(source, &s)
    sums = _find_sums(weight, has_bias, into, add, wanted, 1, &cnp.PyArray_DIMS(source)[1],
                      cnp.PyArray_TYPE(source), &s.dweight, &s.add_weight, &s.dbias, &s.add_bias)
    if sums is None:
        return _norm.batch_norm_backward(dy, cache, into, add, wanted)
    dx, double_ = fresh_like(source), is_double(source)
    s.dy, s.weight, s.dx, s.mean, s.variance = _data(upstream), _data(weight), _data(dx), _data(mean), _data(variance)
    s.eps, s.own_statistics = eps, own
    with nogil:
        minidl_batch_norm_backward(double_, &s)
    return dx if is_wanted(wanted, 0) else None, *sums


cdef bint _out_of_range(cnp.ndarray inverse) noexcept:
    """Whether one of 1 / sqrt(... + eps) is 0, because squares were beyond the range: those rows are the formula's."""
    cdef cnp.npy_intp i, count = cnp.PyArray_SIZE(inverse)
    cdef const float *single = <const float *>cnp.PyArray_DATA(inverse)
    cdef const double *wide = <const double *>cnp.PyArray_DATA(inverse)
    cdef bint double_ = is_double(inverse)
    for i in range(count):
        if (wide[i] if double_ else single[i]) == 0:
            return True
    return False


# Rows: layer and root-mean-square normalisation.

cdef tuple _row_shape(object x, object normalized_shape):
    """Return the shape of the last axes of x, or None where that is not what was asked for."""
    if not taken(x) or cnp.PyArray_SIZE(x) == 0:
        return None
    if type(normalized_shape) is int:
        shape = (normalized_shape,)
    elif type(normalized_shape) is tuple or type(normalized_shape) is list:
        shape = tuple(normalized_shape)
    else:
        return None
    for size in shape:
        if type(size) is not int:  # 2.0 is equal to 2
            return None
    given = x.shape
    return shape if shape and given[max(len(given) - len(shape), 0):] == shape else None


cdef bint _like_row(object values, cnp.ndarray x, tuple shape):
    """Whether it is None, or one element for each place of a row."""
    return values is None or (
        taken(values) and cnp.PyArray_TYPE(<cnp.ndarray>values) == cnp.PyArray_TYPE(x)
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>values) and values.shape == shape)


cdef bint _one_each(object values, cnp.ndarray x, ptrdiff_t count):
    """Whether there are so many elements, of the dtype of x."""
    return (taken(values) and cnp.PyArray_TYPE(<cnp.ndarray>values) == cnp.PyArray_TYPE(x)
            and cnp.PyArray_SIZE(<cnp.ndarray>values) == count and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>values))


cdef int _rows(cnp.ndarray x, tuple shape, minidl_row_normalization *s) except -1:
    cdef ptrdiff_t length = 1
    for size in shape:
        length *= size
    memset(s, 0, sizeof(minidl_row_normalization))
    s.x, s.length, s.rows = cnp.PyArray_DATA(x), length, cnp.PyArray_SIZE(x) // length
    return 0


cdef tuple _rows_normalized(object x, tuple shape, object weight, object bias, double eps, bint about_mean):
    """Return y, the means (or None) and 1 / sqrt(... + eps)."""
    cdef minidl_row_normalization s
    cdef cnp.ndarray source = dense(x), y = fresh_like(source), mean = None, inverse
    cdef bint double_ = is_double(source)
    cdef cnp.npy_intp count
    _rows(source, shape, &s)
    count = s.rows
    inverse = fresh(1, &count, cnp.PyArray_TYPE(source))
    if about_mean:
        mean = fresh(1, &count, cnp.PyArray_TYPE(source))
    s.weight, s.bias, s.y, s.mean, s.inverse = _data(weight), _data(bias), _data(y), _data(mean), _data(inverse)
    s.eps = eps
    with nogil:
        minidl_row_norm(double_, &s)
    return y, mean, inverse


cdef tuple _rows_backward(object dy, object x, tuple shape, object weight, bint has_bias, object mean, object inverse,
                          tuple into, bint add, tuple wanted):
    """Return dx, dweight and dbias; None where the formula has to."""
    cdef minidl_row_normalization s
    cdef cnp.ndarray source, upstream, dx
    cdef bint double_
    cdef int status, ndim = len(shape)
    if not (taken(x) and alike(x, dy) and cnp.PyArray_SIZE(x) > 0 and _like_row(weight, x, shape)
            and well_formed(into, wanted, 1, 1 if mean is None else 2) and separate(into, dy, x, weight)):
        return None
    source, upstream = dense(x), dense(dy)
    _rows(source, shape, &s)
    if not (mean is None or _one_each(mean, source, s.rows)) or not _one_each(inverse, source, s.rows):
        return None
    sums = _find_sums(weight, has_bias, into, add, wanted, ndim,
                      &cnp.PyArray_DIMS(source)[cnp.PyArray_NDIM(source) - ndim], cnp.PyArray_TYPE(source), &s.dweight,
                      &s.add_weight, &s.dbias, &s.add_bias)
    if sums is None:
        return None
    dx, double_ = fresh_like(source), is_double(source)
    s.dy, s.weight, s.dx, s.mean, s.inverse = _data(upstream), _data(weight), _data(dx), _data(mean), _data(inverse)
    with nogil:
        status = minidl_row_norm_backward(double_, &s)
    if status != 0:
        raise MemoryError("the native engine could not allocate the sums of its threads")
    return dx if is_wanted(wanted, 0) else None, *sums


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """See ``minidl.ops.norm.layer_norm``. A row is read from memory once."""
    cdef tuple shape = _row_shape(x, normalized_shape)
    if shape is None or not (number(eps) and _like_row(weight, x, shape) and _like_row(bias, x, shape)):
        return _norm.layer_norm(x, normalized_shape, weight, bias, eps)
    y, mean, inverse = _rows_normalized(x, shape, weight, bias, eps, True)
    if _out_of_range(inverse):
        return _norm.layer_norm(x, normalized_shape, weight, bias, eps)
    return y, (x, shape, weight, bias is not None, mean, inverse)


def layer_norm_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.norm.layer_norm_backward``."""
    x, shape, weight, has_bias, mean, inverse = cache
    into, wanted = as_tuple(into), as_tuple(wanted)
    found = _rows_backward(dy, x, shape, weight, has_bias, mean, inverse, into, add, wanted)
    return _norm.layer_norm_backward(dy, cache, into, add, wanted) if found is None else found


def rms_norm(x, normalized_shape, weight=None, eps=None):
    """See ``minidl.ops.norm.rms_norm``."""
    cdef tuple shape = _row_shape(x, normalized_shape)
    if shape is None or not (_like_row(weight, x, shape) and (eps is None or number(eps))):
        return _norm.rms_norm(x, normalized_shape, weight, eps)
    if eps is None:
        eps = 2.0 ** (-52 if is_double(x) else -23)
    y, _, inverse = _rows_normalized(x, shape, weight, None, eps, False)
    if _out_of_range(inverse):
        return _norm.rms_norm(x, normalized_shape, weight, eps)
    return y, (x, shape, weight, inverse)


def rms_norm_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.norm.rms_norm_backward``."""
    x, shape, weight, inverse = cache
    into, wanted = as_tuple(into), as_tuple(wanted)
    found = _rows_backward(dy, x, shape, weight, False, None, inverse, into, add, wanted)
    return _norm.rms_norm_backward(dy, cache, into, add, wanted) if found is None else found[:2]


# Groups of channels.

def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """See ``minidl.ops.norm.group_norm``. A group is read from memory once."""
    cdef minidl_group_normalization s
    cdef cnp.ndarray source, y, mean, inverse
    cdef cnp.npy_intp count
    cdef bint double_
    if not (taken(x) and cnp.PyArray_NDIM(<cnp.ndarray>x) >= 2 and cnp.PyArray_SIZE(x) > 0 and number(eps)
            and _per_channel(weight, x) and _per_channel(bias, x)
            and type(num_groups) is int and num_groups >= 1 and cnp.PyArray_DIMS(<cnp.ndarray>x)[1] % num_groups == 0):
        return _norm.group_norm(x, num_groups, weight, bias, eps)
    source = dense(x)
    _normalization(source, &s)
    s.groups = num_groups
    count = s.images * s.groups
    y, double_ = fresh_like(source), is_double(source)
    mean = fresh(1, &count, cnp.PyArray_TYPE(source))
    inverse = fresh(1, &count, cnp.PyArray_TYPE(source))
    s.weight, s.bias, s.y, s.mean, s.inverse = _data(weight), _data(bias), _data(y), _data(mean), _data(inverse)
    s.eps = eps
    with nogil:
        minidl_group_norm(double_, &s)
    if _out_of_range(inverse):
        return _norm.group_norm(x, num_groups, weight, bias, eps)
    return y, (x, num_groups, weight, bias is not None, mean, inverse)


def group_norm_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.norm.group_norm_backward``."""
    cdef minidl_group_normalization s
    cdef cnp.ndarray source, upstream, dx
    cdef bint double_
    cdef int status
    x, num_groups, weight, has_bias, mean, inverse = cache
    into, wanted = as_tuple(into), as_tuple(wanted)
    if not (taken(x) and alike(x, dy) and cnp.PyArray_SIZE(x) > 0 and _per_channel(weight, x)
            and well_formed(into, wanted, 1, 2) and separate(into, dy, x, weight)):
        return _norm.group_norm_backward(dy, cache, into, add, wanted)
    source, upstream = dense(x), dense(dy)
    _normalization(source, &s)
    s.groups = num_groups
    sums = _find_sums(weight, has_bias, into, add, wanted, 1, &cnp.PyArray_DIMS(source)[1],
                      cnp.PyArray_TYPE(source), &s.dweight, &s.add_weight, &s.dbias, &s.add_bias)
    if sums is None or not (
            _one_each(mean, source, s.images * s.groups) and _one_each(inverse, source, s.images * s.groups)):
        return _norm.group_norm_backward(dy, cache, into, add, wanted)
    dx, double_ = fresh_like(source), is_double(source)
    s.dy, s.weight, s.dx, s.mean, s.inverse = _data(upstream), _data(weight), _data(dx), _data(mean), _data(inverse)
    with nogil:
        status = minidl_group_norm_backward(double_, &s)
    if status != 0:
        raise MemoryError("the native engine could not allocate the sums of its channels")
    return dx if is_wanted(wanted, 0) else None, *sums
