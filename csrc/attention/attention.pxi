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
        int causal, rounds
        double scale
        const minidl_pcg64 *random
        const unsigned char *keep
        double p
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


cdef bint _seed_fits(object random) noexcept:
    """Whether it is a generator whose numbers a kernel can make from any place of their sequence."""
    return isinstance(random, _Generator) and type(random.bit_generator) is _PCG64 and minidl_pcg64_known()


cdef object _dropout_fits(object p, object random, minidl_pcg64 *start, minidl_attention_arrays *s):
    """Describe a dropout, with the generator as it is; return what must be kept alive, or None where the formula has to take it."""
    if not (number(p) and 0 <= p <= 1):
        return None
    s.p = p
    if p == 0:
        return ()
    if _seed_fits(random):
        seen = random.bit_generator.state
        _halves(seen["state"]["state"], start.state)
        _halves(seen["state"]["inc"], start.increment)
        start.half, start.waiting = seen["uinteger"], seen["has_uint32"]
        s.random = start
        return ()
    if not (cnp.PyArray_CheckExact(random) and cnp.PyArray_TYPE(<cnp.ndarray>random) == cnp.NPY_BOOL
            and random.shape == (s.batch, s.heads, s.queries, s.keys)):
        return None
    cdef cnp.ndarray keep = dense(random)
    s.keep = <const unsigned char *>cnp.PyArray_DATA(keep)
    return (keep,)


cdef object _copy_and_advance(object random, minidl_attention_arrays *s):
    """Return a copy of a generator, which itself is advanced past the numbers of all weights."""
    before = deepcopy(random)
    cdef object generator = random.bit_generator
    cdef minidl_pcg64 place
    with generator.lock:
        seen = generator.state
        before.bit_generator.state = seen
        _halves(seen["state"]["state"], place.state)
        _halves(seen["state"]["inc"], place.increment)
        place.half, place.waiting = seen["uinteger"], seen["has_uint32"]
        minidl_pcg64_skip(&place, <uint64_t>s.batch * <uint64_t>s.heads * <uint64_t>s.queries * <uint64_t>s.keys)
        seen["state"]["state"] = (<object>place.state[0] << 64) | <object>place.state[1]
        seen["uinteger"], seen["has_uint32"] = place.half, place.waiting
        generator.state = seen
    return before


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                                 enable_gqa=False, window=None, offset=0, random=None):
    """See ``minidl.ops.attention.scaled_dot_product_attention``.

    Dropout by a generator that is not a PCG64 goes to the formula.
    """
    cdef minidl_attention_arrays s
    cdef minidl_pcg64 start
    cdef cnp.ndarray q, k, v, y, log_sum
    cdef cnp.npy_intp shape[3]
    cdef bint double_
    cdef int status, kind
    factor = mask = dropped = source = None
    if switch(is_causal) and switch(enable_gqa) and _attention_fits(query, key, value, enable_gqa, &s):
        factor = 1 / float(s.size) ** 0.5 if scale is None else scale
        kind = cnp.PyArray_TYPE(<cnp.ndarray>query)
        if _positions_fit(factor, window, offset, &s):
            mask = _mask_fits(attn_mask, kind, &s)
        if mask is not None and number(dropout_p):
            source = _copy_and_advance(random, &s) if 0 < dropout_p <= 1 and _seed_fits(random) else random
            dropped = _dropout_fits(dropout_p, source, &start, &s)
    if dropped is None:
        return _attention.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa,
                                                       window, offset, random)
    s.causal, s.rounds = bool(is_causal), kind == cnp.NPY_FLOAT and rounds_operands()
    q, k, v = _heads(query, &s.q), _heads(key, &s.k), _heads(value, &s.v)
    y = _fresh_heads(s.batch, s.heads, s.queries, s.value_size, kind, &s.y)
    shape[0], shape[1], shape[2] = s.batch, s.heads, s.queries
    log_sum = fresh(3, shape, kind)
    s.log_sum, double_ = cnp.PyArray_DATA(log_sum), is_double(q)
    with nogil:
        status = minidl_attention(double_, &s)
    if status < 0:
        raise MemoryError("the native engine could not allocate the tiles of its threads")
    if status > 0:  # drawn from the copy, since the generator is where it has to be afterwards
        return _attention.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa,
                                                       window, offset, source)
    dropout = (dropout_p, source) if dropout_p else None
    return y, (query, key, value, attn_mask, (factor, bool(is_causal), window, offset), dropout, y, log_sum)


def scaled_dot_product_attention_backward(dy, cache):
    """See ``minidl.ops.attention.scaled_dot_product_attention_backward``."""
    cdef minidl_attention_arrays s
    cdef minidl_pcg64 start
    cdef cnp.ndarray q, k, v, out, upstream, dq, dk, dv
    cdef bint double_, fits
    cdef int status, kind
    query, key, value, attn_mask, settings, dropout, y, log_sum = cache
    factor, is_causal, window, offset = settings
    dropout_p, source = (0.0, None) if dropout is None else dropout
    mask = dropped = None
    fits = _attention_fits(query, key, value, True, &s) and taken(y) and alike(y, dy)
    if fits:
        kind = cnp.PyArray_TYPE(<cnp.ndarray>query)
        fits = (cnp.PyArray_TYPE(<cnp.ndarray>y) == kind and y.shape == (*query.shape[:3], value.shape[3])
                and taken(log_sum) and cnp.PyArray_TYPE(<cnp.ndarray>log_sum) == kind and log_sum.shape == query.shape[:3]
                and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>log_sum)
                and _positions_fit(factor, window, offset, &s))
    if fits:
        mask = _mask_fits(attn_mask, kind, &s)
        dropped = _dropout_fits(dropout_p, source, &start, &s)
    if mask is None or dropped is None:
        return _attention.scaled_dot_product_attention_backward(dy, cache)
    s.causal, s.rounds = bool(is_causal), kind == cnp.NPY_FLOAT and rounds_operands()
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
