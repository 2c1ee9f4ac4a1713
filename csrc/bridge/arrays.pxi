# Which arrays the kernels take, and where their results live.

cdef PyDataMem_Handler _memory
strcpy(_memory.name, b"minidl_pool")
_memory.version = 1
_memory.allocator.ctx = NULL
_memory.allocator.malloc = minidl_malloc
_memory.allocator.calloc = minidl_calloc
_memory.allocator.realloc = minidl_realloc
_memory.allocator.free = minidl_free
cdef object _memory_handler = PyCapsule_New(&_memory, "mem_handler", NULL)


cdef enum:
    SHORT = 4096  # elements, below which releasing the GIL and taking it again costs more than it saves
    MOST_AXES = 64  # what the wrappers have room for: as many as NumPy allows
    MOST_STEPS = 0x7fffffff  # of a stride, a padding, a dilation or a kernel: sums and products of two of them fit 64 bits


cdef inline bint taken(object x) noexcept:
    """Whether x is a plain, aligned array of float32 or float64 in this machine's byte order."""
    if not cnp.PyArray_CheckExact(x):
        return False
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    return ((kind == cnp.NPY_FLOAT or kind == cnp.NPY_DOUBLE) and PyArray_ISBEHAVED_RO(<cnp.ndarray>x)
            and cnp.PyArray_NDIM(<cnp.ndarray>x) <= MOST_AXES)


cdef inline bint number(object x):
    """Whether it is a real number that C can hold. Everything else goes to the formula, which says what it must be."""
    return isinstance(x, float) or (isinstance(x, int) and -MOST_STEPS <= x <= MOST_STEPS)


cdef inline bint switch(object x) noexcept:
    """Whether it is True or False, and nothing that only counts as one of them."""
    return x is True or x is False


cdef inline bint is_double(cnp.ndarray x) noexcept:
    return cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE


cdef inline bint alike(cnp.ndarray a, object b) noexcept:
    """Whether b is an array as a is: of the same dtype and shape."""
    return (
        taken(b)
        and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(<cnp.ndarray>b)
        and cnp.PyArray_SAMESHAPE(a, <cnp.ndarray>b)
    )


cdef bint writable(object out, cnp.ndarray like) noexcept:
    """Whether out is an array as ``like`` is, without gaps, that may be written."""
    return alike(like, out) and PyArray_ISBEHAVED(<cnp.ndarray>out) and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>out)


# Where the bytes of an array lie: from low to before high.
cdef struct Extent:
    char *low
    char *high


cdef inline Extent extent(cnp.ndarray x) noexcept:
    """Find where the bytes of an array lie; low and high are the same if it has none."""
    cdef Extent e
    cdef int axis
    cdef ptrdiff_t reach
    e.low = <char *>cnp.PyArray_DATA(x)
    e.high = e.low + cnp.PyArray_ITEMSIZE(x)
    for axis in range(cnp.PyArray_NDIM(x)):
        reach = (cnp.PyArray_DIMS(x)[axis] - 1) * cnp.PyArray_STRIDES(x)[axis]
        if cnp.PyArray_DIMS(x)[axis] == 0:
            e.low = e.high = <char *>cnp.PyArray_DATA(x)
            break
        elif reach < 0:
            e.low += reach
        else:
            e.high += reach
    return e


cdef inline bint disjoint(Extent a, Extent b) noexcept:
    """Whether the bytes of one end before those of the other begin."""
    return a.high <= b.low or b.high <= a.low


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two arrays certainly share no memory."""
    return disjoint(extent(a), extent(b))


cdef inline cnp.ndarray dense(cnp.ndarray x):
    """Return x, or a copy of it, in C order without gaps."""
    return x if cnp.PyArray_IS_C_CONTIGUOUS(x) else PyArray_GETCONTIGUOUS(x)


cdef cnp.ndarray fresh(int ndim, cnp.npy_intp *shape, int kind):
    """Return an array with arbitrary content, in recycled memory if it is large."""
    cdef size_t size = 8 if kind == cnp.NPY_DOUBLE else 1 if kind == cnp.NPY_UINT8 else 4
    cdef int axis
    for axis in range(ndim):
        size *= <size_t>shape[axis]
    if size < MINIDL_SMALLEST_KEPT:
        return PyArray_EMPTY(ndim, shape, kind, 0)
    before = PyDataMem_SetHandler(_memory_handler)
    try:
        return PyArray_EMPTY(ndim, shape, kind, 0)
    finally:
        PyDataMem_SetHandler(before)


cdef inline cnp.ndarray fresh_like(cnp.ndarray x):
    return fresh(cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))


# A matrix as the products read it: where it starts, and the steps from row to row and from column to column.
cdef struct Matrix:
    char *data
    ptrdiff_t rows, columns, row, column


cdef bint matrix(cnp.ndarray x, bint transposed, Matrix *m) noexcept:
    """Describe the last two axes of x; False if neither of them is without gaps, so that it must be copied."""
    cdef int ndim = cnp.PyArray_NDIM(x)
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(x)
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(x)
    m.data = <char *>cnp.PyArray_DATA(x)
    m.rows, m.columns = shape[ndim - 2], shape[ndim - 1]
    m.row, m.column = strides[ndim - 2] // size, strides[ndim - 1] // size
    if m.columns == 1 and m.row != 1:
        m.column = 1
    if m.rows == 1 and m.column != 1:
        m.row = 1
    if m.rows * m.columns == 0:
        m.row, m.column = max(m.columns, 1), 1
    if transposed:
        m.rows, m.columns = m.columns, m.rows
        m.row, m.column = m.column, m.row
    return (m.row == 1 or m.column == 1) and m.row > 0 and m.column > 0


cdef cnp.ndarray readable(cnp.ndarray x, bint transposed, Matrix *m):
    """Describe x, or a copy of it; return whichever it is, to be kept alive."""
    if not matrix(x, transposed, m):
        x = cnp.PyArray_NewCopy(x, cnp.NPY_CORDER)
        matrix(x, transposed, m)
    return x


cdef int rows_of(cnp.ndarray x, Matrix *m) noexcept:
    """Describe a dense array as a matrix of its last axis."""
    cdef int ndim = cnp.PyArray_NDIM(x)
    m.data = <char *>cnp.PyArray_DATA(x)
    m.columns = cnp.PyArray_DIMS(x)[ndim - 1]
    m.rows = 1
    cdef int axis
    for axis in range(ndim - 1):
        m.rows *= cnp.PyArray_DIMS(x)[axis]
    m.row, m.column = max(m.columns, 1), 1
    return 0


cdef cnp.ndarray as_rows(cnp.ndarray x, Matrix *m):
    """Describe x as a matrix of its last axis, through a dense copy if need be."""
    if cnp.PyArray_NDIM(x) == 2:
        return readable(x, False, m)
    x = dense(x)
    rows_of(x, m)
    return x
