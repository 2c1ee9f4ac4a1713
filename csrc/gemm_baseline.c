/* The matrix product for any processor that the compiler targets by default: vectors of 16 bytes (SSE2, NEON). */
#define VARIANT minidl_gemm_baseline
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#include <arm_neon.h>
#define MR 8 /* 32 registers: 24 sums, 3 of B, the rest for A */
#define NV 3
#define FMADD_F32(a, b, c) ((vector_f32)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define FMADD_F64(a, b, c) ((vector_f64)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#else
#define MR 4 /* 16 registers: 12 sums, 3 of B, 1 for A */
#define NV 3
#define FMADD_F32(a, b, c) ((a) * (b) + (c))
#define FMADD_F64(a, b, c) ((a) * (b) + (c))
#endif
#include "gemm_variant.inc.h"
