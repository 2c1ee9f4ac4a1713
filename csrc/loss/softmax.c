/* The functions of softmax.h, over threads. */
#include "loss/softmax.h"

#include "runtime/parallel.h"

typedef struct {
    int logarithm;
    const void *x, *dy, *y;
    void *out;
    ptrdiff_t length;
} softmax_work;

MINIDL_TASK(softmax, softmax_work, minidl_softmaxes, {
    const ptrdiff_t first = from * work->length;
    (work->logarithm ? kernels->log_softmax : kernels->softmax)((const real *)work->x + first, (real *)work->out + first,
                                                                to - from, work->length);
})

void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length) {
    softmax_work work = {.logarithm = logarithm, .x = x, .out = y, .length = length};
    minidl_in_ranges(rows, minidl_rows_worth(length), 1, MINIDL_TASK_OF(softmax, is_double), &work);
}

MINIDL_TASK(softmax_backward, softmax_work, minidl_softmaxes, {
    const ptrdiff_t first = from * work->length;
    (work->logarithm ? kernels->log_softmax_backward : kernels->softmax_backward)(
        (const real *)work->dy + first, (const real *)work->y + first, (real *)work->out + first, to - from, work->length);
})

void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                             ptrdiff_t length) {
    softmax_work work = {.logarithm = logarithm, .dy = dy, .y = y, .out = dx, .length = length};
    minidl_in_ranges(rows, minidl_rows_worth(length), 1, MINIDL_TASK_OF(softmax_backward, is_double), &work);
}
