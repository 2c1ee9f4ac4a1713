# Affine maps with an activation, alone and one after another.

cdef tuple _linear_activation(object x, object weight, object bias, object activation, object settings):
    cdef cnp.ndarray y
    cdef list before = []
    cdef double[MOST_SETTINGS] numbers
    cdef int op
    kept = None if settings else _KEEPS_OUTPUT.get(activation)
    if kept is not None:
        y = _affine(x, weight, bias, kept, NO_SETTINGS, None)
        if y is not None:
            return y, ((x, weight, bias is not None), (y,))
    elif activation in _KEEPS_INPUT:
        op, defaults = _KEEPS_INPUT[activation]
        full = tuple(settings) + defaults[len(settings):]
        if len(full) != len(defaults):
            op = -1  # more than there are, which the op itself says
        elif activation == "gelu":
            op = _gelu(full[0])
        if op >= 0 and read_settings(op, () if activation == "gelu" else full, 0, numbers):
            y = _affine(x, weight, bias, op, numbers, before)
            if y is not None:
                return y, ((x, weight, bias is not None), (before[0], *full))
    hidden, linear_cache = linear(x, weight, bias)
    y_, activation_cache = globals()[activation](hidden, *settings)
    return y_, (linear_cache, activation_cache)


cdef tuple _linear_activation_backward(object dy, tuple cache, object activation, tuple into, bint add, tuple wanted,
                                       bint in_place):
    kept = _KEEPS_OUTPUT.get(activation)
    dhidden = None
    if kept is not None:
        dhidden = activate_backward(dy, cache[1][0], kept, NO_SETTINGS, in_place)
    if dhidden is None:
        dhidden = globals()[activation + "_backward"](dy, cache[1])
    return _linear_backward(dhidden, cache[0], into, add, wanted)


def linear_activation(x, weight, bias, activation, settings=()):
    """See ``minidl.engines.compositions.linear_activation``: the activation is applied to each tile while it is in cache."""
    return _linear_activation(x, weight, bias, activation, settings)


def linear_activation_backward(dy, cache, activation, into=None, add=False, wanted=None):
    """See ``minidl.engines.compositions.linear_activation_backward``."""
    return _linear_activation_backward(dy, cache, activation, as_tuple(into), add, as_tuple(wanted), False)


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
    cdef tuple into, wanted
    cdef bint add
    for position in range(last, -1, -1):
        activation, cache = layers[position][2], caches[position]
        one = storage[position]
        into, add, wanted = as_tuple(one[0]), one[1], as_tuple(one[2])
        if activation is None:
            dy = _linear_backward(dy, cache, into, add, wanted)[0]
        else:
            dy = _linear_activation_backward(dy, cache, activation, into, add, wanted, position < last)[0]
        if dy is None:
            break
    return dy


def fused_activations():
    """Return, for each composition with an activation, the activations that its kernel applies itself."""
    return {
        "linear_activation": (*_KEEPS_OUTPUT, *_KEEPS_INPUT),
        "conv_activation": tuple(_KEEPS_OUTPUT),
        "conv_affine": tuple(_KEEPS_OUTPUT),
        "stored_linear": (*_KEEPS_OUTPUT, *_KEEPS_INPUT),
        "transformer_block": (*_KEEPS_OUTPUT, *_KEEPS_INPUT),
    }
