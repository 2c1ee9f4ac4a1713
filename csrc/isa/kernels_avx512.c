/* The kernels for x86-64 processors with AVX-512 (F, DQ, BW, VL). */
#include "isa/kernels.h"

#ifdef MINIDL_X86_KERNELS
#include <immintrin.h> /* before the pragma: the system's inline functions keep the baseline */
#include <math.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define MINIDL_SIMD_AVX512
#define TABLE_NAME minidl_kernels_avx512
#include "isa/kernels_isa.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_no_avx512_here;
#endif
