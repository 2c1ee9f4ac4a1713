/* The kernels for one precision and one instruction set; kernels_isa.inc.h includes this twice. Where one loop reads and
 * writes, the output may be the input: every element is read before it is written. Sums of rows are kept in double. */

#define VEC REAL(vec)
#define LANES REAL(LANES)
#define SPLAT(c) REAL(splat)((real)(c))
#define LOAD REAL(load)
#define STORE REAL(store)

/* Run the statements for each vector of n numbers. In them, GET(p) is the vector of p and PUT(p, v) stores one; the last,
 * shorter vector is read and written only as far as it goes. */
#define EACH_VECTOR(n, ...)                                                                                                \
    do {                                                                                                                   \
        ptrdiff_t i = 0;                                                                                                   \
        for (; i + LANES <= (n); i += LANES) {                                                                             \
            enum { whole = 1 };                                                                                            \
            const ptrdiff_t left = LANES;                                                                                  \
            (void)left;                                                                                                    \
            __VA_ARGS__                                                                                                    \
        }                                                                                                                  \
        if (i < (n)) {                                                                                                     \
            enum { whole = 0 };                                                                                            \
            const ptrdiff_t left = (n) - i;                                                                                \
            __VA_ARGS__                                                                                                    \
        }                                                                                                                  \
    } while (0)
#define GET_OR(p, fill) (whole ? LOAD((p) + i) : REAL(load_part)((p) + i, left, fill))
#define GET(p) GET_OR(p, 0)
#define PUT(p, v)                                                                                                          \
    do {                                                                                                                   \
        if (whole) STORE((p) + i, v);                                                                                      \
        else REAL(store_part)((p) + i, v, left);                                                                           \
    } while (0)

/* Activations. `first` and `second` are the settings, as vectors. */

#define FORWARD(name, expression)                                                                                           \
    static void REAL(name##_forward)(const real *from, real *to, ptrdiff_t n, const void *settings) {                      \
        const VEC first = SPLAT(((const real *)settings)[0]), second = SPLAT(((const real *)settings)[1]);                 \
        (void)first;                                                                                                       \
        (void)second;                                                                                                      \
        EACH_VECTOR(n, { const VEC x = GET(from); PUT(to, expression); });                                                 \
    }
/* `g` is the upstream gradient, `x` what the forward kept. */
#define BACKWARD(name, expression)                                                                                          \
    static void REAL(name##_backward)(const real *dy, const real *saved, real *dx, ptrdiff_t n, const void *settings) {    \
        const VEC first = SPLAT(((const real *)settings)[0]), second = SPLAT(((const real *)settings)[1]);                 \
        (void)first;                                                                                                       \
        (void)second;                                                                                                      \
        EACH_VECTOR(n, { const VEC g = GET(dy); const VEC x = GET(saved); PUT(dx, expression); });                         \
    }

FORWARD(relu, REAL(relu)(x))
BACKWARD(relu, REAL(select)(REAL(less)(SPLAT(0), x), g, SPLAT(0)))
FORWARD(leaky_relu, REAL(leaky_relu)(x, first))
BACKWARD(leaky_relu, REAL(select)(REAL(less)(SPLAT(0), x), g, g * first))
FORWARD(sigmoid, REAL(sigmoid)(x))
BACKWARD(sigmoid, g * (x * (SPLAT(1) - x)))
FORWARD(tanh, REAL(hyperbolic_tangent)(x))
BACKWARD(tanh, g * (SPLAT(1) - x * x))
FORWARD(softplus, REAL(softplus)(x, first, second))
BACKWARD(softplus, g * REAL(softplus_slope)(x, first, second))
FORWARD(elu, REAL(elu)(x, first))
BACKWARD(elu, g * REAL(elu_slope)(x, first))
FORWARD(gelu, REAL(gelu)(x))
BACKWARD(gelu, g * REAL(gelu_slope)(x))
FORWARD(gelu_tanh, REAL(gelu_tanh)(x))
BACKWARD(gelu_tanh, g * REAL(gelu_tanh_slope)(x))
FORWARD(silu, REAL(silu)(x))
BACKWARD(silu, g * REAL(silu_slope)(x))
FORWARD(exp, REAL(exponential)(x))
FORWARD(log, REAL(logarithm)(x))
FORWARD(erf, REAL(error_function)(x))

/* Softmax: the largest score is taken out of every row first. A nan anywhere makes its row nan, through the sum. */

static real REAL(largest_of)(const real *x, ptrdiff_t n) {
    VEC most = SPLAT(-MINIDL_INFINITY);
    EACH_VECTOR(n, most = REAL(most)(GET_OR(x, -MINIDL_INFINITY), most););
    return REAL(largest)(most);
}

