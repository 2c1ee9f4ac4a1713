/* The kernels for x86-64 processors with AVX2 and FMA. */
#include "isa/kernels.h"

#ifdef MINIDL_X86_KERNELS
#include <immintrin.h> /* before the pragma: the system's inline functions keep the baseline */
#include <math.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define MINIDL_SIMD_AVX2
#define TABLE_NAME minidl_kernels_avx2
#include "isa/kernels_isa.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int minidl_no_avx2_here;
#endif
