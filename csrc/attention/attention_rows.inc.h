/* What attention does to one row of a tile, in the terms of vector/loops.inc.h. */

/* Return the largest of x, at least `least`. */
static real REAL(row_largest)(const real *x, real least, ptrdiff_t n) {
    VEC most = SPLAT(least);
    EACH_VECTOR(n, most = REAL(most)(GET_OR(x, least), most););
    return REAL(largest)(most);
}

/* x becomes exp(x - shift); return the sum. */
static double REAL(row_exponentials)(real *x, real shift, ptrdiff_t n) {
    const VEC by = SPLAT(shift);
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(n, {
        const VEC e = REAL(decay)(GET_OR(x, -MINIDL_INFINITY) - by);
        PUT(x, e);
        REAL(add_wide)(sum, e);
    });
    return REAL(total)(sum);
}

/* dz = p (dp - delta) scale, in the place of dp. */
static void REAL(row_gradients)(const real *p, real *dp, real delta, real scale, ptrdiff_t n) {
    const VEC d = SPLAT(delta), f = SPLAT(scale);
    EACH_VECTOR(n, PUT(dp, GET(p) * (GET(dp) - d) * f););
}

static void REAL(row_scale)(real *x, real factor, ptrdiff_t n) {
    const VEC f = SPLAT(factor);
    EACH_VECTOR(n, PUT(x, GET(x) * f););
}

static double REAL(row_product)(const real *x, const real *y, ptrdiff_t n) {
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(n, REAL(add_wide)(sum, GET(x) * GET(y)););
    return REAL(total)(sum);
}

/* Whether all rows are finite: 0 times a number is 0, but of inf and nan it is nan. */
static int REAL(rows_finite)(const real *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t step) {
    const VEC zero = SPLAT(0);
    VEC sum = zero;
    for (ptrdiff_t row = 0; row < rows; row++) EACH_VECTOR(n, sum = sum + GET(x + row * step) * zero;);
    real lanes[LANES], total = 0;
    STORE(lanes, sum);
    for (int lane = 0; lane < LANES; lane++) total += lanes[lane];
    return total == 0;
}
