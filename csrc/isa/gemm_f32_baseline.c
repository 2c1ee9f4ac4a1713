/* The single-precision matrix product and convolutions for any processor: vectors of 16 bytes, or none for compilers that have none. */
#include "conv/conv_variant.h"
#include "product/gemm_variant.h"

typedef float real;
#define SINGLE 1
#define PRODUCT minidl_product_f32
#define EPILOGUE minidl_sgemm_epilogue
#define VARIANT_TYPE minidl_gemm_f32
#define VARIANT minidl_gemm_f32_baseline
#define PICTURES minidl_pictures_f32
#define CONV_TYPE minidl_conv_f32
#define CONV_VARIANT minidl_conv_f32_baseline
#if defined(__GNUC__)
#define VECTOR_BYTES 16
#define SPLAT(x) ((x) - (vector){0}) /* compilers know that this is x in every lane, and no subtraction */
#else
#define SCALAR 1
#define SPLAT(x) (x)
#endif
#define MR 4
#define NV 3
#define FMADD(a, b, c) ((a) * (b) + (c))
#include "product/gemm_core.inc.h"
#include "conv/conv_core.inc.h"
