# Poolings. Images are (N, C, H, W), or (N, C, L) as images of one row.

cdef extern from "image/pool.h" nogil:
    enum:
        MINIDL_MAX_POOL, MINIDL_AVG_POOL, MINIDL_ADAPTIVE_POOL, MINIDL_MAX_POOL_BACKWARD, MINIDL_AVG_POOL_BACKWARD
        MINIDL_ADAPTIVE_POOL_BACKWARD
    ctypedef struct minidl_window_axis:
        ptrdiff_t size, outputs, kernel, stride, padding, dilation
    ctypedef struct minidl_pool_windows:
        minidl_window_axis rows, columns
        int padding_counts
    void minidl_pooling(int is_double, int op, const void *source, void *won, void *to, ptrdiff_t images, ptrdiff_t inside,
                        ptrdiff_t out, const minidl_pool_windows *windows)
    void minidl_adaptive_max(int is_double, const void *x, int64_t *places, void *y, ptrdiff_t images,
                             const minidl_pool_windows *windows)
    void minidl_scatter(int is_double, const void *dy, const int64_t *places, void *dx, ptrdiff_t images, ptrdiff_t inside,
                        ptrdiff_t out)

# The module of formulas, and where windows lie.
cdef object _pools = import_module("minidl.ops.pool")
cdef object _pooling = import_module("minidl.ops._pooling")


cdef bint _poolable(object x, int axes):
    """Whether the kernels take x: a batch with something in each image."""
    if not taken(x) or cnp.PyArray_NDIM(<cnp.ndarray>x) != axes + 2:
        return False
    cdef int axis
    for axis in range(axes):
        if cnp.PyArray_DIMS(<cnp.ndarray>x)[2 + axis] == 0:
            return False
    return True


cdef int _blank(minidl_window_axis *a) noexcept:
    """Describe an axis of one pixel with one window."""
    a.size = a.outputs = a.kernel = a.stride = a.dilation = 1
    a.padding = 0
    return 0


cdef bint _sliding(object w, bint padding_counts, minidl_pool_windows *p) except -1:
    """Write down the windows of a ``minidl.ops._pooling.Pooling`` for C; False if they have numbers that it cannot calculate with."""
    kernel, stride, padding, dilation, image, output = w
    cdef int axis, axes = len(kernel)
    cdef minidl_window_axis *a
    _blank(&p.rows)
    p.padding_counts = padding_counts
    for axis in range(axes):
        if (kernel[axis] > MOST_STEPS or stride[axis] > MOST_STEPS or padding[axis][0] > MOST_STEPS
                or dilation[axis] > MOST_STEPS):
            return False
        a = &p.columns if axis == axes - 1 else &p.rows
        a.size, a.outputs, a.kernel = image[axis], output[axis], kernel[axis]
        a.stride, a.padding, a.dilation = stride[axis], padding[axis][0], dilation[axis]
    return True


cdef bint _uneven(object w):
    """Whether windows reach further on one side; the areas that count the padding then need both numbers, which C has not."""
    for before, after in w.padding:
        if before != after:
            return True
    return False


cdef class _Known:
    """Windows that were checked once: as the cache holds them, and as C reads them."""

    cdef object windows
    cdef bint moderate
    cdef minidl_pool_windows described


@lru_cache(maxsize=1024, typed=True)
def _known(op, image, kernel_size, stride, padding, dilation, ceil_mode, padding_counts):
    cdef _Known known = _Known()
    known.windows = _pooling.pooling(op, image, kernel_size, stride, padding, dilation, ceil_mode)
    known.moderate = _sliding(known.windows, padding_counts, &known.described)
    return known


cdef inline object _hashable(object value):
    cdef type kind = type(value)
    if kind is tuple and len(<tuple>value) == 2 and type((<tuple>value)[0]) is int and type((<tuple>value)[1]) is int:
        return value
    return value if kind is int or kind is str or value is None else _pooling.hashable(value)


cdef _Known _find(str op, object x, object kernel_size, object stride, object padding, object dilation, object ceil_mode,
                  object padding_counts):
    return _known(op, x.shape[2:], _hashable(kernel_size), _hashable(stride), _hashable(padding), _hashable(dilation),
                  ceil_mode is True, padding_counts)


cdef cnp.ndarray _like_batch(cnp.ndarray x, minidl_window_axis *rows, minidl_window_axis *columns, bint results, int kind):
    """Return an array for the images of a batch, or for the results of their windows."""
    cdef cnp.npy_intp shape[4]
    cdef int ndim = cnp.PyArray_NDIM(x)
    shape[0], shape[1] = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1]
    shape[2] = rows.outputs if results else rows.size
    shape[ndim - 1] = columns.outputs if results else columns.size
    return fresh(ndim, shape, kind)


