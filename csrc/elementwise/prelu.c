/* The functions of prelu.h, over threads: over elements where there is one slope, over rows where each element has its own, and
 * else over channels. */
#include "elementwise/prelu.h"

#include <stdlib.h>

#include "runtime/parallel.h"
#include "reduce/sums.h"

typedef struct {
    const minidl_prelu_arrays *s;
    double totals[MINIDL_MOST_PARTS]; /* of each range of elements */
    void *sums;                       /* MINIDL_PRELU_ROWS_OF_SUMS rows for each range of rows, or NULL */
} prelu_work;

MINIDL_TASK(elements, prelu_work, minidl_prelus, {
    kernels->run((const real *)work->s->x + from, *(const real *)work->s->weight, (real *)work->s->y + from, to - from);
})

MINIDL_TASK(rows, prelu_work, minidl_prelus, {
    const ptrdiff_t n = work->s->channels;
    for (ptrdiff_t row = from; row < to; row++)
        kernels->row((const real *)work->s->x + row * n, work->s->weight, (real *)work->s->y + row * n, n);
})

MINIDL_TASK(runs, prelu_work, minidl_prelus, {
    const ptrdiff_t n = work->s->positions;
    for (ptrdiff_t run = from; run < to; run++)
        kernels->run((const real *)work->s->x + run * n, ((const real *)work->s->weight)[run % work->s->channels],
                     (real *)work->s->y + run * n, n);
})

static ptrdiff_t worth(ptrdiff_t elements) { return MINIDL_CHEAP / (elements > 0 ? elements : 1) + 1; }

/* Rows that threads begin with should not share cache lines. */
static ptrdiff_t rows_apart(ptrdiff_t length) { return length < MINIDL_CHUNK ? MINIDL_CHUNK / length : 1; }

void minidl_prelu(int is_double, const minidl_prelu_arrays *s) {
    prelu_work work;
    work.s = s;
    if (s->channels == 1)
        minidl_in_ranges(s->images * s->positions, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(elements, is_double), &work);
    else if (s->positions == 1)
        minidl_in_ranges(s->images, worth(s->channels), rows_apart(s->channels), MINIDL_TASK_OF(rows, is_double), &work);
    else
        minidl_in_ranges(s->images * s->channels, worth(s->positions), rows_apart(s->positions),
                         MINIDL_TASK_OF(runs, is_double), &work);
}

MINIDL_TASK(elements_backward, prelu_work, minidl_prelus, {
    real *const dx = work->s->dx;
    work->totals[part] = kernels->backward_run((const real *)work->s->dy + from, (const real *)work->s->x + from,
                                               *(const real *)work->s->weight, dx == NULL ? NULL : dx + from,
                                               work->s->dweight != NULL, to - from);
})

MINIDL_TASK(rows_backward, prelu_work, minidl_prelus, {
    const ptrdiff_t n = work->s->channels, at = from * n;
    real *const dx = work->s->dx, *const sums = work->sums;
    kernels->backward_rows((const real *)work->s->dy + at, (const real *)work->s->x + at, work->s->weight,
                           dx == NULL ? NULL : dx + at, sums == NULL ? NULL : sums + part * MINIDL_PRELU_ROWS_OF_SUMS * n,
                           to - from, n);
})

MINIDL_TASK(channels_backward, prelu_work, minidl_prelus, {
    const minidl_prelu_arrays *const s = work->s;
    real *const dx = s->dx, *const dweight = s->dweight;
    for (ptrdiff_t c = from; c < to; c++) {
        double sum = 0;
        for (ptrdiff_t image = 0; image < s->images; image++) {
            const ptrdiff_t at = (image * s->channels + c) * s->positions;
            sum += kernels->backward_run((const real *)s->dy + at, (const real *)s->x + at, ((const real *)s->weight)[c],
                                         dx == NULL ? NULL : dx + at, dweight != NULL, s->positions);
        }
        if (dweight != NULL) dweight[c] = (real)(s->accumulate ? (double)dweight[c] + sum : sum);
    }
})

static void backward_of_elements(int is_double, prelu_work *work) {
    const minidl_prelu_arrays *const s = work->s;
    const int parts = minidl_in_ranges(s->images * s->positions, MINIDL_CHEAP, MINIDL_CHUNK,
                                       MINIDL_TASK_OF(elements_backward, is_double), work);
    if (s->dweight == NULL) return;
    const double sum = minidl_sum_of_parts(work->totals, parts);
    if (is_double) *(double *)s->dweight = s->accumulate ? *(double *)s->dweight + sum : sum;
    else *(float *)s->dweight = (float)(s->accumulate ? (double)*(float *)s->dweight + sum : sum);
}

static int backward_of_rows(int is_double, prelu_work *work) {
    const minidl_prelu_arrays *const s = work->s;
    const ptrdiff_t n = s->channels;
    const int parts = minidl_ranges_worth(s->images, worth(n));
    if (s->dweight != NULL) {
        const size_t size = is_double ? sizeof(double) : sizeof(float);
        work->sums = malloc((size_t)parts * MINIDL_PRELU_ROWS_OF_SUMS * (size_t)n * size);
        if (work->sums == NULL) return -1;
    }
    minidl_in_so_many_ranges(parts, s->images, worth(n), rows_apart(n), MINIDL_TASK_OF(rows_backward, is_double), work);
    if (s->dweight != NULL)
        minidl_column_sums(is_double, work->sums, parts, n, MINIDL_PRELU_ROWS_OF_SUMS * n, s->accumulate, s->dweight);
    free(work->sums);
    return 0;
}

int minidl_prelu_backward(int is_double, const minidl_prelu_arrays *s) {
    prelu_work work;
    work.s = s;
    work.sums = NULL;
    if (s->dx == NULL && s->dweight == NULL) return 0;
    if (s->channels > 1 && s->positions == 1) return backward_of_rows(is_double, &work);
    if (s->channels == 1) backward_of_elements(is_double, &work);
    else
        minidl_in_ranges(s->channels, worth(s->images * s->positions), rows_apart(s->positions),
                         MINIDL_TASK_OF(channels_backward, is_double), &work);
    return 0;
}
