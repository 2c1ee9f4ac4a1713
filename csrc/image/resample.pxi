# Padding and upsampling. Images are (N, C, H, W), or (N, C, L) as images of one row.

cdef extern from "image/resample.h" nogil:
    ctypedef struct minidl_padded:
        ptrdiff_t size, before, after
        const int *source "from"
    ctypedef struct minidl_padding:
        minidl_padded rows, columns
        double value
    void minidl_pad(int is_double, int backward, const void *source, void *to, ptrdiff_t images, const minidl_padding *s)
    ctypedef struct minidl_resampled:
        ptrdiff_t before, after
        const int *left
        const int *right
        const void *part
    ctypedef struct minidl_resampling:
        minidl_resampled rows, columns
        int linear
    int minidl_upsample(int is_double, int backward, const void *source, void *to, ptrdiff_t images, const minidl_resampling *s)

# The module of formulas, and the scales of its arguments.
cdef object _resample = import_module("minidl.ops.resample")
cdef object _resampling = import_module("minidl.ops._resampling")


cdef class _Borrowed:
    """What an axis is padded with, as C reads it."""

    cdef cnp.ndarray source
    cdef minidl_padded described


@lru_cache(maxsize=256)
def _borrowed(ptrdiff_t n, ptrdiff_t before, ptrdiff_t after, str mode):
    cdef _Borrowed found = _Borrowed()
    found.described.size, found.described.before, found.described.after = n, before, after
    found.described.source = NULL
    if mode != "constant":
        at = _resample.pad(numpy.arange(n, dtype="float64"), (before, after), mode)[0]  # the formula, of the positions themselves
        found.source = numpy.concatenate([at[:before], at[before + n:]]).astype("int32")
        found.described.source = <const int *>cnp.PyArray_DATA(found.source)
    return found


cdef object _padded(bint backward, cnp.ndarray source, tuple shape, tuple pairs, str mode, double value):
    """Pad an array of this shape along its last two axes, or one, or go back; None if more axes are padded, or none is."""
    cdef int ndim = len(shape), axis
    cdef minidl_padding s
    cdef cnp.npy_intp sizes[MOST_AXES]
    cdef ptrdiff_t images = 1
    for axis in range(ndim - 2):
        if pairs[axis] != (0, 0):
            return None
        images *= shape[axis]
    if ndim == 0 or 0 in shape or max(shape) >= 2**31 or not any(map(any, pairs)):
        return None
    cdef _Borrowed across = _borrowed(shape[ndim - 1], *pairs[ndim - 1], mode)
    cdef _Borrowed down = _borrowed(shape[ndim - 2], *pairs[ndim - 2], mode) if ndim > 1 else _borrowed(1, 0, 0, mode)
    s.columns, s.rows, s.value = across.described, down.described, value
    for axis in range(ndim):
        sizes[axis] = shape[axis] + (0 if backward else sum(pairs[axis]))
    source = dense(source)
    cdef cnp.ndarray y = fresh(ndim, sizes, cnp.PyArray_TYPE(source))
    cdef const void *from_ = cnp.PyArray_DATA(source)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef bint double_ = is_double(source)
    with nogil:
        minidl_pad(double_, backward, from_, to, images, &s)
    return y


def pad(x, padding, mode="constant", value=0.0):
    """See ``minidl.ops.resample.pad``. The last two axes are padded here, others by the formula."""
    if taken(x) and type(mode) is str and number(value):
        pairs = _resampling.widths("pad", x.shape, padding, mode)
        y = _padded(False, x, x.shape, pairs, mode, value)
        if y is not None:
            return y, (x.shape, (<cnp.ndarray>x).dtype, pairs, mode)
    return _resample.pad(x, padding, mode, value)


def pad_backward(dy, cache):
    """See ``minidl.ops.resample.pad_backward``."""
    shape, dtype, pairs, mode = cache
    if (taken(dy) and (<cnp.ndarray>dy).dtype == dtype
            and dy.shape == tuple([n + before + after for n, (before, after) in zip(shape, pairs)])):
        dx = _padded(True, dy, shape, pairs, mode, 0)
        if dx is not None:
            return dx
    return _resample.pad_backward(dy, cache)


# Upsampling -----------------------------------------------------------------------------------------------------------

cdef int _ONLY[1]
_ONLY[0] = 0


cdef class _Places:
    """Where the pixels of an axis come from: from the formula, as C reads it."""

    cdef cnp.ndarray left, right, part
    cdef minidl_resampled described


@lru_cache(maxsize=256, typed=True)
def _places(scale, bint linear, bint align_corners, bint exact, bint double_):
    cdef _Places found = _Places()
    if linear:
        left, right, part = _resample._between(numpy, scale, align_corners)
        found.right, found.part = right.astype("int32"), part.astype("float64" if double_ else "float32")
        found.described.right = <const int *>cnp.PyArray_DATA(found.right)
        found.described.part = cnp.PyArray_DATA(found.part)
    else:
        left = _resample._nearest(numpy, scale, exact)
        found.described.right, found.described.part = NULL, NULL
    found.left = left.astype("int32")
    found.described.left = <const int *>cnp.PyArray_DATA(found.left)
    found.described.before, found.described.after = scale.before, scale.after
    return found


