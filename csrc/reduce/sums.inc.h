/* The loops of sums.h, in the terms of vector/loops.inc.h, and their table. */
#include "reduce/sums.h"

/* Sums in double precision and in blocks, as the column sums below, so that the error does not grow with n where vectors are
 * narrow. */
#define BLOCKED_SUM(name, add)                                                                                             \
    static double REAL(name)(const real *x, ptrdiff_t n) {                                                                 \
        enum { BLOCK = 1024 };                                                                                             \
        double total = 0;                                                                                                  \
        for (ptrdiff_t start = 0; start < n; start += BLOCK) {                                                             \
            const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;                                                \
            vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};                                                                      \
            EACH_VECTOR(length, REAL(add)(sum, GET(x + start)););                                                          \
            total += REAL(total)(sum);                                                                                     \
        }                                                                                                                  \
        return total;                                                                                                      \
    }
BLOCKED_SUM(sum_of_squares, add_wide_squares)
BLOCKED_SUM(sum_of_all, add_wide)
#undef BLOCKED_SUM

/* Add a part to a sum, and what the addition rounds off to `lost`: O. Moller, "Quasi double-precision in floating point addition"
 * (1965). Parts of so many terms that this costs nothing, such as blocks of 64 rows, make sums whose error does not grow with
 * their length. */
MINIDL_INLINE void REAL(add_part)(VEC *sum, VEC *lost, VEC part) {
    const VEC next = *sum + part;
    const VEC added = next - *sum;
    *lost = *lost + ((*sum - (next - added)) + (part - added));
    *sum = next;
}

/* The sum with what was lost, which is nan where the sum is not finite. */
MINIDL_INLINE VEC REAL(whole_sum)(VEC sum, VEC lost) {
    return REAL(select)(REAL(less)(REAL(absolute)(sum), SPLAT(MINIDL_INFINITY)), sum + lost, sum);
}

/* The same for n sums in memory: add the parts and clear them, and put what was lost to the sums. */
static void REAL(add_and_clear)(real *sum, real *lost, real *part, ptrdiff_t n) {
    const VEC zero = SPLAT(0);
    EACH_VECTOR(n, {
        VEC total = GET(sum);
        VEC rest = GET(lost);
        REAL(add_part)(&total, &rest, GET(part));
        PUT(sum, total);
        PUT(lost, rest);
        PUT(part, zero);
    });
}

static void REAL(add_lost)(real *sum, const real *lost, ptrdiff_t n) {
    EACH_VECTOR(n, PUT(sum, REAL(whole_sum)(GET(sum), GET(lost))););
}

/* Sums over the rows of `vectors` vectors of columns, each of `left` elements, in registers. Rows in blocks of 64, each block
 * summed on its own and then added as a part. */
MINIDL_INLINE void REAL(strip_sums)(const real *x, ptrdiff_t rows, ptrdiff_t row_stride, int vectors, ptrdiff_t left,
                                    int accumulate, real *out) {
    enum { MOST = 8, BLOCK = 64 };
    VEC total[MOST], lost[MOST];
    MINIDL_UNROLL
    for (int v = 0; v < vectors; v++) total[v] = lost[v] = SPLAT(0);
    for (ptrdiff_t block = 0; block < rows; block += BLOCK) {
        const ptrdiff_t stop = block + BLOCK < rows ? block + BLOCK : rows;
        VEC sum[MOST];
        MINIDL_UNROLL
        for (int v = 0; v < vectors; v++) sum[v] = SPLAT(0);
        for (ptrdiff_t row = block; row < stop; row++) {
            const real *const line = x + row * row_stride;
            MINIDL_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[v] += left == LANES ? LOAD(line + v * LANES) : REAL(load_part)(line + v * LANES, left, 0);
        }
        MINIDL_UNROLL
        for (int v = 0; v < vectors; v++) REAL(add_part)(&total[v], &lost[v], sum[v]);
    }
    MINIDL_UNROLL
    for (int v = 0; v < vectors; v++) {
        real *const to = out + v * LANES;
        total[v] = REAL(whole_sum)(total[v], lost[v]);
        if (accumulate) total[v] += left == LANES ? LOAD(to) : REAL(load_part)(to, left, 0);
        if (left == LANES) STORE(to, total[v]);
        else REAL(store_part)(to, total[v], left);
    }
}

static void REAL(column_sums)(const real *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride, int accumulate,
                              real *out) {
    enum { WIDE_STRIP = 8 };
    ptrdiff_t at = 0;
    for (; at + WIDE_STRIP * LANES <= columns; at += WIDE_STRIP * LANES)
        REAL(strip_sums)(x + at, rows, row_stride, WIDE_STRIP, LANES, accumulate, out + at);
    for (; at + LANES <= columns; at += LANES) REAL(strip_sums)(x + at, rows, row_stride, 1, LANES, accumulate, out + at);
    if (at < columns) REAL(strip_sums)(x + at, rows, row_stride, 1, columns - at, accumulate, out + at);
}

const REAL(minidl_sums) TABLE(minidl_sums) = {
    .sum_of_all = REAL(sum_of_all),
    .sum_of_squares = REAL(sum_of_squares),
    .column_sums = REAL(column_sums),
};
