/* Convolutions over pictures (N, C, H, W), their adjoints in the image and in the kernel; docs/convolution.md tells how.
 *
 *     slide     y[n, o, h, w] = sum of W[o, c, i, j] x[n, c, h s + i d - p, w s + j d - p], and what comes after
 *     spread    the adjoint in x:  takes g like y to dx like x, and adds b[c] if there is one
 *     gradient  the adjoint in W:  dW[o, c, i, j] = sum of g[n, o, h, w] x[n, c, h s + i d - p, w s + j d - p]
 *
 * Arrays are dense, in C order. The same inputs with the same number of threads give the same bits. */
#ifndef MINIDL_CONV_H
#define MINIDL_CONV_H

#include <stddef.h>

/* Sizes along rows and columns; channels are those of one group. Padding is only what comes before, the rest follows. */
typedef struct {
    ptrdiff_t images, groups, in, out;
    ptrdiff_t image[2], kernel[2], output[2], stride[2], dilation[2], padding[2];
} minidl_windows;

/* What happens to the sums before they leave the cache: y = activation(scale[o] sum + bias[o] + residual). Members may be NULL. */
typedef struct {
    const void *scale, *bias; /* (O,) */
    const void *residual;     /* like y */
    int activation;           /* one of kernels.h, or -1 */
    double settings[2];
} minidl_conv_after;

/* All return 0, or -1 where memory was missing. */
int minidl_conv_slide(int is_double, const minidl_windows *w, const void *x, const void *weight, const minidl_conv_after *after,
                      void *y);
int minidl_conv_spread(int is_double, const minidl_windows *w, const void *g, const void *weight, const void *bias, void *dx);
int minidl_conv_gradient(int is_double, const minidl_windows *w, const void *x, const void *g, int accumulate, void *dweight);

#endif
