/* Batch normalisation; part of kernels.inc.h. Each function does a range of channels. Arrays of `s` have the precision of x.
 *
 * The mean and the squared differences from it are taken in one pass over memory: T. Chan, G. Golub, R. LeVeque, "Updating
 * formulae and a pairwise algorithm for computing sample variances" (1979), block by block, each block's numbers less the mean
 * of all before (of the first block: less its own). The sum of squares of a block then exceeds what it adds to the total at most
 * by a factor of two, so that nothing is lost however far the mean is from 0. */

static double REAL(sum_of_lanes)(VEC v) {
    vec_f64 wide[REAL(WIDE)] = {splat_f64(0)};
    REAL(add_wide)(wide, v);
    return REAL(total)(wide);
}

static void REAL(shifted_sums)(const real *x, ptrdiff_t n, real shift, double *sum, double *squares) {
    const VEC c = SPLAT(shift);
    VEC a[4] = {SPLAT(0), SPLAT(0), SPLAT(0), SPLAT(0)}, b[4] = {SPLAT(0), SPLAT(0), SPLAT(0), SPLAT(0)};
    ptrdiff_t start = 0;
    for (; start + 4 * LANES <= n; start += 4 * LANES) {
        MINIDL_UNROLL
        for (int k = 0; k < 4; k++) {
            const VEC d = LOAD(x + start + k * LANES) - c;
            a[k] = a[k] + d;
            b[k] = REAL(madd)(d, d, b[k]);
        }
    }
    EACH_VECTOR(n - start, {
        const VEC d = GET_OR(x + start, shift) - c;
        a[0] = a[0] + d;
        b[0] = REAL(madd)(d, d, b[0]);
    });
    *sum = REAL(sum_of_lanes)((a[0] + a[1]) + (a[2] + a[3]));
    *squares = REAL(sum_of_lanes)((b[0] + b[1]) + (b[2] + b[3]));
}

static void REAL(add_moments)(minidl_moments *m, const real *x, ptrdiff_t n) {
    enum { BLOCK = 512 };
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;
        const double weight = (double)length, before = m->count;
        const real shift = (real)(before > 0 ? m->mean : REAL(sum_of_all)(x + start, length) / weight);
        if (!isfinite(shift)) { /* the mean as the formula's, inf or nan, and no variance */
            m->mean += REAL(sum_of_all)(x + start, length), m->squares = MINIDL_NAN;
            continue;
        }
        double sum, squares;
        REAL(shifted_sums)(x + start, length, shift, &sum, &squares);
        const double delta = ((double)shift - m->mean) + sum / weight;
        m->count = before + weight;
        m->mean += delta * (weight / m->count);
        m->squares += (squares - sum * (sum / weight)) + delta * delta * (before * weight / m->count);
    }
}

static double REAL(variance)(const minidl_moments *m) { return m->squares < 0 ? 0 : m->squares / m->count; }

static void REAL(normalise)(const real *x, double mean, double scale, double shift, real *y, ptrdiff_t n) {
    const VEC m = SPLAT(mean), s = SPLAT(scale), b = SPLAT(shift);
    EACH_VECTOR(n, PUT(y, REAL(madd)(GET(x) - m, s, b)););
}

/* The sums of dy and of dy (x - mean), added to. */
static void REAL(add_gradient_sums)(const real *dy, const real *x, double mean, ptrdiff_t n, double *sum, double *product) {
    enum { BLOCK = 1024 };
    const VEC m = SPLAT(mean);
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;
        const real *const upstream = dy + start, *const from = x + start;
        VEC a = SPLAT(0), b = SPLAT(0);
        EACH_VECTOR(length, {
            const VEC g = GET(upstream);
            a = a + g;
            b = REAL(madd)(g, GET_OR(from, (real)mean) - m, b);
        });
        *sum += REAL(sum_of_lanes)(a);
        *product += REAL(sum_of_lanes)(b);
    }
}

/* dx = scale ((dy w - a) - (x - mean) k) */
static void REAL(through_statistics)(const real *dy, const real *x, double mean, double weight, double a, double k,
                                     double scale, real *dx, ptrdiff_t n) {
    const VEC m = SPLAT(mean), w = SPLAT(weight), own = SPLAT(a), slope = SPLAT(k), s = SPLAT(scale);
    EACH_VECTOR(n, PUT(dx, s * ((GET(dy) * w - own) - (GET(x) - m) * slope)););
}

static double REAL(gain)(const void *weight, ptrdiff_t c) { return weight == NULL ? 1.0 : (double)((const real *)weight)[c]; }
static double REAL(offset)(const void *bias, ptrdiff_t c) { return bias == NULL ? 0.0 : (double)((const real *)bias)[c]; }

/* Channels that lie apart: segments of `positions` numbers. */

