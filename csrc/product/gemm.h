/* Matrix products in single and double precision, and what may follow on each finished row.
 *
 *     for (i = 0; i < m; i++)
 *         for (j = 0; j < n; j++) {
 *             sum = 0;
 *             for (p = 0; p < k; p++) sum += a[i][p] * b[p][j];
 *             c[i][j] = alpha * sum + beta * c[i][j];
 *         }
 *
 * Every matrix is given by a pointer and two strides, counted in elements: entry (i, j) of A is a[i * a_row + j * a_col].
 * One of the two strides of A and of B is 1: with a_col == 1 the matrix is read as it lies, with a_row == 1 as the
 * transpose of what lies there, and neither is ever copied as a whole. C is row-major: entry (i, j) at c[i * c_row + j].
 *
 *     A (m, k)    B (k, n)    C (m, n)
 *
 * beta == 0 does not read C, so C may be uninitialised. k == 0 scales C by beta. The same inputs with the same number of
 * threads give the same bits. Functions may be called from several threads at once.
 */
#ifndef MINIDL_GEMM_H
#define MINIDL_GEMM_H

#include <stddef.h>

enum {
    MINIDL_GEMM_OK = 0,
    MINIDL_GEMM_NO_MEMORY = 1, /* the buffers for packed panels could not be allocated; C is untouched */
    MINIDL_GEMM_BAD_ISA = 2    /* there is no instruction set to use: runtime/isa.h */
};

/* What happens to a row segment of C when its sums are complete, while it is still in cache; NULL members are skipped.
 *
 *     x = alpha A B + beta C + bias
 *     pre_activation = x
 *     y = activation(x)
 *     y = derivative(y, saved)          the chain rule: saved is what the forward kept, y the gradient arriving
 *     C = y,  column_sums[j] = sum over i of y[i, j]
 *
 * Both functions take contiguous segments of n elements and must allow the output to be the input.
 */
#define MINIDL_GEMM_EPILOGUE(real)                                                                                     \
    struct {                                                                                                           \
        const real *bias; /* (n,) */                                                                                   \
        real *pre_activation; /* (m, n), rows pre_activation_row apart */                                              \
        ptrdiff_t pre_activation_row;                                                                                  \
        void (*activation)(const real *x, real *y, ptrdiff_t n, const void *arguments);                                \
        void (*derivative)(const real *dy, const real *saved, real *dx, ptrdiff_t n, const void *arguments);           \
        const real *saved; /* (m, n), rows saved_row apart */                                                          \
        ptrdiff_t saved_row;                                                                                           \
        const void *arguments; /* handed to activation and derivative: slopes and the like */                          \
        real *column_sums; /* (n,), overwritten */                                                                     \
    }

typedef MINIDL_GEMM_EPILOGUE(float) minidl_epilogue_f32;
typedef MINIDL_GEMM_EPILOGUE(double) minidl_epilogue_f64;

int minidl_sgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                 const minidl_epilogue_f32 *epilogue, int threads);

int minidl_dgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a, ptrdiff_t a_row,
                 ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col, double beta, double *c,
                 ptrdiff_t c_row, const minidl_epilogue_f64 *epilogue, int threads);

/* count products; the operands of product i start i * a_batch, i * b_batch, i * c_batch elements further on.
 * A batch stride of 0 for A or B uses the same matrix each time. */
int minidl_sgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a,
                         ptrdiff_t a_row, ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta,
                         float *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch, ptrdiff_t c_batch,
                         int threads);

int minidl_dgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a,
                         ptrdiff_t a_row, ptrdiff_t a_col, const double *b, ptrdiff_t b_row, ptrdiff_t b_col,
                         double beta, double *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch,
                         ptrdiff_t c_batch, int threads);

/* Do multiply-adds of values in registers and nothing else: timed, the limit of this machine's products on one thread.
 * Returns the number of floating-point operations; 0 if MINIDL_ISA is wrong. */
double minidl_sgemm_limit(ptrdiff_t steps);
double minidl_dgemm_limit(ptrdiff_t steps);

#endif
