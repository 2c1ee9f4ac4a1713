# Attention.

cdef extern from "attention/attention.h" nogil:
    ctypedef struct minidl_heads:
        void *at
        ptrdiff_t batch, head, row
    ctypedef struct minidl_attention_arrays:
        minidl_heads q, k, v, y, dy, dq, dk, dv
        void *log_sum
        const void *mask
        int mask_is_bytes
        ptrdiff_t mask_batch, mask_head, mask_query, mask_key
        ptrdiff_t batch, heads, key_heads, queries, keys, size, value_size
        ptrdiff_t window, offset
        int causal
        double scale
    int minidl_attention(int is_double, const minidl_attention_arrays *s)
    int minidl_attention_backward(int is_double, const minidl_attention_arrays *s)


cdef cnp.ndarray _heads(cnp.ndarray x, minidl_heads *h):
    """Describe an array of four axes, or a copy of it where its rows have gaps; return whichever it is, to be kept alive."""
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(x)
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    if ((strides[3] != size and shape[3] > 1) or strides[2] % size or strides[1] % size or strides[0] % size
            or (strides[2] < shape[3] * size and shape[2] > 1)):
        x = cnp.PyArray_NewCopy(x, cnp.NPY_CORDER)
        strides = cnp.PyArray_STRIDES(x)
    h.at = cnp.PyArray_DATA(x)
    h.batch, h.head, h.row = strides[0] // size, strides[1] // size, strides[2] // size
    if shape[2] == 1:
        h.row = max(shape[3], 1)
    return x


cdef cnp.ndarray _fresh_heads(ptrdiff_t batch, ptrdiff_t heads, ptrdiff_t rows, ptrdiff_t size, int kind, minidl_heads *h):
    """Return an array (N, H, T, D) that lies as (N, T, H, D), so that heads are merged without a copy."""
    cdef cnp.npy_intp shape[4]
    shape[0], shape[1], shape[2], shape[3] = batch, rows, heads, size
    cdef cnp.ndarray x = fresh(4, shape, kind)
    h.at = cnp.PyArray_DATA(x)
    h.batch, h.head, h.row = rows * heads * size, size, heads * size
    return x.swapaxes(1, 2)


cdef bint _attention_fits(object query, object key, object value, bint shared, minidl_attention_arrays *s):
    """Describe the sizes; False where the formula has to compute, or to say what is wrong."""
    if not (taken(query) and taken(key) and taken(value) and cnp.PyArray_NDIM(<cnp.ndarray>query) == 4
            and cnp.PyArray_NDIM(<cnp.ndarray>key) == 4 and cnp.PyArray_NDIM(<cnp.ndarray>value) == 4
            and cnp.PyArray_TYPE(<cnp.ndarray>query) == cnp.PyArray_TYPE(<cnp.ndarray>key)
            and cnp.PyArray_TYPE(<cnp.ndarray>query) == cnp.PyArray_TYPE(<cnp.ndarray>value)
            and cnp.PyArray_SIZE(query) > 0 and cnp.PyArray_SIZE(key) > 0 and cnp.PyArray_SIZE(value) > 0):
        return False
    cdef cnp.npy_intp *q = cnp.PyArray_DIMS(<cnp.ndarray>query)
    cdef cnp.npy_intp *k = cnp.PyArray_DIMS(<cnp.ndarray>key)
    cdef cnp.npy_intp *v = cnp.PyArray_DIMS(<cnp.ndarray>value)
    memset(s, 0, sizeof(minidl_attention_arrays))
    s.batch, s.heads, s.queries, s.size = q[0], q[1], q[2], q[3]
    s.key_heads, s.keys, s.value_size = k[1], k[2], v[3]
    return (k[0] == s.batch and k[3] == s.size and v[0] == s.batch and v[1] == s.key_heads and v[2] == s.keys
            and (s.heads == s.key_heads or (shared and s.heads % s.key_heads == 0)))


cdef bint _positions_fit(object scale, object window, object offset, minidl_attention_arrays *s):
    """Describe scale, window and offset where they are plain numbers of moderate size."""
    if not (type(scale) is float and (window is None or type(window) is int) and type(offset) is int):
        return False
    if not (-1e30 < scale < 1e30 and 0 <= offset <= MOST_STEPS and (window is None or 1 <= window <= MOST_STEPS)):
        return False
    s.scale, s.offset, s.window = scale, offset, 0 if window is None else window
    return True


