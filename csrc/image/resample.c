/* The functions of resample.h, over threads. */
#include "image/resample.h"

#include <stdlib.h>

#include "runtime/integers.h"
#include "runtime/parallel.h"

static ptrdiff_t padded(const minidl_padded *axis) { return axis->before + axis->size + axis->after; }

typedef struct {
    int backward;
    const void *from;
    void *to;
    ptrdiff_t in, out; /* elements of an image, before and after */
    const minidl_padding *padding;
} pad_work;

MINIDL_TASK(pad, pad_work, minidl_resamplers, {
    (work->backward ? kernels->pad_backward : kernels->pad)(
        (const real *)work->from + from * work->in, (real *)work->to + from * work->out, to - from, work->padding);
})

void minidl_pad(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_padding *s) {
    const ptrdiff_t small = s->rows.size * s->columns.size, large = padded(&s->rows) * padded(&s->columns);
    pad_work work = {.backward = backward, .from = from, .to = to, .in = backward ? large : small,
                     .out = backward ? small : large, .padding = s};
    minidl_in_ranges(images, MINIDL_CHEAP / large + 1, 1, MINIDL_TASK_OF(pad, is_double), &work);
}

typedef struct {
    int backward;
    const void *from;
    void *to;
    ptrdiff_t in, out;
    const minidl_resampling *resampling;
    int failed[MINIDL_MOST_PARTS];
} upsample_work;

MINIDL_TASK(upsample, upsample_work, minidl_resamplers, {
    const minidl_resampling *const s = work->resampling;
    real *const space = malloc(2 * (size_t)s->columns.after * sizeof(real));
    work->failed[part] = space == NULL;
    if (space == NULL) return;
    (work->backward ? kernels->upsample_backward : kernels->upsample)(
        (const real *)work->from + from * work->in, (real *)work->to + from * work->out, to - from, s, space);
    free(space);
})

int minidl_upsample(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_resampling *s) {
    const ptrdiff_t before = s->rows.before * s->columns.before, after = s->rows.after * s->columns.after;
    upsample_work work;
    work.backward = backward, work.from = from, work.to = to, work.resampling = s;
    work.in = backward ? after : before, work.out = backward ? before : after;
    const int parts = minidl_in_ranges(images, MINIDL_CHEAP / minidl_max(before, after) + 1, 1, MINIDL_TASK_OF(upsample, is_double),
                                       &work);
    int failed = 0;
    for (int part = 0; part < parts; part++) failed |= work.failed[part];
    return failed ? -1 : 0;
}
