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

static float lanes_added(vec_f32 v) {
    float lanes[LANES_f32], sum = 0;
    store_f32(lanes, v);
    for (int t = 0; t < LANES_f32; t++) sum += lanes[t];
    return sum;
}

enum { ROWS_16 = 4, OUTPUTS_16 = 4 }; /* of a tile */

/* Some rows of x times some rows of weights; each vector of weights is widened once for all rows of x. */
MINIDL_INLINE void tile_16(int is_float16, int rows, int outputs, const float *x, const uint16_t *w, ptrdiff_t k, const float *bias,
                           float *y, ptrdiff_t y_row) {
    vec_f32 sum[ROWS_16][OUTPUTS_16];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < outputs; j++) sum[r][j] = splat_f32(0);
    ptrdiff_t p = 0;
    for (; p + LANES_f32 <= k; p += LANES_f32) {
        vec_f32 left[ROWS_16];
        for (int r = 0; r < rows; r++) left[r] = load_f32(x + r * k + p);
        for (int j = 0; j < outputs; j++) {
            const vec_f32 right = load_16(is_float16, w + j * k + p);
            for (int r = 0; r < rows; r++) sum[r][j] = madd_f32(left[r], right, sum[r][j]);
        }
    }
    for (int j = 0; p < k && j < outputs; j++) {
        const vec_f32 right = load_last_16(is_float16, w + j * k + p, k - p);
        for (int r = 0; r < rows; r++) sum[r][j] = madd_f32(load_part_f32(x + r * k + p, k - p, 0), right, sum[r][j]);
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < outputs; j++) y[r * y_row + j] = lanes_added(sum[r][j]) + (bias == NULL ? 0 : bias[j]);
}

/* Constants for rows and outputs, so that the loops over them are unrolled and the sums are registers. */
#define TILE_16(is_float16, rows)                                                                                          \
    do {                                                                                                                   \
        if (outputs == OUTPUTS_16) tile_16(is_float16, rows, OUTPUTS_16, x, w, k, bias, y, y_row);                         \
        else                                                                                                               \
            for (ptrdiff_t o = 0; o < outputs; o++)                                                                        \
                tile_16(is_float16, rows, 1, x, w + o * k, k, bias == NULL ? NULL : bias + o, y + o, y_row);               \
    } while (0)
#define TILES_16(name, is_float16)                                                                                         \
    static void name(ptrdiff_t rows, ptrdiff_t outputs, const float *x, const uint16_t *w, ptrdiff_t k, const float *bias, \
                     float *y, ptrdiff_t y_row) {                                                                          \
        switch (rows) {                                                                                                    \
        case 1: TILE_16(is_float16, 1); break;                                                                             \
        case 2: TILE_16(is_float16, 2); break;                                                                             \
        case 3: TILE_16(is_float16, 3); break;                                                                             \
        default: TILE_16(is_float16, 4);                                                                                   \
        }                                                                                                                  \
    }
TILES_16(bf16_tile, 0)
TILES_16(f16_tile, 1)
#undef TILE_16
#undef TILES_16

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
