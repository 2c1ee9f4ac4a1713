/* The functions of conv.h: how taps, results and sources belong together, and how the work is shared out. */
#include "conv/conv.h"

#include <stdlib.h>
#include <string.h>

#include "conv/conv_costs.h"
#include "conv/conv_variant.h"
#include "elementwise/activations.h"
#include "product/gemm.h"
#include "product/gemm_variant.h"
#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/threads.h"

enum {
    SLIDE_BYTES = 256 * 1024,   /* of a strip's source: a part of the L2 cache */
    DEEP_BYTES = 256 * 1024,    /* of the taps of a block */
    DEEP_POSITIONS = 256,       /* of a block */
    GRADIENT_BYTES = 48 * 1024, /* of up to 48 channels of a strip, read for one tap after another */
};

static int make_room(minidl_axis *a) {
    a->kinds = minidl_min(a->every, a->result);
    a->remainder = malloc((size_t)a->kernel * sizeof *a->remainder);
    a->counts = calloc((size_t)a->kinds, sizeof *a->counts);
    a->first = malloc((size_t)a->kinds * sizeof *a->first);
    a->taps = malloc((size_t)a->kernel * sizeof *a->taps);
    return a->remainder == NULL || a->counts == NULL || a->first == NULL || a->taps == NULL ? -1 : 0;
}

static void forget(minidl_axis *a) {
    free(a->remainder);
    free(a->counts);
    free(a->first);
    free(a->taps);
}

/* The convolution: tap i meets element q s + i d - p, which is element q + i d / s of class i d % s. */
static int sliding_axis(minidl_axis *a, const minidl_windows *w, int axis) {
    const ptrdiff_t s = w->stride[axis], d = w->dilation[axis];
    *a = (minidl_axis){.source = w->image[axis], .stride = s, .pad = w->padding[axis], .result = w->output[axis], .every = 1,
                       .kernel = w->kernel[axis]};
    if (make_room(a) != 0) return -1;
    a->first[0] = 0;
    for (ptrdiff_t i = 0; i < a->kernel; i++) {
        ptrdiff_t sort = 0;
        while (sort < a->classes && a->remainder[sort] != i * d % s) sort++;
        if (sort == a->classes) a->remainder[a->classes++] = i * d % s;
        a->taps[a->counts[0]++] = (minidl_tap){i, sort, i * d / s};
        if (i * d / s > a->reach) a->reach = i * d / s;
    }
    return 0;
}

/* The adjoint: result q s + a meets element q + (a + p - i d) / s, for those i for which this is whole: so tap i belongs to the
 * one class a = (i d - p) % s, and to none if no result is of that class. */
static int spreading_axis(minidl_axis *axis, const minidl_windows *w, int number) {
    const ptrdiff_t s = w->stride[number], d = w->dilation[number], p = w->padding[number];
    *axis = (minidl_axis){.source = w->output[number], .stride = 1, .classes = 1, .result = w->image[number], .every = s,
                          .kernel = w->kernel[number]};
    if (make_room(axis) != 0) return -1;
    axis->remainder[0] = 0;
    ptrdiff_t lowest = 0, highest = 0, found = 0;
    for (ptrdiff_t i = 0; i < axis->kernel; i++) {
        const ptrdiff_t a = ((i * d - p) % s + s) % s, shift = (a + p - i * d) / s;
        if (a >= axis->kinds) continue;
        axis->counts[a]++;
        if (found == 0 || shift < lowest) lowest = shift;
        if (found == 0 || shift > highest) highest = shift;
        found++;
    }
    for (ptrdiff_t a = 0, before = 0; a < axis->kinds; a++) {
        axis->first[a] = before;
        before += axis->counts[a];
        axis->counts[a] = 0;
    }
    for (ptrdiff_t i = 0; i < axis->kernel; i++) {
        const ptrdiff_t a = ((i * d - p) % s + s) % s, shift = (a + p - i * d) / s;
        if (a < axis->kinds) axis->taps[axis->first[a] + axis->counts[a]++] = (minidl_tap){i, 0, shift - lowest};
    }
    axis->pad = -lowest;
    axis->reach = highest - lowest;
    return 0;
}

/* Whether the framed source of one image is more than any memory, so that its size is not to be calculated with. */
static int too_large(const minidl_axis *rows, const minidl_axis *columns, ptrdiff_t channels) {
    const double height = (double)(rows->result / rows->every + 1) + (double)rows->reach;
    const double width = (double)(columns->result / columns->every + 1) + (double)columns->reach;
    return (double)(channels * rows->classes * columns->classes) * height * width > 0x1p42;
}

/* Winograd's method for kernels of 3 x 3 -------------------------------------------------------------------------------- */

