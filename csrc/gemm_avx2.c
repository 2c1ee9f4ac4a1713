/* The matrix product for x86-64 with AVX2 and FMA: 16 registers of 32 bytes, 12 of them sums. */
#include "gemm_core.h"

#ifdef MINIDL_GEMM_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include <immintrin.h>
#define VARIANT minidl_gemm_avx2
#define VECTOR_BYTES 32
#define MR 4
#define NV 3
#define FMADD_F32(a, b, c) ((vector_f32)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define FMADD_F64(a, b, c) ((vector_f64)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#include "gemm_variant.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_no_gemm_avx2_here;
#endif
