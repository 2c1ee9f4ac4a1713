# The optimisers' updates, and the norm of their gradients.

from libc.math cimport sqrt

cdef bint _flat(object array, cnp.ndarray value) noexcept:
    return (
        alike(value, array)
        and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array)
        and PyArray_ISBEHAVED(<cnp.ndarray>array)
    )


cdef bint _updated(int optimizer, tuple arrays, minidl_settings *settings):
    """Run an update over arrays that are all alike (None for those left out); False where the formula must do it."""
    cdef void *pointers[5]
    cdef int position
    cdef ptrdiff_t n
    if not (taken(arrays[0]) and _flat(arrays[0], arrays[0]) and _flat(arrays[1], arrays[0])):
        return False
    for position in range(5):
        pointers[position] = NULL
    for position in range(len(arrays)):
        if arrays[position] is not None:
            if not _flat(arrays[position], arrays[0]):
                return False
            pointers[position] = cnp.PyArray_DATA(<cnp.ndarray>arrays[position])
    n = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0])
    cdef bint double_ = is_double(arrays[0])
    if n < SHORT:
        minidl_update(double_, optimizer, pointers, n, settings)
    else:
        with nogil:
            minidl_update(double_, optimizer, pointers, n, settings)
    return True


def sgd_update(value, grad, momentum_buffer, *, double lr, double momentum=0.0, double dampening=0.0,
               bint nesterov=False, double weight_decay=0.0, double grad_scale=1.0, bint first_step=False):
    """See ``minidl.ops.update.sgd_update``."""
    cdef minidl_settings s
    s.lr, s.momentum, s.dampening, s.weight_decay, s.grad_scale = lr, momentum, dampening, weight_decay, grad_scale
    s.nesterov, s.first_step = nesterov, first_step
    if (momentum != 0 and momentum_buffer is None) or not _updated(MINIDL_SGD, (value, grad, momentum_buffer), &s):
        _update.sgd_update(value, grad, momentum_buffer, lr=lr, momentum=momentum, dampening=dampening,
                           nesterov=nesterov, weight_decay=weight_decay, grad_scale=grad_scale, first_step=first_step)


def adagrad_update(value, grad, square_sum, *, double lr, double lr_decay=0.0, double eps=1e-10,
                   double weight_decay=0.0, double grad_scale=1.0, step):
    """See ``minidl.ops.update.adagrad_update``."""
    cdef minidl_settings s
    s.lr, s.lr_decay, s.eps, s.weight_decay, s.step, s.grad_scale = lr, lr_decay, eps, weight_decay, step, grad_scale
    if not _updated(MINIDL_ADAGRAD, (value, grad, square_sum), &s):
        _update.adagrad_update(value, grad, square_sum, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                               grad_scale=grad_scale, step=step)


def rmsprop_update(value, grad, square_average, grad_average, momentum_buffer, *, double lr, double alpha=0.99,
                   double eps=1e-8, double weight_decay=0.0, double grad_scale=1.0, double momentum=0.0):
    """See ``minidl.ops.update.rmsprop_update``."""
    cdef minidl_settings s
    s.lr, s.alpha, s.eps, s.weight_decay, s.momentum, s.grad_scale = lr, alpha, eps, weight_decay, momentum, grad_scale
    if (momentum != 0 and momentum_buffer is None) or not _updated(
            MINIDL_RMSPROP, (value, grad, square_average, grad_average, momentum_buffer), &s):
        _update.rmsprop_update(value, grad, square_average, grad_average, momentum_buffer, lr=lr, alpha=alpha, eps=eps,
                               weight_decay=weight_decay, grad_scale=grad_scale, momentum=momentum)


def adam_update(value, grad, m, v, v_max, *, double lr, double beta1=0.9, double beta2=0.999, double eps=1e-8,
                double weight_decay=0.0, double grad_scale=1.0, bint decoupled=False, step):
    """See ``minidl.ops.update.adam_update``."""
    cdef minidl_settings s
    s.lr, s.beta1, s.beta2, s.eps, s.weight_decay, s.grad_scale = lr, beta1, beta2, eps, weight_decay, grad_scale
    s.decoupled, s.step = decoupled, step
    if not _updated(MINIDL_ADAM, (value, grad, m, v, v_max), &s):
        _update.adam_update(value, grad, m, v, v_max, lr=lr, beta1=beta1, beta2=beta2, eps=eps,
                            weight_decay=weight_decay, grad_scale=grad_scale, decoupled=decoupled, step=step)


def norm(x, double p=2.0):
    """See ``minidl.engines.compositions.norm``. The Euclidean norm of contiguous arrays, its squares added in double precision."""
    cdef double total
    cdef bint double_
    cdef const void *data
    cdef ptrdiff_t n
    if p == 2 and taken(x) and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>x):
        double_, data, n = is_double(x), cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_SIZE(<cnp.ndarray>x)
        with nogil:
            total = minidl_sum_of_squares(double_, data, n)
        if 1e-250 < total < 1e300:  # else squares may have left the range
            return sqrt(total)
    return _compositions.norm(_compiled, x, p)


def rescale(x, double factor):
    """See ``minidl.engines.compositions.rescale``."""
    if not (taken(x) and _flat(x, x)):
        _compositions.rescale(_compiled, x, factor)
        return
    cdef bint double_ = is_double(x)
    cdef void *data = cnp.PyArray_DATA(<cnp.ndarray>x)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(<cnp.ndarray>x)
    if n < SHORT:
        minidl_scale(double_, data, factor, data, n)
    else:
        with nogil:
            minidl_scale(double_, data, factor, data, n)
