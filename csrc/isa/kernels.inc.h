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

#include "elementwise/activations.inc.h"
#include "loss/softmax.inc.h"
#include "loss/losses.inc.h"
#include "update/updates.inc.h"

static void REAL(scale_all)(const real *x, double factor, real *y, ptrdiff_t n) {
    const VEC f = SPLAT(factor);
    EACH_VECTOR(n, PUT(y, GET(x) * f););
}

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

/* Sums over the rows of `vectors` vectors of columns, each of `left` numbers, in registers. Rows in blocks of 64, each block
 * summed on its own and then added: the rounding error grows with rows / 64 + 64. */
MINIDL_INLINE void REAL(strip_sums)(const real *x, ptrdiff_t rows, ptrdiff_t row_stride, int vectors, ptrdiff_t left,
                                    int accumulate, real *out) {
    enum { MOST = 8, BLOCK = 64 };
    VEC total[MOST];
    MINIDL_UNROLL
    for (int v = 0; v < vectors; v++) total[v] = SPLAT(0);
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
        for (int v = 0; v < vectors; v++) total[v] += sum[v];
    }
    MINIDL_UNROLL
    for (int v = 0; v < vectors; v++) {
        real *const to = out + v * LANES;
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

#include "image/pool.inc.h"
#include "image/resample.inc.h"

#include "norm/norm.inc.h"
#include "norm/norm_rows.inc.h"

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
#undef LOSS
