/* Products of bfloat16 numbers by AVX512_BF16, on one thread.
 *
 * vdpbf16ps adds two products to each of 16 sums: with words that hold a pair of neighbours along k,
 *
 *     sum[t] += high(a) * high(b[t]);    rounded to nearest
 *     sum[t] += low(a) * low(b[t]);      rounded to nearest
 *
 * so a tile is that of single precision with half as many steps. The instruction takes subnormal numbers for zero, and makes zero
 * of subnormal sums, whatever the thread's settings are.
 *
 *     for jc in steps of nc             columns of C and B
 *       for pc in steps of kc             a slice of the inner dimension: the block of B is rounded and packed
 *         for ic in steps of mc             rows of C and A: so is the block of A
 *           for ir in steps of ROWS           words of A, each spread over a vector
 *             for jr in steps of COLUMNS        a tile of C in registers, while it runs through kc
 *
 * A panel holds, pair after pair along k, the words of neighbouring rows of A or columns of B, always of whole vectors. What is
 * missing is zero. */
#include "product/bf16.h"

#ifdef MINIDL_HAS_BF16_DOTS

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "runtime/integers.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,prefer-vector-width=512")
#endif
#include "product/bf16_words.inc.h"

enum {
    ROWS = 8, /* of a tile: 24 registers of sums, 3 for B, 1 for A */
    VECTORS = 3,
    COLUMNS = VECTORS * LANES,
    KC = 512,          /* a block of B takes at most KC * NC * 2 bytes, which leaves room in an L2 cache of 1 MiB */
    NC = 10 * COLUMNS,
    MC = 8 * LANES,
};

/* The next step through `left` things, `limit` at a time: what is too much for one step is done in two equal ones. */
static inline ptrdiff_t step(ptrdiff_t left, ptrdiff_t limit) {
    return left <= limit ? left : left < 2 * limit ? (left + 1) / 2 : limit;
}
static inline ptrdiff_t vectors_in(ptrdiff_t count) { return minidl_units(count, LANES); }
static inline ptrdiff_t panel_width(ptrdiff_t left, int limit) { return step(vectors_in(left), limit) * LANES; }

/* Packing -------------------------------------------------------------------------------------------------------------- */

/* 32 stored neighbours along k, of which `left` exist, as words. */
INLINE __m512i stored_along(const uint16_t *from, ptrdiff_t left) {
    return _mm512_maskz_loadu_epi16(left >= 2 * LANES ? 0xffffffffu : (1u << left) - 1, from);
}

/* 16 lines of which each lies along k: 32 elements of each at a time. They are numbers, or stored already if those are NULL. */
INLINE void pack_lines(ptrdiff_t count, ptrdiff_t k, const float *from, const uint16_t *stored, ptrdiff_t across, ptrdiff_t width,
                       word *to) {
    for (ptrdiff_t p = 0; p < k; p += 2 * LANES) {
        __m512i lines[LANES];
        UNROLL for (int s = 0; s < LANES; s++)
            lines[s] = s >= count     ? _mm512_setzero_si512()
                       : from == NULL ? stored_along(stored + s * across + p, k - p)
                                      : words_along(from + s * across + p, k - p);
        transpose(lines);
        const ptrdiff_t pairs = (minidl_min(k - p, 2 * LANES) + 1) / 2;
        if (pairs == LANES)
            UNROLL for (int t = 0; t < LANES; t++) _mm512_storeu_si512(to + (p / 2 + t) * width, lines[t]);
        else
            for (int t = 0; t < pairs; t++) _mm512_storeu_si512(to + (p / 2 + t) * width, lines[t]);
    }
}

/* Elements from[i * across + p * along] for i < count and p < k become panels of at most `limit` vectors. */
static void pack(ptrdiff_t count, ptrdiff_t k, const float *from, ptrdiff_t across, ptrdiff_t along, int limit, word *to) {
    const ptrdiff_t pairs = (k + 1) / 2;
    for (ptrdiff_t i = 0, width; i < count; i += width, to += pairs * width) {
        width = panel_width(count - i, limit);
        if (along == 1)
            for (ptrdiff_t j = 0; j < width; j += LANES)
                pack_lines(count - i - j, k, from + (i + j) * across, NULL, across, width, to + j);
        else
            for (ptrdiff_t p = 0; p < k; p += 2)
                for (ptrdiff_t j = 0; j < width; j += LANES)
                    _mm512_storeu_si512(to + p / 2 * width + j,
                                        words_across(from + i + j + p * along, along, first_lanes(count - i - j), p + 1 < k));
    }
}

/* Panels of B from lines of numbers that are stored in bfloat16. */
static void pack_stored(ptrdiff_t count, ptrdiff_t k, const uint16_t *from, ptrdiff_t across, word *to) {
    const ptrdiff_t pairs = (k + 1) / 2;
    for (ptrdiff_t i = 0, width; i < count; i += width, to += pairs * width) {
        width = panel_width(count - i, VECTORS);
        for (ptrdiff_t j = 0; j < width; j += LANES)
            pack_lines(count - i - j, k, NULL, from + (i + j) * across, across, width, to + j);
    }
}