cdef object _mask_fits(object mask, int kind, minidl_attention_arrays *s):
    """Describe a mask; return what must be kept alive, or None where the formula has to take it."""
    if mask is None:
        return ()
    if not (cnp.PyArray_CheckExact(mask) and PyArray_ISBEHAVED_RO(<cnp.ndarray>mask) and cnp.PyArray_NDIM(<cnp.ndarray>mask) <= 4):
        return None
    cdef cnp.ndarray m = mask
    cdef bint bytes_ = cnp.PyArray_TYPE(m) == cnp.NPY_BOOL
    if not (bytes_ or cnp.PyArray_TYPE(m) == kind):
        return None
    cdef ptrdiff_t sizes[4]
    cdef ptrdiff_t steps[4]
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(m)
    cdef int ndim = cnp.PyArray_NDIM(m), axis, own
    sizes[0], sizes[1], sizes[2], sizes[3] = s.batch, s.heads, s.queries, s.keys
    for axis in range(4):
        own = axis - (4 - ndim)
        steps[axis] = 0
        if own >= 0 and cnp.PyArray_DIMS(m)[own] != 1:
            if cnp.PyArray_DIMS(m)[own] != sizes[axis] or cnp.PyArray_STRIDES(m)[own] % size:
                return None
            steps[axis] = cnp.PyArray_STRIDES(m)[own] // size
    s.mask, s.mask_is_bytes = cnp.PyArray_DATA(m), bytes_
    s.mask_batch, s.mask_head, s.mask_query, s.mask_key = steps[0], steps[1], steps[2], steps[3]
    return (m,)


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                                 enable_gqa=False, window=None, offset=0, random=None):
    """See ``minidl.ops.attention.scaled_dot_product_attention``. Dropout goes to the formula."""
    cdef minidl_attention_arrays s
    cdef cnp.ndarray q, k, v, y, log_sum
    cdef cnp.npy_intp shape[3]
    cdef bint double_
    cdef int status, kind
    factor = None
    if (type(dropout_p) is float and dropout_p == 0.0 and switch(is_causal) and switch(enable_gqa)
            and _attention_fits(query, key, value, enable_gqa, &s)):
        factor = 1 / float(s.size) ** 0.5 if scale is None else scale
        kind = cnp.PyArray_TYPE(<cnp.ndarray>query)
        if not _positions_fit(factor, window, offset, &s) or _mask_fits(attn_mask, kind, &s) is None:
            factor = None
    if factor is None:
        return _attention.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa,
                                                       window, offset, random)
    s.causal = bool(is_causal)
    q, k, v = _heads(query, &s.q), _heads(key, &s.k), _heads(value, &s.v)
    y = _fresh_heads(s.batch, s.heads, s.queries, s.value_size, kind, &s.y)
    shape[0], shape[1], shape[2] = s.batch, s.heads, s.queries
    log_sum = fresh(3, shape, kind)
    s.log_sum, double_ = cnp.PyArray_DATA(log_sum), is_double(q)
    with nogil:
        status = minidl_attention(double_, &s)
    if status < 0:
        raise MemoryError("the native engine could not allocate the tiles of its threads")
    if status > 0:
        return _attention.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa,
                                                       window, offset, random)
    return y, (query, key, value, attn_mask, (factor, bool(is_causal), window, offset), None, y, log_sum)


def scaled_dot_product_attention_backward(dy, cache):
    """See ``minidl.ops.attention.scaled_dot_product_attention_backward``."""
    cdef minidl_attention_arrays s
    cdef cnp.ndarray q, k, v, out, upstream, dq, dk, dv
    cdef bint double_, fits
    cdef int status, kind
    query, key, value, attn_mask, settings, m, y, log_sum = cache
    factor, is_causal, window, offset = settings
    fits = m is None and _attention_fits(query, key, value, True, &s) and taken(y) and alike(y, dy)
    if fits:
        kind = cnp.PyArray_TYPE(<cnp.ndarray>query)
        fits = (cnp.PyArray_TYPE(<cnp.ndarray>y) == kind and y.shape == (*query.shape[:3], value.shape[3])
                and taken(log_sum) and cnp.PyArray_TYPE(<cnp.ndarray>log_sum) == kind and log_sum.shape == query.shape[:3]
                and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>log_sum)
                and _positions_fit(factor, window, offset, &s) and _mask_fits(attn_mask, kind, &s) is not None)
    if not fits:
        return _attention.scaled_dot_product_attention_backward(dy, cache)
    s.causal = bool(is_causal)
    q, k, v, out, upstream = (_heads(query, &s.q), _heads(key, &s.k), _heads(value, &s.v), _heads(y, &s.y), _heads(dy, &s.dy))
    dq = _fresh_heads(s.batch, s.heads, s.queries, s.size, kind, &s.dq)
    dk = _fresh_heads(s.batch, s.key_heads, s.keys, s.size, kind, &s.dk)
    dv = _fresh_heads(s.batch, s.key_heads, s.keys, s.value_size, kind, &s.dv)
    s.log_sum, double_ = cnp.PyArray_DATA(<cnp.ndarray>log_sum), is_double(q)
    with nogil:
        status = minidl_attention_backward(double_, &s)
    if status < 0:
        raise MemoryError("the native engine could not allocate the tiles of its threads")
    return (dq, dk, dv) if status == 0 else _attention.scaled_dot_product_attention_backward(dy, cache)
