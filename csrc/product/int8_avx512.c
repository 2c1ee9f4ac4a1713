/* Sums of products of 8-bit integers by AVX512_VNNI.
 *
 * vpdpbusd adds four products of an unsigned and a signed number to each of 16 sums, without saturation. So 128 is added to x,
 * and 128 times the sum of the weights is subtracted; that sum is another vpdpbusd, while the weights are at hand. Sums that wrap
 * around on the way are right in the end, because that fits 32 bits.
 *
 * One row reads each row of weights from end to end, in the order in which it lies. For many rows, panels of weights are packed:
 *
 *     for jc in steps of so many outputs that their packed weights stay in the L2 cache
 *       for jr in steps of COLUMNS          a panel: words of four neighbours along k, of neighbouring outputs
 *       for ir in steps of ROWS
 *         for jr in steps of COLUMNS          a tile of sums in registers, while it runs through k; then its scales
 *         bias and activation of these rows */
#include "product/narrow.h"

#ifdef MINIDL_HAS_BF16_DOTS

#include <immintrin.h>
#include <math.h>

#include "product/gemm_variant.h"
#include "runtime/integers.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif
#include "product/words.inc.h"

enum { BYTES = 64, CHAINS = 2, AHEAD = 4096 }; /* of a vector; sums at a time; bytes that are asked for early */

static inline __mmask64 first_bytes(ptrdiff_t count) {
    return count >= BYTES ? ~(__mmask64)0 : count <= 0 ? 0 : ((__mmask64)1 << count) - 1;
}

/* One row of weights after the other, each from end to end: memory gives a single stream most. */
void minidl_int8_dots_vnni(const int8_t *x, const int8_t *w, ptrdiff_t outputs, ptrdiff_t k, int32_t *sums) {
    const __m512i half = _mm512_set1_epi8(-128), ones = _mm512_set1_epi8(1);
    for (ptrdiff_t o = 0; o < outputs; o++, w += k) {
        __m512i sum[CHAINS], of_weights[CHAINS];
        UNROLL for (int t = 0; t < CHAINS; t++) sum[t] = of_weights[t] = _mm512_setzero_si512();
        ptrdiff_t p = 0;
        for (; p + CHAINS * BYTES <= k; p += CHAINS * BYTES)
            UNROLL for (int t = 0; t < CHAINS; t++) {
                const int8_t *const at = w + p + t * BYTES;
                __builtin_prefetch(at + AHEAD, 0, 2); /* into the L2 cache */
                const __m512i left = _mm512_xor_si512(_mm512_loadu_si512(x + p + t * BYTES), half); /* which adds 128 */
                const __m512i right = _mm512_loadu_si512(at);
                sum[t] = _mm512_dpbusd_epi32(sum[t], left, right);
                of_weights[t] = _mm512_dpbusd_epi32(of_weights[t], ones, right);
            }
        for (; p < k; p += BYTES) {
            const __mmask64 there = first_bytes(k - p);
            const __m512i left = _mm512_xor_si512(_mm512_maskz_loadu_epi8(there, x + p), half);
            const __m512i right = _mm512_maskz_loadu_epi8(there, w + p);
            sum[0] = _mm512_dpbusd_epi32(sum[0], left, right);
            of_weights[0] = _mm512_dpbusd_epi32(of_weights[0], ones, right);
        }
        UNROLL for (int t = 1; t < CHAINS; t++) {
            sum[0] = _mm512_add_epi32(sum[0], sum[t]);
            of_weights[0] = _mm512_add_epi32(of_weights[0], of_weights[t]);
        }
        sums[o] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[0], _mm512_slli_epi32(of_weights[0], 7)));
    }
}

