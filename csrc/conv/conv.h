/* Convolutions of feature maps (N, C, H, W), and their adjoints in the input and in the kernel; docs/convolution.md tells how.
 *
 *     slide: the convolution. spread: its adjoint in the input, which takes g like y to dx like x.
 *     gradient: its adjoint in the kernel.
 *
 *     for (n = 0; n < images; n++)
 *         for (o = 0; o < out; o++)   for (h = 0; h < output[0]; h++)   for (w = 0; w < output[1]; w++)
 *             for (c = 0; c < in; c++)   for (i = 0; i < kernel[0]; i++)   for (j = 0; j < kernel[1]; j++) {
 *                 u = h * stride + i * dilation - padding;   v = w * stride + j * dilation - padding;       if inside x:
 *                 y[n][o][h][w] += W[o][c][i][j] * x[n][c][u][v];            slide, and what comes after
 *                 dx[n][c][u][v] += W[o][c][i][j] * g[n][o][h][w];           spread, which begins at b[c] if there is a bias
 *                 dW[o][c][i][j] += g[n][o][h][w] * x[n][c][u][v];           gradient
 *             }
 *
 * Arrays are dense, in C order. The same inputs with the same number of threads give the same bits. */
#ifndef MINIDL_CONV_H
#define MINIDL_CONV_H

#include <stddef.h>

/* Sizes along rows and columns; channels are those of one group. Padding is only what comes before, the rest follows. */
typedef struct {
    ptrdiff_t images, groups, in, out;
    ptrdiff_t image[2], kernel[2], output[2], stride[2], dilation[2], padding[2]; /* the last three below 2^31 */
    int threads; /* asked once, because their number may change at any time */
} minidl_windows;

/* What happens to the sums before they leave the cache: y = activation(scale[o] sum + bias[o] + residual). Members may be NULL. */
typedef struct {
    const void *scale, *bias; /* (O,) */
    const void *residual;     /* like y */
    int activation;           /* one of elementwise/activations.h, or -1 */
    double settings[2];
} minidl_conv_after;

/* All return 0, or -1 where memory was missing. */
int minidl_conv_slide(int is_double, const minidl_windows *w, const void *x, const void *weight, const minidl_conv_after *after,
                      void *y);
int minidl_conv_spread(int is_double, const minidl_windows *w, const void *g, const void *weight, const void *bias, void *dx);
int minidl_conv_gradient(int is_double, const minidl_windows *w, const void *x, const void *g, int accumulate, void *dweight);

#endif
