# Recurrent networks: products over all steps at once around the loop over time.

cdef extern from "recurrent/recurrent.h" nogil:
    ctypedef enum minidl_cell:
        MINIDL_RNN_TANH
        MINIDL_RNN_RELU
        MINIDL_LSTM
        MINIDL_GRU
    ctypedef struct minidl_recurrence:
        minidl_cell cell
        ptrdiff_t steps, batch, hidden
        const int64_t *lengths
        int reverse
        const void *weight
        void *panels
        void *rounded
        void *a
        void *h
        void *c
        void *q
        const void *bias_n
        void *y
        const void *dy
        const void *dh_n
        void *dh
        void *dc
        void *da
        ptrdiff_t da_row
    ptrdiff_t minidl_recurrent_panels(int is_double, ptrdiff_t hidden, ptrdiff_t rows)
    void minidl_recurrent_forward(int is_double, const minidl_recurrence *r)
    void minidl_recurrent_backward(int is_double, const minidl_recurrence *r)
    void minidl_arrange_steps(const minidl_recurrence *r, ptrdiff_t features, size_t size, const void *x, void *steps)
    void minidl_restore_batch(const minidl_recurrence *r, ptrdiff_t features, size_t size, const void *steps, void *x)


cdef enum:
    BESIDE_A_ROW = 16  # elements between the rows of da


cdef bint _of_shape(object values, int kind, int ndim, ptrdiff_t first, ptrdiff_t second, ptrdiff_t third) noexcept:
    """Whether it is an array that kernels take, of this dtype and shape."""
    cdef cnp.npy_intp *shape
    if not taken(values) or cnp.PyArray_TYPE(<cnp.ndarray>values) != kind or cnp.PyArray_NDIM(<cnp.ndarray>values) != ndim:
        return False
    shape = cnp.PyArray_DIMS(<cnp.ndarray>values)
    return shape[0] == first and (ndim < 2 or shape[1] == second) and (ndim < 3 or shape[2] == third)


cdef bint _nothing_or(object values, int kind, int ndim, ptrdiff_t first, ptrdiff_t second, ptrdiff_t third) noexcept:
    return values is None or _of_shape(values, kind, ndim, first, second, third)


cdef cnp.ndarray _fresh2(ptrdiff_t rows, ptrdiff_t columns, int kind):
    cdef cnp.npy_intp shape[2]
    shape[0], shape[1] = rows, columns
    return fresh(2, shape, kind)


cdef cnp.ndarray _fresh3(ptrdiff_t first, ptrdiff_t second, ptrdiff_t third, int kind):
    cdef cnp.npy_intp shape[3]
    shape[0], shape[1], shape[2] = first, second, third
    return fresh(3, shape, kind)


cdef object _own_lengths(object lengths, ptrdiff_t batch, ptrdiff_t steps):
    """Return a copy of the lengths that nobody else can change, or None where the formula must say what is wrong."""
    cdef int64_t *values
    cdef ptrdiff_t n
    if not cnp.PyArray_CheckExact(lengths) or (<cnp.ndarray>lengths).dtype.kind not in "iu":
        return None
    if cnp.PyArray_NDIM(<cnp.ndarray>lengths) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>lengths)[0] != batch:
        return None
    own = numpy.array(lengths, dtype=numpy.int64)
    values = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>own)
    for n in range(batch):
        if not 1 <= values[n] <= steps:
            return None
    return own


cdef int _cell_of(str op, object nonlinearity):
    if op == "lstm":
        return MINIDL_LSTM
    if op == "gru":
        return MINIDL_GRU
    if type(nonlinearity) is not str:
        return -1
    return MINIDL_RNN_TANH if nonlinearity == "tanh" else MINIDL_RNN_RELU if nonlinearity == "relu" else -1


cdef void _first_of(cnp.ndarray all_steps, object state):
    """Write the initial state, or zeros, in front."""
    all_steps[0] = 0 if state is None else state


