#include "product/ladder.h"

#include <stdlib.h>
#include <string.h>

#include "product/bf16.h"
#include "runtime/caches.h"
#include "runtime/integers.h"

#if defined(__GNUC__) && !defined(__clang__)
/* A loop of eight instructions runs at half its speed if it happens to lie across two cache lines. The rungs are to show
 * what their loops do, not where the compiler put them. */
#pragma GCC optimize("align-loops=64")
#endif

/* c[j] += factor b[j] for j < n: what the second and third rung spend their time in. */
static inline void add_multiple(ptrdiff_t n, float factor, const float *restrict b, float *restrict c) {
    for (ptrdiff_t j = 0; j < n; j++) c[j] += factor * b[j];
}

/* Rung 1: the definition. The inner loop walks down a column of B, from one cache line to another at each step. */
int minidl_ladder_naive(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < n; j++) {
            float sum = 0;
            for (ptrdiff_t p = 0; p < k; p++) sum += a[i * k + p] * b[p * n + j];
            c[i * n + j] = sum;
        }
    return 0;
}

/* Rung 2: the same sums in another order. The inner loop walks along a row of B and one of C, and the compiler makes vectors
 * of it. */
int minidl_ladder_reordered(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    memset(c, 0, (size_t)(m * n) * sizeof(float));
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t p = 0; p < k; p++)
            add_multiple(n, a[i * k + p], b + p * n, c + i * n);
    return 0;
}

/* Rung 3: in blocks. A block of B, 64 x 256 floats or 64 KiB, stays in cache while all rows of A pass over it. */
int minidl_ladder_blocked(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    enum { ROWS = 64, COLUMNS = 256 };
    memset(c, 0, (size_t)(m * n) * sizeof(float));
    for (ptrdiff_t p0 = 0; p0 < k; p0 += ROWS)
        for (ptrdiff_t j0 = 0; j0 < n; j0 += COLUMNS) {
            const ptrdiff_t rows = minidl_min(ROWS, k - p0), columns = minidl_min(COLUMNS, n - j0);
            for (ptrdiff_t i = 0; i < m; i++)
                for (ptrdiff_t p = p0; p < p0 + rows; p++)
                    add_multiple(columns, a[i * k + p], b + p * n + j0, c + i * n + j0);
        }
    return 0;
}

/* C += A B for rows x columns of C and k of the inner dimension, wherever they lie: the edges of what comes in tiles. */
static void edge(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t k, const float *a, ptrdiff_t a_row, const float *b,
                 ptrdiff_t b_row, float *c, ptrdiff_t c_row) {
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t p = 0; p < k; p++)
            for (ptrdiff_t j = 0; j < columns; j++) c[i * c_row + j] += a[i * a_row + p] * b[p * b_row + j];
}

/* Four elements that one instruction multiplies: what compilers make of the loops above by themselves, but not dependably of
 * those below. Where there are no vectors it is one element. */
#if defined(__GNUC__)
enum { FOUR = 4 };
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
#else
enum { FOUR = 1 };
typedef float four;
#endif

enum { TILE_ROWS = 4, TILE_FOURS = 2, TILE_COLUMNS = TILE_FOURS * FOUR, KC = 256, MC = 64, NC = 1024 };

/* C += A B for a tile of 4 x 8: its sums are in registers for the whole of k, and six loads do for eight multiply-adds of four
 * numbers. Row i of A is at a + i a_row, its next element a_col further on. */
static inline void tile(ptrdiff_t k, const float *a, ptrdiff_t a_row, ptrdiff_t a_col, const float *b, ptrdiff_t b_row,
                        float *c, ptrdiff_t c_row) {
    four sum[TILE_ROWS][TILE_FOURS];
    memset(sum, 0, sizeof(sum));
    for (ptrdiff_t p = 0; p < k; p++, a += a_col, b += b_row)
        for (int i = 0; i < TILE_ROWS; i++)
            for (int j = 0; j < TILE_FOURS; j++) sum[i][j] += a[i * a_row] * *(const four *)(b + j * FOUR);
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < TILE_FOURS; j++) *(four *)(c + i * c_row + j * FOUR) += sum[i][j];
}

