/* Rectification with a slope for each channel that is learned.
 *
 *     for (n = 0; n < images; n++)
 *         for (c = 0; c < channels; c++)
 *             for (i = 0; i < positions; i++)
 *                 y[n][c][i] = x[n][c][i] > 0 ? x[n][c][i] : x[n][c][i] * weight[c];
 *
 * backward, in the same loops:
 *
 *                 dx[n][c][i] = x[n][c][i] > 0 ? dy[n][c][i] : dy[n][c][i] * weight[c];
 *                 dweight[c] += x[n][c][i] > 0 ? 0 : dy[n][c][i] * x[n][c][i];
 *
 * where dweight begins at 0, or at what is there if it accumulates. One slope for all elements is one channel of one image. dx and
 * dweight may be NULL. Outputs may be the inputs. */
#ifndef MINIDL_PRELU_H
#define MINIDL_PRELU_H

#include <stddef.h>

#include "runtime/isa.h"

typedef struct {
    const void *x, *dy, *weight;
    void *y, *dx, *dweight;
    ptrdiff_t images, channels, positions;
    int accumulate;
} minidl_prelu_arrays;

/* A run of elements has one slope, in a row each element has its own. backward_run returns dweight; backward_rows writes it to the
 * first row of `sums`, which has MINIDL_PRELU_ROWS_OF_SUMS of them, or is NULL where nobody wants it. */
enum { MINIDL_PRELU_ROWS_OF_SUMS = 3 };
#define MINIDL_PRELU_TABLE(real)                                                                                           \
    struct {                                                                                                               \
        void (*run)(const real *x, real slope, real *y, ptrdiff_t n);                                                      \
        void (*row)(const real *x, const real *slopes, real *y, ptrdiff_t n);                                              \
        double (*backward_run)(const real *dy, const real *x, real slope, real *dx, int with_sum, ptrdiff_t n);            \
        void (*backward_rows)(const real *dy, const real *x, const real *slopes, real *dx, real *sums, ptrdiff_t rows,     \
                              ptrdiff_t columns);                                                                          \
    }
MINIDL_TABLES(minidl_prelus, MINIDL_PRELU_TABLE)

void minidl_prelu(int is_double, const minidl_prelu_arrays *s);
int minidl_prelu_backward(int is_double, const minidl_prelu_arrays *s); /* -1 where memory is short */

#endif
