/* The functions of narrow.h over threads. */
#include "product/narrow.h"

#include <math.h>

#include "product/bf16.h"
#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/parallel.h"

enum { WORTH = 65536, TOGETHER = 8 }; /* multiply-adds that are worth a thread; outputs whose sums are computed at once */

typedef struct {
    int is_float16;
    const float *x, *bias, *scale;
    const minidl_epilogue_f32 *after;
    const void *w;
    float *y, *row_scale;
    ptrdiff_t rows, outputs, k;
    int8_t *q;
    ptrdiff_t q_row; /* from one row of integers to the next */
    int many; /* whether rows are multiplied in tiles */
    char *room; /* of each part */
    size_t each;
} work;

static const minidl_epilogue_f32 nothing;

static void round_range(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
    (void)part;
    minidl_narrow_f32_in_use()->round(j->x + from, j->y + from, to - from);
}

void minidl_round_to_bf16(const float *x, float *y, ptrdiff_t n) {
    work j = {.x = x, .y = y};
    minidl_in_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, round_range, &j);
}

static void widen_range(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
    (void)part;
    minidl_narrow_f32_in_use()->widen(j->is_float16, (const uint16_t *)j->w + from, j->y + from, to - from);
}

void minidl_widen(int is_float16, const uint16_t *x, float *y, ptrdiff_t n) {
    work j = {.is_float16 = is_float16, .w = x, .y = y};
    minidl_in_ranges(n, MINIDL_CHEAP, MINIDL_CHUNK, widen_range, &j);
}

/* How many outputs are worth a thread. */
static ptrdiff_t grain(ptrdiff_t rows, ptrdiff_t k) { return WORTH / minidl_max(rows * k, 1) + 1; }

/* The activation of outputs [from, to) of all rows. */
static void activate(const work *j, ptrdiff_t from, ptrdiff_t to) {
    for (ptrdiff_t r = 0; j->after->activation != NULL && r < j->rows; r++) {
        float *const at = j->y + r * j->outputs + from;
        j->after->activation(at, at, to - from, j->after->arguments);
    }
}

static void some_outputs(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
    (void)part;
    minidl_narrow_f32_in_use()->dots(j->is_float16, j->x, j->rows, (const uint16_t *)j->w + from * j->k, to - from, j->k,
                                     j->bias == NULL ? NULL : j->bias + from, j->y + from, j->outputs);
    activate(j, from, to);
}

/* Integers -------------------------------------------------------------------------------------------------------------- */

typedef void int8_dots(const int8_t *x, const int8_t *w, ptrdiff_t outputs, ptrdiff_t k, int32_t *sums);

static int8_dots *dots_in_use(void) {
#ifdef MINIDL_HAS_BF16_DOTS
    if (minidl_isa_has_vnni()) return minidl_int8_dots_vnni;
#endif
    return minidl_narrow_f32_in_use()->int8_dots;
}

const char *minidl_int8_name(void) {
    return minidl_isa() < 0 ? NULL : minidl_isa_has_vnni() ? "avx512_vnni" : minidl_isa_name();
}

/* q = x in steps of its scale, which is returned; zeros and a scale of nan if a number is not finite. A scale that is subnormal has
 * few digits, hence the limit. */
static float to_int8(const float *x, ptrdiff_t k, int8_t *q) {
    float most = 0;
    int finite = 1;
    for (ptrdiff_t p = 0; p < k; p++) {
        const float size = fabsf(x[p]);
        finite &= size <= 3.402823466e38f;
        most = size > most ? size : most;
    }
    const float scale = most / 127.0f;
    if (!finite || scale == 0) {
        for (ptrdiff_t p = 0; p < k; p++) q[p] = 0;
        return finite ? 1.0f : NAN;
    }
    const float whole = 0x1.8p23f; /* beyond which a float has no digits behind the point: adding it rounds, ties to even */
    for (ptrdiff_t p = 0; p < k; p++) {
        const float near = x[p] / scale;
        const float cut = near > 127.0f ? 127.0f : near < -127.0f ? -127.0f : near;
        q[p] = (int8_t)(int32_t)((cut + whole) - whole);
    }
    return scale;
}

static int has_vnni(void) {
#ifdef MINIDL_HAS_BF16_DOTS
    return minidl_isa_has_vnni();
#else
    return 0;
#endif
}

