/* The loops for one precision and one instruction set; kernels_*.c include this twice. The compiler makes vector code of
 * them: the formulas have no branches. Sums are kept in double, in one order, whatever the vector length. */

#define UNARY(name, expression)                                                                                             \
    static void REAL(name)(const real *x, real *y, ptrdiff_t n, const void *settings) {                                    \
        const real *const s = settings;                                                                                    \
        (void)s;                                                                                                           \
        VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) y[i] = (expression);                                                 \
    }
#define SLOPE(name, expression)                                                                                             \
    static void REAL(name)(const real *dy, const real *saved, real *dx, ptrdiff_t n, const void *settings) {               \
        const real *const s = settings;                                                                                    \
        (void)s;                                                                                                           \
        VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) dx[i] = (expression);                                                \
    }

UNARY(relu_forward, x[i] <= (real)0 ? (real)0 : x[i]) /* nan <= 0 is false, so nan passes */
SLOPE(relu_backward, saved[i] > (real)0 ? dy[i] : (real)0)

static void REAL(leaky_relu_forward)(const real *x, real *y, ptrdiff_t n, const void *settings) {
    const real slope = ((const real *)settings)[0];
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] > (real)0 ? x[i] : x[i] * slope;
}
static void REAL(leaky_relu_backward)(const real *dy, const real *saved, real *dx, ptrdiff_t n, const void *settings) {
    const real slope = ((const real *)settings)[0];
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) dx[i] = saved[i] > (real)0 ? dy[i] : dy[i] * slope;
}

UNARY(sigmoid_forward, REAL(sigmoid)(x[i]))
SLOPE(sigmoid_backward, dy[i] * (saved[i] * ((real)1 - saved[i])))
UNARY(tanh_forward, REAL(hyperbolic_tangent)(x[i]))
SLOPE(tanh_backward, dy[i] * ((real)1 - saved[i] * saved[i]))

static void REAL(softplus_forward)(const real *x, real *y, ptrdiff_t n, const void *settings) {
    const real beta = ((const real *)settings)[0], threshold = ((const real *)settings)[1];
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) y[i] = REAL(softplus)(x[i], beta, threshold);
}
static void REAL(softplus_backward)(const real *dy, const real *saved, real *dx, ptrdiff_t n, const void *settings) {
    const real beta = ((const real *)settings)[0], threshold = ((const real *)settings)[1];
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) dx[i] = dy[i] * REAL(softplus_slope)(saved[i], beta, threshold);
}
static void REAL(elu_forward)(const real *x, real *y, ptrdiff_t n, const void *settings) {
    const real alpha = ((const real *)settings)[0];
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) y[i] = REAL(elu)(x[i], alpha);
}
static void REAL(elu_backward)(const real *dy, const real *saved, real *dx, ptrdiff_t n, const void *settings) {
    const real alpha = ((const real *)settings)[0];
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) dx[i] = dy[i] * REAL(elu_slope)(saved[i], alpha);
}

UNARY(gelu_forward, REAL(gelu)(x[i]))
SLOPE(gelu_backward, dy[i] * REAL(gelu_slope)(saved[i]))
UNARY(gelu_tanh_forward, REAL(gelu_tanh)(x[i]))
SLOPE(gelu_tanh_backward, dy[i] * REAL(gelu_tanh_slope)(saved[i]))
UNARY(silu_forward, x[i] * REAL(sigmoid)(x[i]))
SLOPE(silu_backward, dy[i] * REAL(silu_slope)(saved[i]))

/* Softmax: the largest score is taken out of every row first. A nan anywhere makes its row nan, through the sum. */

static real REAL(largest)(const real *x, ptrdiff_t n) {
    real largest = x[0];
    for (ptrdiff_t i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* y = exp(x - largest); returns the sum. */
static double REAL(exponentials)(const real *x, real *y, ptrdiff_t n) {
    const real largest = REAL(largest)(x, n);
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) y[i] = REAL(exponential)(x[i] - largest);
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) sum += (double)y[i];
    return sum;
}

static void REAL(softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, x += length, y += length) {
        const real inverse = (real)(1.0 / REAL(exponentials)(x, y, length));
        VECTOR_LOOP for (ptrdiff_t i = 0; i < length; i++) y[i] = y[i] * inverse;
    }
}

static void REAL(log_softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, x += length, y += length) {
        const real largest = REAL(largest)(x, length);
        double sum = 0;
        for (ptrdiff_t i = 0; i < length; i++) sum += (double)REAL(exponential)(x[i] - largest);
        const real logarithm = (real)log(sum);
        VECTOR_LOOP for (ptrdiff_t i = 0; i < length; i++) y[i] = (x[i] - largest) - logarithm;
    }
}

/* dx = y (dy - <dy, y>) */
static void REAL(softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, dy += length, y += length, dx += length) {
        double product = 0;
        for (ptrdiff_t i = 0; i < length; i++) product += (double)dy[i] * (double)y[i];
        const real mean = (real)product;
        VECTOR_LOOP for (ptrdiff_t i = 0; i < length; i++) dx[i] = y[i] * (dy[i] - mean);
    }
}

/* dx = dy - exp(y) sum(dy) */
static void REAL(log_softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, dy += length, y += length, dx += length) {
        double sum = 0;
        for (ptrdiff_t i = 0; i < length; i++) sum += (double)dy[i];
        const real total = (real)sum;
        VECTOR_LOOP for (ptrdiff_t i = 0; i < length; i++) dx[i] = dy[i] - REAL(exponential)(y[i]) * total;
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
        const double shifted = (double)x[label] - (double)REAL(largest)(x, classes);
        const double sum = REAL(exponentials)(x, slope, classes);
        const real inverse = (real)(1.0 / sum);
        VECTOR_LOOP for (ptrdiff_t i = 0; i < classes; i++) slope[i] = slope[i] * inverse;
        slope[label] -= (real)1;
        loss += log(sum) - shifted;
        count++;
    }
    *counted = count;
    return loss;
}

