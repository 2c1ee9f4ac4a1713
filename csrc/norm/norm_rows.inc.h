/* Layer, root-mean-square and group normalisation; part of kernels.inc.h. Each function does a range of rows: of examples, or
 * of the groups of channels of all examples. A row is read from memory once and is in the cache when it is read again. */

/* In the precision of x, for what is short or need not be exact. */
#define QUICK_SUM(name, add)                                                                                               \
    static double REAL(name)(const real *x, ptrdiff_t n) {                                                                 \
        VEC sum[4] = {SPLAT(0), SPLAT(0), SPLAT(0), SPLAT(0)};                                                             \
        ptrdiff_t start = 0;                                                                                               \
        for (; start + 4 * LANES <= n; start += 4 * LANES) {                                                               \
            MINIDL_UNROLL                                                                                                  \
            for (int k = 0; k < 4; k++) {                                                                                  \
                const VEC v = LOAD(x + start + k * LANES);                                                                 \
                sum[k] = add(v, sum[k]);                                                                                   \
            }                                                                                                              \
        }                                                                                                                  \
        EACH_VECTOR(n - start, {                                                                                           \
            const VEC v = GET(x + start);                                                                                  \
            sum[0] = add(v, sum[0]);                                                                                       \
        });                                                                                                                \
        return REAL(sum_of_lanes)((sum[0] + sum[1]) + (sum[2] + sum[3]));                                                  \
    }
#define PLAIN(v, sum) ((sum) + (v))
#define SQUARE(v, sum) REAL(madd)(v, v, sum)
QUICK_SUM(quick_sum, PLAIN)
QUICK_SUM(quick_squares, SQUARE)
#undef QUICK_SUM
#undef PLAIN
#undef SQUARE

/* The mean and the variance of x in two passes, the second about `near`, a mean that the first one found with little care; what
 * that lacks the second makes good. */
static void REAL(moments_about)(const real *x, ptrdiff_t n, real near, double *mean, double *variance) {
    enum { BLOCK = 2048 };
    const double count = (double)n;
    double sum = 0, squares = 0;
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        double a, b;
        REAL(shifted_sums)(x + start, n - start < BLOCK ? n - start : BLOCK, near, &a, &b);
        sum += a, squares += b;
    }
    const minidl_moments m = {count, 0, squares - sum * (sum / count)};
    *mean = isfinite(near) ? (double)near + sum / count : (double)near;
    *variance = REAL(variance)(&m);
}

/* The moments of rows that follow one another. A row that does not stay in the cache is read once. */
MINIDL_INLINE void REAL(row_moments)(const real *x, ptrdiff_t n, int rows, double *mean, double *variance) {
    enum { RESIDENT = 65536 };
    if (n > RESIDENT) {
        for (int k = 0; k < rows; k++) {
            minidl_moments m = {0, 0, 0};
            REAL(add_moments)(&m, x + k * n, n);
            mean[k] = m.mean, variance[k] = REAL(variance)(&m);
        }
        return;
    }
    for (int k = 0; k < rows; k++) mean[k] = REAL(quick_sum)(x + k * n, n) / (double)n;
    for (int k = 0; k < rows; k++) REAL(moments_about)(x + k * n, n, (real)mean[k], mean + k, variance + k);
}

static double REAL(mean_square)(const real *x, ptrdiff_t n) {
    enum { BLOCK = 2048 };
    double total = 0;
    for (ptrdiff_t start = 0; start < n; start += BLOCK)
        total += REAL(quick_squares)(x + start, n - start < BLOCK ? n - start : BLOCK);
    return total / (double)n;
}

/* Rows of `positions` numbers, a weight for each position; without own_statistics no mean is taken out. */
enum { REAL(BESIDE) = 4 };