cdef cnp.ndarray _run_pool(int op, cnp.ndarray x, cnp.ndarray won, minidl_pool_windows *w, bint forward):
    """Pool, or go back; ``won`` is what the maximum keeps, or None."""
    x = dense(x)
    cdef cnp.ndarray y = _like_batch(x, &w.rows, &w.columns, forward, cnp.PyArray_TYPE(x))
    cdef ptrdiff_t images = cnp.PyArray_DIMS(x)[0] * cnp.PyArray_DIMS(x)[1]
    cdef ptrdiff_t before = w.rows.size * w.columns.size, after = w.rows.outputs * w.columns.outputs
    cdef const void *source = cnp.PyArray_DATA(x)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef void *winners = NULL if won is None else cnp.PyArray_DATA(won)
    cdef bint double_ = is_double(x)
    if not forward:
        before, after = after, before
    if images * before < SHORT:
        minidl_pooling(double_, op, source, winners, to, images, before, after, w)
    else:
        with nogil:
            minidl_pooling(double_, op, source, winners, to, images, before, after, w)
    return y


cdef bint _upstream(object dy, object dtype, int axes, object shape, minidl_pool_windows *w):
    """Whether dy is an upstream gradient that the kernels take: N and C of ``shape``, and an element for each window."""
    if not _poolable(dy, axes) or (<cnp.ndarray>dy).dtype != dtype:
        return False
    cdef cnp.npy_intp *sizes = cnp.PyArray_DIMS(<cnp.ndarray>dy)
    return (sizes[0] == shape[0] and sizes[1] == shape[1] and sizes[axes + 1] == w.columns.outputs
            and (axes == 1 or sizes[2] == w.rows.outputs))


cdef object _max_pool(object x, int axes, str op, object kernel_size, object stride, object padding, object dilation,
                      object ceil_mode):
    """Return y and the cache, or None where the formula must do it: a position in the kernel is kept in one byte."""
    if not (_poolable(x, axes) and switch(ceil_mode)):
        return None
    cdef _Known known = _find(op, x, kernel_size, stride, padding, dilation, ceil_mode, False)
    cdef minidl_pool_windows *p = &known.described
    if not known.moderate or p.rows.kernel > 255 or p.columns.kernel > 255 or p.rows.kernel * p.columns.kernel > 255:
        return None
    cdef cnp.ndarray won = _like_batch(x, &p.rows, &p.columns, True, cnp.NPY_UINT8)
    y = _run_pool(MINIDL_MAX_POOL, x, won, p, True)
    return y, (won, (<cnp.ndarray>x).dtype, known.windows)


cdef object _with_indices(object found):
    """Return what a max pooling returns that was asked for the places of the maxima."""
    y, cache = found
    return (y, _pools.find_indices(cache[0], cache[2])), cache


cdef object _max_pool_back(object dy, tuple cache, int axes):
    cdef minidl_pool_windows p
    won, dtype, w = cache
    if not (cnp.PyArray_CheckExact(won) and cnp.PyArray_TYPE(<cnp.ndarray>won) == cnp.NPY_UINT8):
        return None
    if not _sliding(w, False, &p) or p.rows.kernel > 255 or p.columns.kernel > 255 or p.rows.kernel * p.columns.kernel > 255:
        return None
    if not _upstream(dy, dtype, axes, won.shape, &p) or not cnp.PyArray_SAMESHAPE(<cnp.ndarray>won, <cnp.ndarray>dy):
        return None
    return _run_pool(MINIDL_MAX_POOL_BACKWARD, dy, dense(won), &p, False)


cdef object _avg_pool(object x, int axes, str op, object kernel_size, object stride, object padding, object ceil_mode,
                      object count_include_pad):
    if not (_poolable(x, axes) and switch(ceil_mode) and switch(count_include_pad)):
        return None
    cdef _Known known = _find(op, x, kernel_size, stride, padding, 1, ceil_mode, count_include_pad)
    if not known.moderate or (count_include_pad and _uneven(known.windows)):
        return None
    y = _run_pool(MINIDL_AVG_POOL, x, None, &known.described, True)
    return y, (x.shape, (<cnp.ndarray>x).dtype, known.windows, count_include_pad)


cdef object _avg_pool_back(object dy, tuple cache, int axes):
    cdef minidl_pool_windows p
    shape, dtype, w, count_include_pad = cache
    if count_include_pad and _uneven(w):
        return None
    if not _sliding(w, count_include_pad, &p) or not _upstream(dy, dtype, axes, shape, &p):
        return None
    return _run_pool(MINIDL_AVG_POOL_BACKWARD, dy, None, &p, False)


