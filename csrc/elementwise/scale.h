/* Products of one element at a time.
 *
 *     scale      for (i = 0; i < n; i++) y[i] = x[i] * factor;
 *     rows       for (r = 0; r < rows; r++)
 *                    for (i = 0; i < n; i++) y[r][i] = x[r][i] * factors[r];
 *     multiply   for (i = 0; i < n; i++) y[i] = a[i] * b[i];
 *
 * Outputs may be the inputs. */
#ifndef MINIDL_SCALE_H
#define MINIDL_SCALE_H

#include <stddef.h>

#include "runtime/isa.h"

#define MINIDL_SCALE_TABLE(real)                                                                                           \
    struct {                                                                                                               \
        void (*scale)(const real *x, double factor, real *y, ptrdiff_t n);                                                 \
        void (*multiply)(const real *a, const real *b, real *y, ptrdiff_t n);                                              \
    }
MINIDL_TABLES(minidl_scaling, MINIDL_SCALE_TABLE)

void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n);
void minidl_scale_rows(int is_double, const void *x, const void *factors, void *y, ptrdiff_t rows, ptrdiff_t n);
void minidl_multiply(int is_double, const void *a, const void *b, void *y, ptrdiff_t n);

#endif
