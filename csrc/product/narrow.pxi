# Linear layers whose weights are stored in 16 or 8 bits.

from libc.stdint cimport int8_t, uint16_t

cdef extern from "product/narrow.h" nogil:
    enum:
        MINIDL_MOST_INT8_TERMS
    int minidl_linear_16(int is_float16, int rounds, const float *x, ptrdiff_t rows, const uint16_t *w, ptrdiff_t outputs, ptrdiff_t k,
                         const minidl_epilogue_f32 *after, float *y)
    int minidl_linear_int8(const float *x, ptrdiff_t rows, const int8_t *w, const float *scale, ptrdiff_t outputs, ptrdiff_t k,
                           const minidl_epilogue_f32 *after, float *y)
    const char *minidl_int8_name()


cdef bint _vector(object values, ptrdiff_t length) noexcept:
    """Whether this is an array of so many float32."""
    return (taken(values) and cnp.PyArray_TYPE(<cnp.ndarray>values) == cnp.NPY_FLOAT
            and cnp.PyArray_NDIM(<cnp.ndarray>values) == 1 and cnp.PyArray_DIMS(<cnp.ndarray>values)[0] == length)


cdef bint _stored(object weight, int kind) noexcept:
    """Whether this is a matrix of stored weights of one type, without gaps."""
    return (cnp.PyArray_CheckExact(weight) and cnp.PyArray_TYPE(<cnp.ndarray>weight) == kind
            and cnp.PyArray_NDIM(<cnp.ndarray>weight) == 2 and PyArray_ISBEHAVED_RO(<cnp.ndarray>weight)
            and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>weight))


cdef int _applied(object activation, tuple settings, double *numbers) except -2:
    """Return the kernel of an activation, with its settings in ``numbers``; -1 where the op itself has to say what is wrong."""
    cdef int op = _KEEPS_OUTPUT.get(activation, -1)
    if op >= 0:
        return op if not settings else -1
    op, defaults = _KEEPS_INPUT.get(activation, (-1, ()))
    full = settings + defaults[len(settings):]
    if op < 0 or len(full) != len(defaults):
        return -1
    if activation == "gelu":
        op, full = _gelu(full[0]), ()
    return op if op >= 0 and read_settings(op, full, 0, numbers) else -1


def stored_linear(x, weight, scale=None, bias=None, activation=None, settings=()):
    """See ``minidl.engines.compositions.stored_linear``. Weights are widened as they are read, many rows of x excepted."""
    cdef bint bf16 = _stored(weight, cnp.NPY_UINT16), f16 = _stored(weight, cnp.NPY_FLOAT16), int8 = _stored(weight, cnp.NPY_INT8)
    cdef double[MOST_SETTINGS] numbers
    numbers[0] = numbers[1] = 0
    cdef int op = -1 if activation is None else _applied(activation, as_tuple(settings), numbers)
    if not (taken(x) and cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.NPY_FLOAT and cnp.PyArray_NDIM(<cnp.ndarray>x) >= 1
            and (bf16 or f16 or int8) and (op >= 0 or activation is None)):
        return _compositions.stored_linear(_compiled, x, weight, scale, bias, activation, settings)
    cdef cnp.ndarray w = weight
    cdef ptrdiff_t outputs = cnp.PyArray_DIMS(w)[0], k = cnp.PyArray_DIMS(w)[1]
    cdef int ndim = cnp.PyArray_NDIM(<cnp.ndarray>x), axis, status = 0
    if (cnp.PyArray_DIMS(<cnp.ndarray>x)[ndim - 1] != k or k == 0 or outputs == 0
            or not (bias is None or _vector(bias, outputs)) or (int8 and not _vector(scale, outputs))
            or (int8 and k > MINIDL_MOST_INT8_TERMS)):
        return _compositions.stored_linear(_compiled, x, weight, scale, bias, activation, settings)
    cdef cnp.npy_intp shape[MOST_AXES]
    cdef ptrdiff_t rows = 1
    for axis in range(ndim - 1):
        shape[axis] = cnp.PyArray_DIMS(<cnp.ndarray>x)[axis]
        rows *= shape[axis]
    shape[ndim - 1] = outputs
    cdef cnp.ndarray added = None if bias is None else dense(bias), scales = dense(scale) if int8 else None
    cdef bint rounds = rounds_operands()
    cdef cnp.ndarray read = dense(x), y = fresh(ndim, shape, cnp.NPY_FLOAT)
    cdef minidl_epilogue_f32 follows
    cdef float[MOST_SETTINGS] single
    memset(&follows, 0, sizeof(follows))
    if added is not None:
        follows.bias = <const float *>cnp.PyArray_DATA(added)
    if op >= 0:
        single[0], single[1] = <float>numbers[0], <float>numbers[1]
        follows.activation, follows.arguments = minidl_activations_f32_in_use().forward[op], <const void *>single
    cdef const float *from_ = <const float *>cnp.PyArray_DATA(read)
    cdef float *steps = NULL if scales is None else <float *>cnp.PyArray_DATA(scales)
    cdef const void *stored = cnp.PyArray_DATA(w)
    cdef float *to = <float *>cnp.PyArray_DATA(y)
    if rows == 0:
        return y
    with nogil:
        if int8:
            status = minidl_linear_int8(from_, rows, <const int8_t *>stored, steps, outputs, k, &follows, to)
        else:
            status = minidl_linear_16(f16, rounds, from_, rows, <const uint16_t *>stored, outputs, k, &follows, to)
    if status != 0:
        raise MemoryError("the native engine could not allocate the rounded rows of a linear layer")
    return y
