# Activations. Which there are is said once, in activation_list.h; the wrappers below are made from it.

cdef extern from "elementwise/activations.h" nogil:
    enum:
        MINIDL_gelu, MINIDL_gelu_tanh, MINIDL_ACTIVATIONS, MINIDL_FUNCTIONS, MINIDL_FIRST_POSITIVE, MINIDL_FIRST_BELOW_SECOND
    ctypedef struct minidl_activation_entry:
        const char *name
        int keeps_output, first
    const minidl_activation_entry minidl_activation_entries[MINIDL_FUNCTIONS]
    ctypedef struct minidl_activations_f32:
        void (*forward[MINIDL_FUNCTIONS])(const float *, float *, ptrdiff_t, const void *)
        void (*backward[MINIDL_ACTIVATIONS])(const float *, const float *, float *, ptrdiff_t, const void *)
    ctypedef struct minidl_activations_f64:
        void (*forward[MINIDL_FUNCTIONS])(const double *, double *, ptrdiff_t, const void *)
        void (*backward[MINIDL_ACTIVATIONS])(const double *, const double *, double *, ptrdiff_t, const void *)
    const minidl_activations_f32 *minidl_activations_f32_in_use()
    const minidl_activations_f64 *minidl_activations_f64_in_use()
    void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double *settings)
    void minidl_activation_backward(int is_double, int op, const void *dy, const void *kept, void *dx, ptrdiff_t n,
                                    const double *settings)

cdef enum:
    MOST_SETTINGS = 2
cdef double[MOST_SETTINGS] NO_SETTINGS
NO_SETTINGS[0] = NO_SETTINGS[1] = 0


cdef cnp.ndarray activate(object x, int op, const double *settings):
    """Return the activation of x, or None where the formula must do it."""
    if not taken(x):
        return None
    cdef cnp.ndarray source = dense(x)
    cdef cnp.ndarray y = fresh_like(source)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(source)
    cdef const void *from_ = cnp.PyArray_DATA(source)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef bint double_ = is_double(source)
    if n < SHORT:
        minidl_activation(double_, op, from_, to, n, settings)
    else:
        with nogil:
            minidl_activation(double_, op, from_, to, n, settings)
    return y


cdef cnp.ndarray activate_backward(object dy, object kept, int op, const double *settings, bint in_place):
    """Return dx, or None where the formula must do it; ``in_place`` if dy is nobody else's and may become dx."""
    if not (taken(kept) and alike(<cnp.ndarray>kept, dy)):
        return None
    cdef cnp.ndarray upstream = dense(dy), saved = dense(kept)
    cdef cnp.ndarray dx = upstream if in_place else fresh_like(saved)
    cdef ptrdiff_t n = cnp.PyArray_SIZE(saved)
    cdef const void *g = cnp.PyArray_DATA(upstream)
    cdef const void *s = cnp.PyArray_DATA(saved)
    cdef void *to = cnp.PyArray_DATA(dx)
    cdef bint double_ = is_double(saved)
    if n < SHORT:
        minidl_activation_backward(double_, op, g, s, to, n, settings)
    else:
        with nogil:
            minidl_activation_backward(double_, op, g, s, to, n, settings)
    return dx


cdef bint read_settings(int op, tuple settings, Py_ssize_t first, double *numbers) except -1:
    """Write an activation's settings, which begin with this element, for C; False where the kernel does not take them."""
    cdef Py_ssize_t position
    if len(settings) - first > MOST_SETTINGS:
        return False
    numbers[0] = numbers[1] = 0
    for position in range(len(settings) - first):
        if not number(settings[first + position]):
            return False
        numbers[position] = settings[first + position]
    cdef int needed = minidl_activation_entries[op].first
    if needed == MINIDL_FIRST_BELOW_SECOND:
        return numbers[0] < numbers[1]
    return numbers[0] > 0 or needed != MINIDL_FIRST_POSITIVE


# The op of each name, in three kinds: what a product or a convolution can apply to its sums, and the rest.
cdef dict _KEEPS_OUTPUT = {}  # from y alone, without settings: name -> op
cdef dict _KEEPS_INPUT = {}  # from x and settings: name -> (op, defaults of the settings)
cdef dict _FUNCTIONS = {}  # every one that there is: name -> op