cdef int _windows_of(object image, object output, minidl_pool_windows *p) except -2:
    """Write down the windows of an adaptive pooling; where they lie side by side, as those of an ordinary one, and return 1.

    -1 if there are numbers that C cannot calculate with.
    """
    cdef int axis, axes = len(image)
    cdef bint even = True
    cdef minidl_window_axis *a
    _blank(&p.rows)
    p.padding_counts = False
    for axis in range(axes):
        a = &p.columns if axis == axes - 1 else &p.rows
        _blank(a)
        if output[axis] > MOST_STEPS or image[axis] > MOST_STEPS:
            return -1
        a.size, a.outputs = image[axis], output[axis]
        a.kernel = a.stride = a.size // a.outputs
        even = even and a.size % a.outputs == 0
    return even and p.rows.outputs * p.columns.outputs > 1


cdef object _adaptive(object x, int axes, str op, object output_size):
    cdef minidl_pool_windows p
    if not _poolable(x, axes):
        return None
    image = x.shape[2:]
    output = _pooling.output_sizes(op, image, output_size)
    cdef int even = _windows_of(image, output, &p)
    if even < 0:
        return None
    cdef int which = MINIDL_AVG_POOL if even else MINIDL_ADAPTIVE_POOL
    return _run_pool(which, x, None, &p, True), (x.shape, (<cnp.ndarray>x).dtype, output)


cdef object _adaptive_back(object dy, tuple cache, int axes):
    cdef minidl_pool_windows p
    shape, dtype, output = cache
    cdef int even = _windows_of(shape[2:], output, &p)
    cdef int which = MINIDL_AVG_POOL_BACKWARD if even else MINIDL_ADAPTIVE_POOL_BACKWARD
    if even < 0 or not _upstream(dy, dtype, axes, shape, &p):
        return None
    return _run_pool(which, dy, None, &p, False)


cdef object _adaptive_max(object x, int axes, str op, object output_size, object return_indices):
    """Return y and the cache, or None where the formula must do it."""
    cdef minidl_pool_windows p
    if not (_poolable(x, axes) and switch(return_indices)):
        return None
    if _windows_of(x.shape[2:], _pooling.output_sizes(op, x.shape[2:], output_size), &p) < 0:
        return None
    cdef cnp.ndarray source = dense(x)
    cdef cnp.ndarray y = _like_batch(source, &p.rows, &p.columns, True, cnp.PyArray_TYPE(source))
    cdef cnp.ndarray places = _like_batch(source, &p.rows, &p.columns, True, cnp.NPY_INT64)
    cdef ptrdiff_t images = cnp.PyArray_DIMS(source)[0] * cnp.PyArray_DIMS(source)[1]
    cdef const void *from_ = cnp.PyArray_DATA(source)
    cdef int64_t *at = <int64_t *>cnp.PyArray_DATA(places)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef bint double_ = is_double(source)
    with nogil:
        minidl_adaptive_max(double_, from_, at, to, images, &p)
    return (y, places) if return_indices else y, (places, x.shape, (<cnp.ndarray>x).dtype)


cdef object _adaptive_max_back(object dy, tuple cache, int axes):
    """Return dx, or None where the formula must do it."""
    places, shape, dtype = cache
    if not (_poolable(dy, axes) and (<cnp.ndarray>dy).dtype == dtype and len(shape) == axes + 2 and dy.shape[:2] == shape[:2]
            and cnp.PyArray_CheckExact(places) and cnp.PyArray_TYPE(<cnp.ndarray>places) == cnp.NPY_INT64
            and PyArray_ISBEHAVED_RO(<cnp.ndarray>places)
            and cnp.PyArray_SAMESHAPE(<cnp.ndarray>places, <cnp.ndarray>dy)):
        return None
    cdef cnp.npy_intp sizes[4]
    cdef ptrdiff_t inside = 1, out = 1
    cdef int axis
    for axis in range(axes + 2):
        sizes[axis] = shape[axis]
        if axis >= 2:
            inside *= cnp.PyArray_DIMS(<cnp.ndarray>dy)[axis]
            out *= sizes[axis]
    cdef cnp.ndarray upstream = dense(dy), where = dense(places)
    cdef cnp.ndarray dx = fresh(axes + 2, sizes, cnp.PyArray_TYPE(upstream))
    cdef ptrdiff_t images = sizes[0] * sizes[1]
    cdef const void *from_ = cnp.PyArray_DATA(upstream)
    cdef const int64_t *at = <const int64_t *>cnp.PyArray_DATA(where)
    cdef void *to = cnp.PyArray_DATA(dx)
    cdef bint double_ = is_double(upstream)
    with nogil:
        minidl_scatter(double_, from_, at, to, images, inside, out)
    return dx


