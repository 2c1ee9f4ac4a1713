# Dropout. The mask comes from the generator's own sequence and is made on all threads.

cdef extern from "runtime/pcg64.h" nogil:
    ctypedef struct minidl_pcg64:
        uint64_t state[2]
        uint64_t increment[2]
        uint32_t half
        int waiting
    bint minidl_pcg64_known()
    void minidl_pcg64_skip(minidl_pcg64 *random, uint64_t n)

cdef extern from "elementwise/dropout.h" nogil:
    void minidl_dropout(int is_double, const void *x, const minidl_pcg64 *random, const float *uniform, const void *mask,
                        double p, void *scale, void *y, ptrdiff_t n)

cdef enum: FEW_NUMBERS = 4096  # sooner made by NumPy than its generator's state is read and written


cdef void _halves(object wide, uint64_t *to):
    to[0], to[1] = wide >> 64, wide & 0xFFFFFFFFFFFFFFFF


def dropout(x, p=0.5, random=None):
    """See ``minidl.ops.dropout.dropout``. Numbers, mask and product in one pass, where the generator is a PCG64.

    The random numbers are those that the generator would give, and its state afterwards is what it would be.
    """
    if not (taken(x) and type(p) is float and 0 <= p <= 1):
        return _dropout.dropout(x, p, random)
    cdef cnp.ndarray source = dense(x), numbers
    cdef const void *uniform = NULL
    cdef const void *mask = NULL
    cdef ptrdiff_t n = cnp.PyArray_SIZE(source)
    if isinstance(random, _Generator):
        if n >= FEW_NUMBERS and type(random.bit_generator) is _PCG64 and minidl_pcg64_known():
            return _drop(source, p, random.bit_generator)
        drawn = random.random(x.shape, dtype=numpy.float32)
        if not (taken(drawn) and cnp.PyArray_TYPE(<cnp.ndarray>drawn) == cnp.NPY_FLOAT
                and cnp.PyArray_SAMESHAPE(<cnp.ndarray>drawn, source)):
            raise TypeError(f"dropout: the generator gave no float32 array of shape {x.shape}: {type(random).__name__}")
        numbers = dense(drawn)
        uniform = cnp.PyArray_DATA(numbers)
    elif (cnp.PyArray_CheckExact(random) and cnp.PyArray_TYPE(<cnp.ndarray>random) == cnp.NPY_BOOL
            and cnp.PyArray_SAMESHAPE(<cnp.ndarray>random, source)):
        numbers = dense(random)
        mask = cnp.PyArray_DATA(numbers)
    else:
        return _dropout.dropout(x, p, random)
    return _dropped(source, NULL, <const float *>uniform, mask, p)


cdef tuple _drop(cnp.ndarray source, double p, object generator):
    """Drop by the next numbers of a PCG64, and advance it past them."""
    cdef minidl_pcg64 start
    with generator.lock:
        seen = generator.state
        _halves(seen["state"]["state"], start.state)
        _halves(seen["state"]["inc"], start.increment)
        start.half, start.waiting = seen["uinteger"], seen["has_uint32"]
        result = _dropped(source, &start, NULL, NULL, p)
        minidl_pcg64_skip(&start, <uint64_t>cnp.PyArray_SIZE(source))
        seen["state"]["state"] = (<object>start.state[0] << 64) | <object>start.state[1]
        seen["uinteger"], seen["has_uint32"] = start.half, start.waiting
        generator.state = seen
    return result


cdef tuple _dropped(cnp.ndarray source, const minidl_pcg64 *random, const float *uniform, const void *mask, double p):
    cdef cnp.ndarray scale = fresh_like(source), y = fresh_like(source)
    cdef const void *from_ = cnp.PyArray_DATA(source)
    cdef void *scale_data = cnp.PyArray_DATA(scale)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(source)
    cdef bint double_ = is_double(source)
    with nogil:
        minidl_dropout(double_, from_, random, uniform, mask, p, scale_data, to, n)
    return y, (scale,)


def dropout_backward(dy, cache):
    """See ``minidl.ops.dropout.dropout_backward``."""
    scale = cache[0]
    return multiplied(dy, scale) if taken(scale) and alike(scale, dy) else _dropout.dropout_backward(dy, cache)


def dropout2d(x, p=0.5, random=None):
    """See ``minidl.ops.dropout.dropout2d``. The formula draws the mask, which is small; the kernel multiplies."""
    if not (taken(x) and cnp.PyArray_NDIM(<cnp.ndarray>x) >= 3 and type(p) is float and 0 <= p <= 1):
        return _dropout.dropout2d(x, p, random)
    scale = _dropout.scale_of_channels(x, p, random)
    return scaled_rows(x, scale), (scale, x.shape)


def dropout2d_backward(dy, cache):
    """See ``minidl.ops.dropout.dropout2d_backward``."""
    scale, shape = cache
    if (taken(dy) and dy.shape == shape and taken(scale) and scale.dtype == dy.dtype
            and scale.shape == (*shape[:2], *[1 for _ in shape[2:]])):
        return scaled_rows(dy, scale)
    return _dropout.dropout2d_backward(dy, cache)
