# Activations, alone and after an affine map.

cdef cnp.ndarray forward(object x, int op, double first=0, double second=0):
    """Return the activation of x, or None where the formula must do it."""
    if not taken(x):
        return None
    cdef cnp.ndarray source = dense(x)
    cdef cnp.ndarray y = fresh_like(source)
    cdef double[2] settings
    settings[0], settings[1] = first, second
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


cdef cnp.ndarray backward(object dy, object saved, int op, double first=0, double second=0, bint in_place=False):
    """Return dx, or None where the formula must do it; ``in_place`` if dy is nobody else's and may become dx."""
    if not (taken(saved) and alike(<cnp.ndarray>saved, dy)):
        return None
    cdef cnp.ndarray upstream = dense(dy), kept = dense(saved)
    cdef cnp.ndarray dx = upstream if in_place else fresh_like(kept)
    cdef double[2] settings
    settings[0], settings[1] = first, second
    cdef ptrdiff_t n = cnp.PyArray_SIZE(kept)
    cdef const void *g = cnp.PyArray_DATA(upstream)
    cdef const void *s = cnp.PyArray_DATA(kept)
    cdef void *to = cnp.PyArray_DATA(dx)
    cdef bint double_ = is_double(kept)
    if n < SHORT:
        minidl_activation_backward(double_, op, g, s, to, n, settings)
    else:
        with nogil:
            minidl_activation_backward(double_, op, g, s, to, n, settings)
    return dx


def relu(x):
    """See ``minidl.ops.activation.relu``."""
    y = forward(x, MINIDL_RELU)
    return (y, (y,)) if y is not None else _activation.relu(x)


def relu_backward(dy, cache):
    """See ``minidl.ops.activation.relu_backward``."""
    dx = backward(dy, cache[0], MINIDL_RELU)
    return dx if dx is not None else _activation.relu_backward(dy, cache)


def relu6(x):
    """See ``minidl.ops.activation.relu6``."""
    y = forward(x, MINIDL_RELU6)
    return (y, (y,)) if y is not None else _activation.relu6(x)


def relu6_backward(dy, cache):
    """See ``minidl.ops.activation.relu6_backward``."""
    dx = backward(dy, cache[0], MINIDL_RELU6)
    return dx if dx is not None else _activation.relu6_backward(dy, cache)


def leaky_relu(x, negative_slope=0.01):
    """See ``minidl.ops.activation.leaky_relu``."""
    y = forward(x, MINIDL_LEAKY_RELU, negative_slope)
    return (y, (x, negative_slope)) if y is not None else _activation.leaky_relu(x, negative_slope)


def leaky_relu_backward(dy, cache):
    """See ``minidl.ops.activation.leaky_relu_backward``."""
    dx = backward(dy, cache[0], MINIDL_LEAKY_RELU, cache[1])
    return dx if dx is not None else _activation.leaky_relu_backward(dy, cache)


def sigmoid(x):
    """See ``minidl.ops.activation.sigmoid``."""
    y = forward(x, MINIDL_SIGMOID)
    return (y, (y,)) if y is not None else _activation.sigmoid(x)


def sigmoid_backward(dy, cache):
    """See ``minidl.ops.activation.sigmoid_backward``."""
    dx = backward(dy, cache[0], MINIDL_SIGMOID)
    return dx if dx is not None else _activation.sigmoid_backward(dy, cache)


def tanh(x):
    """See ``minidl.ops.activation.tanh``."""
    y = forward(x, MINIDL_TANH)
    return (y, (y,)) if y is not None else _activation.tanh(x)


def tanh_backward(dy, cache):
    """See ``minidl.ops.activation.tanh_backward``."""
    dx = backward(dy, cache[0], MINIDL_TANH)
    return dx if dx is not None else _activation.tanh_backward(dy, cache)


def softplus(x, beta=1.0, threshold=20.0):
    """See ``minidl.ops.activation.softplus``."""
    y = forward(x, MINIDL_SOFTPLUS, beta, threshold) if beta > 0 else None
    return (y, (x, beta, threshold)) if y is not None else _activation.softplus(x, beta, threshold)


def softplus_backward(dy, cache):
    """See ``minidl.ops.activation.softplus_backward``."""
    dx = backward(dy, cache[0], MINIDL_SOFTPLUS, cache[1], cache[2])
    return dx if dx is not None else _activation.softplus_backward(dy, cache)


def elu(x, alpha=1.0):
    """See ``minidl.ops.activation.elu``."""
    y = forward(x, MINIDL_ELU, alpha)
    return (y, (x, alpha)) if y is not None else _activation.elu(x, alpha)


def elu_backward(dy, cache):
    """See ``minidl.ops.activation.elu_backward``."""
    dx = backward(dy, cache[0], MINIDL_ELU, cache[1])
    return dx if dx is not None else _activation.elu_backward(dy, cache)


cdef int _gelu(object approximate):
    """Return the kernel for GELU's ``approximate``, or -1 where the formula must object."""
    return MINIDL_GELU if approximate == "none" else MINIDL_GELU_TANH if approximate == "tanh" else -1


def gelu(x, approximate="none"):
    """See ``minidl.ops.activation.gelu``."""
    cdef int op = _gelu(approximate)
    y = forward(x, op) if op >= 0 else None
    return (y, (x, approximate)) if y is not None else _activation.gelu(x, approximate)