cdef object _upsampled(bint backward, cnp.ndarray source, object scales, bint linear, bint align_corners, bint exact):
    """Upsample a batch, or go back."""
    cdef int axes = len(scales)
    cdef bint double_ = is_double(source)
    cdef _Places across = _places(scales[axes - 1], linear, align_corners, exact, double_)
    cdef _Places down
    cdef minidl_resampling s
    cdef cnp.npy_intp shape[4]
    source = dense(source)
    s.columns, s.linear = across.described, linear
    if axes == 2:
        down = _places(scales[0], linear, align_corners, exact, double_)
        s.rows = down.described
    else:
        s.rows.before = s.rows.after = 1
        s.rows.left, s.rows.right, s.rows.part = _ONLY, NULL, NULL
    shape[0], shape[1] = cnp.PyArray_DIMS(source)[0], cnp.PyArray_DIMS(source)[1]
    shape[2] = s.rows.before if backward else s.rows.after
    shape[axes + 1] = s.columns.before if backward else s.columns.after
    cdef cnp.ndarray y = fresh(axes + 2, shape, cnp.PyArray_TYPE(source))
    cdef ptrdiff_t images = shape[0] * shape[1]
    cdef const void *from_ = cnp.PyArray_DATA(source)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef int status
    with nogil:
        status = minidl_upsample(double_, backward, from_, to, images, &s)
    if status != 0:
        raise MemoryError("the native engine could not allocate the workspace of an upsampling")
    return y


cdef bint _resamplable(object x):
    """Whether the kernels take x: a batch with something in each image, which 32 bits can count."""
    cdef int axes = cnp.PyArray_NDIM(<cnp.ndarray>x) - 2 if taken(x) else 0
    return (axes == 1 or axes == 2) and _poolable(x, axes) and max(x.shape[2:]) < 2**31


cdef object _upsample(object x, str op, object size, object scale_factor, bint linear, bint align_corners, bint exact=False):
    """Return y and the scales, or None where the formula must do it."""
    if not _resamplable(x):
        return None
    found = _resampling.scales(op, x.shape[2:], size, scale_factor, not exact)
    if max([scale.after for scale in found]) >= 2**31:
        return None
    return _upsampled(False, x, found, linear, align_corners, exact), found


cdef object _upsample_back(object dy, object shape, object dtype, object found, bint linear, bint align_corners,
                           bint exact=False):
    """Return dx, or None where the formula must do it."""
    if not (_resamplable(dy) and (<cnp.ndarray>dy).dtype == dtype
            and dy.shape == (*shape[:2], *[scale.after for scale in found])) or max(shape[2:]) >= 2**31:
        return None
    return _upsampled(True, dy, found, linear, align_corners, exact)


def upsample_nearest(x, size=None, scale_factor=None):
    """See ``minidl.ops.resample.upsample_nearest``."""
    done = _upsample(x, "upsample_nearest", size, scale_factor, False, False)
    if done is None:
        return _resample.upsample_nearest(x, size, scale_factor)
    return done[0], (x.shape, (<cnp.ndarray>x).dtype, done[1])


def upsample_nearest_backward(dy, cache):
    """See ``minidl.ops.resample.upsample_nearest_backward``."""
    dx = _upsample_back(dy, cache[0], cache[1], cache[2], False, False)
    return dx if dx is not None else _resample.upsample_nearest_backward(dy, cache)


def upsample_nearest_exact(x, size=None, scale_factor=None):
    """See ``minidl.ops.resample.upsample_nearest_exact``."""
    done = _upsample(x, "upsample_nearest_exact", size, scale_factor, False, False, True)
    if done is None:
        return _resample.upsample_nearest_exact(x, size, scale_factor)
    return done[0], (x.shape, (<cnp.ndarray>x).dtype, done[1])


def upsample_nearest_exact_backward(dy, cache):
    """See ``minidl.ops.resample.upsample_nearest_exact_backward``."""
    dx = _upsample_back(dy, cache[0], cache[1], cache[2], False, False, True)
    return dx if dx is not None else _resample.upsample_nearest_exact_backward(dy, cache)


def upsample_bilinear(x, size=None, scale_factor=None, align_corners=False, antialias=False):
    """See ``minidl.ops.resample.upsample_bilinear``. What is filtered against aliasing goes to the formula."""
    done = None
    if switch(align_corners) and switch(antialias) and not antialias:
        done = _upsample(x, "upsample_bilinear", size, scale_factor, True, align_corners)
    if done is None:
        return _resample.upsample_bilinear(x, size, scale_factor, align_corners, antialias)
    return done[0], (x.shape, (<cnp.ndarray>x).dtype, done[1], align_corners, antialias)


def upsample_bilinear_backward(dy, cache):
    """See ``minidl.ops.resample.upsample_bilinear_backward``."""
    dx = None if cache[4] else _upsample_back(dy, cache[0], cache[1], cache[2], True, bool(cache[3]))
    return dx if dx is not None else _resample.upsample_bilinear_backward(dy, cache)
