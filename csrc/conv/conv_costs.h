/* Which way to make a convolution or a gradient is faster: the feature maps of conv.inc.h or the blocks of conv_deep.inc.h. Costs
 * are counted in multiply-adds of one vector; measured, and rough. */
#ifndef MINIDL_CONV_COSTS_H
#define MINIDL_CONV_COSTS_H

#include "conv/conv.h"
#include "product/gemm_variant.h"
#include "runtime/threads.h"

static ptrdiff_t lanes_f32(void) { return minidl_gemm_f32_in_use()->columns; }
static ptrdiff_t lanes_f64(void) { return minidl_gemm_f64_in_use()->columns; }

/* Kernel positions of all channels of the source, and positions of the results in all images. */
static double taps_of(const minidl_windows *w) { return (double)(w->groups * w->in) * (double)(w->kernel[0] * w->kernel[1]); }
static double results_of(const minidl_windows *w) { return (double)w->images * (double)(w->output[0] * w->output[1]); }

static double multiply_adds(const minidl_windows *w) { return taps_of(w) * (double)w->out * results_of(w); }

/* To copy so many short rows. */
static double copying(double rows, double columns) { return rows * (6 + 0.35 * columns); }

/* Feature maps as conv.inc.h computes them, results or sources: vectors that are not full, weights that are packed by one
 * thread, and the source that is framed. */
static double cost_of_sliding(const minidl_windows *w, int adjoint, ptrdiff_t lanes) {
    ptrdiff_t size[2], reach[2];
    for (int axis = 0; axis < 2; axis++) {
        size[axis] = adjoint ? (w->image[axis] + w->stride[axis] - 1) / w->stride[axis] : w->output[axis];
        reach[axis] = (w->kernel[axis] - 1) * w->dilation[axis] / w->stride[axis];
    }
    const ptrdiff_t together = ((size[0] - 1) * (size[1] + reach[1]) + size[1] + lanes - 1) / lanes;
    const ptrdiff_t apart = size[0] * ((size[1] + lanes - 1) / lanes);
    const double weights = taps_of(w) * (double)w->out, images = (double)w->images;
    const double rows = images * (double)(w->groups * (adjoint ? w->out * w->output[0] : w->in * w->image[0]));
    const double sorting = !adjoint && w->stride[1] > 1 ? 1.5 * rows * (double)w->image[1] : 0;
    return weights * (images * (double)(together < apart ? together : apart) + 2 * w->threads) +
           copying(rows, (double)(adjoint ? w->output[1] : w->image[1])) + sorting;
}

/* The same, or the kernel's gradient, from blocks of the matrix of taps by positions. */
static double cost_of_blocks(const minidl_windows *w, ptrdiff_t lanes) {
    const double taps = taps_of(w), results = results_of(w), images = (double)w->images;
    const int whole = w->kernel[0] * w->kernel[1] * w->stride[0] * w->stride[1] == 1; /* planes are copied as they are */
    const double rows = whole ? 1 : (double)w->output[0];
    return 1.05 * multiply_adds(w) / (double)lanes + copying(taps * images * rows, results / images / rows) +
           0.2 * results * (double)(w->groups * w->out);
}

/* The kernel's gradient as conv.inc.h makes it: channels that do not fill vectors, and sums that are collected in the end. */
static double cost_of_gradient(const minidl_windows *w, ptrdiff_t lanes) {
    return taps_of(w) * ((double)((w->out + lanes - 1) / lanes) * results_of(w) + 8.0 * (double)w->out);
}

/* Enough of everything to fill the tiles of the matrix product. */
static int deep(const minidl_windows *w) { return w->out >= 16 && w->in * w->kernel[0] * w->kernel[1] >= 16; }

static int deep_slides(const minidl_windows *w, int adjoint, ptrdiff_t lanes) {
    return deep(w) && cost_of_blocks(w, lanes) < cost_of_sliding(w, adjoint, lanes);
}

static int deep_gradients(const minidl_windows *w, ptrdiff_t lanes) {
    const double transposing = 0.5 * taps_of(w) * results_of(w);
    return deep(w) && cost_of_blocks(w, lanes) + transposing < cost_of_gradient(w, lanes);
}

#endif