enum {
    WINOGRAD_CHANNELS = 16,        /* on both sides, to be worth the transformations */
    WINOGRAD_FEW = 1 << 14,        /* pairs of channels, up to which the transformed kernels fit a cache */
    WINOGRAD_TILES = 16,           /* to be worth transforming more kernels than that, and */
    WINOGRAD_GRADIENT_TILES = 256, /* to be worth adding up more than that */
    WINOGRAD_BYTES = 320 * 1024,   /* of the transformed tiles of an item */
    WINOGRAD_TOGETHER = 64         /* tiles of an item of a gradient, which it adds to all sums */
};

static int winograd_fits(const minidl_windows *w, ptrdiff_t least_tiles) {
    const minidl_conv_f32 *const variant = minidl_conv_f32_in_use();
    for (int axis = 0; axis < 2; axis++)
        if (w->kernel[axis] != 3 || w->stride[axis] != 1 || w->dilation[axis] != 1 || w->padding[axis] > 2) return 0;
    const ptrdiff_t tiles = w->images * ((w->output[0] + 3) / 4) * ((w->output[1] + 3) / 4);
    return variant->winograd != NULL && w->groups == 1 && w->in >= WINOGRAD_CHANNELS && w->out >= WINOGRAD_CHANNELS &&
           (w->in * w->out <= WINOGRAD_FEW || tiles >= least_tiles) && w->output[0] >= 3 && w->output[1] >= 3;
}

typedef struct {
    const minidl_winograd_variant *variant;
    minidl_winograd *w;
    ptrdiff_t items;
    int parts;
    size_t space, apart;
    char *work;
    float *kernels, *sums, *dweight;
    int accumulate;
    int failed[MINIDL_MOST_PARTS];
} winograd_job;

static void transform_part(void *context, int part) {
    const winograd_job *const j = context;
    j->variant->transform(j->w, j->w->in * part / j->parts, j->w->in * (part + 1) / j->parts, j->kernels);
}

static void winograd_slide_part(void *context, int part) {
    winograd_job *const j = context;
    j->failed[part] = j->variant->slide(j->w, j->items * part / j->parts, j->items * (part + 1) / j->parts,
                                        j->work + (size_t)part * j->space);
}

static void winograd_gradient_part(void *context, int part) {
    winograd_job *const j = context;
    float *const sums = j->sums + (size_t)part * j->apart;
    memset(sums, 0, j->apart * sizeof(float));
    j->failed[part] = j->variant->gradient(j->w, j->items * part / j->parts, j->items * (part + 1) / j->parts, sums,
                                           j->work + (size_t)part * j->space);
}

static void winograd_collect_part(void *context, int part) {
    const winograd_job *const j = context;
    j->variant->collect(j->w, j->sums, j->parts, j->apart, j->w->in * part / j->parts, j->w->in * (part + 1) / j->parts,
                        j->accumulate, j->dweight);
}

/* How the tiles are shared out: an item's transformed tiles stay in the cache, and there are items for all threads. */
static winograd_job winograd_plan(minidl_winograd *w, ptrdiff_t least_tiles) {
    winograd_job j = {.variant = minidl_conv_f32_in_use()->winograd, .w = w};
    for (int axis = 0; axis < 2; axis++) w->tiles[axis] = (w->result_size[axis] + 3) / 4;
    const ptrdiff_t all = w->tiles[0] * w->tiles[1], fit = WINOGRAD_BYTES / (36 * 4 * (w->in > w->out ? w->in : w->out));
    const double products = 36.0 * (double)(all * w->images) * (double)(w->in * w->out);
    int threads = minidl_parts_worth(products, w->threads);
    ptrdiff_t tiles = fit > least_tiles ? fit : least_tiles;
    if (tiles > all * w->images / threads) tiles = all * w->images / threads;
    if (tiles < 1) tiles = 1;
    w->together = tiles / all > 1 ? tiles / all : 1;
    w->strip = tiles >= all ? w->tiles[0] : tiles / w->tiles[1] > 1 ? tiles / w->tiles[1] : 1;
    const ptrdiff_t strips = (w->tiles[0] + w->strip - 1) / w->strip;
    w->strip = (w->tiles[0] + strips - 1) / strips;
    j.items = (w->images + w->together - 1) / w->together * ((w->tiles[0] + w->strip - 1) / w->strip);
    j.parts = j.items < threads ? (int)j.items : threads;
    j.space = minidl_whole_lines(j.variant->space(w));
    return j;
}

static int any_failed(const winograd_job *j) {
    int failed = 0;
    for (int part = 0; part < j->parts; part++) failed |= j->failed[part];
    return failed;
}

