/* The function of dropout.h, over threads. */
#include "elementwise/dropout.h"

#include "runtime/parallel.h"

typedef struct {
    const void *x;
    const minidl_pcg64 *random;
    const float *uniform;
    const unsigned char *mask;
    float p;
    double factor;
    void *scale, *y;
} dropout;

enum { AT_ONCE = 1024 }; /* random numbers made at a time, to be used from the nearest cache */

MINIDL_TASK(draw_and_drop, dropout, minidl_dropouts, {
    minidl_pcg64 random = *work->random;
    float uniform[AT_ONCE];
    minidl_pcg64_skip(&random, (uint64_t)from);
    for (ptrdiff_t i = from; i < to; i += AT_ONCE) {
        const ptrdiff_t n = to - i < AT_ONCE ? to - i : AT_ONCE;
        minidl_pcg64_uniform(&random, n, uniform);
        kernels->dropout((const real *)work->x + i, uniform, NULL, work->p, work->factor, (real *)work->scale + i,
                         (real *)work->y + i, n);
    }
})

MINIDL_TASK(drop, dropout, minidl_dropouts, {
    kernels->dropout((const real *)work->x + from, work->uniform == NULL ? NULL : work->uniform + from,
                     work->mask == NULL ? NULL : work->mask + from, work->p, work->factor, (real *)work->scale + from,
                     (real *)work->y + from, to - from);
})

void minidl_dropout(int is_double, const void *x, const minidl_pcg64 *random, const float *uniform, const void *mask, double p,
                    void *scale, void *y, ptrdiff_t n) {
    dropout work = {.x = x, .random = random, .uniform = uniform, .mask = mask, .p = (float)p,
                    .factor = p < 1 ? 1 / (1 - p) : 0, .scale = scale, .y = y};
    if (random != NULL) minidl_in_ranges(n, MINIDL_DEAR, MINIDL_CHUNK, MINIDL_TASK_OF(draw_and_drop, is_double), &work);
    else minidl_in_free_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(drop, is_double), &work);
}
