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
    int minidl_cross_entropy(int is_double, int logarithms, const void *x, const minidl_targets *targets, void *slope, void *each,
                             ptrdiff_t rows, ptrdiff_t classes, double *total, double *divisor)


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


cdef object _cross_entropy(bint logarithms, object logits, object target, object weight, object ignore_index,
                           object smoothing, object reduction):
    """Return the loss of rows with class indices and its cache, or None where the formula must do it.

    The rows are logits, or with ``logarithms`` log-probabilities.
    """
    if not (taken(logits) and cnp.PyArray_CheckExact(target) and number(smoothing) and 0 <= smoothing <= 1
            and type(reduction) is str and isinstance(ignore_index, (int, numpy.integer)) and not switch(ignore_index)
            and -MOST_STEPS <= ignore_index <= MOST_STEPS):
        return None
    cdef cnp.ndarray x = logits, t = target, each = None
    cdef int kind = cnp.PyArray_TYPE(t)
    if (cnp.PyArray_NDIM(x) != 2 or cnp.PyArray_NDIM(t) != 1 or cnp.PyArray_SIZE(x) == 0
            or cnp.PyArray_DIMS(x)[0] != cnp.PyArray_DIMS(t)[0] or not cnp.PyTypeNum_ISINTEGER(kind)
            or kind == cnp.NPY_UINT64 or not (reduction == "mean" or reduction == "sum" or reduction == "none")):
        return None
    cdef ptrdiff_t rows = cnp.PyArray_DIMS(x)[0], classes = cnp.PyArray_DIMS(x)[1]
    cdef minidl_targets targets
    cdef int status
    targets.weight, targets.smoothing, targets.ignore_index = NULL, smoothing, ignore_index
    if weight is not None:
        if not (taken(weight) and cnp.PyArray_TYPE(<cnp.ndarray>weight) == cnp.PyArray_TYPE(x)
                and cnp.PyArray_NDIM(<cnp.ndarray>weight) == 1 and cnp.PyArray_DIMS(<cnp.ndarray>weight)[0] == classes):
            return None
        weight = dense(weight)
        targets.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
        if not minidl_finite(is_double(x), targets.weight, classes):  # 0 times one is nan, also for classes that no row has
            return None
    x = dense(x)
    if kind != cnp.NPY_INT64 or not PyArray_ISBEHAVED_RO(t):
        t = t.astype(numpy.int64)
    t = dense(t)
    targets.labels = <const int64_t *>cnp.PyArray_DATA(t)
    cdef cnp.ndarray slope = fresh_like(x)
    cdef const void *x_data = cnp.PyArray_DATA(x)
    cdef void *s_data = cnp.PyArray_DATA(slope)
    cdef void *e_data = NULL
    cdef bint double_ = is_double(x)
    cdef double total, divisor
    if reduction == "none":
        each = fresh(1, cnp.PyArray_DIMS(t), cnp.PyArray_TYPE(x))
        e_data = cnp.PyArray_DATA(each)
    with nogil:
        status = minidl_cross_entropy(double_, logarithms, x_data, &targets, s_data, e_data, rows, classes, &total, &divisor)
    if status != 0:
        return None
    if each is not None:
        return each, (slope, 1.0, 1)
    if reduction == "sum":
        return _scalar(total, x), (slope, 1.0, 1)
    if divisor == 0:  # nothing counts: there is no mean, and no gradient
        return _scalar(float("nan"), x), (slope, 0.0, 1)
    return _scalar(total / divisor, x), (slope, 1.0 / divisor, 1)


def cross_entropy(logits, target, weight=None, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    """See ``minidl.ops.loss.cross_entropy``. Loss and slope of rows of logits with class indices in one pass.

    Probabilities as targets, and classes on an axis before others, go to the formula.
    """
    found = _cross_entropy(False, logits, target, weight, ignore_index, label_smoothing, reduction)
    if found is not None:
        return found
    return _loss.cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction)


def cross_entropy_backward(dloss, cache):
    """See ``minidl.ops.loss.cross_entropy_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _loss.cross_entropy_backward(dloss, cache)


def nll_loss(prediction, target, weight=None, ignore_index=-100, reduction="mean"):
    """See ``minidl.ops.likelihood.nll_loss``. Rows of log-probabilities; classes on an axis before others go to the formula."""
    found = _cross_entropy(True, prediction, target, weight, ignore_index, 0.0, reduction)
    return found if found is not None else _likelihood.nll_loss(prediction, target, weight, ignore_index, reduction)


def nll_loss_backward(dloss, cache):
    """See ``minidl.ops.likelihood.nll_loss_backward``."""
    dx = _scaled(dloss, cache)
    return dx if dx is not None else _likelihood.nll_loss_backward(dloss, cache)