static double REAL(squared_error)(const real *prediction, const real *target, real *slope, ptrdiff_t n) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real difference = prediction[i] - target[i];
        slope[i] = (real)2 * difference;
        sum += (double)(difference * difference);
    }
    return sum;
}

static void REAL(scale)(const real *x, double factor, real *y, ptrdiff_t n) {
    const real f = (real)factor;
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] * f;
}

static double REAL(sum_of_squares)(const real *x, ptrdiff_t n) {
    double lanes[8] = {0};
    ptrdiff_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) lanes[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < n; i++) lanes[0] += (double)x[i] * (double)x[i];
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
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
                VECTOR_LOOP for (ptrdiff_t j = 0; j < width; j++) sum[j] += line[j];
            }
            VECTOR_LOOP for (ptrdiff_t j = 0; j < width; j++) total[j] += sum[j];
        }
        if (accumulate) VECTOR_LOOP for (ptrdiff_t j = 0; j < width; j++) out[start + j] += total[j];
        else VECTOR_LOOP for (ptrdiff_t j = 0; j < width; j++) out[start + j] = total[j];
    }
}

static void REAL(add_row)(real *y, const real *row, ptrdiff_t rows, ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < rows; i++, y += columns)
        VECTOR_LOOP for (ptrdiff_t j = 0; j < columns; j++) y[j] += row[j];
}

/* The optimisers: one pass, every array read and written once. The formulas are those of minidl/ops/update.py. */

static void REAL(sgd)(real *value, const real *grad, real *buffer, ptrdiff_t n, const minidl_settings *s) {
    const real lr = (real)s->lr, momentum = (real)s->momentum, keep = (real)(1.0 - s->dampening);
    const real decay = (real)s->weight_decay;
    if (buffer == NULL || s->momentum == 0) {
        VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) value[i] -= lr * (grad[i] + decay * value[i]);
        return;
    }
    const real old = s->first_step ? (real)0 : momentum, fresh = s->first_step ? (real)1 : keep;
    if (s->nesterov)
        VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) {
            const real g = grad[i] + decay * value[i];
            const real b = (s->first_step ? (real)0 : old * buffer[i]) + fresh * g;
            buffer[i] = b;
            value[i] -= lr * (g + momentum * b);
        }
    else
        VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) {
            const real b = (s->first_step ? (real)0 : old * buffer[i]) + fresh * (grad[i] + decay * value[i]);
            buffer[i] = b;
            value[i] -= lr * b;
        }
}

static void REAL(adagrad)(real *value, const real *grad, real *square_sum, ptrdiff_t n, const minidl_settings *s) {
    const real lr = (real)(s->lr / (1.0 + (double)(s->step - 1) * s->lr_decay));
    const real eps = (real)s->eps, decay = (real)s->weight_decay;
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) {
        const real g = grad[i] + decay * value[i];
        const real sum = square_sum[i] + g * g;
        square_sum[i] = sum;
        value[i] -= lr * g / (SQRT(sum) + eps);
    }
}

static void REAL(rmsprop)(real *value, const real *grad, real *square_average, real *grad_average, real *buffer,
                          ptrdiff_t n, const minidl_settings *s) {
    const real lr = (real)s->lr, alpha = (real)s->alpha, rest = (real)(1.0 - s->alpha), eps = (real)s->eps;
    const real decay = (real)s->weight_decay, momentum = (real)s->momentum;
    VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) {
        const real g = grad[i] + decay * value[i];
        const real square = alpha * square_average[i] + rest * (g * g);
        square_average[i] = square;
        real variance = square;
        if (grad_average != NULL) {
            const real average = alpha * grad_average[i] + rest * g;
            grad_average[i] = average;
            variance = square - average * average;
            variance = variance < (real)0 ? (real)0 : variance;
        }
        real step = g / (SQRT(variance) + eps);
        if (buffer != NULL) {
            step = momentum * buffer[i] + step;
            buffer[i] = step;
        }
        value[i] -= lr * step;
    }
}

static void REAL(adam)(real *value, const real *grad, real *m, real *v, real *v_max, ptrdiff_t n,
                       const minidl_settings *s) {
    const real beta2 = (real)s->beta2, rest1 = (real)(1.0 - s->beta1), rest2 = (real)(1.0 - s->beta2);
    const real rate = (real)(s->lr / (1.0 - pow(s->beta1, (double)s->step)));
    const real root = (real)sqrt(1.0 - pow(s->beta2, (double)s->step)), eps = (real)s->eps;
    const real shrink = s->decoupled ? (real)(1.0 - s->lr * s->weight_decay) : (real)1;
    const real decay = s->decoupled ? (real)0 : (real)s->weight_decay;
    if (v_max == NULL)
        VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) {
            const real old = value[i] * shrink, g = grad[i] + decay * old;
            const real first = m[i] + rest1 * (g - m[i]), second = beta2 * v[i] + rest2 * (g * g);
            m[i] = first;
            v[i] = second;
            value[i] = old - rate * first / (SQRT(second) / root + eps);
        }
    else
        VECTOR_LOOP for (ptrdiff_t i = 0; i < n; i++) {
            const real old = value[i] * shrink, g = grad[i] + decay * old;
            const real first = m[i] + rest1 * (g - m[i]), second = beta2 * v[i] + rest2 * (g * g);
            const real most = second > v_max[i] ? second : v_max[i];
            m[i] = first;
            v[i] = second;
            v_max[i] = most;
            value[i] = old - rate * first / (SQRT(most) / root + eps);
        }
}

#undef UNARY
#undef SLOPE
