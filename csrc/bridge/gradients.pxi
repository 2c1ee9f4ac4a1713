# Where the gradients of parameters go: the arguments `into`, `add` and `wanted` of every backward; see minidl/ops/_gradients.py.

cdef inline tuple as_tuple(object sequence):
    """Return None or a tuple, whose elements are read faster than those of any sequence."""
    return sequence if sequence is None or type(sequence) is tuple else tuple(sequence)


cdef inline bint is_wanted(tuple wanted, Py_ssize_t position):
    """Whether the gradient at a position is asked for; all are unless something was said."""
    return wanted is None or bool(wanted[position])


cdef inline bint well_formed(tuple into, tuple wanted, Py_ssize_t inputs, Py_ssize_t parameters):
    """Whether both have an entry for each parameter and each gradient; the formula says what is wrong with them."""
    return (into is None or len(into) == parameters) and (wanted is None or len(wanted) == inputs + parameters)


cdef enum:
    MOST_PARAMETERS = 8  # of an op whose gradients a kernel writes to storage; more go to the formula


cdef bint separate(tuple into, object dy, object x, object weight) except -1:
    """Whether no array that a gradient is written to shares memory with what the kernel reads, or with another such array.

    Where one does, the order of reading and writing counts, and the formula's is right: it writes when everything is computed.
    """
    cdef Py_ssize_t position, other
    cdef Extent written[MOST_PARAMETERS]
    cdef Extent read[3]
    cdef Py_ssize_t most_written = 0, most_read = 2 if weight is None else 3
    if into is None:
        return True
    read[0], read[1] = extent(dy), extent(x)
    if weight is not None:
        read[2] = extent(weight)
    for position in range(len(into)):
        storage = into[position]
        if storage is None:
            continue
        if not cnp.PyArray_CheckExact(storage) or most_written == MOST_PARAMETERS:
            return False
        written[most_written] = extent(storage)
        for other in range(most_read):
            if not disjoint(written[most_written], read[other]):
                return False
        for other in range(most_written):
            if not disjoint(written[most_written], written[other]):
                return False
        most_written += 1
    return True


cdef inline bint writable_like(object storage, int ndim, cnp.npy_intp *shape, int kind):
    """Whether a gradient of this shape and dtype can be written into the array in place."""
    cdef int axis
    if not (taken(storage) and PyArray_ISBEHAVED(<cnp.ndarray>storage)
            and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>storage)
            and cnp.PyArray_TYPE(<cnp.ndarray>storage) == kind and cnp.PyArray_NDIM(<cnp.ndarray>storage) == ndim):
        return False
    for axis in range(ndim):
        if cnp.PyArray_DIMS(<cnp.ndarray>storage)[axis] != shape[axis]:
            return False
    return True


cdef cnp.ndarray storage_for(tuple into, Py_ssize_t position, int ndim, cnp.npy_intp *shape, int kind, bint *added):
    """Return the array for one parameter's gradient: the one handed in, or a new one, which is never added to.

    None if the array handed in cannot be written in place, which is left to the formula.
    """
    storage = None if into is None else into[position]
    if storage is None:
        added[0] = False
        return fresh(ndim, shape, kind)
    return storage if writable_like(storage, ndim, shape, kind) else None
