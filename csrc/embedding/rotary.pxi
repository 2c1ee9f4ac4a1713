# Rotary positions.

cdef extern from "embedding/rotary.h" nogil:
    enum:
        MINIDL_ROTARY_AXES
    ctypedef struct minidl_turned_rows:
        void *at
        ptrdiff_t step[3]
    ctypedef struct minidl_rotation:
        minidl_turned_rows x, y, cosines, sines
        ptrdiff_t shape[3]
        ptrdiff_t size, pairs
        int interleaved, back
    void minidl_turn(int is_double, const minidl_rotation *r)

cdef object _position = import_module("minidl.ops.position")


cdef bint _turned_rows(cnp.ndarray a, const minidl_rotation *r, ptrdiff_t length, minidl_turned_rows *rows) noexcept:
    """Describe an array that broadcasts to the rows of r, ``length`` elements each; False if it does not, or has gaps."""
    cdef int ndim = cnp.PyArray_NDIM(a), axis, own
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(a)
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(a)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(a)
    if (ndim < 1 or ndim > MINIDL_ROTARY_AXES + 1 or shape[ndim - 1] != length
            or (strides[ndim - 1] != size and length > 1)):
        return False
    rows.at = cnp.PyArray_DATA(a)
    for axis in range(MINIDL_ROTARY_AXES):
        own = axis - (MINIDL_ROTARY_AXES + 1 - ndim)
        rows.step[axis] = 0
        if own >= 0 and shape[own] != 1:
            if shape[own] != r.shape[axis] or strides[own] % size:
                return False
            rows.step[axis] = strides[own] // size
    return True


cdef object _rotated(object x, object cos, object sin, object interleaved, bint back, object out):
    """Return x turned, or back, in out if it is not None; None where the formula must do it."""
    cdef minidl_rotation r
    cdef int ndim, axis, own
    if not (taken(x) and taken(cos) and taken(sin) and switch(interleaved) and cnp.PyArray_SIZE(x) > 0):
        return None
    cdef cnp.ndarray source = x, c = cos, s = sin, y
    cdef int kind = cnp.PyArray_TYPE(source)
    ndim = cnp.PyArray_NDIM(source)
    if (not 2 <= ndim <= MINIDL_ROTARY_AXES + 1 or cnp.PyArray_TYPE(c) != kind or cnp.PyArray_TYPE(s) != kind
            or not cnp.PyArray_SAMESHAPE(c, s) or cnp.PyArray_NDIM(c) < 1 or cnp.PyArray_NDIM(c) > ndim):
        return None
    r.size, r.pairs = cnp.PyArray_DIMS(source)[ndim - 1], cnp.PyArray_DIMS(c)[cnp.PyArray_NDIM(c) - 1]
    for axis in range(MINIDL_ROTARY_AXES):
        own = axis - (MINIDL_ROTARY_AXES + 1 - ndim)
        r.shape[axis] = cnp.PyArray_DIMS(source)[own] if own >= 0 else 1
    if 2 * r.pairs > r.size or not (_turned_rows(source, &r, r.size, &r.x) and _turned_rows(c, &r, r.pairs, &r.cosines)
                                    and _turned_rows(s, &r, r.pairs, &r.sines)):
        return None
    if out is None:
        y = _like_heads(source)
    elif alike(source, out) and PyArray_ISBEHAVED(<cnp.ndarray>out) and apart(out, c) and apart(out, s):
        y = out
    else:
        return None
    if not _turned_rows(y, &r, r.size, &r.y):
        return None
    if not apart(source, y):  # in place, row by row; anything else that overlaps is the formula's
        if r.x.at != r.y.at or r.x.step[2] < r.size and r.shape[2] > 1:
            return None
        for axis in range(MINIDL_ROTARY_AXES):
            if r.x.step[axis] != r.y.step[axis] or (r.x.step[axis] < r.size and r.shape[axis] > 1):
                return None
    r.interleaved, r.back = interleaved, back
    cdef bint double_ = is_double(source)
    if cnp.PyArray_SIZE(source) < SHORT:
        minidl_turn(double_, &r)
    else:
        with nogil:
            minidl_turn(double_, &r)
    return y


cdef cnp.ndarray _like_heads(cnp.ndarray x):
    """Return an array of the shape of x, whose heads, if there are four axes, lie side by side, so that they merge without a copy."""
    cdef minidl_heads unused
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    if cnp.PyArray_NDIM(x) != 4:
        return fresh_like(x)
    return _fresh_heads(shape[0], shape[1], shape[2], shape[3], cnp.PyArray_TYPE(x), &unused)


def rotary_embedding(x, cos, sin, interleaved=False, out=None):
    """See ``minidl.ops.position.rotary_embedding``. Heads are read where they lie, and turned there if ``out`` is x."""
    y = _rotated(x, cos, sin, interleaved, False, out)
    if y is None:
        return _position.rotary_embedding(x, cos, sin, interleaved, out)
    return y, (cos, sin, interleaved, x.shape)


def rotary_embedding_backward(dy, cache, out=None):
    """See ``minidl.ops.position.rotary_embedding_backward``."""
    cos, sin, interleaved, shape = cache
    dx = _rotated(dy, cos, sin, interleaved, True, out) if taken(dy) and dy.shape == shape else None
    return dx if dx is not None else _position.rotary_embedding_backward(dy, cache, out)
