# The matrix product of gemm.h with all its arguments, and the rungs of ladder.h: for tests, benchmarks and docs/gemm.md.

cdef extern from "product/gemm.h" nogil:
    ctypedef struct _single_epilogue "minidl_epilogue_f32":
        const float *bias
        float *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const float *, float *, ptrdiff_t, const void *)
        void (*derivative)(const float *, const float *, float *, ptrdiff_t, const void *)
        const float *saved
        ptrdiff_t saved_row
        const void *arguments
        float *column_sums
    ctypedef struct _double_epilogue "minidl_epilogue_f64":
        const double *bias
        double *pre_activation
        ptrdiff_t pre_activation_row
        void (*activation)(const double *, double *, ptrdiff_t, const void *)
        void (*derivative)(const double *, const double *, double *, ptrdiff_t, const void *)
        const double *saved
        ptrdiff_t saved_row
        const void *arguments
        double *column_sums

    double minidl_sgemm_limit(ptrdiff_t steps)
    double minidl_dgemm_limit(ptrdiff_t steps)

cdef extern from "product/ladder.h" nogil:
    int minidl_ladder_naive(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_reordered(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_blocked(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_register_tiled(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_packed(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_vectorised(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_in_place(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_staggered(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_decided(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_bfloat16(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)
    int minidl_ladder_amx(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c)


cdef int _operand(object x, int ndim, int kind, bint transposed, Matrix *m, ptrdiff_t *batch) except -1:
    """Describe x; batch is the step from one of a stack of matrices to the next."""
    if not taken(x) or cnp.PyArray_TYPE(<cnp.ndarray>x) != kind or cnp.PyArray_NDIM(<cnp.ndarray>x) != ndim:
        raise ValueError("gemm takes aligned arrays of one floating dtype and the same number of axes, 2 or 3")
    if cnp.PyArray_SIZE(x) == 0:  # of which NumPy's steps say nothing
        m.data = <char *>cnp.PyArray_DATA(<cnp.ndarray>x)
        m.rows, m.columns = x.shape[ndim - 2], x.shape[ndim - 1]
        m.row, m.column = max(m.columns, 1), 1
        if transposed:
            m.rows, m.columns, m.row, m.column = m.columns, m.rows, m.column, m.row
    elif not matrix(x, transposed, m):
        raise ValueError("gemm takes matrices of which the rows or the columns have no gaps")
    batch[0] = cnp.PyArray_STRIDES(<cnp.ndarray>x)[0] // cnp.PyArray_ITEMSIZE(<cnp.ndarray>x) if ndim == 3 else 0
    return 0


cdef void *_extra(object x, int kind, int ndim, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t *step) except NULL:
    """The elements of an array for the epilogue, (columns,) or (rows, columns), and the step from row to row."""
    cdef Matrix m
    cdef ptrdiff_t unused
    if ndim == 1:
        x = x.reshape(1, -1)
    _operand(x, 2, kind, False, &m, &unused)
    if m.rows != rows or m.columns != columns or m.column != 1:
        raise ValueError(f"gemm's epilogue takes arrays for {rows} x {columns} elements without gaps in the rows")
    if step != NULL:
        step[0] = m.row
    return m.data


def gemm(alpha, a, b, beta, c, transpose_a=False, transpose_b=False, *, bias=None, pre_activation=None, activation=None,
         derivative=None, saved=None, column_sums=None, threads=None):
    """Compute c = alpha a b + beta c in place and then what gemm.h calls the epilogue.

    c has shape (M, N), or (B, M, N) for a stack of products (which takes no epilogue); its rows have no gaps. activation and
    derivative are activations as counted in elementwise/activations.h, with all settings 0.
    """
    cdef Matrix left, right, result
    cdef ptrdiff_t a_batch, b_batch, c_batch, count = 1
    cdef int status, team = minidl_get_threads() if threads is None else threads
    cdef double scale = alpha, keep = beta
    cdef double[2] settings
    cdef _single_epilogue s
    cdef _double_epilogue d
    if not taken(c):
        raise ValueError("gemm writes into an aligned array of float32 or float64")
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>c), ndim = cnp.PyArray_NDIM(<cnp.ndarray>c)
    if not PyArray_ISBEHAVED(<cnp.ndarray>c) or (ndim != 2 and ndim != 3):
        raise ValueError("gemm writes into a matrix or a stack of matrices")
    _operand(a, ndim, kind, transpose_a, &left, &a_batch)
    _operand(b, ndim, kind, transpose_b, &right, &b_batch)
    _operand(c, ndim, kind, False, &result, &c_batch)
    if left.columns != right.rows or (result.rows, result.columns) != (left.rows, right.columns) or (
            result.column != 1 and result.columns > 1):
        raise ValueError(f"gemm got shapes {a.shape}, {b.shape} and {c.shape}")
    memset(&s, 0, sizeof(s))
    memset(&d, 0, sizeof(d))
    memset(settings, 0, sizeof(settings))
    s.arguments = d.arguments = settings
    cdef ptrdiff_t m = left.rows, n = right.columns
    if bias is not None:
        s.bias = <float *>_extra(bias, kind, 1, 1, n, NULL)
    if pre_activation is not None:
        s.pre_activation = <float *>_extra(pre_activation, kind, 2, m, n, &s.pre_activation_row)
    if saved is not None:
        s.saved = <float *>_extra(saved, kind, 2, m, n, &s.saved_row)
    if column_sums is not None:
        s.column_sums = <float *>_extra(column_sums, kind, 1, 1, n, NULL)
    if not (0 <= (activation or 0) < MINIDL_FUNCTIONS and 0 <= (derivative or 0) < MINIDL_ACTIVATIONS):
        raise ValueError(f"gemm knows no activation {activation} or no derivative {derivative}")
    for written in (pre_activation, column_sums):
        if written is not None and not PyArray_ISBEHAVED(<cnp.ndarray>written):
            raise ValueError("gemm writes only into arrays that may be written")
    if activation is not None:
        s.activation = minidl_activations_f32_in_use().forward[<int>activation]
        d.activation = minidl_activations_f64_in_use().forward[<int>activation]
    if derivative is not None:
        s.derivative = minidl_activations_f32_in_use().backward[<int>derivative]
        d.derivative = minidl_activations_f64_in_use().backward[<int>derivative]
    d.bias, d.pre_activation, d.pre_activation_row = <double *>s.bias, <double *>s.pre_activation, s.pre_activation_row
    d.saved, d.saved_row, d.column_sums = <double *>s.saved, s.saved_row, <double *>s.column_sums
    if ndim == 3:
        count = c.shape[0]
        if a.shape[0] != count or b.shape[0] != count:
            raise ValueError(f"gemm got stacks of {a.shape[0]}, {b.shape[0]} and {count} matrices")
    with nogil:
        if ndim == 3 and kind == cnp.NPY_DOUBLE:
            status = minidl_dgemm_batched(
                count, m, n, left.columns, scale, <double *>left.data, left.row, left.column, <double *>right.data, right.row,
                right.column, keep, <double *>result.data, result.row, a_batch, b_batch, c_batch, team)
        elif ndim == 3:
            status = minidl_sgemm_batched(
                count, m, n, left.columns, <float>scale, <float *>left.data, left.row, left.column, <float *>right.data,
                right.row, right.column, <float>keep, <float *>result.data, result.row, a_batch, b_batch, c_batch, team)
        elif kind == cnp.NPY_DOUBLE:
            status = minidl_dgemm(m, n, left.columns, scale, <double *>left.data, left.row, left.column, <double *>right.data,
                                  right.row, right.column, keep, <double *>result.data, result.row,
                                  <const minidl_epilogue_f64 *>&d, team)
        else:
            status = minidl_sgemm(m, n, left.columns, <float>scale, <float *>left.data, left.row, left.column,
                                  <float *>right.data, right.row, right.column, <float>keep, <float *>result.data, result.row,
                                  <const minidl_epilogue_f32 *>&s, team)
    if status != 0:
        raise MemoryError("the native engine could not allocate its packing buffers")


def gemm_limit(ptrdiff_t steps, bint double_precision=False):
    """Do multiply-adds in registers only, on one thread; return the number of operations, to be divided by the time."""
    cdef double operations
    with nogil:
        operations = minidl_dgemm_limit(steps) if double_precision else minidl_sgemm_limit(steps)
    return operations


ctypedef int (*_rung_function)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) noexcept nogil


cdef int _rung(_rung_function multiply, object a, object b, object c) except -1:
    """c = a b on one rung of the ladder."""
    cdef ptrdiff_t m, n, k
    cdef int status
    for x in (a, b, c):
        if not (taken(x) and x.dtype == numpy.float32 and x.ndim == 2 and x.flags.c_contiguous):
            raise ValueError("the rungs take float32 matrices in C order without gaps")
    if not PyArray_ISBEHAVED(<cnp.ndarray>c):
        raise ValueError("the rungs write into an array that may be written")
    (m, k), n = a.shape, b.shape[1]
    if b.shape[0] != k or c.shape != (m, n):
        raise ValueError(f"the rungs take (M, K), (K, N) and (M, N); got {a.shape}, {b.shape} and {c.shape}")
    cdef const float *left = <float *>cnp.PyArray_DATA(<cnp.ndarray>a)
    cdef const float *right = <float *>cnp.PyArray_DATA(<cnp.ndarray>b)
    cdef float *result = <float *>cnp.PyArray_DATA(<cnp.ndarray>c)
    with nogil:
        status = multiply(m, n, k, left, right, result)
    if status == -2:
        raise RuntimeError("this process has no tiles of AMX; minidl info says what multiplies bfloat16 numbers")
    if status != 0:
        raise MemoryError("no memory for the packed panels")
    return 0


def ladder_naive(a, b, c):
    """c = a b. Three loops, the innermost along k."""
    _rung(minidl_ladder_naive, a, b, c)


def ladder_reordered(a, b, c):
    """c = a b. Three loops, the innermost along a row of b."""
    _rung(minidl_ladder_reordered, a, b, c)


def ladder_blocked(a, b, c):
    """c = a b. The three loops in blocks of b that fit the cache."""
    _rung(minidl_ladder_blocked, a, b, c)


def ladder_register_tiled(a, b, c):
    """c = a b. Tiles of c in registers."""
    _rung(minidl_ladder_register_tiled, a, b, c)


def ladder_packed(a, b, c):
    """c = a b. Tiles of c in registers, from packed panels."""
    _rung(minidl_ladder_packed, a, b, c)


def ladder_vectorised(a, b, c):
    """c = a b. Packed panels and the tile of the widest instruction set."""
    _rung(minidl_ladder_vectorised, a, b, c)


def ladder_in_place(a, b, c):
    """c = a b. The same tile, which reads b as it lies."""
    _rung(minidl_ladder_in_place, a, b, c)


def ladder_staggered(a, b, c):
    """c = a b. The same tile, which reads a copy of b whose rows do not meet in the same sets of a cache."""
    _rung(minidl_ladder_staggered, a, b, c)


def ladder_decided(a, b, c):
    """c = a b. b is packed where the caches of the machine ask for it, else read as it lies."""
    _rung(minidl_ladder_decided, a, b, c)


def ladder_bfloat16(a, b, c):
    """c = a b of operands rounded to bfloat16, by the instructions in use for them."""
    _rung(minidl_ladder_bfloat16, a, b, c)


def ladder_amx(a, b, c):
    """c = a b of operands rounded to bfloat16, by the tiles of AMX. RuntimeError where there are none."""
    _rung(minidl_ladder_amx, a, b, c)
