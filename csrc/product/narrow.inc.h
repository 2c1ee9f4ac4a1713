/* Loops over numbers of 16 and 8 bits, for one instruction set. Rounding and products of integers are plain C, which compilers
 * turn into its vectors. */
#if SINGLE
#include "product/narrow.h"

static void round_to_bf16(const float *x, float *y, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits = minidl_bf16_bits(bits);
        memcpy(y + i, &bits, sizeof bits);
    }
}

#ifndef MINIDL_WORDS_F32 /* a vector is one element; as load_bf16 and load_f16 of vector/simd.h */
static float load_bf16_f32(const uint16_t *p) {
    const uint32_t bits = (uint32_t)*p << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static float load_f16_f32(const uint16_t *p) {
    const uint32_t magnitude = (uint32_t)(*p & 0x7fffu) << 13, sign = (uint32_t)(*p & 0x8000u) << 16;
    uint32_t bits;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    bits |= (magnitude >= 0x0f800000u ? 0x7f800000u : 0) | sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

MINIDL_INLINE vec_f32 load_16(int is_float16, const uint16_t *p) { return is_float16 ? load_f16_f32(p) : load_bf16_f32(p); }

/* The last count < LANES numbers, zeros behind them. */
MINIDL_INLINE vec_f32 load_last_16(int is_float16, const uint16_t *p, ptrdiff_t count) {
    uint16_t lanes[LANES_f32] = {0};
    for (ptrdiff_t t = 0; t < count; t++) lanes[t] = p[t];
    return load_16(is_float16, lanes);
}

static void widen_16(int is_float16, const uint16_t *x, float *y, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + LANES_f32 <= n; i += LANES_f32) store_f32(y + i, is_float16 ? load_f16_f32(x + i) : load_bf16_f32(x + i));
    if (i < n) store_part_f32(y + i, load_last_16(is_float16, x + i, n - i), n - i);
}

/* The sum of the lanes, halves added to halves. */
MINIDL_INLINE float lanes_added(vec_f32 v) {
    float lanes[LANES_f32];
    store_f32(lanes, v);
    for (int half = LANES_f32 / 2; half > 0; half /= 2)
        for (int t = 0; t < half; t++) lanes[t] += lanes[t + half];
    return lanes[0];
}

enum { ROWS_16 = 4, CHAINS_16 = 4, AHEAD_16 = 4096 }; /* sums at a time, because each takes cycles; bytes asked for early */

#if defined(_MSC_VER) && !defined(__clang__)
#define PREFETCH_16(address) ((void)0)
#else
#define PREFETCH_16(address) __builtin_prefetch(address, 0, 2) /* into the L2 cache */
#endif

/* Some rows of x times one row of weights, which is read from end to end: memory gives a single stream most. */
MINIDL_INLINE void tile_16(int is_float16, int rows, const float *x, const uint16_t *w, ptrdiff_t k, float bias, float *y,
                           ptrdiff_t y_row) {
    const int chains = rows <= 2 ? CHAINS_16 / rows : 1;
    vec_f32 sum[ROWS_16][CHAINS_16];
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < chains; t++) sum[r][t] = splat_f32(0);
    ptrdiff_t p = 0;
    for (; p + chains * LANES_f32 <= k; p += chains * LANES_f32)
        for (int t = 0; t < chains; t++) {
            const ptrdiff_t at = p + t * LANES_f32;
            PREFETCH_16((const char *)(w + at) + AHEAD_16);
            const vec_f32 right = load_16(is_float16, w + at);
            for (int r = 0; r < rows; r++) sum[r][t] = madd_f32(load_f32(x + r * k + at), right, sum[r][t]);
        }
    for (; p + LANES_f32 <= k; p += LANES_f32) {
        const vec_f32 right = load_16(is_float16, w + p);
        for (int r = 0; r < rows; r++) sum[r][0] = madd_f32(load_f32(x + r * k + p), right, sum[r][0]);
    }
    if (p < k) {
        const vec_f32 right = load_last_16(is_float16, w + p, k - p);
        for (int r = 0; r < rows; r++) sum[r][0] = madd_f32(load_part_f32(x + r * k + p, k - p, 0), right, sum[r][0]);
    }
    for (int r = 0; r < rows; r++) {
        for (int t = 1; t < chains; t++) sum[r][0] += sum[r][t];
        y[r * y_row] = lanes_added(sum[r][0]) + bias;
    }
}

/* A constant for the rows, so that the loops over them are unrolled and the sums are registers. */
#define ROWS_OF_16(is_float16, rows)                                                                                       \
    for (ptrdiff_t o = 0; o < outputs; o++)                                                                                \
    tile_16(is_float16, rows, x, w + o * k, k, bias == NULL ? 0 : bias[o], y + o, y_row)
#define TILES_16(name, is_float16)                                                                                         \
    static void name(ptrdiff_t rows, ptrdiff_t outputs, const float *x, const uint16_t *w, ptrdiff_t k, const float *bias, \
                     float *y, ptrdiff_t y_row) {                                                                          \
        switch (rows) {                                                                                                    \
        case 1: ROWS_OF_16(is_float16, 1); break;                                                                          \
        case 2: ROWS_OF_16(is_float16, 2); break;                                                                          \
        case 3: ROWS_OF_16(is_float16, 3); break;                                                                          \
        default: ROWS_OF_16(is_float16, 4);                                                                                \
        }                                                                                                                  \
    }
TILES_16(bf16_tile, 0)
TILES_16(f16_tile, 1)
#undef ROWS_OF_16
#undef TILES_16

enum { OUTPUTS_16 = 8 }; /* whose weights stay near for the next rows */

static void dots_16(int is_float16, const float *x, ptrdiff_t rows, const uint16_t *w, ptrdiff_t outputs, ptrdiff_t k,
                    const float *bias, float *y, ptrdiff_t y_row) {
    for (ptrdiff_t o = 0, width; o < outputs; o += width) {
        width = outputs - o < OUTPUTS_16 ? outputs - o : OUTPUTS_16;
        for (ptrdiff_t r = 0, height; r < rows; r += height) {
            height = rows - r < ROWS_16 ? rows - r : ROWS_16;
            (is_float16 ? f16_tile : bf16_tile)(height, width, x + r * k, w + o * k, k, bias == NULL ? NULL : bias + o,
                                                y + r * y_row + o, y_row);
        }
    }
}

static void dots_int8(const int8_t *x, const int8_t *w, ptrdiff_t outputs, ptrdiff_t k, int32_t *sums) {
    for (ptrdiff_t o = 0; o < outputs; o++) {
        const int8_t *const row = w + o * k;
        int32_t sum = 0;
        for (ptrdiff_t p = 0; p < k; p++) sum += (int32_t)x[p] * (int32_t)row[p];
        sums[o] = sum;
    }
}

const minidl_narrow_f32 VARIANT(minidl_narrow_f32) = {
    .round = round_to_bf16, .widen = widen_16, .dots = dots_16, .int8_dots = dots_int8};
#endif
