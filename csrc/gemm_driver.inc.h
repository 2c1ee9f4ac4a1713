/* The loop nest, for one precision. gemm.c includes this file twice, with `real` and NAME(x) defined. */

/* The epilogue on columns [j, j + n) of row i. */
static void NAME(finish_row)(const NAME(epilogue) *e, ptrdiff_t i, ptrdiff_t j, ptrdiff_t n, real *c, real *sums)
{
    if (e->bias)
        for (ptrdiff_t t = 0; t < n; t++) c[t] += e->bias[j + t];
    if (e->pre_activation) memcpy(e->pre_activation + i * e->pre_activation_row + j, c, (size_t)n * sizeof(real));
    if (e->activation) e->activation(c, c, n, e->arguments);
    if (e->derivative) e->derivative(c, e->saved + i * e->saved_row + j, c, n, e->arguments);
    if (sums)
        for (ptrdiff_t t = 0; t < n; t++) sums[j + t] += c[t];
}

int NAME(minidl_)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_row, ptrdiff_t a_col,
                  const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta, real *c, ptrdiff_t c_row,
                  const NAME(epilogue) *epilogue, int threads)
{
    (void)threads;
    if (epilogue && epilogue->column_sums) memset(epilogue->column_sums, 0, (size_t)n * sizeof(real));
    for (ptrdiff_t i = 0; i < m; i++) {
        real *row = c + i * c_row;
        for (ptrdiff_t j = 0; j < n; j++) row[j] = beta == 0 ? 0 : beta * row[j];
        for (ptrdiff_t p = 0; p < k; p++) {
            const real factor = alpha * a[i * a_row + p * a_col];
            for (ptrdiff_t j = 0; j < n; j++) row[j] += factor * b[p * b_row + j * b_col];
        }
        if (epilogue) NAME(finish_row)(epilogue, i, 0, n, row, epilogue->column_sums);
    }
    return MINIDL_GEMM_OK;
}

int NAME(minidl_batched_)(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, real alpha, const real *a,
                          ptrdiff_t a_row, ptrdiff_t a_col, const real *b, ptrdiff_t b_row, ptrdiff_t b_col, real beta,
                          real *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch, ptrdiff_t c_batch,
                          int threads)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        const int status = NAME(minidl_)(m, n, k, alpha, a + i * a_batch, a_row, a_col, b + i * b_batch, b_row, b_col,
                                         beta, c + i * c_batch, c_row, NULL, threads);
        if (status != MINIDL_GEMM_OK) return status;
    }
    return MINIDL_GEMM_OK;
}
