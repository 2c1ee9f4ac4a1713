/* The single-precision matrix product and convolutions for aarch64: 32 registers of 16 bytes, 16 of them sums, 8 for A. */
#include "conv/conv_variant.h"
#include "product/gemm_variant.h"

#ifdef MINIDL_GEMM_NEON
#include <arm_neon.h>
typedef float real;
#define SINGLE 1
#define PRODUCT minidl_product_f32
#define EPILOGUE minidl_sgemm_epilogue
#define VARIANT_TYPE minidl_gemm_f32
#define VARIANT minidl_gemm_f32_neon
#define PICTURES minidl_pictures_f32
#define CONV_TYPE minidl_conv_f32
#define CONV_VARIANT minidl_conv_f32_neon
#define VECTOR_BYTES 16
#define MR 8
#define NV 2
#define SPLAT(x) ((vector)vdupq_n_f32(x))
#define FMADD(a, b, c) ((vector)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#include "product/gemm_core.inc.h"
#include "conv/conv_core.inc.h"
#else
typedef int minidl_no_gemm_f32_neon; /* a file must declare something */
#endif
