/* The functions of attention.h, over threads. */
#include "attention/attention.h"

#include "runtime/integers.h"
#include "runtime/parallel.h"

typedef struct {
    const minidl_attention_arrays *s;
    int status[MINIDL_MOST_PARTS];
} attention_work;

MINIDL_TASK(forward, attention_work, minidl_attentions, { work->status[part] = kernels->forward(work->s, from, to); })
MINIDL_TASK(backward, attention_work, minidl_attentions, { work->status[part] = kernels->backward(work->s, from, to); })

/* The worst of what the ranges said: memory that is short, then numbers that are not finite. */
static int run(const minidl_attention_arrays *s, ptrdiff_t items, double each, minidl_range_task *task) {
    attention_work work;
    work.s = s;
    const double worth = 4.0 * MINIDL_CHEAP; /* multiply-adds: vectors do several at once */
    const ptrdiff_t grain = each >= worth ? 1 : (ptrdiff_t)(worth / (each > 1 ? each : 1)) + 1;
    const int parts = minidl_in_ranges(items, grain, 1, task, &work);
    int status = 0;
    for (int part = 0; part < parts; part++) {
        if (work.status[part] < 0) return -1;
        status |= work.status[part];
    }
    return status;
}

int minidl_attention(int is_double, const minidl_attention_arrays *s) {
    const ptrdiff_t tiles = minidl_units(s->queries, MINIDL_QUERIES_AT_ONCE);
    const double rows = (double)minidl_min(s->queries, MINIDL_QUERIES_AT_ONCE);
    const double each = rows * (double)s->keys * (double)(s->size + s->value_size);
    return run(s, s->batch * s->heads * tiles, each, MINIDL_TASK_OF(forward, is_double));
}

int minidl_attention_backward(int is_double, const minidl_attention_arrays *s) {
    const double share = (double)(s->heads / s->key_heads);
    const double each = share * (double)s->queries * (double)s->keys * (double)(3 * s->size + 2 * s->value_size);
    return run(s, s->batch * s->key_heads, each, MINIDL_TASK_OF(backward, is_double));
}
