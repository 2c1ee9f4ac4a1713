/* The loops of scale.h, in the terms of vector/loops.inc.h, and their table. */
#include "elementwise/scale.h"

static void REAL(scale_all)(const real *x, double factor, real *y, ptrdiff_t n) {
    const VEC f = SPLAT(factor);
    EACH_VECTOR(n, PUT(y, GET(x) * f););
}

static void REAL(multiply_all)(const real *a, const real *b, real *y, ptrdiff_t n) { EACH_VECTOR(n, PUT(y, GET(a) * GET(b));); }

const REAL(minidl_scaling) TABLE(minidl_scaling) = {.scale = REAL(scale_all), .multiply = REAL(multiply_all)};
