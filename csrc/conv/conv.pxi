# Convolutions and their adjoints.

cdef extern from "conv/conv.h" nogil:
    ctypedef struct minidl_windows:
        ptrdiff_t images, groups
        ptrdiff_t channels_in "in"
        ptrdiff_t channels_out "out"
        ptrdiff_t image[2]
        ptrdiff_t kernel[2]
        ptrdiff_t output[2]
        ptrdiff_t stride[2]
        ptrdiff_t dilation[2]
        ptrdiff_t padding[2]
        int threads
    ctypedef struct minidl_conv_after:
        const void *scale
        const void *bias
        const void *residual
        int activation
        double settings[2]
    int minidl_conv_slide(int is_double, const minidl_windows *w, const void *x, const void *weight,
                          const minidl_conv_after *after, void *y)
    int minidl_conv_spread(int is_double, const minidl_windows *w, const void *g, const void *weight, const void *bias, void *dx)
    int minidl_conv_gradient(int is_double, const minidl_windows *w, const void *x, const void *g, int accumulate, void *dweight)

cdef object _windows = import_module("minidl.ops._windows")


cdef int _describe(object found, cnp.ndarray weight, ptrdiff_t images, minidl_windows *w) except -1:
    """Write down windows for C; the one-dimensional ones as images of one row."""
    cdef int axis, axes = cnp.PyArray_NDIM(weight) - 2, first = 2 - axes
    stride, padding, dilation, groups, image, kernel, output = found
    w.images, w.groups, w.threads = images, groups, minidl_get_threads()
    w.channels_out, w.channels_in = cnp.PyArray_DIMS(weight)[0] // w.groups, cnp.PyArray_DIMS(weight)[1]
    w.image[0] = w.kernel[0] = w.output[0] = w.stride[0] = w.dilation[0] = 1
    w.padding[0] = 0
    for axis in range(axes):
        w.stride[first + axis], w.padding[first + axis] = stride[axis], padding[axis][0]
        w.dilation[first + axis], w.image[first + axis] = dilation[axis], image[axis]
        w.kernel[first + axis], w.output[first + axis] = kernel[axis], output[axis]
    return 0


cdef bint _moderate(object found) except -1:
    """Whether strides, paddings and dilations are numbers that the kernels can calculate with."""
    cdef tuple windows = <tuple>found  # its fields by number, which takes a tenth of the time
    cdef tuple stride = windows[0], padding = windows[1], dilation = windows[2]
    cdef Py_ssize_t axis
    for axis in range(len(stride)):
        if stride[axis] > MOST_STEPS or dilation[axis] > MOST_STEPS or padding[axis][0] > MOST_STEPS:
            return False
    return True


cdef bint _convolvable(object x, object weight, object bias, int axes):
    """Whether the kernels take these arrays; what they hold beyond that is checked with the windows."""
    if not (taken(x) and taken(weight) and cnp.PyArray_TYPE(<cnp.ndarray>x) == cnp.PyArray_TYPE(<cnp.ndarray>weight)):
        return False
    if cnp.PyArray_NDIM(<cnp.ndarray>x) != axes + 2 or cnp.PyArray_SIZE(x) == 0 or (
            cnp.PyArray_NDIM(<cnp.ndarray>weight) != axes + 2):
        return False
    return bias is None or (taken(bias) and cnp.PyArray_TYPE(<cnp.ndarray>bias) == cnp.PyArray_TYPE(<cnp.ndarray>x)
                            and cnp.PyArray_NDIM(<cnp.ndarray>bias) == 1)


cdef cnp.ndarray _batch(ptrdiff_t images, ptrdiff_t channels, tuple shape, int kind):
    cdef cnp.npy_intp whole[4]
    cdef int axis
    whole[0], whole[1] = images, channels
    for axis in range(len(shape)):
        whole[2 + axis] = shape[axis]
    return fresh(2 + len(shape), whole, kind)


cdef int _done(int status) except -1:
    if status != 0:
        raise MemoryError("the native engine could not allocate the workspace of a convolution")
    return 0


