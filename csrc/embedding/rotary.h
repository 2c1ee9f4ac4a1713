/* Rotary positions: pairs of features, turned by the angles of their position.
 *
 *     for each row x of D features, with the R cosines and sines of its position:
 *         for (i = 0; i < R; i++) {
 *             a = i, b = i + R;                               or a = 2 i, b = 2 i + 1 if interleaved
 *             y[a] = cos[i] * x[a] - sin[i] * x[b];
 *             y[b] = sin[i] * x[a] + cos[i] * x[b];
 *         }
 *         for (i = 2 * R; i < D; i++) y[i] = x[i];
 *
 * backward turns by the opposite angle: sin[i] becomes -sin[i]. y may be x. Heads are read where they lie, in a joint projection for
 * instance. Threads share the rows; no bit depends on how. */
#ifndef MINIDL_ROTARY_H
#define MINIDL_ROTARY_H

#include <stddef.h>

#include "runtime/isa.h"

enum { MINIDL_ROTARY_AXES = 3 }; /* of rows: batch, heads, positions */

/* An array by its steps, in elements; its last axis has no gaps. Steps may be 0 in the tables. */
typedef struct {
    void *at;
    ptrdiff_t step[MINIDL_ROTARY_AXES];
} minidl_turned_rows;

typedef struct {
    minidl_turned_rows x, y, cosines, sines;
    ptrdiff_t shape[MINIDL_ROTARY_AXES], size, pairs;
    int interleaved, back;
} minidl_rotation;

/* One row. */
#define MINIDL_ROTARY_TABLE(real)                                                                                          \
    struct {                                                                                                               \
        void (*turn[2])(const real *x, const real *cosines, const real *sines, real sign, real *y, ptrdiff_t pairs);       \
    }
MINIDL_TABLES(minidl_rotations, MINIDL_ROTARY_TABLE)

void minidl_turn(int is_double, const minidl_rotation *r);

#endif
