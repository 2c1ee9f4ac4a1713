/* What the files of the matrix product share: a product as one value, and the variants compiled for each instruction set. */
#ifndef MINIDL_GEMM_VARIANT_H
#define MINIDL_GEMM_VARIANT_H

#include "product/gemm.h"
#include "runtime/isa.h"

/* C = alpha A B + beta C, where entry (i, j) of each matrix is at[i * row + j * col]. */
#define MINIDL_PRODUCT(real)                                                                                               \
    struct {                                                                                                               \
        ptrdiff_t m, n, k;                                                                                                 \
        struct {                                                                                                           \
            const real *at;                                                                                                \
            ptrdiff_t row, col;                                                                                            \
        } a, b;                                                                                                            \
        struct {                                                                                                           \
            real *at;                                                                                                      \
            ptrdiff_t row, col;                                                                                            \
        } c;                                                                                                               \
        real alpha, beta;                                                                                                  \
    }

typedef MINIDL_PRODUCT(float) minidl_product_f32;
typedef MINIDL_PRODUCT(double) minidl_product_f64;

/* How a product is best computed: by which method, of the product itself or of the transposed one, which operands are packed,
 * in which sizes of blocks, and its workspace in bytes, which may be 0. */
typedef struct {
    int method, transposed, pack_a, pack_b;
    ptrdiff_t mc, nc, kc;
    size_t workspace;
} minidl_gemm_plan;

/* A variant computes one product on one thread.
 *
 * rows, columns   C is best cut into parts at multiples of these
 * estimate        what a product costs, in units of its own: to compare ways to share it out
 * choose          how to compute it, and others of the same shape that lie alike
 * multiply        the product and what follows it; adds to the sums over columns
 * finish          what follows on rows [i, i + rows) and columns [j, j + n) of C, which begin at c, when their sums are complete
 * tile            the kernel for tile_rows x tile_columns of C: C = alpha A B + beta C, where column p of A is contiguous at
 *                 a + p a_step and row p of B at b + p b_row
 * registers_only  does nothing but multiply-adds, to time; returns how many operations they are, two to each
 */
#define MINIDL_GEMM_VARIANT(real, product, epilogue_)                                                                      \
    struct {                                                                                                               \
        int rows, columns;                                                                                                 \
        double (*estimate)(const product *);                                                                               \
        minidl_gemm_plan (*choose)(const product *);                                                                       \
        void (*multiply)(const product *, const minidl_gemm_plan *, const epilogue_ *, void *workspace);                   \
        void (*finish)(const epilogue_ *, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j, ptrdiff_t n, real *c, ptrdiff_t c_row);  \
        int tile_rows, tile_columns;                                                                                       \
        void (*tile)(ptrdiff_t k, real alpha, const real *a, ptrdiff_t a_step, const real *b, ptrdiff_t b_row, real beta,  \
                     real *c, ptrdiff_t c_row);                                                                            \
        double (*registers_only)(ptrdiff_t steps);                                                                         \
    }

typedef MINIDL_GEMM_VARIANT(float, minidl_product_f32, minidl_epilogue_f32) minidl_gemm_f32;
typedef MINIDL_GEMM_VARIANT(double, minidl_product_f64, minidl_epilogue_f64) minidl_gemm_f64;

MINIDL_VARIANTS(minidl_gemm_f32)
MINIDL_VARIANTS(minidl_gemm_f64)

#endif
