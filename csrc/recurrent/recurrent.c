/* The functions of recurrent.h, over threads: each takes a range of sequences through all steps. */
#include "recurrent/recurrent.h"

#include <string.h>

#include "runtime/parallel.h"

typedef const minidl_recurrence recurrence;

MINIDL_TASK(recurrent_forward, recurrence, minidl_recurrent, { kernels->forward(work, from, to); })
MINIDL_TASK(recurrent_backward, recurrence, minidl_recurrent, { kernels->backward(work, from, to); })

ptrdiff_t minidl_recurrent_panels(int is_double, ptrdiff_t hidden, ptrdiff_t rows) {
    return is_double ? minidl_recurrent_f64_in_use()->panels(hidden, rows) : minidl_recurrent_f32_in_use()->panels(hidden, rows);
}

static void pack(int is_double, const minidl_recurrence *r, int backward) {
    if (r->weight == NULL) return;
    if (is_double) minidl_recurrent_f64_in_use()->pack(r, backward);
    else minidl_recurrent_f32_in_use()->pack(r, backward);
}

/* A range should have whole tiles of rows: the same panels are read for fewer. */
static void over_sequences(const minidl_recurrence *r, minidl_range_task *task) {
    enum { WORTH = 131072, ROWS = 8 };
    const double each = (double)r->steps * (double)r->hidden * ((double)r->hidden * 3 + MINIDL_CHUNK);
    const ptrdiff_t grain = each > WORTH ? 1 : (ptrdiff_t)(WORTH / each) + 1;
    minidl_in_ranges(r->batch, grain, r->batch >= 2 * ROWS ? ROWS : 1, task, (void *)r);
}

void minidl_recurrent_forward(int is_double, const minidl_recurrence *r) {
    pack(is_double, r, 0);
    over_sequences(r, MINIDL_TASK_OF(recurrent_forward, is_double));
}

void minidl_recurrent_backward(int is_double, const minidl_recurrence *r) {
    pack(is_double, r, 1);
    over_sequences(r, MINIDL_TASK_OF(recurrent_backward, is_double));
}

/* The order of steps --------------------------------------------------------------------------------------------------- */

typedef struct {
    const minidl_recurrence *r;
    size_t row; /* bytes */
    const char *from;
    char *to;
    int back;
} arrangement;

static void arrange_steps(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const arrangement *const work = context;
    const minidl_recurrence *const r = work->r;
    (void)part;
    for (ptrdiff_t t = from; t < to; t++)
        for (ptrdiff_t n = 0; n < r->batch; n++) {
            const size_t in_batch = (size_t)(n * r->steps + minidl_place(r, n, t)) * work->row;
            const size_t in_steps = (size_t)(t * r->batch + n) * work->row;
            char *const to_row = work->to + (work->back ? in_batch : in_steps);
            if (minidl_runs(r, n, t)) memcpy(to_row, work->from + (work->back ? in_steps : in_batch), work->row);
            else memset(to_row, 0, work->row);
        }
}

static void arrange(const minidl_recurrence *r, ptrdiff_t features, size_t size, const void *from, void *to, int back) {
    arrangement work = {r, (size_t)features * size, from, to, back};
    minidl_in_ranges(r->steps, MINIDL_CHEAP / (r->batch * features) + 1, 1, arrange_steps, &work);
}

void minidl_arrange_steps(const minidl_recurrence *r, ptrdiff_t features, size_t size, const void *x, void *steps) {
    arrange(r, features, size, x, steps, 0);
}

void minidl_restore_batch(const minidl_recurrence *r, ptrdiff_t features, size_t size, const void *steps, void *x) {
    arrange(r, features, size, steps, x, 1);
}
