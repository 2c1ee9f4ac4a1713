# Matrix products and the affine map.

cdef extern from "product/gemm.h" nogil:
    ctypedef struct minidl_epilogue_f32:
        const float *bias
        float *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const float *, float *, ptrdiff_t, const void *)
        const void *arguments
    ctypedef struct minidl_epilogue_f64:
        const double *bias
        double *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const double *, double *, ptrdiff_t, const void *)
        const void *arguments
    int minidl_sgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                     const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                     const minidl_epilogue_f32 *epilogue, int threads)
    int minidl_dgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a, ptrdiff_t a_row,
                     ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col, double beta, double *c,
                     ptrdiff_t c_row, const minidl_epilogue_f64 *epilogue, int threads)
    int minidl_sgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a,
                             ptrdiff_t a_row, ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col,
                             float beta, float *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                             ptrdiff_t c_batch, int threads)
    int minidl_dgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a,
                             ptrdiff_t a_row, ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col,
                             double beta, double *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                             ptrdiff_t c_batch, int threads)

# How a product goes on: bias and activation. Everything here belongs to arrays that the caller keeps alive.
cdef struct After:
    const void *bias
    int op  # an activation, or -1
    const double *settings
    void *before  # where what goes into the activation is kept, or NULL


cdef enum:
    SHORT_PRODUCT = 65536  # multiply-adds: some microseconds


cdef int _multiplied(bint double_, bint rounds, Matrix *a, Matrix *b, double beta, char *c, ptrdiff_t c_row,
                     const minidl_epilogue_f32 *s, const minidl_epilogue_f64 *d) noexcept nogil:
    cdef int threads = minidl_get_threads()
    if double_:
        return minidl_dgemm(a.rows, b.columns, a.columns, 1.0, <double *>a.data, a.row, a.column, <double *>b.data, b.row,
                            b.column, beta, <double *>c, c_row, d, threads)
    if rounds:
        return minidl_bgemm(a.rows, b.columns, a.columns, 1.0, <float *>a.data, a.row, a.column, <float *>b.data, b.row,
                            b.column, <float>beta, <float *>c, c_row, s, threads)
    return minidl_sgemm(a.rows, b.columns, a.columns, 1.0, <float *>a.data, a.row, a.column, <float *>b.data, b.row,
                        b.column, <float>beta, <float *>c, c_row, s, threads)


cdef int product(bint double_, Matrix *a, Matrix *b, double beta, char *c, ptrdiff_t c_row, After *after) except -1:
    """c = a b + beta c, then what comes after."""
    cdef int status
    cdef minidl_epilogue_f32 s
    cdef minidl_epilogue_f64 d
    cdef float[2] s_settings
    cdef bint rounds = rounds_operands()
    if a.rows == 0 or b.columns == 0:
        return 0
    if after != NULL:
        memset(&s, 0, sizeof(s))
        memset(&d, 0, sizeof(d))
        s.bias, d.bias = <const float *>after.bias, <const double *>after.bias
        s.pre_activation, d.pre_activation = <float *>after.before, <double *>after.before
        s.pre_activation_row = d.pre_activation_row = c_row
        if after.op >= 0:
            s_settings[0], s_settings[1] = <float>after.settings[0], <float>after.settings[1]
            s.arguments, d.arguments = <const void *>s_settings, <const void *>after.settings
            s.activation = minidl_activations_f32_in_use().forward[after.op]
            d.activation = minidl_activations_f64_in_use().forward[after.op]
    cdef const minidl_epilogue_f32 *with_s = &s if after != NULL else NULL
    cdef const minidl_epilogue_f64 *with_d = &d if after != NULL else NULL
    if <double>a.rows * b.columns * a.columns < SHORT_PRODUCT:
        status = _multiplied(double_, rounds, a, b, beta, c, c_row, with_s, with_d)
    else:
        with nogil:
            status = _multiplied(double_, rounds, a, b, beta, c, c_row, with_s, with_d)
    if status != 0:
        raise MemoryError("the native engine could not allocate its packing buffers")
    return 0


