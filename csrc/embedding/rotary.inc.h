/* The loops of rotary.h, in the terms of vector/loops.inc.h, and their table. */
#include "embedding/rotary.h"

static void REAL(turn_halves)(const real *x, const real *cosines, const real *sines, real sign, real *y, ptrdiff_t pairs) {
    const real *const other = x + pairs;
    real *const y_other = y + pairs;
    EACH_VECTOR(pairs, {
        const VEC a = GET(x);
        const VEC b = GET(other);
        const VEC c = GET(cosines);
        const VEC s = GET(sines) * SPLAT(sign);
        PUT(y, c * a - s * b);
        PUT(y_other, s * a + c * b);
    });
}

static void REAL(turn_neighbours)(const real *x, const real *cosines, const real *sines, real sign, real *y, ptrdiff_t pairs) {
    ptrdiff_t i = 0;
    for (; LANES > 1 && i + LANES <= pairs; i += LANES) {
        const VEC low = LOAD(x + 2 * i), high = LOAD(x + 2 * i + LANES);
        const VEC a = REAL(even)(low, high), b = REAL(odd)(low, high), c = LOAD(cosines + i), s = LOAD(sines + i) * SPLAT(sign);
        const VEC y_a = c * a - s * b, y_b = s * a + c * b;
        STORE(y + 2 * i, REAL(zip_low)(y_a, y_b));
        STORE(y + 2 * i + LANES, REAL(zip_high)(y_a, y_b));
    }
    for (; i < pairs; i++) {
        const real a = x[2 * i], b = x[2 * i + 1], c = cosines[i], s = sines[i] * sign;
        y[2 * i] = c * a - s * b;
        y[2 * i + 1] = s * a + c * b;
    }
}

const REAL(minidl_rotations) TABLE(minidl_rotations) = {.turn = {REAL(turn_halves), REAL(turn_neighbours)}};