cdef object _without_settings(int op, str name):
    """Return the two functions of an activation whose only argument is x."""
    cdef bint keeps_output = minidl_activation_entries[op].keeps_output

    def activation(x):
        y = activate(x, op, NO_SETTINGS)
        return (y, (y if keeps_output else x,)) if y is not None else getattr(_activation, name)(x)

    def activation_backward(dy, cache):
        dx = activate_backward(dy, cache[0], op, NO_SETTINGS, False)
        return dx if dx is not None else getattr(_activation, name + "_backward")(dy, cache)

    return activation, activation_backward


cdef object _with_settings(int op, str name, tuple names, tuple defaults):
    """Return the two functions of an activation with settings, which the cache holds after x or y."""
    cdef bint keeps_output = minidl_activation_entries[op].keeps_output
    cdef Py_ssize_t count = len(names)

    def forward(x, *given, **named):
        cdef double[MOST_SETTINGS] numbers
        cdef tuple settings = given
        if named:
            settings = _complete(given, named, names, defaults)
        elif len(given) != count:
            settings = given + defaults[len(given):] if given else defaults
        if settings is not None and len(settings) == count and read_settings(op, settings, 0, numbers):
            y = activate(x, op, numbers)
            if y is not None:
                return y, (y if keeps_output else x,) + settings
        return getattr(_activation, name)(x, *given, **named)

    def backward(dy, cache):
        cdef double[MOST_SETTINGS] numbers
        dx = None
        if read_settings(op, cache, 1, numbers):
            dx = activate_backward(dy, cache[0], op, numbers, False)
        return dx if dx is not None else getattr(_activation, name + "_backward")(dy, cache)

    return forward, backward


cdef tuple _complete(tuple given, dict named, tuple names, tuple defaults):
    """Return all settings, as the formula would have them; None where it would object."""
    cdef Py_ssize_t position
    cdef list settings = list(given)
    cdef Py_ssize_t used = 0
    if len(given) > len(names):
        return None
    for position in range(len(given), len(names)):
        name = names[position]
        used += name in named
        settings.append(named.get(name, defaults[position]))
    return tuple(settings) if used == len(named) else None


cdef int _define_activations() except -1:
    """Make the wrappers of every activation of the list that is an op, with the settings of its formula."""
    cdef int op
    for op in range(MINIDL_FUNCTIONS):
        name = minidl_activation_entries[op].name.decode()
        _FUNCTIONS[name] = op
        formula = getattr(_activation, name, None)
        if formula is None:
            continue
        plain = unwrap(formula)
        names = plain.__code__.co_varnames[1:plain.__code__.co_argcount]
        defaults = plain.__defaults__ or ()
        if names or not minidl_activation_entries[op].keeps_output:
            if not minidl_activation_entries[op].keeps_output:
                _KEEPS_INPUT[name] = op, defaults
        else:
            _KEEPS_OUTPUT[name] = op
        if name in globals():  # written out above
            continue
        both = _with_settings(op, name, names, defaults) if names else _without_settings(op, name)
        for ending, function in zip(("", "_backward"), both):
            function.__name__ = function.__qualname__ = name + ending
            function.__doc__ = f"See ``minidl.ops.activation.{name}{ending}``."
            function.__wrapped__ = getattr(_activation, name + ending)
            globals()[name + ending] = function
    return 0


cdef int _gelu(object approximate):
    """Return the kernel for GELU's ``approximate``, or -1 where the formula must object."""
    if type(approximate) is not str:
        return -1
    return MINIDL_gelu if approximate == "none" else MINIDL_gelu_tanh if approximate == "tanh" else -1


def gelu(x, approximate="none"):
    """See ``minidl.ops.activation.gelu``."""
    cdef int op = _gelu(approximate)
    y = activate(x, op, NO_SETTINGS) if op >= 0 else None
    return (y, (x, approximate)) if y is not None else _activation.gelu(x, approximate)


def gelu_backward(dy, cache):
    """See ``minidl.ops.activation.gelu_backward``."""
    cdef int op = _gelu(cache[1])
    dx = activate_backward(dy, cache[0], op, NO_SETTINGS, False) if op >= 0 else None
    return dx if dx is not None else _activation.gelu_backward(dy, cache)


_define_activations()


def vector_function(str name, x):
    """Return exp, log, erf, sigmoid or tanh of a float32 or float64 array, as the kernels compute them.

    The ops are made of these; by themselves they are here to be measured (see docs/vector_math.md).
    """
    if name not in ("exp", "log", "erf", "sigmoid", "tanh"):
        raise KeyError(name)
    y = activate(x, _FUNCTIONS[name], NO_SETTINGS)
    if y is None:
        raise TypeError(f"vector_function: expected a float32 or float64 array, got {x!r}")
    return y
