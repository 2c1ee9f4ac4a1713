/* Products in which a matrix is used for so few rows or columns that reading it sets the pace.
 *
 * dots: A's rows and B's columns are contiguous, so that every element of C is a dot product of two vectors as they lie.
 * Nothing is packed; the price is to add up the lanes of each sum at the end. If B takes more than half of the L2 cache, its
 * columns are read one after another, from end to end: memory gives a single stream twice the rate that it gives four.
 * outer: a column times a row. Writing C sets the pace, so it is written row by row, from end to end.
 * few_rows: at most MR rows times a matrix. Its rows, each times its elements of A, are added up in cache: they are read from end to
 * end, four at a time. */

enum { FEW = MR / 2, DOT_ROWS = FEW, DOT_COLUMNS = 4 };

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

enum { CHAINS = 4, AHEAD = 4096 }; /* sums of one product at a time, because each takes cycles; bytes that are asked for early */

/* The sums of `rows` rows of A times one column of B, over all whole vectors, for a B that comes from far away. */
INLINE void far_sums(int rows, ptrdiff_t k, const real *restrict a, ptrdiff_t a_step, const real *restrict b,
                     vector sum[DOT_ROWS][DOT_COLUMNS], int j) {
    const int chains = rows <= 2 ? CHAINS / rows : 1;
    vector part[DOT_ROWS][CHAINS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int t = 0; t < chains; t++) part[i][t] = SPLAT(0);
    ptrdiff_t p = 0;
    for (; p + chains * LANES <= k; p += chains * LANES)
        UNROLL for (int t = 0; t < chains; t++) {
            const real *const at = b + p + t * LANES;
            PREFETCH_FAR((const char *)at + AHEAD);
            UNROLL for (int i = 0; i < rows; i++)
                part[i][t] = FMADD(LOAD(a + i * a_step + p + t * LANES), LOAD(at), part[i][t]);
        }
    for (; p + LANES <= k; p += LANES)
        UNROLL for (int i = 0; i < rows; i++) part[i][0] = FMADD(LOAD(a + i * a_step + p), LOAD(b + p), part[i][0]);
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int t = 1; t < chains; t++) part[i][0] += part[i][t];
        sum[i][j] = part[i][0];
    }
}

/* C = alpha A B + beta C for `rows` rows of A, a_step apart, and `columns` columns of B, b_step apart; k >= LANES. */
INLINE void dot_tile(int rows, int columns, int far, ptrdiff_t k, real alpha, const real *restrict a, ptrdiff_t a_step,
                     const real *restrict b, ptrdiff_t b_step, real beta, real *restrict c, ptrdiff_t c_row,
                     ptrdiff_t c_col) {
    vector sum[DOT_ROWS][DOT_COLUMNS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < DOT_COLUMNS; j++) sum[i][j] = SPLAT(0);
    if (far) UNROLL for (int j = 0; j < columns; j++) far_sums(rows, k, a, a_step, b + j * b_step, sum, j);
    for (ptrdiff_t p = 0; !far && p + LANES <= k; p += LANES) {
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
    const int far = x->m <= DOT_ROWS && 2 * x->n * x->k * (ptrdiff_t)sizeof(real) > minidl_caches()->level[1].size;
    for (ptrdiff_t j = 0, columns; j < x->n; j += columns) {
        columns = x->n - j >= DOT_COLUMNS ? DOT_COLUMNS : 1;
        for (ptrdiff_t i = 0, rows; i < x->m; i += rows) {
            rows = step(x->m - i, DOT_ROWS);
#define DOT_(ROWS, COLUMNS, FAR)                                                                                           \
    if (rows == ROWS && columns == COLUMNS && far == FAR)                                                                  \
        dot_tile(ROWS, COLUMNS, FAR, x->k, x->alpha, x->a.at + i * x->a.row, x->a.row, b + j * b_step, b_step, x->beta,         \
                 x->c.at + i * x->c.row + j * x->c.col, x->c.row, x->c.col);
#define DOT(ROWS, COLUMNS) DOT_(ROWS, COLUMNS, 0) DOT_(ROWS, COLUMNS, 1)
            DOT(1, 1) DOT(2, 1) DOT(1, 4) DOT(2, 4)
#if MR == 8
            DOT(3, 1) DOT(4, 1) DOT(3, 4) DOT(4, 4)
#endif
#undef DOT
#undef DOT_
        }
    }
}

/* y = factor x for n >= LANES numbers. Whole lines are stored but for the ends, some numbers of which are computed twice. */
INLINE void multiple(ptrdiff_t n, real factor, const real *restrict x, real *restrict y) {
    const ptrdiff_t off = (ptrdiff_t)((uintptr_t)y % (LANES * sizeof(real)) / sizeof(real));
    STORE(y, SPLAT(factor) * LOAD(x));
    for (ptrdiff_t j = LANES - off; j + LANES <= n; j += LANES) STORE(y + j, SPLAT(factor) * LOAD(x + j));
    STORE(y + n - LANES, SPLAT(factor) * LOAD(x + n - LANES));
}

/* The product for k = 1 and n >= LANES; the rows of B and C are contiguous. */
static void outer(const PRODUCT *x) {
    enum { BLOCK = 16384 / sizeof(real) }; /* of B, which stays in the nearest cache */
    for (ptrdiff_t jc = 0, nc; jc < x->n; jc += nc) {
        nc = step(x->n - jc, BLOCK);
        const real *const b = x->b.at + jc;
        for (ptrdiff_t i = 0; i < x->m; i++) {
            const real left = x->alpha * x->a.at[i * x->a.row];
            real *const c = x->c.at + i * x->c.row + jc;
            if (x->beta == 0) multiple(nc, left, b, c);
            else
                for (ptrdiff_t j = 0; j < nc; j++) c[j] = left * b[j] + x->beta * c[j];
        }
    }
}

/* Rows of B that go through together, and that stay near for the next rows of A; the memory for sums, which use half of the L1 cache at most. */
enum { STEPS = 4, SLICE = 2 * STEPS, SUMS_BYTES = 32768 };

/* sums[r][j] += a[r][0] b[0][j] + ... + a[r][steps - 1] b[steps - 1][j] for j < n: each vector of sums is loaded and stored once for
 * a few rows of B. */
INLINE void add_rows_of_b(int rows, int steps, ptrdiff_t n, const real *restrict a, ptrdiff_t a_row, ptrdiff_t a_col,
                          const real *restrict b, ptrdiff_t b_row, real *restrict sums, ptrdiff_t apart) {
    vector left[FEW][STEPS];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int s = 0; s < steps; s++) left[r][s] = SPLAT(a[r * a_row + s * a_col]);
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        vector right[STEPS];
        UNROLL for (int s = 0; s < steps; s++) right[s] = LOAD(b + s * b_row + j);
        UNROLL for (int r = 0; r < rows; r++) {
            vector sum = LOAD(sums + r * apart + j);
            UNROLL for (int s = 0; s < steps; s++) sum = FMADD(left[r][s], right[s], sum);
            STORE(sums + r * apart + j, sum);
        }
    }
    for (; j < n; j++)
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int s = 0; s < steps; s++) sums[r * apart + j] += a[r * a_row + s * a_col] * b[s * b_row + j];
}