def matmul(a, b, transpose_a=False, transpose_b=False, out=None, accumulate=False):
    """See ``minidl.ops.linear.matmul``. Products of two matrices, and of two equally long dense stacks of them."""
    cdef Matrix left, right
    cdef cnp.ndarray y
    cdef cnp.npy_intp shape[2]
    if not (switch(transpose_a) and switch(transpose_b) and switch(accumulate)) or (accumulate and out is None):
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)  # which says what is missing
    if not (taken(a) and taken(b) and cnp.PyArray_TYPE(<cnp.ndarray>a) == cnp.PyArray_TYPE(<cnp.ndarray>b)):
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    if cnp.PyArray_NDIM(<cnp.ndarray>a) != 2 or cnp.PyArray_NDIM(<cnp.ndarray>b) != 2:
        if out is None and cnp.PyArray_NDIM(<cnp.ndarray>a) > 2 and _stackable(a, b, transpose_a, transpose_b):
            return _stacked(dense(a), dense(b), transpose_a, transpose_b), (a, b, transpose_a, transpose_b)
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    keep_a = readable(a, transpose_a, &left)
    keep_b = readable(b, transpose_b, &right)
    if left.columns != right.rows:
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    shape[0], shape[1] = left.rows, right.columns
    if out is None:
        y = fresh(2, shape, cnp.PyArray_TYPE(<cnp.ndarray>a))
    elif _writable(out, a, shape) and apart(out, a) and apart(out, b):
        y = out
    else:
        return _linear.matmul(a, b, transpose_a, transpose_b, out, accumulate)
    product(is_double(a), &left, &right, 1.0 if accumulate and out is not None else 0.0, <char *>cnp.PyArray_DATA(y),
            max(shape[1], 1), NULL)
    return y, (a, b, transpose_a, transpose_b)


cdef bint _writable(object out, cnp.ndarray like, cnp.npy_intp *shape):
    return (
        taken(out)
        and PyArray_ISBEHAVED(<cnp.ndarray>out)
        and cnp.PyArray_TYPE(<cnp.ndarray>out) == cnp.PyArray_TYPE(like)
        and cnp.PyArray_NDIM(<cnp.ndarray>out) == 2
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>out)
        and cnp.PyArray_DIMS(<cnp.ndarray>out)[0] == shape[0]
        and cnp.PyArray_DIMS(<cnp.ndarray>out)[1] == shape[1]
    )


cdef bint _stackable(cnp.ndarray a, cnp.ndarray b, bint transpose_a, bint transpose_b):
    """Whether the leading axes are the same, and the matrices fit."""
    cdef int ndim = cnp.PyArray_NDIM(a), axis
    if cnp.PyArray_NDIM(b) != ndim:
        return False
    for axis in range(ndim - 2):
        if cnp.PyArray_DIMS(a)[axis] != cnp.PyArray_DIMS(b)[axis]:
            return False
    return (
        cnp.PyArray_DIMS(a)[ndim - 2 if transpose_a else ndim - 1]
        == cnp.PyArray_DIMS(b)[ndim - 1 if transpose_b else ndim - 2]
    )


cdef cnp.ndarray _stacked(cnp.ndarray a, cnp.ndarray b, bint transpose_a, bint transpose_b):
    cdef Matrix left, right
    cdef int ndim = cnp.PyArray_NDIM(a), axis, status, threads = minidl_get_threads()
    cdef cnp.npy_intp shape[MOST_AXES]
    cdef ptrdiff_t count = 1
    matrix(a, transpose_a, &left)
    matrix(b, transpose_b, &right)
    for axis in range(ndim - 2):
        shape[axis] = cnp.PyArray_DIMS(a)[axis]
        count *= shape[axis]
    shape[ndim - 2], shape[ndim - 1] = left.rows, right.columns
    cdef cnp.ndarray y = fresh(ndim, shape, cnp.PyArray_TYPE(a))
    cdef void *c = cnp.PyArray_DATA(y)
    cdef bint double_ = is_double(a), rounds = rounds_operands()
    if count * left.rows * right.columns == 0:
        return y
    with nogil:
        if double_:
            status = minidl_dgemm_batched(
                count, left.rows, right.columns, left.columns, 1.0, <double *>left.data, left.row, left.column,
                <double *>right.data, right.row, right.column, 0.0, <double *>c, right.columns,
                left.rows * left.columns, right.rows * right.columns, left.rows * right.columns, threads)
        elif rounds:
            status = minidl_bgemm_batched(
                count, left.rows, right.columns, left.columns, 1.0, <float *>left.data, left.row, left.column,
                <float *>right.data, right.row, right.column, 0.0, <float *>c, right.columns,
                left.rows * left.columns, right.rows * right.columns, left.rows * right.columns, threads)
        else:
            status = minidl_sgemm_batched(
                count, left.rows, right.columns, left.columns, 1.0, <float *>left.data, left.row, left.column,
                <float *>right.data, right.row, right.column, 0.0, <float *>c, right.columns,
                left.rows * left.columns, right.rows * right.columns, left.rows * right.columns, threads)
    if status != 0:
        raise MemoryError("the native engine could not allocate its packing buffers")
    return y


