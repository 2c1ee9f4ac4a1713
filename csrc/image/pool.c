/* The function of pool.h, over threads. */
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