cdef cnp.ndarray _slid(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, object found, int op=-1, cnp.ndarray scale=None,
                       cnp.ndarray residual=None):
    """The convolution of x and what comes after it, an activation without settings among it."""
    cdef minidl_windows w
    cdef minidl_conv_after after
    x, weight = operand(dense(x)), operand(dense(weight))
    cdef cnp.ndarray y = _batch(cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(weight)[0], found.output, cnp.PyArray_TYPE(x))
    cdef const void *from_ = cnp.PyArray_DATA(x)
    cdef const void *kernel = cnp.PyArray_DATA(weight)
    cdef void *to = cnp.PyArray_DATA(y)
    cdef bint double_ = is_double(x)
    cdef int status
    memset(&after, 0, sizeof(after))
    after.activation = op
    if bias is not None:
        bias = dense(bias)
        after.bias = cnp.PyArray_DATA(bias)
    if scale is not None:
        scale = dense(scale)
        after.scale = cnp.PyArray_DATA(scale)
    if residual is not None:
        residual = dense(residual)
        after.residual = cnp.PyArray_DATA(residual)
    _describe(found, weight, cnp.PyArray_DIMS(x)[0], &w)
    with nogil:
        status = minidl_conv_slide(double_, &w, from_, kernel, &after, to)
    _done(status)
    return y


cdef cnp.ndarray _spread(cnp.ndarray g, cnp.ndarray weight, cnp.ndarray bias, object found):
    """The adjoint's image of g. The kernel frames g with zeros, so weights that are not finite, of which zero times is not zero,
    are left to the formula."""
    cdef minidl_windows w
    g, weight = operand(dense(g)), operand(dense(weight))
    cdef ptrdiff_t groups = found.groups
    if not minidl_finite(is_double(weight), cnp.PyArray_DATA(weight), cnp.PyArray_SIZE(weight)):
        y = _conv._spread(g, weight, found)
        return y if bias is None else y + bias.reshape((-1,) + (1,) * (y.ndim - 2))
    cdef cnp.ndarray dx = _batch(
        cnp.PyArray_DIMS(g)[0], cnp.PyArray_DIMS(weight)[1] * groups, found.image, cnp.PyArray_TYPE(g))
    cdef const void *from_ = cnp.PyArray_DATA(g)
    cdef const void *kernel = cnp.PyArray_DATA(weight)
    cdef const void *more = NULL
    cdef void *to = cnp.PyArray_DATA(dx)
    cdef bint double_ = is_double(g)
    cdef int status
    if bias is not None:
        bias = dense(bias)
        more = cnp.PyArray_DATA(bias)
    _describe(found, weight, cnp.PyArray_DIMS(g)[0], &w)
    with nogil:
        status = minidl_conv_spread(double_, &w, from_, kernel, more, to)
    _done(status)
    return dx


cdef int _kernel_gradient(cnp.ndarray x, cnp.ndarray g, object found, cnp.ndarray dweight, bint accumulate) except -1:
    """The adjoint in the kernel, written to dweight or added."""
    cdef minidl_windows w
    x, g = operand(dense(x)), operand(dense(g))
    cdef const void *from_ = cnp.PyArray_DATA(x)
    cdef const void *upstream = cnp.PyArray_DATA(g)
    cdef void *to = cnp.PyArray_DATA(dweight)
    cdef bint double_ = is_double(x)
    cdef int status
    _describe(found, dweight, cnp.PyArray_DIMS(x)[0], &w)
    with nogil:
        status = minidl_conv_gradient(double_, &w, from_, upstream, accumulate, to)
    return _done(status)


cdef int _channel_sums(cnp.ndarray g, cnp.ndarray out, bint accumulate) except -1:
    """Sums over images and positions, written to out or added."""
    g = dense(g)
    cdef ptrdiff_t images = cnp.PyArray_DIMS(g)[0], channels = cnp.PyArray_DIMS(g)[1]
    cdef const void *from_ = cnp.PyArray_DATA(g)
    cdef void *to = cnp.PyArray_DATA(out)
    cdef ptrdiff_t positions = cnp.PyArray_SIZE(g) // (images * channels)
    cdef bint double_ = is_double(g)
    with nogil:
        minidl_channel_sums(double_, from_, images, channels, positions, accumulate, to)
    return 0


cdef object _convolution(formula, str op, int axes, x, weight, bias, stride, padding, dilation, groups):
    if not _convolvable(x, weight, bias, axes):
        return formula(x, weight, bias, stride, padding, dilation, groups)
    found = _windows.windows(op, axes, x.shape, weight.shape, stride, padding, dilation, groups)
    if not _moderate(found) or (
            bias is not None and cnp.PyArray_DIMS(<cnp.ndarray>bias)[0] != cnp.PyArray_DIMS(<cnp.ndarray>weight)[0]):
        return formula(x, weight, bias, stride, padding, dilation, groups)
    return _slid(x, weight, bias, found), (x, weight, bias is not None, found)


def conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """See ``minidl.ops.conv.conv1d``."""
    return _convolution(_conv.conv1d, "conv1d", 1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """See ``minidl.ops.conv.conv2d``."""
    return _convolution(_conv.conv2d, "conv2d", 2, x, weight, bias, stride, padding, dilation, groups)


cdef object _transposed(formula, str op, int axes, x, weight, bias, stride, padding, output_padding, groups, dilation):
    if not _convolvable(x, weight, bias, axes):
        return formula(x, weight, bias, stride, padding, output_padding, groups, dilation)
    found = _windows.windows_of_transposed(op, axes, x.shape, weight.shape, stride, padding, output_padding, groups, dilation)
    if not _moderate(found) or (
            bias is not None and cnp.PyArray_DIMS(<cnp.ndarray>bias)[0] != cnp.PyArray_DIMS(<cnp.ndarray>weight)[1] * groups):
        return formula(x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _spread(x, weight, bias, found), (x, weight, bias is not None, found)


def conv_transpose1d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """See ``minidl.ops.conv.conv_transpose1d``."""
    return _transposed(
        _conv.conv_transpose1d, "conv_transpose1d", 1, x, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """See ``minidl.ops.conv.conv_transpose2d``."""
    return _transposed(
        _conv.conv_transpose2d, "conv_transpose2d", 2, x, weight, bias, stride, padding, output_padding, groups, dilation)


cdef bint _has(cnp.ndarray x, tuple sizes):
    """Whether the axes of x after the first two still have these sizes, as when the forward saw it."""
    cdef int axis, axes = cnp.PyArray_NDIM(x) - 2
    if len(sizes) != axes:
        return False
    for axis in range(axes):
        if sizes[axis] != cnp.PyArray_DIMS(x)[2 + axis]:
            return False
    return True


cdef bint _upstream_fits(object dy, tuple cache, bint transposed):
    """Whether dy is the upstream gradient of what left this cache, all in arrays that kernels take."""
    cdef cnp.ndarray x, weight
    cdef tuple windows, image, kernel, output
    cdef ptrdiff_t sources, targets
    if not (taken(dy) and _convolvable(cache[0], cache[1], None, cnp.PyArray_NDIM(<cnp.ndarray>dy) - 2)):
        return False
    x, weight, windows = cache[0], cache[1], <tuple>cache[3]
    if cnp.PyArray_TYPE(<cnp.ndarray>dy) != cnp.PyArray_TYPE(x) or not _moderate(windows):
        return False
    image, kernel, output = windows[4], windows[5], windows[6]
    sources, targets = cnp.PyArray_DIMS(weight)[1] * <ptrdiff_t>windows[3], cnp.PyArray_DIMS(weight)[0]  # channels
    if transposed:
        image, output = output, image
        sources, targets = targets, sources
    return (
        _has(weight, kernel) and _has(x, image) and _has(dy, output)
        and cnp.PyArray_DIMS(<cnp.ndarray>dy)[0] == cnp.PyArray_DIMS(x)[0]
        and cnp.PyArray_DIMS(x)[1] == sources and cnp.PyArray_DIMS(<cnp.ndarray>dy)[1] == targets
    )


cdef object _convolution_backward(formula, bint transposed, object dy, tuple cache, tuple into, bint add, tuple wanted):
    if not (_upstream_fits(dy, cache, transposed) and well_formed(into, wanted, 1, 2)
            and separate(into, dy, cache[0], cache[1])):
        return formula(dy, cache, into, add, wanted)
    cdef cnp.ndarray x = cache[0], weight = cache[1], g = dy, dweight = None, dbias = None
    cdef int kind = cnp.PyArray_TYPE(weight)
    cdef bint add_weight = add, add_bias = add
    cdef bint with_weight = is_wanted(wanted, 1), with_bias = cache[2] and is_wanted(wanted, 2)
    if with_weight:
        dweight = storage_for(into, 0, cnp.PyArray_NDIM(weight), cnp.PyArray_DIMS(weight), kind, &add_weight)
    if with_bias:
        dbias = storage_for(into, 1, 1, &cnp.PyArray_DIMS(g)[1], kind, &add_bias)
    if (with_weight and dweight is None) or (with_bias and dbias is None):
        return formula(dy, cache, into, add, wanted)
    found, dx = cache[3], None
    if with_weight and transposed:
        _kernel_gradient(g, x, found, dweight, add_weight)
    elif with_weight:
        _kernel_gradient(x, g, found, dweight, add_weight)
    if with_bias:
        _channel_sums(g, dbias, add_bias)
    if is_wanted(wanted, 0):
        dx = _slid(g, weight, None, found) if transposed else _spread(g, weight, None, found)
    return dx, dweight, dbias


def conv1d_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.conv.conv1d_backward``."""
    return _convolution_backward(_conv.conv1d_backward, False, dy, cache, as_tuple(into), add, as_tuple(wanted))


def conv2d_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.conv.conv2d_backward``."""
    return _convolution_backward(_conv.conv2d_backward, False, dy, cache, as_tuple(into), add, as_tuple(wanted))


def conv_transpose1d_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.conv.conv_transpose1d_backward``."""
    return _convolution_backward(_conv.conv_transpose1d_backward, True, dy, cache, as_tuple(into), add, as_tuple(wanted))


def conv_transpose2d_backward(dy, cache, into=None, add=False, wanted=None):
    """See ``minidl.ops.conv.conv_transpose2d_backward``."""
    return _convolution_backward(_conv.conv_transpose2d_backward, True, dy, cache, as_tuple(into), add, as_tuple(wanted))


cdef tuple _DEFAULT_WINDOWS = (1, 0, 1, 1)  # stride, padding, dilation, groups

# With an activation ---------------------------------------------------------------------------------------------------


def conv_activation(op, x, weight, bias, windows, activation, settings=()):
    """See ``minidl.engines.compositions.conv_activation``: the activation is applied to each strip while it is in cache."""
    cdef object kept = None if settings else _KEEPS_OUTPUT.get(activation)
    if kept is None or not _convolvable(x, weight, bias, 2 if op == "conv2d" else 1):
        return _compositions.conv_activation(_compiled, op, x, weight, bias, windows, activation, settings)
    found = _windows.windows(op, cnp.PyArray_NDIM(<cnp.ndarray>x) - 2, x.shape, weight.shape, *windows, *_DEFAULT_WINDOWS[len(windows):])
    if not _moderate(found) or (
            bias is not None and cnp.PyArray_DIMS(<cnp.ndarray>bias)[0] != cnp.PyArray_DIMS(<cnp.ndarray>weight)[0]):
        return _compositions.conv_activation(_compiled, op, x, weight, bias, windows, activation, settings)
    cdef cnp.ndarray y = _slid(x, weight, bias, found, kept)
    return y, ((x, weight, bias is not None, found), (y,))


def conv_activation_backward(op, dy, cache, activation, into=None, add=False, wanted=None):
    """See ``minidl.engines.compositions.conv_activation_backward``."""
    dhidden = globals()[activation + "_backward"](dy, cache[1])
    return globals()[op + "_backward"](dhidden, cache[0], into, add, wanted)


def conv_affine(op, x, weight, windows, scale, shift, activation=None, settings=(), residual=None):
    """See ``minidl.engines.compositions.conv_affine``: everything after the sums happens while they are in cache."""
    if not (_convolvable(x, weight, shift, 2 if op == "conv2d" else 1)
            and (shift is None or shift.shape == (weight.shape[0],))
            and (scale is None or (taken(scale) and cnp.PyArray_TYPE(<cnp.ndarray>scale) == cnp.PyArray_TYPE(<cnp.ndarray>x)
                                   and scale.shape == (weight.shape[0],)))):
        return _compositions.conv_affine(_compiled, op, x, weight, windows, scale, shift, activation, settings, residual)
    found = _windows.windows(op, cnp.PyArray_NDIM(<cnp.ndarray>x) - 2, x.shape, weight.shape, *windows, *_DEFAULT_WINDOWS[len(windows):])
    if not _moderate(found) or residual is not None and not (
            taken(residual) and cnp.PyArray_TYPE(<cnp.ndarray>residual) == cnp.PyArray_TYPE(<cnp.ndarray>x)
            and residual.shape == (x.shape[0], weight.shape[0], *found.output)):
        return _compositions.conv_affine(_compiled, op, x, weight, windows, scale, shift, activation, settings, residual)
    cdef object among = None if settings else _KEEPS_OUTPUT.get(activation)  # what the kernel applies itself
    y = _slid(x, weight, shift, found, -1 if among is None else among, scale, residual)
    return y if activation is None or among is not None else globals()[activation](y, *settings)[0]
