/* The double-precision matrix product and convolutions for x86-64 with AVX-512: 32 registers of 64 bytes, 24 of them sums. */
#include "conv/conv_variant.h"
#include "product/gemm_variant.h"

#ifdef MINIDL_GEMM_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>
typedef double real;
#define SINGLE 0
#define PRODUCT minidl_product_f64
#define EPILOGUE minidl_dgemm_epilogue
#define VARIANT_TYPE minidl_gemm_f64
#define VARIANT minidl_gemm_f64_avx512
#define PICTURES minidl_pictures_f64
#define CONV_TYPE minidl_conv_f64
#define CONV_VARIANT minidl_conv_f64_avx512
#define VECTOR_BYTES 64
#define MR 8
#define NV 3
#define SPLAT(x) ((vector)_mm512_set1_pd(x))
#define FMADD(a, b, c) ((vector)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#include "product/gemm_core.inc.h"
#include "conv/conv_core.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_no_gemm_f64_avx512; /* a file must declare something */
#endif