/* As the scalar loop of narrow.c, sixteen at a time: the same quotients, and the same rounding to even. */
float minidl_int8_round_vnni(const float *x, ptrdiff_t k, int add, int8_t *q, ptrdiff_t room) {
    const __m512i more = _mm512_set1_epi32(add);
    const __m512 greatest = _mm512_set1_ps(3.402823466e38f), edge = _mm512_set1_ps(127.0f);
    __m512 most = _mm512_setzero_ps();
    __mmask16 finite = 0xffff;
    for (ptrdiff_t p = 0; p < k; p += LANES) {
        const __m512 size = _mm512_abs_ps(_mm512_maskz_loadu_ps(first_lanes(k - p), x + p));
        finite &= _mm512_cmp_ps_mask(size, greatest, _CMP_LE_OQ);
        most = _mm512_max_ps(size, most);
    }
    const float scale = _mm512_reduce_max_ps(most) / 127.0f;
    const int usual = finite == 0xffff && scale != 0;
    const __m512 step = _mm512_set1_ps(usual ? scale : INFINITY);
    for (ptrdiff_t p = 0; p < room; p += LANES) {
        const __m512 near = _mm512_div_ps(_mm512_maskz_loadu_ps(usual ? first_lanes(k - p) : 0, x + p), step);
        const __m512 cut = _mm512_max_ps(_mm512_min_ps(near, edge), _mm512_sub_ps(_mm512_setzero_ps(), edge));
        _mm_mask_storeu_epi8(q + p, first_lanes(room - p), _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(cut), more)));
    }
    return usual ? scale : finite == 0xffff ? 1.0f : NAN;
}

/* Many rows ------------------------------------------------------------------------------------------------------------- */

enum {
    ROWS = 8, /* of a tile: 24 registers of sums, 3 for weights, 1 for x */
    VECTORS = 3,
    COLUMNS = VECTORS * LANES,
    NEAR = 64 * 1024, /* bytes of packed weights, which leave room in an L2 cache for those that come next */
};

static inline ptrdiff_t words_in(ptrdiff_t k) { return minidl_units(k, 4); }
static inline ptrdiff_t whole_vectors(ptrdiff_t count) { return minidl_units(count, LANES) * LANES; }

/* How many outputs are packed at a time. */
static ptrdiff_t outputs_near(ptrdiff_t outputs, ptrdiff_t k) {
    return minidl_min(whole_vectors(outputs), minidl_max(NEAR / minidl_max(4 * words_in(k), 1) / COLUMNS, 1) * COLUMNS);
}

size_t minidl_int8_room_vnni(ptrdiff_t outputs, ptrdiff_t k) {
    return (size_t)(outputs_near(outputs, k) * (words_in(k) + 1)) * sizeof(word) + MINIDL_LINE;
}

/* Sixteen outputs as words, `width` apart; and what takes back the 128 that was added to x. */
static void pack(ptrdiff_t count, ptrdiff_t k, const int8_t *w, ptrdiff_t width, word *to, int32_t *begin) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i of_weights = _mm512_setzero_si512();
    for (ptrdiff_t p = 0; p < k; p += BYTES) {
        const __mmask64 there = first_bytes(k - p);
        __m512i lines[LANES];
        UNROLL for (int s = 0; s < LANES; s++)
            lines[s] = s < count ? _mm512_maskz_loadu_epi8(there, w + s * k + p) : _mm512_setzero_si512();
        transpose(lines);
        const ptrdiff_t words = words_in(minidl_min(k - p, BYTES));
        UNROLL for (int t = 0; t < LANES; t++) {
            of_weights = _mm512_dpbusd_epi32(of_weights, ones, lines[t]);
            if (t < words) _mm512_storeu_si512(to + (p / 4 + t) * width, lines[t]);
        }
    }
    _mm512_storeu_si512(begin, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(of_weights, 7)));
}

typedef minidl_int8_rows layer;
typedef int32_t integers __attribute__((vector_size(64))); /* of which GCC keeps an array in registers, as of __m512i it does not */

