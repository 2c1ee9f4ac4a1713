/* Splitting work over threads: statically, so that the same number of threads gives the same bits, and only where the work
 * is worth the microseconds that sharing it costs. */
#include "runtime/parallel.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

static const minidl_kernels *kernels;

int minidl_start(void) {
    kernels = minidl_kernels_chosen();
    return kernels == NULL ? -1 : 0;
}

const minidl_kernels *minidl_kernels_in_use(void) { return kernels; }

enum { LINE = 64 };
enum { CHEAP = 65536, DEAR = 16384 }; /* elements that are worth a thread: of plain arithmetic, of exponentials */

/* Everything that a kernel may need, and where each part leaves its share of a sum. */
typedef struct job job;
struct job {
    void (*body)(job *j, int part, ptrdiff_t from, ptrdiff_t to);
    ptrdiff_t items, unit; /* parts begin at multiples of unit */
    int parts;
    int op, flag;
    const void *x, *z, *mask;
    void *y, *each;
    ptrdiff_t length, stride;
    double number;
    double settings[2];
    const minidl_targets *targets;
    void *const *arrays;
    const minidl_settings *update;
    const minidl_pcg64 *random;
    const minidl_pool *windows;
    double sums[MINIDL_MOST_PARTS];
    double divisors[MINIDL_MOST_PARTS];
};

static ptrdiff_t begin(const job *j, int part) {
    if (part >= j->parts) return j->items;
    const ptrdiff_t at = (j->items + j->unit - 1) / j->unit * part / j->parts * j->unit;
    return at < j->items ? at : j->items;
}

static void run_part(void *context, int part) {
    job *const j = context;
    j->body(j, part, begin(j, part), begin(j, part + 1));
}

/* Run the body over all items, in as many parts as they are worth if one thread is worth waking for `grain` of them. */
static void run(job *j, ptrdiff_t items, ptrdiff_t grain, ptrdiff_t unit) {
    const ptrdiff_t worth = items / grain;
    const int most = minidl_most_parts(minidl_get_threads());
    j->items = items;
    j->unit = unit;
    j->parts = worth <= 1 ? 1 : worth < most ? (int)worth : most;
    if (j->parts == 1) j->body(j, 0, 0, items);
    else minidl_in_parts(j->parts, run_part, j);
}

static double sum_of(const job *j) {
    double sum = 0;
    for (int part = 0; part < j->parts; part++) sum += j->sums[part];
    return sum;
}

/* A body in both precisions, name_f32 and name_f64: `real` is the type and `table` the kernels. */
#define BODY(name, ...)                                                                                                     \
    static void name##_f32(job *j, int part, ptrdiff_t from, ptrdiff_t to) {                                               \
        typedef float real;                                                                                                \
        const minidl_table_f32 *const table = &kernels->f32;                                                               \
        (void)part;                                                                                                        \
        __VA_ARGS__                                                                                                        \
    }                                                                                                                      \
    static void name##_f64(job *j, int part, ptrdiff_t from, ptrdiff_t to) {                                               \
        typedef double real;                                                                                               \
        const minidl_table_f64 *const table = &kernels->f64;                                                               \
        (void)part;                                                                                                        \
        __VA_ARGS__                                                                                                        \
    }
#define EITHER(name) (is_double ? name##_f64 : name##_f32)

BODY(activation, {
    const real s[2] = {(real)j->settings[0], (real)j->settings[1]};
    table->forward[j->op]((const real *)j->x + from, (real *)j->y + from, to - from, s);
})

static ptrdiff_t grain_of(int op) { return op == MINIDL_RELU || op == MINIDL_LEAKY_RELU ? CHEAP : DEAR; }

void minidl_activation(int is_double, int op, const void *x, void *y, ptrdiff_t n, const double settings[2]) {
    job j;
    j.body = EITHER(activation), j.op = op, j.x = x, j.y = y;
    j.settings[0] = settings[0], j.settings[1] = settings[1];
    run(&j, n, grain_of(op), LINE);
}

BODY(activation_backward, {
    const real s[2] = {(real)j->settings[0], (real)j->settings[1]};
    table->backward[j->op]((const real *)j->x + from, (const real *)j->z + from, (real *)j->y + from, to - from, s);
})

void minidl_activation_backward(int is_double, int op, const void *dy, const void *saved, void *dx, ptrdiff_t n,
                                const double settings[2]) {
    job j;
    j.body = EITHER(activation_backward), j.op = op, j.x = dy, j.z = saved, j.y = dx;
    j.settings[0] = settings[0], j.settings[1] = settings[1];
    run(&j, n, op == MINIDL_SIGMOID || op == MINIDL_TANH || op == MINIDL_DROPOUT ? CHEAP : grain_of(op), LINE);
}

