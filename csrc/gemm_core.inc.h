/* The matrix product on one thread, for one precision and one instruction set.
 *
 * Five loops around a kernel (K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34
 * (2008); F. Van Zee, R. van de Geijn, "BLIS", ACM TOMS 41 (2015)):
 *
 *     for jc in steps of NC            columns of C and B
 *       for pc in steps of KC            a slice of the inner dimension: B[pc, jc] is packed, KC x NC
 *         for ic in steps of MC            rows of C and A: A[ic, pc] is packed, MC x KC, and stays in the L2 cache
 *           for jr in steps of NR            a panel of B, KC x NR
 *             for ir in steps of MR            a panel of A, KC x MR: the kernel adds their product to MR x NR of C
 *
 * The kernel keeps its MR x NR numbers of C in registers. For each p it loads NR numbers of B as vectors and MR of A one at a
 * time, spread over a vector, and does MR NR multiply-adds: enough of them for each load that the arithmetic sets the pace.
 * Packing writes the panels in the order in which the kernel reads them, whatever the strides of A and B.
 *
 * Defined by the including file: real, NAME(x), EPILOGUE, VECTOR_BYTES, FMADD(a, b, c), MR (4 or 8) and NV, the vectors in NR.
 */

enum {
    NAME(LANES) = VECTOR_BYTES / sizeof(real),
    NAME(NR) = NV * VECTOR_BYTES / sizeof(real),
    NAME(KC) = 256,
    NAME(MC) = 1024 / sizeof(real), /* with KC: 256 KiB of A */
    NAME(NC) = 1008 * 4 / sizeof(real), /* a multiple of every NR */
    NAME(SIDE) = 16 / sizeof(real) /* of the squares that packing turns over */
};

typedef real NAME(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef real NAME(short_vector) __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));

#define VECTOR NAME(vector)
#define AT(pointer) (*(VECTOR *)(pointer))
#define READ(pointer) (*(const VECTOR *)(pointer))

/* Kernels ------------------------------------------------------------------------------------------------------------------- */

/* C[0:rows, 0:columns] = alpha (A B) + beta C for packed panels; ROWS and VECTORS are fixed, rows and columns may be fewer. */
#define KERNEL(ROWS, VECTORS)                                                                                              \
    static void NAME(kernel_##ROWS##x##VECTORS)(ptrdiff_t k, real alpha, const real *a, const real *b, real beta, real *c, \
                                                ptrdiff_t c_row, ptrdiff_t rows, ptrdiff_t columns) {                     \
        VECTOR sum[ROWS][VECTORS];                                                                                        \
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < VECTORS; j++) sum[i][j] = (VECTOR){0};            \
        for (ptrdiff_t p = 0; p < k; p++, a += ROWS, b += VECTORS * NAME(LANES)) {                                        \
            VECTOR right[VECTORS];                                                                                        \
            UNROLL for (int j = 0; j < VECTORS; j++) right[j] = READ(b + j * NAME(LANES));                                \
            UNROLL for (int i = 0; i < ROWS; i++) {                                                                       \
                const VECTOR left = a[i] - (VECTOR){0};                                                                   \
                UNROLL for (int j = 0; j < VECTORS; j++) sum[i][j] = FMADD(left, right[j], sum[i][j]);                    \
            }                                                                                                             \
        }                                                                                                                 \
        if (rows == ROWS && columns == VECTORS * NAME(LANES)) {                                                           \
            UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < VECTORS; j++) {                              \
                real *const at = c + i * c_row + j * NAME(LANES);                                                         \
                const VECTOR product = sum[i][j] * alpha;                                                                 \
                if (beta == 0) AT(at) = product;                                                                          \
                else AT(at) = product + AT(at) * beta;                                                                    \
            }                                                                                                             \
            return;                                                                                                       \
        }                                                                                                                 \
        real tile[ROWS][VECTORS * NAME(LANES)];                                                                           \
        UNROLL for (int i = 0; i < ROWS; i++) UNROLL for (int j = 0; j < VECTORS; j++)                                    \
            AT(&tile[i][j * NAME(LANES)]) = sum[i][j] * alpha;                                                            \
        for (ptrdiff_t i = 0; i < rows; i++)                                                                              \
            for (ptrdiff_t j = 0; j < columns; j++)                                                                       \
                c[i * c_row + j] = beta == 0 ? tile[i][j] : tile[i][j] + beta * c[i * c_row + j];                         \
    }