cdef tuple _recurrent(str op, object x, object h0, object c0, object weight_ih, object weight_hh, object bias_ih,
                      object bias_hh, object lengths, object reverse, object nonlinearity):
    """Return the outputs and the cache; None where the formula has to."""
    cdef minidl_recurrence r
    cdef cnp.ndarray source, steps, a, h, y, w_hh, panels, c = None, q = None, bias
    cdef Matrix rows, columns, state, recurrent
    cdef After after
    cdef int kind, cell = _cell_of(op, nonlinearity)
    cdef ptrdiff_t n, t, features, hidden, gates
    cdef size_t size
    if not (taken(x) and taken(weight_ih) and taken(weight_hh)) or cell < 0:
        return None
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    if cnp.PyArray_NDIM(<cnp.ndarray>x) != 3 or cnp.PyArray_NDIM(<cnp.ndarray>weight_hh) != 2:
        return None
    n, t, features = (cnp.PyArray_DIMS(<cnp.ndarray>x)[0], cnp.PyArray_DIMS(<cnp.ndarray>x)[1],
                      cnp.PyArray_DIMS(<cnp.ndarray>x)[2])
    hidden = cnp.PyArray_DIMS(<cnp.ndarray>weight_hh)[1]
    gates = (4 if cell == MINIDL_LSTM else 3 if cell == MINIDL_GRU else 1) * hidden
    if n * t * features * hidden == 0 or not (
            switch(reverse)
            and _of_shape(weight_ih, kind, 2, gates, features, 0) and _of_shape(weight_hh, kind, 2, gates, hidden, 0)
            and _nothing_or(h0, kind, 2, n, hidden, 0) and _nothing_or(c0, kind, 2, n, hidden, 0)
            and _nothing_or(bias_ih, kind, 1, gates, 0, 0) and _nothing_or(bias_hh, kind, 1, gates, 0, 0)):
        return None
    own = None
    if lengths is not None:
        own = _own_lengths(lengths, n, t)
        if own is None:
            return None
        lengths = own.copy()  # the cache's, which others may change
    memset(&r, 0, sizeof(r))
    r.cell, r.steps, r.batch, r.hidden, r.reverse = <minidl_cell>cell, t, n, hidden, reverse is True
    if own is not None:
        r.lengths = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>own)
    size = cnp.PyArray_ITEMSIZE(<cnp.ndarray>x)

    source, steps = dense(x), _fresh3(t, n, features, kind)
    with nogil:
        minidl_arrange_steps(&r, features, size, cnp.PyArray_DATA(source), cnp.PyArray_DATA(steps))
    a = _fresh3(t, n, gates, kind)
    after.bias, after.op, after.settings, after.before = NULL, -1, NULL, NULL
    bias = _biases(cell, bias_ih, bias_hh, hidden)
    if bias is not None:
        after.bias = cnp.PyArray_DATA(bias)
    rows_of(steps, &rows)
    keep_ih = readable(weight_ih, True, &columns)
    product(is_double(source), &rows, &columns, 0.0, <char *>cnp.PyArray_DATA(a), gates, &after)

    h, y = _fresh3(t + 1, n, hidden, kind), _fresh3(n, t, hidden, kind)
    _first_of(h, h0)
    r.a, r.h, r.y = cnp.PyArray_DATA(a), cnp.PyArray_DATA(h), cnp.PyArray_DATA(y)
    if cell == MINIDL_LSTM:
        c = _fresh3(t + 1, n, hidden, kind)
        _first_of(c, c0)
        r.c = cnp.PyArray_DATA(c)
    if cell == MINIDL_GRU:
        q = _fresh3(t, n, hidden, kind)
        r.q = cnp.PyArray_DATA(q)
        if bias_hh is not None:
            bias_n = dense(bias_hh[2 * hidden:])
            r.bias_n = cnp.PyArray_DATA(<cnp.ndarray>bias_n)
    w_hh = dense(weight_hh)
    rounded = None
    if t > 1:
        panels = _fresh2(1, minidl_recurrent_panels(is_double(source), hidden, gates), kind)
        if kind == cnp.NPY_FLOAT and rounds_operands():
            w_hh, rounded = operand(w_hh), _fresh2(n, hidden, kind)
            r.rounded = cnp.PyArray_DATA(<cnp.ndarray>rounded)
        r.weight, r.panels = cnp.PyArray_DATA(w_hh), cnp.PyArray_DATA(panels)
    else:  # a single product with the matrix as it lies, which packing would cost as much as it
        state.data, state.rows, state.columns, state.row, state.column = <char *>r.h, n, hidden, hidden, 1
        matrix(w_hh, True, &recurrent)
        if cell == MINIDL_GRU:
            recurrent.columns = 2 * hidden
        product(is_double(source), &state, &recurrent, 1.0, <char *>r.a, gates, NULL)
        if cell == MINIDL_GRU:
            recurrent.data += 2 * hidden * hidden * size
            recurrent.columns = hidden
            product(is_double(source), &state, &recurrent, 0.0, <char *>r.q, hidden, NULL)
    with nogil:
        minidl_recurrent_forward(kind == cnp.NPY_DOUBLE, &r)

    given = (h0 is not None, bias_ih is not None, bias_hh is not None)
    cache = (steps, lengths, reverse, (weight_ih, weight_hh))
    if cell == MINIDL_LSTM:
        given = (given[0], c0 is not None, given[1], given[2])
        return (y, h[t].copy(), c[t].copy()), (*cache, given, h, c, a)
    if cell == MINIDL_GRU:
        return (y, h[t].copy()), (*cache, given, h, a, q)
    return (y, h[t].copy()), (*cache, given, h, nonlinearity)


