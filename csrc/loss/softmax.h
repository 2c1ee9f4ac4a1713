/* Softmax and its logarithm, along rows.
 *
 *     softmax               y[i] = exp(x[i] - largest) / sum over j of exp(x[j] - largest)
 *     log_softmax           y[i] = (x[i] - largest) - log(sum over j of exp(x[j] - largest))
 *     softmax_backward      dx[i] = y[i] * (dy[i] - sum over j of dy[j] * y[j])
 *     log_softmax_backward  dx[i] = dy[i] * (1 - exp(y[i])) - exp(y[i]) * sum over j, j != i, of dy[j]
 *
 * where largest is that of the row: no exponential overflows. A nan makes its whole row nan, through the sum. Sums are in double
 * precision; outputs may be the inputs. */
#ifndef MINIDL_SOFTMAX_H
#define MINIDL_SOFTMAX_H

#include <stddef.h>

#include "runtime/isa.h"

/* `rows` rows of `length` elements. */
#define MINIDL_SOFTMAX_TABLE(real)                                                                                         \
    struct {                                                                                                               \
        void (*softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length);                                         \
        void (*log_softmax)(const real *x, real *y, ptrdiff_t rows, ptrdiff_t length);                                     \
        void (*softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length);               \
        void (*log_softmax_backward)(const real *dy, const real *y, real *dx, ptrdiff_t rows, ptrdiff_t length);           \
    }
MINIDL_TABLES(minidl_softmaxes, MINIDL_SOFTMAX_TABLE)

void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length);
void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                             ptrdiff_t length);

#endif
