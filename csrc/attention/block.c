/* The function of block.h. */
#include "attention/block.h"

#include <math.h>
#include <string.h>

#include "norm/norm.h"
#include "product/bf16.h"
#include "product/narrow.h"
#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/parallel.h"

enum { ROWS_AT_ONCE = 8 }; /* whose sum is in cache when the norm reads it */

/* What a block needs besides its input and output; all for all rows. */
typedef struct {
    float *normed, *wide, *narrow, *middle, *mean, *inverse, *log_sum;
    void *memory;
    size_t bytes;
} room;

static int make_room(const minidl_block *b, room *r) {
    const size_t rows = (size_t)(b->batch * b->queries), width = (size_t)b->width;
    const size_t wide = (size_t)minidl_max(b->qkv.outputs, b->first.outputs);
    const size_t sizes[] = {rows * width, rows * wide, rows * width, rows * width, rows, rows, rows * (size_t)b->heads};
    float **const parts[] = {&r->normed, &r->wide, &r->narrow, &r->middle, &r->mean, &r->inverse, &r->log_sum};
    enum { PARTS = sizeof sizes / sizeof *sizes };
    r->bytes = 0;
    for (int t = 0; t < PARTS; t++) r->bytes += minidl_whole_lines(sizes[t] * sizeof(float));
    char *at = r->memory = minidl_malloc(NULL, r->bytes);
    if (at == NULL) return -1;
    for (int t = 0; t < PARTS; at += minidl_whole_lines(sizes[t] * sizeof(float)), t++) *parts[t] = (float *)at;
    return 0;
}

/* y = map(x), then the activation if there is one. */
static int apply(const minidl_block *b, const minidl_block_map *m, const float *x, int activates, float *y) {
    const ptrdiff_t rows = b->batch * b->queries;
    minidl_epilogue_f32 after = {.bias = m->bias};
    if (activates) after.activation = b->activation, after.arguments = b->settings;
    switch (m->kind) {
    case MINIDL_SINGLE:
        return (b->rounds ? minidl_bgemm : minidl_sgemm)(rows, m->outputs, m->inputs, 1, x, m->inputs, 1, m->weight, 1, m->inputs, 0,
                                                         y, m->outputs, &after, minidl_get_threads());
    case MINIDL_INT8: return minidl_linear_int8(x, rows, m->weight, m->scale, m->outputs, m->inputs, &after, y);
    default: return minidl_linear_16(m->kind == MINIDL_FLOAT16, b->rounds, x, rows, m->weight, m->outputs, m->inputs, &after, y);
    }
}

/* Sums and norms -------------------------------------------------------------------------------------------------------- */

typedef struct {
    const float *one, *other; /* their sum becomes `sum`; other is NULL where `sum` is there already */
    float *sum;
    minidl_row_normalization norm; /* of the sum; y is NULL where there is none */
} sum_and_norm;

static void some_sums(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const sum_and_norm *const w = context;
    const minidl_norms_f32 *const kernels = minidl_norms_f32_in_use();
    const ptrdiff_t n = w->norm.length;
    (void)part;
    for (ptrdiff_t r = from, end; r < to; r = end) {
        end = minidl_min(r + ROWS_AT_ONCE, to);
        if (w->other != NULL)
            for (ptrdiff_t i = r * n; i < end * n; i++) w->sum[i] = w->one[i] + w->other[i];
        if (w->norm.y != NULL) kernels->row_norm(&w->norm, r, end);
    }
}

/* sum = one + other, unless other is NULL and sum is one; then y = norm(sum), unless y is NULL. Whether that is within range. */
static int add_and_norm(const minidl_block *b, const float *one, const float *other, float *sum, const minidl_block_norm *norm, float *y,
                        const room *r) {
    const ptrdiff_t rows = b->batch * b->queries;
    sum_and_norm w = {.one = one, .other = other, .sum = sum};
    w.norm = (minidl_row_normalization){.x = sum == NULL ? one : sum, .y = y, .weight = norm->weight, .bias = norm->bias, .mean = r->mean,
                                        .inverse = r->inverse, .rows = rows, .length = b->width, .eps = norm->eps};
    minidl_in_free_ranges(rows, minidl_rows_worth(b->width), 1, some_sums, &w);
    for (ptrdiff_t i = 0; y != NULL && i < rows; i++)
        if (r->inverse[i] == 0) return 0;
    return 1;
}