cdef cnp.ndarray _biases(int cell, object bias_ih, object bias_hh, ptrdiff_t hidden):
    """Return what is added to the products of the inputs: both biases, but of gru's n only the first."""
    if bias_hh is None or bias_ih is None and cell == MINIDL_GRU:
        if bias_hh is None:
            return None if bias_ih is None else dense(bias_ih)
        bias_ih = numpy.zeros_like(bias_hh)
    if bias_ih is None:
        return dense(bias_hh)
    both = bias_ih + bias_hh
    if cell == MINIDL_GRU:
        both[2 * hidden:] = bias_ih[2 * hidden:]
    return both


cdef int _weight_gradient(cnp.ndarray da, ptrdiff_t first, ptrdiff_t rows, char *inputs, ptrdiff_t columns,
                          cnp.ndarray dweight, ptrdiff_t from_row, bint add) except -1:
    """Some rows of dW = sum_t da_t^T x_t: columns [first, first + rows) of da, into the rows from ``from_row`` on."""
    cdef Matrix upstream, x
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(da), count = cnp.PyArray_DIMS(da)[0]
    upstream.data, upstream.rows, upstream.columns = <char *>cnp.PyArray_DATA(da) + first * size, rows, count
    upstream.row, upstream.column = 1, cnp.PyArray_DIMS(da)[1]
    x.data, x.rows, x.columns, x.row, x.column = inputs, count, columns, columns, 1
    product(is_double(da), &upstream, &x, 1.0 if add else 0.0,
            <char *>cnp.PyArray_DATA(dweight) + from_row * columns * size, columns, NULL)
    return 0


cdef int _bias_gradient(cnp.ndarray da, ptrdiff_t first, ptrdiff_t columns, cnp.ndarray dbias, ptrdiff_t at,
                        bint add) except -1:
    """Some of db = sum_t da_t."""
    cdef ptrdiff_t size = cnp.PyArray_ITEMSIZE(da), count = cnp.PyArray_DIMS(da)[0]
    cdef char *data = <char *>cnp.PyArray_DATA(da) + first * size
    cdef char *sums = <char *>cnp.PyArray_DATA(dbias) + at * size
    cdef ptrdiff_t row = cnp.PyArray_DIMS(da)[1]
    cdef bint double_ = is_double(da)
    with nogil:
        minidl_column_sums(double_, data, count, columns, row, add, sums)
    return 0


