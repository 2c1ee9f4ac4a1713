/* The innermost kernels of the convolutions: sums in registers, as in the tile of the matrix product. */

/* `rows` result channels times `vectors` of results: sum[i][j] = sum over taps of a[tap][i] times the vector at b[j] +
 * offset[tap]. The sums go to out, row by row. */
INLINE void slide_tile(int rows, int vectors, ptrdiff_t taps, const real *restrict a, const ptrdiff_t *restrict offset,
                       const real *const *b, real *restrict out) {
    vector sum[MR][NV];
    const real *at[NV];
    UNROLL for (int j = 0; j < vectors; j++) at[j] = b[j];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = SPLAT(0);
    for (ptrdiff_t t = 0; t < taps; t++) {
        vector right[NV];
        const ptrdiff_t away = offset[t];
        UNROLL for (int j = 0; j < vectors; j++) right[j] = LOAD(at[j] + away);
        UNROLL for (int i = 0; i < rows; i++) {
            const vector left = SPLAT(a[i]);
            UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = FMADD(left, right[j], sum[i][j]);
        }
        a += rows;
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) STORE(out + (i * vectors + j) * LANES, sum[i][j]);
}

/* `rows` taps times `vectors` of result channels: sum[i][j] += sum over positions of x[offset[i] + position] times the vector of
 * upstream gradients there. Positions are `height` rows of `width`, in x `pitch` apart; in g they follow one another. */
INLINE void gradient_tile(int rows, int vectors, ptrdiff_t height, ptrdiff_t width, const real *restrict x,
                          const ptrdiff_t *restrict offset, ptrdiff_t pitch, const real *restrict g, real *restrict sums) {
    vector sum[MR][NV];
    const real *at[MR];
    UNROLL for (int i = 0; i < rows; i++) at[i] = x + offset[i];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = SPLAT(0);
    for (ptrdiff_t h = 0; h < height; h++) {
        for (ptrdiff_t w = 0; w < width; w++) {
            vector right[NV];
            UNROLL for (int j = 0; j < vectors; j++) right[j] = LOAD(g + j * LANES);
            UNROLL for (int i = 0; i < rows; i++) {
                const vector left = SPLAT(at[i][w]);
                UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = FMADD(left, right[j], sum[i][j]);
            }
            g += vectors * LANES;
        }
        UNROLL for (int i = 0; i < rows; i++) at[i] += pitch;
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < vectors; j++) {
        real *const to = sums + (i * vectors + j) * LANES;
        STORE(to, LOAD(to) + sum[i][j]);
    }
}

/* A function for each size, as for the matrix product. */
#define SLIDE_AND_GRADIENT(ROWS, VECTORS)                                                                                  \
    static void slide_##ROWS##_##VECTORS(ptrdiff_t taps, const real *a, const ptrdiff_t *offset, const real *const *b,     \
                                         real *out) {                                                                      \
        slide_tile(ROWS, VECTORS, taps, a, offset, b, out);                                                                \
    }                                                                                                                      \
    static void gradient_##ROWS##_##VECTORS(ptrdiff_t height, ptrdiff_t width, const real *x, const ptrdiff_t *offset,     \
                                            ptrdiff_t pitch, const real *g, real *sums) {                                  \
        gradient_tile(ROWS, VECTORS, height, width, x, offset, pitch, g, sums);                                            \
    }
#if NV == 3
#define EACH_COUNT(DO, ROWS) DO(ROWS, 1) DO(ROWS, 2) DO(ROWS, 3)
#else
#define EACH_COUNT(DO, ROWS) DO(ROWS, 1) DO(ROWS, 2)
#endif
#define COUNTS_OF_4(DO) EACH_COUNT(DO, 1) EACH_COUNT(DO, 2) EACH_COUNT(DO, 3) EACH_COUNT(DO, 4)
#if MR == 8
#define COUNTS(DO) COUNTS_OF_4(DO) EACH_COUNT(DO, 5) EACH_COUNT(DO, 6) EACH_COUNT(DO, 7) EACH_COUNT(DO, 8)
#else
#define COUNTS(DO) COUNTS_OF_4(DO)
#endif
COUNTS(SLIDE_AND_GRADIENT)

typedef void slide_function(ptrdiff_t taps, const real *a, const ptrdiff_t *offset, const real *const *b, real *out);
typedef void gradient_function(ptrdiff_t height, ptrdiff_t width, const real *x, const ptrdiff_t *offset, ptrdiff_t pitch,
                               const real *g, real *sums);
#define SLIDE_ENTRY(ROWS, VECTORS) [ROWS - 1][VECTORS - 1] = slide_##ROWS##_##VECTORS,
#define GRADIENT_ENTRY(ROWS, VECTORS) [ROWS - 1][VECTORS - 1] = gradient_##ROWS##_##VECTORS,
static slide_function *const slides[MR][NV] = {COUNTS(SLIDE_ENTRY)};
static gradient_function *const gradients[MR][NV] = {COUNTS(GRADIENT_ENTRY)};
