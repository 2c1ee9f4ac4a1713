# The optimisers' updates.

cdef extern from "update/updates.h" nogil:
    enum:
        MINIDL_SGD, MINIDL_ADAGRAD, MINIDL_RMSPROP, MINIDL_ADAM, MINIDL_UPDATE_ARRAYS
    ctypedef struct minidl_settings:
        double lr, momentum, dampening, weight_decay, alpha, eps, beta1, beta2, lr_decay, grad_scale
        int64_t step
        int nesterov, first_step, decoupled
    void minidl_update(int is_double, int optimizer, void *const *arrays, ptrdiff_t n, const minidl_settings *settings)


cdef inline bint counts(object step) noexcept:
    """Whether it is the number of a step, as C counts them."""
    return type(step) is int and 1 <= step < 0x7fffffff


cdef bint all_numbers(tuple settings):
    """Whether all of them are numbers that C can hold."""
    for setting in settings:
        if not number(setting):
            return False
    return True


cdef bint _updated(int optimizer, tuple arrays, int needed, minidl_settings *settings):
    """Run an update over arrays that are all alike; those after the first `needed` may be None. False where the formula must do it."""
    cdef void *pointers[MINIDL_UPDATE_ARRAYS]
    cdef int position, other
    cdef ptrdiff_t n
    if not (taken(arrays[0]) and writable(arrays[0], arrays[0]) and writable(arrays[1], arrays[0])):
        return False
    for position in range(MINIDL_UPDATE_ARRAYS):
        pointers[position] = NULL
    for position in range(len(arrays)):
        if arrays[position] is not None:
            if not writable(arrays[position], arrays[0]):
                return False
            for other in range(position):
                if arrays[other] is not None and not apart(arrays[position], arrays[other]):
                    return False
            pointers[position] = cnp.PyArray_DATA(<cnp.ndarray>arrays[position])
        elif position < needed:
            return False
    n = cnp.PyArray_SIZE(<cnp.ndarray>arrays[0])
    cdef bint double_ = is_double(arrays[0])
    if n < SHORT:
        minidl_update(double_, optimizer, pointers, n, settings)
    else:
        with nogil:
            minidl_update(double_, optimizer, pointers, n, settings)
    return True


def sgd_update(value, grad, momentum_buffer, *, lr, momentum=0.0, dampening=0.0,
               nesterov=False, weight_decay=0.0, grad_scale=1.0, first_step=False):
    """See ``minidl.ops.update.sgd_update``."""
    cdef minidl_settings s
    cdef bint fits = all_numbers((lr, momentum, dampening, weight_decay, grad_scale)) and switch(nesterov) and switch(first_step)
    if fits:
        s.lr, s.momentum, s.dampening, s.weight_decay, s.grad_scale = lr, momentum, dampening, weight_decay, grad_scale
        s.nesterov, s.first_step = nesterov, first_step
    if not fits or (momentum != 0 and momentum_buffer is None) or not _updated(MINIDL_SGD, (value, grad, momentum_buffer), 2, &s):
        _update.sgd_update(value, grad, momentum_buffer, lr=lr, momentum=momentum, dampening=dampening,
                           nesterov=nesterov, weight_decay=weight_decay, grad_scale=grad_scale, first_step=first_step)


def adagrad_update(value, grad, square_sum, *, lr, lr_decay=0.0, eps=1e-10,
                   weight_decay=0.0, grad_scale=1.0, step):
    """See ``minidl.ops.update.adagrad_update``."""
    cdef minidl_settings s
    cdef bint fits = all_numbers((lr, lr_decay, eps, weight_decay, grad_scale)) and counts(step)
    if fits:
        s.lr, s.lr_decay, s.eps, s.weight_decay, s.grad_scale = lr, lr_decay, eps, weight_decay, grad_scale
        s.step = step
    if not fits or lr_decay < 0 or not _updated(MINIDL_ADAGRAD, (value, grad, square_sum), 3, &s):
        _update.adagrad_update(value, grad, square_sum, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                               grad_scale=grad_scale, step=step)


def rmsprop_update(value, grad, square_average, grad_average, momentum_buffer, *, lr, alpha=0.99,
                   eps=1e-8, weight_decay=0.0, grad_scale=1.0, momentum=0.0):
    """See ``minidl.ops.update.rmsprop_update``."""
    cdef minidl_settings s
    cdef bint fits = all_numbers((lr, alpha, eps, weight_decay, momentum, grad_scale))
    if fits:
        s.lr, s.alpha, s.eps, s.weight_decay, s.momentum, s.grad_scale = lr, alpha, eps, weight_decay, momentum, grad_scale
    if not fits or (momentum != 0 and momentum_buffer is None) or not _updated(
            MINIDL_RMSPROP, (value, grad, square_average, grad_average, momentum_buffer), 3, &s):
        _update.rmsprop_update(value, grad, square_average, grad_average, momentum_buffer, lr=lr, alpha=alpha, eps=eps,
                               weight_decay=weight_decay, grad_scale=grad_scale, momentum=momentum)


def adam_update(value, grad, m, v, v_max, *, lr, beta1=0.9, beta2=0.999, eps=1e-8,
                weight_decay=0.0, grad_scale=1.0, decoupled=False, step):
    """See ``minidl.ops.update.adam_update``."""
    cdef minidl_settings s
    cdef bint fits = all_numbers((lr, beta1, beta2, eps, weight_decay, grad_scale)) and switch(decoupled) and counts(step)
    if fits:
        s.lr, s.beta1, s.beta2, s.eps, s.weight_decay, s.grad_scale = lr, beta1, beta2, eps, weight_decay, grad_scale
        s.decoupled, s.step = decoupled, step
    if not (fits and 0 <= beta1 < 1 and 0 <= beta2 < 1) or not _updated(MINIDL_ADAM, (value, grad, m, v, v_max), 4, &s):
        _update.adam_update(value, grad, m, v, v_max, lr=lr, beta1=beta1, beta2=beta2, eps=eps,
                            weight_decay=weight_decay, grad_scale=grad_scale, decoupled=decoupled, step=step)