cdef tuple _recurrent_backward(str op, object dy, tuple cache, tuple into, bint add, tuple wanted):
    """Return the gradients; None where the formula has to."""
    cdef minidl_recurrence r
    cdef cnp.ndarray steps, a = None, h, c = None, q = None, w_ih, w_hh, panels, da, dh, dc = None, dx = None, dsteps
    cdef cnp.ndarray upstream = None, last = None
    cdef list storage = [None, None, None, None]
    cdef bint adds[4]
    cdef Matrix left, right
    cdef int kind, cell, place, states
    cdef ptrdiff_t n, t, features, hidden, gates, width
    cdef size_t size
    cdef cnp.npy_intp shape[2]
    x_steps, lengths, reverse, (weight_ih, weight_hh), given = cache[:5]
    states = 2 if op == "lstm" else 1
    cell = _cell_of(op, cache[6] if op == "rnn" else None)
    if cell < 0 or not (isinstance(dy, (tuple, list)) and len(dy) == 1 + states and taken(x_steps) and taken(weight_ih)
                        and taken(weight_hh) and well_formed(into, wanted, 1 + states, 4)):
        return None
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x_steps)
    if cnp.PyArray_NDIM(<cnp.ndarray>x_steps) != 3 or cnp.PyArray_NDIM(<cnp.ndarray>weight_hh) != 2:
        return None
    t, n, features = (cnp.PyArray_DIMS(<cnp.ndarray>x_steps)[0], cnp.PyArray_DIMS(<cnp.ndarray>x_steps)[1],
                      cnp.PyArray_DIMS(<cnp.ndarray>x_steps)[2])
    hidden = cnp.PyArray_DIMS(<cnp.ndarray>weight_hh)[1]
    gates = (4 if cell == MINIDL_LSTM else 3 if cell == MINIDL_GRU else 1) * hidden
    width = (hidden if op == "rnn" else 4 * hidden) + BESIDE_A_ROW
    if n * t * features * hidden == 0 or not (
            switch(reverse)
            and _of_shape(weight_ih, kind, 2, gates, features, 0) and _of_shape(weight_hh, kind, 2, gates, hidden, 0)
            and _of_shape(cache[5], kind, 3, t + 1, n, hidden) and _nothing_or(dy[0], kind, 3, n, t, hidden)):
        return None
    for place in range(states):
        if not _nothing_or(dy[1 + place], kind, 2, n, hidden, 0):
            return None
    if cell == MINIDL_LSTM and not (
            _of_shape(cache[6], kind, 3, t + 1, n, hidden) and _of_shape(cache[7], kind, 3, t, n, gates)):
        return None
    if cell == MINIDL_GRU and not (
            _of_shape(cache[6], kind, 3, t, n, gates) and _of_shape(cache[7], kind, 3, t, n, hidden)):
        return None
    own = None
    if lengths is not None:
        own = _own_lengths(lengths, n, t)
        if own is None:
            return None
    for read in (*(part for part in dy if part is not None), *cache[5:]):
        if cnp.PyArray_CheckExact(read) and not separate(into, read, x_steps, weight_ih):
            return None
    if not separate(into, weight_hh, x_steps, weight_ih):
        return None
    for place in range(4):
        adds[place] = add
        if not is_wanted(wanted, 1 + states + place) or (place >= 2 and not given[states + place - 2]):
            continue
        shape[0], shape[1] = gates, features if place == 0 else hidden
        storage[place] = storage_for(into, place, 2 if place < 2 else 1, shape, kind, &adds[place])
        if storage[place] is None:
            return None

    steps, h, w_ih, w_hh = dense(x_steps), dense(cache[5]), weight_ih, dense(weight_hh)
    size = cnp.PyArray_ITEMSIZE(steps)
    memset(&r, 0, sizeof(r))
    r.cell, r.steps, r.batch, r.hidden, r.reverse = <minidl_cell>cell, t, n, hidden, reverse is True
    if own is not None:
        r.lengths = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>own)
    da, dh = _fresh2(t * n, width, kind), _fresh2(n, hidden, kind)
    panels = _fresh2(1, minidl_recurrent_panels(is_double(steps), hidden, gates), kind)
    rounded = None
    if kind == cnp.NPY_FLOAT and rounds_operands():
        w_hh, rounded = operand(w_hh), _fresh2(n, width, kind)
        r.rounded = cnp.PyArray_DATA(<cnp.ndarray>rounded)
    r.h, r.da, r.da_row, r.dh = cnp.PyArray_DATA(h), cnp.PyArray_DATA(da), width, cnp.PyArray_DATA(dh)
    r.weight, r.panels = cnp.PyArray_DATA(w_hh), cnp.PyArray_DATA(panels)
    if dy[0] is not None:
        upstream = dense(dy[0])
        r.dy = cnp.PyArray_DATA(upstream)
    if dy[1] is not None:
        last = dense(dy[1])
        r.dh_n = cnp.PyArray_DATA(last)
    if cell == MINIDL_LSTM:
        c, a, dc = dense(cache[6]), dense(cache[7]), _fresh2(n, hidden, kind)
        dc[...] = 0 if dy[2] is None else dy[2]
        r.c, r.dc = cnp.PyArray_DATA(c), cnp.PyArray_DATA(dc)
    elif cell == MINIDL_GRU:
        a, q = dense(cache[6]), dense(cache[7])
        r.q = cnp.PyArray_DATA(q)
    if a is not None:
        r.a = cnp.PyArray_DATA(a)
    with nogil:
        minidl_recurrent_backward(kind == cnp.NPY_DOUBLE, &r)

    if storage[0] is not None:
        _weight_gradient(da, 0, gates, <char *>cnp.PyArray_DATA(steps), features, storage[0], 0, adds[0])
    if storage[1] is not None and cell != MINIDL_GRU:
        _weight_gradient(da, 0, gates, <char *>r.h, hidden, storage[1], 0, adds[1])
    elif storage[1] is not None:
        _weight_gradient(da, 0, 2 * hidden, <char *>r.h, hidden, storage[1], 0, adds[1])
        _weight_gradient(da, 3 * hidden, hidden, <char *>r.h, hidden, storage[1], 2 * hidden, adds[1])
    if storage[2] is not None:
        _bias_gradient(da, 0, gates, storage[2], 0, adds[2])
    if storage[3] is not None and cell != MINIDL_GRU:
        _bias_gradient(da, 0, gates, storage[3], 0, adds[3])
    elif storage[3] is not None:
        _bias_gradient(da, 0, 2 * hidden, storage[3], 0, adds[3])
        _bias_gradient(da, 3 * hidden, hidden, storage[3], 2 * hidden, adds[3])
    if is_wanted(wanted, 0):
        dsteps, dx = _fresh2(t * n, features, kind), _fresh3(n, t, features, kind)
        left.data, left.rows, left.columns, left.row, left.column = <char *>r.da, t * n, gates, width, 1
        keep_ih = readable(w_ih, False, &right)
        product(is_double(steps), &left, &right, 0.0, <char *>cnp.PyArray_DATA(dsteps), features, NULL)
        with nogil:
            minidl_restore_batch(&r, features, size, cnp.PyArray_DATA(dsteps), cnp.PyArray_DATA(dx))
    dstates = (dh,) if states == 1 else (dh, dc)
    return (dx, *(g if is_wanted(wanted, 1 + i) and given[i] else None for i, g in enumerate(dstates)), *storage)


