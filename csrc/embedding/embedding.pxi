# Rows of a table.

cdef extern from "embedding/embedding.h" nogil:
    ctypedef struct minidl_embedding_sums:
        const void *dy
        const int64_t *ids
        void *dweight
        ptrdiff_t places, vocabulary, width
        int64_t skipped
        int accumulate
    bint minidl_ids_are_rows(const int64_t *ids, ptrdiff_t places, ptrdiff_t vocabulary)
    void minidl_embedding(const void *weight, const int64_t *ids, void *y, ptrdiff_t places, size_t row_bytes)
    int minidl_embedding_backward(int is_double, const minidl_embedding_sums *s)


cdef cnp.ndarray _own_ids(object ids, object weight):
    """Return a copy of the ids, which nobody else can change, or None unless all are rows of a dense table."""
    if not (cnp.PyArray_CheckExact(ids) and cnp.PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(<cnp.ndarray>ids))
            and cnp.PyArray_NDIM(<cnp.ndarray>ids) < MOST_AXES and cnp.PyArray_SIZE(ids) > 0
            and taken(weight) and cnp.PyArray_NDIM(<cnp.ndarray>weight) == 2 and cnp.PyArray_SIZE(weight) > 0
            and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>weight)):
        return None
    cdef cnp.ndarray own = ids.astype(numpy.int64, order="C")
    if not minidl_ids_are_rows(<const int64_t *>cnp.PyArray_DATA(own), cnp.PyArray_SIZE(own),
                               cnp.PyArray_DIMS(<cnp.ndarray>weight)[0]):
        return None
    return own


cdef int64_t _skipped(object padding_idx, ptrdiff_t vocabulary) except -3:
    """Return the row of the padding, -1 if there is none, or -2 where the formula has to say what is wrong with it."""
    if padding_idx is None:
        return -1
    if type(padding_idx) is not int or not -vocabulary <= padding_idx < vocabulary:
        return -2
    return padding_idx + vocabulary if padding_idx < 0 else padding_idx


def embedding(ids, weight, padding_idx=None):
    """See ``minidl.ops.embedding.embedding``."""
    cdef cnp.ndarray own = _own_ids(ids, weight), y
    if own is None or _skipped(padding_idx, cnp.PyArray_DIMS(<cnp.ndarray>weight)[0]) == -2:
        return _embedding.embedding(ids, weight, padding_idx)
    cdef cnp.npy_intp shape[MOST_AXES]
    cdef int ndim = cnp.PyArray_NDIM(own), axis
    for axis in range(ndim):
        shape[axis] = cnp.PyArray_DIMS(own)[axis]
    shape[ndim] = cnp.PyArray_DIMS(<cnp.ndarray>weight)[1]
    y = fresh(ndim + 1, shape, cnp.PyArray_TYPE(<cnp.ndarray>weight))
    cdef const void *table = cnp.PyArray_DATA(<cnp.ndarray>weight)
    cdef const int64_t *rows = <const int64_t *>cnp.PyArray_DATA(own)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef ptrdiff_t places = cnp.PyArray_SIZE(own)
    cdef size_t row_bytes = <size_t>shape[ndim] * cnp.PyArray_ITEMSIZE(y)
    with nogil:
        minidl_embedding(table, rows, to, places, row_bytes)
    return y, (ids, weight, padding_idx)


def embedding_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.embedding.embedding_backward``. Rows are sorted by id, and each is summed in one run."""
    cdef minidl_embedding_sums s
    cdef cnp.ndarray own, upstream, dweight
    cdef bint double_, added = add, failed
    ids, weight, padding_idx = cache
    into, wanted = as_tuple(into), as_tuple(wanted)
    own = _own_ids(ids, weight)
    if own is None or not (well_formed(into, wanted, 1, 1) and taken(dy) and separate(into, dy, dy, None)
                           and cnp.PyArray_TYPE(<cnp.ndarray>dy) == cnp.PyArray_TYPE(<cnp.ndarray>weight)
                           and dy.shape == (*ids.shape, weight.shape[1])):
        return _embedding.embedding_backward(dy, cache, into, add, wanted)
    s.places, s.vocabulary = cnp.PyArray_SIZE(own), cnp.PyArray_DIMS(<cnp.ndarray>weight)[0]
    s.width, s.skipped = cnp.PyArray_DIMS(<cnp.ndarray>weight)[1], _skipped(padding_idx, s.vocabulary)
    if not is_wanted(wanted, 1):
        return None, None
    dweight = storage_for(into, 0, 2, cnp.PyArray_DIMS(<cnp.ndarray>weight), cnp.PyArray_TYPE(<cnp.ndarray>weight), &added)
    if dweight is None or s.skipped == -2:
        return _embedding.embedding_backward(dy, cache, into, add, wanted)
    upstream, double_ = dense(dy), is_double(dweight)
    s.dy, s.ids = cnp.PyArray_DATA(upstream), <const int64_t *>cnp.PyArray_DATA(own)
    s.dweight, s.accumulate = cnp.PyArray_DATA(dweight), added
    with nogil:
        failed = minidl_embedding_backward(double_, &s) != 0
    if failed:
        raise MemoryError("the native engine could not allocate the order of the ids")
    return None, dweight
