/* Products of bfloat16 numbers by AMX, on one thread. No processor has run this yet: tests/native/test_amx.py runs it on tile
 * instructions written in C, as their manual describes them.
 *
 * A tile register holds 16 rows of 64 bytes. With words that hold a pair of neighbours along k, tdpbf16ps computes
 *
 *     for (i = 0; i < 16; i++)
 *         for (j = 0; j < 16; j++) {
 *             for (p = 0; p < 16; p++) {
 *                 low += low(a[i][p]) * low(b[p][j]);        rounded to nearest
 *                 high += high(a[i][p]) * high(b[p][j]);     rounded to nearest
 *             }
 *             c[i][j] += low + high;                         two roundings
 *         }
 *
 * from zero in low and high. It takes subnormal numbers for zero, and makes zero of subnormal sums, whatever the thread's settings
 * are. Of the eight tiles four are sums of C, 32 x 32, two rows of A, and two columns of B: four loads for four products.
 *
 *     for jc in steps of nc             columns of C and B
 *       for pc in steps of kc             a slice of the inner dimension: the block of B is rounded and packed
 *         for ic in steps of mc             rows of C and A: so is the block of A
 *           for ir in steps of 32             two panels of A, which fit half of the L1 cache
 *             for jr in steps of 32             sums in tiles, while they run through kc
 *
 * A panel is one tile after the other along k, each 1 KiB as it is loaded: rows of A, or for B rows of pairs along k. What is missing
 * is zero, so tiles are always whole; the edges of C go through a copy.
 *
 * The tiles' shapes are set at the beginning of a product and given back at its end. So no thread owns tiles between two products,
 * the system has 8 KiB less to save when it switches threads, and whoever uses tiles next finds none of ours. */
#include "product/bf16.h"

#ifdef MINIDL_HAS_AMX

#include <immintrin.h>
#include <stdint.h>

#include "runtime/caches.h"
#include "runtime/integers.h"

#if defined(__clang__)
#pragma clang attribute push(                                                                                              \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,amx-tile,amx-bf16,prefer-vector-width=512")
#endif
#include "product/bf16_words.inc.h"

enum {
    SIDE = LANES,          /* rows of a tile, and words in one */
    TILE = SIDE * SIDE,    /* words */
    ROW_BYTES = 64,
    DEPTH = 2 * SIDE,      /* of k in a tile of A or B */
    SQUARE = 2 * SIDE,     /* rows and columns of C at once */
};

/* What ldtilecfg reads. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

static const _Alignas(64) tile_shapes all_whole = {
    .palette = 1,
    .row_bytes = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES},
    .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE},
};

/* Packing -------------------------------------------------------------------------------------------------------------- */

/* Elements from[i * across + p * along] for i < count and p < k become panels of 16 lines, in tiles whose rows are lines, or pairs
 * along k if `of_pairs`. */
static void pack(ptrdiff_t count, ptrdiff_t k, const float *from, ptrdiff_t across, ptrdiff_t along, int of_pairs, word *to) {
    for (ptrdiff_t i = 0; i < count; i += SIDE)
        for (ptrdiff_t p = 0; p < k; p += DEPTH, to += TILE) {
            const float *const at = from + i * across + p * along;
            __m512i rows[LANES];
            UNROLL for (int s = 0; s < SIDE; s++) {
                rows[s] = _mm512_setzero_si512();
                if (along == 1 && s < count - i) rows[s] = words_along(at + s * across, k - p);
                if (along != 1 && 2 * s < k - p)
                    rows[s] = words_across(at + 2 * s * along, along, first_lanes(count - i), 2 * s + 1 < k - p);
            }
            if ((along == 1) == of_pairs) transpose(rows);
            UNROLL for (int s = 0; s < SIDE; s++) _mm512_storeu_si512(to + s * SIDE, rows[s]);
        }
}

/* Tiles ---------------------------------------------------------------------------------------------------------------- */