def max_pool1d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """See ``minidl.ops.pool.max_pool1d``."""
    found = None
    if switch(return_indices):
        found = _max_pool(x, 1, "max_pool1d", kernel_size, stride, padding, dilation, ceil_mode)
    if found is None:
        return _pools.max_pool1d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _with_indices(found) if return_indices else found


def max_pool1d_backward(dy, cache):
    """See ``minidl.ops.pool.max_pool1d_backward``."""
    dx = _max_pool_back(dy, cache, 1)
    return dx if dx is not None else _pools.max_pool1d_backward(dy, cache)


def avg_pool1d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """See ``minidl.ops.pool.avg_pool1d``."""
    found = _avg_pool(x, 1, "avg_pool1d", kernel_size, stride, padding, ceil_mode, count_include_pad)
    if found is not None:
        return found
    return _pools.avg_pool1d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool1d_backward(dy, cache):
    """See ``minidl.ops.pool.avg_pool1d_backward``."""
    dx = _avg_pool_back(dy, cache, 1)
    return dx if dx is not None else _pools.avg_pool1d_backward(dy, cache)


def adaptive_avg_pool1d(x, output_size):
    """See ``minidl.ops.pool.adaptive_avg_pool1d``."""
    found = _adaptive(x, 1, "adaptive_avg_pool1d", output_size)
    return found if found is not None else _pools.adaptive_avg_pool1d(x, output_size)


def adaptive_avg_pool1d_backward(dy, cache):
    """See ``minidl.ops.pool.adaptive_avg_pool1d_backward``."""
    dx = _adaptive_back(dy, cache, 1)
    return dx if dx is not None else _pools.adaptive_avg_pool1d_backward(dy, cache)


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """See ``minidl.ops.pool.max_pool2d``."""
    found = None
    if switch(return_indices):
        found = _max_pool(x, 2, "max_pool2d", kernel_size, stride, padding, dilation, ceil_mode)
    if found is None:
        return _pools.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    return _with_indices(found) if return_indices else found


def max_pool2d_backward(dy, cache):
    """See ``minidl.ops.pool.max_pool2d_backward``."""
    dx = _max_pool_back(dy, cache, 2)
    return dx if dx is not None else _pools.max_pool2d_backward(dy, cache)


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """See ``minidl.ops.pool.avg_pool2d``."""
    found = _avg_pool(x, 2, "avg_pool2d", kernel_size, stride, padding, ceil_mode, count_include_pad)
    if found is not None:
        return found
    return _pools.avg_pool2d(x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d_backward(dy, cache):
    """See ``minidl.ops.pool.avg_pool2d_backward``."""
    dx = _avg_pool_back(dy, cache, 2)
    return dx if dx is not None else _pools.avg_pool2d_backward(dy, cache)


def adaptive_avg_pool2d(x, output_size):
    """See ``minidl.ops.pool.adaptive_avg_pool2d``."""
    found = _adaptive(x, 2, "adaptive_avg_pool2d", output_size)
    return found if found is not None else _pools.adaptive_avg_pool2d(x, output_size)


def adaptive_avg_pool2d_backward(dy, cache):
    """See ``minidl.ops.pool.adaptive_avg_pool2d_backward``."""
    dx = _adaptive_back(dy, cache, 2)
    return dx if dx is not None else _pools.adaptive_avg_pool2d_backward(dy, cache)


def adaptive_max_pool1d(x, output_size, return_indices=False):
    """See ``minidl.ops.pool.adaptive_max_pool1d``."""
    found = _adaptive_max(x, 1, "adaptive_max_pool1d", output_size, return_indices)
    return found if found is not None else _pools.adaptive_max_pool1d(x, output_size, return_indices)


def adaptive_max_pool1d_backward(dy, cache):
    """See ``minidl.ops.pool.adaptive_max_pool1d_backward``."""
    dx = _adaptive_max_back(dy, cache, 1)
    return dx if dx is not None else _pools.adaptive_max_pool1d_backward(dy, cache)


def adaptive_max_pool2d(x, output_size, return_indices=False):
    """See ``minidl.ops.pool.adaptive_max_pool2d``."""
    found = _adaptive_max(x, 2, "adaptive_max_pool2d", output_size, return_indices)
    return found if found is not None else _pools.adaptive_max_pool2d(x, output_size, return_indices)


def adaptive_max_pool2d_backward(dy, cache):
    """See ``minidl.ops.pool.adaptive_max_pool2d_backward``."""
    dx = _adaptive_max_back(dy, cache, 2)
    return dx if dx is not None else _pools.adaptive_max_pool2d_backward(dy, cache)
