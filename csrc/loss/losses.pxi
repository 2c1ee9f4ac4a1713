# Losses.

cdef extern from "loss/losses.h" nogil:
    enum:
        MINIDL_SQUARED_ERROR, MINIDL_ABSOLUTE_ERROR, MINIDL_HUBER, MINIDL_BINARY_CROSS_ENTROPY
        MINIDL_PROBABILITIES, MINIDL_KULLBACK_LEIBLER
    ctypedef struct minidl_targets:
        const int64_t *labels
        int64_t ignore_index
        const void *weight
        double smoothing
    double minidl_loss(int is_double, int op, const void *prediction, const void *target, void *slope, void *each,
                       ptrdiff_t n, double delta)
    int minidl_likelihood(int is_double, const void *x, const minidl_targets *targets, void *slope, void *each, ptrdiff_t rows,
                          ptrdiff_t classes, double *total, double *divisor)
    int minidl_cross_entropy(int is_double, const void *x, const minidl_targets *targets, void *largest, void *rest, void *each,
                             ptrdiff_t rows, ptrdiff_t classes, double *total, double *divisor)
    int minidl_cross_entropy_backward(int is_double, const void *x, const minidl_targets *targets, const void *largest,
                                      const void *rest, const void *dloss, double factor, void *dx, ptrdiff_t rows,
                                      ptrdiff_t classes)


cdef object _likelihood = import_module("minidl.ops.likelihood")


cdef object _scalar(double value, cnp.ndarray like):
    return minidl_scalar_f64(value) if is_double(like) else minidl_scalar_f32(<float>value)


cdef object _pointwise(int op, object prediction, object target, object reduction, double delta=0):
    """Return a loss of one element at a time and its cache, or None where the formula must do it."""
    if not (taken(prediction) and taken(target) and type(reduction) is str):
        return None
    cdef cnp.ndarray p = prediction, t = target, each = None
    cdef ptrdiff_t n = cnp.PyArray_SIZE(p)
    cdef double factor = 1.0, total
    if n == 0 or cnp.PyArray_TYPE(p) != cnp.PyArray_TYPE(t) or not _aligned(p, t):
        return None
    if reduction == "mean":
        factor = 1.0 / n
    elif reduction == "half_sum" and op == MINIDL_SQUARED_ERROR:
        factor = 0.5
    elif reduction == "batchmean" and op == MINIDL_KULLBACK_LEIBLER:
        factor = 1.0 / cnp.PyArray_DIMS(p)[0] if cnp.PyArray_NDIM(p) > 0 else 1.0
    elif not (reduction == "sum" or reduction == "none"):
        return None
    p, t = dense(p), dense(t)
    cdef cnp.ndarray slope = fresh_like(p)
    cdef const void *p_data = cnp.PyArray_DATA(p)
    cdef const void *t_data = cnp.PyArray_DATA(t)
    cdef void *s_data = cnp.PyArray_DATA(slope)
    cdef void *e_data = NULL
    cdef bint double_ = is_double(p)
    if reduction == "none":
        each = fresh_like(p)
        e_data = cnp.PyArray_DATA(each)
    if n < SHORT:
        total = minidl_loss(double_, op, p_data, t_data, s_data, e_data, n, delta)
    else:
        with nogil:
            total = minidl_loss(double_, op, p_data, t_data, s_data, e_data, n, delta)
    return (_scalar(total * factor, p) if each is None else each), (slope, factor)


def mse_loss(prediction, target, reduction="mean"):
    """See ``minidl.ops.loss.mse_loss``. Loss and slope in one pass."""
    found = _pointwise(MINIDL_SQUARED_ERROR, prediction, target, reduction)
    return found if found is not None else _loss.mse_loss(prediction, target, reduction)


def l1_loss(prediction, target, reduction="mean"):
    """See ``minidl.ops.loss.l1_loss``. Loss and slope in one pass."""
    found = _pointwise(MINIDL_ABSOLUTE_ERROR, prediction, target, reduction)
    return found if found is not None else _loss.l1_loss(prediction, target, reduction)