/* C = A B, added to C if `more`, for rows x columns tiles of C, 1 or 2 each, over so many tiles of the panels a and b. */
INLINE void sums(int rows, int columns, ptrdiff_t tiles, const word *a, const word *b, int more, float *c, ptrdiff_t c_row) {
    const word *const second_a = a + tiles * TILE, *const second_b = b + tiles * TILE;
    float *const below = c + SIDE * c_row;
    const ptrdiff_t c_bytes = c_row * (ptrdiff_t)sizeof(float);
    __asm__ volatile("" ::: "memory"); /* compilers that do not know what tile loads read have stored it by now */
    if (more) {
        _tile_loadd(0, c, c_bytes);
        if (columns == 2) _tile_loadd(1, c + SIDE, c_bytes);
        if (rows == 2) _tile_loadd(2, below, c_bytes);
        if (rows == 2 && columns == 2) _tile_loadd(3, below + SIDE, c_bytes);
    } else {
        _tile_zero(0);
        if (columns == 2) _tile_zero(1);
        if (rows == 2) _tile_zero(2);
        if (rows == 2 && columns == 2) _tile_zero(3);
    }
    for (ptrdiff_t p = 0; p < tiles * TILE; p += TILE) {
        _tile_loadd(4, a + p, ROW_BYTES);
        _tile_loadd(6, b + p, ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        if (columns == 2) _tile_loadd(7, second_b + p, ROW_BYTES);
        if (columns == 2) _tile_dpbf16ps(1, 4, 7);
        if (rows == 2) _tile_loadd(5, second_a + p, ROW_BYTES);
        if (rows == 2) _tile_dpbf16ps(2, 5, 6);
        if (rows == 2 && columns == 2) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    if (columns == 2) _tile_stored(1, c + SIDE, c_bytes);
    if (rows == 2) _tile_stored(2, below, c_bytes);
    if (rows == 2 && columns == 2) _tile_stored(3, below + SIDE, c_bytes);
}

static void sums_of(int rows, int columns, ptrdiff_t tiles, const word *a, const word *b, int more, float *c, ptrdiff_t c_row) {
    if (rows == 2 && columns == 2) sums(2, 2, tiles, a, b, more, c, c_row);
    else if (rows == 2) sums(2, 1, tiles, a, b, more, c, c_row);
    else if (columns == 2) sums(1, 2, tiles, a, b, more, c, c_row);
    else sums(1, 1, tiles, a, b, more, c, c_row);
}

/* C = alpha times the sums in `copy`, whose rows are SQUARE apart, + beta C. */
static void put(ptrdiff_t rows, ptrdiff_t columns, const float *copy, float alpha, float beta, float *c, ptrdiff_t c_row) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j += LANES) {
            const __mmask16 there = first_lanes(columns - j);
            float *const at = c + i * c_row + j;
            __m512 y = _mm512_load_ps(copy + i * SQUARE + j) * alpha;
            if (beta != 0) y += _mm512_maskz_loadu_ps(there, at) * beta;
            _mm512_mask_storeu_ps(at, there, y);
        }
}

/* Rows [0, mc) of C from c on, times the packed block of B. */
static void rows_of_tiles(const product *x, ptrdiff_t mc, ptrdiff_t nc, ptrdiff_t kc, const word *a, const word *b, float beta,
                          float *c) {
    const ptrdiff_t tiles = minidl_units(kc, DEPTH);
    _Alignas(64) float copy[SQUARE * SQUARE];
    for (ptrdiff_t ir = 0; ir < mc; ir += SQUARE)
        for (ptrdiff_t jr = 0; jr < nc; jr += SQUARE) {
            const ptrdiff_t rows = minidl_min(SQUARE, mc - ir), columns = minidl_min(SQUARE, nc - jr);
            const int down = (int)minidl_units(rows, SIDE), across = (int)minidl_units(columns, SIDE);
            const word *const left = a + ir / SIDE * tiles * TILE, *const right = b + jr / SIDE * tiles * TILE;
            float *const at = c + ir * x->c.row + jr;
            if (rows % SIDE == 0 && columns % SIDE == 0 && x->alpha == 1 && (beta == 0 || beta == 1)) {
                sums_of(down, across, tiles, left, right, beta == 1, at, x->c.row);
            } else {
                sums_of(down, across, tiles, left, right, 0, copy, SQUARE);
                put(rows, columns, copy, x->alpha, beta, at, x->c.row);
            }
        }
}

/* Blocks --------------------------------------------------------------------------------------------------------------- */

