#include "runtime/parallel.h"

typedef struct {
    minidl_range_task *task;
    void *work;
    ptrdiff_t items, unit;
    int parts;
} ranges;

static void run_range(void *context, int part) {
    const ranges *const r = context;
    r->task(r->work, part, minidl_range_begin(r->items, part, r->parts, r->unit),
            minidl_range_begin(r->items, part + 1, r->parts, r->unit));
}

int minidl_in_ranges(ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work) {
    const ptrdiff_t worth = items / grain;
    const int most = minidl_most_parts(minidl_get_threads());
    ranges r = {task, work, items, unit, worth <= 1 ? 1 : worth < most ? (int)worth : most};
    if (r.parts == 1) task(work, 0, 0, items);
    else minidl_in_parts(r.parts, run_range, &r);
    return r.parts;
}