cdef bint _stacks_alike(cnp.ndarray dy, cnp.ndarray a, cnp.ndarray b):
    """Whether nothing was broadcast: all three have the same leading axes."""
    cdef int ndim = cnp.PyArray_NDIM(dy), axis
    if cnp.PyArray_NDIM(a) != ndim or cnp.PyArray_NDIM(b) != ndim:
        return False
    for axis in range(ndim - 2):
        if not (cnp.PyArray_DIMS(dy)[axis] == cnp.PyArray_DIMS(a)[axis] == cnp.PyArray_DIMS(b)[axis]):
            return False
    return True


def matmul_backward(dy, cache):
    """See ``minidl.ops.linear.matmul_backward``."""
    a, b, transpose_a, transpose_b = cache
    if not (taken(dy) and taken(a) and taken(b) and _stacks_alike(dy, a, b)):
        return _linear.matmul_backward(dy, cache)
    if transpose_a:  # dA = (G B^T)^T = B G^T
        da = matmul(b, dy, transpose_b, True)[0]
    else:
        da = matmul(dy, b, False, not transpose_b)[0]
    if transpose_b:  # dB = (A^T G)^T = G^T A
        db = matmul(dy, a, True, transpose_a)[0]
    else:
        db = matmul(a, dy, not transpose_a, False)[0]
    return da, db


cdef cnp.ndarray _affine(object x, object weight, object bias, int op, const double *settings, list before):
    """Return op(x W^T + b), or None where the formula must do it; ``before`` takes what goes into the activation."""
    cdef Matrix rows, columns
    cdef After after
    cdef cnp.npy_intp shape[MOST_AXES]
    cdef int ndim, axis
    if not (taken(x) and taken(weight)):
        return None
    ndim = cnp.PyArray_NDIM(<cnp.ndarray>x)
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    if ndim < 1 or cnp.PyArray_NDIM(<cnp.ndarray>weight) != 2 or kind != cnp.PyArray_TYPE(<cnp.ndarray>weight):
        return None
    if cnp.PyArray_DIMS(<cnp.ndarray>x)[ndim - 1] != cnp.PyArray_DIMS(<cnp.ndarray>weight)[1]:
        return None
    after.bias, after.op, after.settings, after.before = NULL, op, settings, NULL
    if bias is not None:
        if not (taken(bias) and cnp.PyArray_TYPE(<cnp.ndarray>bias) == kind and cnp.PyArray_NDIM(<cnp.ndarray>bias) == 1
                and cnp.PyArray_DIMS(<cnp.ndarray>bias)[0] == cnp.PyArray_DIMS(<cnp.ndarray>weight)[0]):
            return None
        bias = dense(bias)
        after.bias = cnp.PyArray_DATA(<cnp.ndarray>bias)
    keep_x = as_rows(x, &rows)
    keep_weight = readable(weight, True, &columns)
    for axis in range(ndim - 1):
        shape[axis] = cnp.PyArray_DIMS(<cnp.ndarray>x)[axis]
    shape[ndim - 1] = columns.columns
    cdef cnp.ndarray y = fresh(ndim, shape, kind)
    cdef cnp.ndarray hidden
    if before is not None:
        hidden = fresh(ndim, shape, kind)
        before.append(hidden)
        after.before = cnp.PyArray_DATA(hidden)
    product(kind == cnp.NPY_DOUBLE, &rows, &columns, 0.0, <char *>cnp.PyArray_DATA(y), max(columns.columns, 1), &after)
    return y


def linear(x, weight, bias=None):
    """See ``minidl.ops.linear.linear``. The bias is added while each tile of the product is still in cache."""
    cdef cnp.ndarray y = _affine(x, weight, bias, -1, NULL, None)
    if y is None:
        return _linear.linear(x, weight, bias)
    return y, (x, weight, bias is not None)