/* The largest slice of k: two panels of A, which every panel of B meets anew, in half of the nearest cache. */
static ptrdiff_t most_kc(void) { return minidl_max(8, minidl_caches()->level[0].size / 2 / (SQUARE * ROW_BYTES)) * DEPTH; }

/* The widest block of B: half of the second cache, from which every pair of panels of A reads it again. */
static ptrdiff_t most_nc(void) {
    return minidl_max(4, minidl_caches()->level[1].size / 4 / (SQUARE * most_kc())) * SQUARE;
}

/* `length` in equal parts of at most `limit`, but for rounding up to multiples of `unit`. */
static ptrdiff_t part(ptrdiff_t length, ptrdiff_t limit, ptrdiff_t unit) {
    const ptrdiff_t parts = minidl_units(length, limit);
    return parts <= 1 ? length : minidl_units(length, unit * parts) * unit;
}

static ptrdiff_t tiles_in(ptrdiff_t lines, ptrdiff_t k) { return minidl_units(lines, SIDE) * minidl_units(k, DEPTH); }

/* In cycles, as the manual has them: 16 for a product of tiles; about one for 8 elements that are rounded and packed. */
static double estimate(const product *x) {
    const double m = (double)x->m, n = (double)x->n, k = (double)x->k;
    return 16.0 * (double)tiles_in(x->m, x->k) * (double)minidl_units(x->n, SIDE) +
           (m * (double)minidl_units(x->n, most_nc()) + n) * k / 8;
}

static minidl_gemm_plan choose(const product *x) {
    enum { MOST_ROWS = 8 * SQUARE };
    minidl_gemm_plan p = {.pack_a = 1, .pack_b = 1, .mc = minidl_min(x->m, MOST_ROWS)};
    p.kc = part(x->k, most_kc(), DEPTH);
    p.nc = part(x->n, most_nc(), SQUARE);
    p.workspace = (size_t)(tiles_in(p.nc, p.kc) + tiles_in(p.mc, p.kc)) * TILE * sizeof(word) + MINIDL_LINE;
    return p;
}

static void multiply(const product *x, const minidl_gemm_plan *p, const minidl_epilogue_f32 *epilogue, void *workspace) {
    const minidl_gemm_f32 *const single = minidl_gemm_f32_in_use();
    if (x->k == 0) { /* an empty sum has nothing to round */
        single->multiply(x, p, epilogue, workspace);
        return;
    }
    word *const packed_b = (word *)(((uintptr_t)workspace + MINIDL_LINE - 1) / MINIDL_LINE * MINIDL_LINE);
    word *const packed_a = packed_b + tiles_in(p->nc, p->kc) * TILE;
    _tile_loadconfig(&all_whole);
    for (ptrdiff_t jc = 0, nc; jc < x->n; jc += nc) {
        nc = minidl_min(p->nc, x->n - jc);
        for (ptrdiff_t pc = 0, kc; pc < x->k; pc += kc) {
            kc = minidl_min(p->kc, x->k - pc);
            pack(nc, kc, x->b.at + pc * x->b.row + jc * x->b.col, x->b.col, x->b.row, 1, packed_b);
            for (ptrdiff_t ic = 0, mc; ic < x->m; ic += mc) {
                mc = minidl_min(p->mc, x->m - ic);
                float *const c = x->c.at + ic * x->c.row + jc;
                pack(mc, kc, x->a.at + ic * x->a.row + pc * x->a.col, x->a.row, x->a.col, 0, packed_a);
                rows_of_tiles(x, mc, nc, kc, packed_a, packed_b, pc == 0 ? x->beta : 1, c);
                if (epilogue != NULL && pc + kc == x->k) single->finish(epilogue, ic, mc, jc, nc, c, x->c.row);
            }
        }
    }
    _tile_release();
}

/* Products of tiles that hold zeros: no product of matrices can be faster. */
static double registers_only(ptrdiff_t steps) {
    _tile_loadconfig(&all_whole); /* which makes all of them zero */
    for (ptrdiff_t p = 0; p < steps; p++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return 4.0 * 2 * SIDE * SIDE * DEPTH * (double)steps;
}

const minidl_gemm_f32 minidl_bf16_amx = {
    .rows = SQUARE, .columns = SQUARE, .estimate = estimate, .choose = choose, .multiply = multiply, .registers_only = registers_only};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_nothing_for_this_machine; /* a file must declare something */
#endif