def huber_loss(prediction, target, delta=1.0, reduction="mean"):
    """See ``minidl.ops.loss.huber_loss``. Loss and slope in one pass."""
    found = _pointwise(MINIDL_HUBER, prediction, target, reduction, delta) if number(delta) and delta > 0 else None
    return found if found is not None else _loss.huber_loss(prediction, target, delta, reduction)


def binary_cross_entropy_with_logits(logits, target, weight=None, pos_weight=None, reduction="mean"):
    """See ``minidl.ops.loss.binary_cross_entropy_with_logits``. Loss and slope in one pass; weighted, the formula."""
    found = None
    if weight is None and pos_weight is None:
        found = _pointwise(MINIDL_BINARY_CROSS_ENTROPY, logits, target, reduction)
    if found is not None:
        return found
    return _loss.binary_cross_entropy_with_logits(logits, target, weight, pos_weight, reduction)


def binary_cross_entropy(probabilities, target, weight=None, reduction="mean"):
    """See ``minidl.ops.likelihood.binary_cross_entropy``. Loss and slope in one pass; weighted, the formula."""
    found = _pointwise(MINIDL_PROBABILITIES, probabilities, target, reduction) if weight is None else None
    return found if found is not None else _likelihood.binary_cross_entropy(probabilities, target, weight, reduction)


def kl_div(prediction, target, reduction="mean", log_target=False):
    """See ``minidl.ops.likelihood.kl_div``. Loss and slope in one pass; logarithms as targets go to the formula."""
    found = None
    if log_target is False:
        found = _pointwise(MINIDL_KULLBACK_LEIBLER, prediction, target, reduction)
    return found if found is not None else _likelihood.kl_div(prediction, target, reduction, log_target)


cdef bint _aligned(cnp.ndarray p, cnp.ndarray t):
    """Whether the shapes agree, or are (N, 1) and (N,) either way round."""
    if cnp.PyArray_SAMESHAPE(p, t):
        return True
    if cnp.PyArray_NDIM(p) + cnp.PyArray_NDIM(t) != 3 or cnp.PyArray_NDIM(p) == 0 or cnp.PyArray_NDIM(t) == 0:
        return False
    if cnp.PyArray_DIMS(p)[0] != cnp.PyArray_DIMS(t)[0]:
        return False
    return cnp.PyArray_DIMS(p if cnp.PyArray_NDIM(p) == 2 else t)[1] == 1


cdef object _scaled(object dloss, object cache):
    """Return dloss s slope for a plain number dloss, or None."""
    if not (type(dloss) is float and taken(cache[0])):
        return None
    cdef cnp.ndarray slope = dense(cache[0])
    cdef cnp.ndarray dx = fresh_like(slope)
    scale_into(slope, dloss * cache[1], dx)
    return dx


def mse_loss_backward(dloss, cache):
    """See ``minidl.ops.loss.mse_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.mse_loss_backward(dloss, cache)


def l1_loss_backward(dloss, cache):
    """See ``minidl.ops.loss.l1_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.l1_loss_backward(dloss, cache)


def huber_loss_backward(dloss, cache):
    """See ``minidl.ops.loss.huber_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.huber_loss_backward(dloss, cache)


def binary_cross_entropy_with_logits_backward(dloss, cache):
    """See ``minidl.ops.loss.binary_cross_entropy_with_logits_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.binary_cross_entropy_with_logits_backward(dloss, cache)


def binary_cross_entropy_backward(dloss, cache):
    """See ``minidl.ops.likelihood.binary_cross_entropy_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _likelihood.binary_cross_entropy_backward(dloss, cache)


def kl_div_backward(dloss, cache):
    """See ``minidl.ops.likelihood.kl_div_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _likelihood.kl_div_backward(dloss, cache)


