# A block of a Transformer.

cdef extern from "attention/block.h" nogil:
    enum:
        MINIDL_SINGLE, MINIDL_BFLOAT16, MINIDL_FLOAT16, MINIDL_INT8
    ctypedef struct minidl_block_map:
        int kind
        ptrdiff_t outputs, inputs
        const void *weight
        const float *scale
        const float *bias
    ctypedef struct minidl_block_norm:
        const float *weight
        const float *bias
        double eps
    ctypedef struct minidl_block:
        minidl_block_norm norms[2]
        minidl_block_map qkv, out, first, second
        int norm_first, causal, rounds
        void (*activation)(const float *, float *, ptrdiff_t, const void *)
        float settings[2]
        ptrdiff_t batch, queries, width, heads
        const float *x
        float *y
        float *keys
        float *values
        ptrdiff_t room, length
        minidl_attention_arrays mask
    int minidl_block_forward(const minidl_block *b)


cdef bint _no_gaps(object x, int ndim) noexcept:
    """Whether it is a float32 array of so many axes as C has it."""
    return (taken(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.NPY_FLOAT and cnp.PyArray_NDIM(<cnp.ndarray>x) == ndim
            and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>x))


cdef bint _vector_of(object x, ptrdiff_t length, const float **at) noexcept:
    """Find a vector of so many elements, or NULL for None; False for anything else."""
    at[0] = NULL
    if x is None:
        return True
    if not (_no_gaps(x, 1) and cnp.PyArray_DIMS(<cnp.ndarray>x)[0] == length):
        return False
    at[0] = <const float *>cnp.PyArray_DATA(<cnp.ndarray>x)
    return True


cdef bint _norm_of(tuple norm, ptrdiff_t width, minidl_block_norm *to) except -1:
    weight, bias, eps = norm
    if not number(eps):
        return False
    to.eps = eps
    return _vector_of(weight, width, &to.weight) and _vector_of(bias, width, &to.bias)


cdef bint _map_of(tuple map_, ptrdiff_t inputs, minidl_block_map *to) except -1:
    """Describe an affine map; False where the ops have to take it."""
    weight, scale, bias = map_
    if _no_gaps(weight, 2) and scale is None:
        to.kind = MINIDL_SINGLE
    elif _stored(weight, cnp.NPY_UINT16):
        to.kind = MINIDL_BFLOAT16
    elif _stored(weight, cnp.NPY_FLOAT16):
        to.kind = MINIDL_FLOAT16
    elif _stored(weight, cnp.NPY_INT8) and scale is not None:
        to.kind = MINIDL_INT8
    else:
        return False
    to.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
    to.outputs, to.inputs = cnp.PyArray_DIMS(<cnp.ndarray>weight)[0], cnp.PyArray_DIMS(<cnp.ndarray>weight)[1]
    return (to.inputs == inputs and to.outputs > 0 and (to.kind != MINIDL_INT8 or inputs <= MINIDL_MOST_INT8_TERMS)
            and _vector_of(scale, to.outputs, &to.scale) and _vector_of(bias, to.outputs, &to.bias))


cdef bint _cache_of(tuple cache, minidl_block *b) except -1:
    """Describe a cache of keys and values with room for the new ones."""
    keys, values, length = cache
    if not (_no_gaps(keys, 4) and _no_gaps(values, 4) and PyArray_ISBEHAVED(<cnp.ndarray>keys)
            and PyArray_ISBEHAVED(<cnp.ndarray>values) and type(length) is int):
        return False
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(<cnp.ndarray>keys)
    b.room = shape[2]
    b.keys, b.values = <float *>cnp.PyArray_DATA(<cnp.ndarray>keys), <float *>cnp.PyArray_DATA(<cnp.ndarray>values)
    if not (cnp.PyArray_SAMESHAPE(<cnp.ndarray>keys, <cnp.ndarray>values) and shape[0] == b.batch and shape[1] == b.heads
            and shape[3] * b.heads == b.width and 0 <= length <= b.room - b.queries):
        return False
    b.length = length
    return True


def transformer_block(x, norms, maps, heads, norm_first, is_causal, activation, settings=(), mask=None, cache=None):
    """See ``minidl.engines.compositions.transformer_block``. Nothing of it goes back to Python in between."""
    cdef minidl_block b
    cdef double[MOST_SETTINGS] numbers
    cdef cnp.ndarray y
    cdef cnp.npy_intp *shape
    cdef int op = -1, status
    cdef object kept = None
    cdef bint fits = (_no_gaps(x, 3) and cnp.PyArray_SIZE(x) > 0 and type(heads) is int and 0 < heads < MOST_STEPS
                      and switch(norm_first) and switch(is_causal))
    norms, maps = tuple(norms), tuple(maps)  # whose arrays stay alive while the GIL is released
    if fits:
        memset(&b, 0, sizeof(b))
        numbers[0] = numbers[1] = 0
        shape = cnp.PyArray_DIMS(<cnp.ndarray>x)
        b.batch, b.queries, b.width = shape[0], shape[1], shape[2]
        b.heads, b.norm_first, b.causal = heads, norm_first, is_causal
        op = _applied(activation, as_tuple(settings), numbers)
        fits = op >= 0 and b.width % b.heads == 0 and len(norms) == 2 and len(maps) == 4
    if fits:
        fits = (_norm_of(norms[0], b.width, &b.norms[0]) and _norm_of(norms[1], b.width, &b.norms[1])
                and _map_of(maps[0], b.width, &b.qkv) and _map_of(maps[1], b.width, &b.out) and _map_of(maps[2], b.width, &b.first)
                and _map_of(maps[3], b.first.outputs, &b.second))
    if fits:
        fits = (b.qkv.outputs == 3 * b.width and b.out.outputs == b.width and b.second.outputs == b.width
                and (cache is None or _cache_of(cache, &b)))
    if fits:
        b.mask.batch, b.mask.heads, b.mask.queries = b.batch, b.heads, b.queries
        b.mask.keys = b.queries if cache is None else b.length + b.queries
        kept = _mask_fits(mask, cnp.NPY_FLOAT, &b.mask)
    if kept is None:
        return _compositions.transformer_block(_compiled, x, norms, maps, heads, norm_first, is_causal, activation, settings, mask,
                                               cache)
    b.activation, b.settings[0], b.settings[1] = minidl_activations_f32_in_use().forward[op], <float>numbers[0], <float>numbers[1]
    b.rounds = rounds_operands()
    y = fresh_like(x)
    b.x, b.y = <const float *>cnp.PyArray_DATA(<cnp.ndarray>x), <float *>cnp.PyArray_DATA(y)
    with nogil:
        status = minidl_block_forward(&b)
    if status < 0:
        raise MemoryError("the native engine could not allocate what a block keeps on its way")
    if status > 0:
        return _compositions.transformer_block(_compiled, x, norms, maps, heads, norm_first, is_causal, activation, settings, mask,
                                               cache)
    return y