MINIDL_INLINE void REAL(rows_forward)(const minidl_norm *s, ptrdiff_t row, int rows) {
    const ptrdiff_t n = s->positions;
    const real *const x = (const real *)s->x + row * n, *const weight = s->weight, *const bias = s->bias;
    real *const y = (real *)s->y + row * n;
    double mean[REAL(BESIDE)], variance[REAL(BESIDE)];
    VEC m[REAL(BESIDE)], r[REAL(BESIDE)];
    if (s->own_statistics) REAL(row_moments)(x, n, rows, mean, variance);
    else
        for (int k = 0; k < rows; k++) mean[k] = 0, variance[k] = REAL(mean_square)(x + k * n, n);
    for (int k = 0; k < rows; k++) {
        const double inverse = 1 / sqrt(variance[k] + s->eps);
        m[k] = SPLAT(mean[k]), r[k] = SPLAT(inverse);
        ((real *)s->inverse)[row + k] = (real)inverse;
        if (s->own_statistics) ((real *)s->mean)[row + k] = (real)mean[k];
    }
    EACH_VECTOR(n, {
        const VEC w = weight != NULL ? GET(weight) : SPLAT(1);
        const VEC b = bias != NULL ? GET(bias) : SPLAT(-0.0); /* which leaves the sign of a zero alone */
        MINIDL_UNROLL
        for (int k = 0; k < rows; k++) PUT(y + k * n, REAL(madd)((GET(x + k * n) - m[k]) * r[k], w, b));
    });
}

/* Several rows at once where they are short or all of them in the cache: none waits for the sums of another, and the weights
 * are read once for all. From memory one stream is faster than four. */
static void REAL(norm_rows)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    enum { SHORT_ROW = 64, CACHED = 1 << 19 };
    const ptrdiff_t n = s->positions;
    ptrdiff_t row = from;
    if (n <= SHORT_ROW || n * (to - from) * (ptrdiff_t)sizeof(real) <= CACHED)
        for (; row + REAL(BESIDE) <= to; row += REAL(BESIDE)) REAL(rows_forward)(s, row, REAL(BESIDE));
    for (; row < to; row++) REAL(rows_forward)(s, row, 1);
}

/* dx of one row, and its share of the gradients of weight and bias, added to where they are not NULL. */
static void REAL(row_backward)(const minidl_norm *s, ptrdiff_t row, real *dweight, real *dbias) {
    enum { BLOCK = 1024 };
    const ptrdiff_t n = s->positions;
    const real *const weight = s->weight, mean = s->own_statistics ? ((const real *)s->mean)[row] : 0;
    const VEC m = SPLAT(mean), r = SPLAT(((const real *)s->inverse)[row]), one = SPLAT(1);
    double sum = 0, product = 0;
    for (ptrdiff_t start = 0; start < n; start += BLOCK) {
        const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;
        const real *const x = (const real *)s->x + row * n + start, *const dy = (const real *)s->dy + row * n + start;
        VEC a = SPLAT(0), b = SPLAT(0);
        EACH_VECTOR(length, {
            const VEC upstream = GET(dy);
            const VEC x_hat = (GET_OR(x, mean) - m) * r;
            const VEC g = upstream * (weight != NULL ? GET(weight + start) : one);
            a = a + g;
            b = REAL(madd)(g, x_hat, b);
            if (dweight != NULL) PUT(dweight + start, REAL(madd)(upstream, x_hat, GET(dweight + start)));
            if (dbias != NULL) PUT(dbias + start, GET(dbias + start) + upstream);
        });
        sum += REAL(sum_of_lanes)(a), product += REAL(sum_of_lanes)(b);
    }
    const VEC own = SPLAT(s->own_statistics ? sum / (double)n : 0), slope = SPLAT(product / (double)n);
    const real *const x = (const real *)s->x + row * n, *const dy = (const real *)s->dy + row * n;
    real *const dx = (real *)s->y + row * n;
    if (weight != NULL) EACH_VECTOR(n, PUT(dx, r * ((GET(dy) * GET(weight) - own) - (GET(x) - m) * r * slope)););
    else EACH_VECTOR(n, PUT(dx, r * ((GET(dy) - own) - (GET(x) - m) * r * slope)););
}