/* Tiles ---------------------------------------------------------------------------------------------------------------- */

/* C = alpha A B + beta C for `rows` x `vectors` of C, of whose last vector the lanes `last` exist. A's words for one pair are
 * LANES apart, those of B as many as are in `vectors`. */
INLINE void tile(int rows, int vectors, ptrdiff_t pairs, const word *a, const word *b, float alpha, float beta, __mmask16 last,
                 float *c, ptrdiff_t c_row) {
    __m512 sum[ROWS][VECTORS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = _mm512_setzero_ps();
    for (ptrdiff_t p = 0; p < pairs; p++, a += LANES, b += vectors * LANES) {
        __m512bh right[VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) right[j] = (__m512bh)_mm512_loadu_si512(b + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[i]);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], left, right[j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) {
        const __mmask16 there = j == vectors - 1 ? last : 0xffff;
        float *const at = c + i * c_row + j * LANES;
        __m512 y = sum[i][j] * alpha;
        if (beta != 0) y += _mm512_maskz_loadu_ps(there, at) * beta;
        _mm512_mask_storeu_ps(at, there, y);
    }
}

typedef void tile_function(ptrdiff_t pairs, const word *a, const word *b, float alpha, float beta, __mmask16 last, float *c,
                           ptrdiff_t c_row);
#define TILE(R, V)                                                                                                         \
    static void tile_##R##_##V(ptrdiff_t pairs, const word *a, const word *b, float alpha, float beta, __mmask16 last,     \
                               float *c, ptrdiff_t c_row) {                                                                \
        tile(R, V, pairs, a, b, alpha, beta, last, c, c_row);                                                              \
    }
#define EACH_ROWS(DO, V) DO(1, V) DO(2, V) DO(3, V) DO(4, V) DO(5, V) DO(6, V) DO(7, V) DO(8, V)
#define EACH_TILE(DO) EACH_ROWS(DO, 1) EACH_ROWS(DO, 2) EACH_ROWS(DO, 3)
EACH_TILE(TILE)
#define ENTRY(R, V) [R - 1][V - 1] = tile_##R##_##V,
static tile_function *const tiles[ROWS][VECTORS] = {EACH_TILE(ENTRY)};

/* Blocks --------------------------------------------------------------------------------------------------------------- */

/* `length` in equal even parts of at most `limit`. */
static ptrdiff_t part(ptrdiff_t length, ptrdiff_t limit) {
    const ptrdiff_t parts = minidl_units(length, limit);
    return parts <= 1 ? length : minidl_units(minidl_units(length, parts), 2) * 2;
}

/* In steps of a tile, with what it takes to round and pack an operand: some elements at a time. */
static double estimate(const product *x) {
    const double m = (double)x->m, n = (double)x->n, k = (double)x->k;
    return (double)(vectors_in(x->n) * LANES) * m * k / (2 * LANES) + (m * (double)minidl_units(x->n, NC) + n) * k / 4;
}

static minidl_gemm_plan choose(const product *x) {
    minidl_gemm_plan p = {.pack_a = 1, .pack_b = 1, .kc = part(x->k, KC), .mc = minidl_min(x->m, MC)};
    p.nc = minidl_min(x->n, minidl_units(minidl_units(x->n, minidl_units(x->n, NC)), COLUMNS) * COLUMNS);
    const ptrdiff_t lines = (vectors_in(p.nc) + vectors_in(p.mc)) * LANES, pairs = (p.kc + 1) / 2;
    p.workspace = (size_t)(lines * pairs) * sizeof(word) + MINIDL_LINE;
    return p;
}

/* Stored numbers that are wanted next: some of `count` lines of `length`, which are `across` apart. */
typedef struct {
    const uint16_t *at;
    ptrdiff_t count, length, across;
} lines;

/* Ask for a share of them: that of rows [row, row + rows) of so many. */
static void fetch(const lines *next, ptrdiff_t row, ptrdiff_t rows, ptrdiff_t of) {
    for (ptrdiff_t i = next->count * row / of; i < next->count * (row + rows) / of; i++)
        for (ptrdiff_t p = 0; p < next->length; p += 2 * LANES) __builtin_prefetch(next->at + i * next->across + p, 0, 2);
}

/* Rows [done, done + mc) of C and columns from jc on, which begin at c, from packed blocks of A and B; and what follows when their
 * sums are complete. Meanwhile a share of what is wanted next is asked for. */
