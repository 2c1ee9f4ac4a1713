/* Padding and upsampling of images, and their adjoints.
 *
 *     pad        y[h][w] = x[h - before][w - before] inside; outside value, or x[from[h]][from[w]]: its reflection, say
 *     upsample   for (h = 0; h < rows.after; h++)
 *                    for (w = 0; w < columns.after; w++)
 *                        y[h][w] = (1 - s) * ((1 - t) * x[top][left] + t * x[top][right])
 *                                    + s * ((1 - t) * x[bottom][left] + t * x[bottom][right]);
 *                top, bottom, s are those of row h: rows.left[h], rows.right[h], rows.part[h]; left, right, t those of column w.
 *                Nearest: s = t = 0.
 *     backward   every y[h][w] was a sum of pixels times weights; dy[h][w] is added to the same pixels with the same weights
 */
#ifndef MINIDL_RESAMPLE_H
#define MINIDL_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/isa.h"

/* An axis that is padded: so many elements before and after, each a copy of element from[i] of x, or a constant where that is
 * NULL. */
typedef struct {
    ptrdiff_t size, before, after;
    const int32_t *from;
} minidl_padded;
typedef struct {
    minidl_padded rows, columns;
    double value;
} minidl_padding;

/* An axis that is resampled: pixel i of y is pixel left[i] of x, or lies part[i] of the way from there to right[i]. `part`, in the
 * precision of the kernel, is NULL where pixels are repeated. */
typedef struct {
    ptrdiff_t before, after;
    const int32_t *left, *right;
    const void *part;
} minidl_resampled;
typedef struct {
    minidl_resampled rows, columns;
    int linear; /* along the columns */
} minidl_resampling;

/* `space` has room for two rows of y. */
#define MINIDL_RESAMPLE_TABLE(real)                                                                                        \
    struct {                                                                                                               \
        void (*pad)(const real *x, real *y, ptrdiff_t images, const minidl_padding *s);                                    \
        void (*pad_backward)(const real *dy, real *dx, ptrdiff_t images, const minidl_padding *s);                         \
        void (*upsample)(const real *x, real *y, ptrdiff_t images, const minidl_resampling *s, real *space);               \
        void (*upsample_backward)(const real *dy, real *dx, ptrdiff_t images, const minidl_resampling *s, real *space);    \
    }
MINIDL_TABLES(minidl_resamplers, MINIDL_RESAMPLE_TABLE)

void minidl_pad(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_padding *s);
/* -1 where memory is missing. */
int minidl_upsample(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_resampling *s);

#endif