static ptrdiff_t rows_worth(ptrdiff_t length) { return length > DEAR ? 1 : DEAR / (length > 0 ? length : 1) + 1; }

BODY(softmax, {
    const real *const in = (const real *)j->x + from * j->length;
    real *const out = (real *)j->y + from * j->length;
    if (j->flag) table->log_softmax(in, out, to - from, j->length);
    else table->softmax(in, out, to - from, j->length);
})

void minidl_softmax(int is_double, int logarithm, const void *x, void *y, ptrdiff_t rows, ptrdiff_t length) {
    job j;
    j.body = EITHER(softmax), j.flag = logarithm, j.x = x, j.y = y, j.length = length;
    run(&j, rows, rows_worth(length), 1);
}

BODY(softmax_backward, {
    const real *const upstream = (const real *)j->x + from * j->length;
    const real *const saved = (const real *)j->z + from * j->length;
    real *const out = (real *)j->y + from * j->length;
    if (j->flag) table->log_softmax_backward(upstream, saved, out, to - from, j->length);
    else table->softmax_backward(upstream, saved, out, to - from, j->length);
})

void minidl_softmax_backward(int is_double, int logarithm, const void *dy, const void *y, void *dx, ptrdiff_t rows,
                             ptrdiff_t length) {
    job j;
    j.body = EITHER(softmax_backward), j.flag = logarithm, j.x = dy, j.z = y, j.y = dx, j.length = length;
    run(&j, rows, rows_worth(length), 1);
}

BODY(cross_entropy, {
    real *const each = j->each;
    j->sums[part] = table->cross_entropy((const real *)j->x + from * j->length, j->targets, from,
                                         (real *)j->y + from * j->length, each == NULL ? NULL : each + from, to - from,
                                         j->length, &j->divisors[part]);
})

double minidl_cross_entropy(int is_double, const void *x, const minidl_targets *targets, void *slope, void *each,
                            ptrdiff_t rows, ptrdiff_t classes, double *divisor) {
    job j;
    j.body = EITHER(cross_entropy), j.x = x, j.targets = targets, j.y = slope, j.each = each, j.length = classes;
    run(&j, rows, rows_worth(classes), 1);
    *divisor = 0;
    for (int part = 0; part < j.parts; part++) *divisor += j.divisors[part];
    return sum_of(&j);
}

BODY(loss, {
    real *const each = j->each;
    j->sums[part] = table->losses[j->op]((const real *)j->x + from, (const real *)j->z + from, (real *)j->y + from,
                                         each == NULL ? NULL : each + from, to - from, j->number);
})

double minidl_loss(int is_double, int op, const void *prediction, const void *target, void *slope, void *each, ptrdiff_t n,
                   double delta) {
    job j;
    j.body = EITHER(loss), j.op = op, j.x = prediction, j.z = target, j.y = slope, j.each = each, j.number = delta;
    run(&j, n, op == MINIDL_BINARY_CROSS_ENTROPY ? DEAR : CHEAP, LINE);
    return sum_of(&j);
}

enum { NUMBERS = 1024 }; /* made at a time, to be used in the nearest cache */

BODY(drop, {
    minidl_pcg64 random = *j->random;
    float numbers[NUMBERS];
    minidl_pcg64_skip(&random, (uint64_t)from);
    for (ptrdiff_t i = from; i < to; i += NUMBERS) {
        const ptrdiff_t n = to - i < NUMBERS ? to - i : NUMBERS;
        minidl_pcg64_uniform(&random, n, numbers);
        table->dropout((const real *)j->x + i, numbers, NULL, (float)j->settings[0], j->settings[1], (real *)j->each + i,
                       (real *)j->y + i, n);
    }
})

BODY(dropout, {
    const float *const uniform = j->z;
    const unsigned char *const mask = j->mask;
    table->dropout((const real *)j->x + from, uniform == NULL ? NULL : uniform + from, mask == NULL ? NULL : mask + from,
                   (float)j->settings[0], j->settings[1], (real *)j->each + from, (real *)j->y + from, to - from);
})

void minidl_dropout(int is_double, const void *x, const minidl_pcg64 *random, const float *uniform, const void *mask, double p,
                    void *scale, void *y, ptrdiff_t n) {
    job j;
    j.body = random != NULL ? EITHER(drop) : EITHER(dropout), j.random = random;
    j.x = x, j.z = uniform, j.mask = mask, j.each = scale, j.y = y;
    j.settings[0] = p, j.settings[1] = p < 1 ? 1 / (1 - p) : 0;
    run(&j, n, random != NULL ? DEAR : CHEAP, LINE);
}

BODY(scale, { table->scale((const real *)j->x + from, j->number, (real *)j->y + from, to - from); })