static void REAL(batch_norm_apart)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, step = s->channels * n;
    for (ptrdiff_t c = from; c < to; c++) {
        const real *const x = (const real *)s->x + c * n;
        real *const y = (real *)s->y + c * n, *const mean = (real *)s->mean + c, *const var = (real *)s->variance + c;
        double variance = (double)*var;
        if (s->own_statistics) {
            minidl_moments m = {0, 0, 0};
            for (ptrdiff_t i = 0; i < s->images; i++) REAL(add_moments)(&m, x + i * step, n);
            variance = REAL(variance)(&m);
            *mean = (real)m.mean, *var = (real)variance;
        }
        const double scale = REAL(gain)(s->weight, c) / sqrt(variance + s->eps), shift = REAL(offset)(s->bias, c);
        for (ptrdiff_t i = 0; i < s->images; i++)
            REAL(normalise)(x + i * step, (double)*mean, scale, shift, y + i * step, n);
    }
}

/* What dx takes besides the sums of a channel. A weight that is not finite leaves nothing of dx, as in the formula, whose
 * means are then not finite. */
static void REAL(batch_norm_slopes)(const minidl_norm *s, ptrdiff_t c, double sum, double product, double *a, double *k,
                                    double *scale) {
    const double inverse = 1 / sqrt((double)((const real *)s->variance)[c] + s->eps), w = REAL(gain)(s->weight, c);
    const double count = (double)s->images * (double)s->positions;
    if (s->dbias != NULL) ((real *)s->dbias)[c] = (real)sum;
    if (s->dweight != NULL) ((real *)s->dweight)[c] = (real)(product * inverse);
    *a = s->own_statistics ? sum / count : 0;
    *k = s->own_statistics ? product * inverse * inverse / count : 0;
    *scale = s->own_statistics ? inverse * w + (w - w) : inverse * w;
}

static void REAL(batch_norm_backward_apart)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, step = s->channels * n;
    for (ptrdiff_t c = from; c < to; c++) {
        const real *const x = (const real *)s->x + c * n, *const dy = (const real *)s->dy + c * n;
        real *const dx = (real *)s->y + c * n;
        const double mean = (double)((const real *)s->mean)[c];
        double sum = 0, product = 0, a, k, scale;
        for (ptrdiff_t i = 0; i < s->images; i++)
            REAL(add_gradient_sums)(dy + i * step, x + i * step, mean, n, &sum, &product);
        REAL(batch_norm_slopes)(s, c, sum, product, &a, &k, &scale);
        for (ptrdiff_t i = 0; i < s->images; i++) {
            if (s->own_statistics)
                REAL(through_statistics)(dy + i * step, x + i * step, mean, 1, a, k, scale, dx + i * step, n);
            else REAL(scale_all)(dy + i * step, scale, dx + i * step, n);
        }
    }
}

/* Channels of few positions: side by side, a vector of memory holds several. Of each column the same is done; those of one
 * channel are put together in between. */

enum { REAL(COLUMNS) = 256, REAL(ROWS) = 64 };

static void REAL(spread_out)(const double *each, ptrdiff_t count, ptrdiff_t positions, real *columns) {
    for (ptrdiff_t c = 0; c < count; c++)
        for (ptrdiff_t i = 0; i < positions; i++) columns[c * positions + i] = (real)each[c];
}

static double REAL(sum_of_few)(const real *x, ptrdiff_t n) {
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) sum += (double)x[i];
    return sum;
}

static void REAL(column_moments)(const real *x, ptrdiff_t rows, ptrdiff_t step, const minidl_norm *s, ptrdiff_t count,
                                 double *mean, double *variance) {
    const ptrdiff_t width = count * s->positions;
    const double n = (double)rows * (double)s->positions;
    real sums[REAL(COLUMNS)], squares[REAL(COLUMNS)] = {0}, shift[REAL(COLUMNS)];
    REAL(column_sums)(x, rows, width, step, 0, sums);
    for (ptrdiff_t c = 0; c < count; c++) mean[c] = REAL(sum_of_few)(sums + c * s->positions, s->positions) / n;
    REAL(spread_out)(mean, count, s->positions, shift);
    for (ptrdiff_t i = 0; i < width; i++) sums[i] = 0;
    for (ptrdiff_t block = 0; block < rows; block += REAL(ROWS)) {
        const ptrdiff_t stop = block + REAL(ROWS) < rows ? block + REAL(ROWS) : rows;
        EACH_VECTOR(width, {
            const VEC m = GET(shift);
            VEC a = SPLAT(0);
            VEC b = SPLAT(0);
            for (ptrdiff_t row = block; row < stop; row++) {
                const VEC d = GET(x + row * step) - m;
                a = a + d;
                b = REAL(madd)(d, d, b);
            }
            PUT(sums, GET(sums) + a);
            PUT(squares, GET(squares) + b);
        });
    }
    for (ptrdiff_t c = 0; c < count; c++) {
        const double sum = REAL(sum_of_few)(sums + c * s->positions, s->positions);
        const minidl_moments m = {n, 0, REAL(sum_of_few)(squares + c * s->positions, s->positions) - sum * (sum / n)};
        if (isfinite(mean[c])) mean[c] = (double)shift[c * s->positions] + sum / n;
        variance[c] = REAL(variance)(&m);
    }
}

