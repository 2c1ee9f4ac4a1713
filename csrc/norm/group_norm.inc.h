/* Group normalisation, in the terms of vector/loops.inc.h: each function does a range of the groups of all images. A group is
 * read from memory once and is in the cache when it is read again. */

/* Groups of channels of one example: row r is group r % groups of example r / groups. */

static void REAL(group_norm)(const minidl_group_normalization *s, ptrdiff_t from, ptrdiff_t to) {
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

/* Leaves in s->channel_sums, for each channel of each example, the sums of dy and of dy x_hat. */
static void REAL(group_norm_backward)(const minidl_group_normalization *s, ptrdiff_t from, ptrdiff_t to) {
    const ptrdiff_t n = s->positions, channels = s->channels / s->groups, size = channels * n;
    for (ptrdiff_t row = from; row < to; row++) {
        const ptrdiff_t first = row % s->groups * channels;
        const real *const x = (const real *)s->x + row * size, *const dy = (const real *)s->dy + row * size;
        real *const dx = (real *)s->dx + row * size;
        double *const sums = s->channel_sums + 2 * row * channels;
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
