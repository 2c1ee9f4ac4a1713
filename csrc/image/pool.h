/* Poolings over windows of an image. Output (p, q) sees the pixels of its window:
 *
 *     for (i = 0; i < kernel rows; i++)
 *         for (j = 0; j < kernel columns; j++)
 *             x[p * stride - padding + i * dilation][q * stride - padding + j * dilation]      where that is in the image
 *
 *     max          y = the largest of them, or the first nan; won = i * kernel columns + j, where it was
 *                  backward: dx[the pixel that won] += dy
 *     avg          y = their sum / the window's area;     backward: dx[each of them] += dy / area
 *     adaptive     the mean, or the maximum and its place in the image, u * columns + v, over window number p of `outputs`: rows floor(p * size / outputs) to ceil((p + 1) * size / outputs)
 */
#ifndef MINIDL_POOL_H
#define MINIDL_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/isa.h"

/* Windows along an axis of `size` pixels. Adaptive ones read only size and outputs. */
typedef struct {
    ptrdiff_t size, outputs, kernel, stride, padding, dilation;
} minidl_window_axis;
typedef struct {
    minidl_window_axis rows, columns;
    int padding_counts; /* in the area that a mean divides by */
} minidl_pool_windows;

enum {
    MINIDL_MAX_POOL, MINIDL_AVG_POOL, MINIDL_ADAPTIVE_POOL, MINIDL_MAX_POOL_BACKWARD, MINIDL_AVG_POOL_BACKWARD,
    MINIDL_ADAPTIVE_POOL_BACKWARD, MINIDL_POOLS
};

/* `won` is the maximum's, NULL for the others. */
#define MINIDL_POOL_TABLE(real)                                                                                            \
    struct {                                                                                                               \
        void (*pool[MINIDL_POOLS])(const real *from, unsigned char *won, real *to, ptrdiff_t images,                       \
                                   const minidl_pool_windows *windows);                                                    \
        void (*adaptive_max)(const real *x, int64_t *places, real *y, ptrdiff_t images, const minidl_pool_windows *windows); \
        void (*scatter)(const real *dy, const int64_t *places, real *dx, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out);   \
    }
MINIDL_TABLES(minidl_pools, MINIDL_POOL_TABLE)

/* A pooling of images of `in` elements to images of `out`. */
void minidl_pooling(int is_double, int op, const void *from, void *won, void *to, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out,
                    const minidl_pool_windows *windows);
void minidl_adaptive_max(int is_double, const void *x, int64_t *places, void *y, ptrdiff_t images,
                         const minidl_pool_windows *windows);
/* Back: dx becomes 0, and each of `in` dy of an image is added to the pixel of `out` where its maximum was. */
void minidl_scatter(int is_double, const void *dy, const int64_t *places, void *dx, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out);

#endif
