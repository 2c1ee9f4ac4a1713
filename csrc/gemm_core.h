/* What the compiled variants of the matrix product offer to gemm.c. */
#ifndef MINIDL_GEMM_CORE_H
#define MINIDL_GEMM_CORE_H

#include "gemm.h"

/* One product on one thread; as minidl_sgemm and minidl_dgemm. `column_sums` of the epilogue are added to, not overwritten. */
typedef struct {
    int (*sgemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                 const minidl_sgemm_epilogue *epilogue);
    int (*dgemm)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const double *b, ptrdiff_t b_row, ptrdiff_t b_col, double beta, double *c, ptrdiff_t c_row,
                 const minidl_dgemm_epilogue *epilogue);
} minidl_gemm_variant;

extern const minidl_gemm_variant minidl_gemm_baseline;
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define MINIDL_GEMM_X86 1
extern const minidl_gemm_variant minidl_gemm_avx2;
extern const minidl_gemm_variant minidl_gemm_avx512;
#endif

#endif
