/* The loops of softmax.h, in the terms of vector/loops.inc.h, and their table. */
#include "loss/softmax.h"

static real REAL(largest_of)(const real *x, ptrdiff_t n) {
    VEC most = SPLAT(-MINIDL_INFINITY);
    EACH_VECTOR(n, most = REAL(most)(GET_OR(x, -MINIDL_INFINITY), most););
    return REAL(largest)(most);
}

/* y = exp(x - largest); returns the sum. y may be NULL. */
static double REAL(exponentials)(const real *x, real largest, real *y, ptrdiff_t n) {
    const VEC shift = SPLAT(largest);
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(n, {
        const VEC e = REAL(decay)(GET_OR(x, -MINIDL_INFINITY) - shift);
        if (y != NULL) PUT(y, e);
        REAL(add_wide)(sum, e);
    });
    return REAL(total)(sum);
}

/* The same, but returns the sum without one of the largest, whose exponential is 1: what log1p wants, and all that is left of a
 * row that is as good as certain. Whatever else rounds to 1 is counted exactly. */
static double REAL(exponentials_but_one)(const real *x, real largest, real *y, ptrdiff_t n) {
    const VEC shift = SPLAT(largest), one = SPLAT(1), zero = SPLAT(0);
    vec_f64 sum[REAL(WIDE)] = {splat_f64(0)}, ones[REAL(WIDE)] = {splat_f64(0)};
    EACH_VECTOR(n, {
        const VEC e = REAL(decay)(GET_OR(x, -MINIDL_INFINITY) - shift);
        const VEC small = REAL(select)(REAL(less)(e, one), e, zero);
        if (y != NULL) PUT(y, e);
        REAL(add_wide)(sum, small);
        REAL(add_wide)(ones, e - small);
    });
    return REAL(total)(sum) + (REAL(total)(ones) - 1.0);
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
        const VEC shift = SPLAT(largest), logarithm = SPLAT(log1p(REAL(exponentials_but_one)(x, largest, NULL, length)));
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

/* dx = -dy (exp(y) - 1) - exp(y) (the sum of the other dy) */
static void REAL(log_softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length) {
    for (ptrdiff_t row = 0; row < rows; row++, dy += length, y += length, dx += length) {
        vec_f64 sum[REAL(WIDE)] = {splat_f64(0)};
        EACH_VECTOR(length, REAL(add_wide)(sum, GET(dy)););
        const VEC total = SPLAT(REAL(total)(sum));
        EACH_VECTOR(length, {
            VEC less_one;
            const VEC p = REAL(decay_and_less_one)(GET(y), &less_one);
            const VEC g = GET(dy);
            PUT(dx, -(p * (total - g)) - g * less_one);
        });
    }
}

const REAL(minidl_softmaxes) TABLE(minidl_softmaxes) = {
    .softmax = REAL(softmax),
    .log_softmax = REAL(log_softmax),
    .softmax_backward = REAL(softmax_backward),
    .log_softmax_backward = REAL(log_softmax_backward),
};