static void round_rows(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
    (void)part;
    for (ptrdiff_t r = from; r < to; r++) {
#ifdef MINIDL_HAS_BF16_DOTS
        if (minidl_isa_has_vnni()) {
            j->row_scale[r] = minidl_int8_round_vnni(j->x + r * j->k, j->k, j->many ? 128 : 0, j->q + r * j->q_row, j->q_row);
            continue;
        }
#endif
        j->row_scale[r] = to_int8(j->x + r * j->k, j->k, j->q + r * j->q_row);
    }
}

static void some_integers(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
#ifdef MINIDL_HAS_BF16_DOTS
    if (j->many) {
        const minidl_int8_rows rows = {.rows = j->rows, .outputs = j->outputs, .k = j->k, .q = (const uint32_t *)j->q, .w = j->w,
                                       .row_scale = j->row_scale, .scale = j->scale, .y = j->y};
        minidl_int8_product_vnni(&rows, j->after, from, to, j->room + (size_t)part * j->each);
        return;
    }
#endif
    int8_dots *const dots = dots_in_use();
    (void)part;
    for (ptrdiff_t o = from, n; o < to; o += n) { /* outputs whose weights stay in cache for all rows */
        n = minidl_min(TOGETHER, to - o);
        for (ptrdiff_t r = 0; r < j->rows; r++) {
            int32_t sums[TOGETHER];
            dots(j->q + r * j->q_row, (const int8_t *)j->w + o * j->k, n, j->k, sums);
            for (ptrdiff_t t = 0; t < n; t++) {
                const float y = (float)sums[t] * (j->row_scale[r] * j->scale[o + t]);
                j->y[r * j->outputs + o + t] = j->bias == NULL ? y : y + j->bias[o + t];
            }
        }
    }
    activate(j, from, to);
}

enum { FEW_ROWS = 4, PANEL = 16 }; /* rows for which packing weights costs more than it saves; ranges of outputs begin at multiples */

int minidl_linear_int8(const float *x, ptrdiff_t rows, const int8_t *w, const float *scale, ptrdiff_t outputs, ptrdiff_t k,
                       const minidl_epilogue_f32 *after, float *y) {
    after = after == NULL ? &nothing : after;
    work j = {.x = x, .bias = after->bias, .after = after, .scale = scale, .w = w, .y = y, .rows = rows, .outputs = outputs, .k = k};
    j.many = rows > FEW_ROWS && has_vnni();
    j.q_row = j.many ? minidl_units(k, 4) * 4 : k;
    const int parts = minidl_ranges_worth(outputs, grain(rows, k));
#ifdef MINIDL_HAS_BF16_DOTS
    if (j.many) j.each = minidl_whole_lines(minidl_int8_room_vnni(outputs, k));
#endif
    const size_t scales = minidl_whole_lines((size_t)rows * sizeof(float)), integers = minidl_whole_lines((size_t)(rows * j.q_row));
    const size_t bytes = scales + integers + (size_t)parts * j.each;
    char *const memory = minidl_malloc(NULL, bytes);
    if (memory == NULL) return 1;
    j.row_scale = (float *)memory;
    j.q = (int8_t *)(memory + scales);
    j.room = memory + scales + integers;
    minidl_in_ranges(rows, MINIDL_CHEAP / minidl_max(k, 1) + 1, 1, round_rows, &j);
    minidl_in_so_many_ranges(parts, outputs, grain(rows, k), PANEL, some_integers, &j);
    minidl_free(NULL, memory, bytes);
    return 0;
}

/* Weights of 16 bits ------------------------------------------------------------------------------------------------------ */

enum { BLOCK_OUTPUTS = 64, BLOCK_WEIGHTS = 1 << 17 }; /* so that a product has whole tiles; half a megabyte of float, for the L2 cache */

