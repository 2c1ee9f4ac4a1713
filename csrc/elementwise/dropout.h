/* Dropout: each element is kept with probability 1 - p and scaled by 1 / (1 - p), or becomes 0.
 *
 *     for (i = 0; i < n; i++) {
 *         scale[i] = uniform[i] >= p ? 1 / (1 - p) : 0;      or mask[i] ? 1 / (1 - p) : 0
 *         y[i] = x[i] * scale[i];
 *     }
 *
 * backward: dx = dy * scale, minidl_multiply of scale.h. The uniform numbers are those of NumPy's generator, in its order; each
 * thread makes its own share of them. */
#ifndef MINIDL_DROPOUT_H
#define MINIDL_DROPOUT_H

#include <stddef.h>

#include "runtime/isa.h"
#include "runtime/pcg64.h"

/* One of `uniform` and `mask` is NULL. */
#define MINIDL_DROPOUT_TABLE(real)                                                                                         \
    struct {                                                                                                               \
        void (*dropout)(const real *x, const float *uniform, const unsigned char *mask, float p, double factor,            \
                        real *scale, real *y, ptrdiff_t n);                                                                \
    }
MINIDL_TABLES(minidl_dropouts, MINIDL_DROPOUT_TABLE)

/* One of `random`, from which the numbers are made, `uniform`, numbers made already, and `mask` is not NULL. */
void minidl_dropout(int is_double, const void *x, const minidl_pcg64 *random, const float *uniform, const void *mask, double p,
                    void *scale, void *y, ptrdiff_t n);

#endif