static void rows_of_tiles(const product *x, ptrdiff_t mc, ptrdiff_t nc, ptrdiff_t kc, const word *a, const word *b, float beta,
                          float *c, const lines *next, ptrdiff_t done, const minidl_epilogue_f32 *epilogue, ptrdiff_t jc) {
    const ptrdiff_t pairs = (kc + 1) / 2;
    for (ptrdiff_t ir = 0, rows; ir < mc; ir += rows) {
        rows = minidl_min(ROWS, mc - ir);
        if (next->count > 0) fetch(next, done + ir, rows, x->m);
        const word *const left = a + ir / LANES * LANES * pairs + ir % LANES;
        for (ptrdiff_t jr = 0, width; jr < nc; jr += width) {
            width = panel_width(nc - jr, VECTORS);
            tiles[rows - 1][width / LANES - 1](pairs, left, b + jr * pairs, x->alpha, beta,
                                               first_lanes(nc - jr - width + LANES), c + ir * x->c.row + jr, x->c.row);
        }
        if (epilogue != NULL)
            minidl_gemm_f32_in_use()->finish(epilogue, done + ir, rows, jc, nc, c + ir * x->c.row, x->c.row);
    }
}

/* The product with x->b, or, if there is some, with what is stored. */
static void multiply_by(const product *x, const uint16_t *stored, const minidl_gemm_plan *p, const minidl_epilogue_f32 *epilogue,
                        void *workspace) {
    const int once = x->m <= p->mc && x->k <= p->kc; /* whether A is packed as a whole, for all blocks of B */
    word *const packed_b = (word *)(((uintptr_t)workspace + MINIDL_LINE - 1) / MINIDL_LINE * MINIDL_LINE);
    word *const packed_a = packed_b + vectors_in(p->nc) * LANES * ((p->kc + 1) / 2);
    for (ptrdiff_t jc = 0, nc; jc < x->n; jc += nc) {
        nc = minidl_min(p->nc, x->n - jc);
        for (ptrdiff_t pc = 0, kc; pc < x->k; pc += kc) {
            kc = minidl_min(p->kc, x->k - pc);
            lines next = {0};
            if (stored != NULL) {
                const int last = pc + kc == x->k;
                const ptrdiff_t j = last ? jc + nc : jc, p = last ? 0 : pc + kc;
                pack_stored(nc, kc, stored + jc * x->k + pc, x->k, packed_b);
                next = (lines){stored + j * x->k + p, minidl_min(nc, x->n - j), minidl_min(kc, x->k - p), x->k};
            } else
                pack(nc, kc, x->b.at + pc * x->b.row + jc * x->b.col, x->b.col, x->b.row, VECTORS, packed_b);
            for (ptrdiff_t ic = 0, mc; ic < x->m; ic += mc) {
                mc = minidl_min(p->mc, x->m - ic);
                float *const c = x->c.at + ic * x->c.row + jc;
                if (jc == 0 || !once) pack(mc, kc, x->a.at + ic * x->a.row + pc * x->a.col, x->a.row, x->a.col, 1, packed_a);
                rows_of_tiles(x, mc, nc, kc, packed_a, packed_b, pc == 0 ? x->beta : 1, c, &next, ic,
                              pc + kc == x->k ? epilogue : NULL, jc);
            }
        }
    }
}

static void multiply(const product *x, const minidl_gemm_plan *p, const minidl_epilogue_f32 *epilogue, void *workspace) {
    if (x->k == 0) minidl_gemm_f32_in_use()->multiply(x, p, epilogue, workspace); /* an empty sum has nothing to round */
    else multiply_by(x, NULL, p, epilogue, workspace);
}

void minidl_bf16_words_multiply(const product *x, const uint16_t *words, const minidl_epilogue_f32 *epilogue, void *workspace) {
    minidl_gemm_plan plan = choose(x);
    if (x->m <= MC) plan.nc = minidl_min(plan.nc, 4 * COLUMNS); /* narrow blocks, so that the next one finds room in the cache */
    multiply_by(x, words, &plan, epilogue, workspace);
}

/* The instruction of the largest tile, with values in registers: no product can be faster. */
static double registers_only(ptrdiff_t steps) {
    __m512 sum[ROWS * VECTORS];
    const __m512bh left = (__m512bh)_mm512_set1_epi32(0x3f003f00), right = (__m512bh)_mm512_set1_epi32(0x3e803e80);
    UNROLL for (int i = 0; i < ROWS * VECTORS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (ptrdiff_t p = 0; p < steps; p++)
        for (int i = 0; i < ROWS * VECTORS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], left, right);
    volatile float kept = 0; /* so that the loop has a purpose */
    for (int i = 0; i < ROWS * VECTORS; i++) kept = kept + _mm512_reduce_add_ps(sum[i]);
    return 4.0 * ROWS * COLUMNS * (double)steps + 0 * (double)kept;
}

const minidl_gemm_f32 minidl_bf16_avx512 = {
    .rows = LANES, .columns = LANES, .estimate = estimate, .choose = choose, .multiply = multiply, .registers_only = registers_only};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_nothing_for_this_machine; /* a file must declare something */
#endif
