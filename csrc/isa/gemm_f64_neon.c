/* The double-precision matrix product and convolutions for aarch64: 32 registers of 16 bytes, 16 of them sums, 8 for A. */
#include "conv/conv_variant.h"
#include "product/gemm_variant.h"

#ifdef MINIDL_GEMM_NEON
#include <arm_neon.h>
typedef double real;
#define SINGLE 0
#define PRODUCT minidl_product_f64
#define EPILOGUE minidl_dgemm_epilogue
#define VARIANT_TYPE minidl_gemm_f64
#define VARIANT minidl_gemm_f64_neon
#define PICTURES minidl_pictures_f64
#define CONV_TYPE minidl_conv_f64
#define CONV_VARIANT minidl_conv_f64_neon
#define VECTOR_BYTES 16
#define MR 8
#define NV 2
#define SPLAT(x) ((vector)vdupq_n_f64(x))
#define FMADD(a, b, c) ((vector)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#include "product/gemm_core.inc.h"
#include "conv/conv_core.inc.h"
#else
typedef int minidl_no_gemm_f64_neon; /* a file must declare something */
#endif