KERNEL(4, 1)
KERNEL(4, 2)
KERNEL(4, 3)
#if MR == 8
KERNEL(8, 1)
KERNEL(8, 2)
KERNEL(8, 3)
#endif

typedef void (*NAME(kernel))(ptrdiff_t, real, const real *, const real *, real, real *, ptrdiff_t, ptrdiff_t, ptrdiff_t);

/* The kernel for panels of this many rows (4 or 8) and vectors (1 to 3). */
static NAME(kernel) NAME(kernel_for)(ptrdiff_t rows, ptrdiff_t vectors) {
#if MR == 8
    if (rows == 8) return vectors == 1 ? NAME(kernel_8x1) : vectors == 2 ? NAME(kernel_8x2) : NAME(kernel_8x3);
#endif
    (void)rows;
    return vectors == 1 ? NAME(kernel_4x1) : vectors == 2 ? NAME(kernel_4x2) : NAME(kernel_4x3);
}

/* Packing ------------------------------------------------------------------------------------------------------------------- */

/* A square of SIDE x SIDE numbers, turned over: to[p * to_row + i] = from[i * from_row + p]. */
static inline void NAME(turn)(const real *from, ptrdiff_t from_row, real *to, ptrdiff_t to_row) {
    typedef NAME(short_vector) V;
#if ELEMENT_BYTES == 4
    const V r0 = *(const V *)from, r1 = *(const V *)(from + from_row), r2 = *(const V *)(from + 2 * from_row),
            r3 = *(const V *)(from + 3 * from_row);
    const V low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
    const V low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    *(V *)to = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
    *(V *)(to + to_row) = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
    *(V *)(to + 2 * to_row) = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
    *(V *)(to + 3 * to_row) = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
#else
    const V r0 = *(const V *)from, r1 = *(const V *)(from + from_row);
    *(V *)to = __builtin_shufflevector(r0, r1, 0, 2);
    *(V *)(to + to_row) = __builtin_shufflevector(r0, r1, 1, 3);
#endif
}

/* One panel: to[p * width + i] = from[i * step + p * along] for i < count, 0 for the rest of the width. */
static void NAME(pack_panel)(const real *from, ptrdiff_t step, ptrdiff_t along, ptrdiff_t count, ptrdiff_t k,
                             ptrdiff_t width, real *to) {
    enum { S = NAME(SIDE) };
    if (count < width)
        for (ptrdiff_t p = 0; p < k; p++)
            for (ptrdiff_t i = count; i < width; i++) to[p * width + i] = 0;
    if (step == 1) { /* what goes into one vector lies together already */
        for (ptrdiff_t p = 0; p < k; p++) {
            const real *const row = from + p * along;
            real *const out = to + p * width;
            ptrdiff_t i = 0;
            for (; i + S <= count; i += S) *(NAME(short_vector) *)(out + i) = *(const NAME(short_vector) *)(row + i);
            for (; i < count; i++) out[i] = row[i];
        }
        return;
    }
    ptrdiff_t i = 0;
    for (; along == 1 && i + S <= count; i += S) {
        ptrdiff_t p = 0;
        for (; p + S <= k; p += S) NAME(turn)(from + i * step + p, step, to + p * width + i, width);
        for (; p < k; p++)
            for (ptrdiff_t r = i; r < i + S; r++) to[p * width + r] = from[r * step + p];
    }
    for (; i < count; i++)
        for (ptrdiff_t p = 0; p < k; p++) to[p * width + i] = from[i * step + p * along];
}

static inline ptrdiff_t NAME(smaller)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* How wide the panel is that takes `left` rows of A: MR, or 4 for the last few. */
static inline ptrdiff_t NAME(panel_rows)(ptrdiff_t left) { return MR == 8 && left > 4 ? 8 : 4; }

/* How many vectors the panel has that takes `left` columns of B. */
static inline ptrdiff_t NAME(panel_vectors)(ptrdiff_t left) {
    const ptrdiff_t vectors = (left + NAME(LANES) - 1) / NAME(LANES);
    return vectors < NV ? vectors : NV;
}

/* The loops ----------------------------------------------------------------------------------------------------------------- */

