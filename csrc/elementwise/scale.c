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

typedef struct {
    const void *x, *factors;
    void *y;
    ptrdiff_t n;
} rows_of_factors;

MINIDL_TASK(scale_rows, rows_of_factors, minidl_scaling, {
    const ptrdiff_t n = work->n;
    for (ptrdiff_t row = from; row < to; row++)
        kernels->scale((const real *)work->x + row * n, (double)((const real *)work->factors)[row], (real *)work->y + row * n, n);
})

void minidl_scale_rows(int is_double, const void *x, const void *factors, void *y, ptrdiff_t rows, ptrdiff_t n) {
    rows_of_factors work = {.x = x, .factors = factors, .y = y, .n = n};
    minidl_in_ranges(rows, MINIDL_CHEAP / (n > 0 ? n : 1) + 1, 1, MINIDL_TASK_OF(scale_rows, is_double), &work);
}

MINIDL_TASK(multiply, product, minidl_scaling, {
    kernels->multiply((const real *)work->a + from, (const real *)work->b + from, (real *)work->y + from, to - from);
})

void minidl_multiply(int is_double, const void *a, const void *b, void *y, ptrdiff_t n) {
    product work = {.a = a, .b = b, .y = y};
    minidl_in_free_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(multiply, is_double), &work);
}
