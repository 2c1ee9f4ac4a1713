/* The loops of prelu.h, in the terms of vector/loops.inc.h, and their table. The formula is that of the leaky rectifier. */
#include "elementwise/prelu.h"

static void REAL(prelu_run)(const real *x, real slope, real *y, ptrdiff_t n) {
    const VEC w = SPLAT(slope);
    EACH_VECTOR(n, PUT(y, REAL(leaky_relu_forward)(GET(x), w, w)););
}

static void REAL(prelu_row)(const real *x, const real *slopes, real *y, ptrdiff_t n) {
    EACH_VECTOR(n, {
        const VEC w = GET(slopes);
        PUT(y, REAL(leaky_relu_forward)(GET(x), w, w));
    });
}

/* What one element adds to dweight. */
MINIDL_INLINE VEC REAL(prelu_term)(VEC g, VEC x) { return REAL(select)(REAL(less)(SPLAT(0), x), SPLAT(0), g * x); }

static double REAL(prelu_backward_run)(const real *dy, const real *x, real slope, real *dx, int with_sum, ptrdiff_t n) {
    enum { BLOCK = 1024 };
    const VEC w = SPLAT(slope);
    double sum = 0;
    for (ptrdiff_t start = 0; with_sum && start < n; start += BLOCK) {
        const ptrdiff_t length = n - start < BLOCK ? n - start : BLOCK;
        vec_f64 wide[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(length, REAL(add_wide)(wide, REAL(prelu_term)(GET(dy + start), GET(x + start))););
        sum += REAL(total)(wide);
        if (dx != NULL) EACH_VECTOR(length, PUT(dx + start, REAL(leaky_relu_backward)(GET(dy + start), GET(x + start), w, w)););
    }
    if (!with_sum) EACH_VECTOR(n, PUT(dx, REAL(leaky_relu_backward)(GET(dy), GET(x), w, w)););
    return sum;
}

/* dweight in blocks of rows, each summed on its own and then added as a part (reduce/sums.inc.h). `sums` takes it in its first row
 * of columns; the next is that of the block under way, the last what the sums have lost. */
static void REAL(prelu_backward_rows)(const real *dy, const real *x, const real *slopes, real *dx, real *sums, ptrdiff_t rows,
                                      ptrdiff_t columns) {
    enum { BLOCK = 64 };
    real *const block = sums == NULL ? NULL : sums + columns;
    for (ptrdiff_t i = 0; sums != NULL && i < MINIDL_PRELU_ROWS_OF_SUMS * columns; i++) sums[i] = 0;
    for (ptrdiff_t row = 0; row < rows; row++) {
        const real *const g = dy + row * columns, *const line = x + row * columns;
        if (sums != NULL) EACH_VECTOR(columns, PUT(block, GET(block) + REAL(prelu_term)(GET(g), GET(line))););
        if (sums != NULL && (row % BLOCK == BLOCK - 1 || row == rows - 1))
            REAL(add_and_clear)(sums, block + columns, block, columns);
        if (dx != NULL)
            EACH_VECTOR(columns, {
                const VEC w = GET(slopes);
                PUT(dx + row * columns, REAL(leaky_relu_backward)(GET(g), GET(line), w, w));
            });
    }
    if (sums != NULL) REAL(add_lost)(sums, block + columns, columns);
}

const REAL(minidl_prelus) TABLE(minidl_prelus) = {
    .run = REAL(prelu_run),
    .row = REAL(prelu_row),
    .backward_run = REAL(prelu_backward_run),
    .backward_rows = REAL(prelu_backward_rows),
};