/* Rung 4: tiles of C in registers. Until here every multiply-add loaded and stored its element of C. */
int minidl_ladder_register_tiled(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    memset(c, 0, (size_t)(m * n) * sizeof(float));
    for (ptrdiff_t p = 0; p < k; p += KC) {
        const ptrdiff_t kc = minidl_min(KC, k - p);
        for (ptrdiff_t j = 0; j < n; j += TILE_COLUMNS)
            for (ptrdiff_t i = 0; i < m; i += TILE_ROWS) {
                const ptrdiff_t rows = minidl_min(TILE_ROWS, m - i), columns = minidl_min(TILE_COLUMNS, n - j);
                if (rows == TILE_ROWS && columns == TILE_COLUMNS)
                    tile(kc, a + i * k + p, k, 1, b + p * n + j, n, c + i * n + j, n);
                else
                    edge(rows, columns, kc, a + i * k + p, k, b + p * n + j, n, c + i * n + j, n);
            }
    }
    return 0;
}

/* What the packed rungs have in common ----------------------------------------------------------------------------------- */

/* C = A B + C for a tile: column p of A, from a packed panel, at a + p * rows, row p of B at b + p * b_row. */
typedef struct {
    ptrdiff_t rows, columns;
    void (*add)(ptrdiff_t k, const float *a, const float *b, ptrdiff_t b_row, float *c, ptrdiff_t c_row);
} kernel;

/* Elements from[i * across + p * along], i < count, as panels of `width` elements for each p; zeros fill the last. */
static void pack(ptrdiff_t count, ptrdiff_t k, const float *from, ptrdiff_t across, ptrdiff_t along, ptrdiff_t width,
                 float *to) {
    for (ptrdiff_t first = 0; first < count; first += width)
        for (ptrdiff_t p = 0; p < k; p++)
            for (ptrdiff_t i = first; i < first + width; i++) *to++ = i < count ? from[i * across + p * along] : 0;
}

static ptrdiff_t rounded_up(ptrdiff_t x, ptrdiff_t unit) { return (x + unit - 1) / unit * unit; }

/* A packed block of A times a block of B, added to mc x nc of C. Rows of B are b_row apart, or b_row is 0 and they are packed; a last
 * panel that is not full is packed in any case, at `last`. */
static void multiply_blocks(const kernel *by, ptrdiff_t mc, ptrdiff_t nc, ptrdiff_t kc, const float *a, const float *b,
                            ptrdiff_t b_row, const float *last, float *c, ptrdiff_t c_row) {
    enum { LARGEST_TILE = 1024 };
    float copy[LARGEST_TILE];
    for (ptrdiff_t j = 0; j < nc; j += by->columns)
        for (ptrdiff_t i = 0; i < mc; i += by->rows) {
            float *const at = c + i * c_row + j;
            const int in_place = b_row != 0 && j + by->columns <= nc;
            const float *const panel = in_place ? b + j : b_row != 0 ? last : b + j * kc;
            const ptrdiff_t step = in_place ? b_row : by->columns;
            if (i + by->rows <= mc && j + by->columns <= nc) {
                by->add(kc, a + i * kc, panel, step, at, c_row);
                continue;
            }
            memset(copy, 0, sizeof(copy)); /* a tile that reaches beyond C */
            by->add(kc, a + i * kc, panel, step, copy, by->columns);
            for (ptrdiff_t r = 0; r < minidl_min(by->rows, mc - i); r++)
                for (ptrdiff_t s = 0; s < minidl_min(by->columns, nc - j); s++) at[r * c_row + s] += copy[r * by->columns + s];
        }
}

/* What becomes of B: its tiles read it as it lies; or a copy whose rows lie otherwise one below the other; or panels. */
typedef enum { IN_PLACE, STAGGERED, PACKED } way;

enum { LINE = 16 }; /* floats in a cache line */

static int multiply_with(const kernel *by, way b_goes, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b,
                         float *c) {
    const ptrdiff_t a_most = rounded_up(minidl_min(m, MC), by->rows) * minidl_min(k, KC);
    const ptrdiff_t b_most = rounded_up(minidl_min(n, NC), by->columns) * minidl_min(k, KC);
    const ptrdiff_t copy_most = b_goes == STAGGERED ? (minidl_min(n, NC) + LINE) * minidl_min(k, KC) : 0;
    float *const packed = malloc((size_t)(a_most + b_most + copy_most + 1) * sizeof(float));
    if (packed == NULL) return -1;
    float *const copy = packed + b_most + a_most;
    memset(c, 0, (size_t)(m * n) * sizeof(float));
    for (ptrdiff_t j = 0; j < n; j += NC)
        for (ptrdiff_t p = 0; p < k; p += KC) {
            const ptrdiff_t nc = minidl_min(NC, n - j), kc = minidl_min(KC, k - p), full = nc / by->columns * by->columns;
            const float *block = b + p * n + j;
            ptrdiff_t row = n;
            if (b_goes == STAGGERED) {
                row = nc + LINE;
                for (ptrdiff_t r = 0; r < kc; r++) memcpy(copy + r * row, block + r * n, (size_t)nc * sizeof(float));
                block = copy;
            }
            if (b_goes == PACKED) pack(nc, kc, block, 1, row, by->columns, packed);
            else pack(nc - full, kc, block + full, 1, row, by->columns, packed);
            for (ptrdiff_t i = 0; i < m; i += MC) {
                const ptrdiff_t mc = minidl_min(MC, m - i);
                pack(mc, kc, a + i * k + p, k, 1, by->rows, packed + b_most);
                if (b_goes == PACKED) multiply_blocks(by, mc, nc, kc, packed + b_most, packed, 0, packed, c + i * n + j, n);
                else multiply_blocks(by, mc, nc, kc, packed + b_most, block, row, packed, c + i * n + j, n);
            }
        }
    free(packed);
    return 0;
}