/* y = exp(x - largest); returns the sum. */
static double REAL(exponentials)(const real *x, real largest, real *y, ptrdiff_t n) {
    const VEC shift = SPLAT(largest);
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(n, {
        const VEC e = REAL(decay)(GET_OR(x, -MINIDL_INFINITY) - shift);
        PUT(y, e);
        REAL(add_wide)(sum, e);
    });
    return REAL(total)(sum);
}

static void REAL(multiply)(real *y, real factor, ptrdiff_t n) {
    const VEC f = SPLAT(factor);
    EACH_VECTOR(n, PUT(y, GET(y) * f););
}

static void REAL(softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, x += length, y += length)
        REAL(multiply)(y, (real)(1.0 / REAL(exponentials)(x, REAL(largest_of)(x, length), y, length)), length);
}

static void REAL(log_softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, x += length, y += length) {
        const real largest = REAL(largest_of)(x, length);
        const VEC shift = SPLAT(largest);
        vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(length, REAL(add_wide)(sum, REAL(decay)(GET_OR(x, -MINIDL_INFINITY) - shift)););
        const VEC logarithm = SPLAT(log(REAL(total)(sum)));
        EACH_VECTOR(length, PUT(y, (GET(x) - shift) - logarithm););
    }
}

/* dx = y (dy - <dy, y>) */
static void REAL(softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, dy += length, y += length, dx += length) {
        vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(length, REAL(add_wide)(sum, GET(dy) * GET(y)););
        const VEC product = SPLAT(REAL(total)(sum));
        EACH_VECTOR(length, PUT(dx, GET(y) * (GET(dy) - product)););
    }
}

/* dx = dy - exp(y) sum(dy) */
static void REAL(log_softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, dy += length, y += length, dx += length) {
        vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(length, REAL(add_wide)(sum, GET(dy)););
        const VEC total = SPLAT(REAL(total)(sum));
        EACH_VECTOR(length, PUT(dx, GET(dy) - REAL(decay)(GET(y)) * total););
    }
}

static double REAL(cross_entropy)(const real *x, const int64_t *target, int64_t ignore_index, real *slope, ptrdiff_t rows,
                                  ptrdiff_t classes, ptrdiff_t *counted) {
    double loss = 0;
    ptrdiff_t count = 0;
    for (ptrdiff_t row = 0; row < rows; row++, x += classes, slope += classes) {
        const int64_t label = target[row];
        if (label == ignore_index) {
            for (ptrdiff_t i = 0; i < classes; i++) slope[i] = 0;
            continue;
        }
        const real largest = REAL(largest_of)(x, classes);
        const double shifted = (double)x[label] - (double)largest; /* before the slope, which may be where x is */
        const double sum = REAL(exponentials)(x, largest, slope, classes);
        REAL(multiply)(slope, (real)(1.0 / sum), classes);
        slope[label] -= (real)1;
        loss += log(sum) - shifted;
        count++;
    }
    *counted = count;
    return loss;
}

static double REAL(squared_error)(const real *prediction, const real *target, real *slope, ptrdiff_t n) {
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(n, {
        const VEC difference = GET(prediction) - GET(target);
        PUT(slope, difference + difference);
        REAL(add_wide)(sum, difference * difference);
    });
    return REAL(total)(sum);
}

static void REAL(scale_all)(const real *x, double factor, real *y, ptrdiff_t n) {
    const VEC f = SPLAT(factor);
    EACH_VECTOR(n, PUT(y, GET(x) * f););
}

static double REAL(sum_of_squares)(const real *x, ptrdiff_t n) {
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(n, REAL(add_wide_squares)(sum, GET(x)););
    return REAL(total)(sum);
}

/* Rows in blocks of 64, each block summed on its own and then added: the rounding error grows with rows / 64 + 64. */
static void REAL(column_sums)(const real *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride, int accumulate,
                              real *out) {
    enum { WIDTH = 128, BLOCK = 64 };
    for (ptrdiff_t start = 0; start < columns; start += WIDTH) {
        const ptrdiff_t width = columns - start < WIDTH ? columns - start : WIDTH;
        real total[WIDTH] = {0};
        for (ptrdiff_t block = 0; block < rows; block += BLOCK) {
            const ptrdiff_t stop = block + BLOCK < rows ? block + BLOCK : rows;
            real sum[WIDTH] = {0};
            for (ptrdiff_t row = block; row < stop; row++) {
                const real *const line = x + row * row_stride + start;
                EACH_VECTOR(width, PUT(sum, GET(sum) + GET(line)););
            }
            EACH_VECTOR(width, PUT(total, GET(total) + GET(sum)););
        }
        real *const to = out + start;
        if (accumulate) EACH_VECTOR(width, PUT(to, GET(to) + GET(total)););
        else EACH_VECTOR(width, PUT(to, GET(total)););
    }
}

