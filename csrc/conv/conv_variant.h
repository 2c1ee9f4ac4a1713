/* What the files of the convolutions share: how a kernel slides over an image, and the variants for each instruction set.
 *
 * Both the convolution and its adjoint in the image are sums over taps: for each result, elements of a source times weights.
 * Along one axis,
 *
 *     convolution   y[q] = sum over i of W[i] x[q s + i d - p]             s stride, d dilation, p padding
 *     its adjoint   dx[u] = sum over (i, h) with h s + i d - p = u of W[i] dy[h]; with u = q s + a only those i count for
 *                   which a + p - i d is a multiple of s, and each of them meets dy[q + (a + p - i d) / s]
 *
 * so either way a result at q meets source elements at a fixed distance from q, once the source is sorted by its index modulo the
 * stride it is read with (1 in the adjoint) and the results by theirs modulo the stride they are written with (1 in the
 * convolution). Sorted and framed with zeros, the source lies in memory so that the elements for neighbouring results are
 * neighbours, whatever the tap: vectors can be loaded without rearranging anything. */
#ifndef MINIDL_CONV_VARIANT_H
#define MINIDL_CONV_VARIANT_H

#include "conv/conv.h"
#include "conv/winograd.h"
#include "runtime/isa.h"

/* One position of the kernel along one axis, for results of one class. */
typedef struct {
    ptrdiff_t at;    /* in the kernel */
    ptrdiff_t sort;  /* which class of the source, counting only those that are used */
    ptrdiff_t shift; /* where the element for result q is in its class: at q + shift */
} minidl_tap;

/* One axis. Element t of source class f is source[t * stride + remainder[f] - pad], or 0 if there is none; result q
 * of class a is result[q * every + a]. */
typedef struct {
    ptrdiff_t source, stride, pad, classes;
    ptrdiff_t *remainder;
    ptrdiff_t result, every;
    ptrdiff_t kinds;   /* classes that have results: of `every` classes at most as many as there are results */
    ptrdiff_t reach;   /* the largest shift */
    ptrdiff_t *counts; /* of taps, for each class of results */
    ptrdiff_t *first;  /* where the taps of each class begin */
    minidl_tap *taps;  /* class after class; each position of the kernel belongs to one class */
    ptrdiff_t kernel;
} minidl_axis;

static inline const minidl_tap *minidl_taps_of(const minidl_axis *axis, ptrdiff_t class) { return axis->taps + axis->first[class]; }

/* The indices t in [0, count) of an axis for which t * stride + at is within `size` elements: from *first to before *end. */
static inline void minidl_within(ptrdiff_t count, ptrdiff_t stride, ptrdiff_t at, ptrdiff_t size, ptrdiff_t *first, ptrdiff_t *end) {
    *first = at >= 0 ? 0 : (-at + stride - 1) / stride;
    *end = at >= size ? 0 : (size - at + stride - 1) / stride;
    if (*end > count) *end = count;
    if (*first >= *end) *first = *end = 0;
}

/* Feature maps of some channels from those of others: rows first, then columns. Weight (o, c, i, j) is at
 * o weight_out + c weight_in + i kernel width + j. */
#define MINIDL_MAPS(real)                                                                                              \
    struct {                                                                                                               \
        minidl_axis rows, columns;                                                                                         \
        ptrdiff_t images, groups, in, out; /* channels of the source and of the result in each group */                    \
        const real *source;                                                                                                \
        const real *weight;                                                                                                \
        ptrdiff_t weight_in, weight_out, weight_group;                                                                     \
        const real *scale, *bias, *residual; /* or NULL: minidl_conv_after */                                              \
        real *result;                                                                                                      \
        const real *upstream; /* for the kernel's gradient */                                                              \
        void (*activation)(const real *, real *, ptrdiff_t, const void *); /* or NULL */                                   \
        const void *settings;                                                                                              \
        int skips;       /* rows of the kernel where they meet nothing but padding */                                      \
        ptrdiff_t strip; /* rows of results that are computed together */                                                  \
        real *panels;    /* the weights in the order of the tiles */                                                       \
    }

typedef MINIDL_MAPS(float) minidl_maps_f32;
typedef MINIDL_MAPS(double) minidl_maps_f64;

/* Work is counted in items: a strip of rows of one image.
 *
 * panels, pack     how many elements the weights take in the order of the tiles, and the function that puts them there
 * slide_space      bytes of workspace that slide needs
 * slide            items [from, to) of the results
 * gradient_space   bytes of workspace that gradient needs
 * gradient_sums    elements that its sums take
 * gradient         adds what items [from, to) contribute to the sums, which lie as `collect` reads them
 * collect          kernels [from, to) of dweight, or added to it: the sums of so many parts, each `apart` elements further
 * winograd         for kernels of 3 x 3 in single precision, or NULL */
#define MINIDL_CONV_VARIANT(real, maps)                                                                                \
    struct {                                                                                                               \
        size_t (*panels)(const maps *);                                                                                \
        void (*pack)(const maps *, real *panels);                                                                      \
        size_t (*slide_space)(const maps *);                                                                           \
        void (*slide)(const maps *, ptrdiff_t from, ptrdiff_t to, void *workspace);                                    \
        size_t (*gradient_space)(const maps *);                                                                        \
        size_t (*gradient_sums)(const maps *);                                                                         \
        void (*gradient)(const maps *, ptrdiff_t from, ptrdiff_t to, real *sums, void *workspace);                     \
        void (*collect)(const maps *, const real *sums, int parts, size_t apart, ptrdiff_t from, ptrdiff_t to,         \
                        int accumulate, real *dweight);                                                                    \
        const minidl_winograd_variant *winograd;                                                                           \
    }

typedef MINIDL_CONV_VARIANT(float, minidl_maps_f32) minidl_conv_f32;
typedef MINIDL_CONV_VARIANT(double, minidl_maps_f64) minidl_conv_f64;
MINIDL_VARIANTS(minidl_conv_f32)
MINIDL_VARIANTS(minidl_conv_f64)

#endif
