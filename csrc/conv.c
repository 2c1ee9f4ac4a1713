/* The functions of conv.h: how taps, results and sources belong together, and how the work is shared out. */
#include "conv.h"

#include <stdlib.h>
#include <string.h>

#include "conv_variant.h"
#include "gemm_variant.h"
#include "memory.h"
#include "parallel.h"

enum {
    MOST_PARTS = 256,
    SLIDE_BYTES = 256 * 1024,   /* of a strip's source: a part of the L2 cache */
    GRADIENT_BYTES = 48 * 1024, /* of 48 channels' upstream gradients of a strip, read for one tap after another */
};

/* Multiply-adds that are worth a thread, as for the matrix product. */
static int worth(double multiply_adds) {
    const double most = multiply_adds / 131072;
    int threads = minidl_get_threads();
    if (threads > MOST_PARTS) threads = MOST_PARTS;
    return most < 2 || threads < 2 ? 1 : most < threads ? (int)most : threads;
}

static int make_room(minidl_axis *a) {
    a->remainder = malloc((size_t)a->kernel * sizeof *a->remainder);
    a->counts = calloc((size_t)a->every, sizeof *a->counts);
    a->taps = malloc((size_t)(a->every * a->kernel) * sizeof *a->taps);
    return a->remainder == NULL || a->counts == NULL || a->taps == NULL ? -1 : 0;
}

static void forget(minidl_axis *a) {
    free(a->remainder);
    free(a->counts);
    free(a->taps);
}

/* The convolution: tap i meets number q s + i d - p, which is number q + i d / s of class i d % s. */
static int sliding_axis(minidl_axis *a, const minidl_windows *w, int axis) {
    const ptrdiff_t s = w->stride[axis], d = w->dilation[axis];
    *a = (minidl_axis){.source = w->image[axis], .stride = s, .pad = w->padding[axis], .result = w->output[axis], .every = 1,
                       .kernel = w->kernel[axis]};
    if (make_room(a) != 0) return -1;
    for (ptrdiff_t i = 0; i < a->kernel; i++) {
        ptrdiff_t sort = 0;
        while (sort < a->classes && a->remainder[sort] != i * d % s) sort++;
        if (sort == a->classes) a->remainder[a->classes++] = i * d % s;
        a->taps[a->counts[0]++] = (minidl_tap){i, sort, i * d / s};
        if (i * d / s > a->reach) a->reach = i * d / s;
    }
    return 0;
}

/* The adjoint: result q s + a meets number q + (a + p - i d) / s, for those i for which this is whole. */
static int spreading_axis(minidl_axis *axis, const minidl_windows *w, int number) {
    const ptrdiff_t s = w->stride[number], d = w->dilation[number], p = w->padding[number];
    *axis = (minidl_axis){.source = w->output[number], .stride = 1, .classes = 1, .result = w->image[number], .every = s,
                          .kernel = w->kernel[number]};
    if (make_room(axis) != 0) return -1;
    axis->remainder[0] = 0;
    ptrdiff_t lowest = 0, highest = 0;
    int first = 1;
    for (ptrdiff_t a = 0; a < s; a++)
        for (ptrdiff_t i = 0; i < axis->kernel; i++) {
            const ptrdiff_t away = a + p - i * d;
            if (away % s != 0) continue;
            axis->taps[a * axis->kernel + axis->counts[a]++] = (minidl_tap){i, 0, away / s};
            if (first || away / s < lowest) lowest = away / s;
            if (first || away / s > highest) highest = away / s;
            first = 0;
        }
    for (ptrdiff_t a = 0; a < s; a++)
        for (ptrdiff_t i = 0; i < axis->counts[a]; i++) axis->taps[a * axis->kernel + i].shift -= lowest;
    axis->pad = -lowest;
    axis->reach = highest - lowest;
    return 0;
}

#define real float
#define PICTURES minidl_pictures_f32
#define CONV_TYPE minidl_conv_f32
#define IN_USE minidl_conv_f32_in_use
#define KERNELS (&minidl_kernels_in_use()->f32)
#define NAME(name) name##_f32
#define SLIDE slide_f32
#define SPREAD spread_f32
#define GRADIENT gradient_f32
#include "conv_threads.inc.h"
#undef real
#undef PICTURES
#undef CONV_TYPE
#undef IN_USE
#undef KERNELS
#undef NAME
#undef SLIDE
#undef SPREAD
#undef GRADIENT
#define real double
#define PICTURES minidl_pictures_f64
#define CONV_TYPE minidl_conv_f64
#define IN_USE minidl_conv_f64_in_use
#define KERNELS (&minidl_kernels_in_use()->f64)
#define NAME(name) name##_f64
#define SLIDE slide_f64
#define SPREAD spread_f64
#define GRADIENT gradient_f64
#include "conv_threads.inc.h"

int minidl_conv_slide(int is_double, const minidl_windows *w, const void *x, const void *weight, const void *bias, int activation,
                      const double settings[2], void *y) {
    const float single[2] = {settings == NULL ? 0 : (float)settings[0], settings == NULL ? 0 : (float)settings[1]};
    return is_double ? slide_f64(w, x, weight, bias, activation, settings, y)
                     : slide_f32(w, x, weight, bias, activation, single, y);
}

int minidl_conv_spread(int is_double, const minidl_windows *w, const void *g, const void *weight, const void *bias, void *dx) {
    return (is_double ? spread_f64 : spread_f32)(w, g, weight, bias, dx);
}

int minidl_conv_gradient(int is_double, const minidl_windows *w, const void *x, const void *g, int accumulate, void *dweight) {
    return (is_double ? gradient_f64 : gradient_f32)(w, x, g, accumulate, dweight);
}