/* The same for all k rows of B. */
INLINE void add_all_rows_of_b(int rows, ptrdiff_t k, ptrdiff_t n, const real *a, ptrdiff_t a_row, ptrdiff_t a_col, const real *b,
                              ptrdiff_t b_row, real *sums, ptrdiff_t apart) {
    ptrdiff_t p = 0;
    for (; p + STEPS <= k; p += STEPS)
        add_rows_of_b(rows, STEPS, n, a + p * a_col, a_row, a_col, b + p * b_row, b_row, sums, apart);
    for (; p < k; p++) add_rows_of_b(rows, 1, n, a + p * a_col, a_row, a_col, b + p * b_row, b_row, sums, apart);
}

/* The product of at most MR rows; those of B are contiguous. */
static void few_rows(const PRODUCT *x) {
    real sums[SUMS_BYTES / sizeof(real)];
    const ptrdiff_t most = minidl_min(minidl_caches()->level[0].size / 2, SUMS_BYTES) / (ptrdiff_t)sizeof(real) / x->m;
    const ptrdiff_t block = minidl_min(x->n, most / LANES * LANES);
    for (ptrdiff_t jc = 0; jc < x->n; jc += block) {
        const ptrdiff_t nc = minidl_min(block, x->n - jc);
        memset(sums, 0, (size_t)(x->m * block) * sizeof(real));
        for (ptrdiff_t pc = 0, kc; pc < x->k; pc += kc) {
            kc = x->m <= FEW ? x->k : minidl_min(SLICE, x->k - pc); /* which is still near when the next rows need it */
            for (ptrdiff_t i = 0, rows; i < x->m; i += rows) {
                rows = step(x->m - i, FEW);
                const real *const a = x->a.at + i * x->a.row + pc * x->a.col, *const b = x->b.at + pc * x->b.row + jc;
                real *const to = sums + i * block;
                if (rows == 1) add_all_rows_of_b(1, kc, nc, a, x->a.row, x->a.col, b, x->b.row, to, block);
                if (rows == 2) add_all_rows_of_b(2, kc, nc, a, x->a.row, x->a.col, b, x->b.row, to, block);
#if MR == 8
                if (rows == 3) add_all_rows_of_b(3, kc, nc, a, x->a.row, x->a.col, b, x->b.row, to, block);
                if (rows == 4) add_all_rows_of_b(4, kc, nc, a, x->a.row, x->a.col, b, x->b.row, to, block);
#endif
            }
        }
        for (ptrdiff_t i = 0; i < x->m; i++)
            for (ptrdiff_t j = 0; j < nc; j++) {
                const real sum = x->alpha * sums[i * block + j];
                real *const at = x->c.at + i * x->c.row + (jc + j) * x->c.col;
                *at = x->beta == 0 ? sum : sum + x->beta * *at;
            }
    }
}
