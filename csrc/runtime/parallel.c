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

int minidl_ranges_worth(ptrdiff_t items, ptrdiff_t grain) {
    const ptrdiff_t worth = items / grain;
    const int most = minidl_most_parts(minidl_get_threads());
    return worth <= 1 ? 1 : worth < most ? (int)worth : most;
}

void minidl_in_so_many_ranges(int parts, ptrdiff_t items, ptrdiff_t unit, minidl_range_task *task, void *work) {
    ranges r = {task, work, items, unit, parts};
    if (parts == 1) task(work, 0, 0, items);
    else minidl_in_parts(parts, run_range, &r);
}

int minidl_in_ranges(ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work) {
    const int parts = minidl_ranges_worth(items, grain);
    minidl_in_so_many_ranges(parts, items, unit, task, work);
    return parts;
}