/* The optimisers: one pass, every array read and written once, with the operations of minidl/ops/update.py in their order. */

/* The gradient with the weight decay in it. Without decay, values do not enter: 0 times inf would be nan. */
MINIDL_INLINE VEC REAL(decayed)(VEC g, VEC value, real decay) {
    if (decay != 0) g = g + decay * value;
    return g;
}

static void REAL(sgd)(real *value, const real *grad, real *buffer, ptrdiff_t n, const minidl_settings *s) {
    const VEC lr = SPLAT(s->lr), momentum = SPLAT(s->momentum), fresh = SPLAT(1.0 - s->dampening);
    const real decay = (real)s->weight_decay;
    if (buffer == NULL || s->momentum == 0) {
        EACH_VECTOR(n, {
            const VEC v = GET(value);
            PUT(value, v - lr * REAL(decayed)(GET(grad), v, decay));
        });
        return;
    }
    EACH_VECTOR(n, {
        const VEC v = GET(value);
        const VEC g = REAL(decayed)(GET(grad), v, decay);
        VEC b = g;
        if (!s->first_step) b = momentum * GET(buffer) + fresh * g;
        PUT(buffer, b);
        if (s->nesterov) b = g + momentum * b;
        PUT(value, v - lr * b);
    });
}

static void REAL(adagrad)(real *value, const real *grad, real *square_sum, ptrdiff_t n, const minidl_settings *s) {
    const VEC lr = SPLAT(s->lr / (1.0 + (double)(s->step - 1) * s->lr_decay));
    const VEC eps = SPLAT(s->eps);
    const real decay = (real)s->weight_decay;
    EACH_VECTOR(n, {
        const VEC v = GET(value);
        const VEC g = REAL(decayed)(GET(grad), v, decay);
        const VEC sum = GET(square_sum) + g * g;
        PUT(square_sum, sum);
        PUT(value, v - lr * g / (REAL(square_root)(sum) + eps));
    });
}

static void REAL(rmsprop)(real *value, const real *grad, real *square_average, real *grad_average, real *buffer,
                          ptrdiff_t n, const minidl_settings *s) {
    const VEC lr = SPLAT(s->lr), alpha = SPLAT(s->alpha), rest = SPLAT(1.0 - s->alpha), eps = SPLAT(s->eps);
    const VEC momentum = SPLAT(s->momentum);
    const real decay = (real)s->weight_decay;
    EACH_VECTOR(n, {
        const VEC v = GET(value);
        const VEC g = REAL(decayed)(GET(grad), v, decay);
        const VEC square = alpha * GET(square_average) + rest * (g * g);
        PUT(square_average, square);
        VEC variance = square;
        if (grad_average != NULL) {
            const VEC average = alpha * GET(grad_average) + rest * g;
            PUT(grad_average, average);
            variance = REAL(most)(square - average * average, SPLAT(0)); /* rounding may leave it below zero */
        }
        VEC step = g / (REAL(square_root)(variance) + eps);
        if (buffer != NULL) {
            step = momentum * GET(buffer) + step;
            PUT(buffer, step);
        }
        PUT(value, v - lr * step);
    });
}

static void REAL(adam)(real *value, const real *grad, real *m, real *v, real *v_max, ptrdiff_t n,
                       const minidl_settings *s) {
    const VEC beta2 = SPLAT(s->beta2), rest1 = SPLAT(1.0 - s->beta1), rest2 = SPLAT(1.0 - s->beta2), eps = SPLAT(s->eps);
    const VEC rate = SPLAT(s->lr / (1.0 - pow(s->beta1, (double)s->step)));
    const VEC inverse_root = SPLAT(1.0 / sqrt(1.0 - pow(s->beta2, (double)s->step)));
    const VEC shrink = SPLAT(s->decoupled ? 1.0 - s->lr * s->weight_decay : 1.0);
    const real decay = s->decoupled ? (real)0 : (real)s->weight_decay;
    EACH_VECTOR(n, {
        const VEC old = GET(value) * shrink;
        const VEC g = REAL(decayed)(GET(grad), old, decay);
        const VEC mean = GET(m);
        const VEC first = mean + rest1 * (g - mean);
        VEC second = beta2 * GET(v) + rest2 * (g * g);
        PUT(m, first);
        PUT(v, second);
        if (v_max != NULL) {
            second = REAL(most)(second, GET(v_max));
            PUT(v_max, second);
        }
        PUT(value, old - rate * first / (REAL(square_root)(second) * inverse_root + eps));
    });
}

#undef VEC
#undef LANES
#undef SPLAT
#undef LOAD
#undef STORE
#undef EACH_VECTOR
#undef GET_OR
#undef GET
#undef PUT
#undef FORWARD
#undef BACKWARD