void minidl_scale(int is_double, const void *x, double factor, void *y, ptrdiff_t n) {
    job j;
    j.body = EITHER(scale), j.x = x, j.number = factor, j.y = y;
    run(&j, n, CHEAP, LINE);
}

BODY(column_sums, {
    table->column_sums((const real *)j->x + from, j->length, to - from, j->stride, j->flag, (real *)j->y + from);
})

void minidl_column_sums(int is_double, const void *x, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t row_stride,
                        int accumulate, void *out) {
    job j;
    j.body = EITHER(column_sums), j.x = x, j.length = rows, j.stride = row_stride, j.flag = accumulate, j.y = out;
    run(&j, columns, CHEAP / (rows > 0 ? rows : 1) + 1, LINE);
}

BODY(channel_sums, { /* length is that of a channel, stride that of an image, `op` counts images */
    real *const out = j->y;
    for (ptrdiff_t c = from; c < to; c++) {
        double sum = 0;
        for (int n = 0; n < j->op; n++) sum += table->sum_of_all((const real *)j->x + n * j->stride + c * j->length, j->length);
        out[c] = (real)(j->flag ? (double)out[c] + sum : sum);
    }
})

void minidl_channel_sums(int is_double, const void *x, ptrdiff_t images, ptrdiff_t channels, ptrdiff_t positions, int accumulate,
                         void *out) {
    job j;
    j.body = EITHER(channel_sums), j.x = x, j.op = (int)images, j.length = positions, j.stride = channels * positions;
    j.flag = accumulate, j.y = out;
    run(&j, channels, CHEAP / (images * positions > 0 ? images * positions : 1) + 1, 1);
}

BODY(finite, { j->sums[part] = table->sum_of_all((const real *)j->x + from, to - from); })

int minidl_finite(int is_double, const void *x, ptrdiff_t n) {
    job j;
    j.body = EITHER(finite), j.x = x;
    run(&j, n, CHEAP, LINE);
    return isfinite(sum_of(&j)) != 0;
}

BODY(batch_norm, {
    (void)sizeof(real);
    if (j->flag) table->batch_norm_backward(j->x, from, to);
    else table->batch_norm(j->x, from, to);
})

void minidl_batch_norm(int is_double, int backward, const minidl_norm *s) {
    job j;
    j.body = EITHER(batch_norm), j.x = s, j.flag = backward;
    /* Few positions lie close together: what two threads write should not share lines. */
    run(&j, s->channels, CHEAP / (s->images * s->positions) + 1, s->positions < LINE ? LINE / (s->positions > 0 ? s->positions : 1) : 1);
}

enum { ROW = 64 }; /* what a row costs besides its numbers, in such */

BODY(norm_rows, {
    (void)sizeof(real);
    table->norm_rows(j->x, from, to);
})

void minidl_norm_rows(int is_double, const minidl_norm *s) {
    job j;
    j.body = EITHER(norm_rows), j.x = s;
    run(&j, s->images, rows_worth(s->positions + ROW), 1);
}

BODY(norm_rows_backward, { /* length is that of a row */
    real *const scratch = j->each;
    table->norm_rows_backward(j->x, from, to, scratch == NULL ? NULL : scratch + part * 4 * j->length);
})

int minidl_norm_rows_backward(int is_double, const minidl_norm *s) {
    const size_t row = (size_t)s->positions * (is_double ? sizeof(double) : sizeof(float));
    job j;
    j.body = EITHER(norm_rows_backward), j.x = s, j.each = NULL, j.length = s->positions;
    if (s->dweight != NULL || s->dbias != NULL) {
        j.each = malloc((size_t)minidl_most_parts(minidl_get_threads()) * 4 * row);
        if (j.each == NULL) return -1;
    }
    run(&j, s->images, rows_worth(s->positions + ROW), 1);
    const char *const sums = j.each;
    if (s->dweight != NULL) minidl_column_sums(is_double, sums, j.parts, s->positions, 4 * s->positions, 0, s->dweight);
    if (s->dbias != NULL) minidl_column_sums(is_double, sums + row, j.parts, s->positions, 4 * s->positions, 0, s->dbias);
    free(j.each);
    return 0;
}

BODY(group_norm, {
    (void)sizeof(real);
    if (j->flag) table->group_norm_backward(j->x, from, to);
    else table->group_norm(j->x, from, to);
})

/* to[c], if there is one, is the sum over images of every second number. */
static void sum_over_images(int is_double, const double *each, ptrdiff_t images, ptrdiff_t channels, void *to) {
    for (ptrdiff_t c = 0; to != NULL && c < channels; c++) {
        double sum = 0;
        for (ptrdiff_t image = 0; image < images; image++) sum += each[2 * (image * channels + c)];
        if (is_double) ((double *)to)[c] = sum;
        else ((float *)to)[c] = (float)sum;
    }
}

