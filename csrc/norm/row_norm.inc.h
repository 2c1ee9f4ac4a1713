/* Layer and root-mean-square normalisation, in the terms of vector/loops.inc.h: each function does a range of rows. A row is read
 * from memory once and is in the cache when it is read again. */

enum { REAL(BESIDE) = 4 };

MINIDL_INLINE void REAL(rows_forward)(const minidl_row_normalization *s, ptrdiff_t row, int rows) {
    const ptrdiff_t n = s->length;
    const real *const x = (const real *)s->x + row * n, *const weight = s->weight, *const bias = s->bias;
    real *const y = (real *)s->y + row * n;
    double mean[REAL(BESIDE)], variance[REAL(BESIDE)];
    VEC m[REAL(BESIDE)], r[REAL(BESIDE)];
    if (s->mean != NULL) REAL(row_moments)(x, n, rows, mean, variance);
    else
        for (int k = 0; k < rows; k++) mean[k] = 0, variance[k] = REAL(mean_square)(x + k * n, n);
    for (int k = 0; k < rows; k++) {
        const double inverse = 1 / sqrt(variance[k] + s->eps);
        m[k] = SPLAT(mean[k]), r[k] = SPLAT(inverse);
        ((real *)s->inverse)[row + k] = (real)inverse;
        if (s->mean != NULL) ((real *)s->mean)[row + k] = (real)mean[k];
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
static void REAL(row_norm)(const minidl_row_normalization *s, ptrdiff_t from, ptrdiff_t to) {
    enum { SHORT_ROW = 64, CACHED = 1 << 19 };
    const ptrdiff_t n = s->length;
    ptrdiff_t row = from;
    if (n <= SHORT_ROW || n * (to - from) * (ptrdiff_t)sizeof(real) <= CACHED)
        for (; row + REAL(BESIDE) <= to; row += REAL(BESIDE)) REAL(rows_forward)(s, row, REAL(BESIDE));
    for (; row < to; row++) REAL(rows_forward)(s, row, 1);
}

/* dx of one row, and its share of the gradients of weight and bias, added to where they are not NULL. */
static void REAL(row_backward)(const minidl_row_normalization *s, ptrdiff_t row, real *dweight, real *dbias) {
    enum { BLOCK = 1024 };
    const ptrdiff_t n = s->length;
    const real *const weight = s->weight, mean = s->mean != NULL ? ((const real *)s->mean)[row] : 0;
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
    const VEC own = SPLAT(s->mean != NULL ? sum / (double)n : 0), slope = SPLAT(product / (double)n);
    const real *const x = (const real *)s->x + row * n, *const dy = (const real *)s->dy + row * n;
    real *const dx = (real *)s->dx + row * n;
    if (weight != NULL) EACH_VECTOR(n, PUT(dx, r * ((GET(dy) * GET(weight) - own) - (GET(x) - m) * r * slope)););
    else EACH_VECTOR(n, PUT(dx, r * ((GET(dy) - own) - (GET(x) - m) * r * slope)););
}

/* `sums`, NULL if neither is wanted, takes the gradients of weight and bias in its first two rows of n elements; the next two
 * are those of the block of rows that is being summed, the last two what the sums have lost. */
static void REAL(row_norm_backward)(const minidl_row_normalization *s, ptrdiff_t from, ptrdiff_t to, real *sums) {
    const ptrdiff_t n = s->length;
    real *const dweight = s->dweight == NULL ? NULL : sums + 2 * n, *const dbias = s->dbias == NULL ? NULL : sums + 3 * n;
    if (sums != NULL)
        for (ptrdiff_t i = 0; i < MINIDL_ROWS_OF_SUMS * n; i++) sums[i] = 0;
    for (ptrdiff_t block = from; block < to; block += REAL(ROWS)) {
        const ptrdiff_t stop = block + REAL(ROWS) < to ? block + REAL(ROWS) : to;
        for (ptrdiff_t row = block; row < stop; row++) REAL(row_backward)(s, row, dweight, dbias);
        if (dweight != NULL) REAL(add_and_clear)(sums, sums + 4 * n, dweight, n);
        if (dbias != NULL) REAL(add_and_clear)(sums + n, sums + 5 * n, dbias, n);
    }
    if (sums != NULL) REAL(add_lost)(sums, sums + 4 * n, 2 * n);
}