static void REAL(add_and_clear)(real *sum, real *part, ptrdiff_t n) {
    const VEC zero = SPLAT(0);
    EACH_VECTOR(n, {
        PUT(sum, GET(sum) + GET(part));
        PUT(part, zero);
    });
}

/* `scratch`, NULL if neither is wanted, takes the gradients of weight and bias in its first two rows of n numbers; the next two
 * are those of the block of rows that is being summed. */
static void REAL(norm_rows_backward)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to, void *scratch) {
    const ptrdiff_t n = s->positions;
    real *const sums = scratch;
    real *const dweight = s->dweight == NULL ? NULL : sums + 2 * n, *const dbias = s->dbias == NULL ? NULL : sums + 3 * n;
    if (sums != NULL)
        for (ptrdiff_t i = 0; i < 4 * n; i++) sums[i] = 0;
    for (ptrdiff_t block = from; block < to; block += REAL(ROWS)) {
        const ptrdiff_t stop = block + REAL(ROWS) < to ? block + REAL(ROWS) : to;
        for (ptrdiff_t row = block; row < stop; row++) REAL(row_backward)(s, row, dweight, dbias);
        if (dweight != NULL) REAL(add_and_clear)(sums, dweight, n);
        if (dbias != NULL) REAL(add_and_clear)(sums + n, dbias, n);
    }
}

/* Groups of channels of one example: row r is group r % groups of example r / groups. */

static void REAL(group_norm)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, channels = s->channels / s->groups;
    for (ptrdiff_t row = from; row < to; row++) {
        const ptrdiff_t first = row % s->groups * channels;
        const real *const x = (const real *)s->x + row * channels * n;
        real *const y = (real *)s->y + row * channels * n;
        double mean, variance;
        REAL(row_moments)(x, channels * n, 1, &mean, &variance);
        const double inverse = 1 / sqrt(variance + s->eps);
        ((real *)s->mean)[row] = (real)mean, ((real *)s->inverse)[row] = (real)inverse;
        for (ptrdiff_t c = 0; c < channels; c++)
            REAL(normalise)(x + c * n, mean, inverse * REAL(gain)(s->weight, first + c), REAL(offset)(s->bias, first + c),
                            y + c * n, n);
    }
}

/* The sums of dy w and of dy w (x - mean): from those without w, but of every product where w is not finite. */
static void REAL(add_weighted)(const real *dy, const real *x, double mean, double w, ptrdiff_t n, double sum, double product,
                               double *a, double *k) {
    if (isfinite(w)) {
        *a += w * sum, *k += w * product;
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        const double g = (double)dy[i] * w;
        *a += g, *k += g * ((double)x[i] - mean);
    }
}

/* Leaves in s->sums, for each channel of each example, the sums of dy and of dy x_hat. */
static void REAL(group_norm_backward)(const minidl_norm *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, channels = s->channels / s->groups, size = channels * n;
    for (ptrdiff_t row = from; row < to; row++) {
        const ptrdiff_t first = row % s->groups * channels;
        const real *const x = (const real *)s->x + row * size, *const dy = (const real *)s->dy + row * size;
        real *const dx = (real *)s->y + row * size;
        double *const sums = s->sums + 2 * row * channels;
        const double mean = (double)((const real *)s->mean)[row], inverse = (double)((const real *)s->inverse)[row];
        double a = 0, k = 0;
        for (ptrdiff_t c = 0; c < channels; c++) {
            double sum = 0, product = 0;
            REAL(add_gradient_sums)(dy + c * n, x + c * n, mean, n, &sum, &product);
            REAL(add_weighted)(dy + c * n, x + c * n, mean, REAL(gain)(s->weight, first + c), n, sum, product, &a, &k);
            sums[2 * c] = sum, sums[2 * c + 1] = product * inverse;
        }
        for (ptrdiff_t c = 0; c < channels; c++)
            REAL(through_statistics)(dy + c * n, x + c * n, mean, REAL(gain)(s->weight, first + c), a / (double)size,
                                     k * inverse * inverse / (double)size, inverse, dx + c * n, n);
    }
}
