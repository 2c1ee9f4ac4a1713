/* Convolutions with 3 x 3 kernels in single precision by S. Winograd's minimal filtering; docs/convolution.md derives it. A tile of
 * 4 x 4 results takes 36 multiplications for each pair of channels, where the sum as it stands takes 144.
 *
 *     Y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A        d: 6 x 6 of the source, g: the kernel, *: element by element
 *
 * (S. Winograd, "Arithmetic complexity of computations", 1980; A. Lavin, S. Gray, "Fast algorithms for convolutional neural
 * networks", CVPR 2016.) The polynomials behind it are interpolated at 0, +-sqrt(1/2), +-sqrt(2) and infinity, which keeps the
 * rounding errors within about twice those of the plain sum, where the usual +-1, +-2 give four times as much. */
#ifndef MINIDL_WINOGRAD_H
#define MINIDL_WINOGRAD_H

#include <stddef.h>

/* One group of channels, strides and dilations of 1. */
typedef struct {
    ptrdiff_t images, in, out;
    int threads;
    ptrdiff_t source_size[2], result_size[2], pad[2];
    const float *source, *weight, *scale, *bias, *residual, *upstream;
    float *result;
    ptrdiff_t weight_in, weight_out;
    int flipped; /* read each kernel from its end: for the adjoint */
    void (*activation)(const float *, float *, ptrdiff_t, const void *);
    const void *settings;
    ptrdiff_t tiles[2];       /* of a result, along rows and columns */
    ptrdiff_t strip, together; /* an item: so many rows of tiles of so many images, one of which is more than 1 */
    const float *kernels;      /* transformed */
} minidl_winograd;

/* An item is counted as in `items`; slide and gradient return 1 if an element was not finite, and then their results are of no use:
 * transformed tiles spread an inf or nan further than the convolution does. */
typedef struct {
    size_t (*kernels)(const minidl_winograd *); /* elements */
    void (*transform)(const minidl_winograd *, ptrdiff_t from, ptrdiff_t to, float *kernels); /* source channels [from, to) */
    size_t (*space)(const minidl_winograd *); /* bytes of workspace for slide, or for gradient */
    int (*slide)(const minidl_winograd *, ptrdiff_t from, ptrdiff_t to, void *workspace);
    int (*gradient)(const minidl_winograd *, ptrdiff_t from, ptrdiff_t to, float *sums, void *workspace); /* adds to sums */
    void (*collect)(const minidl_winograd *, const float *sums, int parts, size_t apart, ptrdiff_t from, ptrdiff_t to,
                    int accumulate, float *dweight);
} minidl_winograd_variant;

#endif
