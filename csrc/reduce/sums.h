/* Sums.
 *
 *     sum_of_all, sum_of_squares    for (i = 0; i < n; i++) sum += x[i];   or sum += x[i] * x[i];    in double precision
 *     column_sums                   for (i = 0; i < rows; i++)
 *                                       for (j = 0; j < columns; j++) out[j] += x[i * row_stride + j];
 *     channel_sums                  for (n = 0; n < images; n++)
 *                                       for (c = 0; c < channels; c++)
 *                                           for (i = 0; i < positions; i++) out[c] += x[n][c][i];
 *
 * The sums of columns and channels begin at 0, or at what is in `out` if they accumulate. All are summed in blocks, and the sums
 * of blocks in double precision or with what rounding loses, so that the error does not grow with the number of terms. */
#ifndef MINIDL_SUMS_H
#define MINIDL_SUMS_H

#include <stddef.h>

#include "runtime/isa.h"

#define MINIDL_SUM_TABLE(real)                                                                                             \
    struct {                                                                                                               \
        double (*sum_of_all)(const real *x, ptrdiff_t n);                                                                  \
        double (*sum_of_squares)(const real *x, ptrdiff_t n);                                                              \
        void (*column_sums)(const real *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride, int accumulate,        \
                            real *out);                                                                                    \
    }
MINIDL_TABLES(minidl_sums, MINIDL_SUM_TABLE)

double minidl_sum_of_squares(int is_double, const void *x, ptrdiff_t n);
/* Whether there is no inf or nan in x, and no sum of its elements leaves the range. */
int minidl_finite(int is_double, const void *x, ptrdiff_t n);
void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride, int accumulate,
                        void *out);
void minidl_channel_sums(int is_double, const void *x, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions, int accumulate,
                         void *out);

#endif
