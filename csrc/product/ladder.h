/* The way to a fast matrix product, rung by rung: docs/gemm.md walks up.
 *
 * Each computes C = A B in single precision on one thread, all matrices row-major and dense:
 *
 *     A (m, k)    B (k, n)    C (m, n)
 *
 * and returns 0, -1 if there was no memory to pack into, or -2 if this machine has no AMX. The next rungs are minidl_sgemm of gemm.h, first with one thread
 * and then with all. */
#ifndef MINIDL_LADDER_H
#define MINIDL_LADDER_H

#include <stddef.h>

int minidl_ladder_naive(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_reordered(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_blocked(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_register_tiled(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_packed(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_vectorised(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_in_place(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_staggered(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_decided(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_bfloat16(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);
int minidl_ladder_amx(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, const float *b, float *c);

#endif