def gelu_backward(dy, cache):
    """See ``minidl.ops.activation.gelu_backward``."""
    dx = backward(dy, cache[0], _gelu(cache[1]))
    return dx if dx is not None else _activation.gelu_backward(dy, cache)


def silu(x):
    """See ``minidl.ops.activation.silu``."""
    y = forward(x, MINIDL_SILU)
    return (y, (x,)) if y is not None else _activation.silu(x)


def silu_backward(dy, cache):
    """See ``minidl.ops.activation.silu_backward``."""
    dx = backward(dy, cache[0], MINIDL_SILU)
    return dx if dx is not None else _activation.silu_backward(dy, cache)


cdef dict _FUNCTIONS = {"exp": MINIDL_EXP, "log": MINIDL_LOG, "erf": MINIDL_ERF, "sigmoid": MINIDL_SIGMOID, "tanh": MINIDL_TANH}


def vector_function(str name, x):
    """Return exp, log, erf, sigmoid or tanh of a float32 or float64 array, as the kernels compute them.

    The ops are made of these; by themselves they are here to be measured (see docs/vector_math.md).
    """
    y = forward(x, _FUNCTIONS[name])
    if y is None:
        raise TypeError(f"vector_function: expected a float32 or float64 array, got {x!r}")
    return y


# Products with an activation ------------------------------------------------------------------------------------------

cdef dict _KEEPS_OUTPUT = {"relu": MINIDL_RELU, "relu6": MINIDL_RELU6, "sigmoid": MINIDL_SIGMOID, "tanh": MINIDL_TANH}
cdef dict _KEEPS_INPUT = {
    "leaky_relu": (MINIDL_LEAKY_RELU, (0.01,)),
    "softplus": (MINIDL_SOFTPLUS, (1.0, 20.0)),
    "elu": (MINIDL_ELU, (1.0,)),
    "gelu": (MINIDL_GELU, ("none",)),
    "silu": (MINIDL_SILU, ()),
}


def fused_activations():
    """Return, for each composition with an activation, the activations that its kernel applies itself."""
    return {
        "linear_activation": (*_KEEPS_OUTPUT, *_KEEPS_INPUT),
        "conv_activation": tuple(_KEEPS_OUTPUT),
        "conv_affine": tuple(_KEEPS_OUTPUT),
    }


cdef tuple _linear_activation(object x, object weight, object bias, object activation, object settings):
    cdef cnp.ndarray y
    cdef list before = []
    cdef double[2] numbers
    cdef int op
    numbers[0] = numbers[1] = 0
    kept = _KEEPS_OUTPUT.get(activation)
    if kept is not None:
        y = _affine(x, weight, bias, kept, numbers, None)
        if y is not None:
            return y, ((x, weight, bias is not None), (y,))
    elif activation in _KEEPS_INPUT:
        op, defaults = _KEEPS_INPUT[activation]
        full = tuple(settings) + defaults[len(settings):]
        if activation == "gelu":
            op = _gelu(full[0])
        else:
            for position in range(len(full)):
                numbers[position] = full[position]
        if op >= 0 and not (op == MINIDL_SOFTPLUS and not numbers[0] > 0):
            y = _affine(x, weight, bias, op, numbers, before)
            if y is not None:
                return y, ((x, weight, bias is not None), (before[0], *full))
    hidden, linear_cache = linear(x, weight, bias)
    y_, activation_cache = globals()[activation](hidden, *settings)
    return y_, (linear_cache, activation_cache)


cdef tuple _linear_activation_backward(object dy, tuple cache, object activation, object into, bint add, object wanted,
                                       bint in_place):
    kept = _KEEPS_OUTPUT.get(activation)
    dhidden = None
    if kept is not None:
        dhidden = backward(dy, cache[1][0], kept, 0, 0, in_place)
    if dhidden is None:
        dhidden = globals()[activation + "_backward"](dy, cache[1])
    return _linear_backward(dhidden, cache[0], into, add, wanted)


def linear_activation(x, weight, bias, activation, settings=()):
    """See ``minidl.engines.compositions.linear_activation``: the activation is applied to each tile while it is in cache."""
    return _linear_activation(x, weight, bias, activation, settings)


def linear_activation_backward(dy, cache, activation, into=None, add=False, wanted=None):
    """See ``minidl.engines.compositions.linear_activation_backward``."""
    return _linear_activation_backward(dy, cache, activation, into, add, wanted, False)


def linear_stack(x, layers):
    """See ``minidl.engines.compositions.linear_stack``."""
    cdef list caches = []
    for weight, bias, activation, settings in layers:
        if activation is None:
            x, cache = linear(x, weight, bias)
        else:
            x, cache = _linear_activation(x, weight, bias, activation, settings)
        caches.append(cache)
    return x, caches


def linear_stack_backward(dy, caches, layers, storage):
    """See ``minidl.engines.compositions.linear_stack_backward``.

    A gradient between two layers is nobody else's, so the activation's derivative is multiplied into it in place.
    """
    cdef Py_ssize_t last = len(caches) - 1, position
    for position in range(last, -1, -1):
        activation, cache = layers[position][2], caches[position]
        into, add, wanted = storage[position]
        if activation is None:
            dy = _linear_backward(dy, cache, into, add, wanted)[0]
        else:
            dy = _linear_activation_backward(dy, cache, activation, into, add, wanted, position < last)[0]
        if dy is None:
            break
    return dy