def rnn(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, lengths=None, reverse=False, nonlinearity="tanh"):
    """See ``minidl.ops.recurrent.rnn``."""
    found = _recurrent("rnn", x, h0, None, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse, nonlinearity)
    if found is None:
        return _recurrent_ops.rnn(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse, nonlinearity)
    return found


def rnn_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.recurrent.rnn_backward``."""
    found = _recurrent_backward("rnn", dy, cache, as_tuple(into), add, as_tuple(wanted))
    return _recurrent_ops.rnn_backward(dy, cache, into, add, wanted) if found is None else found


def lstm(x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, lengths=None, reverse=False):
    """See ``minidl.ops.recurrent.lstm``."""
    found = _recurrent("lstm", x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse, None)
    if found is None:
        return _recurrent_ops.lstm(x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse)
    return found


def lstm_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.recurrent.lstm_backward``."""
    found = _recurrent_backward("lstm", dy, cache, as_tuple(into), add, as_tuple(wanted))
    return _recurrent_ops.lstm_backward(dy, cache, into, add, wanted) if found is None else found


def gru(x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, lengths=None, reverse=False):
    """See ``minidl.ops.recurrent.gru``."""
    found = _recurrent("gru", x, h0, None, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse, None)
    if found is None:
        return _recurrent_ops.gru(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse)
    return found


def gru_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.recurrent.gru_backward``."""
    found = _recurrent_backward("gru", dy, cache, as_tuple(into), add, as_tuple(wanted))
    return _recurrent_ops.gru_backward(dy, cache, into, add, wanted) if found is None else found
