/* Products in which a matrix is used for so few rows or columns that reading it sets the pace.
 *
 * dots: A's rows and B's columns are contiguous, so that every element of C is a dot product of two vectors as they lie.
 * Nothing is packed; the price is to add up the lanes of each sum at the end.
 * row: one row times a matrix. The rows of B, each times its element of the row, are added up in cache. */

enum { DOT_ROWS = MR / 2, DOT_COLUMNS = 4 };

/* Lane i of the result is the sum over the lanes of v[i]. */
INLINE short_vector lane_sums(const vector v[SHORT]) {
    short_vector sum[SHORT];
    UNROLL for (int i = 0; i < SHORT; i++) {
        real lanes[LANES];
        STORE(lanes, v[i]);
        sum[i] = *(const short_vector *)lanes;
        UNROLL for (int t = SHORT; t < LANES; t += SHORT) sum[i] += *(const short_vector *)(lanes + t);
    }
    transpose(sum);
    UNROLL for (int i = 1; i < SHORT; i++) sum[0] += sum[i];
    return sum[0];
}

/* C = alpha A B + beta C for `rows` rows of A, a_step apart, and `columns` columns of B, b_step apart; k >= LANES. */
INLINE void dot_tile(int rows, int columns, ptrdiff_t k, real alpha, const real *restrict a, ptrdiff_t a_step,
                     const real *restrict b, ptrdiff_t b_step, real beta, real *restrict c, ptrdiff_t c_row,
                     ptrdiff_t c_col) {
    vector sum[DOT_ROWS][DOT_COLUMNS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < DOT_COLUMNS; j++) sum[i][j] = SPLAT(0);
    for (ptrdiff_t p = 0; p + LANES <= k; p += LANES) {
        vector left[DOT_ROWS];
        UNROLL for (int i = 0; i < rows; i++) left[i] = LOAD(a + i * a_step + p);
        UNROLL for (int j = 0; j < columns; j++) {
            const vector right = LOAD(b + j * b_step + p);
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = FMADD(left[i], right, sum[i][j]);
        }
    }
    const ptrdiff_t rest = k % LANES;
    if (rest != 0) /* the last vector overlaps those before: without what is in the sums already */
        UNROLL for (int j = 0; j < columns; j++) {
            const vector right = last_lanes(b + j * b_step + k - LANES, rest);
            UNROLL for (int i = 0; i < rows; i++)
                sum[i][j] = FMADD(last_lanes(a + i * a_step + k - LANES, rest), right, sum[i][j]);
        }
    UNROLL for (int i = 0; i < rows; i++) {
        real total[DOT_COLUMNS];
        UNROLL for (int j = 0; j < DOT_COLUMNS; j += SHORT) *(short_vector *)(total + j) = lane_sums(&sum[i][j]);
        UNROLL for (int j = 0; j < columns; j++) {
            real *const at = c + i * c_row + j * c_col;
            *at = beta == 0 ? alpha * total[j] : alpha * total[j] + beta * *at;
        }
    }
}

/* B as columns of k contiguous elements, one after the other. */
static void columns_of_b(const PRODUCT *x, real *columns) {
    for (ptrdiff_t p = 0; p < x->k; p++)
        for (ptrdiff_t j = 0; j < x->n; j++) columns[j * x->k + p] = x->b.at[p * x->b.row + j * x->b.col];
}

/* The product as dot products; A's rows are contiguous, and so are the columns of B at b, b_step apart. */
static void dots(const PRODUCT *x, const real *b, ptrdiff_t b_step) {
    for (ptrdiff_t j = 0, columns; j < x->n; j += columns) {
        columns = x->n - j >= DOT_COLUMNS ? DOT_COLUMNS : 1;
        for (ptrdiff_t i = 0, rows; i < x->m; i += rows) {
            rows = step(x->m - i, DOT_ROWS);
#define DOT(ROWS, COLUMNS)                                                                                                 \
    if (rows == ROWS && columns == COLUMNS)                                                                                \
        dot_tile(ROWS, COLUMNS, x->k, x->alpha, x->a.at + i * x->a.row, x->a.row, b + j * b_step, b_step, x->beta,         \
                 x->c.at + i * x->c.row + j * x->c.col, x->c.row, x->c.col);
            DOT(1, 1) DOT(2, 1) DOT(1, 4) DOT(2, 4)
#if MR == 8
            DOT(3, 1) DOT(4, 1) DOT(3, 4) DOT(4, 4)
#endif
#undef DOT
        }
    }
}

/* The product of a single row; the rows of B are contiguous. */
static void row(const PRODUCT *x) {
    enum { BLOCK = 4096 / sizeof(real), ROWS = 4 };
    real sums[BLOCK];
    for (ptrdiff_t jc = 0; jc < x->n; jc += BLOCK) {
        const ptrdiff_t nc = minidl_min(BLOCK, x->n - jc);
        for (ptrdiff_t j = 0; j < nc; j++) sums[j] = 0;
        ptrdiff_t p = 0;
        for (; p + ROWS <= x->k; p += ROWS) {
            const real *const b = x->b.at + p * x->b.row + jc;
            vector left[ROWS];
            UNROLL for (int r = 0; r < ROWS; r++) left[r] = SPLAT(x->a.at[(p + r) * x->a.col]);
            ptrdiff_t j = 0;
            for (; j + LANES <= nc; j += LANES) {
                vector sum = LOAD(sums + j);
                UNROLL for (int r = 0; r < ROWS; r++) sum = FMADD(left[r], LOAD(b + r * x->b.row + j), sum);
                STORE(sums + j, sum);
            }
            for (; j < nc; j++)
                for (int r = 0; r < ROWS; r++) sums[j] += x->a.at[(p + r) * x->a.col] * b[r * x->b.row + j];
        }
        for (; p < x->k; p++)
            for (ptrdiff_t j = 0; j < nc; j++) sums[j] += x->a.at[p * x->a.col] * x->b.at[p * x->b.row + jc + j];
        for (ptrdiff_t j = 0; j < nc; j++) {
            real *const at = x->c.at + (jc + j) * x->c.col;
            *at = x->beta == 0 ? x->alpha * sums[j] : x->alpha * sums[j] + x->beta * *at;
        }
    }
}
