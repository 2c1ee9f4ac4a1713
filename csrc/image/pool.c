/* The functions of pool.h, over threads. */
#include "image/pool.h"

#include "runtime/integers.h"
#include "runtime/parallel.h"

typedef struct {
    int op;
    const void *from;
    unsigned char *won;
    void *to;
    ptrdiff_t in, out; /* elements of an image, before and after */
    const minidl_pool_windows *windows;
} pool_work;

MINIDL_TASK(pool, pool_work, minidl_pools, {
    const ptrdiff_t winners = work->op == MINIDL_MAX_POOL ? work->out : work->in; /* of an image: as many as there are windows */
    kernels->pool[work->op]((const real *)work->from + from * work->in, work->won == NULL ? NULL : work->won + from * winners,
                            (real *)work->to + from * work->out, to - from, work->windows);
})

void minidl_pooling(int is_double, int op, const void *from, void *won, void *to, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out,
                    const minidl_pool_windows *windows) {
    pool_work work = {.op = op, .from = from, .won = won, .to = to, .in = in, .out = out, .windows = windows};
    minidl_in_ranges(images, MINIDL_CHEAP / minidl_max(in, out) + 1, 1, MINIDL_TASK_OF(pool, is_double), &work);
}

typedef struct {
    const void *from;
    int64_t *places;
    void *to;
    ptrdiff_t in, out;
    const minidl_pool_windows *windows;
} places_work;

MINIDL_TASK(adaptive_max, places_work, minidl_pools, {
    kernels->adaptive_max((const real *)work->from + from * work->in, work->places + from * work->out,
                          (real *)work->to + from * work->out, to - from, work->windows);
})

void minidl_adaptive_max(int is_double, const void *x, int64_t *places, void *y, ptrdiff_t images,
                         const minidl_pool_windows *windows) {
    const ptrdiff_t in = windows->rows.size * windows->columns.size, out = windows->rows.outputs * windows->columns.outputs;
    places_work work = {.from = x, .places = places, .to = y, .in = in, .out = out, .windows = windows};
    minidl_in_ranges(images, MINIDL_CHEAP / minidl_max(in, out) + 1, 1, MINIDL_TASK_OF(adaptive_max, is_double), &work);
}

MINIDL_TASK(scatter, places_work, minidl_pools, {
    kernels->scatter((const real *)work->from + from * work->in, work->places + from * work->in,
                     (real *)work->to + from * work->out, to - from, work->in, work->out);
})

void minidl_scatter(int is_double, const void *dy, const int64_t *places, void *dx, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out) {
    places_work work = {.from = dy, .places = (int64_t *)places, .to = dx, .in = in, .out = out};
    minidl_in_ranges(images, MINIDL_CHEAP / minidl_max(in, out) + 1, 1, MINIDL_TASK_OF(scatter, is_double), &work);
}