/* Columns [j, j + n) of row i, when their sums are complete. */
static void NAME(finish)(const EPILOGUE *e, ptrdiff_t i, ptrdiff_t j, ptrdiff_t n, real *c) {
    if (e->bias != NULL)
        for (ptrdiff_t t = 0; t < n; t++) c[t] += e->bias[j + t];
    if (e->pre_activation != NULL)
        for (ptrdiff_t t = 0; t < n; t++) e->pre_activation[i * e->pre_activation_row + j + t] = c[t];
    if (e->activation != NULL) e->activation(c, c, n, e->arguments);
    if (e->derivative != NULL) e->derivative(c, e->saved + i * e->saved_row + j, c, n, e->arguments);
    if (e->column_sums != NULL)
        for (ptrdiff_t t = 0; t < n; t++) e->column_sums[j + t] += c[t];
}

/* One row times a matrix whose rows lie along the columns of C: no packing, C stays in cache. */
static void NAME(row_times_matrix)(ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_col, const real *b,
                                   ptrdiff_t b_row, real beta, real *c) {
    enum { L = NAME(LANES), W = 8 * NAME(LANES) };
    ptrdiff_t j = 0;
    for (; j + W <= n; j += W) {
        VECTOR sum[8];
        UNROLL for (int v = 0; v < 8; v++) sum[v] = (VECTOR){0};
        for (ptrdiff_t p = 0; p < k; p++) {
            const VECTOR left = a[p * a_col] - (VECTOR){0};
            UNROLL for (int v = 0; v < 8; v++) sum[v] = FMADD(left, READ(b + p * b_row + j + v * L), sum[v]);
        }
        UNROLL for (int v = 0; v < 8; v++) {
            real *const at = c + j + v * L;
            if (beta == 0) AT(at) = sum[v] * alpha;
            else AT(at) = sum[v] * alpha + AT(at) * beta;
        }
    }
    if (j == n) return;
    real rest[W] = {0};
    for (ptrdiff_t p = 0; p < k; p++)
        for (ptrdiff_t t = 0; t < n - j; t++) rest[t] += a[p * a_col] * b[p * b_row + j + t];
    for (ptrdiff_t t = 0; t < n - j; t++) c[j + t] = beta == 0 ? alpha * rest[t] : alpha * rest[t] + beta * c[j + t];
}

/* A matrix, whose rows lie along k, times one vector that does so too: a dot product for each row, four at a time. */
static void NAME(matrix_times_vector)(ptrdiff_t m, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row, const real *x,
                                      real beta, real *y, ptrdiff_t y_step) {
    enum { L = NAME(LANES) };
    for (ptrdiff_t i = 0; i < m; i += 4) {
        const ptrdiff_t rows = NAME(smaller)(4, m - i);
        const real *row[4];
        for (int r = 0; r < 4; r++) row[r] = a + (i + (r < rows ? r : 0)) * a_row;
        VECTOR sum[4][2];
        UNROLL for (int r = 0; r < 4; r++) sum[r][0] = sum[r][1] = (VECTOR){0};
        ptrdiff_t p = 0;
        for (; p + 2 * L <= k; p += 2 * L) {
            UNROLL for (int r = 0; r < 4; r++) {
                sum[r][0] = FMADD(READ(row[r] + p), READ(x + p), sum[r][0]);
                sum[r][1] = FMADD(READ(row[r] + p + L), READ(x + p + L), sum[r][1]);
            }
        }
        for (ptrdiff_t r = 0; r < rows; r++) {
            const VECTOR both = sum[r][0] + sum[r][1];
            real total = 0;
            for (int t = 0; t < L; t++) total += both[t];
            for (ptrdiff_t q = p; q < k; q++) total += row[r][q] * x[q];
            real *const at = y + (i + r) * y_step;
            *at = beta == 0 ? alpha * total : alpha * total + beta * *at;
        }
    }
}

/* The thin cases. Returns whether it was one. */
static int NAME(thin)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row, ptrdiff_t a_col,
                      const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c, ptrdiff_t c_row) {
    if (m <= 2 && b_col == 1) {
        for (ptrdiff_t i = 0; i < m; i++)
            NAME(row_times_matrix)(n, k, alpha, a + i * a_row, a_col, b, b_row, beta, c + i * c_row);
        return 1;
    }
    if (m == 1 && b_row == 1 && a_col == 1) {
        NAME(matrix_times_vector)(n, k, alpha, b, b_col, a, beta, c, 1);
        return 1;
    }
    if (n == 1 && a_col == 1 && b_row == 1) {
        NAME(matrix_times_vector)(m, k, alpha, a, a_row, b, beta, c, c_row);
        return 1;
    }
    return 0;
}

