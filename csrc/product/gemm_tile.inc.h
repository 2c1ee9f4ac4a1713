/* The innermost kernel: a tile of C, a few rows high and a few vectors wide, kept in registers while k runs. */

/* C = alpha A B + beta C for `rows` x `vectors` of C.
 *
 * For each p the tile loads one row of B as vectors and spreads each element of A's column over a vector of its own: rows +
 * vectors loads for rows * vectors multiply-adds. The larger the tile, the less there is to load, until its sums no longer
 * fit the registers; MR x NV is the largest that does.
 *
 * A is read whichever way it lies. If a_upright its columns are contiguous (a transposed matrix, a packed panel) and a_step
 * is the distance from one to the next; else its rows are, and a_step is the distance between rows. */
INLINE void tile(int rows, int vectors, int a_upright, ptrdiff_t k, real alpha, const real *restrict a, ptrdiff_t a_step,
                 const real *restrict b, ptrdiff_t b_row, real beta, real *restrict c, ptrdiff_t c_row) {
    vector sum[MR][NV];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = SPLAT(0);
    for (ptrdiff_t p = 0; p < k; p++) {
        vector right[NV];
        UNROLL for (int j = 0; j < vectors; j++) right[j] = LOAD(b + j * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const vector left = SPLAT(a_upright ? a[i] : a[i * a_step]);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = FMADD(left, right[j], sum[i][j]);
        }
        a += a_upright ? a_step : 1;
        b += b_row;
    }
    if (alpha != 1) UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sum[i][j] *= alpha;
    if (beta == 1) /* the usual cases without multiplications, which the next tile is waiting to do */
        UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += LOAD(c + i * c_row + j * LANES);
    else if (beta != 0)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] += LOAD(c + i * c_row + j * LANES) * beta;
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) STORE(c + i * c_row + j * LANES, sum[i][j]);
}

/* A function for each size of tile: with constants for rows, vectors and a_upright the loops over them are unrolled, and the
 * sums become registers. */
#define TILE(ROWS, VECTORS, UPRIGHT)                                                                                       \
    static void tile_##ROWS##_##VECTORS##_##UPRIGHT(ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_step,              \
                                                    const real *b, ptrdiff_t b_row, real beta, real *c,                    \
                                                    ptrdiff_t c_row) {                                                     \
        tile(ROWS, VECTORS, UPRIGHT, k, alpha, a, a_step, b, b_row, beta, c, c_row);                                       \
    }
#if NV == 3
#define EACH_WIDTH(DO, ROWS) DO(ROWS, 1, 0) DO(ROWS, 1, 1) DO(ROWS, 2, 0) DO(ROWS, 2, 1) DO(ROWS, 3, 0) DO(ROWS, 3, 1)
#else
#define EACH_WIDTH(DO, ROWS) DO(ROWS, 1, 0) DO(ROWS, 1, 1) DO(ROWS, 2, 0) DO(ROWS, 2, 1)
#endif
#define EACH_OF_4(DO) EACH_WIDTH(DO, 1) EACH_WIDTH(DO, 2) EACH_WIDTH(DO, 3) EACH_WIDTH(DO, 4)
#define EACH_OF_8(DO) EACH_OF_4(DO) EACH_WIDTH(DO, 5) EACH_WIDTH(DO, 6) EACH_WIDTH(DO, 7) EACH_WIDTH(DO, 8)
#if MR == 8
#define EACH_TILE(DO) EACH_OF_8(DO)
#else
#define EACH_TILE(DO) EACH_OF_4(DO)
#endif
EACH_TILE(TILE)

typedef void tile_function(ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_step, const real *b, ptrdiff_t b_row,
                           real beta, real *c, ptrdiff_t c_row);

#define ENTRY(ROWS, VECTORS, UPRIGHT) [ROWS - 1][VECTORS - 1][UPRIGHT] = tile_##ROWS##_##VECTORS##_##UPRIGHT,
static tile_function *const tiles[MR][NV][2] = {EACH_TILE(ENTRY)};

/* The same with half of the last vector, from packed panels: on processors that do a vector of 64 bytes in two steps, columns that do
 * not exist cost half as much. */
