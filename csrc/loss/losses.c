/* The functions of losses.h, over threads. */
#include "loss/losses.h"

#include "runtime/parallel.h"

typedef struct {
    int op;
    const void *prediction, *target;
    void *slope, *each;
    double delta, sums[MINIDL_MOST_PARTS];
} pointwise_work;

enum { SUMMED = 1024 }; /* elements whose losses are added one after another; the sums of such blocks lose less to rounding */

MINIDL_TASK(pointwise, pointwise_work, minidl_losses, {
    real *const each = work->each;
    double sum = 0;
    for (ptrdiff_t i = from; i < to; i += SUMMED)
        sum += kernels->pointwise[work->op](
            (const real *)work->prediction + i, (const real *)work->target + i, (real *)work->slope + i,
            each == NULL ? NULL : each + i, to - i < SUMMED ? to - i : SUMMED, work->delta);
    work->sums[part] = sum;
})

double minidl_loss(int is_double, int op, const void *prediction, const void *target, void *slope, void *each, ptrdiff_t n,
                   double delta) {
    const ptrdiff_t grain = op >= MINIDL_BINARY_CROSS_ENTROPY ? MINIDL_DEAR : MINIDL_CHEAP;
    pointwise_work work; /* whose sums need no initial values */
    work.op = op, work.prediction = prediction, work.target = target, work.slope = slope, work.each = each, work.delta = delta;
    const int parts = minidl_in_ranges(n, grain, MINIDL_CHUNK, MINIDL_TASK_OF(pointwise, is_double), &work);
    return minidl_sum_of_parts(work.sums, parts);
}

typedef struct {
    int logarithms;
    const void *x;
    const minidl_targets *targets;
    void *slope, *each;
    ptrdiff_t classes;
    double sums[MINIDL_MOST_PARTS], divisors[MINIDL_MOST_PARTS];
    int wrong[MINIDL_MOST_PARTS];
} cross_entropy_work;

MINIDL_TASK(cross_entropy, cross_entropy_work, minidl_losses, {
    real *const each = work->each;
    const ptrdiff_t first = from * work->classes;
    work->wrong[part] = 0;
    work->sums[part] = (work->logarithms ? kernels->likelihood : kernels->cross_entropy)(
        (const real *)work->x + first, work->targets, from, (real *)work->slope + first, each == NULL ? NULL : each + from,
        to - from, work->classes, &work->divisors[part], &work->wrong[part]);
})

int minidl_cross_entropy(int is_double, int logarithms, const void *x, const minidl_targets *targets, void *slope, void *each,
                         ptrdiff_t rows, ptrdiff_t classes, double *total, double *divisor) {
    cross_entropy_work work;
    work.logarithms = logarithms;
    work.x = x, work.targets = targets, work.slope = slope, work.each = each, work.classes = classes;
    const int parts = minidl_in_ranges(rows, minidl_rows_worth(classes), 1, MINIDL_TASK_OF(cross_entropy, is_double), &work);
    int wrong = 0;
    for (int part = 0; part < parts; part++) wrong |= work.wrong[part];
    *total = minidl_sum_of_parts(work.sums, parts);
    *divisor = minidl_sum_of_parts(work.divisors, parts);
    return wrong ? -1 : 0;
}
