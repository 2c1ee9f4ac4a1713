/* Every family of kernels, for one instruction set and one precision. The including file has defined
 *
 *     ISA_BASELINE, ISA_AVX2, ISA_AVX512 or ISA_NEON
 *     SINGLE      1 for float, 0 for double
 *
 * and a family may use, besides what it includes itself,
 *
 *     real        float or double
 *     REAL(name)  name_f32 or name_f64
 *     TABLE(name) the name of the family's table: name_f32_avx2, say
 *
 * A new family adds one line below. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "runtime/isa.h"

/* The system's headers come before the pragma: their inline functions keep the compiler's default. */
#if defined(ISA_AVX512) && defined(MINIDL_HAS_AVX)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define MINIDL_SIMD_AVX512
#define VARIANT(name) name##_avx512
#elif defined(ISA_AVX2) && defined(MINIDL_HAS_AVX)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define MINIDL_SIMD_AVX2
#define VARIANT(name) name##_avx2
#elif defined(ISA_NEON) && defined(MINIDL_HAS_NEON)
#define MINIDL_SIMD_NEON
#define VARIANT(name) name##_neon
#elif defined(ISA_BASELINE)
#if defined(__SSE2__) && defined(__GNUC__)
#define MINIDL_SIMD_SSE2
#endif
#define VARIANT(name) name##_baseline
#endif

#ifdef VARIANT
#include "vector/formulas.h"

#if SINGLE
typedef float real;
#define REAL(name) name##_f32
#else
typedef double real;
#define REAL(name) name##_f64
#endif
#define VARIANT_OF(name) VARIANT(name) /* which lets REAL(name) be expanded first */
#define TABLE(name) VARIANT_OF(REAL(name))

/* Written in the vectors of vector/simd.h. */
#include "vector/loops.inc.h"
#include "reduce/sums.inc.h"
#include "elementwise/activations.inc.h"
#include "elementwise/prelu.inc.h"
#include "elementwise/scale.inc.h"
#include "elementwise/dropout.inc.h"
#include "loss/softmax.inc.h"
#include "loss/losses.inc.h"
#include "update/updates.inc.h"
#include "norm/norm.inc.h"
#include "image/pool.inc.h"
#include "image/resample.inc.h"
#include "embedding/embedding.inc.h"
#include "embedding/rotary.inc.h"
#include "product/narrow.inc.h"
#include "recurrent/gates.inc.h"
#include "attention/attention_rows.inc.h"
#include "vector/loops_end.inc.h"

/* Written in the vectors of product/gemm_vector.inc.h, which are the compiler's. */
#include "product/gemm.inc.h"
#include "conv/conv.inc.h"
#include "recurrent/recurrent.inc.h"
#include "attention/attention.inc.h"

#if defined(__clang__) && defined(MINIDL_HAS_AVX) && !defined(ISA_BASELINE)
#pragma clang attribute pop
#endif
#else
typedef int minidl_nothing_for_this_machine; /* a file must declare something */
#endif
