/* Matrix products of bfloat16 numbers with sums in single precision.
 *
 *     for (i = 0; i < m; i++)
 *         for (j = 0; j < n; j++) {
 *             sum = 0;
 *             for (p = 0; p < k; p++) sum += bf16(a[i][p]) * bf16(b[p][j]);
 *             c[i][j] = alpha * sum + beta * c[i][j];
 *         }
 *
 * bf16(x) is x rounded to the nearest number with 8 binary digits, ties to the even one; the exponent's range is that of float, and
 * nan stays nan; subnormal numbers are zero. The product of two such numbers has 16 digits, so it is exact, and only the sums round.
 *
 * The operands are float and are rounded while they are packed. Arguments are those of minidl_sgemm (product/gemm.h), and so are the
 * promises about threads and bits. A variant is a minidl_gemm_f32, as those of single precision:
 *
 *     minidl_bf16_amx        products of tiles, tdpbf16ps: where processor, system and compiler have them; not run by a processor yet
 *     minidl_bf16_avx512     dot products of pairs, vdpbf16ps: twice the rate of single precision
 *     minidl_bf16_rounded    rounds to float, then the product of single precision in use: on any processor
 */
#ifndef MINIDL_BF16_H
#define MINIDL_BF16_H

#include <stdint.h>

#include "product/gemm_variant.h"

int minidl_bgemm(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a, ptrdiff_t a_row, ptrdiff_t a_col,
                 const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta, float *c, ptrdiff_t c_row,
                 const minidl_epilogue_f32 *epilogue, int threads);
int minidl_bgemm_batched(ptrdiff_t count, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha, const float *a,
                         ptrdiff_t a_row, ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float beta,
                         float *c, ptrdiff_t c_row, ptrdiff_t a_batch, ptrdiff_t b_batch, ptrdiff_t c_batch,
                         int threads);

/* As minidl_sgemm_limit: the operations of a loop that only multiplies and adds in registers. */
double minidl_bgemm_limit(ptrdiff_t steps);

const char *minidl_bf16_name(void); /* of the variant in use, or NULL */

extern const minidl_gemm_f32 minidl_bf16_amx, minidl_bf16_avx512, minidl_bf16_rounded;
const minidl_gemm_f32 *minidl_bf16_in_use(void);

#ifdef MINIDL_HAS_BF16_DOTS
/* A product of minidl_bf16_avx512 on one thread, whose B is the transpose of (n, k) numbers stored in bfloat16, rows without gaps. */
void minidl_bf16_words_multiply(const minidl_product_f32 *x, const uint16_t *words, const minidl_epilogue_f32 *epilogue,
                                void *workspace);
#endif

#endif