/* Rows from r on and outputs from o on, `rows` x `vectors`, of whose last vector the lanes `last` exist. */
INLINE void tile(int rows, int vectors, const layer *j, ptrdiff_t r, ptrdiff_t o, const word *w, const int32_t *begin, __mmask16 last) {
    const ptrdiff_t words = words_in(j->k);
    const word *const q = j->q + r * words;
    integers sum[ROWS][VECTORS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int t = 0; t < vectors; t++)
        sum[i][t] = (integers)_mm512_loadu_si512(begin + t * LANES);
    for (ptrdiff_t p = 0; p < words; p++, w += vectors * LANES) {
        __m512i right[VECTORS];
        UNROLL for (int t = 0; t < vectors; t++) right[t] = _mm512_loadu_si512(w + t * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const __m512i left = _mm512_set1_epi32((int)q[i * words + p]);
            UNROLL for (int t = 0; t < vectors; t++) sum[i][t] = (integers)_mm512_dpbusd_epi32((__m512i)sum[i][t], left, right[t]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int t = 0; t < vectors; t++) {
        const __mmask16 there = t == vectors - 1 ? last : 0xffff;
        const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(j->row_scale[r + i]),
                                           _mm512_maskz_loadu_ps(there, j->scale + o + t * LANES));
        _mm512_mask_storeu_ps(j->y + (r + i) * j->outputs + o + t * LANES, there,
                              _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)sum[i][t]), scale));
    }
}

typedef void tile_function(const layer *j, ptrdiff_t r, ptrdiff_t o, const word *w, const int32_t *begin, __mmask16 last);
#define TILE(R, V)                                                                                                           \
    static void tile_##R##_##V(const layer *j, ptrdiff_t r, ptrdiff_t o, const word *w, const int32_t *begin, __mmask16 last) { \
        tile(R, V, j, r, o, w, begin, last);                                                                                 \
    }
#define EACH_ROWS(DO, V) DO(1, V) DO(2, V) DO(3, V) DO(4, V) DO(5, V) DO(6, V) DO(7, V) DO(8, V)
#define EACH_TILE(DO) EACH_ROWS(DO, 1) EACH_ROWS(DO, 2) EACH_ROWS(DO, 3)
EACH_TILE(TILE)
#define ENTRY(R, V) [R - 1][V - 1] = tile_##R##_##V,
static tile_function *const tiles[ROWS][VECTORS] = {EACH_TILE(ENTRY)};

/* Ask for a share of the weights of outputs [from, to): that of rows [row, row + rows). */
static void fetch(const layer *j, ptrdiff_t from, ptrdiff_t to, ptrdiff_t row, ptrdiff_t rows) {
    const ptrdiff_t bytes = (to - from) * j->k, begin = bytes * row / j->rows, end = bytes * (row + rows) / j->rows;
    for (ptrdiff_t p = begin / MINIDL_LINE * MINIDL_LINE; p < end; p += MINIDL_LINE)
        __builtin_prefetch(j->w + from * j->k + p, 0, 2); /* into the L2 cache */
}

void minidl_int8_product_vnni(const layer *j, const minidl_epilogue_f32 *after, ptrdiff_t from, ptrdiff_t to, void *room) {
    const minidl_gemm_f32 *const single = minidl_gemm_f32_in_use();
    const ptrdiff_t words = words_in(j->k), near = outputs_near(to - from, j->k);
    int32_t *const begin = (int32_t *)(((uintptr_t)room + MINIDL_LINE - 1) / MINIDL_LINE * MINIDL_LINE);
    word *const packed = (word *)(begin + near);
    for (ptrdiff_t jc = from, nc; jc < to; jc += nc) {
        nc = minidl_min(near, to - jc);
        for (ptrdiff_t jr = 0, width; jr < nc; jr += width) {
            width = minidl_min(COLUMNS, whole_vectors(nc - jr));
            for (ptrdiff_t t = 0; t < width; t += LANES)
                pack(nc - jr - t, j->k, j->w + (jc + jr + t) * j->k, width, packed + jr * words + t, begin + jr + t);
        }
        for (ptrdiff_t ir = 0, rows; ir < j->rows; ir += rows) {
            rows = minidl_min(ROWS, j->rows - ir);
            fetch(j, jc + nc, minidl_min(jc + nc + near, to), ir, rows); /* while there is something to compute */
            for (ptrdiff_t jr = 0, width; jr < nc; jr += width) {
                width = minidl_min(COLUMNS, whole_vectors(nc - jr));
                tiles[rows - 1][width / LANES - 1](j, ir, jc + jr, packed + jr * words, begin + jr,
                                                   first_lanes(nc - jr - width + LANES));
            }
            single->finish(after, ir, rows, jc, nc, j->y + ir * j->outputs + jc, j->outputs);
        }
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_nothing_for_this_machine; /* a file must declare something */
#endif
