/* Softmax and the losses on it; part of kernels.inc.h. The largest score is taken out of every row first. A nan anywhere makes
 * its row nan, through the sum. */

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

/* One row of cross-entropy with class index `label`, class weights w (all 1 if NULL) and label smoothing e:
 *
 *     q_k = w_k ((1 - e) [k = label] + e / K),   loss = -sum q_k log p_k,   slope_k = p_k sum(q) - q_k
 *
 * where log p_k = x_k - largest - log(sum of exp(x - largest)). `mass` is the sum of w. */
static double REAL(cross_entropy_row)(const real *x, ptrdiff_t label, const real *weight, double mass, double smoothing,
                                      real *slope, ptrdiff_t classes) {
    const real largest = REAL(largest_of)(x, classes);
    const double own = (1.0 - smoothing) * (weight == NULL ? 1.0 : (double)weight[label]), share = smoothing / (double)classes;
    const double sum = REAL(exponentials)(x, largest, slope, classes), logarithm = log(sum);
    double loss = own == 0.0 ? 0.0 : own * (logarithm - ((double)x[label] - (double)largest));
    const VEC scale = SPLAT((own + share * mass) / sum);
    if (share == 0.0) {
        EACH_VECTOR(classes, PUT(slope, GET(slope) * scale););
    } else {
        const VEC shift = SPLAT(largest), part = SPLAT(share), zero = SPLAT(0);
        vec_f64 weighted[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(classes, {
            VEC w = SPLAT(1);
            if (weight != NULL) w = GET(weight);
            const VEC term = w * (GET_OR(x, largest) - shift);
            REAL(add_wide)(weighted, REAL(select)(REAL(less)(zero, REAL(absolute)(w)), term, zero)); /* 0 times -inf is 0 */
            PUT(slope, GET(slope) * scale - part * w);
        });
        loss += share * (mass * logarithm - REAL(total)(weighted));
    }
    slope[label] -= (real)own;
    return loss;
}

/* All rows; those of ignore_index count for nothing. Returns the sum of the losses, and in *divisor the sum of the weights of
 * the classes met. `each`, if not NULL, takes the loss of every row. */
static double REAL(cross_entropy)(const real *x, const minidl_targets *t, ptrdiff_t first, real *slope, real *each,
                                  ptrdiff_t rows, ptrdiff_t classes, double *divisor) {
    const real *const weight = t->weight;
    double total = 0, mass = (double)classes, met = 0;
    if (weight != NULL) {
        mass = 0;
        for (ptrdiff_t i = 0; i < classes; i++) mass += (double)weight[i];
    }
    for (ptrdiff_t row = 0; row < rows; row++, x += classes, slope += classes) {
        const int64_t label = t->labels[first + row];
        double loss = 0;
        if (label == t->ignore_index) {
            for (ptrdiff_t i = 0; i < classes; i++) slope[i] = 0;
        } else {
            loss = REAL(cross_entropy_row)(x, (ptrdiff_t)label, weight, mass, t->smoothing, slope, classes);
            met += weight == NULL ? 1.0 : (double)weight[label];
        }
        if (each != NULL) each[row] = (real)loss;
        total += loss;
    }
    *divisor = met;
    return total;
}
