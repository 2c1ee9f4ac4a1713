/* Batch normalisation, in the terms of vector/loops.inc.h: each function does a range of channels. Besides norm/moments.inc.h it
 * uses column_sums (reduce/sums.inc.h) and scale_all (elementwise/scale.inc.h). */

/* Channels that lie apart: segments of `positions` elements. */

static void REAL(batch_norm_apart)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, step = s->channels * n;
    for (ptrdiff_t c = from; c < to; c++) {
        const real *const x = (const real *)s->x + c * n;
        real *const y = (real *)s->y + c * n, *const mean = (real *)s->mean + c, *const var = (real *)s->variance + c;
        double variance = (double)*var;
        if (s->own_statistics) {
            moments m = {0, 0, 0};
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
static void REAL(batch_norm_slopes)(const minidl_batch_normalization *s, ptrdiff_t c, double sum, double product, double *a,
                                    double *k, double *scale) {
    const double inverse = 1 / sqrt((double)((const real *)s->variance)[c] + s->eps), w = REAL(gain)(s->weight, c);
    const double count = (double)s->images * (double)s->positions;
    if (s->dbias != NULL) {
        real *const dbias = (real *)s->dbias + c;
        *dbias = (s->add_bias ? *dbias : 0) + (real)sum;
    }
    if (s->dweight != NULL) {
        real *const dweight = (real *)s->dweight + c;
        *dweight = (s->add_weight ? *dweight : 0) + (real)(product * inverse);
    }
    *a = s->own_statistics ? sum / count : 0;
    *k = s->own_statistics ? product * inverse * inverse / count : 0;
    *scale = s->own_statistics ? inverse * w + (w - w) : inverse * w;
}

static void REAL(batch_norm_backward_apart)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, step = s->channels * n;
    for (ptrdiff_t c = from; c < to; c++) {
        const real *const x = (const real *)s->x + c * n, *const dy = (const real *)s->dy + c * n;
        real *const dx = (real *)s->dx + c * n;
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

/* Of each of `width` columns the sums over rows of g and of g (x - mean), in blocks; g is dy, or x - mean itself if dy is NULL. */
MINIDL_INLINE void REAL(column_products)(const real *dy, const real *x, ptrdiff_t rows, ptrdiff_t step, const real *mean,
                                         ptrdiff_t width, real *sums, real *products) {
    real lost_sums[REAL(COLUMNS)], lost_products[REAL(COLUMNS)];
    for (ptrdiff_t i = 0; i < width; i++) sums[i] = products[i] = lost_sums[i] = lost_products[i] = 0;
    for (ptrdiff_t block = 0; block < rows; block += REAL(ROWS)) {
        const ptrdiff_t stop = block + REAL(ROWS) < rows ? block + REAL(ROWS) : rows;
        EACH_VECTOR(width, {
            const VEC m = GET(mean);
            VEC a = SPLAT(0);
            VEC b = SPLAT(0);
            for (ptrdiff_t row = block; row < stop; row++) {
                const VEC d = GET(x + row * step) - m;
                const VEC g = dy == NULL ? d : GET(dy + row * step);
                a = a + g;
                b = REAL(madd)(g, d, b);
            }
            VEC sum = GET(sums);
            VEC lost = GET(lost_sums);
            REAL(add_part)(&sum, &lost, a);
            PUT(sums, sum);
            PUT(lost_sums, lost);
            sum = GET(products), lost = GET(lost_products);
            REAL(add_part)(&sum, &lost, b);
            PUT(products, sum);
            PUT(lost_products, lost);
        });
    }
    REAL(add_lost)(sums, lost_sums, width);
    REAL(add_lost)(products, lost_products, width);
}

static void REAL(column_moments)(const real *x, ptrdiff_t rows, ptrdiff_t step, const minidl_batch_normalization *s,
                                 ptrdiff_t count, double *mean, double *variance) {
    const ptrdiff_t width = count * s->positions;
    const double n = (double)rows * (double)s->positions;
    real sums[REAL(COLUMNS)], squares[REAL(COLUMNS)], shift[REAL(COLUMNS)];
    REAL(column_sums)(x, rows, width, step, 0, sums);
    for (ptrdiff_t c = 0; c < count; c++) mean[c] = REAL(sum_of_few)(sums + c * s->positions, s->positions) / n;
    REAL(spread_out)(mean, count, s->positions, shift);
    REAL(column_products)(NULL, x, rows, step, shift, width, sums, squares);
    for (ptrdiff_t c = 0; c < count; c++) {
        const double sum = REAL(sum_of_few)(sums + c * s->positions, s->positions);
        const moments m = {n, 0, squares_about_mean(REAL(sum_of_few)(squares + c * s->positions, s->positions), sum, n)};
        if (isfinite(mean[c])) mean[c] = (double)shift[c * s->positions] + sum / n;
        variance[c] = REAL(variance)(&m);
    }
}

static void REAL(batch_norm_beside)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to) {
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

static void REAL(batch_norm_backward_beside)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, step = s->channels * n, most = REAL(COLUMNS) / n;
    for (ptrdiff_t first = from; first < to; first += most) {
        const ptrdiff_t count = to - first < most ? to - first : most, width = count * n;
        const real *const x = (const real *)s->x + first * n, *const dy = (const real *)s->dy + first * n;
        real *const dx = (real *)s->dx + first * n;
        double each[REAL(COLUMNS)], a[REAL(COLUMNS)], k[REAL(COLUMNS)], scale[REAL(COLUMNS)];
        real m[REAL(COLUMNS)], sums[REAL(COLUMNS)], products[REAL(COLUMNS)], factors[REAL(COLUMNS)];
        for (ptrdiff_t c = 0; c < count; c++) each[c] = (double)((const real *)s->mean)[first + c];
        REAL(spread_out)(each, count, n, m);
        REAL(column_products)(dy, x, s->images, step, m, width, sums, products);
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

static void REAL(batch_norm)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to) {
    if (s->positions < MINIDL_FEW_POSITIONS) REAL(batch_norm_beside)(s, from, to);
    else REAL(batch_norm_apart)(s, from, to);
}

static void REAL(batch_norm_backward)(const minidl_batch_normalization *s, ptrdiff_t from, ptrdiff_t to) {
    if (s->positions < MINIDL_FEW_POSITIONS) REAL(batch_norm_backward_beside)(s, from, to);
    else REAL(batch_norm_backward_apart)(s, from, to);
}
