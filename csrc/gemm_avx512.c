/* The matrix product for x86-64 with AVX-512: 32 registers of 64 bytes, 24 of them sums. */
#include "gemm_core.h"

#ifdef MINIDL_GEMM_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>
#define VARIANT minidl_gemm_avx512
#define VECTOR_BYTES 64
#define MR 8
#define NV 3
#define FMADD_F32(a, b, c) ((vector_f32)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define FMADD_F64(a, b, c) ((vector_f64)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#include "gemm_variant.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_no_gemm_avx512_here;
#endif
