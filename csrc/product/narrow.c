/* The functions of narrow.h over threads. */
#include "product/narrow.h"

#include <math.h>

#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/parallel.h"

enum { WORTH = 65536, TOGETHER = 8 }; /* multiply-adds that are worth a thread; outputs whose sums are computed at once */

typedef struct {
    int is_float16;
    const float *x, *bias, *scale, *row_scale;
    const void *w;
    float *y;
    ptrdiff_t rows, outputs, k;
    const int8_t *q;
} work;

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

static void some_outputs(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
    (void)part;
    minidl_narrow_f32_in_use()->dots(j->is_float16, j->x, j->rows, (const uint16_t *)j->w + from * j->k, to - from, j->k,
                                     j->bias == NULL ? NULL : j->bias + from, j->y + from, j->outputs);
}

void minidl_linear_16(int is_float16, const float *x, ptrdiff_t rows, const uint16_t *w, ptrdiff_t outputs, ptrdiff_t k,
                      const float *bias, float *y) {
    work j = {.is_float16 = is_float16, .x = x, .bias = bias, .w = w, .y = y, .rows = rows, .outputs = outputs, .k = k};
    minidl_in_ranges(outputs, grain(rows, k), 16, some_outputs, &j);
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

static void some_integers(void *context, int part, ptrdiff_t from, ptrdiff_t to) {
    const work *const j = context;
    int8_dots *const dots = dots_in_use();
    (void)part;
    for (ptrdiff_t o = from, n; o < to; o += n) { /* outputs whose weights stay in cache for all rows */
        n = minidl_min(TOGETHER, to - o);
        for (ptrdiff_t r = 0; r < j->rows; r++) {
            int32_t sums[TOGETHER];
            dots(j->q + r * j->k, (const int8_t *)j->w + o * j->k, n, j->k, sums);
            for (ptrdiff_t t = 0; t < n; t++) {
                const float y = (float)sums[t] * (j->row_scale[r] * j->scale[o + t]);
                j->y[r * j->outputs + o + t] = j->bias == NULL ? y : y + j->bias[o + t];
            }
        }
    }
}

int minidl_linear_int8(const float *x, ptrdiff_t rows, const int8_t *w, const float *scale, ptrdiff_t outputs, ptrdiff_t k,
                       const float *bias, float *y) {
    const size_t scales = minidl_whole_lines((size_t)rows * sizeof(float));
    const size_t bytes = scales + (size_t)(rows * k);
    char *const memory = minidl_malloc(NULL, bytes);
    if (memory == NULL) return 1;
    float *const row_scale = (float *)memory;
    int8_t *const q = (int8_t *)(memory + scales);
    for (ptrdiff_t r = 0; r < rows; r++) row_scale[r] = to_int8(x + r * k, k, q + r * k);
    work j = {.bias = bias, .scale = scale, .row_scale = row_scale, .w = w, .y = y, .rows = rows, .outputs = outputs, .k = k,
              .q = q};
    minidl_in_ranges(outputs, grain(rows, k), 16, some_integers, &j);
    minidl_free(NULL, memory, bytes);
    return 0;
}
