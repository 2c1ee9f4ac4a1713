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

/* Rows with labels. What a range leaves: sums and divisors in its own places, the rest in those of its rows. */
typedef struct {
    const void *x, *dloss;
    const minidl_targets *targets;
    void *slope, *largest, *rest, *each;
    ptrdiff_t classes;
    double factor, sums[MINIDL_MOST_PARTS], divisors[MINIDL_MOST_PARTS];
    int wrong[MINIDL_MOST_PARTS];
} rows_work;

MINIDL_TASK(likelihood, rows_work, minidl_losses, {
    real *const each = work->each;
    const ptrdiff_t first = from * work->classes;
    work->wrong[part] = 0;
    work->sums[part] = kernels->likelihood((const real *)work->x + first, work->targets, from, (real *)work->slope + first,
                                           each == NULL ? NULL : each + from, to - from, work->classes, &work->divisors[part],
                                           &work->wrong[part]);
})

MINIDL_TASK(cross_entropy, rows_work, minidl_losses, {
    real *const each = work->each;
    work->wrong[part] = 0;
    work->sums[part] = kernels->cross_entropy((const real *)work->x + from * work->classes, work->targets, from,
                                              (real *)work->largest + from, (real *)work->rest + from,
                                              each == NULL ? NULL : each + from, to - from, work->classes,
                                              &work->divisors[part], &work->wrong[part]);
})

MINIDL_TASK(cross_entropy_backward, rows_work, minidl_losses, {
    const ptrdiff_t first = from * work->classes;
    const real *const dloss = work->dloss;
    work->wrong[part] = 0;
    kernels->cross_entropy_backward((const real *)work->x + first, work->targets, from, (const real *)work->largest + from,
                                    (const real *)work->rest + from, dloss == NULL ? NULL : dloss + from, work->factor,
                                    (real *)work->slope + first, to - from, work->classes, &work->wrong[part]);
})

/* Over the threads, in ranges that depend on counts alone; how many there were, or -1 where a label is no class. */
static int over_rows(rows_work *work, ptrdiff_t rows, minidl_range_task *task) {
    const int parts = minidl_in_ranges(rows, minidl_rows_worth(work->classes), 1, task, work);
    for (int part = 0; part < parts; part++)
        if (work->wrong[part]) return -1;
    return parts;
}

static int sum_over_rows(rows_work *work, ptrdiff_t rows, minidl_range_task *task, double *total, double *divisor) {
    const int parts = over_rows(work, rows, task);
    if (parts < 0) return -1;
    *total = minidl_sum_of_parts(work->sums, parts);
    *divisor = minidl_sum_of_parts(work->divisors, parts);
    return 0;
}

int minidl_likelihood(int is_double, const void *x, const minidl_targets *targets, void *slope, void *each, ptrdiff_t rows,
                      ptrdiff_t classes, double *total, double *divisor) {
    rows_work work;
    work.x = x, work.targets = targets, work.slope = slope, work.each = each, work.classes = classes;
    return sum_over_rows(&work, rows, MINIDL_TASK_OF(likelihood, is_double), total, divisor);
}

int minidl_cross_entropy(int is_double, const void *x, const minidl_targets *targets, void *largest, void *rest, void *each,
                         ptrdiff_t rows, ptrdiff_t classes, double *total, double *divisor) {
    rows_work work;
    work.x = x, work.targets = targets, work.largest = largest, work.rest = rest, work.each = each, work.classes = classes;
    return sum_over_rows(&work, rows, MINIDL_TASK_OF(cross_entropy, is_double), total, divisor);
}

int minidl_cross_entropy_backward(int is_double, const void *x, const minidl_targets *targets, const void *largest,
                                  const void *rest, const void *dloss, double factor, void *dx, ptrdiff_t rows, ptrdiff_t classes) {
    rows_work work;
    work.x = x, work.targets = targets, work.largest = (void *)largest, work.rest = (void *)rest, work.dloss = dloss;
    work.factor = factor, work.slope = dx, work.classes = classes;
    return over_rows(&work, rows, MINIDL_TASK_OF(cross_entropy_backward, is_double)) < 0 ? -1 : 0;
}
