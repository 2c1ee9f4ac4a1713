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

void minidl_in_so_many_ranges(int parts, ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work) {
    ranges r = {task, work, items, unit, parts};
    if (parts == 1) task(work, 0, 0, items);
    else if (grain == 1) minidl_in_parts(parts, run_range, &r); /* an item may be any number of grains */
    else minidl_in_parts_worth(parts, (double)items / (double)grain * MINIDL_GRAIN_NANOSECONDS, run_range, &r);
}

int minidl_in_ranges(ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work) {
    const int parts = minidl_ranges_worth(items, grain);
    minidl_in_so_many_ranges(parts, items, grain, unit, task, work);
    return parts;
}

void minidl_in_free_ranges(ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit, minidl_range_task *task, void *work) {
    const double cost = minidl_hand_over_cost(), least = 4 * cost / MINIDL_GRAIN_NANOSECONDS; /* grains */
    const double scale = cost < 0 ? 1 : least < 0.25 ? 0.25 : least;
    const ptrdiff_t scaled = (ptrdiff_t)((double)grain * scale);
    minidl_in_so_many_ranges(minidl_ranges_worth(items, scaled > 0 ? scaled : 1), items, grain, unit, task, work);
}