cdef tuple _targets(object scores, object target, object weight, object ignore_index, object smoothing,
                    minidl_targets *targets):
    """Describe rows of scores with class indices; return the arrays to be read, or None where the formula must do it."""
    if not (taken(scores) and cnp.PyArray_CheckExact(target) and number(smoothing) and 0 <= smoothing <= 1
            and isinstance(ignore_index, (int, numpy.integer)) and not switch(ignore_index)
            and -MOST_STEPS <= ignore_index <= MOST_STEPS):
        return None
    cdef cnp.ndarray x = scores, t = target
    cdef int kind = cnp.PyArray_TYPE(t)
    if (cnp.PyArray_NDIM(x) != 2 or cnp.PyArray_NDIM(t) != 1 or cnp.PyArray_SIZE(x) == 0
            or cnp.PyArray_DIMS(x)[0] != cnp.PyArray_DIMS(t)[0] or not cnp.PyTypeNum_ISINTEGER(kind)
            or kind == cnp.NPY_UINT64):
        return None
    targets.weight, targets.smoothing, targets.ignore_index = NULL, smoothing, ignore_index
    if weight is not None:
        if not (taken(weight) and cnp.PyArray_TYPE(<cnp.ndarray>weight) == cnp.PyArray_TYPE(x)
                and cnp.PyArray_NDIM(<cnp.ndarray>weight) == 1
                and cnp.PyArray_DIMS(<cnp.ndarray>weight)[0] == cnp.PyArray_DIMS(x)[1]):
            return None
        weight = dense(weight)
        targets.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
        if not minidl_finite(is_double(x), targets.weight, cnp.PyArray_DIMS(x)[1]):
            return None  # 0 times one is nan, also for classes that no row has
    if kind != cnp.NPY_INT64 or not PyArray_ISBEHAVED_RO(t):
        t = t.astype(numpy.int64)
    t = dense(t)
    targets.labels = <const int64_t *>cnp.PyArray_DATA(t)
    return dense(x), t, weight


cdef bint _reducible(object reduction):
    return type(reduction) is str and (reduction == "mean" or reduction == "sum" or reduction == "none")


cdef tuple _reduced(object reduction, double total, double divisor, cnp.ndarray each, cnp.ndarray like):
    """Return the loss and s."""
    if each is not None:
        return each, 1.0
    if reduction == "sum":
        return _scalar(total, like), 1.0
    if divisor == 0:  # nothing counts: there is no mean, and no gradient
        return _scalar(float("nan"), like), 0.0
    return _scalar(total / divisor, like), 1.0 / divisor


cdef tuple _cross_entropy(object logits, object target, object weight, object ignore_index, object smoothing,
                          object reduction):
    """Return the loss of rows with class indices and its cache, or None where the formula must do it."""
    cdef minidl_targets targets
    found = _targets(logits, target, weight, ignore_index, smoothing, &targets) if _reducible(reduction) else None
    if found is None:
        return None
    cdef cnp.ndarray x = found[0], each = None
    cdef ptrdiff_t rows = cnp.PyArray_DIMS(x)[0], classes = cnp.PyArray_DIMS(x)[1]
    cdef cnp.npy_intp[2] of_rows = [rows, 1]
    cdef cnp.ndarray largest = fresh(2, of_rows, cnp.PyArray_TYPE(x)), rest = fresh(2, of_rows, cnp.PyArray_TYPE(x))
    cdef const void *x_data = cnp.PyArray_DATA(x)
    cdef void *m = cnp.PyArray_DATA(largest)
    cdef void *r = cnp.PyArray_DATA(rest)
    cdef void *e_data = NULL
    cdef bint double_ = is_double(x)
    cdef double total, divisor
    cdef int status
    if reduction == "none":
        each = fresh(1, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))
        e_data = cnp.PyArray_DATA(each)
    with nogil:
        status = minidl_cross_entropy(double_, x_data, &targets, m, r, e_data, rows, classes, &total, &divisor)
    if status != 0:
        return None
    loss, s = _reduced(reduction, total, divisor, each, x)
    return loss, (logits, s, 1, target, weight, ignore_index, smoothing, largest, rest)


cdef bint _of_rows(object found, cnp.ndarray x):
    """Whether it has a number for each row of x, in the dtype of x and without gaps."""
    return (taken(found) and cnp.PyArray_TYPE(<cnp.ndarray>found) == cnp.PyArray_TYPE(x)
            and cnp.PyArray_SIZE(found) == cnp.PyArray_DIMS(x)[0] and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>found))


