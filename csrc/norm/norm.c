/* The functions of norm.h, over threads. */
#include "norm/norm.h"

#include <stdlib.h>

#include "reduce/sums.h"
#include "runtime/parallel.h"

typedef const minidl_batch_normalization batch_work;

MINIDL_TASK(batch_norm, batch_work, minidl_norms, { kernels->batch_norm(work, from, to); })
MINIDL_TASK(batch_norm_backward, batch_work, minidl_norms, { kernels->batch_norm_backward(work, from, to); })

static void in_ranges_of_channels(const minidl_batch_normalization *s, minidl_range_task *task) {
    /* Few positions lie close together: what two threads write should not share cache lines. */
    const ptrdiff_t apart = s->positions > 0 ? s->positions : 1, unit = apart < MINIDL_CHUNK ? MINIDL_CHUNK / apart : 1;
    minidl_in_ranges(s->channels, MINIDL_CHEAP / (s->images * s->positions) + 1, unit, task, (void *)s);
}

void minidl_batch_norm(int is_double, const minidl_batch_normalization *s) {
    in_ranges_of_channels(s, MINIDL_TASK_OF(batch_norm, is_double));
}

void minidl_batch_norm_backward(int is_double, const minidl_batch_normalization *s) {
    in_ranges_of_channels(s, MINIDL_TASK_OF(batch_norm_backward, is_double));
}

/* Rows ------------------------------------------------------------------------------------------------------------------- */

enum { OF_A_ROW = 64 }; /* what a row costs besides its elements, in elements */

typedef struct {
    const minidl_row_normalization *s;
    void *sums; /* MINIDL_ROWS_OF_SUMS rows for each range, or NULL */
} row_work;

MINIDL_TASK(row_norm, row_work, minidl_norms, { kernels->row_norm(work->s, from, to); })

void minidl_row_norm(int is_double, const minidl_row_normalization *s) {
    row_work work = {.s = s};
    minidl_in_ranges(s->rows, minidl_rows_worth(s->length + OF_A_ROW), 1, MINIDL_TASK_OF(row_norm, is_double), &work);
}

MINIDL_TASK(row_norm_backward, row_work, minidl_norms, {
    real *const sums = work->sums;
    kernels->row_norm_backward(work->s, from, to, sums == NULL ? NULL : sums + part * MINIDL_ROWS_OF_SUMS * work->s->length);
})

int minidl_row_norm_backward(int is_double, const minidl_row_normalization *s) {
    const ptrdiff_t n = s->length;
    const size_t row = (size_t)n * (is_double ? sizeof(double) : sizeof(float));
    row_work work = {.s = s};
    const ptrdiff_t grain = minidl_rows_worth(n + OF_A_ROW);
    const int parts = minidl_ranges_worth(s->rows, grain);
    if (s->dweight != NULL || s->dbias != NULL) {
        work.sums = malloc((size_t)parts * MINIDL_ROWS_OF_SUMS * row);
        if (work.sums == NULL) return -1;
    }
    minidl_in_so_many_ranges(parts, s->rows, grain, 1, MINIDL_TASK_OF(row_norm_backward, is_double), &work);
    const char *const sums = work.sums;
    if (s->dweight != NULL) minidl_column_sums(is_double, sums, parts, n, MINIDL_ROWS_OF_SUMS * n, s->add_weight, s->dweight);
    if (s->dbias != NULL) minidl_column_sums(is_double, sums + row, parts, n, MINIDL_ROWS_OF_SUMS * n, s->add_bias, s->dbias);
    free(work.sums);
    return 0;
}

/* Groups ----------------------------------------------------------------------------------------------------------------- */

typedef const minidl_group_normalization group_work;

MINIDL_TASK(group_norm, group_work, minidl_norms, { kernels->group_norm(work, from, to); })
MINIDL_TASK(group_norm_backward, group_work, minidl_norms, { kernels->group_norm_backward(work, from, to); })

static void in_ranges_of_groups(const minidl_group_normalization *s, minidl_range_task *task) {
    minidl_in_ranges(s->images * s->groups, minidl_rows_worth(s->channels / s->groups * s->positions), 1, task, (void *)s);
}

void minidl_group_norm(int is_double, const minidl_group_normalization *s) {
    in_ranges_of_groups(s, MINIDL_TASK_OF(group_norm, is_double));
}

/* to[c], if there is one, becomes the sum over images of number `which` of the pairs of channel_sums, or has it added. */
static void sum_over_images(int is_double, const minidl_group_normalization *s, int which, int add, void *to) {
    for (ptrdiff_t c = 0; to != NULL && c < s->channels; c++) {
        double sum = 0;
        for (ptrdiff_t image = 0; image < s->images; image++) sum += s->channel_sums[2 * (image * s->channels + c) + which];
        if (is_double) ((double *)to)[c] = (add ? ((double *)to)[c] : 0) + sum;
        else ((float *)to)[c] = (add ? ((float *)to)[c] : 0) + (float)sum;
    }
}

int minidl_group_norm_backward(int is_double, const minidl_group_normalization *s) {
    minidl_group_normalization own = *s;
    own.channel_sums = malloc((size_t)s->images * (size_t)s->channels * 2 * sizeof(double));
    if (own.channel_sums == NULL) return -1;
    in_ranges_of_groups(&own, MINIDL_TASK_OF(group_norm_backward, is_double));
    sum_over_images(is_double, &own, 0, s->add_bias, s->dbias);
    sum_over_images(is_double, &own, 1, s->add_weight, s->dweight);
    free(own.channel_sums);
    return 0;
}