static void REAL(batch_norm_beside)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, step = s->channels * n, most = REAL(COLUMNS) / n;
    for (ptrdiff_t first = from; first < to; first += most) {
        const ptrdiff_t count = to - first < most ? to - first : most, width = count * n;
        const real *const x = (const real *)s->x + first * n;
        real *const y = (real *)s->y + first * n, *const means = (real *)s->mean + first;
        real *const variances = (real *)s->variance + first;
        double mean[REAL(COLUMNS)], scale[REAL(COLUMNS)], shift[REAL(COLUMNS)];
        real m[REAL(COLUMNS)], w[REAL(COLUMNS)], b[REAL(COLUMNS)];
        if (s->own_statistics) REAL(column_moments)(x, s->images, step, s, count, mean, scale);
        for (ptrdiff_t c = 0; c < count; c++) {
            if (s->own_statistics) means[c] = (real)mean[c], variances[c] = (real)scale[c];
            else mean[c] = (double)means[c], scale[c] = (double)variances[c];
            scale[c] = REAL(gain)(s->weight, first + c) / sqrt(scale[c] + s->eps);
            shift[c] = REAL(offset)(s->bias, first + c);
        }
        REAL(spread_out)(mean, count, n, m);
        REAL(spread_out)(scale, count, n, w);
        REAL(spread_out)(shift, count, n, b);
        for (ptrdiff_t row = 0; row < s->images; row++) {
            const real *const in = x + row * step;
            real *const out = y + row * step;
            EACH_VECTOR(width, PUT(out, REAL(madd)(GET(in) - GET(m), GET(w), GET(b))););
        }
    }
}

static void REAL(column_gradient_sums)(const real *dy, const real *x, ptrdiff_t rows, ptrdiff_t step, const real *mean,
                                       ptrdiff_t width, real *sums, real *products) {
    for (ptrdiff_t i = 0; i < width; i++) sums[i] = products[i] = 0;
    for (ptrdiff_t block = 0; block < rows; block += REAL(ROWS)) {
        const ptrdiff_t stop = block + REAL(ROWS) < rows ? block + REAL(ROWS) : rows;
        EACH_VECTOR(width, {
            const VEC m = GET(mean);
            VEC a = SPLAT(0);
            VEC b = SPLAT(0);
            for (ptrdiff_t row = block; row < stop; row++) {
                const VEC g = GET(dy + row * step);
                a = a + g;
                b = REAL(madd)(g, GET(x + row * step) - m, b);
            }
            PUT(sums, GET(sums) + a);
            PUT(products, GET(products) + b);
        });
    }
}

static void REAL(batch_norm_backward_beside)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, step = s->channels * n, most = REAL(COLUMNS) / n;
    for (ptrdiff_t first = from; first < to; first += most) {
        const ptrdiff_t count = to - first < most ? to - first : most, width = count * n;
        const real *const x = (const real *)s->x + first * n, *const dy = (const real *)s->dy + first * n;
        real *const dx = (real *)s->y + first * n;
        double each[REAL(COLUMNS)], a[REAL(COLUMNS)], k[REAL(COLUMNS)], scale[REAL(COLUMNS)];
        real m[REAL(COLUMNS)], sums[REAL(COLUMNS)], products[REAL(COLUMNS)], factors[REAL(COLUMNS)];
        for (ptrdiff_t c = 0; c < count; c++) each[c] = (double)((const real *)s->mean)[first + c];
        REAL(spread_out)(each, count, n, m);
        REAL(column_gradient_sums)(dy, x, s->images, step, m, width, sums, products);
        for (ptrdiff_t c = 0; c < count; c++)
            REAL(batch_norm_slopes)(s, first + c, REAL(sum_of_few)(sums + c * n, n), REAL(sum_of_few)(products + c * n, n),
                                    &a[c], &k[c], &scale[c]);
        REAL(spread_out)(a, count, n, sums);
        REAL(spread_out)(k, count, n, products);
        REAL(spread_out)(scale, count, n, factors);
        for (ptrdiff_t row = 0; row < s->images; row++) {
            const real *const upstream = dy + row * step, *const in = x + row * step;
            real *const out = dx + row * step;
            if (s->own_statistics)
                EACH_VECTOR(width, PUT(out, GET(factors) * ((GET(upstream) - GET(sums)) -
                                                            (GET(in) - GET(m)) * GET(products))););
            else EACH_VECTOR(width, PUT(out, GET(upstream) * GET(factors)););
        }
    }
}

static void REAL(batch_norm)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    if (s->positions < MINIDL_FEW_POSITIONS) REAL(batch_norm_beside)(s, from, to);
    else REAL(batch_norm_apart)(s, from, to);
}

static void REAL(batch_norm_backward)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    if (s->positions < MINIDL_FEW_POSITIONS) REAL(batch_norm_backward_beside)(s, from, to);
    else REAL(batch_norm_backward_apart)(s, from, to);
}
