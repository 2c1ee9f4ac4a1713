/* The loop of dropout.h, in the terms of vector/loops.inc.h, and its table. */
#include "elementwise/dropout.h"

static void REAL(dropout)(const real *x, const float *uniform, const unsigned char *mask, float p, double factor, real *scale,
                          real *y, ptrdiff_t n) {
    const real kept = (real)factor;
    if (uniform != NULL)
        for (ptrdiff_t i = 0; i < n; i++) scale[i] = uniform[i] >= p ? kept : (real)0;
    else
        for (ptrdiff_t i = 0; i < n; i++) scale[i] = mask[i] ? kept : (real)0;
    EACH_VECTOR(n, PUT(y, GET(x) * GET(scale)););
}

const REAL(minidl_dropouts) TABLE(minidl_dropouts) = {.dropout = REAL(dropout)};