static void add_tile(ptrdiff_t k, const float *a, const float *b, ptrdiff_t b_row, float *c, ptrdiff_t c_row) {
    tile(k, a, 1, TILE_ROWS, b, b_row, c, c_row);
}

/* Rung 5: the operands rewritten in the order in which the tile reads them. No stride of any matrix is left in the inner
 * loop: memory is read from front to back. */
int minidl_ladder_packed(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    return multiply_with(&(kernel){TILE_ROWS, TILE_COLUMNS, add_tile}, PACKED, m, n, k, a, b, c);
}

static void add_tile_of_vectors(ptrdiff_t k, const float *a, const float *b, ptrdiff_t b_row, float *c, ptrdiff_t c_row) {
    const minidl_gemm_f32 *const variant = minidl_gemm_f32_in_use();
    variant->tile(k, 1, a, variant->tile_rows, b, b_row, 1, c, c_row);
}

static kernel vectors_in_use(void) {
    const minidl_gemm_f32 *const variant = minidl_gemm_f32_in_use();
    return (kernel){variant->tile_rows, variant->tile_columns, add_tile_of_vectors};
}

/* Rung 6: the tile of gemm_tile.inc.h, in vectors of the widest instruction set that the machine has. */
int minidl_ladder_vectorised(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    const kernel by = vectors_in_use();
    return multiply_with(&by, PACKED, m, n, k, a, b, c);
}

/* Rung 7: B is not packed. Small matrices gain what packing cost them. In large ones, rows of B lie on many pages, and where their
 * distance is a multiple of a large power of two, in few sets of each cache: they drive each other out. */
int minidl_ladder_in_place(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    const kernel by = vectors_in_use();
    return multiply_with(&by, IN_PLACE, m, n, k, a, b, c);
}

/* Rung 8: B in its own order still, but from a copy whose rows are a cache line longer than the block. No two rows begin in the same
 * sets, and the pages follow each other. What this gains over the last rung is what the collisions cost; what packing gains over
 * this is the order. */
int minidl_ladder_staggered(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    const kernel by = vectors_in_use();
    return multiply_with(&by, STAGGERED, m, n, k, a, b, c);
}

/* Rung 9: the better of packing and leaving it, by the caches of the machine: B is packed if it does not fit the second cache, or would fit
 * only packed, and has enough rows of A to pay for it. */
int minidl_ladder_decided(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    const kernel by = vectors_in_use();
    const minidl_cache *const next = &minidl_caches()->level[1];
    const ptrdiff_t rows = minidl_min(k, KC), bytes = minidl_min(n, NC) * (ptrdiff_t)sizeof(float);
    const double in_place = n > 0 ? minidl_crowding(next, rows, bytes, n * (ptrdiff_t)sizeof(float)) : 0;
    const int collides = in_place > 0.5 && in_place > 1.5 * (double)(rows * bytes) / (double)next->size;
    const int large = (double)n * (double)k * sizeof(float) > (double)next->size;
    return multiply_with(&by, m >= 16 * by.rows && (large || collides) ? PACKED : IN_PLACE, m, n, k, a, b, c);
}

/* Rung 10: bfloat16. Both operands are rounded while they are packed, and one instruction does twice the work, or with tiles sixteen
 * times. The other rungs' operands are exact. */
int minidl_ladder_bfloat16(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    return minidl_bgemm(m, n, k, 1, a, k, 1, b, n, 1, 0, c, n, NULL, 1) == MINIDL_GEMM_OK ? 0 : -1;
}

/* Rung 11: the same by the tiles of AMX, only there. */
int minidl_ladder_amx(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c) {
    return strcmp(minidl_bf16_name(), "amx") == 0 ? minidl_ladder_bfloat16(m, n, k, a, b, c) : -2;
}