/* 0, -1 where memory was missing, 1 where an element was not finite. */
static int winograd_slide(minidl_winograd *w) {
    winograd_job j = winograd_plan(w, 8);
    const size_t kernels = (j.variant->kernels(w) * sizeof(float) + 63) / 64 * 64, bytes = kernels + (size_t)j.parts * j.space;
    char *const block = minidl_malloc(NULL, bytes);
    if (block == NULL) return -1;
    w->kernels = j.kernels = (float *)block;
    j.work = block + kernels;
    minidl_in_parts(j.parts, transform_part, &j);
    minidl_in_parts(j.parts, winograd_slide_part, &j);
    minidl_free(NULL, block, bytes);
    return any_failed(&j);
}

static int winograd_gradient(minidl_winograd *w, int accumulate, float *dweight) {
    winograd_job j = winograd_plan(w, WINOGRAD_TOGETHER);
    j.accumulate = accumulate, j.dweight = dweight;
    j.apart = (j.variant->kernels(w) + 15) / 16 * 16;
    const size_t sums = (size_t)j.parts * j.apart * sizeof(float), bytes = sums + (size_t)j.parts * j.space;
    char *const block = minidl_malloc(NULL, bytes);
    if (block == NULL) return -1;
    j.sums = (float *)block;
    j.work = block + sums;
    minidl_in_parts(j.parts, winograd_gradient_part, &j);
    const int failed = any_failed(&j);
    if (!failed) minidl_in_parts(j.parts, winograd_collect_part, &j);
    minidl_free(NULL, block, bytes);
    return failed;
}

/* The other methods, in both precisions ------------------------------------------------------------------------------------ */

#define real float
#define REAL(name) name##_f32
#define IN_USE(family) family##_f32_in_use()
#define PRODUCT_OF minidl_sgemm
#include "conv/conv_deep.inc.h"
#include "conv/conv_threads.inc.h"
#undef real
#undef REAL
#undef IN_USE
#undef PRODUCT_OF

#define real double
#define REAL(name) name##_f64
#define IN_USE(family) family##_f64_in_use()
#define PRODUCT_OF minidl_dgemm
#include "conv/conv_deep.inc.h"
#include "conv/conv_threads.inc.h"
#undef real
#undef REAL
#undef IN_USE
#undef PRODUCT_OF

/* The functions of conv.h ---------------------------------------------------------------------------------------------- */

int minidl_conv_slide(int is_double, const minidl_windows *w, const void *x, const void *weight, const minidl_conv_after *after,
                      void *y) {
    if (is_double) return slide_f64(w, x, weight, after, y);
    if (winograd_fits(w, WINOGRAD_TILES)) {
        const float settings[2] = {(float)after->settings[0], (float)after->settings[1]};
        minidl_winograd of = {.images = w->images, .threads = w->threads, .in = w->in, .out = w->out, .source = x, .weight = weight, .result = y,
                              .scale = after->scale, .bias = after->bias, .residual = after->residual, .settings = settings,
                              .weight_in = 9, .weight_out = 9 * w->in,
                              .source_size = {w->image[0], w->image[1]}, .result_size = {w->output[0], w->output[1]},
                              .pad = {w->padding[0], w->padding[1]}};
        if (after->activation >= 0) of.activation = minidl_activations_f32_in_use()->forward[after->activation];
        const int status = winograd_slide(&of);
        if (status <= 0) return status;
    }
    return slide_f32(w, x, weight, after, y);
}

int minidl_conv_spread(int is_double, const minidl_windows *w, const void *g, const void *weight, const void *bias, void *dx) {
    if (is_double) return spread_f64(w, g, weight, bias, dx);
    if (winograd_fits(w, WINOGRAD_TILES)) { /* the adjoint is the convolution with the kernels turned around */
        minidl_winograd of = {.images = w->images, .threads = w->threads, .in = w->out, .out = w->in, .source = g, .weight = weight, .bias = bias,
                              .result = dx, .weight_in = 9 * w->in, .weight_out = 9, .flipped = 1,
                              .source_size = {w->output[0], w->output[1]}, .result_size = {w->image[0], w->image[1]},
                              .pad = {2 - w->padding[0], 2 - w->padding[1]}};
        const int status = winograd_slide(&of);
        if (status <= 0) return status;
    }
    return spread_f32(w, g, weight, bias, dx);
}

int minidl_conv_gradient(int is_double, const minidl_windows *w, const void *x, const void *g, int accumulate, void *dweight) {
    if (is_double) return gradient_f64(w, x, g, accumulate, dweight);
    if (winograd_fits(w, WINOGRAD_GRADIENT_TILES)) {
        minidl_winograd of = {.images = w->images, .threads = w->threads, .in = w->in, .out = w->out, .source = x, .upstream = g,
                              .source_size = {w->image[0], w->image[1]}, .result_size = {w->output[0], w->output[1]},
                              .pad = {w->padding[0], w->padding[1]}};
        const int status = winograd_gradient(&of, accumulate, dweight);
        if (status <= 0) return status;
    }
    return gradient_f32(w, x, g, accumulate, dweight);
}