int minidl_group_norm(int is_double, int backward, minidl_norm *s) {
    job j;
    j.body = EITHER(group_norm), j.flag = backward, j.x = s;
    if (backward) {
        s->sums = malloc((size_t)s->images * (size_t)s->channels * 2 * sizeof(double));
        if (s->sums == NULL) return -1;
    }
    run(&j, s->images * s->groups, rows_worth(s->channels / s->groups * s->positions), 1);
    if (backward) {
        sum_over_images(is_double, s->sums, s->images, s->channels, s->dbias);
        sum_over_images(is_double, s->sums + 1, s->images, s->channels, s->dweight);
        free(s->sums);
    }
    return 0;
}

BODY(sum_of_squares, { j->sums[part] = table->sum_of_squares((const real *)j->x + from, to - from); })

double minidl_sum_of_squares(int is_double, const void *x, ptrdiff_t n) {
    job j;
    j.body = EITHER(sum_of_squares), j.x = x;
    run(&j, n, CHEAP, LINE);
    return sum_of(&j);
}

BODY(pooling, { /* length is that of an image, stride that of one of the result */
    unsigned char *const won = j->each;
    const ptrdiff_t codes = j->op == MINIDL_MAX_POOL ? j->stride : j->length;
    table->pool[j->op]((const real *)j->x + from * j->length, won == NULL ? NULL : won + from * codes,
                       (real *)j->y + from * j->stride, to - from, j->windows);
})

void minidl_pooling(int is_double, int op, const void *from, void *won, void *to, ptrdiff_t images, ptrdiff_t in, ptrdiff_t out,
                    const minidl_pool *windows) {
    job j;
    j.body = EITHER(pooling), j.op = op, j.x = from, j.each = won, j.y = to, j.length = in, j.stride = out, j.windows = windows;
    run(&j, images, CHEAP / (in > out ? in : out) + 1, 1);
}

BODY(pad, { /* length is that of an image, stride that of one of the result */
    table->pad[j->op]((const real *)j->x + from * j->length, (real *)j->y + from * j->stride, to - from, j->mask);
})

static ptrdiff_t padded(const minidl_padded *axis) { return axis->before + axis->size + axis->after; }

void minidl_pad(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_padding *s) {
    const ptrdiff_t before = s->rows.size * s->columns.size, after = padded(&s->rows) * padded(&s->columns);
    job j;
    j.body = EITHER(pad), j.op = backward, j.x = from, j.y = to, j.mask = s;
    j.length = backward ? after : before, j.stride = backward ? before : after;
    run(&j, images, CHEAP / after + 1, 1);
}

BODY(upsample, { /* length is that of an image, stride that of one of the result */
    const minidl_resampling *const s = j->mask;
    real *const work = malloc(2 * (size_t)s->columns.after * sizeof(real));
    j->sums[part] = work == NULL;
    if (work == NULL) return;
    table->upsample[j->op]((const real *)j->x + from * j->length, (real *)j->y + from * j->stride, to - from, s, work);
    free(work);
})

int minidl_upsample(int is_double, int backward, const void *from, void *to, ptrdiff_t images, const minidl_resampling *s) {
    const ptrdiff_t before = s->rows.before * s->columns.before, after = s->rows.after * s->columns.after;
    job j;
    j.body = EITHER(upsample), j.op = backward, j.x = from, j.y = to, j.mask = s;
    j.length = backward ? after : before, j.stride = backward ? before : after;
    run(&j, images, CHEAP / (before > after ? before : after) + 1, 1);
    return sum_of(&j) > 0 ? -1 : 0;
}

#define AT(index) (j->arrays[index] == NULL ? NULL : (real *)j->arrays[index] + from)

BODY(update, {
    switch (j->op) {
    case MINIDL_SGD: table->sgd(AT(0), AT(1), AT(2), to - from, j->update); break;
    case MINIDL_ADAGRAD: table->adagrad(AT(0), AT(1), AT(2), to - from, j->update); break;
    case MINIDL_RMSPROP: table->rmsprop(AT(0), AT(1), AT(2), AT(3), AT(4), to - from, j->update); break;
    case MINIDL_ADAM: table->adam(AT(0), AT(1), AT(2), AT(3), AT(4), to - from, j->update); break;
    }
})

void minidl_update(int is_double, int optimizer, void *const arrays[5], ptrdiff_t n, const minidl_settings *settings) {
    job j;
    j.body = EITHER(update), j.op = optimizer, j.arrays = arrays, j.update = settings;
    run(&j, n, CHEAP, LINE);
}