#ifdef HALF_FMADD
INLINE void half_tile(int rows, int vectors, int a_upright, ptrdiff_t k, real alpha, const real *restrict a, ptrdiff_t a_step,
                      const real *restrict b, ptrdiff_t b_row, real *restrict c, ptrdiff_t c_row) {
    vector sum[MR][NV];
    half_vector last[MR];
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = SPLAT(0);
        last[i] = HALF_SPLAT(0);
    }
    for (ptrdiff_t p = 0; p < k; p++) {
        vector right[NV];
        UNROLL for (int j = 0; j < vectors; j++) right[j] = LOAD(b + j * LANES);
        const half_vector right_half = *(const half_vector *)(b + vectors * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            const real left = a_upright ? a[i] : a[i * a_step];
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = FMADD(SPLAT(left), right[j], sum[i][j]);
            last[i] = HALF_FMADD(HALF_SPLAT(left), right_half, last[i]);
        }
        a += a_upright ? a_step : 1;
        b += b_row;
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int j = 0; j < vectors; j++) STORE(c + i * c_row + j * LANES, sum[i][j] * alpha);
        *(half_vector *)(c + i * c_row + vectors * LANES) = last[i] * alpha;
    }
}
#define HALF_TILE(ROWS, VECTORS, UPRIGHT)                                                                                  \
    static void half_tile_##ROWS##_##VECTORS##_##UPRIGHT(ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_step,         \
                                                         const real *b, ptrdiff_t b_row, real beta, real *c,               \
                                                         ptrdiff_t c_row) {                                                \
        (void)beta; /* 0 */                                                                                                \
        half_tile(ROWS, VECTORS - 1, UPRIGHT, k, alpha, a, a_step, b, b_row, c, c_row);                                    \
    }
EACH_TILE(HALF_TILE)
#define HALF_ENTRY(ROWS, VECTORS, UPRIGHT) [ROWS - 1][VECTORS - 1][UPRIGHT] = half_tile_##ROWS##_##VECTORS##_##UPRIGHT,
static tile_function *const half_tiles[MR][NV][2] = {EACH_TILE(HALF_ENTRY)};
#endif

/* The tile for `columns` of C of a packed panel of some width. */
static inline tile_function *tile_for(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t width, int upright) {
#ifdef HALF_FMADD
    if (width - columns >= LANES / 2) return half_tiles[rows - 1][width / LANES - 1][upright];
#endif
    (void)columns;
    return tiles[rows - 1][width / LANES - 1][upright];
}

/* A tile whose last vector reaches beyond C, or of a C whose columns are contiguous: by way of a copy. `width` is that of all
 * its vectors, `columns` those that exist. */
static void awkward_tile(tile_function *compute, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t width, ptrdiff_t k, real alpha,
                         const real *a, ptrdiff_t a_step, const real *b, ptrdiff_t b_row, real beta, real *c,
                         ptrdiff_t c_row, ptrdiff_t c_col) {
    real copy[MR * NR];
    compute(k, alpha, a, a_step, b, b_row, 0, copy, width);
    ptrdiff_t i = 0;
    for (; c_row == 1 && i + SHORT <= rows; i += SHORT)
        for (ptrdiff_t j = 0; j < columns; j += SHORT) {
            short_vector square[SHORT];
            UNROLL for (int s = 0; s < SHORT; s++) square[s] = *(const short_vector *)(copy + (i + s) * width + j);
            transpose(square);
            UNROLL for (int s = 0; s < SHORT; s++) {
                if (j + s >= columns) break;
                short_vector *const at = (short_vector *)(c + i + (j + s) * c_col);
                if (beta == 0) *at = square[s];
                else *at = square[s] + *at * beta;
            }
        }
    for (; i < rows; i++) {
        ptrdiff_t j = 0;
        for (; c_col == 1 && beta == 0 && j + SHORT <= columns; j += SHORT)
            *(short_vector *)(c + i * c_row + j) = *(const short_vector *)(copy + i * width + j);
        for (; j < columns; j++) {
            real *const at = c + i * c_row + j * c_col;
            *at = beta == 0 ? copy[i * width + j] : copy[i * width + j] + beta * *at;
        }
    }
}