cdef bint _fits(object dy, tuple cache):
    """Whether dy is the upstream gradient of the linear op that left this cache, all in arrays that kernels take."""
    if not (taken(dy) and taken(cache[0]) and taken(cache[1])):
        return False
    cdef cnp.ndarray g = dy, x = cache[0], weight = cache[1]
    cdef int ndim = cnp.PyArray_NDIM(x), axis
    if cnp.PyArray_NDIM(g) != ndim or not (cnp.PyArray_TYPE(g) == cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(weight)):
        return False
    for axis in range(ndim - 1):
        if cnp.PyArray_DIMS(g)[axis] != cnp.PyArray_DIMS(x)[axis]:
            return False
    return cnp.PyArray_DIMS(g)[ndim - 1] == cnp.PyArray_DIMS(weight)[0]


cdef int _parameter_gradients(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dweight, bint add_weight,
                              cnp.ndarray dbias, bint add_bias) except -1:
    """dW = G^T X and db = column sums of G, written or added; either may be None."""
    cdef Matrix rows, upstream, transposed
    keep_x = as_rows(x, &rows)
    keep_dy = as_rows(dy, &upstream)
    transposed.data, transposed.rows, transposed.columns = upstream.data, upstream.columns, upstream.rows
    transposed.row, transposed.column = upstream.column, upstream.row
    if rows.rows == 0:
        if dweight is not None and not add_weight:
            dweight[...] = 0
        if dbias is not None and not add_bias:
            dbias[...] = 0
        return 0
    if dweight is not None:
        product(is_double(dy), &transposed, &rows, 1.0 if add_weight else 0.0, <char *>cnp.PyArray_DATA(dweight),
                max(cnp.PyArray_DIMS(dweight)[1], 1), NULL)
    if dbias is None:
        return 0
    cdef cnp.npy_intp out = cnp.PyArray_DIMS(dbias)[0]
    cdef bint double_ = is_double(dy)
    cdef void *sums = cnp.PyArray_DATA(dbias)
    if upstream.column != 1 and out > 1:
        keep_dy = dense(dy)
        rows_of(keep_dy, &upstream)
    if upstream.rows * upstream.columns < SHORT:
        minidl_column_sums(double_, upstream.data, upstream.rows, upstream.columns, upstream.row, add_bias, sums)
    else:
        with nogil:
            minidl_column_sums(double_, upstream.data, upstream.rows, upstream.columns, upstream.row, add_bias, sums)
    return 0


cdef cnp.ndarray _input_gradient(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray weight):
    """dX = G W"""
    cdef Matrix upstream, w
    cdef cnp.ndarray dx = fresh_like(x)
    keep_dy = as_rows(dy, &upstream)
    keep_w = readable(weight, False, &w)
    if upstream.columns == 0:
        dx[...] = 0
        return dx
    product(is_double(dy), &upstream, &w, 0.0, <char *>cnp.PyArray_DATA(dx), max(w.columns, 1), NULL)
    return dx


cdef tuple _linear_backward(object dy, tuple cache, tuple into, bint add, tuple wanted):
    if not (_fits(dy, cache) and well_formed(into, wanted, 1, 2) and separate(into, dy, cache[0], cache[1])):
        return _linear.linear_backward(dy, cache, into, add, wanted)
    cdef cnp.ndarray weight = cache[1], dweight = None, dbias = None
    cdef int kind = cnp.PyArray_TYPE(weight)
    cdef bint add_weight = add, add_bias = add
    cdef bint with_weight = is_wanted(wanted, 1), with_bias = cache[2] and is_wanted(wanted, 2)
    if with_weight:
        dweight = storage_for(into, 0, 2, cnp.PyArray_DIMS(weight), kind, &add_weight)
    if with_bias:
        dbias = storage_for(into, 1, 1, cnp.PyArray_DIMS(weight), kind, &add_bias)
    if (with_weight and dweight is None) or (with_bias and dbias is None):
        return _linear.linear_backward(dy, cache, into, add, wanted)
    if with_weight or with_bias:
        _parameter_gradients(dy, cache[0], dweight, add_weight, dbias, add_bias)
    return _input_gradient(dy, cache[0], weight) if is_wanted(wanted, 0) else None, dweight, dbias


def linear_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.linear.linear_backward``; the gradients of weight and bias are written in place."""
    return _linear_backward(dy, cache, as_tuple(into), add, as_tuple(wanted))