cdef object _cross_entropy_back(object dloss, tuple cache):
    """Return the gradient of the logits, or None where the formula must do it."""
    logits, s, axis, target, weight, ignore_index, smoothing, largest, rest = cache
    cdef minidl_targets targets
    found = _targets(logits, target, weight, ignore_index, smoothing, &targets)
    if found is None or axis != 1 or not number(s):
        return None
    cdef cnp.ndarray x = found[0]
    if not (_of_rows(largest, x) and _of_rows(rest, x)):
        return None
    cdef bint double_ = is_double(x)
    cdef double factor = s
    cdef const void *d_data = NULL
    if number(dloss) or isinstance(dloss, numpy.float32):
        factor *= dloss
    elif _of_rows(dloss, x) and cnp.PyArray_NDIM(<cnp.ndarray>dloss) == 1:
        d_data = cnp.PyArray_DATA(<cnp.ndarray>dloss)
        if not minidl_finite(double_, d_data, cnp.PyArray_SIZE(dloss)):
            return None
    else:
        return None
    if not minidl_finite(True, &factor, 1):  # times a slope of 0 it is nan
        return None
    cdef cnp.ndarray dx = fresh_like(x)
    cdef ptrdiff_t rows = cnp.PyArray_DIMS(x)[0], classes = cnp.PyArray_DIMS(x)[1]
    cdef const void *x_data = cnp.PyArray_DATA(x)
    cdef const void *m = cnp.PyArray_DATA(<cnp.ndarray>largest)
    cdef const void *r = cnp.PyArray_DATA(<cnp.ndarray>rest)
    cdef void *to = cnp.PyArray_DATA(dx)
    cdef int status
    with nogil:
        status = minidl_cross_entropy_backward(double_, x_data, &targets, m, r, d_data, factor, to, rows, classes)
    return dx if status == 0 else None


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """See ``minidl.ops.loss.cross_entropy``. Rows of logits with class indices, each logit read once.

    Probabilities as targets, and classes on an axis before others, go to the formula.
    """
    found = _cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction)
    if found is not None:
        return found
    return _loss.cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction)


def cross_entropy_backward(dloss, cache):
    """See ``minidl.ops.loss.cross_entropy_backward``. Slope and upstream gradient in one pass."""
    dx = _cross_entropy_back(dloss, cache)
    return dx if dx is not None else _loss.cross_entropy_backward(dloss, cache)


cdef tuple _nll(object prediction, object target, object weight, object ignore_index, object reduction):
    """Return the loss of rows of log-probabilities and its cache, or None where the formula must do it."""
    cdef minidl_targets targets
    found = _targets(prediction, target, weight, ignore_index, 0.0, &targets) if _reducible(reduction) else None
    if found is None:
        return None
    cdef cnp.ndarray x = found[0], each = None
    cdef cnp.ndarray slope = fresh_like(x)
    cdef const void *x_data = cnp.PyArray_DATA(x)
    cdef void *s_data = cnp.PyArray_DATA(slope)
    cdef void *e_data = NULL
    cdef ptrdiff_t rows = cnp.PyArray_DIMS(x)[0], classes = cnp.PyArray_DIMS(x)[1]
    cdef bint double_ = is_double(x)
    cdef double total, divisor
    cdef int status
    if reduction == "none":
        each = fresh(1, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x))
        e_data = cnp.PyArray_DATA(each)
    with nogil:
        status = minidl_likelihood(double_, x_data, &targets, s_data, e_data, rows, classes, &total, &divisor)
    if status != 0:
        return None
    loss, s = _reduced(reduction, total, divisor, each, x)
    return loss, (slope, s, 1)


def nll_loss(prediction, target, weight=None, ignore_index=-100, reduction="mean"):
    """See ``minidl.ops.likelihood.nll_loss``. Rows of log-probabilities; classes on an axis before others go to the formula."""
    found = _nll(prediction, target, weight, ignore_index, reduction)
    return found if found is not None else _likelihood.nll_loss(prediction, target, weight, ignore_index, reduction)


def nll_loss_backward(dloss, cache):
    """See ``minidl.ops.likelihood.nll_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _likelihood.nll_loss_backward(dloss, cache)