/* Many rows: some weights at a time become float, so many that they stay in cache for the product. */
static int by_blocks(const work *j, int rounds) {
    const ptrdiff_t most = minidl_min(j->outputs, minidl_max(BLOCK_OUTPUTS, BLOCK_WEIGHTS / j->k));
    const size_t bytes = (size_t)(most * j->k) * sizeof(float);
    float *const wide = minidl_malloc(NULL, bytes);
    int status = wide == NULL;
    for (ptrdiff_t o = 0, n; o < j->outputs && status == 0; o += n) {
        n = minidl_min(most, j->outputs - o);
        minidl_widen(j->is_float16, (const uint16_t *)j->w + o * j->k, wide, n * j->k);
        minidl_epilogue_f32 after = *j->after;
        if (after.bias != NULL) after.bias += o;
        status = (rounds ? minidl_bgemm : minidl_sgemm)(j->rows, n, j->k, 1, j->x, j->k, 1, wide, 1, j->k, 0, j->y + o, j->outputs,
                                                        &after, minidl_get_threads());
    }
    if (wide != NULL) minidl_free(NULL, wide, bytes);
    return status;
}

static int all_finite(const float *x, ptrdiff_t n) {
    int finite = 1;
    for (ptrdiff_t i = 0; i < n; i++) finite &= fabsf(x[i]) <= 3.402823466e38f;
    return finite;
}

/* Few rows of x; rounded copies of them first, if that is asked for. Weights are read as they lie, those that are subnormal too.
 * A product in bfloat16 takes these for zero, which makes a difference where infinity meets them. */
static int few_rows(work *j, int rounds) {
    if (!rounds) {
        minidl_in_ranges(j->outputs, grain(j->rows, j->k), 16, some_outputs, j);
        return 0;
    }
    const size_t bytes = (size_t)(j->rows * j->k) * sizeof(float);
    float *const copy = minidl_malloc(NULL, bytes);
    if (copy == NULL) return 1;
    minidl_round_to_bf16(j->x, copy, j->rows * j->k);
    j->x = copy;
    int status = 0;
    if (all_finite(copy, j->rows * j->k)) minidl_in_ranges(j->outputs, grain(j->rows, j->k), 16, some_outputs, j);
    else status = by_blocks(j, rounds);
    minidl_free(NULL, copy, bytes);
    return status;
}

#ifdef MINIDL_HAS_BF16_DOTS
static minidl_product_f32 product_of(const work *j, ptrdiff_t from, ptrdiff_t to) {
    return (minidl_product_f32){.m = j->rows, .n = to - from, .k = j->k, .a = {j->x, j->k, 1}, .c = {j->y + from, j->outputs, 1},
                                .alpha = 1};
}

static void some_words(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
    if (from == to) return; /* more threads than panels */
    const minidl_product_f32 own = product_of(j, from, to);
    minidl_epilogue_f32 after = *j->after;
    if (after.bias != NULL) after.bias += from;
    minidl_bf16_words_multiply(&own, (const uint16_t *)j->w + from * j->k, &after, j->room + (size_t)part * j->each);
}

/* Many rows, rounded, times bfloat16 words as they are stored. */
static int by_words(work *j) {
    const int parts = minidl_ranges_worth(j->outputs, grain(j->rows, j->k));
    const minidl_product_f32 whole = product_of(j, 0, j->outputs);
    j->each = minidl_whole_lines(minidl_bf16_avx512.choose(&whole).workspace);
    const size_t bytes = (size_t)parts * j->each;
    j->room = minidl_malloc(NULL, bytes);
    if (j->room == NULL) return 1;
    minidl_in_so_many_ranges(parts, j->outputs, grain(j->rows, j->k), PANEL, some_words, j);
    minidl_free(NULL, j->room, bytes);
    return 0;
}
#endif

int minidl_linear_16(int is_float16, int rounds, const float *x, ptrdiff_t rows, const uint16_t *w, ptrdiff_t outputs, ptrdiff_t k,
                     const minidl_epilogue_f32 *after, float *y) {
    after = after == NULL ? &nothing : after;
    work j = {.is_float16 = is_float16, .x = x, .bias = after->bias, .after = after, .w = w, .y = y, .rows = rows,
              .outputs = outputs, .k = k};
    const int again = is_float16 && rounds; /* float16 weights are rounded once more */
    if (rows <= MINIDL_MOST_ROWS && !again) return few_rows(&j, rounds);
#ifdef MINIDL_HAS_BF16_DOTS
    if (rounds && !is_float16 && minidl_bf16_in_use() == &minidl_bf16_avx512) return by_words(&j);
#endif
    return by_blocks(&j, rounds);
}