/* One slice: C[i0:i0+mc, :] += A B for a packed block of A, all panels of B. */
static void NAME(block)(ptrdiff_t mc, ptrdiff_t nc, ptrdiff_t kc, real alpha, const real *packed_a, const real *packed_b,
                        real beta, real *c, ptrdiff_t c_row) {
    const real *b = packed_b;
    for (ptrdiff_t jr = 0; jr < nc;) {
        const ptrdiff_t vectors = NAME(panel_vectors)(nc - jr), width = vectors * NAME(LANES);
        const real *a = packed_a;
        for (ptrdiff_t ir = 0; ir < mc;) {
            const ptrdiff_t rows = NAME(panel_rows)(mc - ir);
            NAME(kernel_for)(rows, vectors)(kc, alpha, a, b, beta, c + ir * c_row + jr, c_row,
                                            NAME(smaller)(rows, mc - ir), NAME(smaller)(width, nc - jr));
            a += rows * kc;
            ir += rows;
        }
        b += width * kc;
        jr += width;
    }
}

static int NAME(gemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row, ptrdiff_t a_col,
                      const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c, ptrdiff_t c_row,
                      const EPILOGUE *epilogue) {
    if (k == 0)
        for (ptrdiff_t i = 0; i < m; i++)
            for (ptrdiff_t j = 0; j < n; j++) c[i * c_row + j] = beta == 0 ? 0 : beta * c[i * c_row + j];
    if (k == 0 || NAME(thin)(m, n, k, alpha, a, a_row, a_col, b, b_row, b_col, beta, c, c_row)) {
        for (ptrdiff_t i = 0; i < m && epilogue != NULL; i++) NAME(finish)(epilogue, i, 0, n, c + i * c_row);
        return MINIDL_GEMM_OK;
    }
    const ptrdiff_t kc_most = NAME(smaller)(k, NAME(KC)), nc_most = NAME(smaller)(n, NAME(NC));
    const ptrdiff_t mc_most = NAME(smaller)(m, NAME(MC));
    const size_t a_size = (size_t)((mc_most + MR - 1) / MR * MR * kc_most) + 64 / sizeof(real);
    const size_t b_size = (size_t)((nc_most + NAME(LANES) - 1) / NAME(LANES) * NAME(LANES) * kc_most);
    real few[4096];
    const size_t bytes = (a_size + b_size) * sizeof(real);
    real *const work = a_size + b_size <= 4096 ? few : minidl_pool_malloc(NULL, bytes);
    if (work == NULL) return MINIDL_GEMM_NO_MEMORY;
    real *const packed_b = work, *const packed_a = work + b_size;
    for (ptrdiff_t jc = 0; jc < n; jc += NAME(NC)) {
        const ptrdiff_t nc = NAME(smaller)(n - jc, NAME(NC));
        for (ptrdiff_t pc = 0; pc < k; pc += NAME(KC)) {
            const ptrdiff_t kc = NAME(smaller)(k - pc, NAME(KC));
            real *to = packed_b;
            for (ptrdiff_t jr = 0; jr < nc;) {
                const ptrdiff_t width = NAME(panel_vectors)(nc - jr) * NAME(LANES);
                NAME(pack_panel)(b + pc * b_row + (jc + jr) * b_col, b_col, b_row, NAME(smaller)(width, nc - jr), kc, width, to);
                to += width * kc;
                jr += width;
            }
            for (ptrdiff_t ic = 0; ic < m; ic += NAME(MC)) {
                const ptrdiff_t mc = NAME(smaller)(m - ic, NAME(MC));
                real *at = packed_a;
                for (ptrdiff_t ir = 0; ir < mc;) {
                    const ptrdiff_t rows = NAME(panel_rows)(mc - ir);
                    NAME(pack_panel)(a + (ic + ir) * a_row + pc * a_col, a_row, a_col, NAME(smaller)(rows, mc - ir), kc, rows, at);
                    at += rows * kc;
                    ir += rows;
                }
                NAME(block)(mc, nc, kc, alpha, packed_a, packed_b, pc == 0 ? beta : 1, c + ic * c_row + jc, c_row);
                if (epilogue != NULL && pc + kc == k)
                    for (ptrdiff_t i = ic; i < ic + mc; i++) NAME(finish)(epilogue, i, jc, nc, c + i * c_row + jc);
            }
        }
    }
    if (work != few) minidl_pool_free(NULL, work, bytes);
    return MINIDL_GEMM_OK;
}

#undef VECTOR
#undef AT
#undef READ
#undef KERNEL
