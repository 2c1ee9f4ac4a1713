/* The functions of scale.h, over threads. */
#include "elementwise/scale.h"

#include "runtime/parallel.h"

typedef struct {
    const void *a, *b;
    double factor;
    void *y;
} product;

MINIDL_TASK(scale, product, minidl_scaling, {
    kernels->scale((const real *)work->a + from, work->factor, (real *)work->y + from, to - from);
})

void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n) {
    product work = {.a = x, .factor = factor, .y = y};
    minidl_in_free_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(scale, is_double), &work);
}

MINIDL_TASK(multiply, product, minidl_scaling, {
    kernels->multiply((const real *)work->a + from, (const real *)work->b + from, (real *)work->y + from, to - from);
})

void minidl_multiply(int is_double, const void *a, const void *b, void *y, ptrdiff_t n) {
    product work = {.a = a, .b = b, .y = y};
    minidl_in_free_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(multiply, is_double), &work);
}