/* Attention ------------------------------------------------------------------------------------------------------------- */

/* The new keys (which = 1) or values (2) of r->wide go behind those of the cache. */
static void append(const minidl_block *b, const room *r, int which, float *cache) {
    const ptrdiff_t size = b->width / b->heads;
    for (ptrdiff_t n = 0; n < b->batch; n++)
        for (ptrdiff_t h = 0; h < b->heads; h++)
            for (ptrdiff_t t = 0; t < b->queries; t++)
                memcpy(cache + ((n * b->heads + h) * b->room + b->length + t) * size,
                       r->wide + ((n * b->queries + t) * 3 + which) * b->width + h * size, (size_t)size * sizeof(float));
}

/* r->narrow = the heads' means of values, side by side. */
static int attend(const minidl_block *b, const room *r) {
    const ptrdiff_t width = b->width, size = width / b->heads, row = 3 * width, whole = b->queries * row;
    minidl_attention_arrays s = b->mask; /* and everything else zero */
    s.q = (minidl_heads){r->wide, whole, size, row};
    s.k = (minidl_heads){r->wide + width, whole, size, row};
    s.v = (minidl_heads){r->wide + 2 * width, whole, size, row};
    s.y = (minidl_heads){r->narrow, b->queries * width, size, width};
    s.log_sum = r->log_sum;
    s.batch = b->batch, s.heads = s.key_heads = b->heads, s.queries = s.keys = b->queries, s.size = s.value_size = size;
    if (b->queries == 1) s.q.row = s.k.row = s.v.row = size; /* as the op has it: of one row there is no next */
    if (b->keys != NULL) {
        append(b, r, 1, b->keys);
        append(b, r, 2, b->values);
        s.k = (minidl_heads){b->keys, b->heads * b->room * size, b->room * size, size};
        s.v = (minidl_heads){b->values, b->heads * b->room * size, b->room * size, size};
        s.keys = b->length + b->queries, s.offset = b->length;
    }
    s.causal = b->causal, s.rounds = b->rounds;
    s.scale = 1 / sqrt((double)size);
    return minidl_attention(0, &s);
}

static int forward(const minidl_block *b, room *r) {
    const float *const x = b->x;
    int status;
    if (b->norm_first && !add_and_norm(b, x, NULL, NULL, &b->norms[0], r->normed, r)) return 1;
    if (apply(b, &b->qkv, b->norm_first ? r->normed : x, 0, r->wide) != 0) return -1;
    if ((status = attend(b, r)) != 0) return status;
    if (apply(b, &b->out, r->narrow, 0, r->middle) != 0) return -1;
    /* h is the sum with norms first, else its norm */
    if (!add_and_norm(b, x, r->middle, r->middle, b->norm_first ? &b->norms[1] : &b->norms[0], r->normed, r)) return 1;
    const float *const h = b->norm_first ? r->middle : r->normed;
    if (apply(b, &b->first, r->normed, 1, r->wide) != 0) return -1;
    if (apply(b, &b->second, r->wide, 0, r->narrow) != 0) return -1;
    if (b->norm_first) return !add_and_norm(b, h, r->narrow, b->y, &b->norms[1], NULL, r);
    return !add_and_norm(b, h, r->narrow, r->narrow, &b->norms[1], b->y, r);
}

int minidl_block_forward(const minidl_block *b) {
    room r;
    if (make_room(b, &r) != 0) return -1;
    const int status = forward(b, &r);
    minidl_free(NULL, r.memory, r.bytes);
    return status;
}
