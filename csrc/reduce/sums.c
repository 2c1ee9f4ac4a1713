/* The functions of sums.h, over threads. */
#include "reduce/sums.h"

#include <math.h>

#include "runtime/parallel.h"

typedef struct {
    const void *x;
    double sums[MINIDL_MOST_PARTS];
} total_work;

MINIDL_TASK(sum_of_squares, total_work, minidl_sums, {
    work->sums[part] = kernels->sum_of_squares((const real *)work->x + from, to - from);
})

double minidl_sum_of_squares(int is_double, const void *x, ptrdiff_t n) {
    total_work work; /* whose sums need no initial values */
    work.x = x;
    const int parts = minidl_in_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(sum_of_squares, is_double), &work);
    return minidl_sum_of_parts(work.sums, parts);
}

MINIDL_TASK(sum_of_all, total_work, minidl_sums, {
    work->sums[part] = kernels->sum_of_all((const real *)work->x + from, to - from);
})

int minidl_finite(int is_double, const void *x, ptrdiff_t n) {
    total_work work;
    work.x = x;
    const int parts = minidl_in_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, MINIDL_TASK_OF(sum_of_all, is_double), &work);
    return isfinite(minidl_sum_of_parts(work.sums, parts)) != 0;
}

typedef struct {
    const void *x;
    ptrdiff_t rows, row_stride;
    int accumulate;
    void *out;
} column_work;

MINIDL_TASK(column_sums, column_work, minidl_sums, {
    kernels->column_sums((const real *)work->x + from, work->rows, to - from, work->row_stride, work->accumulate,
                         (real *)work->out + from);
})

void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride, int accumulate,
                        void *out) {
    column_work work = {.x = x, .rows = rows, .row_stride = row_stride, .accumulate = accumulate, .out = out};
    const ptrdiff_t grain = MINIDL_CHEAP / (rows > 0 ? rows : 1) + 1;
    minidl_in_ranges(columns, grain, MINIDL_CHUNK, MINIDL_TASK_OF(column_sums, is_double), &work);
}

typedef struct {
    const void *x;
    ptrdiff_t images, channels, positions;
    int accumulate;
    void *out;
} channel_work;

MINIDL_TASK(channel_sums, channel_work, minidl_sums, {
    real *const out = work->out;
    for (ptrdiff_t c = from; c < to; c++) {
        double sum = 0;
        for (ptrdiff_t n = 0; n < work->images; n++)
            sum += kernels->sum_of_all((const real *)work->x + (n * work->channels + c) * work->positions, work->positions);
        out[c] = (real)(work->accumulate ? (double)out[c] + sum : sum);
    }
})

void minidl_channel_sums(int is_double, const void *x, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions, int accumulate,
                         void *out) {
    channel_work work = {.x = x, .images = images, .channels = channels, .positions = positions, .accumulate = accumulate,
                         .out = out};
    const ptrdiff_t each = images * positions, grain = MINIDL_CHEAP / (each > 0 ? each : 1) + 1;
    minidl_in_ranges(channels, grain, 1, MINIDL_TASK_OF(channel_sums, is_double), &work);
}
